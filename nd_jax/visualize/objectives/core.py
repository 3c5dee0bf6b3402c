"""Terms, sums of them and what they become on a network; the kinds themselves are in the files beside this one."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import pytree, taps
from nd_jax.runtime import nearest

if TYPE_CHECKING:
    from nd_jax.network import Network

Options = tuple[tuple[str, Any], ...]
Spec = tuple[tuple[str, str, Options], ...]


@dataclasses.dataclass(frozen=True)
class Term:
    """One summand: what it reads and how it becomes a number.

    Attributes:
      kind: a key of `KINDS`.
      layer: layer name; `"output"` and `"output[part]"` are the network's own output.
      units: one unit (index or output label) per lane, None for all units of the layer, () for none.
      arrays: further numbers per lane, {name: (lanes, ...)}.
      options: static settings of the kind.
      weight: (lanes,) or (1,).
      share: (lanes, inputs) or (1, inputs) factors on the inputs of a lane, or None.
      target: inputs of the network to be read when the term is bound, a tree (lanes, ...), or None.
      names: labels of the user's own, one a lane or one for all.
    """

    kind: str
    layer: str
    units: tuple[int | str, ...] | None
    arrays: Mapping[str, np.ndarray]
    options: Options
    weight: np.ndarray
    share: np.ndarray | None = None
    target: Any = None
    names: tuple[str, ...] = ()

    @property
    def spec(self) -> tuple[str, str, Options]:
        """The static part: what decides the compiled program."""
        return (self.kind, self.layer, self.options)


@dataclasses.dataclass(frozen=True)
class ObjectiveKind:
    """What the terms of a kind do.

    Attributes:
      value: (activations {layer: output for one example}, layer, arrays of the lane, **options) -> a scalar; of a kind
        that couples (inputs, ...) -> (inputs,).
      resolve: (term, network) -> the term checked, and its options and arrays completed.
      describe: (term, lane) -> its label, without the weight.
      per_unit: whether a lane is one unit, named by `Term.units`.
      whole_output: whether units are counted over the whole output instead of along its last axis.
      couples: whether a lane's inputs are valued together.
      rounding: None, or (activations, layer, arrays, options) -> what rounding alone makes of the value.
    """

    value: Callable[..., jax.Array]
    resolve: Callable[[Term, Any], Term]
    describe: Callable[[Term, int], str]
    per_unit: bool = False
    whole_output: bool = False
    couples: bool = False
    rounding: Callable[..., jax.Array] | None = None


KINDS: dict[str, ObjectiveKind] = {}


@functools.partial(pytree.register, data_fields=["arrays", "units"], meta_fields=["spec", "labels", "layers"])
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

    spec: Spec
    arrays: tuple[dict[str, np.ndarray], ...]
    labels: tuple[str, ...]
    layers: tuple[str, ...]
    units: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def bind(self, network: Network) -> Bound:
        """Checks again that the network has the layers; returns self.

        Raises:
          LayerError: a layer the network does not have.
          ValueError: a function of the user's own that a saved result does not hold.
        """
        for layer in layers_of(self.spec):
            taps.layer_shape(network, layer)
        for _, _, options in self.spec:
            for _, value in options:
                if isinstance(value, Missing):
                    raise ValueError(str(value))
        return self

    def check_inputs(self, inputs: int) -> None:
        """Raises ValueError unless lanes of so many inputs can be valued."""
        for (kind, layer, _), arrays in zip(self.spec, self.arrays, strict=True):
            if KINDS[kind].couples and inputs < 2:
                raise ValueError(f"{kind} of {layer!r} compares the inputs of a lane: give inputs_per_lane=2 or more")
            if "share" in arrays and arrays["share"].shape[-1] != inputs:
                count = arrays["share"].shape[-1]
                raise ValueError(f"this objective is a path of {count} inputs a lane: give inputs_per_lane={count}")

    def with_functions(self, *functions: Callable[..., Any]) -> Bound:
        """Puts functions of the user's own back in where a saved result only has their names.

        Raises:
          ValueError: a function whose name is not among those that are missing.
        """
        given = {qualified(function): function for function in functions}
        wanted = {value.name for _, _, options in self.spec for _, value in options if isinstance(value, Missing)}
        for name in given:
            if name not in wanted:
                raise ValueError(f"no function {name!r} is missing here; {nearest(name, wanted)}")

        def filled(value: Any) -> Any:
            return given.get(value.name, value) if isinstance(value, Missing) else value

        spec = tuple(
            (kind, layer, tuple((name, filled(value)) for name, value in options)) for kind, layer, options in self.spec
        )
        return dataclasses.replace(self, spec=spec)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready description without the arrays; `from_dict` reverses it."""
        return {
            "spec": [
                [kind, layer, [[name, _plain(value)] for name, value in options]] for kind, layer, options in self.spec
            ],
            "labels": list(self.labels),
            "layers": list(self.layers),
        }

    @staticmethod
    def from_dict(description: Mapping[str, Any], arrays: Sequence[Mapping[str, Any]], units: Any) -> Bound:
        """Rebuilds what `to_dict` described; unknown kinds raise ValueError, own functions are `Missing`."""
        spec = tuple((str(kind), str(layer), _frozen(options)) for kind, layer, options in description["spec"])
        for kind, _, _ in spec:
            if kind not in KINDS:
                raise ValueError(f"unknown objective {kind!r}; {nearest(kind, KINDS)}")
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


@dataclasses.dataclass(frozen=True)
class Missing:
    """A function of the user's own that a saved result knows by name only."""

    name: str

    def __str__(self) -> str:
        return (
            f"this result's objective is a function of your own, {self.name}, which a saved result cannot hold: put it "
            "back with dataclasses.replace(result, objective=result.objective.with_functions(the_function))"
        )

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise ValueError(str(self))


@dataclasses.dataclass(frozen=True, eq=False)
class Objective:
    """A weighted sum of terms for a batch of lanes; made by the factories of this package."""

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
        resolved = [KINDS[term.kind].resolve(term, network) for term in self.terms]
        counts = [lanes_of(term) for term in resolved]
        lanes = max(counts)
        if any(count not in (1, lanes) for count in counts):
            raise ValueError(f"the terms of an objective have {counts} lanes; give each the same number, or one")
        shares = {term.share.shape[-1] for term in resolved if term.share is not None}
        if len(shares) > 1:
            raise ValueError(f"the paths of an objective have {sorted(shares)} inputs; give each the same number")
        arrays = tuple(_stack(term, lanes) for term in resolved)
        labels = tuple(_label(resolved, lane) for lane in range(lanes))
        alone = len(resolved) == 1 and KINDS[resolved[0].kind].per_unit and resolved[0].share is None
        units = arrays[0]["unit"] if alone else np.full(lanes, -1, np.int32)
        return Bound(tuple(term.spec for term in resolved), arrays, labels, (resolved[0].layer,) * lanes, units)


def layers_of(spec: Spec) -> tuple[str, ...]:
    """The layers that an objective reads, each once."""
    return tuple(dict.fromkeys(name for _, layer, options in spec for name in dict(options).get("layers", (layer,))))


def evaluate(spec: Spec, arrays: Sequence[Mapping[str, jax.Array]], activations: Mapping[str, jax.Array]) -> jax.Array:
    """The value of one lane of one input.

    Args:
      spec: `Bound.spec`.
      arrays: `Bound.arrays` of this lane, without the leading axis.
      activations: {layer: output for one example, without a batch axis}.

    Returns:
      A scalar.
    """
    return evaluate_inputs(spec, arrays, {name: value[None] for name, value in activations.items()})[0]


def evaluate_inputs(
    spec: Spec, arrays: Sequence[Mapping[str, jax.Array]], activations: Mapping[str, jax.Array]
) -> jax.Array:
    """The values of the inputs of one lane.

    Args:
      spec: as `evaluate`.
      arrays: as `evaluate`.
      activations: {layer: outputs (inputs, ...)}.

    Returns:
      (inputs,). Of terms that couple, each input has its own share; of a path, each its own weights (an input alone,
      such as a probing sound, has their mean).
    """
    read = {name: _with_units(value.astype(jnp.float32)) for name, value in activations.items()}
    inputs = len(next(iter(read.values())))
    total = jnp.zeros(inputs, jnp.float32)
    for (kind, name, options), values in zip(spec, arrays, strict=True):
        layers = {layer: read[layer] for layer in dict(options).get("layers", (name,))}
        value = functools.partial(KINDS[kind].value, layer=name, arrays=values, **dict(options))
        found = value(layers) if KINDS[kind].couples else jax.vmap(value)(layers)
        weight = values["weight"]
        if "share" in values:
            share = values["share"]
            weight = weight * (share if len(share) == inputs else jnp.mean(share))
        total = total + weight * found
    return total


def noise_floor(
    spec: Spec, arrays: Sequence[Mapping[str, jax.Array]], activations: Mapping[str, jax.Array]
) -> jax.Array:
    """What rounding alone can make of the value of a lane: scores within it say nothing.

    Along a direction large activations may cancel: a . v of a unit that is silent is then not zero but noise. Kinds
    that read units one by one have no such floor.

    Args and shape as `evaluate`.
    """
    total = jnp.zeros((), jnp.float32)
    for (kind, name, options), values in zip(spec, arrays, strict=True):
        rounding = KINDS[kind].rounding
        if rounding is not None:
            activation = jnp.atleast_1d(activations[name].astype(jnp.float32))
            total = total + jnp.abs(values["weight"]) * rounding(activation, values, **dict(options))
    return jax.lax.stop_gradient(total)


def may_cancel(spec: Spec) -> bool:
    """Whether some term has a noise floor."""
    return any(KINDS[kind].rounding is not None for kind, _, _ in spec)


def one_term(kind: str, layer: str, **fields: Any) -> Objective:
    """An objective of one term of weight one, the name of its layer checked to be one."""
    if not isinstance(layer, str):
        raise ValueError(f"a layer is given by its name, got {layer!r}")
    defaults: dict[str, Any] = {"units": (), "arrays": {}, "options": (), "weight": np.ones(1, np.float32)}
    return Objective((Term(kind, layer, **{**defaults, **fields}),))


def lanes_of(term: Term) -> int:
    """How many lanes a term has."""
    sizes = [len(array) for array in (*term.arrays.values(), *jax.tree.leaves(term.target))]
    share = 1 if term.share is None else len(term.share)
    return max([len(term.units or ()), len(term.weight), len(term.names), share, *sizes, 1])


def row(array: Any, lane: int) -> Any:
    """A lane's row of something with one row a lane, or one for all."""
    return array[lane if len(array) > 1 else 0]


def fingerprint(*arrays: Any) -> str:
    """Eight hexadecimal digits of the values of arrays."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array, np.float32).tobytes())
    return found.hexdigest()[:8]


def qualified(function: Callable[..., Any]) -> str:
    """Where a function comes from, "module.name"."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', type(function).__module__)}.{name}"


def _with_units(activations: jax.Array) -> jax.Array:
    return activations[:, None] if activations.ndim == 1 else activations


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Missing(str(value["function"]))
    return tuple(_frozen(part) for part in value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if isinstance(value, Missing):
        return {"function": value.name}
    if callable(value):
        return {"function": qualified(value)}
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


def _stack(term: Term, lanes: int) -> dict[str, np.ndarray]:
    def spread(array: np.ndarray) -> np.ndarray:
        return np.broadcast_to(array, (lanes, *array.shape[1:])) if len(array) == 1 else array

    arrays = {name: spread(np.asarray(array)) for name, array in term.arrays.items()}
    if term.units:
        arrays["unit"] = spread(np.asarray(term.units, np.int32))
    if term.share is not None:
        arrays["share"] = spread(np.asarray(term.share, np.float32))
    arrays["weight"] = spread(np.asarray(term.weight, np.float32))
    return arrays


def _label(terms: Sequence[Term], lane: int) -> str:
    # What an end of an interpolation does not count, it does not name.
    counted = [term for term in terms if row(term.weight, lane) != 0] or terms
    parts = []
    for term in counted:
        text = KINDS[term.kind].describe(term, lane)
        weight = float(row(term.weight, lane))
        shares = "" if term.share is None else "[" + " ".join(f"{part:g}" for part in row(term.share, lane)) + "] * "
        parts.append(shares + (text if weight == 1 else f"{weight:g} * {text}"))
    return " + ".join(parts)
