"""Test sounds with which the tuning of units is measured: tones, modulated sounds, ripples, random ripple noise.

    silence | tones: frequency x level | carriers, unmodulated | carriers x rate x phase | ripples: density x rate x
    phase | noise whose level in every band and at every moment is random and known

All as long as a network hears and at its rate, made when they are asked for: a bank of ten-second sounds is not held in
memory. Modulations go around a whole number of times.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import jax
import numpy as np

from nd_jax.domain import Domain, LogMel, MelIF, Waveform
from nd_jax.network import Network

LEVEL_DB = -20.0
LEVELS_DB = (-60.0, -50.0, -40.0, -30.0, -20.0, -10.0)
RATES = tuple(2.0 ** (half / 2) for half in range(2, 13))
RIPPLE_RATES = (2.0, 4.0, 8.0, 16.0, 32.0)
DENSITIES = (0.0, 0.25, 0.5, 1.0, 2.0)
PARTS = ("silence", "tones", "flat", "am", "ripples", "noise")

# Of ripples, as in Chi et al. 1999; of the noise, the standard deviation of its level in dB and how far it goes.
_RIPPLE_DEPTH = 0.9
_NOISE_DB, _NOISE_MOST_DB = 10.0, 25.0
_PER_OCTAVE, _BANDS_PER_OCTAVE = 24, 3
_EDGE = 0.005
# A unit's window in the noise: at most so many seconds or half a sound, in so many steps.
_WINDOW, _STEPS = 0.25, 12


@dataclasses.dataclass(frozen=True, eq=False)
class SoundBank:
    """Sounds by number; what each is follows from the fields.

    Attributes:
      sample_rate: in Hz; samples: length of every sound.
      frequencies: (f,) of the tones in Hz; levels: (l,) dBFS, those of sines with the amplitude 10^(level / 20).
      carriers: (c,) what is modulated: tones in Hz, and noise, which is 0.
      rates: (r,) of the modulation in Hz.
      densities: (d,) of the ripples, in cycles per octave; ripple_rates: (w,) in Hz, above 0 those that move down
        (Chi et al. 1999).
      phases: at how many phases, spread over a cycle, each modulation and ripple begins.
      bands: (b,) of the random noise, in Hz; hop: samples between its steps.
      envelopes: (noises, steps, b) its levels in dB against its mean.
      noise: (samples,) the noise that is modulated.
      starts: (k,) phases of the partials of ripples and random noise.
    """

    sample_rate: int
    samples: int
    frequencies: np.ndarray
    levels: np.ndarray
    carriers: np.ndarray
    rates: np.ndarray
    densities: np.ndarray
    ripple_rates: np.ndarray
    phases: int
    bands: np.ndarray
    hop: int
    envelopes: np.ndarray
    noise: np.ndarray
    starts: np.ndarray

    @property
    def seconds(self) -> float:
        """Length of every sound."""
        return self.samples / self.sample_rate

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """{part: how its sounds are numbered, the last axis fastest}, in the order of the bank."""
        return {
            "silence": (1,),
            "tones": (len(self.levels), len(self.frequencies)),
            "flat": (len(self.carriers),),
            "am": (len(self.carriers), len(self.rates), self.phases),
            "ripples": (len(self.densities), len(self.ripple_rates), self.phases),
            "noise": (len(self.envelopes),),
        }

    def part(self, name: str) -> slice:
        """The numbers of a part's sounds."""
        start = 0
        for part, shape in self.shapes.items():
            stop = start + math.prod(shape)
            if part == name:
                return slice(start, stop)
            start = stop
        raise ValueError(f"a bank has {', '.join(PARTS)}, got {name!r}")

    def __len__(self) -> int:
        return self.part("noise").stop

    @functools.cached_property
    def modulations(self) -> np.ndarray:
        """(sounds,) the rate in Hz at which each sound changes; 0 of those that do not, and of the random noise."""
        found = np.zeros(len(self))
        found[self.part("am")] = np.broadcast_to(self.rates[:, None], self.shapes["am"]).ravel()
        found[self.part("ripples")] = np.broadcast_to(
            np.abs(self.ripple_rates)[:, None], self.shapes["ripples"]
        ).ravel()
        return found

    def waves(self, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
        """Makes sounds.

        Args:
          numbers: which, 0 ... len(bank) - 1.

        Returns:
          (sounds, samples) float32.

        Raises:
          IndexError: a number that the bank does not have.
        """
        return np.stack([self._wave(int(number)) for number in numbers]).astype(np.float32)

    def _wave(self, number: int) -> np.ndarray:
        if not 0 <= number < len(self):
            raise IndexError(f"the bank has {len(self)} sounds, got number {number}")
        name = next(part for part in PARTS if number < self.part(part).stop)
        index = np.unravel_index(number - self.part(name).start, self.shapes[name])
        if name == "silence":
            return np.zeros(self.samples)
        if name == "tones":
            return _edged(self._tone(float(self.frequencies[index[1]])), self.sample_rate) * 10 ** (
                self.levels[index[0]] / 20.0
            )
        if name == "noise":
            return self._random(int(index[0]))
        if name == "ripples":
            turn = 2 * np.pi * (self.ripple_rates[index[1]] * self._time + index[2] / self.phases)
            flat, sines, cosines = self._rippled
            wave = flat + _RIPPLE_DEPTH * (np.sin(turn) * cosines[index[0]] + np.cos(turn) * sines[index[0]])
            return self._levelled(wave)
        wave = self._tone(float(self.carriers[index[0]])) if self.carriers[index[0]] else self.noise
        if name == "am":
            turn = 2 * np.pi * (self.rates[index[1]] * self._time + index[2] / self.phases)
            wave = (1.0 + np.sin(turn)) * wave
        return self._levelled(_edged(wave, self.sample_rate))

    @functools.cached_property
    def _time(self) -> np.ndarray:
        return np.arange(self.samples) / self.sample_rate

    def _tone(self, frequency: float) -> np.ndarray:
        return np.sin(2 * np.pi * frequency * self._time)

    @functools.cached_property
    def _partials(self) -> tuple[np.ndarray, np.ndarray]:
        """(k,) octaves above the lowest partial, and (k, samples + a step) sines, even in octaves."""
        octaves = np.arange(len(self.starts)) / _PER_OCTAVE
        time = np.arange(self.samples + self.hop) / self.sample_rate
        turns = self.bands[0] * 2.0 ** octaves[:, None] * time + self.starts[:, None]
        return octaves, np.sin(2 * np.pi * (turns % 1.0)).astype(np.float32)

    @functools.cached_property
    def _rippled(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What all ripples are sums of: the flat sound, and (d, samples) with a sine and a cosine over octaves."""
        octaves, sines = self._partials
        turn = 2 * np.pi * self.densities[:, None] * octaves
        sines = sines[:, : self.samples]
        return sines.sum(axis=0), np.sin(turn) @ sines, np.cos(turn) @ sines

    def _gains(self, number: int) -> np.ndarray:
        """(steps, k) amplitudes of the partials of a noise."""
        at = np.log2(self.bands / self.bands[0])
        nodes = np.stack([np.interp(self._partials[0], at, row) for row in self.envelopes[number]])
        return (10.0 ** (nodes / 20.0)).astype(np.float32)

    @functools.cached_property
    def _strength(self) -> float:
        """The amplitude of all noises: what the level of a band is may not hang on the others."""
        power = 0.0
        some = range(min(len(self.envelopes), 8))
        for gains in map(self._gains, some):
            here, there = gains[:-1], gains[1:]
            power += float(np.mean(here**2 + here * there + there**2)) / 3 / len(some)
        return float(10 ** (LEVEL_DB / 20.0) / math.sqrt(power * len(self.starts)))

    def _random(self, number: int) -> np.ndarray:
        sines, gains = self._partials[1], self._gains(number)
        steps = len(gains) - 1
        cut = sines[:, : steps * self.hop].reshape(len(sines), steps, self.hop).transpose(1, 0, 2)
        here, there = (np.einsum("sk,skh->sh", some, cut, optimize=True) for some in (gains[:-1], gains[1:]))
        share = np.arange(self.hop) / self.hop
        return self._strength * (here * (1.0 - share) + there * share).ravel()[: self.samples]

    def _levelled(self, wave: np.ndarray) -> np.ndarray:
        """As strong as a sine at LEVEL_DB."""
        return wave * (10 ** (LEVEL_DB / 20.0) / math.sqrt(2.0) / max(float(np.sqrt(np.mean(wave**2))), 1e-12))


def sound_bank(
    network: Network | Domain,
    *,
    key: jax.Array,
    tones_per_octave: int = 6,
    levels: Sequence[float] = LEVELS_DB,
    rates: Sequence[float] = RATES,
    ripple_rates: Sequence[float] = RIPPLE_RATES,
    densities: Sequence[float] = DENSITIES,
    carriers: int = 4,
    phases: int = 3,
    noises: int = 192,
) -> SoundBank:
    """The test sounds for a network; the same key and arguments give the same sounds.

    Ripples are those of Chi, Gao, Guyton, Ru and Shamma 1999, "Spectro-temporal modulation transfer functions and
    speech intelligibility" (J. Acoust. Soc. Am. 106): partials 1/24 octave apart whose amplitudes are
    1 + 0.9 sin(2 pi (rate t + density x)), x in octaves.

    Args:
      network: one that takes sound, or its input domain.
      key: a JAX key, for noises and phases.
      tones_per_octave: how near the frequencies of tones stand.
      levels: of tones, in dBFS.
      rates: of amplitude modulation, in Hz; each is moved to a whole number of cycles a sound, and those that leave
        none are left out.
      ripple_rates: of ripples, in Hz, likewise; each goes up and down.
      densities: of ripples, in cycles per octave.
      carriers: how many tones are modulated, beside noise.
      phases: at how many phases modulations begin; at least 3.
      noises: how many random noises; at least 8, of which a quarter is for testing.

    Raises:
      ValueError: a network that takes no sound, or an argument out of range.
    """
    domain = network.input if isinstance(network, Network) else network
    low, high = reach(domain)
    assert isinstance(domain, (LogMel, MelIF, Waveform))
    if tones_per_octave < 1 or carriers < 0 or phases < 3 or noises < 8:
        raise ValueError(
            "a bank needs tones_per_octave >= 1, carriers >= 0, phases >= 3 and noises >= 8, "
            f"got {tones_per_octave}, {carriers}, {phases} and {noises}"
        )
    if not len(levels) or list(levels) != sorted(set(levels)):
        raise ValueError(f"levels are in dBFS, each above the one before, got {tuple(levels)}")
    seconds = domain.samples / domain.sample_rate
    cycles, moving = (_whole(some, seconds, name) for some, name in ((rates, "rates"), (ripple_rates, "ripple_rates")))
    octaves = math.log2(high / low)
    hop = max(1, round(min(_WINDOW, seconds / 2) * domain.sample_rate / _STEPS))
    bands = np.geomspace(low, high, max(4, round(_BANDS_PER_OCTAVE * octaves) + 1))
    drawn = np.random.default_rng(np.asarray(jax.random.key_data(key), np.uint32))
    steps = -(-domain.samples // hop) + 1
    levels_of_noise = np.clip(
        _NOISE_DB * drawn.normal(size=(noises, steps, len(bands))), -_NOISE_MOST_DB, _NOISE_MOST_DB
    )
    tones = low * 2.0 ** (np.arange(math.floor(octaves * tones_per_octave + 1e-9) + 1) / tones_per_octave)
    return SoundBank(
        sample_rate=domain.sample_rate,
        samples=domain.samples,
        frequencies=tones,
        levels=np.asarray(levels, np.float64),
        carriers=np.concatenate([[0.0], low * 2.0 ** (octaves * (np.arange(carriers) + 0.5) / max(carriers, 1))]),
        rates=cycles,
        densities=np.asarray(densities, np.float64),
        ripple_rates=np.concatenate([-moving[::-1], moving]),
        phases=phases,
        bands=bands,
        hop=hop,
        envelopes=levels_of_noise.astype(np.float32),
        noise=_noise(drawn, domain.samples, domain.sample_rate, low, high),
        starts=drawn.uniform(size=math.floor(octaves * _PER_OCTAVE) + 1),
    )


def reach(domain: Domain) -> tuple[float, float]:
    """The lowest and the highest tone, in Hz, that a network's input tells apart.

    Raises:
      ValueError: an input that is no sound.
    """
    if not isinstance(domain, (LogMel, MelIF, Waveform)):
        raise ValueError(f"tones are for networks that take sound; this one takes a {domain.kind!r}")
    if isinstance(domain, LogMel):
        centres = np.asarray(domain.transform.centre_frequencies)
        return max(float(centres[0]), 30.0), float(centres[-1])
    return max(30.0, 4 * domain.sample_rate / domain.samples), 0.45 * domain.sample_rate


def _whole(rates: Sequence[float], seconds: float, name: str) -> np.ndarray:
    if not len(rates) or min(rates) <= 0:
        raise ValueError(f"{name} are in Hz and above 0, got {tuple(rates)}")
    cycles = sorted({round(rate * seconds) for rate in rates} - {0})
    if not cycles:
        raise ValueError(f"no rate of {tuple(rates)} Hz goes around once in a sound of {seconds:g} s")
    return np.asarray(cycles, np.float64) / seconds


def _noise(drawn: np.random.Generator, samples: int, rate: int, low: float, high: float) -> np.ndarray:
    """Noise with the same power in every octave between two frequencies."""
    frequencies = np.fft.rfftfreq(samples, 1.0 / rate)
    inside = (frequencies >= low) & (frequencies <= high)
    size = np.where(inside, 1.0 / np.sqrt(np.maximum(frequencies, low)), 0.0)
    return np.fft.irfft(size * np.exp(2j * np.pi * drawn.uniform(size=len(size))), samples)


def _edged(wave: np.ndarray, rate: int) -> np.ndarray:
    """With edges of 5 ms, so that nothing clicks."""
    length = min(round(_EDGE * rate), len(wave) // 4)
    gate = np.ones(len(wave))
    gate[:length] = np.sin(np.pi / 2 * np.arange(length) / max(length, 1)) ** 2
    return wave * gate * gate[::-1]
