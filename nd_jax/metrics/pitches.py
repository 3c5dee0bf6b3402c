"""Are notes of the pitch that was asked for? By an estimator of the fundamental that no network is part of."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from nd_jax.metrics import sets
from nd_jax.metrics.intervals import around
from nd_jax.proportions import proportion
from nd_jax.runtime import require

WITHIN_CENTS = 50.0


def fundamentals(
    waves: Iterable[Any],
    sample_rate: int,
    *,
    lowest: float = 60.0,
    highest: float = 2200.0,
    octave_cost: float = 0.03,
) -> np.ndarray:
    """The fundamental frequency of single notes, by Praat.

    Autocorrelation with the window's taken out, the best path through its peaks (Boersma 1993, "Accurate short-term
    analysis of the fundamental frequency"; extra `voice`), then the median over all frames with a pitch. The range is
    an octave wider than that of the notes of docs/gansynth.md, so that a note an octave off is found there. The octave
    cost (Praat's own is 0.01) was chosen on real notes that no figure is about.

    Args:
      waves: n sounds, each (samples,), of any length from three periods of `lowest` on.
      sample_rate: of all, in Hz.
      lowest: the lowest fundamental to look for, in Hz.
      highest: the highest.
      octave_cost: by how much higher candidates are preferred, for each octave.

    Returns:
      (n,) Hz; not a number where no frame has a pitch.

    Raises:
      ValueError: a sound that is too short, or a range that is none.
      MissingExtraError: parselmouth is missing.
    """
    praat = require("parselmouth", "voice")
    if not 0 < lowest < highest < sample_rate / 2:
        raise ValueError(f"lowest and highest must rise within 0 ... {sample_rate / 2:g} Hz, got {lowest}, {highest}")
    found = []
    for wave in waves:
        sound = np.nan_to_num(np.asarray(wave, np.float64))
        if sound.ndim != 1 or len(sound) < 3 * sample_rate / lowest:
            raise ValueError(
                f"a sound must be (samples,) of {3 * sample_rate / lowest:.0f} samples or more, got {sound.shape}"
            )
        track = praat.Sound(sound, sample_rate).to_pitch_ac(
            pitch_floor=lowest, pitch_ceiling=highest, octave_cost=octave_cost
        )
        frequency = track.selected_array["frequency"]
        voiced = frequency[frequency > 0]
        found.append(float(np.median(voiced)) if len(voiced) else np.nan)
    return np.asarray(found, np.float64)


def cents_off(hertz: Any, midi: Any) -> np.ndarray:
    """How far frequencies in Hz lie above MIDI numbers (A4 = 69 = 440 Hz), in cents: (n,)."""
    return 1200.0 * np.log2(np.asarray(hertz, np.float64) / 440.0) - 100.0 * (np.asarray(midi, np.float64) - 69.0)


def pitch_figures(cents: Any, within: float = WITHIN_CENTS) -> dict[str, Any]:
    """What is said of the pitch of n notes, octave errors apart.

    Args:
      cents: (n,) how far each is from what was asked for; not a number where no pitch was found.
      within: so many cents off is right, and so many off an octave, or several, is an octave error.

    Returns:
      {"right", "octave_errors", "other", "no_pitch"}, each a share with its 95 % Wilson interval, and "median_cents"
      of the right ones (None without any). JSON-ready.

    Raises:
      ValueError: no notes.
    """
    off = np.asarray(cents, np.float64)
    if off.ndim != 1 or not len(off):
        raise ValueError(f"cents must be (n,) with one note or more, got {off.shape}")
    nothing = ~np.isfinite(off)
    near = np.where(nothing, 0.0, off)
    right = ~nothing & (np.abs(near) <= within)
    octave = ~nothing & ~right & (np.abs(near - 1200.0 * np.round(near / 1200.0)) <= within)
    return {
        "right": proportion(right),
        "octave_errors": proportion(octave),
        "other": proportion(~(nothing | right | octave)),
        "no_pitch": proportion(nothing),
        "median_cents": round(float(np.median(near[right])), 2) if right.any() else None,
    }


@dataclasses.dataclass(frozen=True)
class Variety:
    """How much examples of one class differ, beside real ones of the same class.

    Attributes:
      real: mean distance of two different real examples of one class, over classes.
      generated: the same of samples.
      ratio: generated over real; 1 for a perfect generator, towards 0 where it collapses to one example a class.
      low: lower end of the 95 % interval of the ratio, by the jackknife over classes.
      high: upper end.
      classes: over how many classes; those with fewer than two examples in either set are left out.
      least: the smallest ratio of a class.
      least_class: which it is.
    """

    real: float
    generated: float
    ratio: float
    low: float
    high: float
    classes: int
    least: float
    least_class: int

    def to_dict(self) -> dict[str, Any]:
        """The numbers, JSON-ready."""
        return dataclasses.asdict(self)


def variety(real: Any, real_classes: Any, generated: Any, classes: Any) -> Variety:
    """The mean distance between two samples of one class against that between two real examples of it.

    A mean over pairs has no bias from the number of examples, so the sets need not be of one size.

    Args:
      real: (n, d) features.
      real_classes: (n,) ints.
      generated: (m, d) features.
      classes: (m,) ints.

    Returns:
      A `Variety`.

    Raises:
      ValueError: shapes that do not fit, or fewer than three classes with two examples in both sets.
    """
    x, y = sets.pair("real", real, "generated", generated)
    there, here = _within("real", x, real_classes), _within("generated", y, classes)
    both = sorted(set(there) & set(here))
    if len(both) < 3:
        raise ValueError(f"{len(both)} classes have two examples in both sets, and 3 or more are needed")
    known, made = (np.array([found[each] for each in both]) for found in (there, here))
    if not known.min() > 0:
        raise ValueError(f"the real examples of class {both[int(known.argmin())]} are all the same")
    ratio = made.mean() / known.mean()
    # The ratio without one class after the other.
    low, high = around(ratio, (made.sum() - made) / (known.sum() - known))
    smallest = int(np.argmin(made / known))
    return Variety(
        real=float(known.mean()),
        generated=float(made.mean()),
        ratio=float(ratio),
        low=low,
        high=high,
        classes=len(both),
        least=float(made[smallest] / known[smallest]),
        least_class=int(both[smallest]),
    )


def _within(name: str, x: np.ndarray, classes: Any) -> dict[int, float]:
    """{class: mean distance of two different examples of it}."""
    number = np.asarray(classes)
    if number.shape != (len(x),):
        raise ValueError(f"{name} has {len(x)} examples, and classes of shape {number.shape}")
    found = {}
    for each in np.unique(number):
        chosen = x[number == each]
        if len(chosen) > 1:
            total = sum(float(np.sqrt(block).sum()) for _, block in sets.blocks(chosen, chosen))
            found[int(each)] = total / (len(chosen) * (len(chosen) - 1))
    return found
