"""Density, coverage and memorisation: cases counted by hand, lost modes, copied sounds."""

from __future__ import annotations

import itertools
import json

import chex
import numpy as np
import pytest

from nd_jax import metrics
from nd_jax.metrics import sets


def by_definition(x, y, k):
    """Naeem's equations, and precision and recall, from the full matrices of distances."""

    def apart(a, b):
        return np.linalg.norm(a[:, None] - b[None], axis=-1)

    radius_x, radius_y = (np.sort(apart(z, z), axis=1)[:, k] for z in (x, y))
    between = apart(x, y)
    holds = between < radius_x[:, None]
    recalled = (between < radius_y[None]).any(axis=1)
    return holds.sum() / (k * len(y)), holds.any(axis=1).mean(), holds.any(axis=0).mean(), recalled.mean()


@pytest.mark.parametrize("k", [1, 5])
def test_density_and_coverage_are_their_definition(monkeypatch, k):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)), 0.3 + rng.normal(size=(30, 3))
    monkeypatch.setattr(sets, "BLOCK", 300)
    found = metrics.density_coverage(x, y, k)
    assert (found.density, found.coverage, found.precision, found.recall) == pytest.approx(by_definition(x, y, k))


def test_three_points_by_hand():
    """On a line: real 0, 1, 10 with k = 1 have radii 1, 1, 9; fake 0.5 lies in the first two, 5 in the last."""
    found = metrics.density_coverage([[0.0], [1.0], [10.0]], [[0.5], [5.0]], 1)
    assert (found.density, found.coverage, found.precision) == (3 / 2, 1.0, 1.0)


def test_real_against_real():
    """The expected coverage of two sets of one distribution does not depend on it."""
    k, n = 5, 150
    expected = 1 - np.prod([(n - i) / (2 * n - i) for i in range(1, k + 1)])
    found = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        found.append(metrics.density_coverage(rng.normal(size=(n, 2)), rng.normal(size=(n, 2)), k))
    assert np.mean([one.coverage for one in found]) == pytest.approx(expected, abs=0.01)
    assert np.mean([one.density for one in found]) == pytest.approx(1.0, abs=0.05)


def test_a_lost_mode_lowers_coverage_and_not_density():
    rng = np.random.default_rng(1)
    middles = 10 * np.eye(4)
    real = middles[np.arange(400) % 4] + rng.normal(size=(400, 4))
    poor = middles[np.arange(400) % 3] + rng.normal(size=(400, 4))
    found = metrics.density_coverage(real, poor)
    assert found.density > 0.9 and found.precision > 0.9
    assert 0.68 < found.coverage < 0.75 and found.recall < 0.77


def test_an_outlier_moves_precision_and_not_coverage():
    rng = np.random.default_rng(2)
    real, fake = rng.normal(size=(200, 2)), rng.uniform(-6, 6, size=(200, 2))
    far = np.concatenate([real, [[100.0, 100.0]]])
    clean, dirty = metrics.density_coverage(real, fake), metrics.density_coverage(far, fake)
    assert dirty.precision > 2 * clean.precision
    assert abs(dirty.coverage - clean.coverage) < 0.02


# ------------------------------------------------------------------------------------------------------ memorisation


def three_sets(seed, n=400, h=200, m=300, d=6):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=(h, d)), rng.normal(size=(m, d))


def test_fresh_samples_are_not_flagged():
    """Both p values are valid: over many generators without a fault about 5 % lie below 0.05."""
    found = [metrics.memorisation(*three_sets(seed)) for seed in range(120)]
    for name in ("near_p", "nearer_p"):
        assert 0.0 <= np.mean([getattr(one, name) <= 0.05 for one in found]) < 0.11, name
    assert np.mean([one.near for one in found]) == pytest.approx(0.05, abs=0.01)
    assert np.mean([one.median_ratio for one in found]) == pytest.approx(1.0, abs=0.02)
    assert np.mean([one.nearer for one in found]) == pytest.approx(0.5, abs=0.02)
    assert np.std([one.c_t for one in found]) == pytest.approx(1.0, abs=0.2)


def test_copies_are_found():
    train, held_out, samples = three_sets(3)
    rng = np.random.default_rng(4)
    copied = train[:300] + 0.05 * rng.normal(size=samples.shape)
    found = metrics.memorisation(train, held_out, copied)
    assert found.near == 1.0 and found.near_p < 1e-10 and found.nearer_p < 1e-10 and found.c_t < -10
    assert found.nearer > 0.99 and found.median_ratio < 0.2 and found.copies == 0
    exact = metrics.memorisation(train, held_out, train[:300])
    assert exact.copies == 1.0 and exact.median_ratio == 0


def test_a_few_copies_among_samples_that_are_far_off_are_found_in_the_tail():
    """The rank statistic sees samples that are too far and says nothing; the near tail says it."""
    train, held_out, samples = three_sets(5)
    samples = 1.5 * samples
    samples[:45] = train[:45] + 0.01
    found = metrics.memorisation(train, held_out, samples)
    assert found.nearer_p > 0.5 and found.c_t > 2
    assert found.near >= 0.15 and found.near_p < 1e-3
    assert found.near_low < found.near < found.near_high and found.expected < found.near_low


def test_the_p_of_the_tail_is_exact():
    """Against every order of 3 samples and 25 held-out distances: the chance of so many before the second held-out."""
    orders = list(itertools.combinations(range(28), 3))
    held_out = np.arange(25.0)[:, None] + 1
    for near in range(1, 4):
        samples = np.concatenate([np.full(near, 0.5), np.full(3 - near, 99.0)])[:, None]
        found = metrics.memorisation(np.zeros((2, 1)), held_out, samples, percentile=8.0)
        assert found.near == near / 3 and found.expected == 1 / 25
        # Places of the samples among all 28; the second held-out example comes after 1 + (samples before it).
        reached = 0
        for places in orders:
            others = [place for place in range(28) if place not in places]
            reached += sum(place < others[1] for place in places) >= near
        assert found.near_p == pytest.approx(reached / len(orders))


def test_nearest_neighbours_in_blocks():
    rng = np.random.default_rng(6)
    a, b = rng.normal(size=(50, 4)), rng.normal(size=(30, 4))
    index, distance = sets.nearest(a, b)
    apart = np.linalg.norm(a[:, None] - b[None], axis=-1)
    chex.assert_trees_all_equal(index, apart.argmin(axis=1))
    chex.assert_trees_all_close(distance, apart.min(axis=1), rtol=1e-12)
    parts = [block for _, block in sets.blocks(a, b, most=70)]
    assert len(parts) == 25
    chex.assert_trees_all_close(np.concatenate(parts), apart**2, atol=1e-12)


def test_the_record_is_json():
    found = metrics.memorisation(*three_sets(7)).to_dict()
    assert json.loads(json.dumps(found)) == found


def test_bad_arguments_are_one_sentence():
    train, held_out, samples = three_sets(8)
    with pytest.raises(ValueError, match="held_out has 19 examples, and 20 or more"):
        metrics.memorisation(train, held_out[:19], samples)
    with pytest.raises(ValueError, match="samples has 5 dimensions"):
        metrics.memorisation(train, held_out, samples[:, :5])
    with pytest.raises(ValueError, match="they are not held out"):
        metrics.memorisation(train, train[:100], samples)
    with pytest.raises(ValueError, match="percentile must be above 0"):
        metrics.memorisation(train, held_out, samples, percentile=0.0)
    with pytest.raises(ValueError, match=r"k must be 1 \.\.\. 9"):
        metrics.density_coverage(train[:10], samples, 10)
