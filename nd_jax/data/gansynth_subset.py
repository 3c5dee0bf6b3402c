"""TFDS's own `nsynth/gansynth_subset`, for those who have prepared it: NSynth's acoustic notes of MIDI 24 to 84."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from nd_jax.data.arrays import Clips

NAME = "nsynth/gansynth_subset"


def load_gansynth_subset(data_dir: Any, split: str = "train") -> Clips:
    """The notes of a split, 16 kHz, with the features instrument, family, source, pitch and velocity.

    TFDS needs TensorFlow to prepare this data set, but with `--file_format=array_record` not to read it.

    Args:
      data_dir: TFDS's folder, the one that holds `nsynth/gansynth_subset`.
      split: a split of it or a TFDS expression, such as "train", "valid", "test" or "train[:10%]".

    Raises:
      FileNotFoundError: it has not been prepared there; says how.
      ValueError: no such split, or other data than notes of 64,000 samples.
      ImportError: it is in TensorFlow's own format, and there is no TensorFlow.
    """
    import tensorflow_datasets as tfds

    home = pathlib.Path(data_dir).expanduser() / NAME
    versions = sorted(path.parent for path in home.glob("*/dataset_info.json"))
    if not versions:
        raise FileNotFoundError(
            f"{NAME} is not prepared in {data_dir}; with TensorFlow installed: tfds build {NAME} "
            f"--file_format=array_record --data_dir={data_dir}"
        )
    prepared = tfds.builder_from_directory(str(versions[-1]))
    names = {
        "instrument": tuple(prepared.info.features["instrument"]["label"].names),
        "family": tuple(prepared.info.features["instrument"]["family"].names),
        "source": tuple(prepared.info.features["instrument"]["source"].names),
    }
    try:
        rows = _rows(prepared, split)
        waves, columns, files = _columns(rows)
    except ImportError:
        raise ImportError(
            f"{versions[-1]} is in TensorFlow's own format, and TensorFlow is not installed; prepare it with "
            "--file_format=array_record to read it without"
        ) from None
    return Clips(waves, 16_000, columns, names, files)


def _rows(prepared: Any, split: str) -> Iterable[Mapping[str, Any]]:
    """The examples, whatever format they are stored in."""
    import tensorflow_datasets as tfds

    if str(getattr(prepared.info.file_format, "value", prepared.info.file_format)) == "array_record":
        return prepared.as_data_source(split=split)
    import tensorflow  # noqa: F401

    return tfds.as_numpy(prepared.as_dataset(split=split, shuffle_files=False))


def _columns(rows: Iterable[Mapping[str, Any]]) -> tuple[list[np.ndarray], dict[str, np.ndarray], tuple[str, ...]]:
    """Sounds as int16, the features, and the notes' names."""
    waves: list[np.ndarray] = []
    found: dict[str, list[int]] = {name: [] for name in ("instrument", "family", "source", "pitch", "velocity")}
    files = []
    for row in rows:
        wave = np.asarray(row["audio"], np.float32)
        if wave.shape != (64_000,):
            raise ValueError(f"a note of {NAME} has 64000 samples, not the shape {wave.shape}")
        # Half the memory; NSynth is of 16 bits.
        waves.append(np.round(np.clip(wave, -1.0, 32767 / 32768) * 32768).astype(np.int16))
        for name, value in (
            ("instrument", row["instrument"]["label"]),
            ("family", row["instrument"]["family"]),
            ("source", row["instrument"]["source"]),
            ("pitch", row["pitch"]),
            ("velocity", row["velocity"]),
        ):
            found[name].append(int(value))
        files.append(row["id"].decode() if isinstance(row["id"], bytes) else str(row["id"]))
    return waves, {name: np.asarray(values) for name, values in found.items()}, tuple(files)
