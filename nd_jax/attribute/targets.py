"""What is explained: a number that a network gives for an input, of a class, a unit, a layer or a function of them.

int, str            the logit of a class, by number or label; a list of them has one for each clip
an objective        all its lanes for every clip: `nd.objectives.probability`, `channel`, `neuron`, `direction`, ...
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import taps
from nd_jax.network import Network
from nd_jax.visualize import objectives

Target = int | str | Sequence[int] | Sequence[str] | np.ndarray | objectives.Objective


def bound(network: Network, target: Target, clips: int) -> tuple[objectives.Bound, np.ndarray | None]:
    """A target checked against a network.

    Args:
      network: any Network.
      target: see the module's table.
      clips: how many inputs are explained.

    Returns:
      The objective with its lanes, and (clips,) the lane of each clip; None where each clip has all lanes.

    Raises:
      LayerError, ValueError: a class, layer or unit that there is not, as many targets as neither one nor the clips.
    """
    if isinstance(target, objectives.Objective):
        found = target.bind(network)
        coupled = [kind for kind, _, _ in found.spec if objectives.KINDS[kind].couples]
        if coupled:
            raise ValueError(f"{coupled[0]} compares several inputs, so it says nothing about one: it is no target")
        return found, None
    if target is None:
        raise ValueError("a target is a class, by number or label, or an objective (nd.objectives), not None")
    found = objectives.logit(target).bind(network)
    if np.ndim(target) == 0:
        return found, None
    if len(found) != clips:
        raise ValueError(
            f"{len(found)} classes are given for {clips} clip{'s' * (clips != 1)}: give one class, or one for each "
            "clip; for several on every clip give nd.objectives.logit([...])"
        )
    return found, np.arange(clips)


def scores(network: Network, spec: objectives.core.Spec, arrays: Any, x: Any) -> jax.Array:
    """The values of all lanes for a batch: (batch, *input.shape) -> (batch, lanes); traceable.

    Args:
      network: any Network.
      spec: `Bound.spec`.
      arrays: `Bound.arrays`.
      x: inputs.
    """
    return evaluated(spec, arrays, taps.forward(network, x, objectives.layers_of(spec))[1])


def evaluated(spec: objectives.core.Spec, arrays: Any, activations: Mapping[str, jax.Array]) -> jax.Array:
    """`scores` from what layers gave, {layer: (batch, ...)}."""

    def of_one(activations: Mapping[str, jax.Array]) -> jax.Array:
        return jax.vmap(lambda lane: objectives.evaluate(spec, lane, activations))(arrays)

    return jax.vmap(of_one)(activations)


@functools.partial(jax.jit, static_argnames="spec")
def scored(network: Network, spec: objectives.core.Spec, arrays: Any, x: Any) -> jax.Array:
    """`scores`, compiled."""
    return scores(network, spec, arrays, x)


def chosen(own: np.ndarray | None, clips: int, lanes: int) -> np.ndarray:
    """What gradients are taken of, (rows, clips, lanes): each clip's own lane, or one lane after the other."""
    if own is not None:
        return np.eye(lanes, dtype=np.float32)[own][None]
    return np.broadcast_to(np.eye(lanes, dtype=np.float32)[:, None], (lanes, clips, lanes))


def clip_keys(key: jax.Array, x: Any) -> jax.Array:
    """A key for each clip, (clips,): it depends on what the clip is, not on the clips around it."""
    sums = [zlib.crc32(np.ascontiguousarray(clip, np.float32).tobytes()) for clip in np.asarray(x)]
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.asarray(np.asarray(sums, np.uint32)))


def shaped(values: Any, own: np.ndarray | None, several: bool) -> np.ndarray:
    """(clips, lanes, ...) without the axes that nobody asked for: of the lanes if there is one, of a single clip."""
    array = np.asarray(values, np.float32)
    array = array[:, 0] if array.shape[1] == 1 or own is not None else array
    return array if several else array[0]


def inputs(network: Network, x: Any) -> tuple[jax.Array, bool]:
    """Inputs with an axis of clips, and whether it was there.

    Raises:
      ValueError: a network that takes several arrays, inputs of another shape, none, or values that are not finite.
    """
    domain = network.input
    if not isinstance(domain.shape, tuple) or not all(isinstance(size, int) for size in domain.shape):
        raise ValueError("attribution is for networks that take one array, and this one takes several")
    domain.check(x)
    values = jnp.asarray(x, jnp.float32)
    alone = values.ndim == len(domain.shape)
    values = values[None] if alone else values
    if not len(values):
        raise ValueError("there are no clips to explain")
    if not np.all(np.isfinite(np.asarray(values))):
        raise ValueError("inputs to explain must be finite numbers, and some are not")
    return values, not alone


def finite(scores: Any, given: str) -> None:
    """Raises ValueError unless all scores are finite; `given` says of what inputs they are."""
    if not np.all(np.isfinite(scores)):
        raise ValueError(f"the network gives scores that are not finite numbers for some of the {given} inputs")


def per_axis(given: Any, sizes: Sequence[int]) -> tuple[int, ...]:
    """Cells along every axis, from one whole number for all or one for each.

    Raises:
      ValueError: something else.
    """
    numbers = list(given) if np.iterable(given) and not isinstance(given, str) else [given] * len(sizes)
    fine = all(isinstance(number, (int, np.integer)) and not isinstance(number, bool) for number in numbers)
    if not fine or len(numbers) != len(sizes) or min(numbers) < 1:
        raise ValueError(f"cells are whole numbers of at least 1 for the axes {tuple(sizes)}, got {given!r}")
    return tuple(map(int, numbers))


def whole(name: str, value: Any) -> int:
    """A whole number of at least 1.

    Raises:
      ValueError: something else.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
    return int(value)
