"""Imports point one way (docs/architecture.md): never from a room to one that builds on it."""

from __future__ import annotations

import ast
import pathlib

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent

# A room imports rooms of a lower level only. Rooms of one level do not know each other, but for the files that
# together are the network: its value, its taps and their map, its edits, its storage, and what generators
# take.
LEVELS = {
    "runtime": 0,
    "proportions": 0,
    "pytree": 0,
    "audio": 1,
    "domain": 2,
    "data": 3,
    "networks": 3,
    "edits": 4,
    "generators": 4,
    "notes": 5,
    "network": 4,
    "taps": 4,
    "layer_map": 4,
    "storage": 4,
    "importers": 5,
    "training": 5,
    "visualize": 5,
    "dissect": 5,
    "metrics": 5,
    "attribute": 6,
    "tuning": 6,
    "report": 7,
    "bench": 8,
    "experiments": 9,
}

# The one call upward: when a notebook shows a result, the result asks the report to draw it.
UPWARD = {("visualize/result.py", "nd_jax.report")}


def room_of(module: str) -> str:
    """`nd_jax.audio.mel` -> `audio`; the importers are a room of their own, since they give whole Networks."""
    if f"{module}.".startswith("nd_jax.networks.importers."):
        return "importers"
    return module.split(".")[1] if "." in module else ""


def imported_modules(path: pathlib.Path) -> set[str]:
    """Every nd_jax module that a file imports anywhere, also inside functions; of `import nd_jax` what is used."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names if alias.name != "nd_jax")
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "nd_jax":
            found.add(f"nd_jax.{node.attr}")
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            face = node.module == "nd_jax"
            found.update([f"nd_jax.{alias.name}" for alias in node.names] if face else [node.module])
    return {name for name in found if name.split(".")[0] == "nd_jax"}


def sources() -> list[pathlib.Path]:
    return sorted((REPOSITORY / "nd_jax").rglob("*.py"))


def room_of_file(path: pathlib.Path) -> str:
    return room_of(".".join(path.relative_to(REPOSITORY).with_suffix("").parts))


def test_every_room_has_a_level():
    rooms = {room_of_file(path) for path in sources()} - {"__init__"}
    assert rooms <= set(LEVELS), f"say in LEVELS and in docs/architecture.md where {sorted(rooms - set(LEVELS))} stand"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_imports_point_one_way(path):
    room = room_of_file(path)
    if room == "__init__":
        return
    for module in imported_modules(path):
        other = room_of(module)
        upward = (str(path.relative_to(REPOSITORY / "nd_jax")), module) in UPWARD
        if upward or other in ("__version__", room):
            continue
        assert other in LEVELS, f"{module} is no room: import from the room that defines the name"
        neighbours = LEVELS[other] == LEVELS[room] == LEVELS["network"]
        assert LEVELS[other] < LEVELS[room] or neighbours, f"{room} must not import {module}: imports point one way"


def test_experiments_are_imported_by_nobody():
    for path in sources():
        assert not any(room_of(module) == "experiments" for module in imported_modules(path)), path


def test_the_exceptions_are_still_needed():
    for path, module in UPWARD:
        assert module in imported_modules(REPOSITORY / "nd_jax" / path)
