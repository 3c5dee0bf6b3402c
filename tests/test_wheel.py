"""A built wheel, installed outside the repository, works: imports, shipped checkpoints, console entry points."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.slow

FILES = "LICENSE README.md MANIFEST.in pyproject.toml setup.cfg".split()
FOLDERS = "nd_jax checkpoints experiments".split()


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> pathlib.Path:
    """A folder with nd_jax installed from a wheel that was built from a copy of the sources; no network is used."""
    base = tmp_path_factory.mktemp("wheel")
    source = base / "source"
    source.mkdir()
    for name in FILES:
        shutil.copy(REPOSITORY / name, source / name)
    for name in FOLDERS:
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    offline = ["--no-index", "--no-deps"]
    wheel = [*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", str(base / "dist"), str(source)]
    subprocess.run(wheel, check=True, cwd=base, capture_output=True, timeout=180)
    (built,) = (base / "dist").glob("nd_jax-*.whl")
    target = base / "site"
    subprocess.run([*pip, "install", *offline, "--target", str(target), str(built)], check=True, cwd=base, timeout=180)
    return target


def run_outside(site: pathlib.Path, folder: pathlib.Path, *command: str) -> str:
    """Runs a program in an empty folder with the wheel's folder in front of everything, and returns what it printed."""
    environment = os.environ | {"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1", "COLUMNS": "100"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"
    return done.stdout


def test_imports_from_the_wheel(site, tmp_path):
    code = """
import nd_jax, pathlib
for name in nd_jax.__all__:
    getattr(nd_jax, name)
print(pathlib.Path(nd_jax.__file__).resolve())
"""
    printed = run_outside(site, tmp_path, sys.executable, "-c", code).strip()
    assert pathlib.Path(printed).is_relative_to(site.resolve())
    assert (site / "nd_jax" / "py.typed").is_file()


def test_finds_every_shipped_checkpoint(site, tmp_path):
    names = sorted(path.parent.name for path in (REPOSITORY / "checkpoints").glob("*/network.json"))
    assert names, "no checkpoint ships with the project"
    code = f"""
import jax, nd_jax
for name in {names!r}:
    network = nd_jax.load("checkpoints/" + name)
    out = network(jax.tree.map(lambda leaf: leaf[None], network.input.silence()))
    print(name, network.card["licence"])
"""
    printed = run_outside(site, tmp_path, sys.executable, "-W", "error", "-c", code)
    assert [line.split()[0] for line in printed.splitlines()] == names


def console_entry_points() -> list[str]:
    import configparser

    parser = configparser.ConfigParser()
    parser.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    lines = parser["options.entry_points"]["console_scripts"].strip().splitlines()
    return [line.split("=")[0].strip() for line in lines]


@pytest.mark.parametrize("name", console_entry_points())
def test_console_entry_points_answer_help(site, tmp_path, name):
    printed = run_outside(site, tmp_path, sys.executable, str(site / "bin" / name), "--help")
    assert "usage" in printed.lower()
    assert len(printed.splitlines()) > 5
