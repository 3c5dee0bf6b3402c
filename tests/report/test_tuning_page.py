"""Measured tuning on the pages of units: maps with axes in Hz, dB and s, and a sentence."""

from __future__ import annotations

import io
import json
import re

import jax
import numpy as np
import pytest

from nd_jax import dissect, report
from nd_jax.report import pictures


@pytest.fixture(scope="module")
def tuned(network):
    bank = dissect.sound_bank(
        network,
        key=jax.random.key(0),
        tones_per_octave=3,
        levels=(-60.0, -40.0, -20.0),
        rates=(4.0, 8.0, 16.0),
        ripple_rates=(4.0, 8.0),
        densities=(0.0, 1.0),
        carriers=1,
        noises=16,
    )
    return dissect.measured_tuning(network, ["one"], bank=bank)


@pytest.fixture(scope="module")
def page_of_tuning(result, tuned, tmp_path_factory):
    return report.atlas(result, tmp_path_factory.mktemp("tuned"), tuning=tuned, weights=False, progress=False)


def data_of(path, slug):
    text = next(path.parent.glob(f"atlas-*/{slug}.js")).read_text()
    return json.loads(text[text.index(",") + 1 : -3])


def test_sheets_and_words_of_every_unit(page_of_tuning, tuned):
    from PIL import Image as Pillow

    data = data_of(page_of_tuning, "00-one")
    maps = data["tuned"]["maps"]
    assert "(Hz)" in maps["tones"]["x"]["title"] and "dBFS" in maps["tones"]["y"]["title"]
    assert maps["strf"]["x"]["title"] == "time (s)" and maps["strf"]["y"]["title"] == "frequency (Hz)"
    assert "Hz" in maps["ripples"]["x"]["title"] and maps["ripples"]["y"]["title"] == "density (cycles/octave)"
    assert [text for _, text in maps["ripples"]["y"]["ticks"]] == ["1", "0"], "upwards"
    for unit, entry in data["units"].items():
        assert entry["tuned"]["words"] == str(tuned.unit("one", int(unit)))
    assert any(entry["tuned"]["answers"] for entry in data["units"].values())
    content = next(page_of_tuning.parent.glob("atlas-*/00-one/tuning.tones.png")).read_bytes()
    pixels = np.asarray(Pillow.open(io.BytesIO(content)).convert("RGB"))
    rows, columns = maps["tones"]["rows"], maps["tones"]["columns"]
    responses = tuned.layers["one"].tones
    assert pixels.shape == (rows * maps["tones"]["down"], columns * maps["tones"]["across"], 3)
    unit = int(np.ptp(responses, axis=(1, 2)).argmax())
    row, column = divmod(unit, maps["tones"]["across"])
    tile = pixels[row * rows : (row + 1) * rows, column * columns : (column + 1) * columns][::-1]
    level, frequency = np.unravel_index(responses[unit].argmax(), responses[unit].shape)
    assert tile[level, frequency].tolist() == pictures.colour_table()[-1].tolist(), "the brightest is the highest"


def test_layers_that_were_not_measured_have_none(page_of_tuning):
    index = json.loads(re.search(r'id="index">(.*?)</script>', page_of_tuning.read_text(), re.DOTALL)[1])
    other = next(layer["slug"] for layer in index["layers"] if layer["name"] != "one")
    data = data_of(page_of_tuning, other)
    assert "tuned" not in data and all("tuned" not in entry for entry in data["units"].values())


@pytest.mark.browser
def test_the_unit_page_draws_them_in_both_themes(driver, page_of_tuning, opened, tuned):
    unit = next(unit for unit in range(12) if tuned.unit("one", unit).answers)
    with opened(driver, page_of_tuning) as page:
        page.open(f"#/one/{unit}")
        page.until("document.querySelectorAll('.tuned .wtile').length === 3")
        words = page.run("return document.querySelector('.tuned p').textContent")
        assert words.lower() == f"{tuned.unit('one', unit)}.".lower()
        assert (
            page.run("return document.querySelector('.tuned .line path:not(.end)').getAttribute('d')").count("L") == 2
        )
        for theme in ("dark", "light"):
            page.run(f"document.documentElement.dataset.theme = '{theme}'")
            shown = page.run("return getComputedStyle(document.querySelector('.tuned .wtile.map')).filter")
            assert (shown == "none") == (theme == "dark")
        for width in (1280, 390):
            page.size(width, 800)
            assert page.run("return document.documentElement.scrollWidth") <= width
            assert page.run("return document.querySelector('.tuned .wtile').getBoundingClientRect().height") > 100
