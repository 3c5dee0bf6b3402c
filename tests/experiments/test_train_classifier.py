"""From a folder of recordings to a network that loads, through the command line."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import json
import struct

import chex
import numpy as np
import pytest
import soundfile

import nd_jax as nd
from nd_jax.experiments import configs, train_classifier
from nd_jax.experiments.configs import emotion, esc10, instrument_notes, spoken_digits
from nd_jax.training.cards import CARD_FIELDS

_TINY = ["--features", "4", "6", "--training.steps", "2", "--training.batch-size", "4", "--training.eval-every", "1"]


@pytest.fixture(scope="module")
def notes(tmp_path_factory):
    """Twenty-six notes of two instruments."""
    folder = tmp_path_factory.mktemp("notes")
    (folder / "audio").mkdir()
    time = np.arange(16000) / 16000
    with open(folder / "labels.csv", "w", newline="") as table:
        rows = csv.writer(table)
        rows.writerow(["file", "instrument", "family", "pitch_midi"])
        for instrument, family in (("pipe", "flute"), ("box", "guitar")):
            for midi in range(55, 68):
                name = f"{instrument}-{midi}.wav"
                phase = 2 * np.pi * 440 * 2 ** ((midi - 69) / 12) * time
                wave = 0.2 * (np.sin(phase) + (family == "guitar") * np.sin(3 * phase)) * np.exp(-time)
                soundfile.write(folder / "audio" / name, wave, 16000, subtype="PCM_16")
                rows.writerow([name, instrument, family, midi])
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Two takes to test, one to choose and three to train for every digit and two speakers."""
    folder = tmp_path_factory.mktemp("digits")
    (folder / "recordings").mkdir()
    rng = np.random.default_rng(0)
    for speaker in ("ada", "ben"):
        for digit in range(10):
            for take in (3, 4, 5, 9, 10, 11):
                wave = 0.1 * rng.normal(size=2000 + 200 * digit)
                soundfile.write(folder / "recordings" / f"{digit}_{speaker}_{take}.wav", wave, 8000, subtype="PCM_16")
    return folder


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Two classes, two recordings of each in every fold: a long hum and a short hiss in digital silence."""
    folder = tmp_path_factory.mktemp("sounds")
    (folder / "audio").mkdir()
    rng = np.random.default_rng(0)
    with open(folder / "esc10.csv", "w", newline="") as table:
        rows = csv.writer(table)
        rows.writerow(["filename", "fold", "category", "freesound_id", "take"])
        for fold in range(1, 6):
            for take in "AB":
                hum = 0.3 * np.sin(2 * np.pi * (100 + 10 * fold) * np.arange(80000) / 16000)
                hiss = np.zeros(80000)
                hiss[8000:20000] = 0.1 * rng.normal(size=12000)
                for category, wave in (("helicopter", hum), ("sneezing", hiss)):
                    name = f"{fold}-{category}-{take}.wav"
                    soundfile.write(folder / "audio" / name, wave, 16000, subtype="PCM_16")
                    rows.writerow([name, fold, category, fold, take])
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Sixty images to train on and twenty to test: a column of light at a place that says the digit."""
    folder = tmp_path_factory.mktemp("images")
    for stem, count in (("train", 60), ("t10k", 20)):
        digit = np.arange(count, dtype=np.uint8) % 10
        picture = np.zeros((count, 28, 28), np.uint8)
        for image, place in zip(picture, digit, strict=True):
            image[6:22, 4 + 2 * place] = 255
        for kind, values in (("images-idx3", picture), ("labels-idx1", digit)):
            header = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
            (folder / f"{stem}-{kind}-ubyte.gz").write_bytes(gzip.compress(header + values.tobytes()))
    return folder


@pytest.fixture(scope="module")
def emotions(tmp_path_factory):
    """Two emotions by three speakers, two recordings of each."""
    folder = tmp_path_factory.mktemp("emotions")
    (folder / "wav").mkdir()
    rng = np.random.default_rng(0)
    for speaker in ("03", "08", "15"):
        for letter in "WT":
            for version in "ab":
                wave = (0.3 if letter == "W" else 0.03) * rng.normal(size=24000)
                soundfile.write(folder / "wav" / f"{speaker}a01{letter}{version}.wav", wave, 16000, subtype="PCM_16")
    return folder


def _run(name, recordings, folder, *more):
    arguments = [name, "--data-dir", str(recordings), "--prepared-dir", str(folder / "prepared")]
    return train_classifier.main([*arguments, "--out", str(folder / "run"), *_TINY, *more])


def test_notes_become_a_network_with_a_card(notes, tmp_path, capsys):
    assert _run("instrument-notes", notes, tmp_path) == 0
    assert "pitch_exact" in capsys.readouterr().out
    network = nd.load(tmp_path / "run" / "network")
    assert network.input.shape == (128, 64, 1)
    assert network.labels["family"] == ("flute", "guitar")
    assert network.labels["pitch"][60 - 24] == "C4" and len(network.labels["pitch"]) == 61
    outputs = network(np.zeros((2, 128, 64, 1), np.float32))
    chex.assert_shape([outputs["pitch"], outputs["family"]], [(2, 61), (2, 2)])
    chex.assert_shape(network.input.band_mean, (128,))
    assert 0 < float(np.max(network.input.band_mean)) < 1
    assert all(network.card[field] for field in CARD_FIELDS)
    assert "--data-dir DATA --out" in network.card["command"] and "prepared" not in network.card["command"]
    told = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert told["accuracy"] == network.card["accuracy"]
    matrix = np.load(tmp_path / "run" / "confusion_family.npz")["matrix"]
    assert matrix.sum() == told["accuracy"]["family"]["of"]
    assert "95 % interval" in (tmp_path / "run" / "network" / "README.md").read_text()


def test_every_speaker_is_left_out_once(digits, tmp_path, capsys):
    assert _run("spoken-digits", digits, tmp_path, "--leave-out-speaker", "all") == 0
    assert "mean: digit" in capsys.readouterr().out
    summary = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert [one["name"] for one in summary["each"]] == ["ada", "ben"]
    assert all(one["accuracy"]["digit"]["of"] == 60 for one in summary["each"])
    assert nd.load(tmp_path / "run" / "ben" / "network").labels == tuple("0123456789")


def test_every_fold_is_held_out_once_and_one_is_shipped_with_all_figures(sounds, tmp_path, capsys):
    assert _run("esc10", sounds, tmp_path, "--fold", "all") == 0
    assert "mean: category" in capsys.readouterr().out
    summary = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert [one["name"] for one in summary["each"]] == list("12345")
    assert all(one["accuracy"]["category"]["of"] == 4 for one in summary["each"])
    assert np.load(tmp_path / "run" / "3" / "confusion_category.npz")["matrix"].sum() == 4

    # The network of one fold is there already: its card gets the figures of all, and nothing is trained again.
    log = (tmp_path / "run" / "5" / "metrics.jsonl").read_text()
    trained = nd.load(tmp_path / "run" / "5" / "network")
    arguments = ["esc10", "--data-dir", str(sounds), "--prepared-dir", str(tmp_path / "prepared"), *_TINY]
    folds = ["--folds", str(tmp_path / "run" / "metrics.json")]
    assert train_classifier.main([*arguments, "--out", str(tmp_path / "run" / "5"), *folds]) == 0
    assert (tmp_path / "run" / "5" / "metrics.jsonl").read_text() == log
    network = nd.load(tmp_path / "run" / "5" / "network")
    chex.assert_trees_all_equal(network.variables, trained.variables)
    assert network.input.shape == (64, 128, 1) and len(network.labels) == 10
    assert list(network.card["accuracy"]["cross_validation"]) == ["mean", *(f"fold {fold}" for fold in range(1, 6))]
    assert all(network.card[field] for field in CARD_FIELDS)
    assert network.card["training"]["validation_score"] is None
    assert train_classifier.main([*arguments, "--out", str(tmp_path / "run" / "5"), "--fold", "4"]) == 1
    assert "holds a run with fold = 5, and fold is 4 now" in capsys.readouterr().err


def test_a_tiny_transformer_hears_what_the_large_one_does(sounds, tmp_path):
    small = ["--width", "8", "--blocks", "1", "--heads", "2", "--frames", "48", "--windows", "2"]
    steps = [*_TINY[_TINY.index("--training.steps") :], "--out", str(tmp_path / "run")]
    folders = ["--data-dir", str(sounds), "--prepared-dir", str(tmp_path / "prepared")]
    assert train_classifier.main(["esc10-ast", *folders, *small, *steps]) == 0
    network = nd.load(tmp_path / "run" / "network")
    assert network.input == nd.domain.ast(48) and network.module.hidden == 32 and len(network.labels) == 10
    assert nd.taps.dissected_layers(network) == (
        "block1/attention/output",
        "block1/mlp/hidden",
        "block1/mlp/output",
        "head",
    )
    assert 0 < np.min(network.input.band_mean) <= np.max(network.input.band_mean) < 1
    assert all(network.card[field] for field in CARD_FIELDS)
    assert network.card["name"] == "esc10_ast" and "128 bands, 48 frames" in network.card["front_end"]


def test_handwritten_digits_become_a_network_with_a_card(images, tmp_path, capsys):
    assert _run("mnist", images, tmp_path, "--validation", "10", "--hidden", "12", "7") == 0
    assert "50 images to train, 20 held out" in capsys.readouterr().out
    network = nd.load(tmp_path / "run" / "network")
    assert network.input == nd.domain.Image((28, 28, 1), -1.0, 1.0) and network.labels == tuple("0123456789")
    assert nd.taps.layers(network)["relu4"] == (7,)
    assert all(network.card[field] for field in CARD_FIELDS)
    assert network.card["front_end"].startswith("images: 28 x 28 pixels, 1 channel, values -1 (black) ... 1 (white)")
    assert np.load(tmp_path / "run" / "confusion_digit.npz")["matrix"].sum() == 20
    assert _run("mnist", images, tmp_path, "--validation", "60") == 1
    assert "validation is a number of training images, 1 to 59, and not 60" in capsys.readouterr().err


def test_pixels_fill_the_range_of_their_domain():
    domain = nd.domain.Image((1, 2, 1), -1.0, 3.0)
    found = configs.pixels(np.asarray([0, 255, 51], np.uint8), domain)
    chex.assert_trees_all_close(found, np.asarray([-1.0, 3.0, -0.2], np.float32), atol=1e-6)


def test_windows_are_cut_from_the_sounding_part(sounds, tmp_path):
    clips = nd.data.load("esc10", "fold1", manual_dir=sounds, data_dir=tmp_path, progress=False)
    category = clips.names["category"]
    hiss = clips.select(clips.features["category"] == category.index("sneezing")).select([0])
    hum = clips.select(clips.features["category"] == category.index("helicopter")).select([0])
    (sound,) = (esc10.sounding(wave) for wave in hiss.waves)
    assert 11900 < len(sound) <= 12000
    short, long = esc10.windows(hiss, 20000, 3), esc10.windows(hum, 20000, 3)
    for row, start in zip(short, (0, (20000 - len(sound)) // 2, 20000 - len(sound)), strict=True):
        chex.assert_trees_all_equal(np.flatnonzero(row)[[0, -1]] - start, np.asarray([0, len(sound) - 1]))
        chex.assert_trees_all_equal(row[start : start + len(sound)], sound)
    wave = esc10.sounding(hum.waves[0])
    chex.assert_trees_all_equal(long[0], wave[:20000])
    chex.assert_trees_all_equal(long[2], wave[-20000:])


def test_a_run_with_another_recipe_does_not_go_on(digits, tmp_path, capsys):
    assert _run("spoken-digits", digits, tmp_path) == 0
    assert _run("spoken-digits", digits, tmp_path, "--speed", "1.1") == 1
    assert "holds a run with speed = 1.25, and speed is 1.1 now" in capsys.readouterr().err


def test_splits_never_divide_what_belongs_together(notes, digits, tmp_path):
    clips = nd.data.load("instrument_notes", "all", manual_dir=notes, data_dir=tmp_path, progress=False)
    recipe = instrument_notes.InstrumentNotes(notes, held_out=0.4, validation=0.2)
    doubled = clips.select([*range(len(clips)), *range(len(clips))])
    part = instrument_notes.split(doubled, recipe)
    chex.assert_trees_all_equal(part[: len(clips)], part[len(clips) :])
    assert set(part.tolist()) == {0, 1, 2}
    chex.assert_trees_all_equal(part[:5], instrument_notes.split(clips.select(range(5)), recipe))

    by_instrument = dataclasses.replace(recipe, held_out_by="instrument", split_seed=3)
    part = instrument_notes.split(clips, by_instrument)
    for instrument in range(2):
        assert len(set(part[clips.features["instrument"] == instrument].tolist())) == 1

    clips = nd.data.load("spoken_digits", "all", manual_dir=digits, data_dir=tmp_path, progress=False)
    official, without = spoken_digits.split(clips), spoken_digits.split(clips, "ben")
    assert np.all((official == 2) == (clips.features["take"] < 5))
    assert np.all((without == 2) == (clips.features["speaker"] == clips.names["speaker"].index("ben")))


def test_what_cannot_work_is_one_line(digits, sounds, tmp_path, capsys):
    assert _run("esc10", sounds, tmp_path, "--fold", "6") == 1
    assert "no fold '6'; there are '1', '2', '3', '4', '5', 'all'" in capsys.readouterr().err
    assert _run("spoken-digits", digits, tmp_path, "--leave-out-speaker", "bent") == 1
    assert "no speaker 'bent'; did you mean 'ben'?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        _run("spoken-digits", digits, tmp_path, "--trainig.steps", "3")
    assert "--training.steps" in capsys.readouterr().err


def test_emotions_are_heard_from_samples_too(emotions, tmp_path, capsys):
    assert _run("emotion", emotions, tmp_path, "--front-end", "waveform", "--leave-out", "15") == 0
    assert "8 recordings to train, 4 held out" in capsys.readouterr().out
    network = nd.load(tmp_path / "run" / "network")
    assert network.input.kind == "waveform" and network.input.shape == (32768, 1)
    assert network.labels[0] == "anger" and len(network.labels) == 7
    chex.assert_shape(nd.taps.read(network, np.zeros((1, 32768, 1)), "block2")["block2"], (1, 2048, 6))
    assert network.card["accuracy"]["emotion"]["of"] == 4 and network.card["name"] == "emotion_raw"
    (log_mel,) = emotion.Emotion(emotions, prepared_dir=tmp_path / "prepared", leave_out=("15",)).experiments()
    assert log_mel.domain.shape == (64, 128, 1) and len(log_mel.held_out["emotion"]) == 4
    assert _run("emotion", emotions, tmp_path / "none", "--leave-out", "16") == 1
    assert "some to train on and some to measure on" in capsys.readouterr().err
    assert _run("emotion", emotions, tmp_path / "none", "--leave-out", "17") == 1
    assert "no speaker '17'" in capsys.readouterr().err
