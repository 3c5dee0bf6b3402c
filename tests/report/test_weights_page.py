"""The page of a network's weights, and the weights on the atlas."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest

import nd_jax as nd
from nd_jax import dissect, report
from nd_jax.domain import Axis, Picture
from nd_jax.report.weights import sheet


@pytest.fixture(scope="module")
def page_of_weights(network, tmp_path_factory):
    return report.weights(network, tmp_path_factory.mktemp("weights"), layers=["one", "two"], units=range(4))


@pytest.fixture(scope="module")
def atlas_page(result, exemplars, tmp_path_factory):
    folder = tmp_path_factory.mktemp("atlas")
    return report.atlas(result, folder, exemplars=exemplars, title="Small", progress=False)


def index_of(path):
    return json.loads(re.search(r'id="index">(.*?)</script>', path.read_text(), re.DOTALL)[1])


def test_the_page_tells_axes_in_seconds_and_hertz(page_of_weights, network):
    index = index_of(page_of_weights)
    assert [layer["name"] for layer in index["layers"]] == ["one", "two"]
    one, two = (layer["weights"] for layer in index["layers"])
    assert one["through"] == ["one"] and two["through"] == ["one", "two"]
    assert (one["rows"], one["columns"]) == (3, 3)
    assert "Hz" in one["y"]["title"] and "(s)" in one["x"]["title"]
    assert len(one["y"]["ticks"]) >= 2 and len(one["x"]["ticks"]) >= 2
    found = dissect.composed(network, "one", range(4)).pictures()
    for picture, (most, least) in zip(found, one["extremes"], strict=True):
        assert most[0] == pytest.approx(picture.values.max(), rel=1e-3)
        row, column = np.unravel_index(picture.values.argmin(), picture.values.shape)
        assert least[1:] == pytest.approx([picture.x.values[column], picture.y.values[row]], rel=1e-3)
    assert set(one["sounds"]) == {"0", "1", "2", "3"}
    for unit in range(4):
        assert (page_of_weights.parent / index["base"] / "00" / f"weights.{unit}.wav").is_file()


def test_a_sheet_is_see_through_where_nothing_is():
    from PIL import Image as Pillow

    axis = Axis("x", "px", np.arange(2))
    drawn = [Picture(np.array([[0.0, 1.0], [-0.5, 0.25]]), axis, axis, "", -1, 1)] * 3
    pixels = np.asarray(Pillow.open(io.BytesIO(sheet(drawn, 2, True))))
    assert pixels.shape == (4, 4, 4)
    assert pixels[:2, :2, 3].tolist() == [[0, 255], [127, 63]] or pixels[:2, :2, 3].tolist() == [[0, 255], [128, 64]]
    plus, minus = pixels[0, 1], pixels[1, 0]
    assert plus[0] > plus[2] and minus[2] > minus[0]
    assert not pixels[2:, 2:].any(), "three tiles of four"


def test_the_atlas_draws_them_and_keeps_them(atlas_page, result, exemplars, monkeypatch):
    data = next(atlas_page.parent.glob("atlas-*/00-one.js")).read_text()
    found = json.loads(data[data.index(",") + 1 : -3])["weights"]
    assert found["units"] == list(range(12)) and len(found["sounds"]) >= 10, "all that add something are heard"
    monkeypatch.setattr(report.weights.__globals__["composable"], "__code__", (lambda *given: 1 / 0).__code__)
    report.atlas(result, atlas_page.parent, exemplars=exemplars, title="Small", progress=False)


def test_what_has_no_weights_to_draw_says_so(tmp_path):
    import flax.linen as nn

    class Product(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            return nn.Dense(2, name="out")((x * x).mean((1, 2)))

    variables = {"params": {"out": {"kernel": np.ones((1, 2), np.float32), "bias": np.zeros(2, np.float32)}}}
    network = nd.Network(Product(), variables, input=nd.domain.Image((4, 4, 1)))
    with pytest.raises(ValueError, match="no layer whose weights can be composed"):
        report.weights(network, tmp_path)
    with pytest.raises(ValueError, match="no layer 'outt'"):
        report.weights(network, tmp_path, layers=["outt"])


@pytest.mark.browser
def test_the_page_shows_one_unit_beside_all(driver, page_of_weights, opened):
    with opened(driver, page_of_weights) as page:
        page.open()
        assert page.run("return document.querySelectorAll('.wface').length") == 8
        page.run("document.querySelectorAll('.wface')[2].focus()")
        assert page.run("return document.querySelector('.wbeside h3').textContent") == "unit 2"
        assert "Hz" in page.run("return document.querySelector('.wbeside .units').innerText")
        assert "Largest" in page.run("return document.querySelector('.wbeside').innerText")
        page.run("document.querySelector('.wbeside button').click()")
        page.until("document.getElementById('player').currentTime > 0.02")
        page.size(390, 800)
        assert page.run("return document.documentElement.scrollWidth") <= 390


@pytest.mark.browser
def test_the_atlas_shows_them_with_the_layer_and_the_unit(driver, atlas_page, opened):
    with opened(driver, atlas_page) as page:
        page.open("#/one")
        page.until("document.querySelector('.wsection')")
        assert page.run("return document.querySelector('.wsection summary').textContent") == "Filters"
        page.run("document.querySelector('.wsection').open = true")
        page.until("document.querySelectorAll('.wface').length === 12")
        page.open("#/one/3")
        page.until("document.querySelector('.weighed .wtile')")
        place = page.run("return getComputedStyle(document.querySelector('.weighed .wtile')).backgroundSize")
        assert place == "400% 300%", "twelve tiles, four across"
        for width in (1280, 390):
            page.size(width, 800)
            assert page.run("return document.documentElement.scrollWidth") <= width
