"""Shares with their intervals, as every room that counts states them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def wilson_interval(right: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson score interval of a proportion (Wilson 1927); z = 1.96 gives 95 %.

    Args:
      right: how many of them, 0 ... total.
      total: at least 1.
      z: quantile of the standard normal.

    Returns:
      Lower and upper end, within 0 ... 1.

    Raises:
      ValueError: impossible counts.
    """
    if not (total >= 1 and 0 <= right <= total):
        raise ValueError(f"{right} of {total} is no proportion")
    share = right / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, centre - half), min(1.0, centre + half)


def proportion(right: Any) -> dict[str, Any]:
    """A share with its 95 % interval, JSON-ready: {"value", "low", "high", "right", "of"}.

    Args:
      right: (n,) booleans, one per example.
    """
    right = np.asarray(right, bool)
    low, high = wilson_interval(int(right.sum()), right.size)
    return {
        "value": round(float(right.mean()), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "right": int(right.sum()),
        "of": int(right.size),
    }
