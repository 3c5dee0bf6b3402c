"""The bench from the command line to the page, small."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

from nd_jax.bench import natural, planted, recipes, visualization
from nd_jax.experiments import truth_bench


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("truth")
    chosen = ["--quick", "--chapters", "visualization", "--seeds", "4", "--steps", "16", "--out", str(folder)]
    assert truth_bench.main(chosen) == 0
    return folder, json.loads((folder / "figures.json").read_text())


def test_the_page_is_whole(run):
    folder, _ = run
    page = (folder / "index.html").read_text()
    for words in ("By kind of unit", "Controls", "What each idea is worth", "How fast they climb", "Every unit"):
        assert words in page
    assert page.count("<image ") >= 2 * 14 and "<audio" in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "") and "https://" not in page
    assert "<script" not in page


def test_the_figures_are_sane(run):
    _, figures = run
    chapter = figures["chapters"]["visualization"]
    size = planted.QUICK
    rows = chapter["rows"]
    assert len(rows) == 2 * size.units and sum(row["dead"] for row in rows) == 2 * size.dead
    live = [row for row in rows if not row["dead"]]
    ratios = np.asarray([row["ratio"] for row in live])
    assert ratios.max() <= 1 + 1e-4, "nobody is above the constrained maximum"
    assert np.median([row["ratio"] for row in live if not row["closed"]]) > 0.3, "and even a short run climbs"
    assert all(-1 <= row["correlation"] <= 1 for row in live)
    assert chapter["controls"]["correlation"]["p"] <= 0.01
    null, found = chapter["random_weights"]["correlation"], np.median([row["correlation"] for row in live])
    assert null["high"] < found, "pictures of networks with shuffled weights are not like the truth"
    assert [each["recipe"] for each in chapter["recipes"]] == ["default", "lucid"]
    assert chapter["ideas"][0]["verdict"] in ("pays", "neutral", "harms")
    assert {bar["what"] for bar in chapter["bars"]} >= {"dead units: precision", "dead units: recall"}


def test_a_case_comes_out_the_same_twice():
    size = planted.QUICK
    sounds = natural.inputs(jax.random.key(1), size.domain(), 1)
    first, again = (visualization.cases({4: jax.random.key(4)}, size, sounds, (False,))[1] for _ in range(2))
    chosen = visualization.answering(first)
    recipe = recipes.lucid()
    runs = [visualization.look(visualization.select(case, chosen), recipe, 4) for case in (first, again)]
    np.testing.assert_array_equal(runs[0].inputs, runs[1].inputs)
    rows = [visualization.measure(visualization.select(first, chosen), found) for found in runs]
    assert repr(rows[0]) == repr(rows[1])


def test_every_idea_is_changed_once():
    size = planted.QUICK
    domain = size.domain()
    sounds = natural.inputs(jax.random.key(1), domain, 1)
    found = recipes.variants(recipes.default(), domain, sounds)
    names = [recipe.name for recipe in found]
    assert len(set(names)) == len(names)
    assert {"pixels", "bands", "maco", "maco, of pictures", "harmonic", "no transforms"} <= set(names)
    assert {"silence prior", "no polish"} <= set(names)
    assert {"generator prior", "generator prior, free length", "generator prior + latent noise"} <= set(names)
    for transform in ("time shift", "time stretch", "gain"):
        assert f"no {transform}" in names
    default = recipes.default()
    assert all(recipe != default for recipe in found)


def test_senseless_settings_end_in_one_sentence(tmp_path, capsys):
    assert truth_bench.main(["--steps", "2", "--out", str(tmp_path)]) == 1
    assert "steps" in capsys.readouterr().err and not list(tmp_path.iterdir())
