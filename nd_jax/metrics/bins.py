"""NDB: in how many regions of the training data are there too many or too few samples."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from nd_jax.metrics import sets
from nd_jax.proportions import wilson_interval


@dataclasses.dataclass(frozen=True)
class Bins:
    """Where training examples and samples fall.

    Attributes:
      different: NDB, the number of bins whose shares differ significantly.
      jensen_shannon: divergence of the two rows of shares, in nats, 0 ... log 2.
      k: bins.
      train: (k,) share of the training examples in each bin.
      samples: (k,) share of the samples.
      flags: (k,) booleans, which bins differ.
      z: (k,) how far, in standard errors; positive where training has more.
      centres: (k, d) in the space of the whitened features.
      assignment: (m,) the bin of each sample.
    """

    different: int
    jensen_shannon: float
    k: int
    train: np.ndarray
    samples: np.ndarray
    flags: np.ndarray
    z: np.ndarray
    centres: np.ndarray
    assignment: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """The numbers, JSON-ready, with the Wilson interval of the share as if bins were independent."""
        low, high = wilson_interval(self.different, self.k)
        return {
            "different": self.different,
            "k": self.k,
            "share": self.different / self.k,
            "share_low": low,
            "share_high": high,
            "jensen_shannon": self.jensen_shannon,
        }


def ndb(
    train: Any,
    samples: Any,
    k: int = 100,
    *,
    key: Any = None,
    centres: Any = None,
    whitening: bool = False,
    significance: float = 0.05,
    z_threshold: float | None = None,
) -> Bins:
    """The number of statistically different bins.

    Source: Richardson & Weiss 2018, "On GANs and GMMs", section 3. The training set is cut into k cells by k-means
    (k-means++, Lloyd); a two-proportion z-test with pooled variance compares the shares in each cell. Of samples from
    the training distribution itself k times `significance` bins are expected to differ, not 0: read the row of held-out
    real examples beside it. With more samples smaller differences become significant, so compare at one m.

    Args:
      train: (n, d) features.
      samples: (m, d) features.
      k: bins; the z-test wants about ten examples a bin or more in both sets. Taken from `centres` when they are given.
      key: jax key of the k-means; needed without `centres`.
      centres: (k, d) centres of the bins, in the whitened space, to use instead of k-means.
      whitening: divide the features, less their mean, by their standard deviation (plus 1e-6) over the training set.
      significance: p below which a bin differs.
      z_threshold: |z| above which a bin differs, instead of `significance`.

    Returns:
      A `Bins`.

    Raises:
      ValueError: shapes that do not fit, values that are not finite, k of less than 2 or not below n, neither key nor
        centres, senseless thresholds.
    """
    x, y = sets.pair("train", train, "samples", samples)
    if not 0 < significance < 1 or (z_threshold is not None and not z_threshold > 0):
        raise ValueError(
            f"significance must be between 0 and 1 and z_threshold above 0, got {significance} and {z_threshold}"
        )
    if whitening:
        mean, deviation = x.mean(axis=0, keepdims=True), x.std(axis=0, keepdims=True) + 1e-6
        x, y = (x - mean) / deviation, (y - mean) / deviation
    if centres is not None:
        middles = sets.features("centres", centres, dimensions=x.shape[1])
    elif key is None:
        raise ValueError("ndb needs a key for its k-means, or the centres of the bins")
    else:
        middles = kmeans(x, k, key)
    k = len(middles)
    here = np.bincount(_cells(x, middles), minlength=k) / len(x)
    assignment = _cells(y, middles)
    there = np.bincount(assignment, minlength=k) / len(y)
    z = _z(here, len(x), there, len(y))
    flags = np.abs(z) > z_threshold if z_threshold is not None else _two_sided(z) < significance
    return Bins(int(flags.sum()), _jensen_shannon(here, there), k, here, there, flags, z, middles, assignment)


def _z(p: np.ndarray, n: int, q: np.ndarray, m: int) -> np.ndarray:
    pooled = (p * n + q * m) / (n + m)
    error = np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    # A bin with nobody or with everybody in it does not differ.
    return np.divide(p - q, error, out=np.zeros_like(p), where=error > 0)


def _two_sided(z: np.ndarray) -> np.ndarray:
    from scipy.special import ndtr

    return 2 * ndtr(-np.abs(z))


def _jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    middle = (p + q) / 2

    def divergence(from_: np.ndarray) -> float:
        there = from_ > 0
        return float(np.sum(from_[there] * np.log(from_[there] / middle[there])))

    return (divergence(p) + divergence(q)) / 2


def kmeans(x: Any, k: int, key: Any, *, starts: int = 3, rounds: int = 100) -> np.ndarray:
    """Centres of k clusters, the largest cluster first: k-means++ (Arthur & Vassilvitskii 2007), then Lloyd's rounds.

    Args:
      x: (n, d).
      k: 2 ... n - 1.
      key: jax key.
      starts: so many beginnings; the one with the smallest squared distances wins.
      rounds: at most so many; it ends when no example changes its cluster.

    Returns:
      (k, d) float64.

    Raises:
      ValueError: k outside its range, or fewer than k different examples.
    """
    given = sets.features("x", x)
    if not 2 <= k < len(given):
        raise ValueError(f"k must be 2 ... {len(given) - 1} (less than the number of examples), got {k}")
    draws = sets.draws(key)
    best, smallest = None, np.inf
    for _ in range(starts):
        centres, cost = _lloyd(given, _plus_plus(given, k, draws), rounds)
        if cost < smallest:
            best, smallest = centres, cost
    assert best is not None
    sizes = np.bincount(_cells(given, best), minlength=k)
    return best[np.argsort(-sizes, kind="stable")]


def _plus_plus(x: np.ndarray, k: int, draws: np.random.Generator) -> np.ndarray:
    centres = x[draws.integers(len(x))][None]
    distances = np.square(x - centres).sum(axis=1)
    while len(centres) < k:
        total = distances.sum()
        if not total > 0:
            raise ValueError(f"there are only {len(centres)} different examples, and {k} clusters are wanted")
        chosen = x[draws.choice(len(x), p=distances / total)][None]
        centres = np.concatenate([centres, chosen])
        distances = np.minimum(distances, np.square(x - chosen).sum(axis=1))
    return centres


def _lloyd(x: np.ndarray, centres: np.ndarray, rounds: int) -> tuple[np.ndarray, float]:
    k, cells = len(centres), np.full(len(x), -1)
    for _ in range(rounds):
        before, cells = cells, _cells(x, centres)
        if np.array_equal(before, cells):
            break
        sizes = np.bincount(cells, minlength=k)
        sums = np.equal(np.arange(k)[:, None], cells[None]).astype(np.float64) @ x
        # A cluster that lost everybody stays where it is.
        centres = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], centres)
    return centres, float(np.square(x - centres[cells]).sum())


def _cells(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return np.concatenate([block.argmin(axis=1) for _, block in sets.blocks(x, centres)])
