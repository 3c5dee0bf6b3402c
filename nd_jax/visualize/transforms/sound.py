"""Transforms along time and level, valid for sound: what a room, a recording or another take could have done.

Strengths are physical: seconds, dB, Hz, mel bands.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.domain import Domain
from nd_jax.visualize.transforms import core

FREQUENCY_BREAKS = "breaks the ratios between partials"


@dataclasses.dataclass(frozen=True)
class TimeShift:
    """See `time_shift`."""

    seconds: float
    fill: str = "silence"

    def check(self, domain: Domain) -> None:
        self._most(domain)

    def __call__(self, key: jax.Array, x: jax.Array, domain: Domain) -> jax.Array:
        axis, most = self._most(domain)
        if most == 0:
            return x
        steps = jax.random.randint(key, (), -most, most + 1)
        moved = core.shift(x, steps, most, axis, domain.silence(), self.fill)
        if not (core.is_waveform(domain) and self.fill == "silence"):
            return moved
        size = x.shape[axis]
        inwards = jnp.where(steps > 0, np.arange(size) + 1 - steps, size + steps - np.arange(size))
        fade = 1.0 + jnp.minimum(jnp.abs(steps), _fade_steps(domain))
        return moved * core.along(axis, jnp.clip(inwards / fade, 0.0, 1.0), x.ndim)

    def _most(self, domain: Domain) -> tuple[int, int]:
        axis, step = core.time_axis("time_shift", domain)
        most = _steps("time_shift", self.seconds, step)
        if most >= domain.shape[axis]:
            raise ValueError(
                f"time_shift of {self.seconds} s is as long as the example ({domain.shape[axis] * step:.3g} s)"
            )
        return axis, most


def time_shift(seconds: float, *, fill: str = "silence") -> TimeShift:
    """Moves the sound by a whole number of steps (frames, samples), uniform in -seconds ... seconds.

    Args:
      seconds: the largest shift, either way.
      fill: what comes in from outside: "silence" (the domain's own; a waveform fades over 5 ms where it is cut, so that
        nothing clicks), "edge" (the end is held: for spectrograms) or "wrap" (what went out comes back).

    Raises:
      ValueError: negative seconds or an unknown fill; at `check`, less than one step, or as long as the example.
    """
    return TimeShift(core.not_negative("seconds", seconds), core.chosen_fill(fill))


@dataclasses.dataclass(frozen=True)
class Gain:
    """See `gain`."""

    db: float

    def check(self, domain: Domain) -> None:
        _check_levels("gain", domain)

    def __call__(self, key: jax.Array, x: jax.Array, domain: Domain) -> jax.Array:
        self.check(domain)
        change = jax.random.uniform(key, (), minval=-self.db, maxval=self.db)
        if core.is_waveform(domain):
            return core.inside(x * 10.0 ** (change / 20.0), domain)
        return core.inside(x + change * core.units_per_db(domain), domain)


def gain(db: float) -> Gain:
    """Makes the sound louder or softer by a level uniform in -db ... db.

    A factor on a waveform; the same number of dB added to every cell of a level spectrogram. Clipped to the range,
    so that what falls below a spectrogram's floor stays at the floor.
    """
    return Gain(core.not_negative("db", db))


@dataclasses.dataclass(frozen=True)
class TimeStretch:
    """See `time_stretch`."""

    low: float = 0.9
    high: float = 1.1
    fill: str = "silence"

    def check(self, domain: Domain) -> None:
        core.time_axis("time_stretch", domain)
        if core.is_waveform(domain):
            raise ValueError(
                "time_stretch is refused on a waveform, where stretching the samples shifts the pitch as well; "
                "use it on a spectrogram domain"
            )

    def __call__(self, key: jax.Array, x: jax.Array, domain: Domain) -> jax.Array:
        self.check(domain)
        axis, _ = core.time_axis("time_stretch", domain)
        factor = _uniform_factor(key, self.low, self.high)
        matrix = core.stretch_matrix(factor, x.shape[axis], edge=self.fill == "edge")
        return core.interpolate(x, matrix, axis, None if self.fill == "edge" else domain.silence())


def time_stretch(low: float = 0.9, high: float = 1.1, *, fill: str = "silence") -> TimeStretch:
    """Makes the sound longer or shorter around its middle, pitch unchanged, by a factor log-uniform in low ... high.

    Frames are interpolated linearly (in the domain's values, so in dB for a log-mel). Level spectrograms only: on a
    waveform it is refused, since resampling there would move the pitch as well.

    Args:
      low: smallest factor, above 0; below 1 is shorter and faster.
      high: largest factor.
      fill: what a shortened sound is surrounded by: "silence", or "edge" to hold its first and last frame.
    """
    if fill == "wrap":
        raise ValueError("time_stretch has no fill 'wrap'; use 'silence' or 'edge'")
    return TimeStretch(*core.span("time_stretch", low, high), core.chosen_fill(fill))


@dataclasses.dataclass(frozen=True)
class Noise:
    """See `noise`."""

    level_db: float | None = None
    sd: float | None = None

    def check(self, domain: Domain) -> None:
        if self.level_db is not None:
            _check_levels("noise with level_db", domain)
        elif not hasattr(domain, "low"):
            raise ValueError(f"noise needs a domain of one array, not {domain.kind!r}; use on_part")

    def __call__(self, key: jax.Array, x: jax.Array, domain: Domain) -> jax.Array:
        self.check(domain)
        if self.level_db is None:
            return core.inside(x + (self.sd or 0.0) * jax.random.normal(key, x.shape), domain)
        power = 10.0 ** (self.level_db / 10.0)
        if core.is_waveform(domain):
            return core.inside(x + math.sqrt(power / 2.0) * jax.random.normal(key, x.shape), domain)
        # Powers of independent sounds add; the power of a band of Gaussian noise is exponentially distributed.
        levels = domain.to_db(x)  # type: ignore[attr-defined]
        noise_db = 10.0 * jnp.log10(power * jax.random.exponential(key, x.shape) + 1e-20)
        louder = jnp.logaddexp(levels * _NEPERS, noise_db * _NEPERS) / _NEPERS
        return domain.from_db(louder)  # type: ignore[attr-defined]


_NEPERS = math.log(10.0) / 10.0


def noise(level_db: float | None = None, *, sd: float | None = None) -> Noise:
    """Adds fresh noise.

    Args:
      level_db: for sound, the level of the noise. Waveform: white, RMS in dB relative to a full-scale sine.
        Spectrogram of
        levels: mean power in every cell, in the domain's own dB; power adds, so that loud cells hardly change.
      sd: instead, for any domain: standard deviation of normal noise in the domain's own units.

    Raises:
      ValueError: unless exactly one of the two is given.
    """
    if (level_db is None) == (sd is None):
        raise ValueError(f"noise takes either level_db or sd, got level_db={level_db!r} and sd={sd!r}")
    if sd is not None:
        return Noise(None, core.not_negative("sd", sd))
    if level_db is None or not math.isfinite(level_db):
        raise ValueError(f"level_db must be a finite level in dB, got {level_db!r}")
    return Noise(float(level_db))


@dataclasses.dataclass(frozen=True)
class TimeMask:
    """See `time_mask`."""

    seconds: float
    count: int = 1

    def check(self, domain: Domain) -> None:
        self._most(domain)

    def __call__(self, key: jax.Array, x: jax.Array, domain: Domain) -> jax.Array:
        axis, most = self._most(domain)
        size, silence = x.shape[axis], domain.silence()
        for each in jax.random.split(key, self.count):
            first, length = _stretch_of(each, most, size)
            outside = jnp.maximum(first - np.arange(size), np.arange(size) - (first + length - 1))
            fade = 1 + (jnp.minimum(length, _fade_steps(domain)) if core.is_waveform(domain) else 0)
            keep = core.along(axis, jnp.clip(outside / fade, 0.0, 1.0), x.ndim)
            x = x * keep + silence * (1.0 - keep)
        return x

    def _most(self, domain: Domain) -> tuple[int, int]:
        axis, step = core.time_axis("time_mask", domain)
        return axis, min(_steps("time_mask", self.seconds, step), domain.shape[axis])


def time_mask(seconds: float, *, count: int = 1) -> TimeMask:
    """Silences `count` random stretches of time, each of a length uniform in 0 ... seconds.

    Source: SpecAugment (Park et al. 2019), whose spectrogram fill is the mean; here it is silence. A waveform fades
    over at most 5 ms on both sides of each stretch.
    """
    return TimeMask(core.not_negative("seconds", seconds), core.whole("count", count, 1))


@dataclasses.dataclass(frozen=True)
class BandMask:
    """See `band_mask`."""

    bands: int | None = None
    hertz: float | None = None
    count: int = 1

    def check(self, domain: Domain) -> None:
        if core.is_waveform(domain):
            if self.hertz is None:
                raise ValueError("band_mask on a waveform needs hertz=..., since a waveform has no mel bands")
            return
        core.axis_of("band_mask", "frequency", domain)

    def __call__(self, key: jax.Array, x: jax.Array, domain: Domain) -> jax.Array:
        self.check(domain)
        for each in jax.random.split(key, self.count):
            x = self._filtered(each, x, domain) if core.is_waveform(domain) else self._masked(each, x, domain)
        return x

    def _masked(self, key: jax.Array, x: jax.Array, domain: Domain) -> jax.Array:
        axis, centres = core.axis_of("band_mask", "frequency", domain)
        size = x.shape[axis]
        if self.bands is not None:
            first, length = _stretch_of(key, min(self.bands, size), size)
            masked = (np.arange(size) >= first) & (np.arange(size) < first + length)
        else:
            low, high = _band_of(key, self.hertz or 0.0, float(centres[0]), float(centres[-1]))
            masked = (centres >= low) & (centres < high)
        return jnp.where(core.along(axis, masked, x.ndim), domain.silence(), x)

    def _filtered(self, key: jax.Array, x: jax.Array, domain: Domain) -> jax.Array:
        rate = domain.sample_rate  # type: ignore[attr-defined]
        low, high = _band_of(key, self.hertz or 0.0, 0.0, rate / 2)
        frequency = np.fft.rfftfreq(x.shape[0], 1.0 / rate).astype(np.float32)
        keep = (frequency < low) | (frequency >= high)
        # What is taken away is filtered out, so that a band of no width leaves x exactly as it is.
        bins = jnp.where(keep[:, None], 0.0, jnp.fft.rfft(x, axis=0))
        return core.inside(x - jnp.fft.irfft(bins, n=x.shape[0], axis=0), domain)


def band_mask(bands: int | None = None, *, hertz: float | None = None, count: int = 1) -> BandMask:
    """Silences `count` random bands of frequency (SpecAugment, Park et al. 2019).

    Args:
      bands: width uniform in 0 ... bands, in bands of the spectrogram (mel bands).
      hertz: instead, width uniform in 0 ... hertz. On a waveform the band is taken out by its Fourier transform.
      count: how many.

    Raises:
      ValueError: unless exactly one of `bands` and `hertz` is given.
    """
    if (bands is None) == (hertz is None):
        raise ValueError(f"band_mask takes either bands or hertz, got bands={bands!r} and hertz={hertz!r}")
    return BandMask(
        None if bands is None else core.whole("bands", bands),
        None if hertz is None else core.not_negative("hertz", hertz),
        core.whole("count", count, 1),
    )


@dataclasses.dataclass(frozen=True)
class TimeReverse:
    """See `time_reverse`."""

    probability: float = 0.5
    allow_on_sound: bool = False

    def check(self, domain: Domain) -> None:
        core.time_axis("time_reverse", domain)
        core.check_allowed("time_reverse", "turns every attack into a swell", domain, self.allow_on_sound)

    def __call__(self, key: jax.Array, x: jax.Array, domain: Domain) -> jax.Array:
        self.check(domain)
        axis, _ = core.time_axis("time_reverse", domain)
        return jnp.where(jax.random.bernoulli(key, self.probability), jnp.flip(x, axis), x)


def time_reverse(probability: float = 0.5, *, allow_on_sound: bool = False) -> TimeReverse:
    """Plays the sound backwards, with this probability; refused unless `allow_on_sound`."""
    return TimeReverse(_probability(probability), allow_on_sound)


@dataclasses.dataclass(frozen=True)
class FrequencyFlip:
    """See `frequency_flip`."""

    probability: float = 0.5
    allow_on_sound: bool = False

    def check(self, domain: Domain) -> None:
        core.axis_of("frequency_flip", "frequency", domain)
        core.check_allowed("frequency_flip", "swaps low and high pitches", domain, self.allow_on_sound)

    def __call__(self, key: jax.Array, x: jax.Array, domain: Domain) -> jax.Array:
        self.check(domain)
        axis, _ = core.axis_of("frequency_flip", "frequency", domain)
        return jnp.where(jax.random.bernoulli(key, self.probability), jnp.flip(x, axis), x)


def frequency_flip(probability: float = 0.5, *, allow_on_sound: bool = False) -> FrequencyFlip:
    """Turns a spectrogram upside down, with this probability; refused unless `allow_on_sound`."""
    return FrequencyFlip(_probability(probability), allow_on_sound)


@dataclasses.dataclass(frozen=True)
class FrequencyShift:
    """See `frequency_shift`."""

    bands: int
    fill: str = "silence"
    allow_on_sound: bool = False

    def check(self, domain: Domain) -> None:
        axis, _ = core.axis_of("frequency_shift", "frequency", domain)
        core.check_allowed("frequency_shift", FREQUENCY_BREAKS, domain, self.allow_on_sound)
        if self.bands >= domain.shape[axis]:
            raise ValueError(f"frequency_shift by {self.bands} bands leaves nothing of {domain.shape[axis]}")

    def __call__(self, key: jax.Array, x: jax.Array, domain: Domain) -> jax.Array:
        self.check(domain)
        axis, _ = core.axis_of("frequency_shift", "frequency", domain)
        steps = jax.random.randint(key, (), -self.bands, self.bands + 1)
        return core.shift(x, steps, self.bands, axis, domain.silence(), self.fill)


def frequency_shift(bands: int, *, fill: str = "silence", allow_on_sound: bool = False) -> FrequencyShift:
    """Moves a spectrogram up or down by at most so many bands; refused unless `allow_on_sound`."""
    return FrequencyShift(core.whole("bands", bands), core.chosen_fill(fill), allow_on_sound)


# ---- Shared ----------------------------------------------------------------------------------------------------------


def _steps(name: str, seconds: float, step: float) -> int:
    steps = round(seconds / step)
    if seconds > 0 and steps == 0:
        raise ValueError(f"{name} of {seconds} s is less than one step of this domain, which is {step:.3g} s")
    return steps


def _fade_steps(domain: Domain) -> int:
    return max(1, round(core.FADE_SECONDS * domain.sample_rate))  # type: ignore[attr-defined]


def _uniform_factor(key: jax.Array, low: float, high: float) -> jax.Array:
    return jnp.exp(jax.random.uniform(key, (), minval=math.log(low), maxval=math.log(high)))


def _stretch_of(key: jax.Array, most: int, size: int) -> tuple[jax.Array, jax.Array]:
    """First index and length of a random stretch of at most `most` of `size` steps, anywhere inside."""
    for_length, for_first = jax.random.split(key)
    length = jax.random.randint(for_length, (), 0, most + 1)
    return jax.random.randint(for_first, (), 0, size - length + 1), length


def _band_of(key: jax.Array, width: float, low: float, high: float) -> tuple[jax.Array, jax.Array]:
    for_width, for_low = jax.random.split(key)
    chosen = jax.random.uniform(for_width, (), minval=0.0, maxval=min(width, high - low))
    first = low + jax.random.uniform(for_low, ()) * (high - low - chosen)
    return first, first + chosen


def _check_levels(name: str, domain: Domain) -> None:
    if not (core.is_waveform(domain) or core.has_levels(domain)):
        raise ValueError(f"{name} needs a waveform or a spectrogram with levels in dB, not {domain.kind!r}")


def _probability(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"probability must be in 0 ... 1, got {value!r}")
    return float(value)
