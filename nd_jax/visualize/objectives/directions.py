"""Objectives along directions in a layer's space of units: dot product, dot x cosine ** p, cosine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import taps
from nd_jax.visualize.objectives import places
from nd_jax.visualize.objectives.core import KINDS, Objective, ObjectiveKind, Term, fingerprint, one_term, row
from nd_jax.visualize.objectives.units import place_text

if TYPE_CHECKING:
    from nd_jax.network import Network

# Keeps the gradient of a length finite where the activation is exactly zero.
TINY = 1e-12


def direction(
    layer: str, vectors: Any, *, cosine_power: float = 0.0, position: int | Sequence[int] | None = None
) -> Objective:
    """The activation along a direction: mean over positions of (a . v) * max(0.1, cos(a, v)) ** cosine_power.

    Lucid's dot x cosine ** p (Olah et al. 2017; Lucid issue 116), `direction` and, with a position, `direction_neuron`;
    a power of 0 is the plain dot product. Lucid takes v as it is, here its length is one.

    Args:
      layer: layer name.
      vectors: (units,) or (lanes, units); they are normalised to length one.
      cosine_power: p >= 0.
      position: only at this position; None for the mean over all.
    """
    options = (("cosine_power", places.checked_cosine_power(cosine_power)), ("position", places.place_of(position)))
    return one_term("direction", layer, arrays={"vector": _normalised(vectors)}, options=options)


def cosine(layer: str, vectors: Any, *, position: int | Sequence[int] | None = None) -> Objective:
    """The cosine with a direction, -1 to 1: mean over positions of a . v / (|a| |v|).

    What it finds may be weak: strength does not count. Lucid's `direction_cossim`, times the number of units by which
    it divides.

    Args:
      layer: layer name.
      vectors: (units,) or (lanes, units).
      position: only at this position; None for the mean over all.
    """
    return one_term(
        "cosine", layer, arrays={"vector": _normalised(vectors)}, options=(("position", places.place_of(position)),)
    )


def powered(dots: jax.Array, lengths: jax.Array, cosine_power: float) -> jax.Array:
    """Mean of dots * max(0.1, dots / lengths) ** cosine_power."""
    if cosine_power == 0:
        return jnp.mean(dots)
    return jnp.mean(dots * jnp.maximum(dots / lengths, 0.1) ** cosine_power)


def _normalised(vectors: Any) -> np.ndarray:
    array = np.atleast_2d(np.asarray(vectors, np.float32))
    if array.ndim != 2 or not np.all(np.isfinite(array)):
        raise ValueError(f"directions must be finite and of shape (units,) or (lanes, units), got shape {array.shape}")
    norms = np.linalg.norm(array, axis=-1, keepdims=True)
    if np.any(norms == 0):
        raise ValueError("a direction of length zero points nowhere")
    return array / norms


def _direction(
    activations: Mapping[str, jax.Array],
    layer: str,
    arrays: Any,
    cosine_power: float,
    position: tuple[int, ...] | None,
) -> jax.Array:
    flat = _places(activations[layer], position)
    return powered(flat @ arrays["vector"], _lengths(flat), cosine_power)


def _cosine(
    activations: Mapping[str, jax.Array], layer: str, arrays: Any, position: tuple[int, ...] | None
) -> jax.Array:
    flat = _places(activations[layer], position)
    return jnp.mean(flat @ arrays["vector"] / _lengths(flat))


def _places(activation: jax.Array, position: tuple[int, ...] | None) -> jax.Array:
    return activation.reshape(-1, activation.shape[-1]) if position is None else activation[position][None]


def _lengths(flat: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sum(flat**2, axis=-1) + TINY)


def _rounding(activation: jax.Array, arrays: Any, **options: Any) -> jax.Array:
    flat = activation.reshape(-1, activation.shape[-1])
    return _error(flat) * jnp.mean(jnp.sqrt(jnp.sum(jnp.square(flat), axis=-1)))


def _cosine_rounding(activation: jax.Array, arrays: Any, **options: Any) -> jax.Array:
    flat = activation.reshape(-1, activation.shape[-1])
    return _error(flat) * jnp.mean((jnp.sum(jnp.square(flat), axis=-1) > 0).astype(jnp.float32))


def _error(flat: jax.Array) -> float:
    return 4 * float(np.finfo(np.float32).eps) * float(np.sqrt(flat.shape[-1]))


def _resolve(term: Term, network: Network) -> Term:
    resolved = places.resolve(term, network)
    count, given = taps.layer_shape(network, term.layer)[-1], term.arrays["vector"].shape[-1]
    if given != count:
        raise ValueError(f"a direction in layer {term.layer!r} has {count} numbers, got {given}")
    return resolved


def _describe(term: Term, lane: int) -> str:
    options = dict(term.options)
    name = "direction" if term.kind == "direction" else "cosine with"
    text = f"{term.layer}:{name} {fingerprint(row(term.arrays['vector'], lane))}"
    text += f" x cosine^{options['cosine_power']:g}" if options.get("cosine_power") else ""
    return text + ("" if options["position"] is None else f"@{place_text(options['position'])}")


KINDS["direction"] = ObjectiveKind(_direction, _resolve, _describe, rounding=_rounding)
KINDS["cosine"] = ObjectiveKind(_cosine, _resolve, _describe, rounding=_cosine_rounding)
