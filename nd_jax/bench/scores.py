"""Figures with intervals, and controls whose null is a permutation distribution."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from nd_jax.proportions import wilson_interval

RESAMPLES = 2000


@dataclasses.dataclass(frozen=True)
class Figure:
    """One number with its 95 % interval and how many things it was measured on."""

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f}, n {self.count})"


def share(hits: Sequence[bool] | np.ndarray) -> Figure:
    """A share of yes with Wilson's score interval; NaN with the interval 0 to 1 of nothing."""
    given = np.asarray(hits, bool)
    count = given.size
    if not count:
        return Figure(math.nan, 0.0, 1.0, 0)
    return Figure(float(given.mean()), *wilson_interval(int(given.sum()), count), count)


def bootstrap(
    values: Sequence[float] | np.ndarray,
    statistic: Callable[..., np.ndarray] = np.median,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Figure:
    """A statistic of values, NaN left out, with the percentile bootstrap interval.

    Args:
      values: (n,) one per unit; of paired differences for a paired comparison.
      statistic: takes an array and axis=, as np.median and np.mean do.
      seed: of the resampling.
      resamples: how many.
    """
    given = np.asarray(values, np.float64)
    given = given[~np.isnan(given)]
    if not given.size:
        return Figure(math.nan, math.nan, math.nan, 0)
    drawn = np.random.default_rng(seed).integers(0, given.size, (resamples, given.size))
    low, high = np.percentile(statistic(given[drawn], axis=1), [2.5, 97.5])
    return Figure(float(statistic(given, axis=0)), float(low), float(high), int(given.size))


@dataclasses.dataclass(frozen=True)
class Control:
    """An observed figure against its permutation distribution.

    Attributes:
      observed: the figure with the true pairing.
      null: its median and 95 % range under random pairings.
      p: the share of pairings at least as good, the true one counted among them.
      permutations: how many were drawn.
    """

    observed: float
    null: Figure
    p: float
    permutations: int


def shuffled(
    table: np.ndarray,
    statistic: Callable[[np.ndarray], float] = lambda values: float(np.median(values)),
    *,
    seed: int = 0,
    permutations: int = 999,
    groups: np.ndarray | None = None,
) -> Control:
    """Compares the diagonal of a table with what random pairings of its rows and columns give.

    Args:
      table: (n, n) what row i (a found input) scores against column j (a target).
      statistic: of the n paired values.
      seed: of the permutations.
      permutations: how many random ones.
      groups: (n,) labels; rows are paired with columns of their own group only.
    """
    values = np.asarray(table, np.float64)
    labels = np.zeros(len(values), int) if groups is None else np.asarray(groups)
    rng = np.random.default_rng(seed)
    observed = statistic(np.diag(values))
    drawn = np.empty(permutations)
    for place in range(permutations):
        order = np.arange(len(values))
        for label in np.unique(labels):
            members = np.flatnonzero(labels == label)
            order[members] = rng.permutation(members)
        drawn[place] = statistic(values[np.arange(len(values)), order])
    low, middle, high = np.percentile(drawn, [2.5, 50, 97.5])
    p = (1 + int(np.sum(drawn >= observed - 1e-12))) / (1 + permutations)
    return Control(observed, Figure(float(middle), float(low), float(high), len(values)), p, permutations)


def steps_to(history: np.ndarray, steps: Sequence[int], fraction: float = 0.9) -> np.ndarray:
    """The step at which each lane first has `fraction` of its way from first to last score, interpolated.

    Args:
      history: (snapshots, lanes) scores.
      steps: (snapshots,) when.
      fraction: of the way.

    Returns:
      (lanes,) steps; NaN for a lane that ended no higher than it began.
    """
    scores, moments = np.asarray(history, np.float64), np.asarray(steps, np.float64)
    begin, end = scores[0], scores[-1]
    goal = begin + fraction * (end - begin)
    found = np.full(scores.shape[1], math.nan)
    for lane in np.flatnonzero(end > begin):
        after = int(np.argmax(scores[:, lane] >= goal[lane]))
        low, high = scores[after - 1, lane], scores[after, lane]
        way = (goal[lane] - low) / max(high - low, 1e-12)
        found[lane] = moments[after - 1] + way * (moments[after] - moments[after - 1])
    return found
