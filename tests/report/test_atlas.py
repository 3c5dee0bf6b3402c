"""The files of an atlas: complete, escaped, replaced in one step, small, and honest about what is missing."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re

import chex
import flax.linen as nn
import jax
import numpy as np
import pytest
from PIL import Image as PillowImage

import nd_jax as nd
from nd_jax import report
from nd_jax.domain import Image, Latent, Waveform
from nd_jax.report import layers, natural, page, pictures, sounds, units
from nd_jax.report.atlas import card_line


@pytest.fixture(scope="module")
def folder(result, exemplars, tmp_path_factory):
    place = tmp_path_factory.mktemp("atlas")
    report.atlas(result, place, exemplars=exemplars, source="runs/small", command="make demo", progress=False)
    return place


def index_of(place):
    text = (place / "index.html").read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="index">(.*?)</script>', text, re.DOTALL)[1])


def details_of(place, slug):
    text = (place / index_of(place)["base"] / f"{slug}.js").read_text(encoding="utf-8")
    return json.loads(text.removeprefix(f'ND("{slug}",').removesuffix(");\n"))


def test_css_and_javascript_stay_small():
    assert sum(len(page.asset(name).encode()) for name in ("atlas.css", "common.js", "atlas.js")) < 60_000


def test_nothing_on_the_page_points_to_a_network():
    for name in ("atlas.css", "common.js", "atlas.js", "atlas.html"):
        text = page.asset(name).replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|//[a-z]|@import|fetch\(|XMLHttpRequest|innerHTML|eval\(", text), name


def test_every_unit_has_its_files(folder, result):
    index = index_of(folder)
    content = folder / index["base"]
    assert [layer["name"] for layer in index["layers"]] == ["one", "output"]
    assert sum(len(layer["key"]) for layer in index["layers"]) == len(result)
    for layer in index["layers"]:
        details = details_of(folder, layer["slug"])
        for place, key in enumerate(layer["key"]):
            for ending, size in details["units"][key]["files"].items():
                assert (content / layer["slug"] / f"{key}.{ending}").stat().st_size == size
            assert (content / layer["slug"] / f"{key}.wav").exists() == (not layer["silent"][place])
            for row in details["units"][key]["natural"]:
                assert (content / "natural" / f"{row['clip']}.png").is_file()
                assert str(row["clip"]) in details["clips"]


def test_the_page_says_what_the_arrays_say(folder, result, domain):
    index = index_of(folder)
    lane = result.find("one:1")
    layer = index["layers"][0]
    assert layer["score"][1] == pytest.approx(float(result.scores[lane]), rel=1e-4)
    content = folder / index["base"] / layer["slug"]
    drawn = np.asarray(PillowImage.open(content / "1.png").convert("RGB"))
    chex.assert_trees_all_equal(drawn, pictures.pixels(domain.picture(result.inputs[lane])))
    strip = np.asarray(PillowImage.open(content / "1.strip.png"))
    chex.assert_shape(strip, (3 * 24, 32))
    with np.load(content / "1.npz") as file:
        chex.assert_trees_all_close(file["input"], np.asarray(result.inputs[lane]))
        assert json.loads(str(file["manifest"]))["settings"]["steps"] == 6
        assert file["picture_y"][0] > file["picture_y"][-1], "row 0 is the top"
    assert index["picture"]["low"] == -80
    assert index["picture"]["y"]["scale"] == "mel"


def test_the_call_on_the_page_makes_the_unit_again(folder, result, network, monkeypatch):
    code = details_of(folder, "00-one")["units"]["1"]["call"]
    assert "nd.load('runs/small')" in code
    monkeypatch.setattr(nd, "load", lambda path: network, raising=False)
    names: dict = {}
    exec(code, names)
    again, lane = names["result"], result.find("one:1")
    assert again.labels == ("one:1",)
    chex.assert_trees_all_close(again.inputs[0], result.inputs[lane], atol=1e-5)


def test_calls_write_out_settings_that_are_not_the_default(network, tmp_path):
    settings = {"transforms": [nd.transforms.time_shift(0.01)], "parameterization": nd.parameterizations.pixels()}
    made = nd.visualize_batch(
        network,
        nd.objectives.channel("two", [2], power=2),
        key=jax.random.key(9),
        steps=2,
        snapshots=2,
        replicates=2,
        optimizer=nd.visualize.adam(0.02),
        progress=False,
        **settings,
    )
    report.atlas(made, tmp_path, source="x", progress=False)
    assert index_of(tmp_path)["layers"][0]["key"] == ["2", "2.2"]
    names: dict = {}
    code = details_of(tmp_path, "00-two")["units"]["2.2"]["call"].replace("nd.load('x')", "given")
    exec(code, names | {"given": network}, names)
    chex.assert_trees_all_close(names["result"].inputs[0], made.inputs[1], atol=1e-5)


def test_labels_cannot_leave_their_place(folder):
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert "<img" not in text
    assert text.count("</script>") == 2
    assert "&lt;img src=x" in re.search(r"<title>(.*?)</title>", text)[1]
    assert "</script>" not in (folder / index_of(folder)["base"] / "01-output.js").read_text()
    assert index_of(folder)["layers"][1]["label"][1].startswith("<img src=x onerror")


def test_json_survives_everything():
    value = {"a": ["</script>", "<!--", "\u2028", "&amp;", float("nan"), float("inf"), 1 / 3, 7, None, True]}
    text = page.to_json(value)
    assert not set(text) & set("<>&\u2028")
    assert json.loads(text) == {"a": ["</script>", "<!--", "\u2028", "&amp;", None, None, 0.333333, 7, None, True]}


def test_writing_again_replaces_the_page_and_leaves_other_files_alone(result, tmp_path):
    few = result.select([0, 1])
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "atlas-00000000").mkdir()
    (tmp_path / ".index-0123abcd.html").write_text("left by a killed run")
    first = report.atlas(few, tmp_path, progress=False)
    before = index_of(tmp_path)["base"]
    assert report.atlas(few, tmp_path, title="second", progress=False) == first
    after = index_of(tmp_path)
    assert after["title"] == "second"
    assert after["base"] != before
    assert {path.name for path in tmp_path.iterdir()} == {"index.html", "notes.txt", "atlas-00000000", after["base"]}


def test_a_run_that_fails_or_is_killed_leaves_the_old_page(result, tmp_path, monkeypatch):
    report.atlas(result.select([0, 1]), tmp_path, title="old", progress=False)
    few = result.select([2, 3])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(units, "look", interrupt)
    with pytest.raises(KeyboardInterrupt):
        report.atlas(few, tmp_path, title="new", progress=False)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_single_file_holds_everything(result, exemplars, tmp_path):
    report.atlas(result, tmp_path, exemplars=exemplars, single_file=True, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    inside = dict(re.findall(r'<script type="text/plain" id="file:([^"]*)">([^<]*)</script>', text))
    assert PillowImage.open(io.BytesIO(base64.b64decode(inside["00-one/0.png"]))).size == (32, 24)
    assert "file:" not in re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]


def test_a_running_sweep_says_what_is_there_and_what_makes_the_rest(result, tmp_path):
    part = result.select(range(5))
    planned = {"one": 12, "two": 4}
    report.atlas(part, tmp_path, planned=planned, seconds_left=180.0, command="make demo", progress=False)
    index = index_of(tmp_path)
    assert index["progress"] == {"done": 5, "total": 16, "seconds_left": 180.0}
    assert [(layer["name"], len(layer["key"]), layer["planned"]) for layer in index["layers"]] == [
        ("one", 5, 12),
        ("two", 0, 4),
    ]
    assert index["command"] == "make demo"


def test_failed_and_dead_units_carry_their_reason(result, tmp_path):
    inputs = np.array(result.inputs[:3])
    inputs[1] = np.nan
    scores = np.array([1.0, np.nan, 0.0], np.float32)
    status = ("ok", "not finite at step 3, kept as it was before", "dead: the gradient was zero at every step")
    bad = dataclasses.replace(result.select(range(3)), inputs=inputs, scores=scores, status=status)
    report.atlas(bad, tmp_path, progress=False)
    layer = index_of(tmp_path)["layers"][0]
    assert layer["score"] == [1.0, None, 0.0]
    assert layer["reason"][1].startswith("not finite at step 3")
    assert layer["silent"][1]
    assert layer["dead"] == 1
    assert layer["median"] == 1.0


def test_a_dead_unit_has_no_picture_and_no_sound(result, tmp_path):
    words = "dead: no response from 64 starts"
    some = dataclasses.replace(result.select(range(3)), status=("ok", words, "ok"))
    report.atlas(some, tmp_path, progress=False)
    layer, folder = index_of(tmp_path)["layers"][0], tmp_path / index_of(tmp_path)["base"] / "00-one"
    assert layer["reason"] == ["", words, ""]
    assert (layer["dead"], layer["units"], layer["look"][1], layer["silent"][1]) == (1, 3, None, True)
    assert [path.name for path in folder.iterdir() if path.name.startswith("1.")] == ["1.npz"]
    assert list(details_of(tmp_path, "00-one")["units"]["1"]["files"]) == ["npz"]
    shown = report.html_for(some)
    assert shown.count("<svg") == 2
    assert f"one:1: {words}" in shown


def test_silent_on_the_probing_sounds_is_not_dead(result, exemplars, tmp_path):
    constant = np.array([False, True, True] + [False] * 9)
    found = dataclasses.replace(exemplars, constant=exemplars.constant | {"one": constant})
    some = dataclasses.replace(result.select(range(3)), status=("ok", "ok", "dead: no response from 64 starts"))
    report.atlas(some, tmp_path, exemplars=found, progress=False)
    layer = index_of(tmp_path)["layers"][0]
    assert layer["constant"] == [False, True, True]
    assert (layer["unmoved"], layer["dead"]) == (2, 1)
    entries = details_of(tmp_path, "00-one")["units"]
    assert [entries[key]["constant"] for key in "012"] == [False, True, True]
    assert "png" in entries["1"]["files"]


def several(result):
    """Three lanes of two inputs each; the second input of lane 0 is the better one."""
    few = result.select(range(3))
    other = result.select([3, 4, 5])
    scores = np.stack([few.scores, other.scores], axis=1)
    scores[:, 0], scores[0, 1] = 0.0, 1.0
    scores[1:, 1] = -1.0
    return dataclasses.replace(
        few,
        inputs=np.stack([few.inputs, other.inputs], axis=1),
        snapshots=np.stack([few.snapshots, other.snapshots], axis=2),
        history=np.stack([few.history, other.history], axis=2),
        scores=scores,
    )


def test_inputs_made_together_are_all_shown_the_best_first(result, domain, tmp_path):
    made = several(result)
    report.atlas(made, tmp_path, progress=False)
    index = index_of(tmp_path)
    folder = tmp_path / index["base"] / "00-one"
    assert index["layers"][0]["score"] == [1.0, 0.0, 0.0]
    entry = details_of(tmp_path, "00-one")["units"]["0"]
    assert [(one["rank"], one["score"]) for one in entry["others"]] == [(1, 0.0)]
    for name, place in (("0.png", 1), ("0.2.png", 0)):
        drawn = np.asarray(PillowImage.open(folder / name).convert("RGB"))
        chex.assert_trees_all_equal(drawn, pictures.pixels(domain.picture(made.inputs[0, place])))
    assert entry["history"][1] == pytest.approx(made.history[:, 0, 1].tolist(), rel=1e-4)
    assert (folder / "0.2.wav").exists() != entry["others"][0]["silent"]
    with np.load(folder / "0.npz") as file:
        chex.assert_trees_all_close(file["input"], made.inputs[0])
    assert report.html_for(made).count("<svg") == 6


def test_several_runs_of_a_unit_are_one_unit(result, tmp_path):
    twice = nd.visualize.concatenate([result.select(range(3)), result.select([0, 1])])
    report.atlas(twice, tmp_path, planned={"one": 12}, progress=False)
    index = index_of(tmp_path)
    layer = index["layers"][0]
    assert (len(layer["key"]), layer["units"], layer["planned"]) == (5, 3, 12)
    assert index["progress"]["done"] == 3


@pytest.mark.parametrize("single_file", [False, True])
def test_what_did_not_change_is_kept(result, exemplars, tmp_path, monkeypatch, single_file):
    def contents(place):
        base = place / index_of(place)["base"]
        files = {str(path.relative_to(base)): path.read_bytes() for path in base.rglob("*.*") if path.is_file()}
        return {name: content for name, content in files.items() if not name.endswith((".json", ".html"))}

    report.atlas(result.select(range(4)), tmp_path / "page", exemplars=exemplars, progress=False)
    anew = []
    monkeypatch.setattr(units, "at_playback_level", lambda sound: anew.append(sound) or sounds.at_playback_level(sound))
    monkeypatch.setattr(natural, "at_playback_level", lambda sound: pytest.fail("a clip was made again"))
    changed = result.select(range(5))
    changed.inputs[1] = changed.inputs[1][::-1]
    report.atlas(changed, tmp_path / "page", exemplars=exemplars, single_file=single_file, progress=False)
    assert len(anew) == 2, "the unit that changed and the one that is new"
    monkeypatch.undo()
    report.atlas(changed, tmp_path / "fresh", exemplars=exemplars, single_file=single_file, progress=False)
    if single_file:
        inside = [
            sorted(re.findall(r'id="file:[^<]*', (tmp_path / name / "index.html").read_text()))
            for name in ("page", "fresh")
        ]
        assert inside[0] == inside[1]
    else:
        assert contents(tmp_path / "page") == contents(tmp_path / "fresh")


def test_a_page_that_cannot_be_read_is_made_anew(result, tmp_path):
    few = result.select(range(2))
    report.atlas(few, tmp_path, progress=False)
    base = tmp_path / index_of(tmp_path)["base"]
    (base / "kept.json").write_text("{")
    report.atlas(few, tmp_path, progress=False)
    base = tmp_path / index_of(tmp_path)["base"]
    (base / "00-one" / "0.png").unlink()
    report.atlas(few, tmp_path, progress=False)
    assert (tmp_path / index_of(tmp_path)["base"] / "00-one" / "0.png").is_file()


def plain_network(module, domain, labels=()):
    variables = module.init(jax.random.key(0), np.zeros((1, *domain.shape), np.float32))
    return nd.Network(module, variables, input=domain, labels=labels)


class Dense(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(4, name="units")(x.reshape(len(x), -1))


@pytest.mark.parametrize("domain", [Image((12, 10, 1)), Image((12, 10, 3)), Waveform(4096, 8000)])
def test_images_and_waveforms(domain, tmp_path):
    network = plain_network(Dense(), domain)
    made = nd.visualize_batch(
        network, nd.objectives.channel("units"), key=jax.random.key(0), steps=2, snapshots=2, progress=False
    )
    bank = np.random.default_rng(0).uniform(size=(6, *domain.shape)).astype(np.float32)
    found = nd.dissect.exemplars(network, inputs=bank, layers=["units"], progress=False)
    report.atlas(made, tmp_path, exemplars=found, progress=False)
    index = index_of(tmp_path)
    assert index["sound"] == domain.is_sound
    assert index["picture"]["flat"] == (domain.shape[-1] != 3)
    assert index["picture"]["square"] == (domain.kind == "image")
    assert index["thumbs"] == domain.is_sound, "tiles of large pictures are small files"
    entry = details_of(tmp_path, "00-units")["units"]["0"]
    assert ("wav" in entry["files"]) == domain.is_sound
    assert len(entry["natural"]) == 4


def test_what_cannot_be_shown_is_refused_in_one_sentence(result, exemplars, tmp_path):
    with pytest.raises(ValueError, match="no results to show"):
        report.atlas([], tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file, but an atlas is written into a folder"):
        report.atlas(result, tmp_path / "file", progress=False)
    with pytest.raises(ValueError, match="nothing to draw"):
        report.atlas(dataclasses.replace(result, domain=Latent(4), inputs=np.zeros((len(result), 4))), tmp_path)
    with pytest.raises(ValueError, match="exemplars are of shape"):
        report.atlas(result, tmp_path, exemplars=dataclasses.replace(exemplars, inputs=exemplars.inputs[:, :3]))


def test_card_line():
    card = {
        "task": "pitch of notes",
        "data": ["a", "b"],
        "accuracy": {"pitch_exact": {"value": 0.954, "low": 0.9, "high": 0.98, "of": 100}, "family": [0.9, 0.95]},
        "split": "held-out notes.",
        "licence": "CC BY 4.0",
    }
    expected = (
        "Pitch of notes. Trained on a, b. Accuracy pitch exact 95.4 % (90.0 % to 98.0 %), family 90.0 % to 95.0 %. "
        "Licence CC BY 4.0."
    )
    assert card_line(card) == expected
    assert card_line({}) == ""


def test_look_does_not_depend_on_when_a_sound_happens(domain, waves):
    inputs = np.asarray(domain.from_wave(waves[:4]))
    shifted = np.roll(inputs, 7, axis=2)
    for one, other in zip(inputs, shifted, strict=True):
        assert units.look(domain.picture(one)) == units.look(domain.picture(other))
    assert len({units.look(domain.picture(one)) for one in inputs}) == 4


def test_labels_belong_to_outputs_and_to_the_layer_that_gives_them(network):
    assert layers._names(network, "output") == network.labels
    assert layers._names(network, "head") == network.labels
    assert layers._names(network, "two") == ()

    class Heads(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            x = nn.Dense(2, name="body")(x.reshape(len(x), -1))
            return {"a": nn.Dense(2, name="a")(x), "b": nn.Dense(3, name="b")(x)}

    two = plain_network(Heads(), Image((4, 4, 1)), labels={"a": ["x", "y"], "b": ["p", "q", "r"]})
    assert layers._heads(two) == {"a", "b", "output[a]", "output[b]"}
    assert layers._heads(network) == frozenset(), "one output comes after what it is made of"
    found = {name: layers._names(two, name) for name in ("body", "a", "b", "output[a]", "output[b]")}
    assert found == {
        "body": (),
        "a": ("x", "y"),
        "b": ("p", "q", "r"),
        "output[a]": ("x", "y"),
        "output[b]": ("p", "q", "r"),
    }


def test_file_names_of_layers_never_meet():
    names = ["a/b", "A/B", "a-b", "", "…", "x" * 300]
    slugs = [layers.slug(number, name) for number, name in enumerate(names)]
    assert len({one.lower() for one in slugs}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9-]{1,60}", one) for one in slugs)


def test_results_show_themselves_in_a_notebook(result):
    shown = result.select(range(3))._repr_html_()
    assert shown.count("<svg") == 3
    assert "one:0" in shown
    assert "<script" not in shown
    many = report.html_for(result, most=2)
    assert "and 13 more" in many


def _explained(result, place, **more):
    report.atlas(result.select([0]), place, weights=False, progress=False, **more)
    return index_of(place)["explain"]


def test_a_unit_is_explained_on_files_of_ones_own(result, tmp_path):
    place = tmp_path / "page"
    told = _explained(result, place)
    assert told["what"] in ("sounds", "pictures") and told["network"] == "NETWORK"
    assert told["page"] is None and told["out"].endswith("page/explain")
    (place / "explain").mkdir()
    (place / "explain" / "index.html").write_text("<p>made before</p>")
    (place / "explain" / "figures.json").write_text(json.dumps({"settings": {"unit": "conv:1", "target": None}}))
    told = _explained(result, place, source="my_network")
    assert told["page"] == "explain/index.html" and told["of"] == "conv:1" and told["network"] == "my_network"
    assert (place / "explain" / "index.html").read_text() == "<p>made before</p>"
