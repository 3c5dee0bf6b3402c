"""Data sets: every layout a user may have downloaded; wrong labels and tables are named; the real data packs."""

from __future__ import annotations

import gzip
import importlib.util
import json
import pathlib
import struct

import chex
import numpy as np
import pytest

from nd_jax.data.builders.esc10 import CATEGORIES as ESC10_CATEGORIES
from nd_jax.data.builders.esc50 import CATEGORIES as ESC50_CATEGORIES

_spec = importlib.util.spec_from_file_location("data_layouts", pathlib.Path(__file__).with_name("layouts.py"))
assert _spec and _spec.loader
layouts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(layouts)
RATE, labels, load, write_digits = layouts.RATE, layouts.labels, layouts.load, layouts.write_digits
write_sound, write_table = layouts.write_sound, layouts.write_table


@pytest.mark.parametrize(
    "place", ["recordings", "free-spoken-digit-dataset-master/recordings", "audio", "."], ids=lambda place: place
)
def test_spoken_digits(manual, place):
    write_digits(manual / place, ".flac" if place == "audio" else ".wav")
    train, test = load("spoken_digits", manual), load("spoken_digits", manual, "test")
    assert labels(train, "digit") == ["3", "9"] and labels(test, "digit") == ["0", "3"]
    assert labels(train, "speaker") == ["lucas", "theo"]
    assert train.names["speaker"] == ("george", "lucas", "theo")
    assert train.features["take"].tolist() == [7, 12]
    assert train.sample_rate == RATE
    assert [wave.dtype for wave in train.waves] == [np.int16] * 2
    chex.assert_trees_all_equal(train.waves[0], np.full(37, 3007, np.int16))
    assert len(load("spoken_digits", manual, "all")) == 4


def notes_rows() -> list[dict]:
    return [
        {
            "file": f"{instrument}-{pitch:03d}-{take}.flac",
            "instrument": instrument,
            "family": family,
            "pitch_midi": pitch,
        }
        for instrument, family in (("flute", "flute"), ("violin", "string"))
        for pitch in range(40, 60)
        for take in (1, 2)
    ]


def test_instrument_notes_are_split_by_instrument_and_pitch(manual):
    rows = notes_rows()
    write_table(manual / "labels.csv", rows)
    for row in rows:
        write_sound(manual / "audio" / row["file"], row["pitch_midi"])
    notes = {split: load("instrument_notes", manual, split) for split in ("train", "valid", "test")}
    pairs = {
        split: set(zip(labels(clips, "instrument"), clips.features["pitch"].tolist(), strict=True))
        for split, clips in notes.items()
    }
    assert sum(map(len, pairs.values())) == 40  # disjoint
    assert sum(map(len, notes.values())) == 80
    assert len(notes["train"]) > 50
    for clips in notes.values():
        assert [wave[0] for wave in clips.waves] == clips.features["pitch"].tolist()
        assert set(labels(clips, "family")) <= {"flute", "string"}


def note(**changes) -> dict:
    return {
        "instrument_str": "guitar_acoustic_001",
        "instrument_family": 3,
        "instrument_family_str": "guitar",
        "instrument_source": 0,
        "instrument_source_str": "acoustic",
        "pitch": 60,
        "velocity": 100,
        "qualities": [1, 0, 0, 0, 0, 0, 0, 0, 1, 0],
        **changes,
    }


def write_nsynth(folder: pathlib.Path, notes: dict[str, dict]) -> None:
    for name in notes:
        write_sound(folder / "audio" / f"{name}.wav", notes[name]["pitch"], rate=16000)
    (folder / "examples.json").write_text(json.dumps(notes))


def test_nsynth(manual):
    write_nsynth(manual / "nsynth-train", {"guitar_acoustic_001-060-100": note()})
    bare = {key: value for key, value in note(instrument_source=2, pitch=72).items() if "_str" not in key}
    write_nsynth(manual / "nsynth-test", {"bass-072-025": {**bare, "instrument_str": "bass", "instrument_family": 0}})
    train, test = load("nsynth", manual), load("nsynth", manual, "test")
    assert (labels(train, "family"), labels(test, "family")) == (["guitar"], ["bass"])
    assert (labels(train, "source"), labels(test, "source")) == (["acoustic"], ["synthetic"])
    assert train.names["instrument"] == ("bass", "guitar_acoustic_001")
    assert (train.features["pitch"][0], train.features["velocity"][0]) == (60, 100)
    qualities = {key for key, flag in train.features.items() if key.startswith("quality_") and flag[0]}
    assert qualities == {"quality_bright", "quality_reverb"}
    with pytest.raises(ValueError, match="unknown split 'valid'; it has test, train and all"):
        load("nsynth", manual, "valid")


def test_one_archive_of_nsynth_keeps_its_split(manual):
    write_nsynth(manual / "nsynth-valid", {"bass-072-025": note(pitch=72)})
    assert load("nsynth", manual / "nsynth-valid", "valid").files == ("bass-072-025.wav",)


def esc_rows() -> list[dict]:
    rows = []
    for fold in range(1, 6):
        for target, category in ((0, "dog"), (2, "pig"), (41, "chainsaw")):
            rows.append(
                {
                    "filename": f"{fold}-{100 + fold}-A-{target}.wav",
                    "fold": fold,
                    "target": target,
                    "category": category,
                    "esc10": category != "pig",
                    "src_file": 100 + fold,
                    "take": "A",
                }
            )
    return rows


def write_esc50(folder: pathlib.Path) -> None:
    write_table(folder / "meta/esc50.csv", esc_rows())
    for row in esc_rows():
        write_sound(folder / "audio" / row["filename"], row["target"] + 1)


def test_esc50(manual):
    write_esc50(manual / "ESC-50-master")
    train, test = load("esc50", manual), load("esc50", manual, "test")
    assert set(train.features["fold"]) == {1, 2, 3, 4} and set(test.features["fold"]) == {5}
    assert sorted(labels(test, "category")) == ["chainsaw", "dog", "pig"]
    assert test.features["clip"].tolist() == [105] * 3 and set(test.features["take"]) == {"A"}
    # The place among the 50 categories is ESC-50's own target.
    assert [wave[0] for wave in train.waves] == [index + 1 for index in train.features["category"]]
    two = load("esc50", manual, "fold2+fold4")
    assert set(two.features["fold"]) == {2, 4}
    assert len(load("esc50", manual, "all")) == 15
    assert len(ESC50_CATEGORIES) == len(set(ESC50_CATEGORIES)) == 50


def test_esc10_of_a_copy_of_esc50(manual):
    write_esc50(manual)
    assert set(labels(load("esc10", manual, "all"), "category")) == {"dog", "chainsaw"}
    assert set(ESC10_CATEGORIES) < set(ESC50_CATEGORIES)


def test_esc10_of_a_pack(manual):
    rows = [
        {"filename": f"{fold}-7-B-0.ogg", "fold": fold, "category": "rain", "freesound_id": 7, "take": "B"}
        for fold in (1, 5)
    ]
    write_table(manual / "esc10.csv", rows)
    for row in rows:
        write_sound(manual / "audio" / row["filename"], 0, samples=4000)
    assert labels(load("esc10", manual, "fold5"), "category") == ["rain"]


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(folder: pathlib.Path, compressed: bool = False) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    images = {}
    for stem, count in (("train", 12), ("t10k", 5)):
        images[stem] = random.integers(0, 256, (count, 28, 28), np.uint8)
        contents = {"images-idx3": idx(images[stem]), "labels-idx1": idx(np.arange(count, dtype=np.uint8) % 10)}
        for kind, content in contents.items():
            path = folder / f"{stem}-{kind}-ubyte{'.gz' if compressed else ''}"
            path.write_bytes(gzip.compress(content) if compressed else content)
    return images


@pytest.mark.parametrize("compressed", [True, False])
def test_mnist(manual, compressed):
    images = write_mnist(manual, compressed)
    train, test = load("mnist", manual), load("mnist", manual, "test")
    chex.assert_trees_all_equal(train.images[..., 0], images["train"])
    chex.assert_trees_all_equal(test.images[..., 0], images["t10k"])
    assert train.labels.tolist() == [*range(10), 0, 1]
    assert train.names["label"] == tuple("0123456789")
    floats = train.fixed()
    assert floats.dtype == np.float32 and floats.min() >= -1 and floats.max() <= 1
    chex.assert_trees_all_equal(train.select([3, 1]).images, train.images[[3, 1]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not an idx file", "train-images-idx3-ubyte is not an idx file"),
        (idx(np.zeros((3, 28, 28), np.uint8))[:-5], "should hold 2352 bytes .* but holds 2347"),
        (gzip.compress(b"x" * 100, mtime=0)[:-9], "is damaged"),
        (idx(np.zeros((3, 28, 28), np.uint8)), "3 train images, but 12 labels"),
        (idx(np.zeros((0, 28, 28), np.uint8)), "there are no train images$"),
        (idx(np.zeros((12, 32, 30), np.uint8)), "the train images have 32 x 30 pixels, but MNIST's 28 x 28$"),
    ],
)
def test_damaged_mnist_is_named(manual, content, message):
    write_mnist(manual)
    (manual / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load("mnist", manual)


def test_labels_out_of_range_are_named(manual):
    write_mnist(manual)
    (manual / "train-labels-idx1-ubyte").write_bytes(idx(np.full(12, 11, np.uint8)))
    with pytest.raises(ValueError, match="label 11 among the train labels, but digits are 0 to 9$"):
        load("mnist", manual)


def test_a_folder_of_sounds_by_class(manual):
    for path in ("cat/1.wav", "cat/deep/2.flac", "dog/1.wav", ".hidden/1.wav", "dog/readme.txt"):
        if path.endswith(("wav", "flac")):
            write_sound(manual / path, 5)
        else:
            (manual / path).write_text("no sound")
    clips = load("audio_folder", manual)
    assert clips.files == ("cat/1.wav", "cat/deep/2.flac", "dog/1.wav")
    assert labels(clips, "label") == ["cat", "cat", "dog"]


def test_a_folder_of_sounds_by_split_and_class(manual):
    for path in ("train/cat/1.wav", "train/dog/1.wav", "validation/cat/2.wav", "test/dog/3.wav"):
        write_sound(manual / path, 5)
    assert labels(load("audio_folder", manual, "valid"), "label") == ["cat"]
    assert labels(load("audio_folder", manual, "test"), "label") == ["dog"]


def test_a_folder_of_sounds_without_classes(manual):
    write_sound(manual / "b.wav", 5)
    write_sound(manual / "a.wav", 5, channels=2)
    clips = load("audio_folder", manual)
    assert clips.files == ("a.wav", "b.wav") and not clips.features
    write_sound(manual / "cat/c.wav", 5)
    with pytest.raises(ValueError, match="a.wav lies outside the class folders"):
        load("audio_folder", manual)


def test_a_folder_of_sounds_with_a_table(manual):
    rows = [
        {"filename": "x.wav", "kind": "a", "take": 1, "gain": 0.5, "remark": "one", "split": "train"},
        {"filename": "y.wav", "kind": "b", "take": 2, "gain": 1, "remark": "two", "split": "train"},
        {"filename": "z.wav", "kind": "a", "take": 3, "gain": 2, "remark": "three", "split": "test"},
    ]
    write_table(manual / "anything.csv", rows)
    for row in rows:
        write_sound(manual / ("audio" if row["take"] > 1 else ".") / row["filename"], row["take"])
    clips = load("audio_folder", manual)
    assert labels(clips, "kind") == ["a", "b"] and clips.names == {"kind": ("a", "b")}
    assert clips.features["take"].dtype == np.int64
    chex.assert_trees_all_equal(clips.features["gain"], np.array([0.5, 1], np.float32))
    assert clips.features["remark"].tolist() == ["one", "two"]
    assert load("audio_folder", manual, "test").waves[0][0] == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,label\nx.wav,a\n", "needs a column 'file'"),
        ("file,label\nx.wav\n", r"labels.csv, line 2: expected 2 fields"),
        ("file,label\n", "has no rows"),
        ("file,label\nx.wav,a\nx.wav,b\n", "lists 'x.wav' more than once"),
        ("file,audio\nx.wav,1\n", "'audio' has a reserved name"),
        ("file,label\n\xff\xfe,b\n", "not a CSV file in UTF-8"),
    ],
)
def test_a_wrong_table_is_named(manual, text, message):
    write_sound(manual / "x.wav", 1)
    (manual / "labels.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=message):
        load("audio_folder", manual)


def test_wrong_labels_are_named(manual):
    write_table(manual / "labels.csv", [{"file": "x", "instrument": "kazoo", "family": "toys", "pitch_midi": 60}])
    with pytest.raises(ValueError, match="family 'toys' is not one of its classes: bass, brass"):
        load("instrument_notes", manual)
    write_table(manual / "labels.csv", [{"file": "x", "instrument": "kazoo", "family": "reed", "pitch_midi": "C4"}])
    with pytest.raises(ValueError, match="'pitch_midi' must hold whole numbers, not 'C4'"):
        load("instrument_notes", manual)
    write_table(manual / "labels.csv", [{"file": "x", "instrument": "kazoo"}])
    with pytest.raises(ValueError, match="has no column 'family'; it has file, instrument"):
        load("instrument_notes", manual)
    (manual / "examples.json").write_text('{"a": {"pitch": 3}}')
    with pytest.raises(ValueError, match="examples.json is not NSynth's table of notes: KeyError 'qualities'"):
        load("nsynth", manual)
    (manual / "examples.json").write_text('{"a": ')
    with pytest.raises(ValueError, match="examples.json is not readable JSON"):
        load("nsynth", manual)


@pytest.mark.parametrize(
    ("name", "pack", "split", "count", "rate"),
    [
        ("spoken_digits", "fsdd", "test", 300, 8000),
        ("instrument_notes", "notes", "all", 967, 16000),
        ("esc10", "esc10", "all", 400, 16000),
        ("audio_folder", "emodb", "train", 535, 16000),
    ],
)
def test_data_packs(shared, name, pack, split, count, rate):
    clips = load(name, shared / "data" / pack, split)
    assert len(clips) == count and clips.sample_rate == rate and not clips.skipped
    if name == "spoken_digits":
        assert np.bincount(clips.features["digit"]).tolist() == [30] * 10
        assert len(clips.names["speaker"]) == 6 and set(clips.features["take"]) == set(range(5))
    elif name == "instrument_notes":
        assert (clips.features["pitch"].min(), clips.features["pitch"].max()) == (24, 84)
        assert np.bincount(clips.features["family"]).tolist() == [81, 97, 62, 216, 113, 69, 72, 96, 158, 0, 3]
        assert {len(wave) for wave in clips.waves} == {64000}
    elif name == "esc10":
        assert np.bincount(clips.features["category"]).tolist() == [40] * 10
        assert np.bincount(clips.features["fold"]).tolist() == [0, *[80] * 5]
    else:
        assert dict(zip(clips.names["emotion"], np.bincount(clips.features["emotion"]), strict=True))["anger"] == 127


def test_the_mnist_pack(shared):
    test = load("mnist", shared / "data" / "mnist", "test")
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    chex.assert_shape(test.images, (10000, 28, 28, 1))
