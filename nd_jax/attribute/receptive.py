"""Which part of the input a position of a layer sees, read off the gradients, whatever the network is made of."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import taps
from nd_jax.network import Network

# What is smaller than this share of the largest gradient is rounding.
_ROUNDING = 1e-5
_PROBES = 3
_POSITIONS = 16


@dataclasses.dataclass(frozen=True, eq=False)
class Field:
    """What the positions of a layer see along one axis of the input.

    Attributes:
      size: steps of the input.
      centres: (positions,) the middle of what each sees, in steps; steps have whole numbers.
      reach: how many steps each sees; at most 2 size - 1, where each sees all.
    """

    size: int
    centres: np.ndarray
    reach: int

    @property
    def matrix(self) -> np.ndarray:
        """(size, positions) weights that interpolate positions linearly to steps; the ends go on as they are."""
        rows = np.eye(len(self.centres))
        steps = np.arange(self.size)
        return np.stack([np.interp(steps, self.centres, row) for row in rows], axis=1).astype(np.float32)


def inner_shape(network: Network) -> tuple[int, ...]:
    """The input's shape without the channels.

    Raises:
      ValueError: a network that takes several arrays.
    """
    domain = network.input
    if not isinstance(domain.shape, tuple):
        raise ValueError("this network takes several arrays, and maps are for networks that take one")
    return tuple(domain.shape[:-1]) if domain.axes[-1].name == "channel" else tuple(domain.shape)


def positions_of(network: Network, layer: str) -> tuple[int, ...]:
    """How many positions a layer has along every axis of the input but the channels.

    Raises:
      LayerError: an unknown layer.
      ValueError: a layer without positions, or of other axes than the input.
    """
    inner, shape = inner_shape(network), taps.layer_shape(network, layer)
    if len(shape) != len(inner) + 1:
        fitting = [name for name, each in taps.layers(network).items() if len(each) == len(inner) + 1]
        raise ValueError(
            f"layer {layer!r} has the shape {shape} and no positions to lay over inputs of {inner}; layers that have: "
            f"{', '.join(fitting[:4]) or 'none'}{', ...' if len(fitting) > 4 else ''}"
        )
    return shape[:-1]


def fields(network: Network, layer: str) -> tuple[Field, ...]:
    """What a layer's positions see, along every axis of the input but the channels.

    A few positions are followed back to three noisy inputs: where the gradient is not 0 is what they see. What begins
    or ends inside the input lies on straight lines over the positions, from which all others follow. Where nothing
    does (every position sees everything), positions are laid over the input in equal parts. A reach through many layers
    fades at its ends; what carries less than 1e-5 of the largest gradient is not counted.

    Args:
      network: any Network that takes one array.
      layer: a layer with positions, as many axes of them as the input has.

    Raises:
      LayerError: an unknown layer.
      ValueError: a layer without such positions.
    """
    inner, positions = inner_shape(network), positions_of(network, layer)
    return tuple(_along(network, layer, axis, size, positions) for axis, size in enumerate(inner))


def _along(network: Network, layer: str, axis: int, size: int, positions: Sequence[int]) -> Field:
    count = positions[axis]
    chosen = np.unique(np.linspace(0, count - 1, min(count, _POSITIONS)).round().astype(int))
    place = [np.asarray(number // 2) for number in positions]
    starts, ends = {}, {}
    for number in chosen.tolist():
        place[axis] = np.asarray(number)
        profile = np.asarray(_profile(network, layer, axis, tuple(place)))
        seen = np.flatnonzero(profile > _ROUNDING * np.max(profile, initial=0.0))
        if not len(seen):
            continue
        if seen[0] > 0:
            starts[number] = int(seen[0])
        if seen[-1] < size - 1:
            ends[number] = int(seen[-1])
    first, last = _lines(starts, ends)
    if first is None or last is None:
        return Field(size, (np.arange(count) + 0.5) * size / count - 0.5, 2 * size - 1)
    low, high = (line[0] + line[1] * np.arange(count) for line in (first, last))
    return Field(size, (low + high) / 2, min(round(float(np.median(high - low))) + 1, 2 * size - 1))


def _lines(starts: dict[int, int], ends: dict[int, int]) -> tuple[tuple[float, float], ...] | tuple[None, None]:
    """(offset, slope) of starts and of ends over positions; None where too few of them lie inside of the input."""
    slopes = [np.polyfit(list(found), list(found.values()), 1)[0] for found in (starts, ends) if len(found) > 1]
    if not starts or not ends or not slopes or max(slopes) <= 0:
        return None, None
    slope = float(np.median(slopes))
    return tuple((float(np.median([at - slope * p for p, at in found.items()])), slope) for found in (starts, ends))


@functools.partial(jax.jit, static_argnames=("layer", "axis"))
def _profile(network: Network, layer: str, axis: int, place: tuple[jax.Array, ...]) -> jax.Array:
    """(size,) the largest gradient of one position along one axis of the input, over noisy inputs."""
    domain = network.input
    low, high = (float(np.clip(end, -3.0, 3.0)) for end in (domain.low, domain.high))
    noise, weights = jax.random.split(jax.random.key(0))
    x = jax.random.uniform(noise, (_PROBES, *domain.shape), minval=low, maxval=high)

    def score(x: jax.Array) -> jax.Array:
        values = taps.forward(network, x, (layer,))[1][layer]
        chosen = values[(slice(None), *place)]
        return jnp.sum(chosen * jax.random.normal(weights, chosen.shape))

    slopes = jnp.abs(jax.grad(score)(x))
    return jnp.max(slopes, axis=tuple(each for each in range(slopes.ndim) if each != axis + 1))
