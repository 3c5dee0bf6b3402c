"""Trust cards on the page: what is written, and what a person reads, with pointer, keys and on a phone."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from nd_jax import report
from nd_jax.report import page
from nd_jax.visualize.trust import Trust


def card_of(result, **changes):
    """A card with known numbers for the twelve units of layer "one": unit 2 is dead, 3 silent, 4 has two modes."""
    count = len(result)
    nan = np.full(count, np.nan)
    preference = np.zeros((count, 3), int)
    preference[4] = [0, 1, 1]
    preference[2] = -1
    dead, silent = np.arange(count) == 2, np.arange(count) == 3
    living = np.flatnonzero(~dead)
    fields = {
        "labels": result.labels,
        "layers": result.layers,
        "units": np.asarray(result.units),
        "replicates": np.asarray(result.replicates),
        "count": 12,
        "score": np.full(count, 6.0),
        "mean": np.full(count, 1.0),
        "high": np.full(count, 3.0),
        "survived": np.full(count, 3.5),
        "silent": silent,
        "dead": dead,
        "saturated": np.arange(count) == 5,
        "path_layers": ("before",),
        "same": np.full((count, 1), 0.8),
        "other": np.full((count, 1), 0.2),
        "made": np.full((count, 1), 0.5),
        "twin": np.array([1.0, 2.0, 4.0, np.nan]),
        "agreement": np.where(dead, nan, 0.75),
        "seed_scores": np.tile([6.0, 5.0, 5.5], (count, 1)),
        "preference": preference,
        "others": result.select(np.repeat(living, 2)),
    }
    return Trust(**(fields | changes))


@pytest.fixture(scope="module")
def ones(result):
    return result.select(range(12))


@pytest.fixture(scope="module")
def pages(ones, exemplars, tmp_path_factory):
    base = tmp_path_factory.mktemp("trust")
    full = report.atlas(
        ones, base / "full", exemplars=exemplars, trust=card_of(ones), title="Small", weights=False, progress=False
    )
    alone = np.zeros((12, 1), int) - 1
    quick = card_of(
        ones,
        agreement=np.full(12, np.nan),
        preference=alone,
        seed_scores=np.full((12, 1), 6.0),
        others=None,
        twin=np.zeros(0),
        path_layers=(),
        same=np.zeros((12, 0)),
        other=np.zeros((12, 0)),
        made=np.zeros((12, 0)),
    )
    return {
        "full": full,
        "quick": report.atlas(
            ones, base / "quick", exemplars=exemplars, trust=[quick], weights=False, single_file=True, progress=False
        ),
    }


def details(index):
    base = json.loads(re.search(r'id="index">(.*?)</script>', index.read_text(), re.DOTALL)[1])
    text = next((index.parent / base["base"]).glob("00-*.js")).read_text()
    return base, json.loads(text[text.index(",") + 1 : -3])


def test_a_card_says_what_was_measured(pages):
    index, data = details(pages["full"])
    card = data["units"]["0"]["trust"]
    assert card["ratio"] == 2.5 and card["after"] == 1.25 and card["survives"] == 0.5
    assert card["path"] == 0.5 and card["paths"] == [["before", 0.8, 0.2, 0.5]]
    assert (card["agreement"], card["starts"], card["found"]) == (0.75, 3, 1)
    assert data["trust"] == {"count": 12, "twin": [2.0, 1.0, 4.0], "tried": 4, "answering": 3}
    assert data["units"]["2"]["trust"]["ratio"] is None and data["units"]["2"]["trust"]["dead"]
    assert data["units"]["3"]["trust"]["silent"] and not data["units"]["3"]["trust"]["dead"]
    assert data["units"]["5"]["trust"]["saturated"]
    assert index["layers"][0]["ratio"][:3] == [2.5, 2.5, None]
    assert index["layers"][0]["path"][0] == 0.5


def test_further_preferences_have_pictures_and_sounds(pages, ones):
    _, data = details(pages["full"])
    with_more = {key for key, unit in data["units"].items() if "preferences" in unit["trust"]}
    assert with_more == {"4"}
    rows = data["units"]["4"]["trust"]["preferences"]
    assert [(row["number"], row["score"]) for row in rows] == [(1, 5.5)]
    folder = next(pages["full"].parent.glob("atlas-*")) / "00-one"
    assert (folder / "4.p1.png").is_file() and (folder / "4.p1.wav").is_file()


def test_sounds_that_were_measured_are_not_made_again(ones, exemplars, tmp_path, monkeypatch):
    from nd_jax.report import units

    waves = np.random.default_rng(0).normal(0, 0.1, (12, ones.domain.samples)).astype(np.float32)

    def refuse(*given, **more):
        raise AssertionError("the sounds are known")

    monkeypatch.setattr(units, "sounds", refuse)
    report.atlas(ones, tmp_path / "page", trust=card_of(ones, waves=waves, others=None), weights=False, progress=False)


def test_panels_stay_small():
    sizes = {part: sum(len(page.asset(f"{part}.{kind}").encode()) for kind in ("js", "css")) for part in page.PARTS}
    labels = sizes.pop("labels")
    assert sum(sizes.values()) < 20_000 and labels < 3_500


def test_a_page_without_cards_has_none(ones, tmp_path):
    index, data = details(report.atlas(ones.select([0]), tmp_path / "page", weights=False, progress=False))
    assert "trust" not in data and "trust" not in data["units"]["0"]
    assert index["layers"][0]["ratio"] == [None]


@pytest.mark.browser
@pytest.mark.parametrize("form", ["full", "quick"])
def test_every_line_explains_itself(driver, pages, opened, form):
    with opened(driver, pages[form]) as page:
        page.open("#/one/0")
        page.until("document.querySelectorAll('.ask').length === 7")
        assert page.until("document.querySelectorAll('.naturals > li').length === 4"), "natural sounds beside it"
        words = page.run("return [...document.querySelectorAll('.ask')].map(n => n.innerText)")
        assert "2.5 ×" in words[0] and "50 %" in words[1] and words[4].endswith("no")
        assert ("0.75" if form == "full" else "not measured") in words[2]
        assert ("0.50" if form == "full" else "no earlier layer") in words[3]
        said = []
        for place in range(7):
            page.run(f"document.querySelectorAll('.ask')[{place}].focus()")
            said.append(page.run("return document.getElementById('why').textContent"))
        assert len(set(said)) == 7 and all(len(text) > 30 for text in said)
        assert ("2 × (1 to 4)" in said[0]) == (form == "full")
        page.run("document.querySelectorAll('.ask')[1].dispatchEvent(new PointerEvent('pointerenter'))")
        assert "written as a wav" in page.run("return document.getElementById('why').textContent")
        assert page.run("return document.querySelectorAll('.ask[aria-current=true]').length") == 1


@pytest.mark.browser
def test_lines_are_reached_by_keyboard_and_space_does_not_play(driver, pages, opened):
    from selenium.webdriver.common.keys import Keys

    with opened(driver, pages["full"]) as page:
        page.open("#/one/0")
        page.until("document.querySelectorAll('.ask').length === 7")
        page.run("document.querySelector('.ask').focus()")
        page.key(Keys.TAB)
        assert page.run("return [...document.querySelectorAll('.ask')].indexOf(document.activeElement)") == 1
        page.key(" ")
        assert page.run("return document.getElementById('player').paused")


@pytest.mark.browser
def test_states_and_preferences_are_shown(driver, pages, opened):
    with opened(driver, pages["full"]) as page:
        values = "[...document.querySelectorAll('.ask')].map(n => n.querySelector(':scope > b').textContent)"
        for unit, silent, dead, full in ((2, "no", "yes", "no"), (3, "yes", "no", "no"), (5, "no", "no", "yes")):
            page.open(f"#/one/{unit}")
            page.until("document.querySelectorAll('.ask').length === 7")
            assert page.run(f"return {values}")[4:] == [silent, dead, full]
        page.open("#/one/4")
        page.until("document.querySelector('.others img').naturalWidth === 32")
        assert "another thing" in page.run("return document.querySelector('.others').parentNode.innerText")
        page.run("document.querySelector('.others button').click()")
        page.until("document.getElementById('player').currentTime > 0.02")


@pytest.mark.browser
def test_units_are_sorted_by_it_and_phones_show_it(driver, pages, opened):
    with opened(driver, pages["full"]) as page:
        page.open("#/one")
        options = page.run("return [...document.querySelectorAll('option')].map(n => n.value)")
        assert {"ratio", "path"} <= set(options)
        for theme in ("light", "dark"):
            page.prefer(theme)
            page.size(390, 800)
            page.open("#/one/0")
            page.until("document.querySelectorAll('.ask').length === 7")
            assert page.run("return document.documentElement.scrollWidth") <= 390
            contrast = page.run("return getComputedStyle(document.querySelector('.why')).color")
            assert contrast != page.run("return getComputedStyle(document.body).backgroundColor")
