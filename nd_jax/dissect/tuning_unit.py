"""What one unit is tuned to, in figures and in words."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nd_jax.dissect.sound_bank import SoundBank
    from nd_jax.dissect.tuning_sweep import LayerTuning

# What differs by less than this share of the unit's range is not worth words.
_WORTH = 0.1
# A field that predicts less well is not spoken of.
_PREDICTS = 0.3
_OCTAVES = (
    (1 / 6, "a sixth of an octave"),
    (1 / 3, "a third of an octave"),
    (1 / 2, "half an octave"),
    (1, "an octave"),
)


@dataclasses.dataclass(frozen=True)
class UnitTuning:
    """The tuning of a unit; None where there is none.

    Attributes:
      answers: whether any sound of the bank moves the unit.
      best_frequency: in Hz, the highest of the mean over levels; None unless tones move the unit.
      bandwidth: octaves over which that stays above the middle of its range; q: frequency over bandwidth in Hz.
      threshold_db: the level at which a tone of that frequency begins to raise the response, a tenth of the way; None
        where no level does.
      dynamic_range_db: how many dB more take it to nine tenths.
      level: "rises with level", "falls with level", "likes middle levels", or "".
      preferred_rate: modulation of noise, in Hz, for which the mean response is highest, where that beats none.
      followed_rate: modulation that the response follows with the largest swing.
      followed_carrier: what was modulated then: Hz, or 0 for noise.
      ripple: (rate in Hz, above 0 downwards, density in cycles per octave) of the highest mean response, or of the
        largest swing; None unless ripples move the unit.
      strf_score: correlation of the field's prediction with the response to sounds held out.
    """

    answers: bool
    best_frequency: float | None = None
    bandwidth: float | None = None
    q: float | None = None
    threshold_db: float | None = None
    dynamic_range_db: float | None = None
    level: str = ""
    preferred_rate: float | None = None
    followed_rate: float | None = None
    followed_carrier: float | None = None
    ripple: tuple[float, float] | None = None
    strf_score: float = 0.0

    def __str__(self) -> str:
        if not self.answers:
            return "answers to none of the test sounds"
        parts = []
        if self.best_frequency is not None:
            width = "" if self.bandwidth is None else f", {_wide(self.bandwidth)} wide"
            parts.append(f"tuned to {_hertz(self.best_frequency)}{width}")
        else:
            parts.append("no best frequency")
        parts += [self.level] if self.level else []
        if self.preferred_rate is not None:
            parts.append(f"prefers {_hertz(self.preferred_rate)} modulation")
        if self.followed_rate is not None:
            parts.append(f"follows {_hertz(self.followed_rate)} modulation")
        if self.ripple is not None:
            rate, density = self.ripple
            way = "" if not density else " down" if rate > 0 else " up"
            parts.append(f"ripples of {_hertz(abs(rate))}{way}, {density:g} cycles per octave")
        if self.strf_score >= _PREDICTS:
            parts.append(f"its spectro-temporal field predicts it (r {self.strf_score:.2f})")
        return ", ".join(parts)


def unit_tuning(bank: SoundBank, layer: LayerTuning, unit: int) -> UnitTuning:
    """Reads the figures of a unit off its responses."""
    if not layer.answers[unit]:
        return UnitTuning(answers=False)
    span = float(layer.span[unit])
    found: dict[str, object] = {"answers": True, "strf_score": float(layer.strf_score[unit])}
    found |= _tones(bank, layer.tones[unit], float(layer.silence[unit]), span)
    found |= _modulation(bank, layer, unit, span)
    found["ripple"] = _ripple(bank, layer, unit, span)
    return UnitTuning(**found)  # type: ignore[arg-type]


def _tones(bank: SoundBank, tones: np.ndarray, silence: float, span: float) -> dict[str, object]:
    curve = tones.mean(axis=0).astype(np.float64)
    octaves = np.log2(bank.frequencies)
    place = int(curve.argmax())
    found: dict[str, object] = {}
    if curve.max() - curve.min() >= _WORTH * span:
        best = peak(octaves, curve)
        width = _width(octaves, curve)
        found = {
            "best_frequency": float(2.0**best),
            "bandwidth": width,
            "q": 1.0 / (2.0 ** (width / 2) - 2.0 ** (-width / 2)),
        }
    return found | _levels(bank.levels, tones[:, place].astype(np.float64), silence, span)


def _levels(levels: np.ndarray, along: np.ndarray, silence: float, span: float) -> dict[str, object]:
    """Threshold, dynamic range and words for a unit's responses over level."""
    highest = int(along.argmax())
    rise = along[highest] - silence
    if np.ptp(along) < _WORTH * span and rise < _WORTH * span:
        return {"level": ""}
    if highest == len(levels) - 1:
        words = "rises with level"
    elif highest == 0:
        words = "falls with level"
    else:
        words = "likes middle levels"
    words = words if np.ptp(along) >= _WORTH * span else ""
    if rise < _WORTH * span:
        return {"level": words}
    threshold, full = (_crossing(levels, along, silence + share * rise, highest) for share in (0.1, 0.9))
    return {"level": words, "threshold_db": threshold, "dynamic_range_db": full - threshold}


def _crossing(levels: np.ndarray, along: np.ndarray, value: float, highest: int) -> float:
    """The lowest level at which a rising part reaches a value."""
    place = int(np.flatnonzero(along[: highest + 1] >= value)[0])
    if place == 0:
        return float(levels[0])
    below, above = along[place - 1], along[place]
    return float(levels[place - 1] + (value - below) / (above - below) * (levels[place] - levels[place - 1]))


def _modulation(bank: SoundBank, layer: LayerTuning, unit: int, span: float) -> dict[str, object]:
    found: dict[str, object] = {}
    means, swings = layer.am[unit].astype(np.float64), layer.am_following[unit].astype(np.float64)
    octaves = np.log2(bank.rates)
    # Of tones the side bands move to other frequencies with the rate, which a unit may prefer for their own sake.
    noise = int(np.flatnonzero(bank.carriers == 0)[0])
    if means[noise].max() - max(layer.flat[unit, noise], means[noise].min()) >= _WORTH * span:
        found["preferred_rate"] = float(2.0 ** peak(octaves, means[noise]))
    carrier = int(swings.max(axis=1).argmax())
    if 2.0 * swings[carrier].max() >= _WORTH * span:
        found |= {
            "followed_rate": float(2.0 ** peak(octaves, swings[carrier])),
            "followed_carrier": float(bank.carriers[carrier]),
        }
    return found


def _ripple(bank: SoundBank, layer: LayerTuning, unit: int, span: float) -> tuple[float, float] | None:
    values, worth, _ = ripple_map(layer, unit)
    if worth < _WORTH * span:
        return None
    density, rate = np.unravel_index(int(values.argmax()), values.shape)
    return float(bank.ripple_rates[rate]), float(bank.densities[density])


def ripple_map(layer: LayerTuning, unit: int) -> tuple[np.ndarray, float, bool]:
    """(densities, rates) of mean responses or of swings, whichever say more; how far they range; whether swings."""
    means, swings = layer.ripples[unit], layer.ripples_following[unit]
    if np.ptp(means) >= 2.0 * swings.max(initial=0.0):
        return means, float(np.ptp(means)), False
    return swings, float(2.0 * swings.max()), True


def modulation_curve(bank: SoundBank, layer: LayerTuning, unit: int) -> tuple[np.ndarray, float | None, float]:
    """(rates,) swings of the response with the modulation or mean responses to it, whichever say more.

    Returns:
      The curve; the mean response without modulation, None beside swings; the carrier in Hz, 0 for noise: for swings
      the one with the largest, for means always noise.
    """
    means, swings = layer.am[unit], layer.am_following[unit]
    noise = int(np.flatnonzero(bank.carriers == 0)[0])
    if 2.0 * swings.max() > np.ptp(means[noise]):
        carrier = int(swings.max(axis=1).argmax())
        return swings[carrier], None, float(bank.carriers[carrier])
    return means[noise], float(layer.flat[unit, noise]), float(bank.carriers[noise])


def peak(x: np.ndarray, y: np.ndarray) -> float:
    """Where an evenly or unevenly sampled curve is highest: the top of a parabola through its three highest points."""
    place = int(np.argmax(y))
    if not 0 < place < len(y) - 1:
        return float(x[place])
    (a, b, c), (p, q, r) = x[place - 1 : place + 2], y[place - 1 : place + 2]
    below = (b - a) * (q - r) - (b - c) * (q - p)
    if abs(below) < 1e-30:
        return float(b)
    top = b - 0.5 * ((b - a) ** 2 * (q - r) - (b - c) ** 2 * (q - p)) / below
    return float(min(max(top, a), c))


def _width(octaves: np.ndarray, curve: np.ndarray) -> float:
    """Octaves around the highest point over which a curve stays above the middle of its range; to the last tone."""
    middle = (curve.max() + curve.min()) / 2
    place = int(curve.argmax())
    ends = []
    for step, last in ((-1, 0), (1, len(curve) - 1)):
        at = place
        while at != last and curve[at + step] >= middle:
            at += step
        end = octaves[at]
        if at != last:
            end = end + (curve[at] - middle) / (curve[at] - curve[at + step]) * (octaves[at + step] - octaves[at])
        ends.append(float(end))
    return ends[1] - ends[0]


def _wide(octaves: float) -> str:
    nearest = min(_OCTAVES, key=lambda item: abs(math.log(item[0] / max(octaves, 1e-6))))
    return nearest[1] if octaves < 1.25 and octaves > 0.14 else f"{octaves:.2g} octaves"


def _hertz(value: float) -> str:
    return f"{value / 1000:.3g} kHz" if value >= 999.5 else f"{value:.3g} Hz"
