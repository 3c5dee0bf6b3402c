"""Shares with their intervals, as every room that counts states them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

Z95 = 1.959964
"""The quantile of the standard normal for intervals of 95 %."""


def wilson_interval(right: int, total: int, z: float = Z95) -> tuple[float, float]:
    """The Wilson score interval of a proportion (Wilson 1927), by default of 95 %.

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


def in_words(share: Mapping[str, Any], digits: int = 1) -> str:
    """What `proportion` gives, as "86.8 % (84.6 to 88.8)"."""
    value, low, high = (f"{100 * share[name]:.{digits}f}" for name in ("value", "low", "high"))
    return f"{value} % ({low} to {high})"


def p_in_words(p: float) -> str:
    """A p-value with three decimals, "< 0.001" below that."""
    return f"{p:.3f}" if p >= 0.0005 else "< 0.001"
