"""Whether an optimised input goes through the network as natural ones do (Geirhos et al. 2024).

"Don't trust your eyes: on the (un)reliability of feature visualizations", section 3: the rank correlation (Spearman) of
a layer's activations for an optimised and for natural inputs of the same unit, scaled so that natural inputs of one
unit beside each other are at 1, and beside those of other units at 0.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

TOP = 8
"""Natural inputs that stand for a unit: those with its highest scores."""
LEAST = 0.05
"""Correlation by which natural inputs of a unit must be more alike than others, else a layer cannot tell."""
FEW = 16
"""Natural inputs of other units that there must be, else the whole bank stands for them."""


@jax.jit
def ranks(vectors: jax.Array) -> jax.Array:
    """Ranks of each row's numbers (ties share theirs), centred, of length one: their products are Spearman's rho.

    Args:
      vectors: (n, numbers).

    Returns:
      (n, numbers) float32; zeros for a row without differences.
    """

    def one(row: jax.Array) -> jax.Array:
        ordered = jnp.sort(row)
        place = jnp.searchsorted(ordered, row, side="left") + jnp.searchsorted(ordered, row, side="right")
        centred = place.astype(jnp.float32) - row.shape[0]
        return centred / jnp.maximum(jnp.linalg.norm(centred), 1e-6)

    return jax.vmap(one)(vectors)


def top_inputs(scores: np.ndarray) -> np.ndarray:
    """(lanes, k) the natural inputs with the highest scores, of scores (inputs, lanes)."""
    count = max(min(TOP, len(scores) // 2), 1)
    return np.argsort(-np.nan_to_num(scores, nan=-np.inf), axis=0, kind="stable")[:count].T


def likeness(natural: np.ndarray, made: np.ndarray, top: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean correlations in one layer.

    Args:
      natural: (inputs, numbers) vectors of natural inputs.
      made: (lanes, numbers) vectors of the optimised inputs.
      top: (lanes, k) the natural inputs of each lane's unit.

    Returns:
      (lanes,) each: natural inputs of the unit among themselves; these and natural inputs of the other lanes' units;
      these and the optimised input. NaN for a single natural input.
    """
    bank = np.asarray(_ranked(natural), np.float64)
    found = np.asarray(_ranked(made), np.float64)
    lanes, count = top.shape
    pool = np.unique(top)
    pool = pool if len(pool) - count >= FEW else np.arange(len(bank))
    own = (pool[None, :, None] == top[:, None, :]).any(axis=-1)
    middle = bank[top].mean(axis=1)
    squares = np.sum(bank[top] ** 2, axis=(1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        same = (count**2 * np.sum(middle**2, axis=1) - squares) / (count * (count - 1))
        others = (bank[pool].sum(axis=0)[None] - own.astype(np.float64) @ bank[pool]) / (len(pool) - count)
    return same, np.sum(middle * others, axis=1), np.sum(middle * found, axis=1)


def scaled(same: np.ndarray, other: np.ndarray, made: np.ndarray) -> np.ndarray:
    """(lanes,) path similarity over all layers, 1 as natural inputs of the unit, 0 as those of other units.

    Args:
      same: (lanes, layers) from `likeness`. Layers in which a unit's natural inputs are hardly more alike than others
        say nothing and are left out; NaN where none is left.
      other: likewise.
      made: likewise.
    """
    telling = np.nan_to_num(same - other, nan=0.0) >= LEAST
    above = np.sum(np.where(telling, made - other, 0.0), axis=1)
    whole = np.sum(np.where(telling, same - other, 0.0), axis=1)
    return np.where(whole > 0, above / np.where(whole > 0, whole, 1.0), np.nan)


def _ranked(vectors: np.ndarray, batch: int = 128) -> np.ndarray:
    """`ranks` in batches of one size."""
    parts = []
    for start in range(0, len(vectors), batch):
        index = np.arange(start, min(start + batch, len(vectors)))
        parts.append(np.asarray(ranks(jnp.asarray(vectors[np.resize(index, batch)], jnp.float32)))[: len(index)])
    return np.concatenate(parts)
