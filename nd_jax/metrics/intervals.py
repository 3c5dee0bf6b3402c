"""How sure a figure of a whole set is: the jackknife, which asks what it would be without each part of the set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

GROUPS = 20


def groups_of(count: int, groups: int = GROUPS) -> np.ndarray:
    """The group, 0 ... groups - 1, of each of `count` examples: (count,), all of about one size, drawn by a fixed seed.

    There are fewer groups where there are fewer examples.
    """
    return np.random.default_rng(0).permutation(count) % min(groups, count)


def jackknife(
    statistic: Callable[[np.ndarray], float], count: int, *, groups: int = GROUPS, value: float | None = None
) -> tuple[float, float]:
    """The 95 % interval of a statistic of `count` examples, by leaving out one group of them after the other.

    Source: Efron & Tibshirani 1993, "An introduction to the bootstrap", chapter 11: the standard error is
    sqrt((g - 1) / g * sum_i (s_i - mean s)^2) over the g values without a group, and the interval that of Student's t
    with g - 1 degrees of freedom. For smooth statistics (means, entropies, mean distances); not for medians, counts of
    bins, or what single neighbours decide.

    Args:
      statistic: of the row numbers that stay, (rows,) ints.
      count: examples, 3 or more.
      groups: at most so many.
      value: the statistic of all, the middle of the interval; by default it is computed.

    Returns:
      Both ends.

    Raises:
      ValueError: too few examples.
    """
    if count < 3 or groups < 3:
        raise ValueError(f"an interval needs 3 examples and groups or more, got {count} and {groups}")
    group = groups_of(count, groups)
    without = np.array([statistic(np.flatnonzero(group != number)) for number in range(group.max() + 1)])
    middle = statistic(np.arange(count)) if value is None else value
    return around(middle, without)


def around(value: Any, without: np.ndarray) -> tuple[float, float]:
    """The interval of `jackknife` from the statistic itself and its values without each group, (groups,)."""
    from scipy.special import stdtrit

    count = len(without)
    error = np.sqrt((count - 1) / count * np.sum(np.square(without - without.mean())))
    half = float(stdtrit(count - 1, 0.975) * error)
    return float(value) - half, float(value) + half
