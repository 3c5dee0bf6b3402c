"""`SoundClass`: one class of the procedural sound bank, and the ranges its parameters are drawn from."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.data.synthetic.voice import Events, Voice, events, render

MIN_SAMPLE_RATE = 8000
MIN_SECONDS = 0.5
MAX_PARAMETERS = 10
HIGHEST_HZ = 0.42
"""No parameter in Hz is drawn above this fraction of the sample rate."""

Parameters = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Range:
    """Where a parameter is drawn from: uniformly between `low` and `high`, or uniformly in octaves (`log`).

    A `carrier` in Hz is brought below the Nyquist frequency; a `fraction` is of the clip's length and becomes s.
    """

    low: float
    high: float
    unit: str
    log: bool = False
    carrier: bool = False
    fraction: bool = False

    def at(self, sample_rate: int, seconds: float) -> Range:
        """The range for clips of that sample rate in Hz and length in s."""
        if self.carrier:
            top = HIGHEST_HZ * sample_rate
            return dataclasses.replace(self, low=min(self.low, 0.8 * top), high=min(self.high, top))
        if self.fraction:
            return dataclasses.replace(self, low=self.low * seconds, high=self.high * seconds)
        return self


def hertz(low: float, high: float) -> Range:
    """A carrier frequency, drawn uniformly in octaves."""
    return Range(low, high, "Hz", log=True, carrier=True)


def rate(low: float, high: float) -> Range:
    """Events or modulations a second, drawn uniformly in octaves."""
    return Range(low, high, "Hz", log=True)


def span(low: float, high: float) -> Range:
    """A duration as a fraction of the clip; becomes s."""
    return Range(low, high, "s", fraction=True)


LEVEL = Range(-24.0, -1.0, "dBFS")


@dataclasses.dataclass(frozen=True, eq=False)
class SoundClass:
    """One class of sounds.

    Attributes:
      name: short and unique.
      description: plain words, usable as the text of a concept.
      parameters: what is drawn, by name. Every class has level_db (peak), and, unless it is silent, duration and onset
        in s besides; seed is drawn for all.
      build: (parameters, sample rate) -> the voices.
    """

    name: str
    description: str
    parameters: Mapping[str, Range]
    build: Callable[[Parameters, int], tuple[Voice, ...]]

    def ranges(self, sample_rate: int = 16000, seconds: float = 2.0) -> dict[str, Range]:
        """The ranges of all parameters, with units; nothing in them lies above the Nyquist frequency."""
        found = {name: given.at(sample_rate, seconds) for name, given in self.parameters.items()}
        if "duration" in found:
            found["onset"] = Range(0.0, seconds - found["duration"].low, "s")
        return found

    def sample(self, key: jax.Array, sample_rate: int = 16000, seconds: float = 2.0) -> dict[str, Any]:
        """Draws the parameters of one sound: scalars by name. The onset leaves room for the duration."""
        bits = random_bits(key, self.codes)
        return self.place(bits if isinstance(bits, jax.core.Tracer) else np.asarray(bits), sample_rate, seconds)

    @property
    def codes(self) -> np.ndarray:
        """One number per drawn parameter, made from its name: (MAX_PARAMETERS,) uint32, the rest zero."""
        names = (*self.parameters, "onset", "seed")
        codes = [zlib.crc32(name.encode()) for name in names]
        return np.array(codes + [0] * (MAX_PARAMETERS - len(codes)), np.uint32)

    def place(self, bits: Any, sample_rate: int = 16000, seconds: float = 2.0) -> dict[str, Any]:
        """Random bits, (MAX_PARAMETERS,) uint32 in the order of `codes`, as parameters within their ranges."""
        names = (*self.parameters, "onset", "seed")
        unit = {name: (bits[index] >> 8) * np.float32(2.0**-24) for index, name in enumerate(names)}
        drawn = {}
        for name, given in self.parameters.items():
            given = given.at(sample_rate, seconds)
            if given.log:
                drawn[name] = given.low * (given.high / given.low) ** unit[name]
            else:
                drawn[name] = given.low + (given.high - given.low) * unit[name]
        if "duration" in drawn:
            drawn["onset"] = unit["onset"] * (seconds - drawn["duration"])
        return {**drawn, "seed": bits[len(names) - 1]}

    def voices(self, parameters: Parameters, sample_rate: int = 16000) -> tuple[Voice, ...]:
        """The sources that make up one sound."""
        return self.build(parameters, sample_rate)

    def synthesize(self, parameters: Parameters, sample_rate: int = 16000, seconds: float = 2.0) -> jax.Array:
        """The sound of drawn or chosen parameters: (samples,) float32, peak at most 1; pure and jittable."""
        samples = round(seconds * sample_rate)
        waves = [_render(voice, samples, sample_rate) for voice in self.voices(parameters, sample_rate)]
        return sum(waves[1:], waves[0])

    def events(self, parameters: Parameters, sample_rate: int = 16000) -> Events:
        """The true time spans, bands and pitches of one sound: fields (MAX_EVENTS,), padded with NaN."""
        return events(self.voices(parameters, sample_rate))


def random_bits(key: jax.Array, codes: Any) -> jax.Array:
    """(MAX_PARAMETERS,) uint32, each from the key and its own code: one small program for all classes."""
    return jax.vmap(lambda code: jax.random.bits(jax.random.fold_in(key, code)))(jnp.asarray(codes))


def random_phases(parameters: Parameters, count: int) -> Any:
    """(count,) phases in cycles, -0.5 ... 0.5, that belong to one sound.

    An integer hash of the seed (the finalizer "lowbias32", C. Wellons, Prospecting for Hash Functions, 2018): a phase
    needs no better randomness, and threefry compiles slowly.
    """
    state = parameters["seed"] + np.arange(1, count + 1, dtype=np.uint32) * np.uint32(0x9E3779B9)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        state = (state ^ (state >> shift)) * np.uint32(factor)
    return ((state ^ (state >> 16)) >> 8) * np.float32(2.0**-24) - 0.5


_render = jax.jit(render, static_argnums=(1, 2))
