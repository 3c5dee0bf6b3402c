"""How good a classifier is: confusion matrices, and what counts for a pitch."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from nd_jax.proportions import proportion
from nd_jax.runtime import MissingExtraError, require


def pitch_accuracy(labels: Any, predicted: Any) -> dict[str, dict[str, Any]]:
    """What counts for a pitch: exact semitone, within one semitone, and wrong by whole octaves.

    Args:
      labels: (n,) in semitones, for example MIDI numbers.
      predicted: (n,) likewise.

    Returns:
      {"exact", "within_one_semitone", "octave_errors"}, each a `proportion`.
    """
    off = np.asarray(predicted) - np.asarray(labels)
    return {
        "exact": proportion(off == 0),
        "within_one_semitone": proportion(np.abs(off) <= 1),
        "octave_errors": proportion((off != 0) & (off % 12 == 0)),
    }


def confusion_matrix(labels: Any, predicted: Any, classes: int) -> np.ndarray:
    """Counts, (classes, classes) int: row = label, column = prediction."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (np.asarray(labels), np.asarray(predicted)), 1)
    return matrix


def draw_confusion(matrix: np.ndarray, names: Sequence[str], path: Any, *, title: str = "") -> pathlib.Path | None:
    """Draws a confusion matrix to a PNG file.

    Args:
      matrix: (classes, classes) counts, row = label.
      names: one per class.
      path: the file to write.
      title: above the picture.

    Returns:
      The file, or None when matplotlib (extra `report`) is not installed.
    """
    try:
        figures = require("matplotlib.figure", "report")
    except MissingExtraError:
        return None
    size = max(4.0, 0.16 * len(names) + 2)
    figure = figures.Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="magma", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=range(len(names)), yticks=range(len(names)), xlabel="predicted", ylabel="label", title=title)
    small = 5 if len(names) > 20 else 8
    axes.set_xticklabels(names, rotation=90, fontsize=small)
    axes.set_yticklabels(names, fontsize=small)
    if len(names) <= 20:
        for row, column in zip(*np.nonzero(matrix), strict=True):
            colour = "black" if share[row, column] > 0.6 else "white"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=small, color=colour)
    figure.savefig(path, dpi=110)
    return pathlib.Path(path)
