"""Kernel distance (unbiased MMD^2) between sets of features, and the permutation test that goes with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nd_jax.metrics import sets
from nd_jax.metrics.intervals import GROUPS, around, groups_of
from nd_jax.runtime import nearest

KERNELS = ("gaussian", "polynomial")
# The median of all pairs of so many examples is exact; of larger sets it is that of so many of them.
_MEDIAN_ROWS = 10_000


@dataclasses.dataclass(frozen=True)
class PermutationTest:
    """Whether two sets can be told apart by their kernel distance.

    Attributes:
      distance: MMD^2 with the pooled bandwidth, the statistic of the test.
      p_value: (1 + permutations at least as far) / (1 + permutations), never 0.
      permutations: how many were drawn.
      bandwidth: of the Gaussian kernel, from both sets together; None for the polynomial one.
    """

    distance: float
    p_value: float
    permutations: int
    bandwidth: float | None


def bandwidth(x: Any) -> float:
    """The median distance between two examples of a set, the bandwidth of the Gaussian kernel.

    Exact up to 10,000 examples; of a larger set, of 10,000 evenly spaced ones.

    Args:
      x: (n, d) features.

    Raises:
      ValueError: shapes or values that are none, or a median of 0 (more than half of the pairs are the same).
    """
    given = sets.features("x", x)
    if len(given) > _MEDIAN_ROWS:
        given = given[np.linspace(0, len(given) - 1, _MEDIAN_ROWS).round().astype(int)]
    return _median_distance(given)


def _median_distance(x: np.ndarray) -> float:
    distances = np.empty(len(x) * (len(x) - 1) // 2, np.float32)
    filled = 0
    for start, block in sets.blocks(x, x):
        for row, squares in enumerate(block, start):
            distances[filled : filled + len(x) - row - 1] = squares[row + 1 :]
            filled += len(x) - row - 1
    median = float(np.median(np.sqrt(distances, out=distances), overwrite_input=True))
    # A root of rounding errors is no distance: 1e-7 of the spread is what the expansion of a square leaves.
    if not median > 1e-7 * np.sqrt(np.mean(np.square(x - x.mean(axis=0)[None]).sum(axis=1))):
        raise ValueError(
            "more than half of the pairs of examples are the same, so their median distance is no bandwidth"
        )
    return median


def kernel_distance(reference: Any, samples: Any, *, kernel: str = "gaussian", bandwidth: float | None = None) -> float:
    """Unbiased squared maximum mean discrepancy: the mean of k within each set, less twice that between them.

    mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{ij} k(x_i, y_j); Gretton et al. 2012, equation 3.

    - "gaussian": k = exp(-|x - y|^2 / (2 s^2)), with s the median distance within the reference, as in KAD (Chung et
      al. 2025, arXiv 2502.15602). Without a unit: at most 2, in practice 0 ... 1. KAD as its toolkit prints it is 100
      times this value.
    - "polynomial": k = (x . y / d + 1)^3, as in KID (Binkowski et al. 2018), of the whole sets instead of the mean over
      subsets. In units of the features, to the sixth power.

    Without bias at any n: its mean for two sets of one distribution is 0, so about half of such values are negative.
    Never cut them off at 0. The bandwidth is that of the reference, so rows with one reference compare. (Taken from the
    data it could bring a bias back; over 4,000 pairs of 30 and 20 examples there was none to be seen.)

    Time grows with n^2 d; memory only with n d (blocks of 64 MiB, and at most 200 MB for the median distance).

    Args:
      reference: (n, d) features, of real examples.
      samples: (m, d) features.
      kernel: "gaussian" or "polynomial".
      bandwidth: s, to use another one.

    Returns:
      MMD^2.

    Raises:
      ValueError: shapes that do not fit, fewer than two examples, values that are not finite, no such kernel.
    """
    x, y = sets.pair("reference", reference, "samples", samples)
    if kernel == "gaussian" and bandwidth is None:
        bandwidth = _bandwidth_of(x)
    grams = _kernel(kernel, bandwidth)
    within_x = sum(float(block.sum()) for _, block in _off_diagonal(grams(x, x)))
    within_y = sum(float(block.sum()) for _, block in _off_diagonal(grams(y, y)))
    between = sum(float(block.sum()) for _, block in grams(x, y))
    n, m = len(x), len(y)
    return within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - 2 * between / (n * m)


def kernel_interval(
    reference: Any,
    samples: Any,
    value: float,
    *,
    kernel: str = "gaussian",
    bandwidth: float | None = None,
    groups: int = GROUPS,
) -> tuple[float, float]:
    """The 95 % interval of a kernel distance, by the jackknife over the samples; the reference counts as given.

    Args:
      reference: (n, d) features.
      samples: (m, d) features, three or more.
      value: what `kernel_distance` gave for the same arguments.
      kernel: as there.
      bandwidth: as there.
      groups: so many parts of the samples are left out in turn.

    Returns:
      Both ends. Of a distance of 0 the lower one is below 0.

    Raises:
      ValueError: as `kernel_distance`.
    """
    x, y = sets.pair("reference", reference, "samples", samples, least=3)
    if kernel == "gaussian" and bandwidth is None:
        bandwidth = _bandwidth_of(x)
    grams = _kernel(kernel, bandwidth)
    group = groups_of(len(y), groups)
    # Column g is 1 for the samples of group g. What is left of a sum when a group goes is the sum less its rows, less
    # its columns, and its own square once more.
    belongs = np.equal(group[:, None], np.arange(group.max() + 1)[None]).astype(np.float64)
    pairs = np.zeros((belongs.shape[1], belongs.shape[1]))
    for start, block in _off_diagonal(grams(y, y)):
        pairs += belongs[start : start + len(block)].T @ (block @ belongs)
    between = sum((block @ belongs).sum(axis=0) for _, block in grams(x, y))
    left = len(y) - belongs.sum(axis=0)
    within = pairs.sum() - 2 * pairs.sum(axis=1) + np.diag(pairs)
    without = within / (left * (left - 1)) - 2 * (between.sum() - between) / (len(x) * left)
    return around(value, without)


# Inside the functions below the name belongs to their argument.
_bandwidth_of = bandwidth


def permutation_test(
    reference: Any,
    samples: Any,
    key: Any,
    permutations: int = 999,
    *,
    kernel: str = "gaussian",
    bandwidth: float | None = None,
) -> PermutationTest:
    """Tests whether two sets come from one distribution, by exchanging their examples at random.

    p = (1 + #{permuted distance >= observed}) / (1 + permutations); source: Gretton et al. 2012, section 5; Phipson &
    Smyth 2010 for the ones. Valid at any n, whatever the distribution: P(p <= alpha) <= alpha when the sets are
    exchangeable.

    For that the statistic must treat both sets alike, so the bandwidth here is the median distance of *both sets
    together*, which no permutation changes (of 10,000 of them drawn at random, when there are more). The bandwidth of
    the reference alone would know which examples are the reference: the observed distance would be measured with a
    kernel made for it, and all the permuted ones with the same. `distance` therefore differs a little from
    `kernel_distance`.

    Args:
      reference: (n, d) features.
      samples: (m, d) features.
      key: jax key of the permutations.
      permutations: how many; the smallest p is 1 / (permutations + 1).
      kernel: as in `kernel_distance`.
      bandwidth: to use another one; the test is valid when it does not depend on which example is in which set.

    Returns:
      A `PermutationTest`.

    Raises:
      ValueError: as `kernel_distance`, or no permutations.
    """
    x, y = sets.pair("reference", reference, "samples", samples)
    if permutations < 1:
        raise ValueError(f"permutations must be 1 or more, got {permutations}")
    both = np.concatenate([x, y])
    draws = sets.draws(key)
    if kernel == "gaussian" and bandwidth is None:
        few = draws.permutation(len(both))[:_MEDIAN_ROWS] if len(both) > _MEDIAN_ROWS else slice(None)
        bandwidth = _median_distance(both[few])
    grams = _kernel(kernel, bandwidth)
    # Column c is 1 where permutation c puts an example into the first set; column 0 is the sets as they are.
    first = np.zeros((len(both), permutations + 1))
    first[: len(x), 0] = 1
    for column in range(1, permutations + 1):
        first[draws.permutation(len(both))[: len(x)], column] = 1
    rows = np.empty(len(both))
    within = np.zeros(permutations + 1)
    for start, block in _off_diagonal(grams(both, both)):
        here = slice(start, start + len(block))
        rows[here] = block.sum(axis=1)
        within += np.einsum("rc,rc->c", first[here], block @ first)
    touching = rows @ first
    n, m = len(x), len(y)
    distances = (
        within / (n * (n - 1))
        + (rows.sum() - 2 * touching + within) / (m * (m - 1))
        - 2 * (touching - within) / (n * m)
    )
    # Ties count against the difference, also when rounding parts them.
    tolerance = 1e-12 * np.abs(rows).sum() / (min(n, m) * (min(n, m) - 1))
    reached = int(np.sum(distances[1:] >= distances[0] - tolerance))
    return PermutationTest(
        distance=float(distances[0]),
        p_value=(1 + reached) / (1 + permutations),
        permutations=permutations,
        bandwidth=float(bandwidth) if kernel == "gaussian" and bandwidth is not None else None,
    )


_Grams = Callable[[np.ndarray, np.ndarray], Iterator[tuple[int, np.ndarray]]]


def _kernel(name: str, bandwidth: float | None) -> _Grams:
    """(a, b) -> blocks of rows of k(a, b)."""
    if name not in KERNELS:
        raise ValueError(f"no kernel {name!r}; {nearest(name, KERNELS)}")
    if name == "polynomial":
        if bandwidth is not None:
            raise ValueError("the polynomial kernel has no bandwidth")
        return _polynomial
    if bandwidth is None or not 0 < bandwidth < float("inf"):
        raise ValueError(f"bandwidth must be above 0 and finite, got {bandwidth}")
    scale = -0.5 / bandwidth**2

    def gaussian(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        for start, block in sets.blocks(a, b):
            block *= scale
            yield start, np.exp(block, out=block)

    return gaussian


def _polynomial(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    rows = max(1, sets.BLOCK // len(b))
    for start in range(0, len(a), rows):
        yield start, (a[start : start + rows] @ b.T / a.shape[1] + 1.0) ** 3


def _off_diagonal(blocks: Iterator[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks of a square matrix with 0 on its diagonal."""
    for start, block in blocks:
        rows = np.arange(len(block))
        block[rows, start + rows] = 0.0
        yield start, block
