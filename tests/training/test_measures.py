"""Pitch scores and confusion matrices against numbers worked out elsewhere."""

from __future__ import annotations

import sys

import chex
import numpy as np

from nd_jax.training import measures


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
