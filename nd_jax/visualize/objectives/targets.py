"""Objectives that hold a layer's activation against that of a given input: inversion and caricature."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import taps
from nd_jax.visualize.objectives import places
from nd_jax.visualize.objectives.core import KINDS, Objective, ObjectiveKind, Term, fingerprint, one_term, row
from nd_jax.visualize.objectives.directions import TINY, powered

if TYPE_CHECKING:
    from nd_jax.network import Network


def match(layer: str, inputs: Any = None, *, activations: Any = None) -> Objective:
    """Activation inversion: minus the squared distance to a given sound's layer, as a share of its square.

        -||a(x) - a0||^2 / ||a0||^2

    0 where the layer cannot tell x from the given input, -1 for an input that leaves it silent (Mahendran & Vedaldi
    2015, equations 1 and 2, and their normalisation). Their priors are penalties: `penalties.total_variation`, `l2`.
    Several layers at once add up.

    Args:
      layer: layer name.
      inputs: inputs of the network, one or a batch, one lane each; their activations are read when the objective is
        bound.
      activations: the activations themselves, (*layer shape) or (lanes, *layer shape), instead.

    Raises:
      ValueError: both or neither; on binding another shape, or a target that is zero everywhere.
    """
    return _held("match", layer, inputs, activations, ())


def caricature(layer: str, inputs: Any = None, *, activations: Any = None, cosine_power: float = 2.0) -> Objective:
    """What a layer sees in a given input, exaggerated: mean over positions of (a . t) * max(0.1, cos(a, t)) ** p.

    t is the input's activation, scaled to a root mean square length of one over the positions. Lucid's caricatures
    (issue 121; `tensor_direction`, which takes t as it is).

    Args:
      layer: layer name.
      inputs: as in `match`.
      activations: as in `match`.
      cosine_power: p >= 0; 0 is the plain dot product, which lets strong features outgrow all others.
    """
    options = (("cosine_power", places.checked_cosine_power(cosine_power)),)
    return _held("caricature", layer, inputs, activations, options)


def _held(kind: str, layer: str, inputs: Any, activations: Any, options: tuple[tuple[str, Any], ...]) -> Objective:
    if (inputs is None) == (activations is None):
        raise ValueError(f"{kind} takes either inputs of the network or activations=..., one of the two")
    if activations is None:
        return one_term(kind, layer, target=inputs, options=options)
    array = np.asarray(activations, np.float32)
    if not np.all(np.isfinite(array)):
        raise ValueError(f"the activations for {kind} must be finite numbers, and some are not")
    # Whether there is an axis of lanes is known when the layer is.
    return one_term(kind, layer, arrays={"target": array[None]}, options=options)


def _match(activations: Mapping[str, jax.Array], layer: str, arrays: Any) -> jax.Array:
    target = arrays["target"]
    return -jnp.sum(jnp.square(activations[layer] - target)) / jnp.sum(jnp.square(target))


def _caricature(activations: Mapping[str, jax.Array], layer: str, arrays: Any, cosine_power: float) -> jax.Array:
    flat = activations[layer].reshape(-1, activations[layer].shape[-1])
    target = arrays["target"].reshape(flat.shape)
    squares = jnp.sum(jnp.square(target), axis=-1)
    target = target / jnp.sqrt(jnp.mean(squares))
    lengths = jnp.sqrt((jnp.sum(jnp.square(flat), axis=-1) + TINY) * (squares / jnp.mean(squares) + TINY))
    return powered(jnp.sum(flat * target, axis=-1), lengths, cosine_power)


def _rounding(activation: jax.Array, arrays: Any, **options: Any) -> jax.Array:
    flat = activation.reshape(-1, activation.shape[-1])
    error = 4 * float(np.finfo(np.float32).eps) * float(np.sqrt(flat.shape[-1]))
    return error * jnp.sqrt(jnp.mean(jnp.sum(jnp.square(flat), axis=-1)))


def _resolve(term: Term, network: Network) -> Term:
    shape = taps.layer_shape(network, term.layer)
    if term.target is None:
        array = term.arrays["target"][0]
        array = array[None] if array.shape == shape else array
        if array.shape[1:] != shape or not len(array):
            raise ValueError(
                f"activations of layer {term.layer!r} have the shape {shape}, or (lanes, *{shape}), got {array.shape}"
            )
    else:
        array = _read(term, network).reshape(-1, *shape)
    for lane, one in enumerate(array):
        if not np.any(one):
            raise ValueError(
                f"target {lane} leaves layer {term.layer!r} at zero everywhere, so there is nothing to match"
            )
    # As if it had been given as an array: bound terms do not know the input any more.
    return dataclasses.replace(term, arrays={"target": array}, target=None)


def _read(term: Term, network: Network) -> np.ndarray:
    """(lanes, *layer shape) activations of a term's inputs."""
    shapes = jax.tree.map(np.shape, term.target)
    one = shapes == network.input.shape
    batch = jax.tree.map(
        lambda leaf, kind: jnp.asarray(leaf, kind)[None] if one else jnp.asarray(leaf, kind),
        term.target,
        network.input.dtype,
    )
    found = np.asarray(taps.read(network, batch, term.layer)[term.layer], np.float32)
    if not np.all(np.isfinite(found)):
        raise ValueError(f"the given inputs drive layer {term.layer!r} to numbers that are not finite")
    return found


def _describe(term: Term, lane: int) -> str:
    power = dict(term.options).get("cosine_power")
    text = f"{term.layer}:{term.kind} {fingerprint(row(term.arrays['target'], lane))}"
    return text + (f" x cosine^{power:g}" if power else "")


KINDS["match"] = ObjectiveKind(_match, _resolve, _describe)
KINDS["caricature"] = ObjectiveKind(_caricature, _resolve, _describe, rounding=_rounding)
