"""Inception score: parity and extremes; shares of classes with their intervals."""

from __future__ import annotations

import chex
import numpy as np
import pytest

from nd_jax import metrics


@pytest.mark.parametrize("case", ["is0", "is1"])
def test_parity_with_the_reference(shared, case):
    arrays = np.load(shared / "reference" / "metrics" / "inception_score.npz")
    given = arrays[f"{case}/probs"]
    assert metrics.inception_score(given) == pytest.approx(float(arrays[f"{case}/inception_score"]), rel=1e-7)
    known = tuple(arrays[f"{case}/inception_score_4splits_mean_std"])
    chex.assert_trees_all_close(metrics.inception_score(given, splits=4), known, rtol=1e-7)


def test_the_extremes():
    assert metrics.inception_score(np.eye(7)) == pytest.approx(7.0)
    assert metrics.inception_score(np.full((5, 4), 0.25)) == pytest.approx(1.0)
    assert metrics.inception_score(np.tile([[0.0, 1.0]], (6, 1))) == pytest.approx(1.0)
    # Consecutive blocks, the rest unused: two blocks of one class each.
    assert metrics.inception_score(np.repeat(np.eye(2), 3, axis=0)[[0, 1, 2, 3, 4, 5, 0]], splits=2) == (1.0, 0.0)


def test_shares_of_classes_and_confidence():
    given = np.asarray([[0.95, 0.05, 0.0], [0.5, 0.4, 0.1], [0.02, 0.9, 0.08], [0.91, 0.09, 0.0]])
    shares = metrics.class_shares(given, ["a", "b", "c"])
    assert [(label, share["right"]) for label, share in shares.items()] == [("a", 3), ("b", 1), ("c", 0)]
    assert shares["c"]["low"] == 0 < shares["c"]["high"]
    assert list(metrics.class_shares(given)) == ["0", "1", "2"]
    found = metrics.confident_share(given)
    assert (found["right"], found["of"]) == (2, 4) and found["low"] < 0.5 < found["high"]
    assert metrics.confident_share(given, 0.0)["value"] == 1.0


def test_bad_probabilities_are_one_sentence():
    with pytest.raises(ValueError, match="row 1 of the probabilities sums to 3 .*: give the softmax"):
        metrics.inception_score([[0.5, 0.5], [1.0, 2.0]])
    with pytest.raises(ValueError, match="smallest entry of -0.5"):
        metrics.class_shares([[1.5, -0.5]])
    with pytest.raises(ValueError, match="not finite"):
        metrics.inception_score([[np.nan, 1.0]])
    with pytest.raises(ValueError, match=r"splits must be 1 \.\.\. 2"):
        metrics.inception_score(np.eye(2), splits=3)
    with pytest.raises(ValueError, match="2 labels are given, and the probabilities are of 3 classes"):
        metrics.class_shares(np.eye(3), ["a", "b"])
    with pytest.raises(ValueError, match=r"above must be 0 \.\.\. 1"):
        metrics.confident_share(np.eye(3), 90)
