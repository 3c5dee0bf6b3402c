"""Kernel distance: against its definition, without bias, the same in blocks; the test is valid and has power."""

from __future__ import annotations

import itertools

import jax
import numpy as np
import pytest

from nd_jax import metrics
from nd_jax.metrics import sets


def by_definition(x, y, kernel):
    """Gretton's equation 3, one pair at a time."""
    within = [
        np.mean([kernel(a, b) for (i, a), (j, b) in itertools.product(enumerate(z), repeat=2) if i != j])
        for z in (x, y)
    ]
    return within[0] + within[1] - 2 * np.mean([kernel(a, b) for a in x for b in y])


def two_sets(seed, n=12, m=9, d=3, shift=0.4):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), shift + rng.normal(size=(m, d))


def test_it_is_the_definition():
    x, y = two_sets(0)
    median = np.median([np.linalg.norm(a - b) for a, b in itertools.combinations(x, 2)])
    assert metrics.bandwidth(x) == pytest.approx(median, rel=1e-6)
    gaussian = by_definition(x, y, lambda a, b: np.exp(-np.sum((a - b) ** 2) / (2 * median**2)))
    assert metrics.kernel_distance(x, y) == pytest.approx(gaussian, rel=1e-5)
    narrow = by_definition(x, y, lambda a, b: np.exp(-np.sum((a - b) ** 2) / (2 * 0.7**2)))
    assert metrics.kernel_distance(x, y, bandwidth=0.7) == pytest.approx(narrow, rel=1e-10)
    cubic = by_definition(x, y, lambda a, b: (a @ b / 3 + 1) ** 3)
    assert metrics.kernel_distance(x, y, kernel="polynomial") == pytest.approx(cubic, rel=1e-10)


def test_the_bandwidth_is_that_of_the_reference():
    x, y = two_sets(1)
    assert metrics.kernel_distance(x, y) == metrics.kernel_distance(x, y, bandwidth=metrics.bandwidth(x))
    assert metrics.kernel_distance(x, 5 * y) != metrics.kernel_distance(5 * y, x)
    # Without a unit: features in other units give the same number.
    assert metrics.kernel_distance(1000 * x, 1000 * y) == pytest.approx(metrics.kernel_distance(x, y), rel=1e-5)


@pytest.mark.parametrize("kernel", ["gaussian", "polynomial"])
def test_blocks_change_nothing(monkeypatch, kernel):
    x, y = two_sets(2, n=57, m=41)
    whole = metrics.kernel_distance(x, y, kernel=kernel)
    test = metrics.permutation_test(x, y, jax.random.key(0), 50, kernel=kernel)
    monkeypatch.setattr(sets, "BLOCK", 200)
    assert metrics.kernel_distance(x, y, kernel=kernel) == pytest.approx(whole, rel=1e-10)
    again = metrics.permutation_test(x, y, jax.random.key(0), 50, kernel=kernel)
    assert again.p_value == test.p_value and again.distance == pytest.approx(test.distance, rel=1e-10)


@pytest.mark.parametrize("kernel", ["gaussian", "polynomial"])
def test_it_is_unbiased(kernel):
    rng = np.random.default_rng(0)
    pairs = [(rng.normal(size=(30, 3)), rng.normal(size=(20, 3))) for _ in range(1500)]
    values = [metrics.kernel_distance(*pair, kernel=kernel) for pair in pairs]
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 3 * error
    assert 0.3 < np.mean(np.asarray(values) < 0) < 0.8


def test_the_number_of_examples_does_not_move_its_mean():
    few, many = (
        np.asarray([metrics.kernel_distance(*two_sets(seed, n, n), bandwidth=2.0) for seed in range(150)])
        for n in (10, 80)
    )
    assert abs(few.mean() - many.mean()) < 3 * few.std(ddof=1) / np.sqrt(len(few))
    assert many.mean() > 0.01


def test_p_values_are_uniform_when_nothing_differs():
    """Also for sets of different size and with a few coarse values, where examples tie."""
    found = []
    for seed in range(200):
        x, y = two_sets(seed, 25, 40, shift=0.0)
        found.append(metrics.permutation_test(np.round(x), np.round(y), jax.random.key(seed), 39).p_value)
    for level in (0.05, 0.1, 0.25, 0.5, 0.75):
        share = np.mean(np.asarray(found) <= level + 1e-9)
        assert abs(share - level) < 3.5 * np.sqrt(level * (1 - level) / len(found)), level


@pytest.mark.parametrize("kernel", ["gaussian", "polynomial"])
def test_a_difference_is_found(kernel):
    found = [
        metrics.permutation_test(*two_sets(seed, 50, 50, shift=0.6), jax.random.key(seed), 99, kernel=kernel)
        for seed in range(10)
    ]
    assert np.mean([one.p_value <= 0.05 for one in found]) >= 0.9
    assert all(one.distance > 0 for one in found if one.p_value <= 0.05)
    assert min(one.p_value for one in found) == 0.01


def test_a_difference_without_a_shift_is_found():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(150, 2)), 1.6 * rng.normal(size=(150, 2))
    assert metrics.permutation_test(x, y, jax.random.key(0), 199).p_value < 0.02


def test_the_statistic_of_the_test_treats_both_sets_alike():
    x, y = two_sets(5, 30, 30)
    one, other = (metrics.permutation_test(*pair, jax.random.key(1), 20) for pair in ((x, 3 * y), (3 * y, x)))
    assert one.bandwidth == pytest.approx(other.bandwidth, rel=1e-6)
    assert one.distance == pytest.approx(other.distance, rel=1e-5)
    assert one == metrics.permutation_test(x, 3 * y, jax.random.key(1), 20)
    assert one.bandwidth == pytest.approx(metrics.bandwidth(np.concatenate([x, 3 * y])), rel=1e-6)


def test_all_permutations_of_tiny_sets_tie_with_themselves():
    """Two and two examples: only three different splits, so a third of the permutations reach the observed distance."""
    x, y = np.asarray([[0.0], [0.1]]), np.asarray([[5.0], [5.2]])
    p = metrics.permutation_test(x, y, jax.random.key(0), 3000).p_value
    assert abs(p - 1 / 3) < 0.03


def test_a_set_with_itself_is_below_zero():
    """The price of no bias: pairs of an example with itself count between the sets and not within."""
    x, _ = two_sets(6, 40)
    assert metrics.kernel_distance(x, x) < 0


def test_bad_arguments_are_one_sentence():
    x, y = two_sets(7)
    with pytest.raises(ValueError, match="no kernel 'gausian'; did you mean 'gaussian'"):
        metrics.kernel_distance(x, y, kernel="gausian", bandwidth=1.0)
    with pytest.raises(ValueError, match="more than half of the pairs"):
        metrics.kernel_distance(np.full((9, 3), 0.1), y)
    with pytest.raises(ValueError, match="bandwidth must be above 0"):
        metrics.kernel_distance(x, y, bandwidth=0.0)
    with pytest.raises(ValueError, match="polynomial kernel has no bandwidth"):
        metrics.kernel_distance(x, y, kernel="polynomial", bandwidth=1.0)
    with pytest.raises(ValueError, match="samples has 2 dimensions"):
        metrics.permutation_test(x, y[:, :2], jax.random.key(0))
    with pytest.raises(ValueError, match="permutations must be 1 or more"):
        metrics.permutation_test(x, y, jax.random.key(0), 0)
