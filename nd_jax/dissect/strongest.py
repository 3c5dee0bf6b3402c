"""The strongest of many numbers, row by row, in order: what XLA's sort and top_k take long for on a CPU.

It is done on the host, by NumPy's vectorised partition and sort, which let other threads run. A lower bound of the k-th
largest number is the k-th largest of the maxima of groups; what reaches it, a few more than k numbers a row, is sorted.
The order is one of whole numbers that hold value and position: the same on every machine, equal values by position.
"""

from __future__ import annotations

import numpy as np

# Rows of a block: its numbers fit a core's own cache.
_BLOCK = 64
_GROUP = 8


def strongest(rows: np.ndarray, count: int) -> np.ndarray:
    """The positions of the largest numbers of every row.

    Args:
      rows: (rows, n) float32, finite, n below 2^31.
      count: how many of each row, 1 to n.

    Returns:
      (rows, count) int32: the largest first, equal ones by position (-0 equals 0).

    Raises:
      ValueError: a count that a row does not have.
    """
    rows = np.ascontiguousarray(rows, np.float32)
    if rows.ndim != 2 or not 1 <= count <= rows.shape[1]:
        raise ValueError(f"the strongest {count} of rows of shape {rows.shape}: a row has at least 1 and at most n")
    parts = [_of_block(rows[start : start + _BLOCK], count) for start in range(0, len(rows), _BLOCK)]
    return np.concatenate(parts) if parts else np.zeros((0, count), np.int32)


def _of_block(rows: np.ndarray, count: int) -> np.ndarray:
    height, width = rows.shape
    group = max(1, min(_GROUP, 2 * width // (5 * count)))
    groups = width // group
    best = rows[:, : groups * group].reshape(height, group, groups).max(axis=1)
    bound = np.partition(best, groups - count, axis=1)[:, groups - count]
    flat = np.flatnonzero(rows >= bound[:, None])
    owner, position = np.divmod(flat, width)
    counts = np.bincount(owner, minlength=height)
    begins = np.cumsum(counts) - counts
    keys = np.full((height, int(counts.max())), np.iinfo(np.int64).min)
    values = _ordered(rows.reshape(-1)[flat] + np.float32(0))
    keys[owner, np.arange(len(flat)) - begins[owner]] = (values << 32) | (width - 1 - position)
    keys.sort(axis=1)
    return (width - 1 - (keys[:, : -count - 1 : -1] & 0xFFFFFFFF)).astype(np.int32)


def _ordered(values: np.ndarray) -> np.ndarray:
    """Whole numbers in the order of the floating-point ones."""
    bits = values.view(np.int32)
    return (bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))).astype(np.int64)
