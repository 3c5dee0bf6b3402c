"""Where on an input the units of a layer are active, and what of it they hear."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from nd_jax import taps
from nd_jax.attribute import receptive, targets
from nd_jax.attribute.attribution import Attribution
from nd_jax.attribute.baselines import NEIGHBOURS, baseline_of
from nd_jax.domain import Domain, LogMel
from nd_jax.network import Network


@dataclasses.dataclass(frozen=True, eq=False)
class UnitMaps:
    """What `unit_maps` gives. (clips, ...) below is missing where one input was given.

    Attributes:
      layer: its name.
      units: (units,) which.
      activations: (clips, units, *positions) as the layer gives them.
      values: (clips, units, *inner) the same over the axes of the input without its channels.
      rest: like `values`, of the baseline: what a unit gives where there is nothing.
      strength: (clips, units) mean over positions of how far a unit is above its rest.
      without: (clips, *shape) the baseline.
      fields: what the positions see, along every axis.
      domain: of the input.
    """

    layer: str
    units: np.ndarray
    activations: np.ndarray
    values: np.ndarray
    rest: np.ndarray
    strength: np.ndarray
    without: np.ndarray
    fields: tuple[receptive.Field, ...]
    domain: Domain

    @property
    def order(self) -> np.ndarray:
        """(clips, units) places in `units`, the strongest first."""
        return np.argsort(-self.strength, axis=-1, kind="stable")

    @property
    def masks(self) -> np.ndarray:
        """(clips, units, *inner) in 0 ... 1: how far a unit is above its rest, over the largest value of that."""
        above = np.maximum(self.values - self.rest, 0.0)
        largest = above.max(axis=tuple(range(-len(self.fields), 0)), keepdims=True)
        return above / np.maximum(largest, 1e-12)

    def heard(self, x: Any) -> np.ndarray:
        """The input filtered by the mask of every unit: (clips, units, *shape).

        A mask m is a gain: samples are multiplied by it, levels of a log-mel fall by -20 log10 m dB, pixels go over
        into the baseline.

        Args:
          x: the input or inputs that were given to `unit_maps`.

        Raises:
          ValueError: other inputs.
        """
        given = np.asarray(x, np.float32)
        if given.shape != self.without.shape:
            raise ValueError(f"these maps are of inputs of shape {self.without.shape}, not {given.shape}")
        masks = self.masks.reshape(*self.masks.shape, *(1,) * (len(self.domain.shape) - len(self.fields)))
        axis = self.strength.ndim - 1
        shown, without = (np.expand_dims(each, axis) for each in (given, self.without))
        if isinstance(self.domain, LogMel):
            levels = np.asarray(self.domain.to_db(shown)) + 20 * np.log10(np.maximum(masks, 1e-6))
            return np.asarray(self.domain.from_db(levels), np.float32)
        return (without + masks * (shown - without)).astype(np.float32)

    def attribution(self, unit: int) -> Attribution:
        """How far one unit, by its number in the layer, is above its rest, for `parts` and `insertion_deletion`.

        Raises:
          ValueError: a unit that is not among `units`.
        """
        if unit not in self.units:
            raise ValueError(f"there is no map of unit {unit} of {self.layer}: there are {_few(self.units)}")
        place = int(np.flatnonzero(self.units == unit)[0])
        values = np.take(self.values - self.rest, place, axis=self.strength.ndim - 1)
        extra = len(self.domain.shape) - len(self.fields)
        values = np.broadcast_to(values[(..., *(None,) * extra)], (*self.strength.shape[:-1], *self.domain.shape))
        label = f"{self.layer}:{unit}"
        return Attribution(values, self.strength[..., place], (label,), f"activation of {label}", self.domain)


def unit_maps(
    network: Network,
    x: Any,
    layer: str,
    *,
    units: Sequence[int] | None = None,
    baseline: Any = "silence",
    key: jax.Array | None = None,
    batch_size: int = 16,
) -> UnitMaps:
    """The activation maps of the units of a layer on given inputs, over the axes of the input.

    A position stands where the middle of what it sees is (`receptive.fields`), and between positions lie straight
    lines: with a stride or a padding that is not the same on both sides, stretching a map over the input would be off.

    Args:
      network: any Network that takes one array.
      x: (*shape) or (clips, *shape).
      layer: a layer with positions, as many axes of them as the input has: (*positions, units).
      units: their numbers; all by default.
      baseline: what counts as nothing, see `baselines` (not "neighbours"): units answer to silence too.
      key: for the baseline "noise".
      batch_size: inputs at once.

    Raises:
      LayerError: an unknown layer.
      ValueError: a layer without positions, a unit that it does not have, inputs that do not fit.
    """
    size = targets.whole("batch_size", batch_size)
    if isinstance(baseline, str) and baseline == NEIGHBOURS:
        raise ValueError("baseline 'neighbours' belongs to windows: it is for occlusion only")
    clips, several = targets.inputs(network, x)
    count = taps.layer_shape(network, layer)[-1]
    chosen = np.arange(count) if units is None else np.asarray(units, int).reshape(-1)
    if not len(chosen) or chosen.min() < 0 or chosen.max() >= count:
        raise ValueError(f"layer {layer!r} has units 0 to {count - 1}, and not {_few(chosen)}")
    without = np.asarray(baseline_of(network.input, clips, baseline, key=key))
    found = receptive.fields(network, layer)
    both = []
    for given in (np.asarray(clips), without):
        read = [
            np.asarray(taps.read(network, given[first : first + size], layer)[layer])[..., chosen]
            for first in range(0, len(given), size)
        ]
        both.append(np.moveaxis(np.concatenate(read), -1, 1))
    above = both[0] - both[1]
    values, rest = (_spread(each, found) for each in both)
    strength = above.mean(axis=tuple(range(2, above.ndim)))
    pick: Any = slice(None) if several else 0
    one, over, idle, much, empty = (each[pick] for each in (both[0], values, rest, strength, without))
    return UnitMaps(layer, chosen, one, over, idle, much, empty, found, network.input)


def _spread(activations: np.ndarray, fields: Sequence[receptive.Field]) -> np.ndarray:
    """(clips, units, *positions) -> (clips, units, *inner)."""
    for axis, field in enumerate(fields):
        activations = np.moveaxis(np.tensordot(field.matrix, activations, axes=(1, axis + 2)), 0, axis + 2)
    return activations


def _few(numbers: np.ndarray) -> str:
    shown = ", ".join(map(str, numbers[:8].tolist()))
    return shown + (", ..." if len(numbers) > 8 else "") if len(numbers) else "none"
