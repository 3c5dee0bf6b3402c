"""Captions of clips: read from a table, matched by file name, embedded."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nd_jax.data.builders.base import read_table
from nd_jax.dissect.closed_set import TextEncoder
from nd_jax.dissect.concepts import read_header, read_json

_FILE_COLUMNS = ("file", "filename", "file_name", "path", "name", "clip")
_CAPTION_COLUMNS = ("caption", "captions", "description", "text")
# A table of classes is one of captions of a word each.
_CLASS_COLUMNS = ("category", "class", "label")
_A_BATCH = 256
_NONE = "no caption"


@dataclasses.dataclass(frozen=True)
class Captions:
    """What is said about each clip of a probing set.

    Attributes:
      clips: their names.
      texts: the captions of each clip, none for clips that have none.
      skipped: {clip: reason} of those that have none.
      unused: entries of the table that are of no clip.
    """

    clips: tuple[str, ...]
    texts: tuple[tuple[str, ...], ...]
    skipped: Mapping[str, str]
    unused: tuple[str, ...] = ()

    @property
    def rows(self) -> np.ndarray:
        """(n,) int: the clips that have captions; `activations[captions.rows]` goes with `embed`."""
        return np.flatnonzero([len(texts) > 0 for texts in self.texts])

    def embed(self, encoder: TextEncoder) -> np.ndarray:
        """Embeddings of the clips that have captions, for `db_scores`.

        Several captions of a clip are brought to norm 1 each and averaged.

        Returns:
          (n, d) float32, a row for each of `rows`.

        Raises:
          ValueError: no clip has a caption; the encoder gives another number of rows, or numbers that are not finite.
        """
        if not len(self.rows):
            first = next(iter(self.skipped.values()), "there are no clips")
            raise ValueError(f"none of {len(self.clips)} clips has a caption: {first}")
        texts = list(dict.fromkeys(text for row in self.texts for text in row))
        found: dict[str, np.ndarray] = {}
        for start in range(0, len(texts), _A_BATCH):
            batch = texts[start : start + _A_BATCH]
            values = np.asarray(encoder.encode(batch), np.float32)
            if values.ndim != 2 or len(values) != len(batch) or not np.isfinite(values).all():
                raise ValueError(
                    f"the encoder gave {values.shape} for {len(batch)} texts, or numbers that are not finite"
                )
            norms = np.linalg.norm(values, axis=1, keepdims=True)
            found.update(zip(batch, values / np.where(norms > 0, norms, 1), strict=True))
        return np.stack([np.mean([found[text] for text in self.texts[row]], axis=0) for row in self.rows])


def read_captions(path: str | os.PathLike[str]) -> dict[str, tuple[str, ...]]:
    """Captions of files, {file as the table writes it: captions in their order}; empty captions are left out.

    Args:
      path: a file in UTF-8. `.json`: {file: caption or list of captions}, or a list of {"file", "caption"} or {"file",
        "captions"}. Any other: CSV with a header, a column "file" (or "filename", "file_name", "path", "name", "clip")
        and columns "caption" (or "description", "text"; several by number: "caption_1", "caption_2"), or where there is
        none of these, the class of a clip ("category", "class", "label"). A file may have several rows.

    Raises:
      ValueError: no such file, not UTF-8, not of its format, or no captions in it; names the file.
    """
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        raise ValueError(f"there is no file of captions at {path}")
    pairs = _from_json(path) if path.suffix.lower() == ".json" else _from_csv(path)
    found: dict[str, list[str]] = {}
    for file, caption in pairs:
        if not file.strip():
            raise ValueError(f"{path}: the caption {caption[:60]!r} has no file")
        told = found.setdefault(file.strip(), [])
        text = " ".join(caption.split())
        if text and text not in told:
            told.append(text)
    if not any(found.values()):
        raise ValueError(f"{path} has no captions")
    return {file: tuple(texts) for file, texts in found.items()}


def captions_of(clips: Sequence[str], table: Any) -> Captions:
    """Finds the captions of clips by file name.

    An entry is of the clip with the same path, else of that whose path ends with it or that it ends with
    ("audio/a.wav" and "a.wav"), else of that with the same name without suffix ("a.flac" and "a.wav").

    Args:
      clips: names of clips, for example `record.clips`.
      table: what `read_captions` gives, or the file that it reads.

    Returns:
      `Captions`; clips without one, and those whose name fits several entries or that share an entry's name with
      another clip, are in `skipped` with the reason.

    Raises:
      ValueError: as `read_captions`; no clips, or none that has a caption.
    """
    if not isinstance(table, Mapping):
        table = read_captions(table)
    names = tuple(map(str, clips))
    if not names:
        raise ValueError("there are no clips to find captions of")
    entries = {file: _parts(file) for file in table}
    wanted = [_parts(name) for name in names]
    texts: list[tuple[str, ...]] = [()] * len(names)
    skipped: dict[str, str] = {}
    used: set[str] = set()
    by_stem: dict[str, list[str]] = {}
    for file, parts in entries.items():
        by_stem.setdefault(_stem(parts), []).append(file)
    same: dict[str, list[int]] = {}
    for row, parts in enumerate(wanted):
        same.setdefault(_stem(parts), []).append(row)
    for row, name in enumerate(names):
        found = _best(wanted[row], {file: entries[file] for file in by_stem.get(_stem(wanted[row]), ())})
        if len(found) > 1:
            skipped[name] = f"{len(found)} entries of the captions may be meant: {', '.join(sorted(found)[:3])}"
            continue
        if not found or not table[found[0]]:
            skipped[name] = _NONE if not found else f"the caption of {found[0]} is empty"
            continue
        place = entries[found[0]]
        reach = _near(wanted[row], place)
        rivals = [other for other in same[_stem(wanted[row])] if _near(wanted[other], place) >= reach]
        if len(rivals) > 1:
            skipped[name] = f"the caption of {found[0]} may be meant for {len(rivals)} clips; name it with its folder"
            continue
        texts[row] = tuple(table[found[0]])
        used.add(found[0])
    if not used:
        like = f"they are named like {names[0]!r}, the captions' files like {next(iter(table), '')!r}"
        like = next((reason for reason in skipped.values() if reason != _NONE), like)
        raise ValueError(f"none of {len(names)} clips has a caption: {like}")
    return Captions(names, tuple(texts), skipped, tuple(file for file in table if file not in used))


def _parts(file: str) -> tuple[str, ...]:
    return tuple(part for part in file.replace("\\", "/").split("/") if part not in ("", "."))


def _stem(parts: tuple[str, ...]) -> str:
    return pathlib.PurePosixPath(parts[-1]).stem if parts else ""


def _near(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """How well two paths fit: 3 the same, 2 one ends with the other, 1 that without suffixes, 0 not at all."""
    if one == other:
        return 3
    short = min(len(one), len(other))
    if not short:
        return 0
    if one[-short:] == other[-short:]:
        return 2
    alike = one[-short:-1] == other[-short:-1] and _stem(one) == _stem(other)
    return int(alike)


def _best(parts: tuple[str, ...], entries: Mapping[str, tuple[str, ...]]) -> list[str]:
    marks = {file: _near(parts, entry) for file, entry in entries.items()}
    best = max(marks.values(), default=0)
    return [file for file, mark in marks.items() if mark == best and best]


def _from_csv(path: pathlib.Path) -> list[tuple[str, str]]:
    rows, header = read_table(path), read_header(path)
    column = next((name for name in _FILE_COLUMNS if name in header), None)
    columns = [name for name in header if name.rstrip("0123456789").rstrip("_") in _CAPTION_COLUMNS]
    columns = columns or [name for name in header if name in _CLASS_COLUMNS][:1]
    if column is None or not columns:
        missing = "file" if column is None else "caption"
        raise ValueError(f"{path} has no column {missing!r}; it has {', '.join(header) or 'no header'}")
    return [(row[column], row[each]) for row in rows for each in columns]


def _from_json(path: pathlib.Path) -> list[tuple[str, str]]:
    found = read_json(path)
    wanted = f'{path} must hold {{file: caption or captions}} or a list of {{"file", "caption"}}'
    if isinstance(found, dict):
        told = list(found.items())
    elif isinstance(found, list) and all(isinstance(each, dict) for each in found):
        told = [(_first(each, _FILE_COLUMNS), _first(each, _CAPTION_COLUMNS)) for each in found]
    else:
        raise ValueError(wanted)
    pairs: list[tuple[str, str]] = []
    for file, captions in told:
        texts = [captions] if isinstance(captions, str) else captions
        if not isinstance(file, str) or not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{wanted}; {file!r} has {captions!r}")
        pairs += [(file, text) for text in texts or [""]]
    return pairs


def _first(entry: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((entry[key] for key in keys if key in entry), None)
