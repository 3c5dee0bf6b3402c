"""Frechet distance between sets of features, and its extrapolation to infinitely many examples."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from nd_jax.metrics import sets

# Examples a dimension below which no Frechet distance is extrapolated.
LEAST = 5
# Thinning further than this gains no precision worth its time.
_THINNEST = 0.1


@dataclasses.dataclass(frozen=True)
class FrechetInfinity:
    """A Frechet distance as it would be with infinitely many examples.

    Attributes:
      value: intercept of the regression; noise can make it negative when the sets are alike.
      plain: the ordinary, biased distance of the whole sets.
      examples: N, of the smaller set.
      dimensions: of the features.
      fractions: (sizes,) how much of both sets was used.
      distances: (sizes,) the mean distance at each fraction.
      explained: share of the variance of `distances` that the line explains; near 0 when nothing but noise is there.
      real: the same for held-out real examples against the same reference, the row to read `value` beside; or None.
    """

    value: float
    plain: float
    examples: int
    dimensions: int
    fractions: tuple[float, ...]
    distances: tuple[float, ...]
    explained: float
    real: FrechetInfinity | None = None

    def to_dict(self) -> dict[str, Any]:
        """The record, JSON-ready, without the points of the regression."""
        found = {name: getattr(self, name) for name in ("value", "plain", "examples", "dimensions", "explained")}
        return found | ({"real": self.real.to_dict()} if self.real else {})


def frechet_distance(a: Any, b: Any) -> float:
    """Squared Frechet distance of the Gaussians with the means and covariances of two sets.

    |mu_a - mu_b|^2 + tr(S_a) + tr(S_b) - 2 tr((S_a S_b)^(1/2)); source: Dowson & Landau 1982, Heusel et al. 2017
    ("FID"). The last trace is the sum of the singular values of R_a R_b', with S = R'R from a QR decomposition of the
    centred features: no square root of a matrix, no eigenvalue that ought to be 0 and is below; covariances without
    full rank are nothing special.

    Biased upwards by about (a constant) / n: state `frechet_infinity` instead.

    Args:
      a: (n, d) features.
      b: (m, d) features.

    Returns:
      The distance, in squared units of the features; of a set to itself 0 up to rounding (about 1e-13 of its variance).

    Raises:
      ValueError: shapes that do not fit, fewer than two examples, or values that are not finite.
    """
    return _distance(*sets.pair("a", a, "b", b))


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    mean_a, root_a = _moments(a)
    mean_b, root_b = _moments(b)
    both = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    return float(np.sum((mean_a - mean_b) ** 2) + np.sum(root_a**2) + np.sum(root_b**2) - 2 * both)


def _moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d,) and R (min(n, d), d) with R'R the covariance of the rows (divided by n - 1)."""
    mean = x.mean(axis=0)
    root = np.asarray(np.linalg.qr((x - mean[None]) / np.sqrt(len(x) - 1), mode="r"))
    return mean, root


def frechet_infinity(
    a: Any, b: Any, key: Any, *, real: Any = None, sizes: int = 10, repeats: int = 4
) -> FrechetInfinity:
    """The Frechet distance extrapolated to infinitely many examples.

    Source: Chong & Forsyth 2020, "Effectively unbiased FID and Inception Score and where to find them": the distance at
    several N, a line in 1 / N, its intercept. There only the generated set is thinned, against a reference of 50,000.
    Here both sets are thinned by the same fraction, so that the bias of a small reference goes too; for a reference
    without bias the two are the same. Fractions are evenly spaced in 1 / N.

    What is left of the bias is of order (d / N)^2, and grows large when N is small for d: below N = 5 d it refuses.
    There is no interval: a bootstrap draws doubles, which look like a poorer set, and its interval does not contain the
    truth.

    Args:
      a: (n, d) features of the reference.
      b: (m, d) features of the samples.
      key: jax key of the subsets; the thinnest has 5 d examples, or half of all when there are fewer than 10 d.
      real: (h, d) features of held-out real examples, for the real-against-real row; None for none.
      sizes: points of the regression.
      repeats: subsets a point, averaged (the point of the whole sets needs one).

    Returns:
      A `FrechetInfinity`.

    Raises:
      ValueError: fewer than 5 d examples in any set, or as `frechet_distance`.
    """
    a, b = sets.pair("a", a, "b", b)
    if sizes < 2 or repeats < 1:
        raise ValueError(f"a line needs sizes of 2 or more and repeats of 1 or more, got {sizes} and {repeats}")
    given = {"a": a, "b": b}
    if real is not None:
        given["real"] = sets.features("real", real, dimensions=a.shape[1])
    for name, values in given.items():
        if len(values) < LEAST * a.shape[1]:
            raise ValueError(
                f"{name} has {len(values)} examples of {a.shape[1]} dimensions, and a Frechet distance needs {LEAST} a "
                f"dimension ({LEAST * a.shape[1]}): use kernel_distance, or features of fewer dimensions"
            )
    draws = sets.draws(key)
    found = _extrapolate(a, b, draws, sizes, repeats)
    if real is None:
        return found
    return dataclasses.replace(found, real=_extrapolate(a, given["real"], draws, sizes, repeats))


def _extrapolate(a: np.ndarray, b: np.ndarray, draws: np.random.Generator, sizes: int, repeats: int) -> FrechetInfinity:
    examples, dimensions = min(len(a), len(b)), a.shape[1]
    thinnest = float(np.clip(LEAST * dimensions / examples, _THINNEST, 0.5))
    inverse = np.linspace(1.0, 1.0 / thinnest, sizes)
    plain = _distance(a, b)
    points = [plain]
    for fraction in 1.0 / inverse[1:]:
        parts = [
            _distance(
                a[draws.permutation(len(a))[: round(fraction * len(a))]],
                b[draws.permutation(len(b))[: round(fraction * len(b))]],
            )
            for _ in range(repeats)
        ]
        points.append(float(np.mean(parts)))
    slope, intercept = np.polyfit(inverse, points, 1)
    spread = np.var(points)
    left = np.var(points - (slope * inverse + intercept))
    return FrechetInfinity(
        value=float(intercept),
        plain=plain,
        examples=examples,
        dimensions=dimensions,
        fractions=tuple(float(fraction) for fraction in 1.0 / inverse),
        distances=tuple(points),
        explained=float(1 - left / spread) if spread > 0 else 0.0,
    )
