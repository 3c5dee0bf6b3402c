"""Labels on the page of an atlas: a unit's name where it is above chance, and what every source and function says."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nd_jax.dissect.labels import Labels, UnitLabel


class Labelled:
    """The labels of an atlas. Names of concepts are text; the page never reads them as markup.

    Args:
      labels: from `nd_jax.dissect.layer_labels`; None for a page without.
    """

    def __init__(self, labels: Labels | None):
        self.labels = labels
        self._places = {} if labels is None else {name: place for place, name in enumerate(labels.concepts)}

    def name(self, layer: str, unit: int) -> str:
        """What tiles, headings and searches call a unit: its label, if that is above chance."""
        label = None if self.labels is None else self.labels.best(layer, unit)
        return label.name if label is not None and label.above_chance else ""

    def about(self, layer: str) -> dict[str, Any]:
        """What all units of a layer share; {} for a layer without labels."""
        if self.labels is None or not self.labels.count(layer):
            return {}
        sources = self.labels.layers[layer]
        return {
            "labels": {
                "concepts": list(self.labels.concepts),
                "named": self.labels.named,
                "by": [self.labels.source, self.labels.function],
                "clips": {name: one.clips for name, one in sources.items()},
            }
        }

    def of(self, layer: str, unit: int) -> dict[str, Any]:
        """What is known about a unit; {} where it has no labels."""
        if self.labels is None:
            return {}
        rows = [
            [source, function, self._ranked(label), label.beaten, label.shuffles]
            for source, function, label in self.labels.every(layer, unit)
        ]
        asked = self.labels.answers.get(layer, {}).get(unit)
        if not rows and asked is None:
            return {}
        found: dict[str, Any] = {"rows": rows, "agree": list(self.labels.agreeing(layer, unit))}
        if asked is not None:
            found["said"] = [self._places[name] for name in asked]
        return {"labels": found}

    def _ranked(self, label: UnitLabel) -> list[list[Any]]:
        ranked = [(label.name, label.score), *label.others[:2]]
        return [[self._places[name], float(f"{score:.4g}") if math.isfinite(score) else None] for name, score in ranked]
