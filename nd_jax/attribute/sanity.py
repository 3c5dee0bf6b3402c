"""Does a map depend on what the network has learned? If not, it shows the input and nothing of the network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from nd_jax import taps
from nd_jax.attribute import targets
from nd_jax.network import Network
from nd_jax.visualize.trust import random_twin


@dataclasses.dataclass(frozen=True, eq=False)
class Randomisation:
    """How alike maps are to those of the trained network, while its layers lose what they have learned.

    Attributes:
      layers: from the output down; row i has random weights in layers 0 ... i (cascading) or in layer i alone.
      similarity: (layers, clips) Spearman's rank correlation of the maps, 1 for the same order of values.
      absolute: likewise of their absolute values.
    """

    layers: tuple[str, ...]
    similarity: np.ndarray
    absolute: np.ndarray


def randomisation(
    network: Network,
    x: Any,
    explain: Callable[[Network, jax.Array], Any],
    *,
    key: jax.Array,
    cascading: bool = True,
) -> Randomisation:
    """The model parameter randomisation test (Adebayo et al. 2018, section 3.1).

        nd.attribute.randomisation(net, x, lambda n, x: nd.attribute.saliency(n, x, [3, 7]), key=key)

    A layer is what has a kernel of its own, with its bias; its weights become those that the module itself starts with
    (`nd.visualize.trust.random_twin`).

    Args:
      network: the trained network.
      x: inputs, (clips, *shape).
      explain: (network, x) -> an `Attribution` or an array, (clips, ...).
      key: of the weights.
      cascading: from the output down all layers so far; or one layer at a time.

    Raises:
      ValueError: a network without weights, or maps that are not one for each clip.
    """
    clips, _ = targets.inputs(network, x)
    layers = tuple(reversed([name.split("#")[0] for name in taps.weighted_layers(network)]))
    layers = tuple(dict.fromkeys(layers))
    if not layers:
        raise ValueError("this network has no layer with a kernel, so there is nothing to randomise")
    trained = _maps(explain(network, clips), len(clips))
    twin = random_twin(network, key)
    rows, absolute = [], []
    for place, _ in enumerate(layers):
        chosen = layers[: place + 1] if cascading else (layers[place],)
        mixed = dataclasses.replace(network, variables=_mixed(network.variables, twin.variables, chosen))
        found = _maps(explain(mixed, clips), len(clips))
        rows.append([rank_correlation(*pair) for pair in zip(trained, found, strict=True)])
        absolute.append([rank_correlation(np.abs(a), np.abs(b)) for a, b in zip(trained, found, strict=True)])
    return Randomisation(layers, np.asarray(rows), np.asarray(absolute))


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's correlation of two arrays; equal values share their mean rank; with a constant array it is 0."""
    ranks = [_ranks(np.ravel(each)) for each in (a, b)]
    centred = [each - each.mean() for each in ranks]
    length = np.sqrt(np.prod([np.sum(np.square(each)) for each in centred]))
    return float(np.sum(centred[0] * centred[1]) / length) if length > 0 else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[place]


def _maps(given: Any, clips: int) -> np.ndarray:
    values = np.asarray(given, np.float64)
    if values.ndim < 2 or len(values) != clips:
        raise ValueError(f"explain must give one map for each of {clips} clips, and gives the shape {values.shape}")
    return values


def _mixed(trained: Any, fresh: Any, layers: tuple[str, ...]) -> Any:
    """The trained parameters, with those right inside of some layers taken from `fresh`."""

    def pick(path: tuple[Any, ...], own: Any, other: Any) -> Any:
        names = [str(getattr(key, "key", key)) for key in path]
        return other if names[0] == "params" and "/".join(names[1:-1]) in layers else own

    if not isinstance(trained, Mapping):
        return trained
    return jax.tree_util.tree_map_with_path(pick, dict(trained), dict(fresh))
