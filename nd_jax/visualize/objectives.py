"""Objectives: from a network's activations to one number a lane, to be climbed.

An objective is a batch of lanes, one unit a lane; units are arrays, so that all units of a layer share one compiled
program. Objectives add, subtract and scale, and carry their labels along:

    nd.objectives.channel("block1/conv", range(128))                       # 128 lanes
    nd.objectives.logit(["dog"]) - 0.5 * nd.objectives.logit(["rooster"])  # one lane

Every factory gives sum over terms of weight * value(activations), where a term reads one layer. Layer and unit names
are checked against the network before anything is compiled (`Objective.bind`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import taps
from nd_jax.runtime import nearest

if TYPE_CHECKING:
    from nd_jax.network import Network

Units = int | str | Sequence[int] | Sequence[str] | np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Term:
    """One summand: what it reads and how it becomes a number.

    Attributes:
      kind: a key of `_VALUES`.
      layer: layer name; `"output"` and `"output[part]"` are the network's own output.
      units: one unit (index or output label) per lane, None for all units of the layer, () for none.
      arrays: further numbers per lane, {name: (lanes, ...)}.
      options: static settings of the kind.
      weight: (lanes,) or (1,).
    """

    kind: str
    layer: str
    units: tuple[int | str, ...] | None
    arrays: Mapping[str, np.ndarray]
    options: tuple[tuple[str, Any], ...]
    weight: np.ndarray

    @property
    def spec(self) -> tuple[str, str, tuple[tuple[str, Any], ...]]:
        """The static part: what decides the compiled program."""
        return (self.kind, self.layer, self.options)


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["arrays", "units"], meta_fields=["spec", "labels", "layers"]
)
@dataclasses.dataclass(frozen=True)
class Bound:
    """An objective checked against a network: a pytree whose leaves have a leading axis of lanes.

    Attributes:
      spec: static description of the terms.
      arrays: one dict of arrays a term, each with leading axis lanes.
      labels: one name a lane, "block1/conv:7"; the lane's identity.
      layers: the layer of the first term, per lane.
      units: (lanes,) the unit, -1 for a sum and for an objective that is not one unit.
    """

    spec: tuple[tuple[str, str, tuple[tuple[str, Any], ...]], ...]
    arrays: tuple[dict[str, np.ndarray], ...]
    labels: tuple[str, ...]
    layers: tuple[str, ...]
    units: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def bind(self, network: Network) -> Bound:
        """Checks again that the network has the layers; returns self."""
        for _, layer, _ in self.spec:
            taps.layer_shape(network, layer)
        return self

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready description without the arrays; `from_dict` reverses it."""
        return {
            "spec": [[kind, layer, [list(option) for option in options]] for kind, layer, options in self.spec],
            "labels": list(self.labels),
            "layers": list(self.layers),
        }

    @staticmethod
    def from_dict(description: Mapping[str, Any], arrays: Sequence[Mapping[str, Any]], units: Any) -> Bound:
        """Rebuilds what `to_dict` described; unknown kinds raise ValueError."""
        spec = tuple((str(kind), str(layer), _frozen(options)) for kind, layer, options in description["spec"])
        for kind, _, _ in spec:
            if kind not in _VALUES:
                raise ValueError(f"unknown objective {kind!r}; {nearest(kind, _VALUES)}")
        plain = tuple({name: np.asarray(array) for name, array in part.items()} for part in arrays)
        return Bound(spec, plain, tuple(description["labels"]), tuple(description["layers"]), np.asarray(units))

    def select(self, lanes: Any) -> Bound:
        """The given lanes only."""
        index = np.atleast_1d(np.asarray(lanes, int))
        return Bound(
            self.spec,
            tuple({name: array[index] for name, array in arrays.items()} for arrays in self.arrays),
            tuple(self.labels[i] for i in index),
            tuple(self.layers[i] for i in index),
            self.units[index],
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Objective:
    """A weighted sum of terms for a batch of lanes; made by the factories below."""

    terms: tuple[Term, ...]

    def __add__(self, other: Objective) -> Objective:
        if not isinstance(other, Objective):
            return NotImplemented
        return Objective((*self.terms, *other.terms))

    def __sub__(self, other: Objective) -> Objective:
        return self + (-1.0) * other

    def __radd__(self, other: Any) -> Objective:
        # sum() begins with 0.
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def __truediv__(self, divisor: float) -> Objective:
        return self * (1.0 / divisor)

    def __mul__(self, factor: float) -> Objective:
        number = np.asarray(factor, np.float32)
        if number.ndim != 0 or not np.isfinite(number):
            raise ValueError(f"an objective is scaled by one finite number, got {factor!r}")
        return Objective(tuple(dataclasses.replace(term, weight=term.weight * number) for term in self.terms))

    __rmul__ = __mul__

    def __neg__(self) -> Objective:
        return (-1.0) * self

    def bind(self, network: Network) -> Bound:
        """Checks every layer and unit against a network and resolves names.

        Raises:
          LayerError: a layer the network does not have, with the nearest names.
          ValueError: a unit it does not have, or terms with different numbers of lanes.
        """
        resolved = [_resolve(term, network) for term in self.terms]
        counts = [_lanes(term) for term in resolved]
        lanes = max(counts)
        if any(count not in (1, lanes) for count in counts):
            raise ValueError(f"the terms of an objective have {counts} lanes; give each the same number, or one")
        arrays = tuple(_stack(term, lanes) for term in resolved)
        labels = tuple(_label(resolved, lane) for lane in range(lanes))
        none = np.full(lanes, -1, np.int32)
        first = arrays[0].get("unit", none) if len(resolved) == 1 else none
        return Bound(tuple(term.spec for term in resolved), arrays, labels, (resolved[0].layer,) * lanes, first)


def neuron(
    layer: str, units: Units = None, position: int | Sequence[int] | None = None, *, power: int = 1
) -> Objective:
    """The activation of a unit at one position.

    Args:
      layer: layer name.
      units: unit indices, one lane each; None for all.
      position: index on every axis before the last; None for the middle, n // 2 (Lucid's default).
      power: activation ** power.
    """
    place = _place(position)
    return _single("neuron", layer, units, (("position", place), ("power", _power(power))))


def channel(layer: str, units: Units = None, *, power: int = 1) -> Objective:
    """The mean activation of a unit over all positions of the layer.

    Args:
      layer: layer name.
      units: unit indices, one lane each; None for all.
      power: the mean of activation ** power (2: Neural Dissection's objective, which also climbs negative activations).
    """
    return _single("channel", layer, units, (("power", _power(power)),))


def layer(name: str, *, power: int = 2) -> Objective:
    """The mean of activation ** power over a whole layer, one lane (DeepDream for power 2)."""
    return Objective((Term("layer", name, (), {}, (("power", _power(power)),), np.ones(1, np.float32)),))


def logit(classes: Units = None, *, part: str | None = None) -> Objective:
    """An output of the network, before any softmax.

    Args:
      classes: indices or label names, one lane each; None for all.
      part: which output, for a network with several ("pitch").
    """
    return _single("logit", _output_name(part), classes, ())


def probability(classes: Units = None, *, part: str | None = None) -> Objective:
    """The softmax probability of an output; arguments as `logit`."""
    return _single("probability", _output_name(part), classes, ())


def direction(
    layer: str, vectors: Any, *, cosine_power: float = 0.0, position: int | Sequence[int] | None = None
) -> Objective:
    """The activation along a direction: mean over positions of (a . v) * max(0.1, cos(a, v)) ** cosine_power.

    Lucid's dot x cosine ** p (Olah et al. 2017; Lucid issue 116); a power of 0 is the plain dot product.

    Args:
      layer: layer name.
      vectors: (units,) or (lanes, units); they are normalised to length one.
      cosine_power: p >= 0.
      position: only at this position; None for the mean over all.
    """
    array = np.atleast_2d(np.asarray(vectors, np.float32))
    if array.ndim != 2 or not np.all(np.isfinite(array)):
        raise ValueError(f"directions must be finite and of shape (units,) or (lanes, units), got shape {array.shape}")
    norms = np.linalg.norm(array, axis=-1, keepdims=True)
    if np.any(norms == 0):
        raise ValueError("a direction of length zero points nowhere")
    if cosine_power < 0:
        raise ValueError(f"cosine_power must be 0 or more, got {cosine_power}")
    place = _place(position)
    options = (("cosine_power", float(cosine_power)), ("position", place))
    return Objective((Term("direction", layer, (), {"vector": array / norms}, options, np.ones(1, np.float32)),))


def evaluate(spec: Any, arrays: Sequence[Mapping[str, jax.Array]], activations: Mapping[str, jax.Array]) -> jax.Array:
    """The value of one lane.

    Args:
      spec: `Bound.spec`.
      arrays: `Bound.arrays` of this lane, without the leading axis.
      activations: {layer: output for one example, without a batch axis}.

    Returns:
      A scalar.
    """
    total = jnp.zeros((), jnp.float32)
    for (kind, name, options), values in zip(spec, arrays, strict=True):
        activation = jnp.atleast_1d(activations[name].astype(jnp.float32))
        value = _VALUES[kind](activation, values, **dict(options))
        total = total + values["weight"] * value
    return total


def noise_floor(
    spec: Any, arrays: Sequence[Mapping[str, jax.Array]], activations: Mapping[str, jax.Array]
) -> jax.Array:
    """What rounding alone can make of the value of a lane: scores within it say nothing.

    Along a direction large activations may cancel: a . v of a unit that is silent is then not zero but noise. The other
    kinds read units one by one and have no such floor.

    Args and shape as `evaluate`.
    """
    total = jnp.zeros((), jnp.float32)
    for (kind, name, _), values in zip(spec, arrays, strict=True):
        if kind != "direction":
            continue
        flat = activations[name].astype(jnp.float32).reshape(-1, activations[name].shape[-1])
        error = 4 * float(np.finfo(np.float32).eps) * float(np.sqrt(flat.shape[-1]))
        total = total + jnp.abs(values["weight"]) * error * jnp.mean(jnp.sqrt(jnp.sum(jnp.square(flat), axis=-1)))
    return jax.lax.stop_gradient(total)


def _neuron(
    activation: jax.Array, arrays: Mapping[str, jax.Array], position: tuple[int, ...] | None, power: int
) -> jax.Array:
    return jnp.take(_at(activation, position), arrays["unit"], axis=-1) ** power


def _channel(activation: jax.Array, arrays: Mapping[str, jax.Array], power: int) -> jax.Array:
    # Pool first, select after: the gradient's scatter then touches one number a unit, not one a position.
    pooled = jnp.mean((activation**power).reshape(-1, activation.shape[-1]), axis=0)
    return jnp.take(pooled, arrays["unit"], axis=-1)


def _layer(activation: jax.Array, arrays: Mapping[str, jax.Array], power: int) -> jax.Array:
    return jnp.mean(activation**power)


def _logit(activation: jax.Array, arrays: Mapping[str, jax.Array]) -> jax.Array:
    return jnp.take(activation.reshape(-1), arrays["unit"], axis=-1)


def _probability(activation: jax.Array, arrays: Mapping[str, jax.Array]) -> jax.Array:
    return jnp.take(jax.nn.softmax(activation.reshape(-1)), arrays["unit"], axis=-1)


def _direction(
    activation: jax.Array,
    arrays: Mapping[str, jax.Array],
    cosine_power: float,
    position: tuple[int, ...] | None,
) -> jax.Array:
    vector = arrays["vector"]
    flat = activation.reshape(-1, activation.shape[-1]) if position is None else _at(activation, position)[None]
    dots = flat @ vector
    if cosine_power == 0:
        return jnp.mean(dots)
    # The small constant keeps the gradient finite where the activation is exactly zero.
    cosines = dots / jnp.sqrt(jnp.sum(flat**2, axis=-1) + 1e-12)
    return jnp.mean(dots * jnp.maximum(cosines, 0.1) ** cosine_power)


_VALUES: dict[str, Callable[..., jax.Array]] = {
    "neuron": _neuron,
    "channel": _channel,
    "layer": _layer,
    "logit": _logit,
    "probability": _probability,
    "direction": _direction,
}


def _frozen(value: Any) -> Any:
    return tuple(_frozen(part) for part in value) if isinstance(value, list) else value


def _at(activation: jax.Array, position: tuple[int, ...] | None) -> jax.Array:
    place = tuple(size // 2 for size in activation.shape[:-1]) if position is None else position
    return activation[place]


def _place(position: int | Sequence[int] | None) -> tuple[int, ...] | None:
    return None if position is None else tuple(int(index) for index in np.atleast_1d(np.asarray(position)))


def _power(power: int) -> int:
    if power not in (1, 2, 3, 4):
        raise ValueError(f"power must be 1, 2, 3 or 4, got {power!r}")
    return int(power)


def _output_name(part: str | None) -> str:
    return taps.OUTPUT if part is None else f"{taps.OUTPUT}[{part}]"


def _single(kind: str, layer: str, units: Units, options: tuple[tuple[str, Any], ...]) -> Objective:
    if not isinstance(layer, str):
        raise ValueError(f"a layer is given by its name, got {layer!r}")
    if units is None:
        chosen: tuple[int | str, ...] | None = None
    elif isinstance(units, str) or np.ndim(units) == 0:
        chosen = (units if isinstance(units, str) else _integer(layer, units),)
    else:
        given: Any = units
        chosen = tuple(unit if isinstance(unit, str) else _integer(layer, unit) for unit in given)
        if not chosen:
            raise ValueError(f"no units of layer {layer!r} were given; None means all of them")
    return Objective((Term(kind, layer, chosen, {}, options, np.ones(1, np.float32)),))


def _integer(layer: str, unit: Any) -> int:
    number = np.asarray(unit)
    if number.ndim != 0 or number.dtype.kind not in "iu":
        raise ValueError(f"units of layer {layer!r} are whole numbers or label names, got {unit!r}")
    return int(number)


def _resolve(term: Term, network: Network) -> Term:
    shape = taps.layer_shape(network, term.layer)
    count = shape[-1] if term.kind not in ("logit", "probability") else int(np.prod(shape))
    if term.kind == "probability" and count < 2:
        raise ValueError(f"{term.layer!r} has one unit, and a softmax needs two; use objectives.logit")
    options = dict(term.options)
    if "position" in options:
        options["position"] = _position(term.layer, shape, options["position"])
    if "vector" in term.arrays and term.arrays["vector"].shape[-1] != count:
        given = term.arrays["vector"].shape[-1]
        raise ValueError(f"a direction in layer {term.layer!r} has {count} numbers, got {given}")
    units = term.units
    if units is None:
        units = tuple(range(count))
    names = _label_names(network, term.layer)
    indices = tuple(_index(term.layer, unit, count, names) for unit in units)
    return dataclasses.replace(term, units=indices, options=tuple(options.items()))


def _position(layer: str, shape: tuple[int, ...], position: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if position is None:
        return None
    if len(position) != len(shape) - 1 or any(not 0 <= p < size for p, size in zip(position, shape[:-1], strict=True)):
        raise ValueError(f"layer {layer!r} has positions {shape[:-1]} (one index an axis), got {position}")
    return position


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


def _lanes(term: Term) -> int:
    sizes = [len(array) for array in term.arrays.values()]
    return max([len(term.units or ()), len(term.weight), *sizes, 1])


def _stack(term: Term, lanes: int) -> dict[str, np.ndarray]:
    def spread(array: np.ndarray) -> np.ndarray:
        return np.broadcast_to(array, (lanes, *array.shape[1:])) if len(array) == 1 else array

    arrays = {name: spread(np.asarray(array)) for name, array in term.arrays.items()}
    if term.units:
        arrays["unit"] = spread(np.asarray(term.units, np.int32))
    arrays["weight"] = spread(np.asarray(term.weight, np.float32))
    return arrays


def _label(terms: Sequence[Term], lane: int) -> str:
    parts = []
    for term in terms:
        place = dict(term.options).get("position")
        units = term.units or ()
        name = term.layer if term.kind != "probability" else f"probability of {term.layer}"
        text = name + (f":{units[lane if len(units) > 1 else 0]}" if units else "")
        if "vector" in term.arrays:
            rows = term.arrays["vector"]
            text += f":direction {_digest(rows[lane if len(rows) > 1 else 0])}"
        if term.kind == "neuron":
            text += "@" + (",".join(map(str, place)) if place is not None else "middle")
        if dict(term.options).get("power", 1) != 1:
            text += f"^{dict(term.options)['power']}"
        weight = float(term.weight[lane if len(term.weight) > 1 else 0])
        parts.append(text if weight == 1 else f"{weight:g} * {text}")
    return " + ".join(parts)


def _digest(vector: np.ndarray) -> str:
    import hashlib

    return hashlib.sha256(np.ascontiguousarray(vector, np.float32).tobytes()).hexdigest()[:8]
