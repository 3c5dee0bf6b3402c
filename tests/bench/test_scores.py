"""Intervals, permutations, steps and verdicts on cases with known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nd_jax.bench import ablation, recipes, scores
from nd_jax.bench.scores import Figure


def test_wilson():
    # Wilson 1927; 8 of 10 gives 0.490 to 0.943 (Brown, Cai and DasGupta 2001).
    found = scores.share([True] * 8 + [False] * 2)
    assert (found.value, found.count) == (0.8, 10)
    assert found.low == pytest.approx(0.4902, abs=1e-4) and found.high == pytest.approx(0.9433, abs=1e-4)
    full = scores.share([True] * 20)
    assert full.high == 1 and full.low == pytest.approx(0.8389, abs=1e-4)
    assert math.isnan(scores.share([]).value)


def test_bootstrap_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(100):
        found = scores.bootstrap(rng.normal(3.0, 1.0, 60), np.mean, seed=trial, resamples=300)
        hits += found.low <= 3.0 <= found.high
    assert 85 <= hits <= 100
    assert scores.bootstrap([1.0, math.nan, 3.0], np.mean).count == 2
    assert math.isnan(scores.bootstrap([math.nan]).value)


def test_permutations_see_a_pairing_and_stay_near_their_null_without_one():
    rng = np.random.default_rng(1)
    table = rng.normal(size=(30, 30))
    nothing = scores.shuffled(table, permutations=199)
    assert nothing.p > 0.02 and nothing.null.low < nothing.observed < nothing.null.high
    paired = scores.shuffled(table + 4 * np.eye(30), permutations=199)
    assert paired.p == pytest.approx(1 / 200) and paired.observed > paired.null.high


def test_permutations_stay_within_groups():
    table = np.full((4, 4), math.nan)
    table[:2, :2], table[2:, 2:] = 1.0, 2.0
    found = scores.shuffled(table, lambda values: float(values.sum()), permutations=50, groups=np.asarray([0, 0, 1, 1]))
    assert found.observed == 6 and found.null.low == found.null.high == 6 and found.p == 1


def test_steps_to_ninety_per_cent():
    steps = (0, 10, 20, 40)
    history = np.asarray([[0.0, 1.0, 5.0], [8.0, 1.0, 5.0], [9.0, 1.0, 4.0], [10.0, 3.0, 4.0]])
    found = scores.steps_to(history, steps)
    assert found[0] == 20 and found[1] == pytest.approx(38) and math.isnan(found[2])


def figure(low, high):
    return Figure((low + high) / 2, low, high, 10)


@pytest.mark.parametrize(
    ("passing", "truth", "speed", "expected"),
    [
        ((0.1, 0.2), (-0.2, -0.1), (2, 3), "pays"),
        ((-0.2, -0.1), (0.1, 0.2), (0.4, 0.5), "harms"),
        ((-0.1, 0.1), (0.1, 0.2), (2, 3), "pays"),
        ((-0.1, 0.1), (-0.2, -0.1), (0.4, 0.5), "harms"),
        ((-0.1, 0.1), (-0.1, 0.1), (0.4, 0.5), "pays"),
        ((-0.1, 0.1), (-0.1, 0.1), (2, 3), "harms"),
        ((-0.1, 0.1), (-0.1, 0.1), (0.9, 1.1), "neutral"),
        ((-0.1, 0.1), (0.001, 0.003), (0.97, 0.99), "neutral"),
    ],
)
def test_verdicts(passing, truth, speed, expected):
    assert ablation.verdict(figure(*passing), figure(*truth), figure(*speed)) == expected


def outcome(recipe, passed, level, steps):
    count = len(passed)
    return ablation.Outcome(
        recipe,
        np.asarray(passed),
        np.full(count, level),
        np.full(count, level),
        np.full(count, steps),
        np.zeros(count),
        np.zeros(2),
        (0, 1),
    )


def test_worth_has_the_sign_of_the_idea():
    base = outcome(recipes.Recipe("default", ""), [True] * 20, 0.98, 10.0)
    without = outcome(recipes.Recipe("no idea", "idea"), [False] * 20, 0.6, 20.0)
    found = ablation.worth(base, without)
    assert found.verdict == "pays" and found.in_default and found.passing.value == 1
    assert found.truth.value == pytest.approx(0.38) and found.speed.value == pytest.approx(0.5)
    added = ablation.worth(base, outcome(recipes.Recipe("+ idea", "idea", adds=True), [False] * 20, 0.6, 20.0))
    assert added.verdict == "harms" and not added.in_default and added.passing.value == -1
