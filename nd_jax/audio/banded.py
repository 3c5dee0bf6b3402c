"""Products with matrices whose weights lie along a diagonal, as those of filter banks do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def banded_product(matrix: np.ndarray, block: int, precision: Any = None) -> Callable[[jax.Array], jax.Array]:
    """x -> x @ matrix.T, (..., columns) -> (..., rows), for a matrix whose rows reach few and neighbouring columns.

    Args:
      matrix: (rows, columns).
      block: so many rows are multiplied at once, with the columns that any of them reaches.
      precision: as in `jnp.matmul`.
    """
    blocks = []
    for start in range(0, len(matrix), block):
        rows = matrix[start : start + block]
        reached = np.flatnonzero(rows.any(axis=0))
        low, high = (int(reached[0]), int(reached[-1]) + 1) if len(reached) else (0, 1)
        blocks.append((slice(low, high), np.ascontiguousarray(rows[:, low:high].T)))

    def product(x: jax.Array) -> jax.Array:
        parts = [jnp.matmul(x[..., reach], weights, precision=precision) for reach, weights in blocks]
        return jnp.concatenate(parts, axis=-1)

    return product
