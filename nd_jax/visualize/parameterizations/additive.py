"""Sound from a few numbers that mean something: partials of one pitch, their envelope, and filtered noise."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.audio import hz_to_mel, istft, stft
from nd_jax.domain import Domain
from nd_jax.visualize.parameterizations import core

# Levels of envelope and noise lie between these, in dB of full scale, and begin at those.
FLOOR_DB, START_DB, NOISE_START_DB = -80.0, -20.0, -60.0
# Partials fade out between these shares of the Nyquist frequency.
_FADE = (0.9, 1.0)
_NOISE_WINDOW_SECONDS = 0.032


@dataclasses.dataclass(frozen=True)
class Harmonic:
    """See `harmonic`."""

    name: ClassVar[str] = "harmonic"

    partials: int = 24
    noise_bands: int = 12
    f_min: float = 60.0
    f_max: float = 2000.0
    glide: float = 12.0
    seconds: float = 0.05
    sd: float = 0.01
    seed: int = 0

    def init(self, key: jax.Array, domain: Domain) -> dict[str, jax.Array]:
        self._check(domain)
        points = self._points(domain)
        shapes: dict[str, tuple[int, ...]] = {"glide": (points,), "partials": (self.partials,), "envelope": (points,)}
        if self.noise_bands:
            shapes["noise"] = (self.noise_bands, points)
        found = {
            name: self.sd * jax.random.normal(jax.random.fold_in(key, place), shape)
            for place, (name, shape) in enumerate(shapes.items())
        }
        # Pitch has many optima, one an interval: lanes and replicates begin all over the range.
        low, high = 0.1, 0.9
        share = jax.random.uniform(jax.random.fold_in(key, 100), (), minval=low, maxval=high)
        found["f0"] = jnp.log(share / (1.0 - share))
        return found

    def apply(self, parameters: dict[str, jax.Array], domain: Domain) -> jax.Array:
        self._check(domain)
        wave = self.wave(parameters, domain)
        if domain.kind == "waveform":
            return domain.low + (wave[:, None] + 1.0) * ((domain.high - domain.low) / 2.0)
        return domain.from_wave(wave)  # type: ignore[attr-defined]

    def wave(self, parameters: dict[str, jax.Array], domain: Domain) -> jax.Array:
        """The sound itself, (samples,) in -1 ... 1, at the domain's sample rate."""
        samples, rate = _samples(domain), domain.sample_rate  # type: ignore[attr-defined]
        pitch = self.pitch(parameters, domain)
        cycles = jnp.cumsum(pitch / rate)
        numbers = np.arange(1, self.partials + 1, dtype=np.float32)[:, None]
        nyquist = rate / 2
        audible = jnp.clip((_FADE[1] * nyquist - numbers * pitch[None]) / ((_FADE[1] - _FADE[0]) * nyquist), 0.0, 1.0)
        tones = jnp.sin(2.0 * np.pi * numbers * cycles[None]) * audible
        weights = self.weights(parameters)
        harmonic = jnp.sum(weights[:, None] * tones, axis=0) * _amplitude(
            _interpolated(_level(parameters["envelope"], START_DB), samples)
        )
        total = harmonic + self._noise(parameters["noise"], samples, rate) if self.noise_bands else harmonic
        return jnp.tanh(total)

    def pitch(self, parameters: dict[str, jax.Array], domain: Domain) -> jax.Array:
        """The track of the fundamental in Hz, (samples,)."""
        octaves = math.log2(self._top(domain) / self.f_min)
        base = octaves * jax.nn.sigmoid(parameters["f0"])
        track = base + self.glide / 12.0 * jnp.tanh(_interpolated(parameters["glide"], _samples(domain)))
        return self.f_min * 2.0 ** jnp.clip(track, 0.0, octaves)

    def weights(self, parameters: dict[str, jax.Array]) -> jax.Array:
        """The amplitudes of the partials, (partials,), adding up to 1; at the start they fall as 1 / number."""
        fall = -np.log(np.arange(1, self.partials + 1, dtype=np.float32))
        return jax.nn.softmax(parameters["partials"] + fall)

    def _noise(self, parameters: jax.Array, samples: int, rate: int) -> jax.Array:
        """Noise that always is the same, through a filter that changes with time; (samples,)."""
        n_fft = max(32, 2 ** round(math.log2(_NOISE_WINDOW_SECONDS * rate)))
        hop = n_fft // 4
        white = jax.random.normal(jax.random.key(self.seed), (samples,)) / np.sqrt(3.0).astype(np.float32)
        spectrum = stft(white, n_fft=n_fft, hop_length=hop)
        levels = _level(parameters, NOISE_START_DB)
        over_time = jax.vmap(lambda row: _interpolated(row, spectrum.shape[1]))(levels)
        mels = hz_to_mel(np.linspace(0.0, rate / 2, spectrum.shape[0]))
        place = mels / mels[-1] * (self.noise_bands - 1)
        across = np.maximum(0.0, 1.0 - np.abs(place[:, None] - np.arange(self.noise_bands)[None]))
        gain = _amplitude(jnp.matmul(across.astype(np.float32), over_time, precision="highest"))
        return istft(spectrum * gain, n_fft=n_fft, hop_length=hop, length=samples)

    def _points(self, domain: Domain) -> int:
        seconds = _samples(domain) / domain.sample_rate  # type: ignore[attr-defined]
        return max(2, 1 + round(seconds / self.seconds))

    def _top(self, domain: Domain) -> float:
        return min(self.f_max, 0.9 * domain.sample_rate / 2)  # type: ignore[attr-defined]

    def _check(self, domain: Domain) -> None:
        core.array_shape(self.name, domain)
        if domain.kind != "waveform" and not (hasattr(domain, "from_wave") and hasattr(domain, "samples")):
            raise ValueError(
                f"harmonic is for waveforms and spectrograms that are made from one, not for {domain.kind!r}"
            )
        if self._top(domain) <= self.f_min:
            raise ValueError(
                f"harmonic: f_min {self.f_min:g} Hz leaves no room below {self._top(domain):g} Hz, the highest pitch "
                f"at {domain.sample_rate} Hz"  # type: ignore[attr-defined]
            )


def harmonic(
    partials: int = 24,
    noise_bands: int = 12,
    *,
    f_min: float = 60.0,
    f_max: float = 2000.0,
    glide: float = 12.0,
    seconds: float = 0.05,
    sd: float = 0.01,
    seed: int = 0,
) -> Harmonic:
    """One sounding thing: partials of a common pitch with an envelope, and filtered noise; all numbers are audible.

        wave = tanh(A(t) sum_k c_k sin(2 pi k integral f0) + noise(t) * filter(t)),  sum c_k = 1

    Source: Engel et al. 2020, "DDSP: Differentiable Digital Signal Processing", section 3. On a `Waveform` domain the
    sound is the input; on a log-mel domain it is analysed by the domain's own front end, so that what is found is a
    sound that exists and needs no phase recovery. Free numbers, all within bounds: `f0` () the pitch, f_min ... f_max
    on a logarithmic axis, drawn over the range at the start; `glide` (points,) slow deviation from it; `partials`
    (partials,) their amplitudes; `envelope` (points,) level, -80 ... 0 dB, from -20 dB; `noise` (noise_bands, points)
    level by mel-spaced frequency and time, -80 ... 0 dB, from -60 dB. A point is every `seconds`, straight lines in
    between.

    A score has one optimum for nearly every pitch: give `replicates` and take the best. There is no way back from an
    input, so that a run cannot begin at a given one.

    Args:
      partials: how many; those above Nyquist are silent.
      noise_bands: of the noise's filter, at least 2, or 0 for no noise.
      f_min: lowest pitch, in Hz.
      f_max: highest pitch, in Hz; at most 90 % of Nyquist counts.
      glide: largest deviation from the pitch, in semitones either way; 0 for a steady pitch.
      seconds: between two points.
      sd: of the free numbers at the start.
      seed: of the noise.

    Raises:
      ValueError: a bad argument, in one sentence.
    """
    if isinstance(partials, bool) or not isinstance(partials, (int, np.integer)) or partials < 1:
        raise ValueError(f"partials must be a whole number of at least 1, got {partials!r}")
    whole = isinstance(noise_bands, (int, np.integer)) and not isinstance(noise_bands, bool)
    if not whole or noise_bands < 0 or noise_bands == 1:
        raise ValueError(f"noise_bands must be 0 or a whole number of at least 2, got {noise_bands!r}")
    if not 0 < f_min < f_max:
        raise ValueError(f"harmonic needs 0 < f_min < f_max, got {f_min!r} and {f_max!r}")
    if not seconds > 0:
        raise ValueError(f"seconds must be above 0, got {seconds!r}")
    return Harmonic(
        int(partials),
        int(noise_bands),
        float(f_min),
        float(f_max),
        core.not_negative("glide", glide),
        float(seconds),
        core.not_negative("sd", sd),
        int(seed),
    )


def _samples(domain: Domain) -> int:
    return int(domain.samples)  # type: ignore[attr-defined]


def _level(values: jax.Array, start_db: float) -> jax.Array:
    """Free values to dB between the floor and full scale; 0 becomes `start_db`."""
    share = 1.0 - start_db / FLOOR_DB
    return FLOOR_DB * (1.0 - jax.nn.sigmoid(values + math.log(share / (1.0 - share))))


def _amplitude(level_db: jax.Array) -> jax.Array:
    return jnp.exp(level_db * (math.log(10.0) / 20.0))


def _interpolated(points: jax.Array, steps: int) -> jax.Array:
    """Straight lines through points (n,) that are spread over `steps` from the first to the last: (steps,)."""
    places = np.linspace(0.0, points.shape[0] - 1, steps)
    left = np.clip(np.floor(places), 0, points.shape[0] - 2).astype(np.int32)
    share = (places - left).astype(np.float32)
    return points[left] * (1.0 - share) + points[left + 1] * share
