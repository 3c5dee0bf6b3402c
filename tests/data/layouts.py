"""Tiny data sets on disk, for the tests of data."""

from __future__ import annotations

import csv
import pathlib

import numpy as np

from nd_jax import data

RATE = 8000


def write_sound(path: pathlib.Path, value: int, samples: int = 40, rate: int = RATE, channels: int = 1) -> None:
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    wave = np.full((samples, channels), value, np.int16)
    subtype = "VORBIS" if path.suffix == ".ogg" else "PCM_16"
    soundfile.write(path, wave, rate, subtype=subtype)


def write_table(path: pathlib.Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def labels(clips: data.Clips, feature: str) -> list[str]:
    return [clips.names[feature][index] for index in clips.features[feature]]


def load(name: str, manual: pathlib.Path, split: str = "train", **options):
    return data.load(name, split, manual_dir=manual, progress=False, **options)


def write_digits(folder: pathlib.Path, suffix: str = ".wav") -> None:
    for digit, speaker, take in [(3, "lucas", 7), (3, "lucas", 0), (9, "theo", 12), (0, "george", 4)]:
        write_sound(folder / f"{digit}_{speaker}_{take}{suffix}", 1000 * digit + take, samples=30 + take)


def read_csv(path: pathlib.Path) -> list[dict]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))
