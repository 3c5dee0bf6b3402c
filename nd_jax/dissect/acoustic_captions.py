"""Captions by measurement: what can be heard of a sound without knowing what it is, measured and said in plain words.

No network and no language model: the same sound has the same caption anywhere, and each word has one threshold
(`WORDS`). Sounds are measured at their own rate.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nd_jax import audio
from nd_jax.audio.loudness import loudness
from nd_jax.dissect.captions import Captions
from nd_jax.runtime import progress_bar

WORDS: dict[str, tuple[tuple[float, str], ...]] = {
    # LUFS, integrated (ITU-R BS.1770-5).
    "loudness": (
        (-70.0, "silent"),
        (-45.0, "very quiet"),
        (-33.0, "quiet"),
        (-23.0, "moderately loud"),
        (-12.0, "loud"),
        (np.inf, "very loud"),
    ),
    # Spectral flatness; white noise has 0.56.
    "noisiness": ((0.02, "clear"), (0.1, ""), (0.25, "somewhat noisy"), (np.inf, "noisy")),
    # Spectral centroid, Hz.
    "brightness": ((300.0, "very dark"), (1000.0, "dark"), (2500.0, ""), (5000.0, "bright"), (np.inf, "very bright")),
    # Fundamental, Hz.
    "pitch": ((200.0, "low-pitched"), (1000.0, "middle-pitched"), (np.inf, "high-pitched")),
    # Depth of the envelope's strongest swing, 0 to 1.
    "modulation": ((0.15, ""), (0.5, "gently"), (np.inf, "strongly")),
}
"""Each measure's words, with the value below which each one is used."""

PITCHED_SHARE = 0.5
"""The share of the energy that must have a pitch for a sound to have one."""
STEADY_SEMITONES = 1.0
"""A pitch whose middle half stays within this is steady."""

# YIN (de Cheveigne and Kawahara 2002): periods in the aperiodicity's first dip below this.
_APERIODICITY = 0.15
_LOWEST_PITCH = 50.0
_HIGHEST_PITCH = 4000.0
_FRAME_SECONDS = 0.093
# An octave with fewer bins of the spectrum than this is joined with the next.
_BINS = 16
_BLOCK_SECONDS = 0.01
# An onset: the level of 20 ms rises by so many dB within 50 ms, to no more than 30 dB below the loudest.
_RISE_DB, _RISE_BLOCKS, _BELOW_LOUDEST_DB, _APART_BLOCKS = 6.0, 5, 30.0, 8
_RATES = (0.5, 30.0)
_PERIODS = 3
_NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_FLOOR = 1e-12


@dataclasses.dataclass(frozen=True)
class Measures:
    """What `measure` finds. Of a silent sound (below -70 LUFS) duration and loudness alone, the others None or 0.

    Attributes:
      duration: seconds.
      loudness: LUFS, -inf for silence.
      pitch: median fundamental in Hz, or None for a sound without a pitch.
      pitch_range: 25th and 75th percentile of the fundamental in Hz, or None.
      brightness: spectral centroid in Hz, of magnitudes, weighted by energy over time.
      noisiness: spectral flatness, geometric by arithmetic mean of the power spectrum, within octaves from 50 Hz on, so
        that dark and low-passed noise is noise: near 0 for a tone, 0.56 for noise; weighted by energy.
      modulation_rate: Hz, of the envelope's strongest swing between 0.5 and 30 Hz with three periods or more; or None.
      modulation_depth: its amplitude as a share of the mean envelope, at most 1; m of (1 + m sin).
      onsets: how many. A sound that is there from the first sample on has none for that.
    """

    duration: float
    loudness: float
    pitch: float | None = None
    pitch_range: tuple[float, float] | None = None
    brightness: float | None = None
    noisiness: float | None = None
    modulation_rate: float | None = None
    modulation_depth: float = 0.0
    onsets: int = 0


def measure(wave: Any, sample_rate: int) -> Measures:
    """Measures a mono sound.

    Args:
      wave: (samples,), full scale 1.
      sample_rate: in Hz.

    Raises:
      ValueError: another shape, no samples, NaN or infinite samples, or a sample rate below 2 kHz.
    """
    if sample_rate < 2000:
        raise ValueError(f"the sample rate must be 2,000 Hz or more to say anything of a sound, got {sample_rate}")
    level = loudness(wave, sample_rate)
    samples = np.asarray(wave, np.float64)
    duration = len(samples) / sample_rate
    if level == -np.inf:
        return Measures(duration, level)
    brightness, noisiness = _spectrum(samples, sample_rate)
    pitch, between = _pitch(samples, sample_rate)
    envelope = _envelope(samples, sample_rate)
    rate, depth = _modulation(envelope, sample_rate)
    return Measures(duration, level, pitch, between, brightness, noisiness, rate, depth, _onsets(envelope, sample_rate))


def describe(measures: Measures) -> str:
    """Says in words what was measured: "a loud, noisy, dark sound of 5 s with about 3 onsets a second"."""
    length = f"of {_number(measures.duration)} s"
    if measures.loudness == -np.inf:
        return f"silence {length}"
    adjectives = [_word("loudness", measures.loudness)]
    if measures.noisiness is not None:
        adjectives.append(_word("noisiness", measures.noisiness))
    if measures.brightness is not None:
        adjectives.append(_word("brightness", measures.brightness))
    if measures.pitch is not None:
        adjectives.append(_word("pitch", measures.pitch))
    told = [f"{', '.join(filter(None, adjectives))} sound {length}", _said_pitch(measures)]
    swing = _word("modulation", measures.modulation_depth)
    if measures.modulation_rate is not None and swing:
        told.append(f"swinging {swing} {_times(measures.modulation_rate)} a second")
    told.append(_said_onsets(measures))
    return "a " + ", ".join(filter(None, told))


def acoustic_captions(
    sounds: Any, sample_rate: int | None = None, *, names: Sequence[str] | None = None,
    progress: bool | Callable[[int, int], None] = False,
) -> Captions:  # fmt: skip
    """Measured captions of many sounds, one each.

    Args:
      sounds: a list of sound files, or waves, (n, samples) or a list of (samples,) each.
      sample_rate: of waves, in Hz; files have their own.
      names: of waves; by default "clip 0" and so on, as in a record.
      progress: True for a bar, or a function of (done, total).

    Returns:
      `Captions`; files that cannot be read are in `skipped` with the reason.

    Raises:
      ValueError: no sounds, a sample rate for files or none for waves, names that do not fit, or a wave that `measure`
        refuses, with its name.
    """
    items = list(sounds)
    files = bool(items) and all(isinstance(each, (str, os.PathLike)) for each in items)
    if not items:
        raise ValueError("there are no sounds to describe")
    if files == (sample_rate is not None) or (files and names is not None):
        raise ValueError("give files alone, or waves with their sample_rate (and names)")
    told = [str(each) for each in items] if files else [f"clip {place}" for place in range(len(items))]
    told = told if names is None else [str(name) for name in names]
    if len(told) != len(items):
        raise ValueError(f"{len(told)} names for {len(items)} sounds")
    texts: list[tuple[str, ...]] = []
    skipped: dict[str, str] = {}
    with progress_bar(len(items), "sound", progress) as tick:
        for name, item in zip(told, items, strict=True):
            try:
                wave, rate = audio.read_native(pathlib.Path(item)) if files else (item, int(sample_rate or 0))
                texts.append((describe(measure(wave, rate)),))
            except (audio.AudioFileError, ValueError) as error:
                if not files:
                    raise ValueError(f"{name}: {error}") from None
                texts.append(())
                skipped[name] = str(error)
            tick(1)
    return Captions(tuple(told), tuple(texts), skipped)


def _word(kind: str, value: float) -> str:
    return next((word for bound, word in WORDS[kind] if value < bound), WORDS[kind][-1][1])


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0") if value >= 0.95 else f"{value:.2g}"


def _times(rate: float) -> str:
    text = _number(rate) if rate < 9.5 else f"{rate:.0f}"
    return "about once" if text == "1" else f"about {text} times"


def _said_pitch(measures: Measures) -> str:
    if measures.pitch is None or measures.pitch_range is None:
        return "with no clear pitch"
    low, high = measures.pitch_range
    if 12 * np.log2(high / low) <= STEADY_SEMITONES:
        return f"with a steady pitch near {measures.pitch:.0f} Hz ({_note(measures.pitch)})"
    return f"with a moving pitch between {low:.0f} Hz ({_note(low)}) and {high:.0f} Hz ({_note(high)})"


def _said_onsets(measures: Measures) -> str:
    if not measures.onsets:
        return "without onsets"
    rate = measures.onsets / measures.duration
    if measures.onsets < 3 or rate < 0.75:
        return f"with {measures.onsets} onset{'s' * (measures.onsets > 1)}"
    return f"with about {rate:.0f} onset{'s' * (rate >= 1.5)} a second"


def _note(hertz: float) -> str:
    midi = round(69 + 12 * np.log2(hertz / 440))
    return f"{_NOTES[midi % 12]}{midi // 12 - 1}"


def _frames(samples: np.ndarray, size: int, hop: int) -> np.ndarray:
    """(frames, size): the last samples that fill no frame are left out, a sound shorter than a frame gets zeros."""
    if len(samples) < size:
        samples = np.pad(samples, (0, size - len(samples)))
    return np.lib.stride_tricks.sliding_window_view(samples, size)[::hop]


def _spectrum(samples: np.ndarray, sample_rate: int) -> tuple[float, float]:
    """Centroid in Hz and flatness within octaves, means weighted by energy."""
    size = max(round(_FRAME_SECONDS * sample_rate), 32)
    frames = _frames(samples, size, size // 2) * np.hanning(size + 2)[1:-1]
    magnitude = np.abs(np.fft.rfft(frames, axis=1))
    frequency = np.fft.rfftfreq(size, 1 / sample_rate)
    heard = frequency >= _LOWEST_PITCH
    magnitude, frequency = magnitude[:, heard], frequency[heard]
    power = magnitude**2
    energy = power.sum(axis=1)
    share = energy / max(energy.sum(), _FLOOR)
    centroid = (magnitude @ frequency) / np.maximum(magnitude.sum(axis=1), _FLOOR)
    flat, first = 0.0, 0
    while first < len(frequency):
        last = max(int(np.searchsorted(frequency, 2 * frequency[first])), first + _BINS)
        last = len(frequency) if len(frequency) - last < _BINS else last
        band = power[:, first:last]
        mean = np.maximum(band.mean(axis=1), _FLOOR)
        each = np.exp(np.log(np.maximum(band, _FLOOR * mean[:, None])).mean(axis=1)) / mean
        flat += float(band.sum(axis=1) @ each)
        first = last
    return float(share @ centroid), flat / max(float(energy.sum()), _FLOOR)


def _pitch(samples: np.ndarray, sample_rate: int) -> tuple[float | None, tuple[float, float] | None]:
    """Median and middle half of the fundamental, by YIN, weighted by energy; None for a sound without a pitch."""
    window = round(0.03 * sample_rate)
    longest = round(sample_rate / _LOWEST_PITCH)
    shortest = max(int(sample_rate / _HIGHEST_PITCH), 2)
    frames = _frames(samples, window + longest + 1, round(0.02 * sample_rate))
    size = 1 << int(np.ceil(np.log2(frames.shape[1] + window)))
    head = np.fft.rfft(frames[:, :window], size, axis=1)
    whole = np.fft.rfft(frames, size, axis=1)
    shared = np.fft.irfft(whole * head.conj(), size, axis=1)[:, : longest + 2]
    squares = np.cumsum(np.pad(frames**2, ((0, 0), (1, 0))), axis=1)
    lags = np.arange(longest + 2)
    energy = squares[:, lags + window] - squares[:, lags]
    difference = np.maximum(energy[:, :1] + energy - 2 * shared, 0)
    running = np.cumsum(difference[:, 1:], axis=1)
    normal = difference[:, 1:] * lags[1:] / np.maximum(running, _FLOOR)
    # Column i is lag i + 1. A dip is lower than its neighbours; the first one that is low enough is the period.
    inner = normal[:, 1:-1]
    dips = (inner < _APERIODICITY) & (inner <= normal[:, :-2]) & (inner < normal[:, 2:])
    dips[:, : shortest - 2] = False
    voiced = dips.any(axis=1) & (energy[:, 0] > 0)
    weight = energy[:, 0]
    if weight[voiced].sum() < PITCHED_SHARE * weight.sum() or not voiced.any():
        return None, None
    rows, place = np.flatnonzero(voiced), dips.argmax(axis=1)[voiced] + 1
    before, at, after = (difference[rows, place + step] for step in (0, 1, 2))
    bend = before - 2 * at + after
    shift = np.where(bend > 0, 0.5 * (before - after) / np.where(bend > 0, bend, 1), 0.0)
    hertz = sample_rate / (place + 1 + np.clip(shift, -1, 1))
    low, middle, high = _quantiles(hertz, weight[voiced], (0.25, 0.5, 0.75))
    return middle, (low, high)


def _quantiles(values: np.ndarray, weights: np.ndarray, at: Sequence[float]) -> list[float]:
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return [float(values[order][min(np.searchsorted(total, share * total[-1]), len(values) - 1)]) for share in at]


def _envelope(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """(samples,): magnitude of the analytic signal, which does not swing with a low tone's own periods."""
    size = 1 << int(np.ceil(np.log2(len(samples) + round(0.1 * sample_rate))))
    spectrum = np.fft.fft(samples, size)
    spectrum[1 : size // 2] *= 2
    spectrum[size // 2 + 1 :] = 0
    return np.abs(np.fft.ifft(spectrum))[: len(samples)]


def _blocks(envelope: np.ndarray, sample_rate: int, blocks: int = 1) -> np.ndarray:
    """Root mean squares every 10 ms, each of as many blocks of 10 ms."""
    size = max(round(_BLOCK_SECONDS * sample_rate), 1)
    return np.sqrt((_frames(envelope, blocks * size, size) ** 2).mean(axis=1))


def _modulation(whole: np.ndarray, sample_rate: int) -> tuple[float | None, float]:
    """Rate and depth of the envelope's strongest swing; None and 0 without one."""
    envelope = _blocks(whole, sample_rate)
    block = max(round(_BLOCK_SECONDS * sample_rate), 1) / sample_rate
    mean = envelope.mean()
    lowest = max(_RATES[0], _PERIODS / (len(envelope) * block))
    if len(envelope) < 8 or lowest > _RATES[1] or mean <= 0:
        return None, 0.0
    window = np.hanning(len(envelope) + 2)[1:-1]
    place = np.arange(len(envelope))
    straight = np.polyval(np.polyfit(place, envelope, 1), place)
    size = 4 * (1 << int(np.ceil(np.log2(len(envelope)))))
    swing = 2 * np.abs(np.fft.rfft((envelope - straight) * window, size)) / window.sum() / mean
    rates = np.fft.rfftfreq(size, block)
    # A block of 10 ms averages fast swings away in part.
    swing = swing / np.sinc(rates * block)
    top = np.zeros(len(swing), bool)
    top[1:-1] = (swing[1:-1] > swing[:-2]) & (swing[1:-1] >= swing[2:])
    top &= (rates >= lowest) & (rates <= _RATES[1])
    if not top.any():
        return None, 0.0
    best = int(np.where(top, swing, 0).argmax())
    return float(rates[best]), float(min(swing[best], 1.0))


def _onsets(envelope: np.ndarray, sample_rate: int) -> int:
    """How often the level rises by 6 dB or more within 50 ms, 80 ms apart."""
    power = _blocks(envelope, sample_rate, 2) ** 2
    level = 10 * np.log10(np.maximum(power, _FLOOR))
    loud = level.max() - _BELOW_LOUDEST_DB
    level = np.maximum(level, loud - _BELOW_LOUDEST_DB)
    padded = np.concatenate([np.full(_RISE_BLOCKS, np.inf), level])
    before = np.lib.stride_tricks.sliding_window_view(padded, _RISE_BLOCKS)[: len(level)].min(axis=1)
    rise = np.where(np.isfinite(before), level - before, 0.0)
    count, last = 0, -_APART_BLOCKS
    for block in np.flatnonzero((rise >= _RISE_DB) & (level >= loud)).tolist():
        if block - last >= _APART_BLOCKS:
            count += 1
        last = block
    return count
