"""What every metric takes: sets of features or probabilities, checked; and distances between sets, in blocks of rows.

Everything here and in the metrics is numpy in float64, whatever comes in: features are made on the device, but a
difference of means over millions of pairs is no place for float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

# Entries of one block of distances: 64 MiB in float64.
BLOCK = 2**23


def features(name: str, values: Any, *, least: int = 2, dimensions: int | None = None) -> np.ndarray:
    """Checks a set of features.

    Args:
      name: what the caller calls it, for the error.
      values: (n, d) finite numbers.
      least: so many rows are needed.
      dimensions: the d that it must have; None for any.

    Returns:
      (n, d) float64.

    Raises:
      ValueError: another shape, too few rows, or values that are not finite; one sentence.
    """
    found = np.asarray(values)
    if found.ndim != 2 or not found.shape[1] or found.dtype.kind not in "fiub":
        raise ValueError(f"{name} must be numbers of shape (n, d), got {found.dtype} of shape {found.shape}")
    if len(found) < least:
        raise ValueError(f"{name} has {len(found)} examples, and {least} or more are needed")
    if dimensions is not None and found.shape[1] != dimensions:
        raise ValueError(f"{name} has {found.shape[1]} dimensions, and the set beside it {dimensions}")
    found = found.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(found).all(axis=1))
    if bad.size:
        raise ValueError(f"{name} has {bad.size} rows that are not finite, the first is row {bad[0]}")
    return found


def pair(first: str, a: Any, second: str, b: Any, *, least: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Checks two sets of features of one dimension; raises ValueError as `features` does."""
    one = features(first, a, least=least)
    return one, features(second, b, least=least, dimensions=one.shape[1])


def probabilities(values: Any) -> np.ndarray:
    """Checks class probabilities: (n, classes), each row non-negative with sum 1.

    Returns:
      (n, classes) float64; rows are divided by their sum, which float32 leaves a little off 1.

    Raises:
      ValueError: anything else, in one sentence.
    """
    found = features("probabilities", values, least=1)
    sums = found.sum(axis=1)
    bad = np.flatnonzero((found.min(axis=1) < 0) | (np.abs(sums - 1) > 1e-3))
    if bad.size:
        raise ValueError(
            f"row {bad[0]} of the probabilities sums to {sums[bad[0]]:.4g} with a smallest entry of "
            f"{found[bad[0]].min():.4g}: give the softmax of the classifier's logits"
        )
    return found / sums[:, None]


def draws(key: Any) -> np.random.Generator:
    """A numpy generator that depends on a jax key only."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key), np.uint32).ravel())


def blocks(a: np.ndarray, b: np.ndarray, *, most: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """Squared Euclidean distances, some rows of `a` at a time.

    Args:
      a: (n, d).
      b: (m, d).
      most: entries of one block; by default `BLOCK`.

    Yields:
      (first row, (rows, m) float64, not negative).
    """
    # Distances do not change when both sets are moved, and near the origin the expansion below cancels least.
    middle = b.mean(axis=0, keepdims=True)
    a, b = a - middle, b - middle
    squares = np.square(b).sum(axis=1)[None]
    rows = max(1, (most or BLOCK) // len(b))
    for start in range(0, len(a), rows):
        part = a[start : start + rows]
        found = part @ b.T
        found *= -2.0
        found += np.square(part).sum(axis=1)[:, None]
        found += squares
        yield start, np.maximum(found, 0.0, out=found)


def nearest(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest row of `b` to every row of `a`.

    Returns:
      Index (n,) and distance (n,); the distance is computed again from the difference, so that a copy is at exactly 0.
    """
    index = np.concatenate([block.argmin(axis=1) for _, block in blocks(a, b)])
    return index, np.linalg.norm(a - b[index], axis=1)
