"""Measured tuning on the page of an atlas: maps over frequency and level, ripples, fields, and curves over modulation.

One sheet a layer and kind of map, a tile a unit, as of weights; every unit up to its own range, which is said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nd_jax.dissect.tuning_unit import modulation_curve, ripple_map
from nd_jax.domain import Axis, Picture
from nd_jax.report import pictures
from nd_jax.report.page import Page
from nd_jax.report.weights import sheet

if TYPE_CHECKING:
    from nd_jax.dissect.tuning_sweep import LayerTuning, MeasuredTuning

_KINDS = ("tones", "ripples", "strf")


class Measured:
    """Writes the measured tuning of the layers of an atlas.

    Args:
      page: where files go.
      found: from `nd_jax.dissect.measured_tuning`; None for a page without.
    """

    def __init__(self, page: Page, found: MeasuredTuning | None):
        self.page, self.found = page, found

    def about(self, layer: str, slug: str) -> dict[str, Any]:
        """What all units of a layer share, after writing their maps; {} for a layer that was not measured."""
        tuned = None if self.found is None else self.found.layers.get(layer)
        if self.found is None or tuned is None:
            return {}
        count = len(tuned.silence)
        maps = {}
        for kind in _KINDS:
            drawn = [self._picture(kind, tuned, unit) for unit in range(count)]
            across = math.ceil(math.sqrt(count))
            self.page.add(f"{slug}/tuning.{kind}.png", sheet(drawn, across, kind == "strf"))
            maps[kind] = _described(drawn[0], across, count, kind == "strf")
        rates = [float(f"{rate:.4g}") for rate in self.found.bank.rates]
        return {"tuned": {"maps": maps, "rates": rates, "moving": tuned.moving}}

    def of(self, layer: str, unit: int) -> dict[str, Any]:
        """What is known about a unit; {} where it was not measured."""
        tuned = None if self.found is None else self.found.layers.get(layer)
        if self.found is None or tuned is None or not 0 <= unit < len(tuned.silence):
            return {}
        figures = self.found.unit(layer, unit)
        about: dict[str, Any] = {"words": str(figures), "answers": figures.answers}
        if figures.answers:
            curve, flat, carrier = modulation_curve(self.found.bank, tuned, unit)
            about |= {
                "q": _short(figures.q),
                "threshold": _short(figures.threshold_db),
                "range": _short(figures.dynamic_range_db),
                "am": [_short(value) for value in curve],
                "flat": _short(flat),
                "carrier": _short(carrier),
                "swings": ripple_map(tuned, unit)[2],
                "score": _short(figures.strf_score),
                "ends": {kind: self._ends(kind, tuned, unit) for kind in _KINDS},
            }
        return {"tuned": about}

    def _picture(self, kind: str, tuned: LayerTuning, unit: int) -> Picture:
        assert self.found is not None
        bank = self.found.bank
        if kind == "tones":
            x = Axis("frequency", "Hz", bank.frequencies, scale="log")
            values, y = tuned.tones[unit], Axis("level", "dBFS", bank.levels)
        elif kind == "ripples":
            x = Axis("rate", "Hz", bank.ripple_rates, scale="octaves")
            values, y = ripple_map(tuned, unit)[0], Axis("density", "cycles/octave", bank.densities, scale="steps")
        else:
            x = Axis("time", "s", tuned.times)
            values, y = tuned.strf[unit], Axis("frequency", "Hz", bank.bands, scale="log")
        low, high = float(values.min()), float(values.max())
        flipped = Axis(y.name, y.unit, y.values[::-1], y.scale)
        return Picture(values[::-1], x, flipped, "", low, max(high, low + 1e-12))

    def _ends(self, kind: str, tuned: LayerTuning, unit: int) -> list[float]:
        values = self._picture(kind, tuned, unit).values
        return [float(f"{float(value):.3g}") for value in (values.min(), values.max())]


def _described(first: Picture, across: int, count: int, signed: bool) -> dict[str, Any]:
    """What the page's script needs to draw a tile of a sheet with its axes."""
    rows, columns = first.values.shape
    return {
        "rows": rows,
        "columns": columns,
        "across": across,
        "down": math.ceil(count / across),
        "signed": signed,
        **{
            which: {"title": _title(axis), "ticks": [[round(share, 4), text] for share, text in _ticks(axis)]}
            for which, axis in (("x", first.x), ("y", first.y))
        },
    }


def _title(axis: Axis) -> str:
    return pictures.axis_title(Axis(axis.name, axis.unit, axis.values))


def _ticks(axis: Axis) -> list[tuple[float, str]]:
    if axis.scale not in ("octaves", "steps"):
        return pictures.ticks(axis, 5)
    values: Sequence[float] = np.asarray(axis.values, np.float64).tolist()
    step = max(1, math.ceil(len(values) / 8))
    return [
        ((place + 0.5) / len(values), f"{value:.2g}".replace("-", "−"))
        for place, value in enumerate(values)
        if place % step == 0
    ]


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{float(value):.4g}")
