"""What planted units listen for: short sounds, made here from scratch, and how they look through a log-mel front end.

The synthesis shares no code with the sound bank (`nd_jax.data.synthetic`), and every kind has at least one parameter
whose range no class of the bank for the like of it reaches (`APART`, tested), so that nothing found on sounds of the
bank is a planted sound by chance.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from nd_jax.domain import LogMel

KINDS = ("tone", "chirp", "am", "band", "onset", "stack")

RANGES: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "tone": {"pitch": (420.0, 6000.0), "frames": (6.0, 10.0)},
    "chirp": {"low": (600.0, 3000.0), "octaves": (0.72, 0.98), "frames": (9.0, 13.0)},
    "am": {"pitch": (4200.0, 6200.0), "rate": (12.0, 20.0), "depth": (0.9, 1.0)},
    "band": {"centre": (500.0, 5000.0), "octaves": (0.32, 0.48), "frames": (6.0, 10.0)},
    "onset": {"low": (200.0, 2500.0), "octaves": (1.3, 2.0), "decay": (35.0, 80.0)},
    "stack": {"pitch": (900.0, 1500.0), "tilt": (0.2, 1.2), "frames": (6.0, 10.0)},
}
"""What is drawn, uniformly (frequencies in Hz uniformly in octaves); rates in Hz, decay in 1/s, tilt a power of the
partial's number; `frames` is the length of a local sound, in frames of 10 ms."""

APART: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "tone": ("frames", "duration", ("tone_low", "tone_middle", "tone_high")),
    "chirp": (
        "octaves",
        "octaves",
        (
            "chirp_up_linear",
            "chirp_down_linear",
            "chirp_up_exponential",
            "chirp_down_exponential",
            "chirps_repeated",
        ),
    ),
    "am": ("pitch", "f0", ("am_slow", "am_middle", "am_fast", "tremolo", "beeps_slow", "beeps_fast")),
    "band": ("octaves", "octaves", ("noise_low", "noise_middle", "noise_high", "noise_narrow")),
    "onset": ("decay", "decay", ("noise_hit", "plucked_string", "bell", "struck_bar")),
    "stack": (
        "pitch",
        "f0",
        ("harmonic_bright", "harmonic_dark", "harmonic_odd", "harmonic_few", "missing_fundamental", "sawtooth"),
    ),
}
"""kind: (its parameter, the bank's parameter, the bank's classes of the like) whose ranges do not meet."""

MARGIN = 4
"""Frames synthesised on either side of a pattern and cut off, so that the analysis window sees no edge."""

_TAKES = 12


@dataclasses.dataclass(frozen=True, eq=False)
class Template:
    """One sound that a unit listens for.

    Attributes:
      kind: one of `KINDS`, or "random".
      pattern: (bands, frames) its log-mel picture, values of the domain (0 ... 1).
      parameters: what it was made from.
      pitch: Hz, NaN for a sound without one.
      onset: frame (a fraction is allowed) at which it begins, NaN when it sounds all along.
      stationary: whether it is the same at every frame.
    """

    kind: str
    pattern: np.ndarray
    parameters: Mapping[str, float]
    pitch: float = math.nan
    onset: float = math.nan
    stationary: bool = False


def draw(kind: str, rng: np.random.Generator, domain: LogMel, frames: int, *, stationary: bool = False) -> Template:
    """Draws one template of a kind.

    Args:
      kind: one of `KINDS`.
      rng: where the parameters come from.
      domain: the front end that turns the sound into a picture.
      frames: length of the pattern.
      stationary: sounds all along, unchanging; only for "tone", "band" and "stack".

    Raises:
      ValueError: an unknown kind, or a stationary sound of a kind that changes.
    """
    if kind not in KINDS:
        raise ValueError(f"a template is one of {', '.join(KINDS)}, got {kind!r}")
    if stationary and kind not in ("tone", "band", "stack"):
        raise ValueError(f"a template of kind {kind!r} changes in time and cannot be stationary")
    drawn = {
        name: float(np.exp(rng.uniform(np.log(low), np.log(high)))) if low > 100 else float(rng.uniform(low, high))
        for name, (low, high) in RANGES[kind].items()
    }
    rate, hop = domain.sample_rate, domain.transform.hop_length
    clip = np.arange(domain.transform.num_samples(frames + 2 * MARGIN)) / rate
    second = hop / rate
    onset = math.nan
    if kind in ("chirp", "onset") or ("frames" in drawn and not stationary):
        length = drawn.get("frames", 8.0)
        onset = float(rng.uniform(2.0, max(frames - length - 1.0, 2.5)))
    begin = 0.0 if math.isnan(onset) else (onset + MARGIN) * second
    width = drawn["frames"] * second if "frames" in drawn and not stationary else math.inf
    drawn["level_db"] = float(rng.uniform(-14.0, -4.0))
    takes = _TAKES if kind in ("band", "onset") else 1
    # The picture of a noise is that of its mean level: one take would plant its speckles.
    waves = np.stack([_SOUNDS[kind](clip, begin, width, drawn, rng) for _ in range(takes)])
    levels = _pictures(waves, drawn["level_db"], domain).mean(axis=0)[:, MARGIN : MARGIN + frames]
    if stationary:
        levels = np.repeat(levels.mean(axis=1, keepdims=True), frames, axis=1)
    return Template(
        kind=kind,
        pattern=levels.astype(np.float32),
        parameters=drawn,
        pitch=drawn.get("pitch", math.nan),
        onset=onset,
        stationary=stationary,
    )


def white(rng: np.random.Generator, domain: LogMel, frames: int, smooth: float) -> Template:
    """A template without meaning: normal noise, blurred by `smooth` cells, as values between 0 and 1."""
    pattern = rng.normal(size=(domain.shape[0], frames))
    if smooth:
        for axis in (0, 1):
            reach = np.arange(pattern.shape[axis])
            matrix = np.exp(-0.5 * np.square((reach[:, None] - reach[None, :]) / smooth))
            pattern = np.moveaxis(np.moveaxis(pattern, axis, -1) @ (matrix / matrix.sum(0)), -1, axis)
    ranks = np.argsort(np.argsort(pattern, axis=None)).reshape(pattern.shape)
    return Template("random", (ranks / (pattern.size - 1)).astype(np.float32), {"smooth": smooth})


def _pictures(waves: np.ndarray, level_db: float, domain: LogMel) -> np.ndarray:
    peaks = np.maximum(np.max(np.abs(waves), axis=1, keepdims=True), 1e-9)
    scaled = np.zeros((_TAKES, waves.shape[1]), np.float32)
    # Always as many takes, so that one program serves all kinds.
    scaled[: len(waves)] = waves / peaks * 10.0 ** (level_db / 20.0)
    return np.asarray(domain.from_db(domain.transform.forward(scaled)))[: len(waves)]


def _gate(time: np.ndarray, begin: float, width: float, rise: float = 0.004) -> np.ndarray:
    """0 before `begin`, 1 for `width` s, 0 after; quarter-sine edges of `rise` s."""
    edge = np.sin(np.pi / 2 * np.clip((time - begin) / rise, 0.0, 1.0))
    return edge if math.isinf(width) else edge * np.cos(np.pi / 2 * np.clip((time - begin - width) / rise, 0.0, 1.0))


def _sine(frequency: np.ndarray | float, time: np.ndarray, phase: float) -> np.ndarray:
    """A sine of a frequency that may move, in Hz: the running sum of its instantaneous frequency."""
    step = np.broadcast_to(frequency, time.shape) * (time[1] - time[0])
    return np.sin(2 * np.pi * (np.cumsum(step) + phase))


def _tone(time: np.ndarray, begin: float, width: float, p: Mapping[str, float], rng: np.random.Generator) -> np.ndarray:
    return _gate(time, begin, width) * _sine(p["pitch"], time, rng.uniform())


def _chirp(
    time: np.ndarray, begin: float, width: float, p: Mapping[str, float], rng: np.random.Generator
) -> np.ndarray:
    way = np.clip((time - begin) / width, 0.0, 1.0)
    if rng.uniform() < 0.5:
        way = 1.0 - way
    # Between a sweep that is even in octaves and one that is even in Hz.
    frequency = p["low"] * 0.5 * (2.0 ** (p["octaves"] * way) + 1.0 + (2.0 ** p["octaves"] - 1.0) * way)
    return _gate(time, begin, width) * _sine(frequency, time, rng.uniform())


def _am(time: np.ndarray, begin: float, width: float, p: Mapping[str, float], rng: np.random.Generator) -> np.ndarray:
    swing = np.square(np.cos(np.pi * (p["rate"] * time + rng.uniform())))
    return (1.0 - p["depth"] + p["depth"] * swing) * _sine(p["pitch"], time, rng.uniform())


def _noise(time: np.ndarray, low: float, high: float, rng: np.random.Generator) -> np.ndarray:
    """Sines of equal strength and random phase at every bin of a band: noise with a flat top and steep sides."""
    frequencies = np.fft.rfftfreq(len(time), time[1] - time[0])
    inside = (frequencies >= low) & (frequencies < high)
    return np.fft.irfft(inside * np.exp(2j * np.pi * rng.uniform(size=len(frequencies))), len(time))


def _band(time: np.ndarray, begin: float, width: float, p: Mapping[str, float], rng: np.random.Generator) -> np.ndarray:
    half = 2.0 ** (p["octaves"] / 2)
    return _gate(time, begin, width) * _noise(time, p["centre"] / half, p["centre"] * half, rng)


def _onset(
    time: np.ndarray, begin: float, width: float, p: Mapping[str, float], rng: np.random.Generator
) -> np.ndarray:
    fall = np.exp(-p["decay"] * np.maximum(time - begin, 0.0))
    high = min(p["low"] * 2.0 ** p["octaves"], 7400.0)
    return _gate(time, begin, math.inf, 0.001) * fall * _noise(time, p["low"], high, rng)


def _stack(
    time: np.ndarray, begin: float, width: float, p: Mapping[str, float], rng: np.random.Generator
) -> np.ndarray:
    partials = range(1, int(7400.0 / p["pitch"]) + 1)
    return _gate(time, begin, width) * np.sum(
        [n ** -p["tilt"] * _sine(n * p["pitch"], time, rng.uniform()) for n in partials], axis=0
    )


_SOUNDS = {"tone": _tone, "chirp": _chirp, "am": _am, "band": _band, "onset": _onset, "stack": _stack}
