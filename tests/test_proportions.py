"""Intervals of shares against those of scipy."""

from __future__ import annotations

import chex
import numpy as np
import pytest
import scipy.stats

from nd_jax import proportions


def test_wilson_interval_of_known_counts():
    for right, total in ((15, 50), (289, 300), (1, 7)):
        known = scipy.stats.binomtest(right, total).proportion_ci(method="wilson")
        chex.assert_trees_all_close(proportions.wilson_interval(right, total), tuple(known), atol=1e-6)
    low, high = proportions.wilson_interval(10, 10)
    assert abs(high - 1.0) < 1e-9 and 0.72 < low < 0.723
    assert abs(proportions.wilson_interval(0, 10)[0]) < 1e-9
    for right, total in ((3, 2), (-1, 4), (0, 0)):
        with pytest.raises(ValueError, match="no proportion"):
            proportions.wilson_interval(right, total)


def test_a_share_is_ready_for_json():
    found = proportions.proportion(np.arange(8) < 6)
    assert found["right"] == 6 and found["of"] == 8 and found["value"] == 0.75
    assert found["low"] < 0.75 < found["high"]


def test_shares_and_p_values_in_words():
    found = {"value": 0.868, "low": 0.846, "high": 0.888}
    assert proportions.in_words(found) == "86.8 % (84.6 to 88.8)"
    assert proportions.in_words(found, 0) == "87 % (85 to 89)"
    assert proportions.p_in_words(0.0004) == "< 0.001" and proportions.p_in_words(0.0312) == "0.031"
