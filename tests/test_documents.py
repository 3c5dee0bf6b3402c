"""The documents tell the truth: their Python blocks run, their links lead somewhere, their commands exist."""

from __future__ import annotations

import json
import pathlib
import re
import sys
import types

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")])
WITH_CODE = [path for path in DOCUMENTS if "```python" in path.read_text(encoding="utf-8")]


def name(path: pathlib.Path) -> str:
    return str(path.relative_to(REPOSITORY))


@pytest.mark.slow
@pytest.mark.parametrize("path", WITH_CODE, ids=name)
def test_python_blocks_run(path, tmp_path, monkeypatch):
    """All blocks of a page, in order, in one namespace; only the number of steps and lanes is cut, to save time."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    code = "\n".join(blocks).replace("steps=256", "steps=2").replace("range(32)", "range(2)")
    # Flax looks a module class up in the module that defines it.
    page = types.ModuleType("document")
    monkeypatch.setitem(sys.modules, "document", page)
    exec(compile(code.replace("range(16)", "range(2)"), name(path), "exec"), vars(page))


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_lead_somewhere(path):
    targets = re.findall(
        r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    )
    for target in targets:
        if not target.startswith(("http://", "https://", "mailto:", "#")):
            assert (path.parent / target.split("#")[0]).exists(), f"{name(path)} links to {target}, which is not there"


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_commands_exist(path):
    """Every `make target` and `python experiments/...` that a page tells the reader to type."""
    text = path.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    for target in re.findall(r"(?:`|^)make ([a-z]+)\b", text, flags=re.MULTILINE):
        assert target in targets, f"{name(path)}: make {target}"
    for script in re.findall(r"python (experiments/[\w/]+\.py)", text):
        assert (REPOSITORY / script).is_file(), f"{name(path)}: {script}"


def _numbers(found):
    """Every number in a card's figures, however deep."""
    if isinstance(found, dict):
        return [number for value in found.values() for number in _numbers(value)]
    return [found] if isinstance(found, float) else []


def test_figures_are_those_of_the_cards():
    """Every number with decimals in a row of the README about a shipped network stands in that network's card."""
    rows = [
        line for line in (REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("|")
    ]
    for path in sorted((REPOSITORY / "checkpoints").glob("*/network.json")):
        name = path.parent.name.removesuffix("_discriminator")
        described = [row for row in rows if f"`checkpoints/{name}`" in row]
        assert described, f"the README does not say how good checkpoints/{name} is"
        card = json.loads(path.read_text(encoding="utf-8"))["card"]
        # Shares as per cent with one decimal, all others as they are with up to four.
        values = _numbers(card.get("accuracy", card.get("samples")))
        known = {f"{100 * value:.1f}" for value in values} | {
            f"{value:.{n}f}" for value in values for n in (1, 2, 3, 4)
        }
        for number in re.findall(r"\b(\d+\.\d+)\b", described[0]):
            assert number in known, f"checkpoints/{name}: {number} is not in its card"
