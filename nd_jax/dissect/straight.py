"""A network with every nonlinearity taken as a straight line: what its weights say when they are composed.

"Expanded weights" (Voss et al. 2021, "Visualizing Weights", Distill Circuits): the weights from a unit back to the
input, or on to the output, as if every rectifier in between let everything through, every maximum were a mean, and
every bounded function went on as it begins. Exact up to the first nonlinearity; beyond it, a sketch.

The function is traced to a jaxpr, which is then run with other rules for what is not linear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

_CALLS = ("jaxpr", "call_jaxpr", "fun_jaxpr")
# As if they went on with the slope at zero; of `logistic` that is a quarter, which scales a unit as a whole.
_SLOPES = {"tanh": 1.0, "erf": 2.0 / np.sqrt(np.pi), "logistic": 0.25, "abs": 1.0}
_FLAT = {"eq", "ne", "ge", "gt", "le", "lt", "argmax", "argmin", "sign", "floor", "ceil", "round", "is_finite"}
_ADDS = {
    "add",
    "add_any",
    "sub",
    "neg",
    "reduce_sum",
    "reduce_window_sum",
    "cumsum",
    "broadcast_in_dim",
    "reshape",
    "squeeze",
    "expand_dims",
    "transpose",
    "rev",
    "pad",
    "concatenate",
    "slice",
    "dynamic_slice",
    "dynamic_update_slice",
    "gather",
    "scatter",
    "scatter-add",
    "scatter_add",
    "convert_element_type",
    "copy",
    "copy_p",
    "reduce_precision",
    "stop_gradient",
    "optimization_barrier",
    "split",
    "real",
    "imag",
    "select_and_gather_add",
}
# The last three are the convolutions of `nd_jax.networks.conv`.
_PRODUCTS = {"mul", "dot_general", "conv_general_dilated", "nd_conv", "nd_conv_input", "nd_conv_kernel"}


class NotComposable(ValueError):
    """Something stands between that has no straight line: activations multiplied with each other, a loop."""


def straightened(function: Callable[[Any], jax.Array], example: Any) -> Callable[[Any], jax.Array]:
    """The function with every nonlinearity as a straight line: affine in its argument.

    Args:
      function: traceable, of one array (or tree).
      example: an argument, or its shape and type.

    Raises:
      NotComposable: on calling, where there is no straight line.
    """
    closed, shape = jax.make_jaxpr(function, return_shape=True)(example)
    structure = jax.tree.structure(shape)

    def straight(x: Any) -> Any:
        leaves = [(leaf, True) for leaf in jax.tree.leaves(x)]
        found = _run(closed.jaxpr, [(value, False) for value in closed.consts], leaves)
        return jax.tree.unflatten(structure, [value for value, _ in found])

    return straight


# A value, and whether it depends on the argument.
_Value = tuple[Any, bool]


def _run(jaxpr: Any, consts: Sequence[_Value], arguments: Sequence[_Value]) -> list[_Value]:
    known: dict[Any, _Value] = dict(zip(jaxpr.constvars, consts, strict=True))
    known.update(zip(jaxpr.invars, arguments, strict=True))

    def read(atom: Any) -> _Value:
        return (atom.val, False) if isinstance(atom, core.Literal) else known[atom]

    for equation in jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        known.update(zip(equation.outvars, _apply(equation, inputs), strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _apply(equation: Any, inputs: Sequence[_Value]) -> list[_Value]:
    name = equation.primitive.name
    depends = [depend for _, depend in inputs]
    inner = next((equation.params[key] for key in _CALLS if key in equation.params), None)
    if inner is not None and not name.startswith(("scan", "while", "cond")):
        closed = getattr(inner, "jaxpr", inner)
        consts = [(value, False) for value in getattr(inner, "consts", ())]
        return _run(closed, consts, inputs)
    values = [value for value, _ in inputs]
    if not any(depends):
        return [(value, False) for value in _bound(equation, values)]
    if name in _FLAT:
        return [(value, False) for value in _bound(equation, values)]
    if name in ("max", "min"):
        return [((values[0] + values[1]) / 2, True)] if all(depends) else [(_wide(values, depends, equation), True)]
    if name == "select_n":
        return [(values[-1], depends[-1])]
    if name in ("reduce_max", "reduce_min"):
        return [(jnp.mean(values[0], axis=equation.params["axes"]), True)]
    if name in ("reduce_window_max", "reduce_window_min"):
        return [(_mean_pool(values[0], equation.params), True)]
    if name in _SLOPES:
        return [(_SLOPES[name] * values[0], True)]
    if name == "clamp":
        return [(values[1], True)]
    linear = name in _ADDS or (name in _PRODUCTS and sum(depends) == 1) or (name == "div" and not depends[1])
    if not linear:
        raise NotComposable(f"the network has {name!r} between, and its weights cannot be composed through that")
    return [(value, True) for value in _bound(equation, values)]


def _bound(equation: Any, values: Sequence[Any]) -> list[Any]:
    params = equation.primitive.get_bind_params(equation.params)
    # Until jax 0.10 functions inside a call came apart from the other parameters.
    subfunctions, params = params if isinstance(params, tuple) else ((), params)
    found = equation.primitive.bind(*subfunctions, *values, **params)
    return list(found) if equation.primitive.multiple_results else [found]


def _wide(values: Sequence[Any], depends: Sequence[bool], equation: Any) -> jax.Array:
    """The operand of a maximum that depends on the argument: the other is a bound."""
    return jnp.broadcast_to(values[depends.index(True)], equation.outvars[0].aval.shape)


def _mean_pool(value: jax.Array, params: Any) -> jax.Array:
    total = jax.lax.reduce_window(
        value,
        np.zeros((), value.dtype),
        jax.lax.add,
        params["window_dimensions"],
        params["window_strides"],
        params["padding"],
        params["base_dilation"],
        params["window_dilation"],
    )
    return total / np.prod(params["window_dimensions"])
