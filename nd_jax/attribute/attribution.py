"""What an attribution is: for every value of an input how much it spoke for the target."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from nd_jax.attribute.spectra import TimeFrequency
from nd_jax.attribute.windows import Grid
from nd_jax.domain import Axis, Domain


@dataclasses.dataclass(frozen=True, eq=False)
class Attribution:
    """Of one clip or several, of one target or several.

    Attributes:
      values: the shape of the inputs, (*shape) or (clips, *shape); of an objective with several lanes with their axis
        before that of the input, (..., lanes, *shape). Positive speaks for the target.
      scores: of the inputs as they are, () or (clips,), or (..., lanes).
      labels: names of the targets: one for each lane, or each clip where clips have a class each, or one.
      method: such as "occlusion".
      domain: of the inputs.
      drops: of occlusion, (..., windows): how much the score falls without each window.
      grid: of occlusion, its windows.
      error: of integrated gradients, shape of `scores`: the sum of the values minus what it should be.
      view: the short-time spectrum whose shape the values have, where parts of a waveform's were taken away.
    """

    values: np.ndarray
    scores: np.ndarray
    labels: tuple[str, ...]
    method: str
    domain: Domain
    drops: np.ndarray | None = None
    grid: Grid | None = None
    error: np.ndarray | None = None
    view: TimeFrequency | None = None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.values, dtype=dtype, copy=copy)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the values."""
        return self.values.shape

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Of one map."""
        return (self.view or self.domain).axes

    def along(self, axis: str) -> np.ndarray:
        """The curve over one axis ("time", "frequency"): the mean over all others, (..., size).

        Raises:
          ValueError: the domain has no such axis.
        """
        names = [each.name for each in self.axes]
        if axis not in names:
            raise ValueError(f"the axes of this map are {', '.join(names)}, not {axis!r}")
        lead = self.values.ndim - len(names)
        others = tuple(lead + place for place, name in enumerate(names) if name != axis)
        return np.mean(self.values, axis=others)
