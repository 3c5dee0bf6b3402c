"""Pictures become pixels, PNG files and figures without losing or inventing anything."""

from __future__ import annotations

import io
import re
import sys
import xml.etree.ElementTree as ElementTree

import chex
import numpy as np
import pytest
from PIL import Image

from nd_jax import audio, runtime
from nd_jax.domain import Axis, MelIF, Picture, Sound
from nd_jax.report import pictures


def spectrogram(values, low=-80.0, high=0.0):
    values = np.asarray(values, np.float32)
    time = Axis("time", "s", np.arange(values.shape[1]) * 0.016)
    frequency = Axis("frequency", "Hz", np.geomspace(50, 4000, values.shape[0])[::-1], scale="mel")
    return Picture(values, time, frequency, "dB", low, high)


@pytest.fixture
def picture():
    return spectrogram(np.random.default_rng(0).uniform(-90, 10, (24, 40)))


def lightness(table):
    """CIE L* of sRGB colours."""
    linear = np.where(table <= 0.04045, table / 12.92, ((table + 0.055) / 1.055) ** 2.4)
    y = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(y > 0.008856, 116 * np.cbrt(y) - 16, 903.3 * y)


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_both_maps_are_even_in_lightness_and_end_where_the_theme_begins(theme):
    table = pictures.colour_table(theme).astype(float) / 255
    chex.assert_shape(table, (256, 3))
    levels = lightness(table)
    steps = np.diff(levels) * (1 if theme == "dark" else -1)
    assert steps.min() > -0.5, "the map must not turn back"
    assert np.ptp(levels) > 80
    halves = abs(levels[127] - levels[0]), abs(levels[255] - levels[127])
    assert 0.7 < halves[0] / halves[1] < 1.4
    assert (levels[0] < 2) if theme == "dark" else (levels[0] > 96)


def test_png_holds_one_pixel_per_value_in_the_colours_of_the_map(picture):
    for theme in ("dark", "light"):
        decoded = np.asarray(Image.open(io.BytesIO(pictures.png(picture, theme))).convert("RGB"))
        chex.assert_trees_all_equal(decoded, pictures.pixels(picture, theme))
        share = np.clip((picture.values + 80) / 80, 0, 1)
        chex.assert_trees_all_equal(decoded, pictures.colour_table(theme)[np.round(share * 255).astype(int)])
    scaled = np.asarray(Image.open(io.BytesIO(pictures.png(picture, scale=3))).convert("RGB"))
    chex.assert_shape(scaled, (72, 120, 3))
    chex.assert_trees_all_equal(scaled[1::3, 1::3], pictures.pixels(picture))


def test_colour_pictures_keep_their_colours():
    values = np.random.default_rng(1).uniform(0, 1, (5, 7, 3)).astype(np.float32)
    axes = Axis("column", "px", np.arange(7)), Axis("row", "px", np.arange(5))
    picture = Picture(values, *axes, "", 0.0, 1.0)
    decoded = np.asarray(Image.open(io.BytesIO(pictures.png(picture))).convert("RGB"))
    chex.assert_trees_all_close(decoded.astype(np.float32) / 255, values, atol=0.5 / 255 + 1e-6)
    assert " dB</text>" not in pictures.figure(picture)


def test_values_that_are_not_finite_are_drawn_as_the_floor():
    drawn = pictures.pixels(spectrogram([[np.nan, -np.inf], [np.inf, -80.0]]))
    chex.assert_trees_all_equal(drawn, np.broadcast_to(pictures.colour_table("dark")[0], (2, 2, 3)))


def test_shrink_takes_block_means_and_thins_the_axes(picture):
    small = pictures.shrink(picture, 12, 16)
    chex.assert_shape(small.values, (12, 14))
    chex.assert_trees_all_close(small.values[0, 0], picture.values[:2, :3].mean(), rtol=1e-5)
    chex.assert_trees_all_close(small.values[-1, -1], picture.values[-2:, 39:].mean(), rtol=1e-5)
    assert len(small.x.values) == 14
    assert len(small.y.values) == 12
    assert pictures.shrink(picture, 24, 40) is picture


def test_ticks_stand_at_the_middle_of_their_pixel(picture):
    for share, label in pictures.ticks(picture.x):
        chex.assert_trees_all_close(share, (float(label) / 0.016 + 0.5) / 40, atol=1e-9)
    found = {label: share for share, label in pictures.ticks(picture.y, 8)}
    assert {"100", "1k", "2k"} <= set(found)
    assert found["2k"] < found["100"], "row 0 is the top"
    places = [share for share, _ in pictures.ticks(picture.y, 4)]
    assert np.abs(np.diff(places)).min() >= 0.9 / 4, "labels do not run into each other"
    row = found["1k"] * 24 - 0.5
    near = picture.y.values[int(np.floor(row))], picture.y.values[int(np.ceil(row))]
    assert near[1] <= 1000 <= near[0]


def test_figure_is_one_svg_with_axes_colour_bar_and_escaped_title(picture):
    drawn = pictures.figure(picture, title="<b>& unit 7")
    root = ElementTree.fromstring(drawn)
    text = " ".join("".join(node.itertext()) for node in root.iter() if node.tag.endswith("text"))
    assert "<b>& unit 7" in text
    assert "time (s)" in text
    assert "frequency (Hz, mel scale)" in text
    assert "-80 dB" in text
    assert "0 dB" in text
    addresses = re.findall(r'href="([^"]*)"', drawn)
    assert all(address.startswith("data:image/png;base64,") for address in addresses)
    assert len(addresses) == 2


def test_a_grid_shares_one_colour_range_and_has_players():
    quiet, loud = spectrogram(np.full((4, 4), -60.0), high=-40.0), spectrogram(np.full((4, 4), -60.0))
    shown = pictures.to_html([quiet, loud], titles=["quiet"], sounds=[Sound(np.zeros(80, np.float32), 8000)])
    images = re.findall(r"<image [^>]*preserveAspectRatio[^>]*pixelated[^>]*href=\"([^\"]*)\"", shown)
    assert len(set(images)) == 1, "the same level has the same colour in both"
    assert shown.count("<audio") == 1
    assert "<script" not in shown
    assert "http" not in shown.replace("http://www.w3.org/2000/svg", "")


def test_without_the_extra_one_line_says_how_to_get_it(picture, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(runtime.MissingExtraError, match=r"PIL.Image is needed here .* pip install 'nd_jax\[report\]'"):
        pictures.png(picture)


def test_an_unknown_theme_is_refused_by_name():
    with pytest.raises(ValueError, match="unknown theme 'drak'; did you mean 'dark'"):
        pictures.colour_table("drak")


def test_a_time_axis_has_two_marks_at_least():
    """From just before 0 to just before 1 s steps of 1 leave 0 alone."""
    found = pictures.ticks(Axis("time", "s", np.linspace(-0.016, 0.992, 64)), 3)
    assert [label for _, label in found] == ["0", "0.5"]


def test_small_levels_of_mel_if_pictures_have_axes():
    """A mel-IF has more bands than a page has room: it is thinned, and says seconds and Hz."""
    domain = MelIF(audio.MelIF(sample_rate=8000, samples=600, n_fft=512, frames=8))
    drawn = pictures.level_tiles(np.zeros((2, *domain.shape), np.float32), domain, ["one", "two"])
    assert len(drawn) == 2 and "one" in drawn[0] and "two" in drawn[1]
    assert all("Hz" in svg and "time (s)" in svg for svg in drawn)
