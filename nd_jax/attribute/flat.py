"""A network's forward pass as a flat list of primitives, with every call inside it opened up."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from nd_jax import taps
from nd_jax.network import Network
from nd_jax.visualize import objectives

Shape = tuple[int, ...]

# {a call: the parameter that is called}; other primitives with programs in them (loops) stay as they are.
_CALLS = {
    **dict.fromkeys(("jit", "pjit", "remat", "remat2", "checkpoint"), "jaxpr"),
    **dict.fromkeys(("closed_call", "core_call", "custom_jvp_call", "custom_vjp_call"), "call_jaxpr"),
}

# One result at each place, from the values at that place alone.
POINTWISE = (
    "abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp convert_element_type copy copy_p cos "
    "cosh div eq erf erf_inv erfc exp exp2 expm1 floor ge gt imag integer_pow is_finite le log log1p logistic lt max "
    "min mul ne neg nextafter not or pow real reduce_precision rem round rsqrt select_n sign sin sinh sqrt square "
    "stop_gradient sub tan tanh xor"
).split()


@dataclasses.dataclass(frozen=True, eq=False)
class Equation:
    """One primitive; an input is the number of a value, or an array."""

    primitive: Any
    params: dict[str, Any]
    inputs: tuple[Any, ...]
    outputs: tuple[int, ...]

    def run(self, inputs: Sequence[Any], **changes: Any) -> list[Any]:
        """The primitive on arrays, some of its parameters changed."""
        params = self.primitive.get_bind_params({**self.params, **changes})
        # Until jax 0.10 functions inside a call came apart from the other parameters.
        functions, params = params if isinstance(params, tuple) else ((), params)
        found = self.primitive.bind(*functions, *inputs, **params)
        return list(found) if self.primitive.multiple_results else [found]


@dataclasses.dataclass(frozen=True, eq=False)
class Flat:
    """The forward pass for one example as far as the layers that an objective reads.

    Attributes:
      equations: in order; those that nothing needs are left out.
      shapes: of every value.
      weights: the values that are the network's leaves, in their order.
      example: the value that is the input, (1, *shape).
      results: the values that are the layers.
      reached: the numbers of the equations that depend on the input.
    """

    equations: tuple[Equation, ...]
    shapes: tuple[Shape, ...]
    weights: tuple[int, ...]
    example: int
    results: tuple[int, ...]
    reached: frozenset[int]


def flatten(network: Network, spec: objectives.core.Spec) -> Flat:
    """Traces a network; computes nothing.

    Args:
      network: any Network that takes one array.
      spec: of the objective, `Bound.spec`.
    """
    names = objectives.layers_of(spec)
    leaves, structure = jax.tree.flatten(network)

    def run(leaves: Any, x: Any) -> list[Any]:
        read = taps.forward(jax.tree.unflatten(structure, leaves), x, names)[1]
        return [read[name] for name in names]

    shapes = [jax.ShapeDtypeStruct(np.shape(leaf), jnp.result_type(leaf)) for leaf in leaves]
    nested = jax.make_jaxpr(run)(shapes, jax.ShapeDtypeStruct((1, *network.input.shape), jnp.float32))
    opened = jax.make_jaxpr(lambda *values: _opened(nested.jaxpr, nested.consts, values))(*nested.in_avals)
    return _numbered(opened)


def _opened(jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    """Runs a program with the calls in it opened up: traced again, it is flat."""
    known = dict(zip(jaxpr.constvars, consts, strict=True)) | dict(zip(jaxpr.invars, arguments, strict=True))

    def value(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else known[atom]

    for each in jaxpr.eqns:
        inputs = [value(atom) for atom in each.invars]
        inner = each.params.get(_CALLS.get(each.primitive.name, ""))
        if inner is not None:
            found = _opened(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), inputs)
        else:
            found = Equation(each.primitive, dict(each.params), (), ()).run(inputs)
        known.update(zip(each.outvars, found, strict=True))
    return [value(atom) for atom in jaxpr.outvars]


def _numbered(closed: Any) -> Flat:
    """Numbers for variables; equations that the results do not need are dropped."""
    jaxpr = closed.jaxpr
    constants = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    numbers: dict[Any, int] = {}
    shapes: list[Shape] = []

    def number(variable: Any) -> int:
        if variable not in numbers:
            numbers[variable] = len(shapes)
            shapes.append(tuple(variable.aval.shape))
        return numbers[variable]

    def atom(given: Any) -> Any:
        if isinstance(given, core.Literal):
            return np.asarray(given.val, given.aval.dtype)  # type: ignore[attr-defined]
        return constants[given] if given in constants else number(given)

    needed = {given for given in jaxpr.outvars if not isinstance(given, core.Literal)}
    kept = []
    for each in reversed(jaxpr.eqns):
        if needed.intersection(each.outvars):
            kept.append(each)
            needed.update(given for given in each.invars if not isinstance(given, core.Literal))
    values = [number(variable) for variable in jaxpr.invars]
    equations, reached, seen = [], set(), {values[-1]}
    for place, each in enumerate(reversed(kept)):
        inputs = tuple(atom(given) for given in each.invars)
        outputs = tuple(number(variable) for variable in each.outvars)
        equations.append(Equation(each.primitive, dict(each.params), inputs, outputs))
        if any(isinstance(value, int) and value in seen for value in inputs):
            reached.add(place)
            seen.update(outputs)
    results = tuple(number(variable) for variable in jaxpr.outvars)
    return Flat(tuple(equations), tuple(shapes), tuple(values[:-1]), values[-1], results, frozenset(reached))
