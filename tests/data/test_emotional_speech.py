"""Data sets of emotional speech: their layouts, what their file names say, wrong names, the real EmoDB."""

from __future__ import annotations

import importlib.util
import pathlib

import numpy as np
import pytest

_spec = importlib.util.spec_from_file_location("data_layouts", pathlib.Path(__file__).with_name("layouts.py"))
assert _spec and _spec.loader
layouts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(layouts)
labels, load, write_sound = layouts.labels, layouts.load, layouts.write_sound


def emodb_names() -> dict[str, int]:
    return {"03a01Fa": 1, "08a01Wb": 2, "15b10Td": 3, "16a05Nc": 4, "16a05La": 5}


@pytest.mark.parametrize("place", ["wav", "download/wav", "audio", "."])
def test_emodb(manual, place):
    for name, value in emodb_names().items():
        write_sound(manual / place / (name + (".flac" if place == "audio" else ".wav")), value, rate=16000)
    write_sound(manual / place / "readme.wav", 9)
    train, test = load("emodb", manual), load("emodb", manual, "test")
    assert labels(train, "emotion") == ["happiness", "anger"] and labels(train, "speaker") == ["03", "08"]
    assert labels(test, "emotion") == ["sadness", "boredom", "neutral"]
    assert labels(test, "sex") == ["male", "female", "female"] and test.features["age"].tolist() == [25, 31, 31]
    assert labels(test, "sentence") == ["b10", "a05", "a05"] and test.features["version"].tolist() == ["d", "a", "c"]
    assert [wave[0] for wave in load("emodb", manual, "speaker16").waves] == [5, 4]
    assert len(load("emodb", manual, "all")) == 5


def test_wrong_names_of_emotional_speech_are_named(manual):
    write_sound(manual / "wav/04a01Fa.wav", 1)
    with pytest.raises(ValueError, match=r"04a01Fa.wav: EmoDB has no speaker 04; it has 03, 08"):
        load("emodb", manual)
    with pytest.raises(FileNotFoundError, match="no files named .*To get it, download Audio_Speech_Actors"):
        load("ravdess", manual)
    with pytest.raises(FileNotFoundError, match="no files named OAF_"):
        load("tess", manual)
    write_sound(manual / "03-02-01-01-01-01-01.wav", 1)
    with pytest.raises(FileNotFoundError, match="the 1 songs there are another part of RAVDESS"):
        load("ravdess", manual)
    write_sound(manual / "03-01-09-01-01-01-01.wav", 1)
    with pytest.raises(ValueError, match="09-01-01-01-01.wav: emotion 09 is not one of RAVDESS's, 01 to 08"):
        load("ravdess", manual)


@pytest.mark.parametrize("place", ["Actor_{}", "ravdess/audio_speech/Actor_{}", "."])
def test_ravdess(manual, place):
    names = ["03-01-01-01-02-01-01", "03-01-06-02-01-02-20", "03-01-02-01-01-01-22", "03-01-08-01-01-01-23"]
    for value, name in enumerate([*names, "03-02-03-01-01-01-01", "01-01-03-01-01-01-01"]):
        write_sound(manual / place.format(name[-2:]) / f"{name}.wav", value, rate=48000)
    write_sound(manual / "twice/Actor_01" / f"{names[0]}.wav", 0, rate=48000)
    train, test = load("ravdess", manual), load("ravdess", manual, "test")
    assert labels(train, "emotion") == ["neutral", "fearful"] and labels(train, "sex") == ["male", "female"]
    assert labels(train, "intensity") == ["normal", "strong"] and train.features["repetition"].tolist() == [1, 2]
    assert [text.split()[0] for text in labels(train, "statement")] == ["dogs", "kids"]
    assert (labels(test, "emotion"), labels(test, "speaker")) == (["surprised"], ["23"])
    assert labels(load("ravdess", manual, "valid"), "emotion") == ["calm"]
    assert [wave[0] for wave in load("ravdess", manual, "actor20").waves] == [1]


@pytest.mark.parametrize("flat", [True, False])
def test_tess(manual, flat):
    words = [f"w{number:02d}" for number in range(10)]
    for speaker, emotion, folder in [
        ("OAF", "angry", "OAF_angry"),
        ("YAF", "ps", "YAF_pleasant_surprised"),
        ("OAF", "neutral", "OAF_neutral"),
    ]:
        for value, word in enumerate(words):
            short = "OA" if (emotion, value) == ("neutral", 9) else speaker
            write_sound(manual / ("." if flat else folder) / f"{short}_{word}_{emotion}.wav", value, rate=24414)
    write_sound(manual / "copy/OAF_w00_angry.wav", 77, rate=24414)
    train, valid, test = (load("tess", manual, split) for split in ("train", "valid", "test"))
    assert [len(clips) for clips in (train, valid, test)] == [24, 3, 3]
    assert sorted(labels(test, "emotion")) == ["anger", "neutral", "pleasant surprise"]
    assert set(labels(test, "word")) == {"w09"} and set(labels(valid, "word")) == {"w08"}
    assert sorted(zip(labels(test, "speaker"), test.features["age"], strict=True)) == [("OAF", 64)] * 2 + [("YAF", 26)]
    assert 77 not in [wave[0] for wave in train.waves] or flat
    assert train.names["emotion"][5] == "pleasant surprise" and train.sample_rate == 24414


def test_the_emodb_pack(shared):
    clips = load("emodb", shared / "data/emodb", "all")
    counts = np.bincount(clips.features["emotion"], minlength=7).tolist()
    assert dict(zip(clips.names["emotion"], counts, strict=True)) == {
        "anger": 127, "boredom": 81, "disgust": 46, "fear": 69, "happiness": 71, "neutral": 79, "sadness": 62
    }  # fmt: skip
    assert np.bincount(clips.features["speaker"]).tolist() == [49, 58, 43, 38, 55, 35, 61, 69, 56, 71]
    assert len(clips.names["sentence"]) == 10 and clips.sample_rate == 16000 and not clips.skipped
    told = layouts.read_csv(shared / "data/emodb/labels.csv")
    assert [row["file"] for row in told] == list(clips.files)
    for name, feature in (("emotion", "emotion"), ("speaker", "speaker"), ("sentence", "sentence")):
        assert [row[name] for row in told] == labels(clips, feature)
    assert [int(row["age"]) for row in told] == clips.features["age"].tolist()
    assert [row["sex"] for row in told] == [sex[0] for sex in labels(clips, "sex")]
