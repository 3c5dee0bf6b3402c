"""Frechet distance: parity with the reference, cases with a known answer, and what extrapolation removes."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

from nd_jax import metrics


def gaussians(seed, n, d, shift=0.3, scale=1.3):
    """Two sets whose Gaussians are d (shift^2 + (scale - 1)^2) apart."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), shift + scale * rng.normal(size=(n, d))


@pytest.mark.parametrize("case", ["fid0", "fid1", "fid2"])
def test_parity_with_the_reference(shared, case):
    arrays = np.load(shared / "reference" / "metrics" / "frechet.npz")
    x, y = arrays[f"{case}/x"], arrays[f"{case}/y"]
    assert metrics.frechet_distance(x, y) == pytest.approx(float(arrays[f"{case}/frechet"]), rel=1e-7)
    assert abs(metrics.frechet_distance(x, x)) < 1e-10


def test_a_shifted_set_is_as_far_as_its_shift():
    x, _ = gaussians(0, 50, 6)
    shift = np.arange(6.0)
    assert metrics.frechet_distance(x, x + shift[None]) == pytest.approx(np.sum(shift**2), rel=1e-12)
    # Far from the origin nothing is lost but the digits of the features themselves.
    assert metrics.frechet_distance(x + 1e6, x + 1e6 + shift[None]) == pytest.approx(np.sum(shift**2), rel=1e-8)


def test_it_is_symmetric_and_turns_with_the_features():
    x, y = gaussians(1, 40, 5)
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(5, 5)))[0]
    there = metrics.frechet_distance(x, y)
    assert metrics.frechet_distance(y, x) == pytest.approx(there, rel=1e-12)
    assert metrics.frechet_distance(x @ turn, y @ turn) == pytest.approx(there, rel=1e-12)


def test_commuting_covariances_have_a_formula():
    """Diagonal covariances: the sum of (sigma - sigma')^2; here exactly, also with directions of no variance."""
    signs = np.asarray([[1, 1, 1], [1, -1, 1], [-1, 1, 1], [-1, -1, 1.0]])
    one, other = np.asarray([1.0, 2.0, 0.0]), np.asarray([3.0, 0.0, 0.0])
    x, y = signs * one[None], signs * other[None]
    assert metrics.frechet_distance(x, y) == pytest.approx(4 / 3 * ((1 - 3) ** 2 + 2**2), rel=1e-12)


@pytest.mark.parametrize(("n", "d"), [(160, 32), (600, 16)])
def test_extrapolation_removes_the_bias(n, d):
    """At the smallest N that is allowed, and with plenty; the mean over pairs of sets comes within 3 errors or 3 %."""
    truth = d * (0.3**2 + 0.3**2)
    found = [metrics.frechet_infinity(*gaussians(seed, n, d), jax.random.key(seed)) for seed in range(12)]
    values, plain = (np.asarray([getattr(one, name) for one in found]) for name in ("value", "plain"))
    error = values.std(ddof=1) / np.sqrt(len(values))
    assert abs(values.mean() - truth) < max(3 * error, 0.03 * truth)
    assert plain.mean() - truth > 3 * plain.std(ddof=1) / np.sqrt(len(plain))
    assert found[0].plain == metrics.frechet_distance(*gaussians(0, n, d))


def test_without_a_difference_the_value_scatters_around_zero():
    rng = np.random.default_rng(3)
    sets = [rng.normal(size=(2, 120, 12)) for _ in range(12)]
    values = np.asarray([metrics.frechet_infinity(*pair, jax.random.key(0)).value for pair in sets])
    assert values.min() < 0 < values.max()
    assert abs(values.mean()) < 3 * values.std(ddof=1) / np.sqrt(len(values))


def test_the_record_says_what_it_was_made_of():
    x, y = gaussians(4, 100, 10)
    real = np.random.default_rng(5).normal(size=(80, 10))
    found = metrics.frechet_infinity(x, y, jax.random.key(0), real=real, sizes=6, repeats=2)
    assert (found.examples, found.dimensions, len(found.fractions)) == (100, 10, 6)
    assert found.fractions[0] == 1 and found.distances[0] == found.plain and found.fractions[-1] == pytest.approx(0.5)
    assert found.real.examples == 80 and found.real.value < found.value
    assert 0 <= found.explained <= 1
    assert json.loads(json.dumps(found.to_dict()))["real"]["value"] == found.real.value
    again = metrics.frechet_infinity(x, y, jax.random.key(0), real=real, sizes=6, repeats=2)
    assert again == found
    assert metrics.frechet_infinity(x, y, jax.random.key(1), sizes=6, repeats=2).value != found.value


def test_too_few_examples_are_refused():
    x, y = gaussians(6, 60, 12)
    with pytest.raises(ValueError, match=r"b has 59 examples of 12 dimensions, .* 5 a dimension \(60\)"):
        metrics.frechet_infinity(x, y[:59], jax.random.key(0))
    with pytest.raises(ValueError, match="real has 20 examples"):
        metrics.frechet_infinity(x, y, jax.random.key(0), real=x[:20])
    with pytest.raises(ValueError, match="sizes of 2 or more"):
        metrics.frechet_infinity(x, y, jax.random.key(0), sizes=1)


def test_bad_sets_are_one_sentence():
    x, y = gaussians(7, 20, 4)
    with pytest.raises(ValueError, match="b has 3 dimensions, and the set beside it 4"):
        metrics.frechet_distance(x, y[:, :3])
    with pytest.raises(ValueError, match="a has 1 examples, and 2 or more"):
        metrics.frechet_distance(x[:1], y)
    with pytest.raises(ValueError, match=r"b must be numbers of shape \(n, d\), got float64 of shape \(20,\)"):
        metrics.frechet_distance(x, y[:, 0])
    y[3, 1] = np.nan
    with pytest.raises(ValueError, match="b has 1 rows that are not finite, the first is row 3"):
        metrics.frechet_distance(x, y)
