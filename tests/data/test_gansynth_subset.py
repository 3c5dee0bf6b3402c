"""TFDS's own subset of NSynth, as far as it can be had without TensorFlow: a builder that stands in for TFDS's."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import tensorflow_datasets as tfds

from nd_jax import data
from nd_jax.experiments.configs import gansynth


class _Prepared:
    """A prepared data set of two notes a split."""

    def __init__(self, file_format, samples=64_000):
        def classes(*names):
            return types.SimpleNamespace(names=list(names))

        features = {
            "instrument": {
                "label": classes("bass_000", "flute_000"),
                "family": classes("bass", "flute"),
                "source": classes("acoustic", "electronic", "synthetic"),
            }
        }
        self.info = types.SimpleNamespace(features=features, file_format=types.SimpleNamespace(value=file_format))
        self.samples = samples

    def as_data_source(self, split):
        start = {"train": 0, "valid": 2}[split]
        return [
            {
                "audio": np.full(self.samples, (-1.0) ** number * 2.0, np.float32),
                "id": f"note_{number}".encode(),
                "instrument": {"label": number % 2, "family": number % 2, "source": 0},
                "pitch": 60 + number,
                "velocity": 100,
            }
            for number in range(start, start + 2)
        ]


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """Puts a prepared data set, as given, where TFDS has its own."""

    def put(*arguments):
        for version in ("2.3.0", "2.3.3"):
            folder = tmp_path / "nsynth" / "gansynth_subset" / version
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "dataset_info.json").write_text("{}")
        given = {str(folder): _Prepared(*arguments)}
        monkeypatch.setattr(tfds, "builder_from_directory", lambda path: given[path])
        return tmp_path

    return put


def test_its_notes_are_read_without_tensorflow(prepared):
    folder = prepared("array_record")
    clips = data.load_gansynth_subset(folder, "valid")
    assert clips.files == ("note_2", "note_3") and clips.sample_rate == 16_000
    assert clips.features["pitch"].tolist() == [62, 63] and clips.names["family"] == ("bass", "flute")
    assert clips.waves[0].dtype == np.int16 and (clips.waves[0][0], clips.waves[1][0]) == (32767, -32768)
    notes, apart = gansynth.GansynthNsynth(folder, subset=True).notes()
    assert notes.features["pitch"].tolist() == [60, 61, 62, 63] and apart.tolist() == [False, False, True, True]
    assert notes.files == ("note_0", "note_1", "note_2", "note_3")


def test_what_cannot_be_read_says_so_in_one_sentence(prepared, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="is not prepared in .*; with TensorFlow installed: tfds build nsynth/"):
        data.load_gansynth_subset(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"has 64000 samples, not the shape \(100,\)"):
        data.load_gansynth_subset(prepared("array_record", 100))
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ImportError, match="in TensorFlow's own format, and TensorFlow is not installed"):
        data.load_gansynth_subset(prepared("tfrecord"))
