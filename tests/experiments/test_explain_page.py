"""The figure of the page that explains: rows of maps, labels of axes, and maps that are rounding."""

from __future__ import annotations

import chex
import jax
import numpy as np
import PIL.Image
import pytest

import nd_jax as nd
from nd_jax.experiments import explain, explain_page
from nd_jax.experiments.explain_inputs import aims


@pytest.fixture(scope="module")
def network():
    return nd.load("mnist")


def drawn(network, folder, values, score, methods=("saliency",)):
    """The figure of a picture of which methods found the values, as an array, and the page's text."""
    x = np.full(network.input.shape, -0.5, np.float32)
    says = np.eye(10, dtype=np.float32)[3]
    arrays = {"noise/deletion": np.ones(3)}
    for method in methods:
        parts = {"map": values, "score": np.float32(score), "kept": x, "removed": x}
        parts |= {"kept_says": says, "removed_says": says, "deletion": np.ones(3), "insertion": np.ones(3)}
        arrays |= {f"{method}/{name}": value for name, value in parts.items()}
    found = explain_page.Explained("one", x, aims(network, "3", None, None)(x), says, arrays)
    page = explain_page.write(network, [found], explain.Settings(network="mnist", methods=methods, out=folder))
    with PIL.Image.open(next(folder.rglob("sound-000.png"))) as image:
        return np.asarray(image.convert("RGB")), page.read_text()


def test_a_map_of_rounding_is_drawn_as_nothing(network, tmp_path):
    values = np.asarray(jax.random.normal(jax.random.key(0), network.input.shape))
    scale = 20.0 / np.abs(values).max()
    nothing, text = drawn(network, tmp_path / "zero", 0 * values, 20.0)
    assert "Saliency finds nothing" in text
    rounding, text = drawn(network, tmp_path / "rounding", 9e-7 * scale * values, 20.0)
    chex.assert_trees_all_equal(rounding, nothing)
    assert "Saliency finds nothing: no value reaches a millionth of the score, 20." in text
    small, text = drawn(network, tmp_path / "small", 1.1e-6 * scale * values, 20.0)
    assert "finds nothing" not in text and np.abs(small.astype(int) - nothing).max() > 50
    # A mask is of no score.
    _, text = drawn(network, tmp_path / "mask", np.full_like(values, 0.1), 1e7, ("mask",))
    assert "finds nothing" not in text


def test_at_most_three_maps_in_a_row(network, tmp_path, monkeypatch):
    """Seven methods are three rows; every picture has both its axes named."""
    figures, saved = [], explain_page.Leaflet.figure

    def figure(self, name, content, *more):
        figures.append(content)
        saved(self, name, content, *more)

    monkeypatch.setattr(explain_page.Leaflet, "figure", figure)
    methods = ("occlusion", "mask", "integrated_gradients", "smooth_grad", "saliency", "rise", "grad_cam")
    values = np.ones(network.input.shape)
    for count, rows in {1: [1], 3: [3], 4: [2, 2], 5: [3, 2], 7: [3, 3, 1]}.items():
        drawn(network, tmp_path / str(count), values, 1.0, methods[:count])
        maps = [axes for axes in figures[-1].axes if axes.get_images()]
        tops = [round(axes.get_position().y1, 2) for axes in maps]
        # The picture itself stands first in every row.
        assert [tops.count(top) - 1 for top in dict.fromkeys(tops)] == rows
        assert {axes.get_xlabel() for axes in maps} == {"column (px)"}
        assert "row (px)" in {axes.get_ylabel() for axes in maps}
