"""Sets of concepts: the classes of three data sets of sounds, or those of a file of your own."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from nd_jax.data.builders import esc50, gtzan, urbansound8k
from nd_jax.data.builders.base import read_table
from nd_jax.dissect.closed_set import concept_names
from nd_jax.runtime import nearest

_NAME_COLUMNS = ("name", "concept", "label", "class", "category")
# Half of a pair of UTF-16, which JSON can write and UTF-8 cannot.
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_ID_COLUMNS = ("id", "target", "classID", "index")


@dataclasses.dataclass(frozen=True)
class ConceptSet:
    """Concepts that units may stand for.

    Names are text and nothing else: HTML or Markdown in them is kept as it is, and escaped where a page shows it.

    Attributes:
      name: of the set.
      names: of the concepts, as `closed_set` and `last_layer` take them.
      ids: each concept's number in its data set, such as the logit of a classifier trained on it.
    """

    name: str
    names: tuple[str, ...]
    ids: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuses an empty set, names or ids that occur twice, and ids that do not fit.

        Names that differ in capitals, white space or "_" for " " alone are the same.
        """
        try:
            object.__setattr__(self, "names", concept_names(self.names))
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from None
        if len(self.ids) != len(self.names):
            raise ValueError(f"{self.name}: {len(self.ids)} ids for {len(self.names)} concepts")
        _once(self.name, [text.casefold() for text in self.texts], self.names)
        _once(self.name, self.ids, self.names)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def title(self) -> str:
        """The name, of a file without its folders."""
        return pathlib.PurePath(self.name).name

    @property
    def texts(self) -> tuple[str, ...]:
        """The names as one would write them ("sea waves" for "sea_waves"): what a text encoder is given."""
        return tuple(" ".join(name.replace("_", " ").split()) for name in self.names)


def _once(name: str, values: Sequence[Any], names: Sequence[str]) -> None:
    first: dict[Any, int] = {}
    for place, value in enumerate(values):
        if value in first:
            same = "has the id of" if isinstance(value, int) else "is the same as"
            other = first[value]
            raise ValueError(
                f"{name}: concept {place + 1}, {names[place]!r}, {same} concept {other + 1}, {names[other]!r}"
            )
        first[value] = place


def _set(name: str, names: Sequence[str]) -> ConceptSet:
    return ConceptSet(name, tuple(names), tuple(range(len(names))))


CONCEPT_SETS: dict[str, ConceptSet] = {
    found.name: found
    for found in (
        _set("esc50", esc50.CATEGORIES),
        _set("urbansound8k", urbansound8k.CATEGORIES),
        _set("gtzan", gtzan.CATEGORIES),
    )
}
"""The classes of ESC-50 (50), UrbanSound8K (10) and GTZAN (10); ids as in the data sets, GTZAN's alphabetical from 0.

AND's own files have misspellings in the latter two, no ids in UrbanSound8K's, and GTZAN's ids from 1.
"""


def concept_set(source: str | os.PathLike[str]) -> ConceptSet:
    """One of `CONCEPT_SETS`, or the concepts of a file in UTF-8.

    Args:
      source: the name of a set, or a file:
        `.json`: a list of names, a list of {"name", "id"}, {name: id}, or {id: name};
        `.csv`: with a header and a column "name" (or "concept", "label", "class", "category"), and "id" (or "target",
        "classID", "index") if there are ids;
        any other: one name a line, blank lines are left out.
        Without ids, a concept's id is its place from 0.

    Raises:
      ValueError: no such set or file, a file that is not UTF-8 or not of its format, an empty set, or concepts that
        occur twice; names the file.
    """
    if isinstance(source, str) and source in CONCEPT_SETS:
        return CONCEPT_SETS[source]
    path = pathlib.Path(source).expanduser()
    if not path.is_file():
        raise ValueError(
            f"{str(source)!r} is neither a file nor a set of concepts; {nearest(str(source), CONCEPT_SETS)}"
        )
    kind = path.suffix.lower()
    if kind == ".json":
        names, ids = _from_json(path)
    elif kind == ".csv":
        names, ids = _from_csv(path)
    else:
        names, ids = [line.strip() for line in read_text(path).splitlines() if line.strip()], []
    return ConceptSet(str(path), tuple(names), tuple(ids) if ids else tuple(range(len(names))))


def read_text(path: pathlib.Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises:
      ValueError: the file is not UTF-8; names the first byte that is not.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not text in UTF-8: byte {error.start} is {error.object[error.start]:#04x}"
        ) from None


def read_json(path: pathlib.Path) -> Any:
    """What a JSON file holds.

    Raises:
      ValueError: not UTF-8, not JSON, or an object in which a key occurs twice; names the file.
    """
    text = read_text(path)
    try:
        found = json.loads(text, object_pairs_hook=lambda pairs: _object(path, pairs))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if _HALF.search(text):
        try:
            json.dumps(found, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = error.object[error.start]
            raise ValueError(f"{path} has half of a character, \\u{ord(half):04x}, which is no text in UTF-8") from None
    return found


def read_header(path: pathlib.Path) -> list[str]:
    """The columns of a CSV file that `read_table` takes.

    Raises:
      ValueError: a column that occurs twice, of which one would be lost; names the file.
    """
    with path.open(newline="", encoding="utf-8-sig") as stream:
        header = [name.strip() for name in next(csv.reader(stream), [])]
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{path} has the column {twice!r} twice: number them, as in {twice}_1 and {twice}_2")
    return header


def _object(path: pathlib.Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"{path} has {twice!r} twice: name each once")
    return found


def _from_csv(path: pathlib.Path) -> tuple[list[str], list[int]]:
    rows, header = read_table(path), read_header(path)
    column = next((name for name in _NAME_COLUMNS if name in header), None)
    if column is None:
        raise ValueError(f"{path} has no column 'name'; it has {', '.join(header) or 'no header'}")
    numbers = next((name for name in _ID_COLUMNS if name in header), None)
    names = [row[column] for row in rows]
    return names, [] if numbers is None else [_whole(path, row[numbers]) for row in rows]


def _from_json(path: pathlib.Path) -> tuple[list[str], list[int]]:
    found = read_json(path)
    wanted = f'{path} must hold a list of names, a list of {{"name", "id"}}, {{name: id}} or {{id: name}}'
    if isinstance(found, dict):
        if found and all(isinstance(value, str) for value in found.values()):
            return list(found.values()), [_whole(path, key) for key in found]
        return list(found), [_whole(path, value) for value in found.values()]
    if not isinstance(found, list):
        raise ValueError(wanted)
    if all(isinstance(each, str) for each in found):
        return found, []
    if not all(isinstance(each, dict) and isinstance(each.get("name"), str) for each in found):
        raise ValueError(wanted)
    have = [each for each in found if "id" in each]
    if have and len(have) < len(found):
        raise ValueError(
            f"{path}: {len(found) - len(have)} of {len(found)} concepts have no id; give all of them or none"
        )
    return [each["name"] for each in found], [_whole(path, each["id"]) for each in have]


def _whole(path: pathlib.Path, value: Any) -> int:
    text = str(value).strip()
    if isinstance(value, (bool, float)) or not text.removeprefix("-").isdecimal():
        raise ValueError(f"{path}: ids must be whole numbers, got {value!r}")
    return int(text)
