"""What a unit was like at each moment of training: its picture, its tuning to tones, its weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nd_jax.domain import Domain
from nd_jax.report import pictures
from nd_jax.report.page import Page
from nd_jax.report.weights import written
from nd_jax.visualize.trust import reading

if TYPE_CHECKING:
    from nd_jax.dissect.tuning import Tuning
    from nd_jax.network import Network
    from nd_jax.visualize.result import Visualization

_SMALL = (192, 256)


@dataclasses.dataclass(frozen=True, eq=False)
class Moment:
    """A network at one moment of its training.

    Attributes:
      step: of the training.
      network: as it was then.
      results: what was optimised in it, one result a layer.
      tuning: its tuning curves, or None.
    """

    step: int
    network: Network
    results: Sequence[Visualization]
    tuning: Tuning | None = None


class Course:
    """Writes the moments of a training for the units of an atlas.

    Args:
      page: where files go.
      domain: of the networks' input.
      moments: in the order of training; none for a page without.

    Raises:
      ValueError: moments of another domain.
    """

    def __init__(self, page: Page, domain: Domain, moments: Sequence[Moment]):
        self.page, self.domain = page, domain
        self.moments = sorted(moments, key=lambda moment: moment.step)
        for moment in self.moments:
            if moment.network.input.to_dict() != domain.to_dict():
                raise ValueError(f"the network of step {moment.step} takes other inputs than the atlas shows")
        self._lanes = [
            {
                (layer, label): (result, lane)
                for result in moment.results
                for lane, (layer, label) in enumerate(zip(result.layers, result.labels, strict=True))
            }
            for moment in self.moments
        ]

    def about(self, layer: str, slug: str) -> dict[str, Any]:
        """What all units of a layer share: the steps, the tones, and the weights of every moment; {} without any."""
        if not self.moments or not any(layer in (name for name, _ in lanes) for lanes in self._lanes):
            return {}
        found: dict[str, Any] = {"steps": [moment.step for moment in self.moments]}
        tuned = [moment.tuning for moment in self.moments]
        if all(tuning is not None and layer in tuning.responses for tuning in tuned):
            assert tuned[0] is not None
            found["tones"] = [round(float(tone), 1) for tone in tuned[0].frequencies]
        sheets = self._weights(layer, slug)
        if sheets:
            found["weights"] = sheets
        return {"training": found}

    def of(self, layer: str, label: str, unit: int, stem: str) -> dict[str, Any]:
        """What is known about a unit over training; {} without a picture of it at every moment."""
        lanes = [lanes.get((layer, label)) for lanes in self._lanes]
        found = [lane for lane in lanes if lane is not None]
        if not found or len(found) < len(lanes):
            return {}
        strip, scores, dead = [], [], []
        for result, lane in found:
            picture = self.domain.picture(reading.rows(reading.best(result.select([lane])), 0))
            assert picture is not None
            strip.append(pictures.indexed(pictures.shrink(picture, *_SMALL)))
            scores.append(float(f"{float(np.max(result.scores[lane])):.4g}"))
            dead.append(result.status[lane].startswith("dead"))
        self.page.add(f"{stem}.training.png", pictures.encode_png(np.concatenate(strip)))
        about: dict[str, Any] = {"scores": [value if np.isfinite(value) else None for value in scores], "dead": dead}
        curves = [moment.tuning.responses.get(layer) for moment in self.moments if moment.tuning is not None]
        if unit >= 0 and len(curves) == len(self.moments) and all(curve is not None for curve in curves):
            about["tuning"] = [
                [float(f"{value:.4g}") for value in curve[unit]] for curve in curves if curve is not None
            ]
        return {"training": about}

    def _weights(self, layer: str, slug: str) -> list[dict[str, Any]]:
        from nd_jax.dissect.weights import composable

        found = []
        for place, moment in enumerate(self.moments):
            one = composable(moment.network, layer)
            if one is None:
                return []
            found.append(written(self.page, slug, one, heard=False, name=f"training.{place}"))
        return found
