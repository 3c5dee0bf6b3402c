"""One synthetic sound source: `Voice`, what it is made of; `render`, how it sounds.

A voice is a set of numbers, so any number of different sounds run through one compiled program. It repeats one event
`count` times; within an event a base frequency moves from `start` to `end` and wobbles, and

  tonal voice   partial k has the frequency multiple[k] * base + shift[k]; partials near the Nyquist frequency are muted
  noise voice   Gaussian noise, cut to a band in the Fourier domain

under a raised-cosine window that is exactly zero outside the event. Phases are 32-bit fixed-point fractions of a cycle,
which wrap exactly: no phase noise however long the sound (float32 phases lose 50 dB within seconds).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import pytree

MAX_EVENTS = 32
"""Events a clip can have; longer trains end there."""

FEW, MANY = 4, 32
"""Numbers of partials that tonal voices have; each is one compiled program."""

HIGHEST = 0.48
"""Partials end here, as a fraction of the sample rate; they fade out from `FADING` on."""
FADING = 0.45


@pytree.register
@dataclasses.dataclass(frozen=True)
class Voice:
    """The numbers of one source; scalars, except the partials, which are (FEW,), (MANY,) or, for noise, (0,).

    Attributes:
      onset, width, period, count: event e fills onset + e * period ... + width, in s, for e < count.
      attack, release: s of the raised-cosine edges (at most half of the width each).
      start, end: base frequency in Hz at the beginning and the end of each event.
      curve: 0 moves linearly in Hz, 1 in octaves.
      moving: the fractions of the event between which the base moves, (2,).
      deviation, wobble: the base swings by so many Hz so many times a second.
      am_depth, am_rate: amplitude modulation, depth 0 ... 1, rate in Hz.
      multiple, shift, amplitude, phase, decay: of the partials; int32, Hz, linear, cycles, 1/s.
      noise_low, noise_high, noise_slope: band in Hz and dB per octave of a noise voice; noise_decay in 1/s.
      seed: uint32, of the noise.
      level: peak, linear.
      low, high, pitch: the labels of its events, in Hz; the pitch is NaN where there is none.
    """

    onset: jax.Array
    width: jax.Array
    period: jax.Array
    count: jax.Array
    attack: jax.Array
    release: jax.Array
    start: jax.Array
    end: jax.Array
    curve: jax.Array
    moving: jax.Array
    deviation: jax.Array
    wobble: jax.Array
    am_depth: jax.Array
    am_rate: jax.Array
    multiple: jax.Array
    shift: jax.Array
    amplitude: jax.Array
    phase: jax.Array
    decay: jax.Array
    noise_low: jax.Array
    noise_high: jax.Array
    noise_slope: jax.Array
    noise_decay: jax.Array
    seed: jax.Array
    level: jax.Array
    low: jax.Array
    high: jax.Array
    pitch: jax.Array


@pytree.register
@dataclasses.dataclass(frozen=True)
class Events:
    """What happens in a clip, arrays (..., MAX_EVENTS) padded with NaN.

    Attributes:
      onset, offset: true time span in s.
      low, high: the band in Hz that holds at least 95 % of the event's energy.
      pitch: fundamental in Hz, NaN where there is none.
    """

    onset: jax.Array
    offset: jax.Array
    low: jax.Array
    high: jax.Array
    pitch: jax.Array

    @property
    def count(self) -> np.ndarray:
        """Number of events, (...,) int."""
        return np.sum(~np.isnan(np.asarray(self.onset)), axis=-1)

    @property
    def midi(self) -> np.ndarray:
        """Pitch as a MIDI number (69 is 440 Hz, fractions are kept), (..., MAX_EVENTS)."""
        return 69 + 12 * np.log2(np.asarray(self.pitch) / 440)


def namespace(*values: Any) -> Any:
    """numpy, or jax.numpy when one of the values is a JAX array or is being traced.

    What describes a sound is a few hundred operations on single numbers. In numpy they take a millisecond; XLA would
    compile one program per class for them, which takes longer than making all the sounds.
    """
    return jnp if any(isinstance(value, jax.Array) for value in values) else np


def events(voices: tuple[Voice, ...]) -> Events:
    """The labels of a sound made of `voices`: fields (MAX_EVENTS,). Only a single voice may repeat its event."""
    if len(voices) == 1:
        return Events(*_event_fields(voices[0], np.arange(MAX_EVENTS)))
    each = [_event_fields(voice, np.arange(1)) for voice in voices]
    blank = np.full(MAX_EVENTS - len(voices), np.nan, np.float32)
    return Events(*(namespace(*column).concatenate([*column, blank]) for column in zip(*each, strict=True)))


def _event_fields(voice: Voice, index: np.ndarray) -> list[Any]:
    onset = voice.onset + index * voice.period
    there = index < voice.count
    fields = (onset, onset + voice.width, voice.low, voice.high, voice.pitch)
    return [namespace(there, field).where(there, field, np.float32(np.nan)).astype(np.float32) for field in fields]


def render(voice: Voice, samples: int, sample_rate: int) -> jax.Array:
    """The sound of one voice, (samples,) float32 with peak `voice.level`; pure, jittable, batched by vmap."""
    time = jnp.arange(samples, dtype=jnp.int32) / sample_rate
    elapsed = time - voice.onset
    event = jnp.clip(jnp.floor(elapsed / voice.period), 0, jnp.maximum(voice.count - 1, 0))
    clock = elapsed - event * voice.period
    window = jnp.where(voice.count > 0, _window(clock, voice), 0.0)
    if voice.amplitude.shape[0]:
        wave = _partials(voice, clock, sample_rate)
    else:
        wave = _noise(voice, samples, sample_rate) * jnp.exp(-voice.noise_decay * jnp.maximum(clock, 0))
    modulation = (1 - voice.am_depth * jnp.cos(2 * jnp.pi * voice.am_rate * clock)) / (1 + voice.am_depth)
    wave = wave * modulation * window
    peak = jnp.max(jnp.abs(wave))
    return wave * (voice.level / jnp.where(peak > 0, peak, 1.0))


def _window(clock: jax.Array, voice: Voice) -> jax.Array:
    attack = jnp.minimum(voice.attack, voice.width / 2)
    release = jnp.minimum(voice.release, voice.width / 2)
    rise = jnp.clip(clock / attack, 0, 1)
    fall = jnp.clip((voice.width - clock) / release, 0, 1)
    return jnp.sin(jnp.pi / 2 * rise) ** 2 * jnp.sin(jnp.pi / 2 * fall) ** 2


def _base(voice: Voice, clock: jax.Array) -> jax.Array:
    """Base frequency in Hz over time."""
    first, last = voice.moving[0], voice.moving[1]
    way = jnp.clip((clock / voice.width - first) / (last - first), 0, 1)
    linear = voice.start + (voice.end - voice.start) * way
    octaves = voice.start * jnp.exp2(way * jnp.log2(voice.end / voice.start))
    return jnp.where(voice.curve > 0, octaves, linear) + voice.deviation * jnp.sin(2 * jnp.pi * voice.wobble * clock)


def _partials(voice: Voice, clock: jax.Array, sample_rate: int) -> jax.Array:
    base = _base(voice, clock)
    steps = _fixed(base / sample_rate)
    base_phase = jnp.cumsum(steps) - steps
    index = jnp.arange(clock.shape[0], dtype=jnp.int32)
    since = jnp.maximum(clock, 0)

    def add(wave: jax.Array, partial: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        multiple, shift, amplitude, phase, decay = partial
        frequency = (multiple * base + shift) / sample_rate
        audible = jnp.clip((HIGHEST - frequency) / (HIGHEST - FADING), 0, 1)
        cycles = multiple * base_phase + _fixed(shift / sample_rate) * index + _fixed(phase)
        return wave + amplitude * audible * jnp.exp(-decay * since) * _sine(cycles), None

    partials = (voice.multiple, voice.shift, voice.amplitude, voice.phase, voice.decay)
    wave, _ = jax.lax.scan(add, jnp.zeros_like(clock), partials)
    return wave


def _fixed(cycles: jax.Array) -> jax.Array:
    """Fractions of a cycle below 1/2 to int32, where 2**32 is a whole cycle."""
    return (cycles * 2.0**32).astype(jnp.int32)


def _sine(phase: jax.Array) -> jax.Array:
    """sin of an int32 phase, error below 1e-7: folded to a quarter wave, Taylor series to the 11th power."""
    half_turns = phase.astype(jnp.float32) * 2.0**-31
    size = jnp.abs(half_turns)
    angle = jnp.pi * (0.5 - jnp.abs(size - 0.5))
    square = angle * angle
    series = jnp.float32(0)
    for power in (11, 9, 7, 5, 3, 1):
        series = series * square + (-1.0) ** (power // 2) / math.factorial(power)
    return jnp.sign(half_turns) * angle * series


def _noise(voice: Voice, samples: int, sample_rate: int) -> jax.Array:
    frequency = jnp.fft.rfftfreq(samples, 1 / sample_rate).astype(jnp.float32)
    inside = (frequency >= voice.noise_low) & (frequency <= voice.noise_high)
    octave = jnp.log2(jnp.maximum(frequency, 1.0) / 1000)
    gain = jnp.where(inside, 10 ** (voice.noise_slope * octave / 20), 0.0)
    parts = jax.random.normal(jax.random.key(voice.seed), (2, frequency.shape[0]))
    return jnp.fft.irfft(gain * jax.lax.complex(parts[0], parts[1]), samples)
