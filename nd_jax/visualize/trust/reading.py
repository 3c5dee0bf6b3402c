"""What a network makes of many inputs, in batches of one size: scores of lanes, and activations as short vectors."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import taps
from nd_jax.domain.axes import time_axis
from nd_jax.network import Network
from nd_jax.visualize import objectives
from nd_jax.visualize.objectives import Bound
from nd_jax.visualize.objectives.core import Spec
from nd_jax.visualize.result import Visualization

BATCH = 32
LANES = 64
NUMBERS = 1 << 24
"""Activations that are read at once: fewer inputs a batch in networks with large layers."""
WIDTH = 1024
"""Numbers of a layer that a vector keeps, chosen once: rank correlations of so many are exact to a few hundredths."""


def count_of(inputs: Any) -> int:
    """Examples in a batch, array or dict."""
    return len(jax.tree.leaves(inputs)[0])


def rows(inputs: Any, index: Any) -> Any:
    """Some examples of a batch, as numpy arrays."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], inputs)


def best(result: Visualization) -> Any:
    """(lanes, ...) the input of each lane; of several the one with the highest score."""
    if np.ndim(result.scores) == 1:
        return rows(result.inputs, slice(None))
    place = np.argmax(np.nan_to_num(result.scores, nan=-np.inf), axis=1)
    return rows(result.inputs, (np.arange(len(result)), place))


class Reader:
    """Reads some lanes' scores, and vectors of some layers, always in the same compiled programs.

    Args:
      lanes: the objectives.
      layers: layers whose activations are wanted as vectors.
    """

    def __init__(self, lanes: Bound, layers: Sequence[str] = ()):
        self.lanes, self.layers = lanes, tuple(layers)
        self._read = tuple(dict.fromkeys((*objectives.layers_of(lanes.spec), *layers)))

    def scores(self, network: Network, inputs: Any) -> np.ndarray:
        """(inputs, lanes) float32: every objective on every input."""
        return self.heard(network, inputs)[0]

    def heard(self, network: Network, inputs: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The same, and {layer: (inputs, numbers)}: at most `WIDTH` numbers, averaged over time where there is any."""
        every = np.arange(len(self.lanes))
        parts, found = [], {layer: list[np.ndarray]() for layer in self.layers}
        for batch, places in _batches(inputs, batch_size(network, self._read)):
            activations = taps.read(network, batch, self._read)
            parts.append(self._scores(activations, every)[: len(places)])
            for layer, vectors in self._vectors(network, activations).items():
                found[layer].append(vectors[: len(places)])
        return np.concatenate(parts), {layer: np.concatenate(vectors) for layer, vectors in found.items()}

    def own(self, network: Network, inputs: Any) -> np.ndarray:
        """(lanes,) float32: objective i on input i."""
        return self.own_heard(network, inputs)[0]

    def own_heard(self, network: Network, inputs: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The same, and the vectors."""
        parts, found = [], {layer: list[np.ndarray]() for layer in self.layers}
        for batch, places in _batches(inputs, batch_size(network, self._read)):
            activations = taps.read(network, batch, self._read)
            parts.append(np.diagonal(self._scores(activations, places)))
            for layer, vectors in self._vectors(network, activations).items():
                found[layer].append(vectors[: len(places)])
        return np.concatenate(parts), {layer: np.concatenate(vectors) for layer, vectors in found.items()}

    def _scores(self, activations: Mapping[str, jax.Array], lanes: np.ndarray) -> np.ndarray:
        """(batch, lanes) of some lanes, `LANES` at a time."""
        columns = []
        read = {layer: activations[layer] for layer in objectives.layers_of(self.lanes.spec)}
        for start in range(0, len(lanes), LANES):
            part = lanes[start : start + LANES]
            arrays = jax.tree.map(jnp.asarray, self.lanes.select(np.resize(part, LANES)).arrays)
            columns.append(np.asarray(_every(read, arrays, spec=self.lanes.spec))[:, : len(part)])
        return np.concatenate(columns, axis=1)

    def _vectors(self, network: Network, activations: Mapping[str, jax.Array]) -> dict[str, np.ndarray]:
        found = {}
        for layer in self.layers:
            value = np.asarray(activations[layer])
            axis = time_axis(network.input, value.shape[1:])
            flat = (value if axis is None else value.mean(axis=axis)).reshape(len(value), -1)
            found[layer] = flat[:, chosen(flat.shape[-1])]
        return found


def maps(network: Network, inputs: Any, layer: str) -> np.ndarray:
    """(inputs, time, numbers) of one layer, at most `WIDTH` numbers; one step where it has no time axis."""
    parts = []
    for batch, places in _batches(inputs, batch_size(network, [layer])):
        value = np.asarray(taps.read(network, batch, layer)[layer])[: len(places)]
        axis = time_axis(network.input, value.shape[1:])
        value = value[:, None] if axis is None else np.moveaxis(value, axis, 1)
        value = value.reshape(*value.shape[:2], -1)
        parts.append(value[..., chosen(value.shape[-1])])
    return np.concatenate(parts)


def width(network: Network, shape: tuple[int, ...]) -> int:
    """Numbers of a layer's output for one example, averaged over time where there is any."""
    axis = time_axis(network.input, shape)
    return int(np.prod([size for place, size in enumerate(shape, start=1) if place != axis], dtype=int))


def chosen(size: int) -> np.ndarray:
    """The places of the numbers that a vector keeps of `size`, ascending."""
    if size <= WIDTH:
        return np.arange(size)
    return np.sort(np.random.default_rng(0).permutation(size)[:WIDTH])


def batch_size(network: Network, layers: Iterable[str]) -> int:
    """Inputs that are read at once, so that their activations in some layers stay within `NUMBERS`."""
    size = sum(int(np.prod(taps.layer_shape(network, layer), dtype=np.int64)) for layer in layers)
    return int(np.clip(NUMBERS // max(size, 1), 1, BATCH))


def _batches(inputs: Any, size: int) -> Iterator[tuple[Any, np.ndarray]]:
    """Batches of one size, the last filled up with its own examples, and the places of those that are meant."""
    total = count_of(inputs)
    for start in range(0, total, size):
        places = np.arange(start, min(start + size, total))
        yield jax.tree.map(jnp.asarray, rows(inputs, np.resize(places, size))), places


@functools.partial(jax.jit, static_argnames="spec")
def _every(activations: Mapping[str, jax.Array], arrays: Any, *, spec: Spec) -> jax.Array:
    def one(activation: Any) -> jax.Array:
        return jax.vmap(lambda lane: objectives.evaluate(spec, lane, activation))(arrays)

    # One input after the other: an objective may hold activations against a whole layer, and all at once need room.
    return jax.lax.map(one, dict(activations))
