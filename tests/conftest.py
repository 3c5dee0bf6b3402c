"""Strict settings for every test, and the fixtures that all rooms share.

Settings go into the environment before jax is imported, so that programs started by a test inherit them.
"""

from __future__ import annotations

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

import itertools
import pathlib
import signal

import jax
import pytest

from nd_jax import runtime

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent

COMPILED = runtime.enable_compilation_cache()
if COMPILED is not None:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(COMPILED)


# Every compiled program takes some memory maps, and Linux gives a process 65,530 of them: then XLA crashes.
_MAPS = 20_000


@pytest.fixture(autouse=True, scope="module")
def _few_programs():
    """Forgets compiled programs between test files before there are too many for one process."""
    yield
    maps = pathlib.Path("/proc/self/maps")
    if maps.is_file() and maps.read_bytes().count(b"\n") > _MAPS:
        jax.clear_caches()


def shared_folder() -> pathlib.Path:
    """Where reference vectors and data packs are looked for."""
    return pathlib.Path(os.environ.get("ND_JAX_SHARED") or REPOSITORY.parent / "shared").expanduser()


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """The folder of reference vectors and data packs (`$ND_JAX_SHARED`, else `shared` beside the checkout)."""
    folder = shared_folder()
    if not (folder / "reference").is_dir() and not (folder / "data").is_dir():
        pytest.skip(f"no reference vectors or data at {folder}: set ND_JAX_SHARED to the folder that holds them")
    return folder


@pytest.fixture(scope="session")
def repository() -> pathlib.Path:
    """The root of the checkout under test."""
    return REPOSITORY


@pytest.fixture
def getkey():
    """A function that gives a fresh jax key at each call; the same test gets the same keys in every run."""
    count = itertools.count()
    return lambda: jax.random.fold_in(jax.random.key(1703), next(count))


@pytest.fixture
def interrupts():
    """Ctrl-C as in a program that a person started; who runs the tests in the background may have switched it off."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def pytest_addoption(parser):
    """Adds the switch that `make test` uses."""
    parser.addoption(
        "--complete-run",
        action="store_true",
        help="every test is expected to run: fail when reference data are present and no test used them",
    )


def pytest_collection_modifyitems(items):
    """Marks what uses the shared fixture: for `-m "not shared"`, and in its report for the count."""
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker("shared")
            item.user_properties.append(("shared", True))


def _shared_tests_run(config) -> int:
    """Counts the tests that read shared data; under xdist their reports bring the mark to the main process."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    reports = [*reporter.stats.get("passed", []), *reporter.stats.get("failed", [])] if reporter else []
    return sum(report.when == "call" and ("shared", True) in map(tuple, report.user_properties) for report in reports)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """Fails a complete run in which data were present but unused."""
    config = session.config
    if hasattr(config, "workerinput") or not config.getoption("--complete-run"):
        return
    if shared_folder().is_dir() and not _shared_tests_run(config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    """Says how many tests used shared data."""
    folder = shared_folder()
    if not folder.is_dir():
        terminalreporter.write_line(f"shared data: none at {folder}, the tests that use them were skipped")
        return
    terminalreporter.write_line(f"shared data: {_shared_tests_run(config)} tests used {folder}")
