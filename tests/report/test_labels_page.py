"""Labels on the pages of units: names, scores of every function, chance; names of concepts are never markup."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from nd_jax import dissect, report

NAMES = ("bell", "<img src=x onerror=\"document.title='pwned'\">", "</script><script>document.title='pwned'</script>")


@pytest.fixture(scope="module")
def labels():
    """Units 0, 3, 6, 9 of twelve like the first concept, 1, 4, 7, 10 the second, and so on; 11 nothing."""
    random = np.random.default_rng(2)
    scores = np.eye(3, dtype=np.float32)[np.arange(60) % 3]
    activations = (scores[:, np.arange(12) % 3] + 0.1 * random.normal(size=(60, 12))).astype(np.float32)
    activations[:, 11] = random.normal(size=60)
    one = dissect.layer_labels(activations, scores, NAMES, functions=["cosine_cubed", "rank_reorder"])
    two = dissect.layer_labels(activations, scores[:, ::-1], NAMES, functions=["cosine_cubed"])
    return dissect.Labels(
        NAMES, {"one": {"DB": one, "TAB": two}}, answers={"one": {1: (NAMES[1],), 2: ()}}, named=f"Set {NAMES[1]}"
    )


@pytest.fixture(scope="module")
def labelled(result, labels, tmp_path_factory):
    return report.atlas(result, tmp_path_factory.mktemp("labelled"), labels=labels, weights=False, progress=False)


def parts_of(path):
    index = json.loads(re.search(r'id="index">(.*?)</script>', path.read_text(), re.DOTALL)[1])
    texts = {
        layer["name"]: next(path.parent.glob(f"atlas-*/{layer['slug']}.js")).read_text() for layer in index["layers"]
    }
    return index, {name: json.loads(text[text.index(",") + 1 : -3]) for name, text in texts.items()}


def test_labels_name_units_that_have_no_name(labelled, labels):
    index, data = parts_of(labelled)
    layers = {layer["name"]: layer for layer in index["layers"]}
    for unit, name in enumerate(layers["one"]["label"]):
        best = labels.best("one", unit)
        assert name == (best.name if best.above_chance else "")
    assert set(layers["one"]["label"]) >= set(NAMES)
    assert layers["output"]["label"][0] == "bell" and len(layers["output"]["label"]) == 3, "classes keep their names"
    assert "labels" not in data["output"] and all("labels" not in unit for unit in data["output"]["units"].values())


def test_every_source_and_function_is_there_with_its_scores(labelled, labels):
    _, data = parts_of(labelled)
    shared = data["one"]["labels"]
    assert shared["concepts"] == list(NAMES) and shared["by"] == ["DB", "cosine_cubed"]
    assert shared["clips"] == {"DB": 60, "TAB": 60}
    for key, entry in data["one"]["units"].items():
        mine = entry["labels"]
        assert [(row[0], row[1]) for row in mine["rows"]] == [
            ("DB", "cosine_cubed"),
            ("DB", "rank_reorder"),
            ("TAB", "cosine_cubed"),
        ]
        for source, function, ranked, beaten, shuffles in mine["rows"]:
            label = labels.of("one", int(key), source, function)
            assert [NAMES[place] for place, _ in ranked] == [label.name, *(name for name, _ in label.others[:2])]
            assert ranked[0][1] is None or ranked[0][1] == pytest.approx(label.score, rel=1e-3)
            assert (beaten, shuffles) == (label.beaten, 19)
    assert data["one"]["units"]["1"]["labels"]["said"] == [1] and data["one"]["units"]["2"]["labels"]["said"] == []


@pytest.mark.browser
def test_names_of_concepts_are_text_in_the_page(driver, labelled, opened, labels):
    with opened(driver, labelled) as page:
        for unit in (1, 2):
            page.open(f"#/one/{unit}")
            page.until("document.querySelectorAll('.labels tbody tr').length === 3")
            shown = page.run(
                "return [...document.querySelectorAll('.labels tbody td:nth-child(2)')].map(n => n.textContent)"
            )
            assert shown[0] == NAMES[unit] == labels.best("one", unit).name
            assert page.run("return document.querySelector('h1').textContent").endswith(NAMES[unit])
            assert page.run("return document.querySelectorAll('main img[src=x], main script').length") == 0
            assert "pwned" not in page.run("return document.title").replace("document.title='pwned'", "")
        for width in (1280, 390):
            page.size(width, 800)
            assert page.run("return document.documentElement.scrollWidth") <= width
        page.run("document.querySelector('.labels .like').click()")
        page.until("location.hash === '#/all' && document.querySelector('.tile')")
        assert page.tiles() and all(int(unit) % 3 == 2 for unit in page.tiles()), "those that have the same label"
        page.open("#/one/11")
        page.until("document.querySelector('.labels')")
        if not labels.best("one", 11).above_chance:
            assert "Not above chance" in page.run("return document.querySelector('.labels p').textContent")
