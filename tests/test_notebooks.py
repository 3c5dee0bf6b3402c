"""The notebooks run from top to bottom in a fresh kernel, show something, and are committed without outputs."""

from __future__ import annotations

import json
import os
import pathlib
import time

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((REPOSITORY / "docs" / "notebooks").glob("*.ipynb"))
SECONDS = 60


def test_there_are_three_notebooks():
    assert len(NOTEBOOKS) >= 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_without_outputs(path):
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        assert not cell.get("outputs"), f"clear the outputs of {path.name} before committing"
        assert cell.get("execution_count") is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:(jupyter_client|zmq|tornado|nbclient).*")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_and_shows_its_results(path, tmp_path, monkeypatch):
    import nbclient
    import nbformat

    # The kernel starts in an empty folder: a notebook that needs the checkout would fail for an installed package.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(path, as_version=4)
    start = time.perf_counter()
    client = nbclient.NotebookClient(notebook, timeout=4 * SECONDS, kernel_name="python3")
    client.execute(cwd=str(tmp_path))
    seconds = time.perf_counter() - start
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any("text/html" in output.get("data", {}) for output in outputs), "no result shows itself"
    warnings = [output["text"] for output in outputs if output.get("name") == "stderr" and "Warning" in output["text"]]
    assert not warnings, warnings[0]
    print(f"{path.name}: {seconds:.0f} s")
    # The bound is for two cores of their own; tests that run beside this one take their share.
    assert seconds < 2 * SECONDS, f"{path.name} took {seconds:.0f} s"
