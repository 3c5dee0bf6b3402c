"""Scores of maps on cases with known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nd_jax.bench import attribution_scores as scores

BOX = np.zeros((6, 8), bool)
BOX[1:3, 2:5] = True


def test_mass_counts_the_positive_part():
    assert scores.mass(np.ones((6, 8)), BOX) == pytest.approx(6 / 48)
    assert scores.mass(np.where(BOX, 2.0, -1.0), BOX) == 1.0
    assert scores.mass(np.where(BOX, -1.0, 2.0), BOX) == 0.0
    assert scores.mass(np.zeros((6, 8)), BOX) == 0.0


def test_rank_shares_ties_and_wants_all_of_the_box():
    assert scores.rank(BOX.astype(float), BOX) == 1.0
    one = np.zeros((6, 8))
    one[1, 2] = 1.0
    assert scores.rank(one, BOX) == pytest.approx(1 / 6), "a map of one cell is not wrong, but says little"
    assert scores.mass(one, BOX) == 1.0
    assert scores.rank(np.ones((6, 8)), BOX) == pytest.approx(6 / 48)
    halves = np.where(BOX, 1.0, 0.0)
    halves[1, 2:5], halves[0] = 3.0, 2.0
    # Three of the box lead, then eight beside it share the three places that are left.
    assert scores.rank(halves, BOX) == pytest.approx(0.5)


def test_pointing_shares_ties_and_an_empty_map_points_nowhere():
    assert scores.pointing(np.where(BOX, 1.0, 0.5), BOX) == 1.0
    assert scores.pointing(np.ones((6, 8)), BOX) == pytest.approx(6 / 48)
    assert scores.pointing(np.zeros((6, 8)), BOX) == 0.0


def test_dilation_stops_at_the_edges():
    wide = scores.dilated(BOX, (2, 1))
    assert wide[:5, 1:6].all() and wide.sum() == 5 * 5


def test_a_map_over_one_axis_is_asked_for_that_axis_alone():
    assert scores.along(BOX, ("time",)).sum() == 6 * 3
    assert scores.along(BOX, ("frequency",)).sum() == 2 * 8
    assert scores.along(BOX, ("frequency", "time")).sum() == 6


def test_random_places_are_all_the_moves_of_a_map():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(1, 6, 8))
    found = scores.moved(values, BOX[None], ("frequency", "time"), draws=4000)
    every = [scores.mass(np.roll(values[0], (up, late), (0, 1)), BOX) for up in range(6) for late in range(8)]
    assert found.observed == pytest.approx(every[0])
    assert found.null.value == pytest.approx(np.median(every), abs=0.02)
    assert found.null.high == pytest.approx(np.percentile(every, 97.5), abs=0.03)
    moves = [scores.mass(np.roll(values[0], late, 1), BOX) for late in range(8)]
    along = scores.moved(values, BOX[None], ("time",), draws=2000)
    assert min(moves) - 1e-6 <= along.null.low and along.null.high <= max(moves) + 1e-6


def test_chance_is_told_from_truth():
    rng = np.random.default_rng(1)
    boxes = np.stack([np.roll(BOX, (int(rng.integers(3)), int(rng.integers(4))), (0, 1)) for _ in range(12)])
    assert scores.moved(boxes + 0.1 * rng.uniform(size=boxes.shape), boxes, ("frequency", "time")).p == 0.001
    noise = [scores.moved(rng.normal(size=boxes.shape), boxes, ("frequency", "time"), draws=199).p for _ in range(20)]
    assert np.mean(np.asarray(noise) <= 0.05) <= 0.2 and np.median(noise) > 0.1
    assert scores.moved(np.zeros(boxes.shape), boxes, ("time",)).p == 1.0


def test_the_area_under_the_roc_is_the_chance_to_be_above():
    assert scores.area_under_roc([3, 1, 2], [True, False, False]) == 1.0
    assert scores.area_under_roc([1, 1, 2, 0], [True, False, False, True]) == pytest.approx(0.125)
    assert math.isnan(scores.area_under_roc([1, 2], [True, True]))
