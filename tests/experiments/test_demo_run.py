"""The demo, cut short: the script that `make demo` runs, from the shipped network to a page on disk."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def run_script(folder: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs experiments/visualize.py in an empty folder, with warnings as errors."""
    command = [sys.executable, "-W", "error", str(REPOSITORY / "experiments" / "visualize.py"), *arguments]
    paths = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(REPOSITORY)]))
    environment = os.environ | {"PYTHONPATH": paths, "COLUMNS": "100"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def short_demo(tmp_path_factory):
    """(folder, what was printed) of a run over 4 units a layer, 4 steps each."""
    folder = tmp_path_factory.mktemp("demo")
    done = run_script(folder, "--units", "4", "--steps", "4", "--clips", "57", "--snapshots", "3")
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, done.stdout


def test_prints_the_path_of_the_page(short_demo):
    folder, printed = short_demo
    index = folder / printed.strip().splitlines()[-1].removeprefix("open ")
    assert index.name == "index.html"
    assert index.is_file()


def test_page_asks_nothing_of_the_network(short_demo):
    folder, _ = short_demo
    for path in (folder / "out" / "atlas").rglob("*"):
        if path.suffix in (".html", ".css", ".js"):
            loaded = re.findall(r"(?:src|href)=\"(https?:[^\"]+)\"|@import|url\((https?:[^)]+)\)", path.read_text())
            assert not loaded, f"{path.name} loads {loaded}"


def test_results_can_be_read_again(short_demo):
    import nd_jax as nd

    folder, _ = short_demo
    saved = sorted((folder / "out" / "atlas" / "results").iterdir())
    assert len(saved) >= 3, "the demo shows three layers or more"
    for path in saved:
        assert len(nd.Visualization.load(path)) <= 4
        assert json.loads((path / "manifest.json").read_text())["manifest"]["settings"]["steps"] == 4


def test_every_unit_has_a_trust_card_and_weights(short_demo):
    folder, printed = short_demo
    assert re.search(r"trust \d+ s", printed)
    agreements = []
    for path in (folder / "out" / "atlas").glob("atlas-*/*.js"):
        text = path.read_text()
        data = json.loads(text[text.index(",") + 1 : -3])
        agreements += [unit["trust"]["agreement"] for unit in data["units"].values()]
        assert all("ratio" in unit["trust"] for unit in data["units"].values())
        assert data["trust"]["count"] == 57 and data["weights"]["through"]
    assert any(number is not None for number in agreements), "several starts are compared unless asked otherwise"


def test_a_wrong_name_is_one_line(tmp_path):
    done = run_script(tmp_path, "--layers", "block1/convv", "--steps", "4")
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1].startswith("error: no layer 'block1/convv'")
    assert "Traceback" not in done.stderr


def test_a_wrong_option_fails(tmp_path):
    done = run_script(tmp_path, "--stepps", "4")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
