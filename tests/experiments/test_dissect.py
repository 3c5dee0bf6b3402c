"""Audio Network Dissection from one command: labels, tuning, pages; nothing done twice; bad input in one sentence."""

from __future__ import annotations

import csv
import json
import pathlib
import re
import types

import jax.numpy as jnp
import numpy as np
import pytest
from generator_networks import generator, invented

import nd_jax as nd
from nd_jax import audio, dissect, domain
from nd_jax.dissect.language import LanguageModelError
from nd_jax.experiments import dissect as command
from nd_jax.experiments import dissect_sounds
from nd_jax.experiments import dissect_stages as stages

MEL = domain.LogMel(audio.LogMel(sample_rate=8000, n_fft=128, hop_length=128, n_mels=8), frames=40)
HOSTILE = "<img src=x onerror=alert(1)>"
PITCHES = {"low": 150, "mid": 700, "high": 3000, HOSTILE: 1500}
FAST = ("--shuffles", "3", "--steps", "2", "--trust", "none", "--tuning", "none", "--units", "0", "--top", "3")


class Letters:
    """Counts letters: an encoder that needs nothing."""

    def __init__(self, texts=()):
        pass

    def encode(self, texts):
        return np.array([[1 + text.lower().count(chr(97 + letter)) for letter in range(26)] for text in texts])


@pytest.fixture(autouse=True)
def encoder(monkeypatch):
    monkeypatch.setattr(dissect, "TfIdf", Letters)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    config = {"heads": [["word", 3]], "features": [3], "kernels": [[3, 3]], "strides": [[2, 2]]}
    module = nd.networks.build("audio_cnn", config)
    made = nd.Network(
        module,
        invented(module, jnp.zeros((1, *MEL.shape)), 1),
        input=MEL,
        labels=("low", "mid", "high"),
        apply_kwargs={"train": False},
    )
    return str(made.save(tmp_path_factory.mktemp("network") / "classifier"))


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """A folder a class, six tones in each; one file that is no sound, and one clip in no folder."""
    root = tmp_path_factory.mktemp("sounds")
    random = np.random.default_rng(0)
    time = np.arange(MEL.samples) / 8000
    for name, pitch in PITCHES.items():
        (root / name).mkdir()
        for take in range(6):
            wave = 0.3 * np.sin(2 * np.pi * pitch * 2 ** random.uniform(-0.1, 0.1) * time)
            audio.write(root / name / f"{take}.wav", wave + 0.01 * random.normal(size=len(time)), 8000)
    audio.write(root / "alone.wav", 0.1 * random.normal(size=len(time)), 8000)
    (root / "low" / "broken.wav").write_bytes(b"no sound")
    (root / "._low.wav").write_bytes(b"what another program left")
    return root


def run(network, out, *more):
    return command.main(["--network", network, "--out", str(out), *FAST, *map(str, more)])


def told(out):
    return json.loads((out / "labels.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole(network, sounds, tmp_path_factory):
    """Everything the command makes."""
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dissect, "TfIdf", Letters)
        patch.setattr(stages, "_QUICK", {"tones_per_octave": 1, "levels": (-20.0,), "carriers": 0, "noises": 8})
        more = ["--units", "2", "--tuning", "quick", "--sounds", sounds, "--captions", "folders"]
        assert run(network, out, *more) == 0
    return out


def test_labels_are_those_of_the_record(whole, network):
    found = told(whole)
    assert found["concepts"]["names"] == sorted(PITCHES) and len(found["units"]) == 3 + 3
    assert set(found["skipped"]) == {"low/broken.wav", "alone.wav"} and "folder" in found["skipped"]["alone.wav"]
    record = dissect.open_record(whole / "kept" / "record", network=nd.load(network))
    rows = [row for row, clip in enumerate(record.clips) if "/" in clip]
    names = sorted(PITCHES)
    captions = Letters().encode([record.clips[row].split("/")[0] for row in rows])
    scores = dissect.db_scores(captions, Letters().encode(names))
    for layer in ("block1/conv", "word"):
        direct = dissect.closed_set(record.activations(layer)[rows], scores, names)
        for unit in (one for one in found["units"] if one["layer"] == layer):
            for function, ranked in unit["ways"]["DB"].items():
                assert [name for name, _ in ranked["concepts"]] == list(direct.names(function, unit["unit"]))
                best = float(direct.similarities[function][unit["unit"]].max())
                assert ranked["concepts"][0][1] == pytest.approx(best, abs=1e-5)
                assert ranked["shuffles"] == 3
            assert unit["label"] == unit["ways"]["DB"]["cosine_cubed"]["concepts"][0][0]
            assert unit["tuning"]["words"]
    assert [one.get("class") for one in found["units"]][-3:] == ["low", "mid", "high"]


def test_the_table_has_a_row_for_every_unit_and_function(whole):
    with (whole / "labels.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 6 * 5 and sum(int(row["names_unit"]) for row in rows) == 6
    assert {row["function"] for row in rows} == set(dissect.FUNCTIONS) and {row["source"] for row in rows} == {"DB"}
    units = {(one["layer"], one["unit"]): one for one in told(whole)["units"]}
    for row in rows:
        one = units[row["layer"], int(row["unit"])]
        assert row["label"] == one["ways"]["DB"][row["function"]]["concepts"][0][0]
        assert row["tuning"] == one["tuning"]["words"]


def test_pages_hold_everything_and_no_markup_of_others(whole):
    page = (whole / "index.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page and "&lt;img src=x" in page
    assert "low/broken.wav" in page and "Are the labels true?" in page and 'href="atlas/index.html"' in page
    atlas = whole / "atlas" / "index.html"
    assert "<img src=x" not in atlas.read_text(encoding="utf-8")
    details = [path.read_text(encoding="utf-8") for path in sorted((whole / "atlas").glob("atlas-*/*.js"))]
    assert len(details) == 2 and not any("<img" in text for text in details)
    units = json.loads(details[0][details[0].index(",") + 1 : -3])["units"]
    assert set(units) == {"0", "1"}, "at most two of a layer"
    for unit in units.values():
        assert unit["labels"]["rows"] and unit["tuned"]["words"] and unit["natural"] and "wav" in unit["files"]


def test_what_is_done_is_kept_and_other_settings_are_noticed(whole, network, sounds, capsys, monkeypatch):
    before = (whole / "labels.json").read_bytes()

    def never(*_, **__):
        raise AssertionError("what is done is not done again")

    monkeypatch.setattr(nd, "visualize_batch", never)
    for name in ("measured_tuning", "recorded_exemplars"):
        monkeypatch.setattr(dissect, name, never)
    real = dissect.layer_labels
    monkeypatch.setattr(dissect, "layer_labels", never)
    more = ["--units", "2", "--tuning", "quick", "--sounds", sounds, "--captions", "folders"]
    assert run(network, whole, *more) == 0
    assert (whole / "labels.json").read_bytes() == before
    capsys.readouterr()

    # Other functions: labels alone are made anew, and that is said.
    monkeypatch.setattr(dissect, "layer_labels", real)
    assert run(network, whole, *more, "--functions", "wpmi", "cosine") == 0
    assert "labels of word (DB): other functions than the last time, done again" in capsys.readouterr().out
    assert set(told(whole)["units"][0]["ways"]["DB"]) == {"wpmi", "cosine"}

    # Other layers are another record.
    assert run(network, whole, *more, "--layers", "word") == 1
    told_so = capsys.readouterr().err
    assert "holds a dissection of other layers: give another --out, or --fresh to replace it" in told_so


def test_without_a_folder_sounds_are_made_and_a_kill_costs_what_was_under_way(network, tmp_path, monkeypatch):
    # The procedural bank has tests of its own, and takes long to compile.
    def made(looked, wanted):
        assert wanted.data_dir is None and wanted.generator == "" and wanted.clips == 13
        time = np.arange(MEL.samples) / 8000
        waves = [0.2 * np.sin(2 * np.pi * 200 * (1 + clip) * time) for clip in range(13)]
        return {"waves": np.stack(waves), "sample_rate": 8000}, [f"tone/{clip:04d}" for clip in range(13)]

    monkeypatch.setattr(dissect_sounds, "natural_sounds", made)
    real, asked = dissect.layer_labels, []

    def stopped(*given, **more):
        asked.append(given[0].shape)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(*given, **more)

    monkeypatch.setattr(dissect, "layer_labels", stopped)
    assert run(network, tmp_path / "out", "--made", "13", "--functions", "cosine_cubed") == 130
    measured = (tmp_path / "out" / "kept" / "captions.jsonl").read_text().splitlines()
    # A kill in the middle of a line.
    cut = "\n".join(line for line in measured if line)[:-20]
    (tmp_path / "out" / "kept" / "captions.jsonl").write_text(cut)
    again = []
    whole_measure = dissect.measure
    monkeypatch.setattr(dissect, "measure", lambda *given: again.append(0) or whole_measure(*given))
    assert run(network, tmp_path / "out", "--made", "13", "--functions", "cosine_cubed") == 0
    assert len(asked) == 3 and asked[1] == asked[2], "the first layer is not asked about again"
    assert len(again) == 1, "the clip whose line was cut"
    found = told(tmp_path / "out")
    assert found["concepts"]["name"] == "acoustic" and len(found["clips"]) == 13
    assert "concept noisy" in found["skipped"] and "noisy" not in found["concepts"]["names"], "tones are not noisy"
    assert found["concepts"]["ids"] == [
        dissect.ACOUSTIC_CONCEPTS.names.index(name) for name in found["concepts"]["names"]
    ]
    assert set(found["units"][0]["ways"]) == {"measured"} and not (tmp_path / "out" / "atlas").exists()
    assert "labels.csv" in (tmp_path / "out" / "index.html").read_text()


def test_sounds_are_compared_directly_and_a_model_is_asked(network, sounds, tmp_path, monkeypatch):
    heard, prompts = [], []

    class Clap(Letters):
        def encode_sounds(self, waves, sample_rate):
            heard.extend(len(wave) / sample_rate for wave in waves)
            return np.stack([Letters().encode([f"{'low' if wave.std() > 0.2 else 'mid'}"])[0] for wave in waves])

    def ask(self, prompt):
        prompts.append(prompt)
        if len(prompts) > 5:
            raise LanguageModelError("the endpoint is gone")
        return 'Answer: "mid"'

    (tmp_path / "clap").mkdir()
    (tmp_path / "clap" / "config.json").write_text('{"model_type": "clap"}')
    (tmp_path / "concepts.txt").write_text("low\nmid\nhigh\n")
    monkeypatch.setattr(dissect, "Clap", Clap)
    monkeypatch.setattr(dissect.LanguageModel, "ask", ask)
    more = ["--sounds", sounds, "--captions", "folders", "--concepts", tmp_path / "concepts.txt"]
    more += ["--clap", tmp_path / "clap", "--model", "some", "--functions", "cosine"]
    assert run(network, tmp_path / "out", *more) == 0
    found = told(tmp_path / "out")
    assert set(found["units"][0]["ways"]) == {"DB", "TAB"} and len(heard) == 25
    assert heard == pytest.approx([MEL.samples / 8000] * 25, abs=1e-4)
    assert [one.get("icl") for one in found["units"]] == [["mid"]] * 5 + [None]
    assert found["skipped"]["labels by ICL"] == "the endpoint is gone"
    assert "The clips are, the strongest first:" in prompts[0] and "Concepts: low, mid, high" in prompts[0]
    assert run(network, tmp_path / "out", *more) == 0 and len(heard) == 25, "embeddings are kept"


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--sounds", "missing"], "missing is not a folder of sounds"),
        (["--sounds", "EMPTY"], "has no sound files"),
        (["--sounds", "SOUNDS", "--out", "SOUNDS/out"], "lies within the sounds"),
        (["--sounds", "SOUNDS", "--captions", "folders", "--top", "26"], "25 clips, fewer than the 26 top ones"),
        (["--captions", "folders"], "give it with --sounds"),
        (["--sounds", "SOUNDS/low", "--captions", "folders"], "no clip lies in a folder below"),
        (["--sounds", "SOUNDS", "--captions", "FILES/some.csv"], "give --concepts"),
        (["--sounds", "SOUNDS", "--captions", "FILES/latin.csv", "--concepts", "esc50"], "UTF-8"),
        (["--sounds", "SOUNDS", "--captions", "folders", "--concepts", "FILES/latin.txt"], "not text in UTF-8"),
        (["--sounds", "SOUNDS", "--captions", "folders", "--concepts", "FILES/twice.txt"], "'Dog', is the same as"),
        (["--sounds", "SOUNDS", "--captions", "folders", "--concepts", "FILES/none.txt"], "set of concepts is empty"),
        (["--concepts", "esc5"], "did you mean 'esc50'"),
        (["--functions", "cosin"], "no function 'cosin'"),
        (["--encoder", "missing"], "there is no model at missing"),
        (["--model", "some", "--endpoint", "localhost"], "an http address, got 'some' and 'localhost'"),
        (["--layers", "word", "wordy"], "did you mean 'word'"),
        (["--shuffles", "-1"], "shuffles must be 0 or more"),
        (["--network", "GENERATOR"], "is a generator"),
    ],
)
def test_bad_input_is_one_sentence(network, sounds, tmp_path, capsys, more, sentence):
    files = {"some.csv": b"file,caption\n0.wav,a\n", "latin.csv": b"file,caption\n0.wav,caf\xe9\n", "none.txt": b"\n"}
    files |= {"latin.txt": b"caf\xe9\n", "twice.txt": b"dog\nrain\nDog\n"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "empty").mkdir()
    places = {"SOUNDS": str(sounds), "FILES": str(tmp_path), "EMPTY": str(tmp_path / "empty")}
    if "GENERATOR" in more:
        places["GENERATOR"] = generator(tmp_path)
    given = [re.sub("SOUNDS|FILES|EMPTY|GENERATOR", lambda found: places[found[0]], each) for each in more]
    assert run(network, tmp_path / "out", *given) == 1
    said = capsys.readouterr().err.strip()
    last = said.splitlines()[-1]
    assert last.startswith("error: ") and sentence in last and "Traceback" not in said


def test_clips_without_captions_are_listed(network, sounds, tmp_path):
    lines = [f"{name}/{take}.wav,{name} tone" for name in ("low", "mid") for take in range(6)]
    (tmp_path / "captions.csv").write_text("file,caption\n" + "\n".join(lines) + "\n")
    (tmp_path / "concepts.json").write_text(json.dumps(["low", "mid"]))
    more = ["--sounds", sounds, "--captions", tmp_path / "captions.csv", "--concepts", tmp_path / "concepts.json"]
    more += ["--functions", "cosine"]
    assert run(network, tmp_path / "out", *more) == 0
    skipped = told(tmp_path / "out")["skipped"]
    assert skipped[f"{HOSTILE}/0.wav"] == "no caption" and len(skipped) == 6 + 6 + 1 + 1
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "&lt;img src=x onerror=alert(1)&gt;/0.wav" in page and "<img src=x" not in page
    shown = [one["ways"]["DB"]["cosine"] for one in told(tmp_path / "out")["units"]]
    assert all(len(one["concepts"]) == 2 for one in shown)


def test_layers_without_units_are_left_out(network, monkeypatch):
    shape = command.taps.layer_shape

    def empty(looked, layer):
        return (0,) if layer == "word" else shape(looked, layer)

    monkeypatch.setattr(command.taps, "layer_shape", empty)
    settings = types.SimpleNamespace(network=network, layers=())
    kept, left = command._layers(nd.load(network), settings)
    assert kept == ["block1/conv"] and left == {"word": "the layer has no units"}
    assert pathlib.Path(network).is_dir()
