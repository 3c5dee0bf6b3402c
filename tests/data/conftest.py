"""Folders of the data tests."""

from __future__ import annotations

import pathlib

import pytest


@pytest.fixture(autouse=True)
def data_dir(tmp_path, monkeypatch) -> pathlib.Path:
    """Prepared data of each test lie in a folder of their own."""
    monkeypatch.setenv("ND_JAX_DATA", str(tmp_path / "prepared"))
    return tmp_path / "prepared"


@pytest.fixture
def manual(tmp_path) -> pathlib.Path:
    folder = tmp_path / "download"
    folder.mkdir()
    return folder
