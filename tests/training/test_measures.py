"""Intervals, pitch scores and confusion matrices against numbers worked out elsewhere."""

from __future__ import annotations

import sys

import chex
import numpy as np
import pytest
import scipy.stats

from nd_jax.training import measures


def test_wilson_interval_of_known_counts():
    for right, total in ((15, 50), (289, 300), (1, 7)):
        known = scipy.stats.binomtest(right, total).proportion_ci(method="wilson")
        chex.assert_trees_all_close(measures.wilson_interval(right, total), tuple(known), atol=1e-6)
    low, high = measures.wilson_interval(10, 10)
    assert abs(high - 1.0) < 1e-9 and 0.72 < low < 0.723
    assert abs(measures.wilson_interval(0, 10)[0]) < 1e-9
    for right, total in ((3, 2), (-1, 4), (0, 0)):
        with pytest.raises(ValueError, match="no proportion"):
            measures.wilson_interval(right, total)


def test_pitch_accuracy_counts_semitones_and_octaves():
    labels, predicted = np.full(8, 60), np.asarray([60, 60, 61, 59, 72, 36, 65, 60])
    found = measures.pitch_accuracy(labels, predicted)
    assert found["exact"]["right"] == 3
    assert found["within_one_semitone"]["right"] == 5
    assert found["octave_errors"]["right"] == 2
    assert found["exact"]["low"] < 3 / 8 < found["exact"]["high"]


def test_confusion_matrix_rows_are_labels(tmp_path):
    matrix = measures.confusion_matrix([0, 0, 1, 2], [0, 1, 1, 2], 3)
    chex.assert_trees_all_equal(matrix, np.asarray([[1, 1, 0], [0, 1, 0], [0, 0, 1]]))
    drawn = measures.draw_confusion(matrix, ["a", "b", "c"], tmp_path / "confusion.png", title="test")
    assert drawn is None or drawn.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_nothing_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert measures.draw_confusion(np.eye(2, dtype=int), ["a", "b"], tmp_path / "confusion.png") is None
    assert not (tmp_path / "confusion.png").exists()
