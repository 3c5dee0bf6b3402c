"""What is read from a found spectrogram: its likeness to the true optimum, its pitch, its onset.

Pitch is read from the spectrogram itself, not from a resynthesised sound: its loudest 25 dB are compared with those of
pictures of tones (and of harmonic stacks) every 5 cents, drawn by the same front end. A sine between two mel bands
is seen by both, so that a pitch is read far more finely than the bands are spaced.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

from nd_jax.bench.planted import Concept, Unit
from nd_jax.domain import LogMel

CENTS = 5.0
"""Spacing of the pitches that are tried."""
LOUDEST_DB = 25.0
"""How far below its loudest band a spectrum is looked at."""
PITCH_RANGE = (300.0, 7000.0)


@dataclasses.dataclass(frozen=True)
class Reading:
    """How near a found input is to one concept.

    Attributes:
      correlation: Pearson, with the true optimum, over the cells that matter, at the best shift in time; 0 for a
        constant.
      shift: the frame where the aligned window begins; 0 for a unit that means over time.
      pitch_cents: distance of the pitch read from the planted one, NaN for a concept without pitch and
        for a linear unit.
      onset_frames: distance of the onset read from the planted one, NaN for a concept without onset.
    """

    correlation: float
    shift: int
    pitch_cents: float
    onset_frames: float


def read(found: np.ndarray, unit: Unit, domain: LogMel) -> Reading:
    """The reading of a found input, (bands, frames, 1), for that concept of the unit which it is nearest to."""
    picture = np.asarray(found, np.float32)[..., 0]
    likenesses = [aligned(picture[None], unit, concept) for concept in unit.concepts]
    nearest = int(np.argmax([values[0] for values, _ in likenesses]))
    values, shifts = likenesses[nearest]
    template, shift = unit.concepts[nearest].template, int(shifts[0])
    window = picture if unit.pool == "mean" else picture[:, shift : shift + template.pattern.shape[1]]
    cents = onset = math.nan
    if not math.isnan(template.pitch) and unit.readout == "normalised":
        # The optimum of a linear unit is a corner of the box: a block without levels, in which no pitch is legible.
        cents = 1200.0 * math.log2(pitch_of(window, domain, stack=template.kind == "stack") / template.pitch)
    if not math.isnan(template.onset):
        # At one position a unit knows the time itself; elsewhere only the onset within its window means something.
        late = shift - unit.place if unit.pool == "position" else 0
        onset = onset_of(window) + late - template.onset
    return Reading(float(values[0]), shift, cents, onset)


def aligned(found: np.ndarray, unit: Unit, concept: Concept) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of found inputs with a concept's optimum at the best shift in time, and that shift.

    Args:
      found: (n, bands, frames).
      unit: decides whether the whole input is compared (a mean over time) or a window of it.
      concept: its true optimum.

    Returns:
      Two arrays (n,).
    """
    count, bands, frames = found.shape
    best, matters = concept.best, concept.matters
    if unit.pool == "mean":
        best, matters = (np.broadcast_to(each[:, :1], (bands, frames)) for each in (best, matters))
    length = best.shape[1]
    windows = np.lib.stride_tricks.sliding_window_view(found, length, axis=2).transpose(0, 2, 1, 3)
    values = correlations(windows.reshape(-1, bands * length), best.ravel(), matters.ravel()).reshape(count, -1)
    shifts = np.argmax(values, axis=1)
    return values[np.arange(count), shifts], shifts


def correlations(found: np.ndarray, best: np.ndarray, matters: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each row (n, cells) with `best`, over the cells that matter; 0 where one is constant."""
    rows, target = found[:, matters].astype(np.float64), best[matters].astype(np.float64)
    rows, target = rows - rows.mean(axis=1, keepdims=True), target - target.mean()
    norms = np.sqrt(np.sum(rows * rows, axis=1) * (target @ target))
    return np.where(norms > 1e-12, rows @ target / np.maximum(norms, 1e-12), 0.0)


def pitch_of(window: np.ndarray, domain: LogMel, *, stack: bool = False) -> float:
    """The pitch, in Hz, of a picture (bands, frames): the tone, or the harmonic stack, whose spectrum is most alike."""
    frequencies, pictures = _dictionary(domain.transform, stack)
    weights = window.max(axis=0)
    spectrum = window @ (weights / max(float(weights.sum()), 1e-12))
    return float(frequencies[np.argmax(pictures @ _loudest(spectrum[None], domain)[0])])


def onset_of(window: np.ndarray) -> float:
    """The frame at which a picture (bands, frames) begins to sound: where its mean level first rises halfway.

    A level in dB shows a sound as soon as the analysis window touches it, so that the halfway point lies before the
    sound's own beginning; `LEAD` is added for it.
    """
    level = window.mean(axis=0).astype(np.float64)
    halfway = (level.min() + level.max()) / 2
    after = int(np.argmax(level > halfway))
    if after == 0:
        return LEAD
    return after - (level[after] - halfway) / (level[after] - level[after - 1]) + LEAD


LEAD = 0.9
"""Frames, on an analysis window of about three hops."""


def _loudest(spectra: np.ndarray, domain: LogMel) -> np.ndarray:
    """Spectra (n, bands) above LOUDEST_DB below their maximum, with length one."""
    depth = LOUDEST_DB / (domain.to_db(1.0) - domain.to_db(0.0))
    above = np.maximum(spectra - (spectra.max(axis=1, keepdims=True) - depth), 0.0)
    return above / np.maximum(np.linalg.norm(above, axis=1, keepdims=True), 1e-12)


@functools.lru_cache(maxsize=8)
def _dictionary(transform: object, stack: bool) -> tuple[np.ndarray, np.ndarray]:
    """Pitches (n,) in Hz and the loudest parts of their spectra (n, bands)."""
    domain = LogMel(transform=transform, frames=2)  # type: ignore[arg-type]
    front = domain.transform
    low, high = PITCH_RANGE
    high = min(high, 0.45 * front.sample_rate)
    pitches = low * 2.0 ** (np.arange(0.0, 1200.0 * math.log2(high / low), CENTS) / 1200.0)
    samples = 2 * front.n_fft
    time = np.arange(samples) / front.sample_rate
    middle = domain.transform.num_frames(samples) // 2
    pictures = []
    for block in np.array_split(pitches, 16):
        count = 8 if stack else 1
        waves = np.zeros((len(block), samples))
        for number in range(1, count + 1):
            inside = number * block < 0.475 * front.sample_rate
            # Phases that spread the energy: a fixed irrational step.
            phase = 0.7548776662 * number * number
            partial = np.sin(2 * np.pi * (number * block[:, None] * time + phase))
            waves += inside[:, None] * number**-0.7 * partial
        levels = np.asarray(domain.from_db(front.forward((0.3 * waves).astype(np.float32))))
        pictures.append(levels[:, :, middle])
    return pitches, _loudest(np.concatenate(pictures), domain)
