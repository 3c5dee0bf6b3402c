"""What nearest neighbours tell: fidelity and diversity, and whether a generator recites its training set."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from nd_jax.metrics import sets
from nd_jax.proportions import Z95, wilson_interval

# Nearer than this share of the spread of the training set is the same example, but for rounding.
_COPY = 1e-6


@dataclasses.dataclass(frozen=True)
class Coverage:
    """How samples lie among real examples.

    Attributes:
      density: mean number of real neighbourhoods that a sample lies in, over k; about 1 for real examples, not bounded.
      coverage: share of the real neighbourhoods that hold a sample.
      precision: share of the samples that lie in some real neighbourhood.
      recall: share of the real examples that lie in some neighbourhood of a sample.
      density_low: lower end of the 95 % interval of the density, for the real examples as they are.
      density_high: upper end.
      coverage_low: lower end of the 95 % Wilson interval of the coverage, for the samples as they are.
      coverage_high: upper end.
    """

    density: float
    coverage: float
    precision: float
    recall: float
    density_low: float
    density_high: float
    coverage_low: float
    coverage_high: float


def density_coverage(real: Any, fake: Any, k: int = 5) -> Coverage:
    """Density and coverage, with precision and recall.

    Source: Naeem et al. 2020, "Reliable fidelity and diversity metrics for generative models", equations 3 and 4;
    precision and recall: Kynkaanniemi et al. 2019. A neighbourhood is the open ball to the k-th nearest other example
    of its own set.
    For two sets of one distribution of equal size n the expected coverage is 1 - (n - 1) ... (n - k) / ((2n - 1) ...
    (2n - k)), about 1 - 2^-k (0.97 for k = 5); it grows with the number of samples, so compare at one size.
    Precision and recall are led astray by single outliers, which is why density and coverage were made.

    Args:
      real: (n, d) features.
      fake: (m, d) features.
      k: neighbours.

    Returns:
      A `Coverage`.

    Raises:
      ValueError: shapes that do not fit, values that are not finite, or no more than k examples in a set.
    """
    x, y = sets.pair("real", real, "fake", fake)
    if not 1 <= k < min(len(x), len(y)):
        raise ValueError(f"k must be 1 ... {min(len(x), len(y)) - 1} (less than the smaller set), got {k}")
    radius_x, radius_y = _radii(x, k), _radii(y, k)
    covered, recalled = 0, 0
    inside = np.zeros(len(y), np.int64)
    for start, block in sets.blocks(x, y):
        holds = block < radius_x[start : start + len(block), None]
        inside += holds.sum(axis=0)
        covered += int(holds.any(axis=1).sum())
        recalled += int((block < radius_y[None]).any(axis=1).sum())
    each = inside / k
    half = Z95 * float(each.std(ddof=1)) / len(y) ** 0.5
    density = float(each.mean())
    return Coverage(
        density,
        covered / len(x),
        float((inside > 0).mean()),
        recalled / len(x),
        max(density - half, 0.0),
        density + half,
        *wilson_interval(covered, len(x)),
    )


def _radii(x: np.ndarray, k: int) -> np.ndarray:
    """Squared distance of each row to its k-th nearest other row."""
    found = np.empty(len(x))
    for start, block in sets.blocks(x, x):
        rows = np.arange(len(block))
        block[rows, start + rows] = np.inf
        found[start : start + len(block)] = np.partition(block, k - 1, axis=1)[:, k - 1]
    return found


@dataclasses.dataclass(frozen=True)
class Memorisation:
    """How near samples lie to the training set, beside held-out real examples.

    Attributes:
      near: share of the samples nearer to training than `percentile` per cent of the held-out examples are.
      near_low: lower end of its 95 % Wilson interval, for the threshold as it was found.
      near_high: upper end.
      near_p: probability of so many near samples or more, were samples and held-out examples alike (exact).
      expected: what `near` would then be: the share of the held-out examples below the threshold.
      percentile: of the held-out distances, the threshold.
      median_ratio: median distance of the samples over that of the held-out examples; below 1 is suspicious.
      nearer: probability that a sample is nearer to training than a held-out example (ties half); 1/2 when alike.
      c_t: z of that; C_T of Meehan et al. with a single cell. Far below 0: copies. Far above: samples off the data.
      nearer_p: one-sided p of c_t, small for copies.
      copies: share of the samples at distance 0 from a training example, up to rounding.
    """

    near: float
    near_low: float
    near_high: float
    near_p: float
    expected: float
    percentile: float
    median_ratio: float
    nearer: float
    c_t: float
    nearer_p: float
    copies: float

    def to_dict(self) -> dict[str, float]:
        """The numbers, JSON-ready."""
        return dataclasses.asdict(self)


def memorisation(train: Any, held_out: Any, samples: Any, *, percentile: float = 5.0) -> Memorisation:
    """Compares the distance of samples to their nearest training example with that of held-out real examples.

    A generator that has learned the distribution makes samples as far from the training set as real examples that
    nobody was trained on. Source: Meehan et al. 2020, "A non-parametric test to detect data-copying in generative
    models": `c_t` is their Z_U, the Mann-Whitney statistic of the two rows of distances, here without cells. A
    generator that copies now and then and is far off otherwise passes it: `near` looks at the near tail alone, and its
    p is that of the rank of the threshold among exchangeable distances (negative hypergeometric), with nothing assumed
    about them.

    Neither sees copies in a space in which they are far from their originals: use features in which the same sound, a
    little shifted or louder, is near. Held-out examples must be of the same kind as training: of other speakers they
    lie further away, and every honest sample seems a copy.

    Args:
      train: (n, d) features of everything the generator was trained on; a part of it hides copies of the rest.
      held_out: (h, d) features of real examples outside training, 20 or more.
      samples: (m, d) features.
      percentile: of the held-out distances, above 0 and below 100.

    Returns:
      A `Memorisation`.

    Raises:
      ValueError: shapes that do not fit, values that are not finite, too few held-out examples, held-out
        examples that are in the training set, senseless percentile.
    """
    from scipy import stats

    known, others = sets.pair("train", train, "held_out", held_out, least=1)
    made = sets.features("samples", samples, least=1, dimensions=known.shape[1])
    if not 0 < percentile < 100:
        raise ValueError(f"percentile must be above 0 and below 100, got {percentile}")
    if len(others) < 20:
        raise ValueError(
            f"held_out has {len(others)} examples, and 20 or more are needed to know how far real ones lie"
        )
    there, here = sets.nearest(others, known)[1], sets.nearest(made, known)[1]
    h, m = len(there), len(here)
    middle = float(np.median(there))
    spread = float(np.sqrt(np.mean(np.square(known - known.mean(axis=0)[None]).sum(axis=1))))
    if not middle > _COPY * spread:
        raise ValueError(
            "more than half of the held-out examples are copies of training examples: they are not held out"
        )
    rank = max(1, int(np.ceil(percentile / 100 * h)))
    threshold = np.sort(there)[rank - 1]
    near = int(np.sum(here < threshold))
    # At least `near` samples come before the held-out example of that rank: among the first of all, fewer than `rank`
    # are held-out ones.
    near_p = float(stats.hypergeom.cdf(rank - 1, m + h, h, near + rank - 1)) if near else 1.0
    u, p = stats.mannwhitneyu(here, there, alternative="less", method="asymptotic")
    low, high = wilson_interval(near, m)
    return Memorisation(
        near=near / m,
        near_low=low,
        near_high=high,
        near_p=near_p,
        expected=float(np.mean(there < threshold)),
        percentile=percentile,
        median_ratio=float(np.median(here)) / middle,
        nearer=float(1 - u / (m * h)),
        c_t=float((u - m * h / 2) / np.sqrt(m * h * (m + h + 1) / 12)),
        nearer_p=float(p),
        copies=float(np.mean(here <= _COPY * spread)),
    )
