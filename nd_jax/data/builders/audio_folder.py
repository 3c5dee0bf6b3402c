"""Any folder of sound files: one class per sub-folder, or a CSV file with one row a sound."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from nd_jax.data.builders.base import (
    AUDIO_SUFFIXES,
    CLASSES,
    AudioBuilder,
    Example,
    Feature,
    LayoutError,
    read_table,
    sound_files,
)

_FILE_COLUMNS = ("file", "filename", "file_name", "path")
_SPLITS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
}


class AudioFolder(AudioBuilder):
    """Features are found in the folder.

    With a CSV file at its top (`labels.csv`, or the only one), each other column than the file is a feature: whole
    numbers, numbers, or text that is a class when values repeat; a column "split" gives the splits. Files stand in the
    folder itself or in its `audio`. Without one, each sub-folder is a class of the feature "label", and folders named
    train, valid and test above them are splits. Everything without a split is "train".
    """

    name = "audio_folder"
    title = "A folder of sounds"
    instructions = (
        "give a folder with one sub-folder of sound files per class, or with a CSV file that has a column 'file' "
        "(and any further columns as labels; 'split' for the splits)"
    )

    def __init__(self) -> None:
        self.features = {}

    def splits(self, folder: pathlib.Path) -> dict[str, list[Example]]:
        table = _table(folder)
        examples = _from_folders(folder) if table is None else _from_table(folder, table)
        if not examples:
            raise LayoutError(f"no sound files ({', '.join(sorted(AUDIO_SUFFIXES))}) in {folder}")
        columns = {name: [example.labels[name] for _, example in examples] for name in examples[0][1].labels}
        self.features = {name: _kind(values) for name, values in columns.items()}
        splits: dict[str, list[Example]] = {}
        for split, example in examples:
            labels = {name: _convert(value, self.features[name]) for name, value in example.labels.items()}
            splits.setdefault(split, []).append(Example(example.name, labels, example.source))
        return splits


def _table(folder: pathlib.Path) -> pathlib.Path | None:
    tables = sorted(path for path in folder.glob("*.csv") if path.name[0] != ".")
    named = [path for path in tables if path.name == "labels.csv"]
    if len(tables) > 1 and not named:
        raise ValueError(f"{folder} has {len(tables)} CSV files; name the one that lists the sounds labels.csv")
    return next(iter(named or tables), None)


def _from_table(folder: pathlib.Path, table: pathlib.Path) -> list[tuple[str, Example]]:
    rows = read_table(table)
    if not rows:
        raise ValueError(f"{table} has no rows")
    column = next((name for name in _FILE_COLUMNS if name in rows[0]), None)
    if column is None:
        raise ValueError(f"{table} needs a column 'file' with the names of the sounds; it has {', '.join(rows[0])}")
    examples = []
    for row in rows:
        labels = {name: value for name, value in row.items() if name not in (column, "split")}
        places = (folder / row[column], folder / "audio" / row[column])
        path = next((place for place in places if place.exists()), places[0])
        examples.append((_split_name(row.get("split", "")) or "train", Example(row[column], labels, path)))
    names = [example.name for _, example in examples]
    if len(set(names)) < len(names):
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise ValueError(f"{table} lists {twice!r} more than once")
    return examples


def _from_folders(folder: pathlib.Path) -> list[tuple[str, Example]]:
    paths = [path.relative_to(folder) for path in sound_files(folder)]
    tops = {path.parts[0] for path in paths}
    by_split = bool(tops) and all(_split_name(top) is not None for top in tops)
    examples = []
    for path in paths:
        inner = path.parts[1:] if by_split else path.parts
        split = _split_name(path.parts[0]) if by_split else None
        labels = {"label": inner[0]} if len(inner) > 1 else {}
        examples.append((split or "train", Example(path.as_posix(), labels, folder / path)))
    flat = [example.name for _, example in examples if not example.labels]
    if flat and len(flat) < len(examples):
        raise ValueError(f"{folder}: {flat[0]} lies outside the class folders that the other sounds are in")
    return examples


def _split_name(name: str) -> str | None:
    name = name.lower()
    return "test" if name in {"test", "testing"} else _SPLITS.get(name)


def _kind(values: Sequence[str]) -> Feature:
    for kind in (int, float):
        try:
            for value in values:
                kind(value)
        except ValueError:
            continue
        return kind
    return CLASSES if len(set(values)) < len(values) else str


def _convert(value: str, kind: Feature) -> object:
    return kind(value) if isinstance(kind, type) else value
