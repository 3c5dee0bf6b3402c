"""Units, positions and outputs: reading what the caller wrote, and checking it against a network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import taps
from nd_jax.runtime import nearest
from nd_jax.visualize.objectives.core import KINDS, Term

if TYPE_CHECKING:
    from nd_jax.network import Network

Units = int | str | Sequence[int] | Sequence[str] | np.ndarray | None

OUTPUTS = ("auto", "logits", "probabilities")


def chosen_units(layer: str, units: Units) -> tuple[int | str, ...] | None:
    """Units as a tuple of numbers and label names, None for all.

    Raises:
      ValueError: no units, or something that is neither.
    """
    if units is None:
        return None
    if isinstance(units, str) or np.ndim(units) == 0:
        return (units if isinstance(units, str) else whole_number(layer, units),)
    given: Any = units
    chosen = tuple(unit if isinstance(unit, str) else whole_number(layer, unit) for unit in given)
    if not chosen:
        raise ValueError(f"no units of layer {layer!r} were given; None means all of them")
    return chosen


def whole_number(layer: str, unit: Any) -> int:
    """A unit's number.

    Raises:
      ValueError: something else.
    """
    number = np.asarray(unit)
    if number.ndim != 0 or number.dtype.kind not in "iu":
        raise ValueError(f"units of layer {layer!r} are whole numbers or label names, got {unit!r}")
    return int(number)


def checked_power(power: int) -> int:
    """A power that keeps its sign of a slope simple: 1 to 4."""
    if power not in (1, 2, 3, 4):
        raise ValueError(f"power must be 1, 2, 3 or 4, got {power!r}")
    return int(power)


def checked_cosine_power(power: float) -> float:
    """A power of a cosine, at least 0."""
    if not np.isfinite(power) or power < 0:
        raise ValueError(f"cosine_power must be 0 or more, got {power}")
    return float(power)


def place_of(position: int | Sequence[int] | None) -> tuple[int, ...] | None:
    """A position as a tuple, one index an axis."""
    if position is None:
        return None
    indices = np.atleast_1d(np.asarray(position))
    if indices.dtype.kind not in "iu" or indices.ndim != 1:
        raise ValueError(f"a position is a whole number an axis, got {position!r}")
    return tuple(int(index) for index in indices)


def output_name(part: str | None) -> str:
    """The name of an output as a layer."""
    return taps.OUTPUT if part is None else f"{taps.OUTPUT}[{part}]"


def at(activation: jax.Array, position: tuple[int, ...] | None) -> jax.Array:
    """(units,) of one position, None for the middle, n // 2."""
    place = tuple(size // 2 for size in activation.shape[:-1]) if position is None else position
    return activation[place]


def resolve(term: Term, network: Network) -> Term:
    """A term with its layer, position and units checked and its units as numbers.

    Raises:
      LayerError: a layer the network does not have.
      ValueError: a position or unit it does not have.
    """
    shape = taps.layer_shape(network, term.layer)
    count = unit_count(term, shape)
    options = dict(term.options)
    if "position" in options:
        options["position"] = _position(term.layer, shape, options["position"])
    units = tuple(range(count)) if term.units is None else term.units
    return dataclasses.replace(term, units=indices(network, term.layer, units, count), options=tuple(options.items()))


def unit_count(term: Term, shape: tuple[int, ...]) -> int:
    """How many units a term may choose from."""
    return int(np.prod(shape)) if KINDS[term.kind].whole_output else shape[-1]


def indices(network: Network, layer: str, units: Sequence[int | str], count: int) -> tuple[int, ...]:
    """The numbers of units, given by number or name.

    Raises:
      ValueError: a unit that the layer does not have.
    """
    names = _label_names(network, layer)
    return tuple(_index(layer, unit, count, names) for unit in units)


def gives_probabilities(network: Network, layer: str) -> bool:
    """Whether an output already comes out of a softmax: 0 to 1, with a sum of 1, on silence and on noise around it."""
    silence = network.input.silence()
    key = jax.random.key(0)

    def noisy(leaf: jax.Array) -> jax.Array:
        leaf = jnp.asarray(leaf)
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.stack([leaf, leaf])
        return jnp.stack([leaf, leaf + 0.1 * jax.random.uniform(key, leaf.shape, leaf.dtype)])

    out = np.asarray(taps.read(network, jax.tree.map(noisy, silence), layer)[layer], np.float64).reshape(2, -1)
    return bool(np.all(out >= 0) and np.all(out <= 1) and np.allclose(out.sum(axis=1), 1, atol=1e-3))


def checked_outputs(outputs: str) -> str:
    """One of `OUTPUTS`."""
    if outputs not in OUTPUTS:
        raise ValueError(f"unknown outputs {outputs!r}; {nearest(outputs, OUTPUTS)}")
    return outputs


def _position(layer: str, shape: tuple[int, ...], position: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if position is None or position == ():
        return position if position is None or len(shape) == 1 else _refuse(layer, shape, position)
    if len(position) != len(shape) - 1 or any(not 0 <= p < size for p, size in zip(position, shape[:-1], strict=True)):
        return _refuse(layer, shape, position)
    return position


def _refuse(layer: str, shape: tuple[int, ...], position: tuple[int, ...]) -> tuple[int, ...]:
    raise ValueError(f"layer {layer!r} has positions {shape[:-1]} (one index an axis), got {position}")


def _label_names(network: Network, layer: str) -> tuple[str, ...]:
    labels: Any = network.labels
    if isinstance(labels, Mapping):
        part = layer[len(taps.OUTPUT) + 1 : -1] if layer.startswith(taps.OUTPUT + "[") else layer
        return tuple(labels.get(part, ()))
    return tuple(labels) if layer == taps.OUTPUT else ()


def _index(layer: str, unit: int | str, count: int, names: tuple[str, ...]) -> int:
    if isinstance(unit, str):
        if not names:
            raise ValueError(
                f"the units of {layer!r} have no names; give whole numbers, 0 to {count - 1}, not {unit!r}"
            )
        if unit not in names:
            raise ValueError(f"no unit {unit!r} in {layer!r}; {nearest(unit, names)}")
        return names.index(unit)
    if not 0 <= unit < count:
        raise ValueError(f"layer {layer!r} has units 0 to {count - 1}, got unit {unit}")
    return unit
