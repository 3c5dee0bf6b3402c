"""Loading: missing and bad files are said, data are prepared once, atomically, and again when the files change."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import subprocess
import sys

import chex
import numpy as np
import pytest

from nd_jax import data
from nd_jax.data import preparation
from nd_jax.data.builders import BUILDERS
from nd_jax.data.builders.base import AudioBuilder, Example

_spec = importlib.util.spec_from_file_location("data_layouts", pathlib.Path(__file__).with_name("layouts.py"))
assert _spec and _spec.loader
layouts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(layouts)
RATE, labels, load, write_digits = layouts.RATE, layouts.labels, layouts.load, layouts.write_digits
write_sound, write_table = layouts.write_sound, layouts.write_table


# Missing files, splits and names


@pytest.mark.parametrize("name", BUILDERS)
def test_missing_files_come_with_instructions(name, manual, data_dir):
    (manual / ".DS_Store").touch()
    with pytest.raises(FileNotFoundError, match="is empty") as empty:
        load(name, manual)
    with pytest.raises(FileNotFoundError, match="is missing") as missing:
        data.load(name)
    for error, folder in ((empty, manual), (missing, data_dir / "manual" / name)):
        assert BUILDERS[name].instructions in str(error.value)
        assert str(folder) in str(error.value)
    (manual / "archive.tar.gz").write_bytes(b"something else")
    with pytest.raises(FileNotFoundError, match="To get it, "):
        load(name, manual)


def test_the_default_place_is_below_the_data_folder(data_dir):
    write_digits(data_dir / "manual/spoken_digits/recordings")
    assert len(data.load("spoken_digits", progress=False)) == 2


def test_wrong_names_and_splits(manual):
    with pytest.raises(ValueError, match="unknown data set 'spoken_digit'; did you mean 'spoken_digits'"):
        data.load("spoken_digit")
    with pytest.raises(ValueError, match="sample_rate must be a positive number of Hz, not 0"):
        data.load("esc10", sample_rate=0)
    write_digits(manual)
    with pytest.raises(ValueError, match="unknown split 'tset'; it has test, train and all"):
        load("spoken_digits", manual, "train+tset")
    with pytest.raises(ValueError, match="unknown split"):
        load("spoken_digits", manual, "")
    with pytest.raises(ValueError, match="cut it by percent"):
        load("spoken_digits", manual, "all[:3]")
    assert len(load("spoken_digits", manual, "train[:1]+test")) == 3
    assert len(load("spoken_digits", manual, "all[:50%]")) == 2


# Bad sound files


def test_files_whose_names_are_not_utf_8_are_seen(manual):
    before = preparation.fingerprint(manual)
    (manual / os.fsdecode(b"caf\xe9.txt")).touch()
    assert preparation.fingerprint(manual) != before


def test_bad_files_are_listed_and_left_out(manual):
    write_digits(manual)
    (manual / "5_theo_9.wav").write_bytes(b"RIFF")
    (manual / "6_theo_9.wav").touch()
    with pytest.warns(UserWarning, match=r"2 bad files of .* left out: 5_theo_9.wav: .*; 6_theo_9.wav: "):
        clips = load("spoken_digits", manual)
    assert len(clips) == 2
    assert [line.split(":")[0] for line in clips.skipped] == ["5_theo_9.wav", "6_theo_9.wav"]
    assert load("spoken_digits", manual).skipped == clips.skipped  # and remembered, without another warning


def test_listed_files_that_are_missing_are_bad_files(manual):
    write_table(manual / "labels.csv", [{"file": "a.wav", "label": "x"}, {"file": "b.wav", "label": "x"}])
    write_sound(manual / "a.wav", 1)
    with pytest.warns(UserWarning, match="1 bad file .* b.wav"):
        assert load("audio_folder", manual).files == ("a.wav",)


def test_no_good_file_is_an_error_and_leaves_nothing(manual, data_dir):
    for take in range(3):
        (manual / f"1_theo_{take}.wav").write_bytes(b"no sound")
    with pytest.raises(ValueError, match="no readable file is left in split 'test'; .* 3 bad files"):
        load("spoken_digits", manual)
    assert not [path for path in data_dir.rglob("*") if path.is_file() and path.name != ".lock"]


def test_sounds_far_beyond_full_scale_are_reported(manual):
    import soundfile

    soundfile.write(manual / "loud.wav", np.full(40, 3.0, np.float32), RATE, subtype="FLOAT")
    with pytest.warns(UserWarning, match=r"clipped: loud.wav \(peak 3.00\)"):
        clips = load("audio_folder", manual)
    assert clips.waves[0].max() == 32767


def test_several_sample_rates_become_one(manual):
    for name, rate in (("a", 8000), ("b", 8000), ("c", 16000)):
        write_sound(manual / f"{name}.wav", 100, samples=800, rate=rate)
    with pytest.warns(UserWarning, match="2 at 8000 Hz, 1 at 16000 Hz.* brought to 8000 Hz"):
        clips = load("audio_folder", manual)
    assert clips.sample_rate == 8000 and [len(wave) for wave in clips.waves] == [800, 800, 400]
    doubled = load("audio_folder", manual, sample_rate=16000)
    assert doubled.sample_rate == 16000 and [len(wave) for wave in doubled.waves] == [1600, 1600, 800]
    chex.assert_trees_all_close(doubled.wave(0)[800], np.float32(100 / 32768), rtol=0.01)


# Preparation


def prepared_at(data_dir: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path.parent for path in data_dir.rglob(preparation.RECORD))


def test_data_are_prepared_once_and_again_when_the_files_change(manual, data_dir):
    write_digits(manual)
    load("spoken_digits", manual)
    (folder,) = prepared_at(data_dir)
    first = (folder / preparation.RECORD).stat().st_mtime_ns
    load("spoken_digits", manual, "test")
    assert (folder / preparation.RECORD).stat().st_mtime_ns == first
    write_sound(manual / "8_theo_30.wav", 8)
    assert len(load("spoken_digits", manual)) == 3
    write_sound(manual / "8_theo_30.wav", 9)  # the same size
    assert load("spoken_digits", manual).waves[1][0] == 9
    (manual / "8_theo_30.wav").unlink()
    assert len(load("spoken_digits", manual)) == 2
    assert prepared_at(data_dir) == [folder]
    assert not list(data_dir.rglob(".preparing-*"))


def test_another_version_is_prepared_again(manual, data_dir, monkeypatch):
    write_digits(manual)
    load("spoken_digits", manual)
    monkeypatch.setattr(BUILDERS["spoken_digits"], "version", "1.1.0")
    monkeypatch.setattr(BUILDERS["spoken_digits"], "features", {"digit": tuple("0123456789")})
    monkeypatch.setattr(
        BUILDERS["spoken_digits"],
        "splits",
        lambda self, folder: {"train": [Example("new", {"digit": "1"}, manual / "3_lucas_7.wav")]},
    )
    assert load("spoken_digits", manual).files == ("new",)
    assert [path.name for path in prepared_at(data_dir)] == ["1.0.0", "1.1.0"]


def test_each_manual_folder_has_its_own_prepared_data(tmp_path, data_dir):
    for name in ("one", "two"):
        write_sound(tmp_path / name / "data" / f"{name}.wav", 1)
        assert load("audio_folder", tmp_path / name / "data").files == (f"{name}.wav",)
    assert len(prepared_at(data_dir)) == 2
    assert load("audio_folder", tmp_path / "one" / "data").files == ("one.wav",)


def test_prepared_data_outlive_the_manual_files(manual, data_dir):
    write_digits(manual)
    expected = load("spoken_digits", manual)
    for path in manual.iterdir():
        path.unlink()
    chex.assert_trees_all_equal(load("spoken_digits", manual).waves, expected.waves)
    assert len(data.load("spoken_digits")) == 2  # the only one there is


def test_an_interrupted_preparation_is_never_taken_for_complete(manual, data_dir, monkeypatch):
    write_digits(manual)
    read = AudioBuilder.read

    def interrupted(self, example):
        if example.name.startswith("9"):
            raise KeyboardInterrupt
        return read(self, example)

    monkeypatch.setattr(AudioBuilder, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load("spoken_digits", manual)
    assert not prepared_at(data_dir)
    monkeypatch.setattr(AudioBuilder, "read", read)
    assert len(load("spoken_digits", manual, "all")) == 4


def test_a_killed_preparation_leaves_nothing_that_is_used(manual, data_dir):
    write_digits(manual)
    program = (
        "import os, signal\n"
        "from nd_jax import data\n"
        "from nd_jax.data import preparation\n"
        "import json\n"
        "json.dumps = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"data.load('spoken_digits', manual_dir={str(manual)!r}, progress=False)\n"
    )
    paths = os.pathsep.join([str(pathlib.Path(data.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": paths}, check=False)
    assert done.returncode == -9
    assert list(data_dir.rglob(".preparing-*"))
    assert not prepared_at(data_dir)
    assert len(load("spoken_digits", manual, "all")) == 4
    assert not list(data_dir.rglob(".preparing-*"))


def test_damaged_prepared_data_are_named(manual, data_dir):
    write_digits(manual)
    load("spoken_digits", manual)
    (folder,) = prepared_at(data_dir)
    (record,) = folder.glob("*train*")
    content = bytearray(record.read_bytes())
    content[100:120] = bytes(20)
    record.write_bytes(content)
    with pytest.raises(OSError, match=r"prepared data in .*1\.0\.0 are damaged .* delete that folder"):
        load("spoken_digits", manual)


@pytest.mark.parametrize("split", ["train[:0]", "train[few]", "train[:1%]"])
def test_an_empty_or_senseless_part_of_a_split_is_an_error(manual, split):
    write_digits(manual)
    with pytest.raises(ValueError, match="is empty or is not a TFDS split"):
        load("spoken_digits", manual, split)


def test_tfds_alone_reads_what_was_prepared_and_no_tensorflow_is_loaded(manual, data_dir):
    write_digits(manual)
    load("spoken_digits", manual)
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(prepared_at(data_dir)[0]))
    source = builder.as_data_source(split="train")
    row = next(row for row in source if row["file"] == b"9_theo_12.wav")
    assert builder.info.features["speaker"].int2str(row["speaker"]) == "theo"
    assert row["sample_rate"] == RATE and row["audio"].dtype == np.int16
    assert "CC BY-SA" in builder.info.description
    assert "tensorflow" not in sys.modules


def test_importing_data_loads_neither_tfds_nor_soundfile():
    program = (
        "import sys, nd_jax.data\n"
        "heavy = {'tensorflow_datasets', 'soundfile', 'scipy', 'tqdm', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    paths = os.pathsep.join([str(pathlib.Path(data.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": paths}, check=True)


# Clips


def test_clips_at_one_length():
    waves = [np.array([16384, -16384, 8192], np.int16), np.array([0.5], np.float32)]
    clips = data.Clips(waves, RATE, {"label": np.array([0, 1])}, {"label": ("a", "b")})
    chex.assert_trees_all_equal(clips.fixed(2), np.array([[0.5, -0.5], [0.5, 0]], np.float32))
    chex.assert_trees_all_equal(clips.fixed(4)[0], np.array([0.5, -0.5, 0.25, 0], np.float32))
    chex.assert_trees_all_equal(clips.fixed(4, "tile")[0], np.array([0.5, -0.5, 0.25, 0.5], np.float32))
    with pytest.raises(ValueError, match="cannot be cropped"):
        clips.fixed(2, "crop")
    with pytest.raises(ValueError, match="unknown length policy 'crap'"):
        clips.fixed(2, "crap")
    assert clips.select([1, 0, 1]).features["label"].tolist() == [1, 0, 1]
    assert len(clips.select(clips.features["label"] == 1)) == 1
    with pytest.raises(ValueError, match=r"mask has shape \(3,\), but there are 2"):
        clips.select(np.ones(3, bool))
    with pytest.raises(ValueError, match="index 2 is out of range: there are 2"):
        clips.select([2])
