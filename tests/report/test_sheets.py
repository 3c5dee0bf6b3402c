"""Sheets, GIFs and curves: what stands on them, to the pixel where it matters."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image as Pillow

import nd_jax as nd
from nd_jax.domain import Image, Latent
from nd_jax.report import curves, pictures, sheets

GREY = Image((7, 7, 1), -1.0, 1.0)


def opened(path):
    with Pillow.open(path) as image:
        return np.asarray(image.convert("RGB"))


def written(monkeypatch):
    """The texts that are drawn from now on."""
    from PIL import ImageDraw

    texts, draw = [], ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        ImageDraw.ImageDraw, "text", lambda self, xy, text, **more: [texts.append(text), draw(self, xy, text, **more)]
    )
    return texts


def test_images_stand_in_order_in_whole_pixels(tmp_path):
    """Six images of one grey each: each has as many pixels as the others, and they read like a page."""
    greys = np.linspace(-0.9, 0.9, 6)
    outputs = np.broadcast_to(greys[:, None, None, None], (6, 7, 7, 1))
    image = opened(nd.report.sheet(outputs, GREY, tmp_path / "deep" / "sheet.png", columns=3))
    places = []
    for grey in greys:
        found = np.argwhere((image == round((grey + 1) / 2 * 255)).all(axis=-1))
        low, high = found.min(axis=0), found.max(axis=0) + 1
        assert len(found) == 56 * 56 == np.prod(high - low)
        places.append(tuple(low))
    rows, columns = zip(*places, strict=True)
    assert list(columns[:3]) == sorted(columns[:3]) and columns[:3] == columns[3:]
    assert len(set(rows[:3])) == 1 and rows[3] == rows[0] + 56 + 2


def test_a_value_is_a_block_of_equal_pixels():
    values = np.random.default_rng(0).uniform(-1, 1, (1, 7, 7, 1))
    image = sheets.compose(values, GREY)
    tile = image[8:64, 8:64].reshape(7, 8, 7, 8, 3)
    assert (tile == tile[:, :1, :, :1]).all()
    expected = np.round((values[0, :, :, 0] + 1) / 2 * 255)
    assert np.abs(tile[:, 0, :, 0, 0] - expected).max() <= 1


def test_colour_images_keep_their_colours():
    image = sheets.compose(np.full((2, 5, 5, 3), [0.2, 0.4, 0.6]), Image((5, 5, 3)))
    assert (image == [51, 102, 153]).all(axis=-1).sum() >= 2 * 50 * 50


def test_spectrograms_share_axes_and_one_colour_scale(domain, monkeypatch):
    texts = written(monkeypatch)
    outputs = np.broadcast_to(np.array([0.5, 0.75])[:, None, None, None], (2, *domain.shape))
    image = sheets.compose(outputs, domain, caption="step 500", theme="light")
    for level in (128, 191):
        colour = pictures.colour_table("light")[level]
        assert (image == colour).all(axis=-1).sum() >= 24 * 32 * 4
    assert {"step 500", "time (s)", "frequency (Hz, mel scale)", "1k", "500", "0 dB", "−40 dB", "−80 dB"} <= set(texts)
    assert {"0", "0.2", "0.4"} <= set(texts)


def test_waveforms_are_drawn_as_spectrograms(monkeypatch):
    texts = written(monkeypatch)
    waves = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(2048) / 8000)[None, :, None]
    sheets.compose(waves.astype(np.float32), nd.domain.Waveform(2048, 8000))
    assert {"time (s)", "frequency (Hz)", "0 dB"} <= set(texts)


def test_titles_that_a_column_shares_stand_above_it_once(monkeypatch):
    texts = written(monkeypatch)
    outputs = np.zeros((4, 7, 7, 1))
    sheets.compose(outputs, GREY, columns=2, titles=["zero", "one", "zero", "one"])
    assert texts == ["zero", "one"]
    texts.clear()
    tall = sheets.compose(outputs, GREY, columns=2, titles=["zero", "one", "two", "a name that is too long"])
    assert texts[:3] == ["zero", "one", "two"]
    assert texts[3].endswith("…")
    assert tall.shape[0] > sheets.compose(outputs, GREY, columns=2).shape[0]


def test_what_cannot_be_drawn_is_one_sentence(tmp_path):
    for outputs, domain, more, words in (
        (np.zeros((0, 7, 7, 1)), GREY, {}, "there are no examples"),
        (np.zeros((2, 4)), Latent(4), {}, "of kind 'latent' cannot be drawn"),
        (np.zeros((2, 7, 7, 1)), GREY, {"titles": ["a"]}, "1 titles for 2 examples"),
        (np.zeros((2, 7, 7, 1)), GREY, {"columns": 0}, "columns must be 1 or more"),
    ):
        with pytest.raises(ValueError, match=words):
            nd.report.sheet(outputs, domain, tmp_path / "sheet.png", **more)
    assert not list(tmp_path.iterdir())


def test_values_that_are_not_finite_are_drawn(domain):
    outputs = np.full((1, *domain.shape), np.nan, np.float32)
    assert np.isfinite(sheets.compose(outputs, domain)).all()
    assert sheets.compose(np.full((1, 7, 7, 1), np.inf), GREY).shape


def test_a_file_is_replaced_in_one_step(tmp_path):
    path = sheets.replace(tmp_path / "one.png", b"first")
    with pytest.raises(OSError, match="full"), sheets.drafted(path) as draft:
        draft.write_bytes(b"half")
        raise OSError("the disk is full")
    assert path.read_bytes() == b"first"
    assert [one.name for one in tmp_path.iterdir()] == ["one.png"]


def test_gif_frames_come_in_order_and_the_last_one_stays(tmp_path):
    levels = (40, 120, 200)
    frames = [np.full((20, 30, 3), level, np.uint8) for level in levels]
    path = nd.report.gif(frames, tmp_path / "training.gif", seconds=1.5)
    with Pillow.open(path) as image:
        assert (image.n_frames, image.size, image.info["loop"]) == (3, (30, 20), 0)
        durations, seen = [], []
        for index in range(3):
            image.seek(index)
            durations.append(image.info["duration"])
            seen.append(int(np.asarray(image.convert("L"))[10, 15]))
    assert durations == [500, 500, 2000]
    assert np.abs(np.subtract(seen, levels)).max() <= 4
    again = nd.report.gif(frames, tmp_path / "again.gif", seconds=1.5)
    assert path.read_bytes() == again.read_bytes()
    with pytest.raises(ValueError, match="of one size"):
        nd.report.gif([frames[0], frames[0][:5]], tmp_path / "training.gif")


def test_a_gif_keeps_rare_colours(domain, tmp_path):
    """A quiet spectrogram has few bright pixels; the colour scale beside it must still end in magma's last colour."""
    frame = sheets.compose(np.full((1, *domain.shape), 0.3, np.float32), domain)
    with Pillow.open(nd.report.gif([frame], tmp_path / "one.gif")) as image:
        shown = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(shown - frame).max() <= 30


def test_places_are_thinned_evenly():
    assert sheets.thinned(5, 10) == [0, 1, 2, 3, 4]
    assert sheets.thinned(101, 3) == [0, 50, 100]
    assert sheets.thinned(0, 3) == []


LOG = [
    {
        "step": 10 * step,
        "seconds": 1.0 * step,
        "examples_per_second": 5.0,
        "discriminator_loss": 1.5 / step,
        "generator_loss": 1.0 * step,
        "real_score": 0.7,
        "fake_score": None if step == 2 else 0.3,
        "discriminator_gradient": 10.0**step,
        "generator_gradient": 0.1,
        "sample_spread": 0.2,
        **({"judge": {"inception": 2.0 * step, "confidence": 0.5}} if step > 1 else {}),
    }
    for step in (1, 2, 3)
]


def test_curves_show_every_figure_over_the_steps(tmp_path, monkeypatch):
    import matplotlib.figure

    drawn, save = [], matplotlib.figure.Figure.savefig
    monkeypatch.setattr(
        matplotlib.figure.Figure, "savefig", lambda self, *all, **more: [drawn.append(self), save(self, *all, **more)]
    )
    path = curves(LOG, tmp_path / "curves.png", title="Small", x="step (generator updates)")
    assert Pillow.open(io.BytesIO(path.read_bytes())).format == "PNG"
    panels = {axes.get_title(loc="left"): axes for axes in drawn[0].axes if axes.lines}
    assert list(panels) == ["Losses", "What the discriminator says", "Gradients", "Sample spread", "Judge"]
    assert all(axes.get_xlabel() == "step (generator updates)" for axes in panels.values())
    assert [axes.get_ylabel() for axes in panels.values()] == ["loss", "score", "norm", "sample spread", "judge"]
    generator = panels["Losses"].lines[1]
    assert generator.get_label() == "generator"
    assert (list(generator.get_xdata()), list(generator.get_ydata())) == ([10, 20, 30], [1.0, 2.0, 3.0])
    assert list(panels["What the discriminator says"].lines[1].get_xdata()) == [10, 30]
    assert panels["Gradients"].get_yscale() == "log"
    assert [line.get_label() for line in panels["Judge"].lines] == ["inception", "confidence"]
    assert list(panels["Judge"].lines[0].get_xdata()) == [20, 30]
    assert panels["Sample spread"].get_ylim()[0] == 0, "a constant figure looks constant"
    assert all(axes.get_xlim() == pytest.approx((0, 30.9)) for axes in panels.values())


def test_an_empty_log_is_one_sentence(tmp_path):
    for log in ([], [{"step": 1, "seconds": 2.0}], [{"loss": 1.0}]):
        with pytest.raises(ValueError, match="no figures to draw"):
            curves(log, tmp_path / "curves.png")
