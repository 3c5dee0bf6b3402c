"""Objectives that hold the inputs of a lane against each other: diversity and alignment.

They belong to a run with `inputs_per_lane` of two or more, added to what the inputs climb:

    nd.objectives.channel("conv", 3) + 10 * nd.objectives.diversity("conv")
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from nd_jax.visualize.objectives import places
from nd_jax.visualize.objectives.core import KINDS, Objective, ObjectiveKind, Term, one_term
from nd_jax.visualize.objectives.directions import TINY

# How far apart on a path inputs are still held against each other (Lucid).
REACH = 4


def diversity(layer: str) -> Objective:
    """How different the inputs of a lane are: minus the cosines of an input's Gram matrix with those of all others.

    For input i: -sum over j != i of G_i . G_j / (|G_i| |G_j|), where G = sum over positions of a a^T is a layer's Gram
    matrix of units. The mean over the inputs is Lucid's `diversity` with the sign turned, so that it is climbed.

    Args:
      layer: layer name.
    """
    return one_term("diversity", layer)


def alignment(layer: str, *, decay: float = 2.0) -> Objective:
    """How alike neighbours on a path are: for input i, -sum over |i - j| = d of mean((a_i - a_j)^2) / decay^d, d <= 4.

    Keeps what is the same at the same place along `interpolate(..., together=True)`. The sum over the inputs is twice
    Lucid's `alignment` with the sign turned: each of a pair has the pair.

    Args:
      layer: layer name.
      decay: how much less a pair counts with each step between them, at least 1.
    """
    if not math.isfinite(decay) or decay < 1:
        raise ValueError(f"decay must be a number of at least 1, got {decay!r}")
    return one_term("alignment", layer, options=(("decay", float(decay)),))


def _diversity(activations: Mapping[str, jax.Array], layer: str, arrays: Any) -> jax.Array:
    activation = activations[layer]
    flat = activation.reshape(activation.shape[0], -1, activation.shape[-1])
    grams = jnp.einsum("npc,npd->ncd", flat, flat)
    # Dividing by the largest entry first keeps the squares of a weak layer from vanishing in float32.
    grams = grams / jax.lax.stop_gradient(jnp.maximum(jnp.max(jnp.abs(grams), axis=(1, 2), keepdims=True), TINY))
    unit = grams / jnp.sqrt(jnp.sum(jnp.square(grams), axis=(1, 2), keepdims=True) + TINY)
    cosines = jnp.einsum("icd,jcd->ij", unit, unit)
    return -jnp.sum(jnp.where(jnp.eye(len(unit), dtype=bool), 0.0, cosines), axis=1)


def _alignment(activations: Mapping[str, jax.Array], layer: str, arrays: Any, decay: float) -> jax.Array:
    activation = activations[layer].reshape(len(activations[layer]), -1)
    total = jnp.zeros(len(activation), jnp.float32)
    for distance in range(1, min(REACH, len(activation) - 1) + 1):
        apart = jnp.mean(jnp.square(activation[distance:] - activation[:-distance]), axis=1) / decay**distance
        total = total.at[distance:].add(-apart).at[:-distance].add(-apart)
    return total


def _describe(term: Term, lane: int) -> str:
    decay = dict(term.options).get("decay", 2.0)
    return f"{term.kind} of {term.layer}" + ("" if decay == 2 else f" (decay {decay:g})")


KINDS["diversity"] = ObjectiveKind(_diversity, places.resolve, _describe, couples=True)
KINDS["alignment"] = ObjectiveKind(_alignment, places.resolve, _describe, couples=True)
