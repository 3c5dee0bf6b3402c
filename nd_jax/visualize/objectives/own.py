"""Objectives that are functions of the user's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import taps
from nd_jax.visualize.objectives.core import (
    KINDS,
    Missing,
    Objective,
    ObjectiveKind,
    Term,
    fingerprint,
    one_term,
    qualified,
    row,
)

if TYPE_CHECKING:
    from nd_jax.network import Network

_PREFIX = "own:"


def custom(
    function: Callable[..., jax.Array],
    layers: str | Sequence[str],
    *,
    label: str | Sequence[str],
    arrays: Mapping[str, Any] | None = None,
) -> Objective:
    """A pure function of yours: activations of one example to one number.

        nd.objectives.custom(lambda read: read["conv"].max(), ["conv"], label="loudest of conv")

    Adds, subtracts and scales like all others. It is part of the compiled program: define it once, at the top of a
    module; each new function is compiled anew, and one that closes over arrays would keep those of its first call, so
    give them as `arrays`. A saved result holds its name, not its code (`Bound.with_functions` puts it back in).

    Args:
      function: takes {layer: activation of one example, (*layer shape)}, and each of `arrays` by its name; traceable,
        gives a scalar.
      layers: the layers that it reads.
      label: what it is called in reports, for all lanes or one a lane. It is a lane's identity, and so decides its
        random start.
      arrays: numbers a lane, {name: (lanes, ...)}.

    Raises:
      ValueError: no function, one that cannot be hashed, no layers or label; on binding, a result that is no scalar.
    """
    if not callable(function):
        raise ValueError(f"custom takes a function of activations, got {function!r}")
    try:
        hash(function)
    except TypeError:
        raise ValueError(f"custom takes a function that can be hashed, which {function!r} cannot") from None
    names = (layers,) if isinstance(layers, str) else tuple(layers)
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"custom takes the names of the layers that the function reads, got {layers!r}")
    labels = (label,) if isinstance(label, str) else tuple(label)
    if not labels or not all(isinstance(text, str) and text for text in labels):
        raise ValueError(f"custom takes a label, or one a lane, got {label!r}")
    given = {_PREFIX + name: np.asarray(array) for name, array in (arrays or {}).items()}
    if any(array.ndim == 0 or not len(array) for array in given.values()):
        raise ValueError("arrays of custom have a leading axis of lanes, and some have none")
    return one_term("custom", names[0], arrays=given, options=(("layers", names), ("function", function)), names=labels)


def _custom(
    activations: Mapping[str, jax.Array],
    layer: str,
    arrays: Any,
    layers: tuple[str, ...],
    function: Callable[..., jax.Array],
) -> jax.Array:
    own = {name.removeprefix(_PREFIX): array for name, array in arrays.items() if name.startswith(_PREFIX)}
    return jnp.asarray(function({name: activations[name] for name in layers}, **own), jnp.float32)


def _resolve(term: Term, network: Network) -> Term:
    options = dict(term.options)
    shapes = {name: taps.layer_shape(network, name) for name in options["layers"]}
    if isinstance(options["function"], Missing):
        raise ValueError(str(options["function"]))
    read = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    own = {
        name.removeprefix(_PREFIX): jax.ShapeDtypeStruct(array.shape[1:], jax.dtypes.canonicalize_dtype(array.dtype))
        for name, array in term.arrays.items()
    }
    made = jax.eval_shape(lambda read, own: options["function"](read, **own), read, own)
    shape = getattr(made, "shape", None)
    if shape != ():
        what = f"an array of shape {shape}" if shape is not None else f"{made!r}"
        raise ValueError(f"{qualified(options['function'])} must give one number, and gives {what}")
    return dataclasses.replace(term, units=())


def _describe(term: Term, lane: int) -> str:
    text = row(term.names, lane)
    if len(term.names) == 1 and any(len(array) > 1 for array in term.arrays.values()):
        # Lanes that differ by their arrays alone must not share an identity.
        text += f" {fingerprint(*(row(array, lane) for _, array in sorted(term.arrays.items())))}"
    return text


KINDS["custom"] = ObjectiveKind(_custom, _resolve, _describe)
