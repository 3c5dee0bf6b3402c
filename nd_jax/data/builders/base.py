"""What a data set is: `Builder`, and `AudioBuilder` for folders of sound files.

A builder says where the files of a data set lie in the folder that a user downloaded by hand, and what is known about
each (labels, speakers, folds, pitches). `nd_jax.data.preparation` turns that into a TensorFlow Datasets (TFDS) data set
in array_record files, which are read without TensorFlow. Adding a data set is one sub-class in one file, with

  name, version, title, homepage, licence, instructions: plain class attributes;
  features: the labels of one example, see `Feature`;
  splits(folder): the examples of each split.

TFDS's own audio features and TFDS's own audio data sets need TensorFlow; these do not.
"""

from __future__ import annotations

import abc
import csv
import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from nd_jax.audio.files import READABLE_SUFFIXES, read_native

# What nd_jax.audio cannot read (.mp3 ...) is a sound file too: it is listed as left out.
AUDIO_SUFFIXES = frozenset({*READABLE_SUFFIXES, ".mp3", ".m4a", ".aac", ".aif", ".aiff", ".au", ".wma", ".caf", ".w64"})

# Lossy formats decode to somewhat more than full scale; more than 3 dB is another scale, and is reported.
_OVERSHOOT = 10 ** (3 / 20)

CLASSES = "classes"
"""The feature is a class whose names are collected from the data, in alphabetical order."""

Feature = tuple[str, ...] | str | type
"""One label: a tuple of class names in their order, `CLASSES`, or `int`, `float`, `bool`, `str` for plain values."""


class LayoutError(FileNotFoundError):
    """The folder is there, but does not hold the files of this data set."""


@dataclasses.dataclass(frozen=True)
class Example:
    """One example before it is read.

    Attributes:
      name: unique within the data set; examples are sorted by it. For sound, the path below the data set's folder.
      labels: one value per feature; the name of the class for classes.
      source: where its content is; a path for sound.
    """

    name: str
    labels: Mapping[str, Any]
    source: Any


class Builder(abc.ABC):
    """A data set; see the module's text for what a sub-class gives.

    Attributes:
      name: what users type in `nd_jax.data.load`.
      version: raised whenever what is stored changes; data prepared by another version are prepared again.
      instructions: where to get the files and what to unpack, for the error when they are missing.
      features: labels of one example.
      aliases: further names of splits, for example `{"test": "fold5"}`; "all" always exists.
      content: shape and dtype of each array that `read` returns.
    """

    name: ClassVar[str]
    version: ClassVar[str] = "1.0.0"
    title: ClassVar[str] = ""
    homepage: ClassVar[str] = ""
    licence: ClassVar[str] = ""
    instructions: ClassVar[str] = ""
    aliases: ClassVar[Mapping[str, str]] = {}
    content: ClassVar[Mapping[str, tuple[tuple[int | None, ...], type]]]
    features: Mapping[str, Feature]

    @abc.abstractmethod
    def splits(self, folder: pathlib.Path) -> dict[str, list[Example]]:
        """The examples in `folder`, by split.

        Raises:
          LayoutError: the files of this data set are not there.
          ValueError: a label file is wrong; names the file and the line.
        """

    @abc.abstractmethod
    def read(self, example: Example) -> dict[str, Any]:
        """The content of one example; raises ValueError or OSError when its file is bad."""


class AudioBuilder(Builder):
    """A data set of sound files, stored as 16-bit samples at the rate of the file."""

    content: ClassVar[Mapping[str, tuple[tuple[int | None, ...], type]]] = {
        "audio": ((None,), np.int16),
        "sample_rate": ((), np.int32),
    }

    @functools.cached_property
    def clipped(self) -> list[str]:
        """The files read so far that pass full scale by far; what is beyond it was cut off."""
        return []

    def read(self, example: Example) -> dict[str, Any]:
        wave, sample_rate = read_native(example.source)
        peak = float(np.abs(wave).max())
        if peak > _OVERSHOOT:
            self.clipped.append(f"{example.name} (peak {peak:.2f})")
        return {"audio": to_int16(wave), "sample_rate": sample_rate}


def to_int16(wave: np.ndarray) -> np.ndarray:
    """(samples,) float with full scale 1 to 16-bit; exact for sounds that were 16-bit, saturates beyond full scale."""
    return np.clip(np.rint(np.asarray(wave, np.float64) * 32768), -32768, 32767).astype(np.int16)


def find_root(folder: pathlib.Path, *markers: str) -> pathlib.Path | None:
    """The folder, or the one folder directly below it, that holds one of `markers` (a file or folder each)."""
    candidates = [folder, *sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")]
    for candidate in candidates:
        if any((candidate / marker).exists() for marker in markers):
            return candidate
    return None


def read_table(path: pathlib.Path, columns: Sequence[str] = ()) -> list[dict[str, str]]:
    """Reads a CSV file with a header line as one dict a row.

    Raises:
      ValueError: not a table, one of `columns` is missing, or a row has too few or too many fields; names the line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            header = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = header
            missing = [name for name in columns if name not in header]
            if missing:
                raise ValueError(f"{path} has no column {missing[0]!r}; it has {', '.join(header) or 'no header'}")
            rows = []
            for row in reader:
                if None in row or None in row.values():
                    raise ValueError(
                        f"{path}, line {reader.line_num}: expected {len(header)} fields ({', '.join(header)})"
                    )
                rows.append({name: value.strip() for name, value in row.items()})
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8: {error}") from None
    return rows


def sound_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """All sound files below `folder`, sorted; hidden files and folders are left out."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file())
    return sorted(path for path in found if not any(part[0] == "." for part in path.relative_to(folder).parts))


def number(row: Mapping[str, str], column: str, where: pathlib.Path) -> int:
    """The whole number in a column of a row of `read_table`."""
    try:
        return int(row[column])
    except ValueError:
        raise ValueError(f"{where}: column {column!r} must hold whole numbers, not {row[column]!r}") from None
