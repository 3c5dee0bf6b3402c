"""Dataclasses of arrays on disk: what a script has found of one thing, written in one step and read again."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import numpy as np

from nd_jax.report.sheets import drafted


def save(record: Any, path: pathlib.Path) -> None:
    """Writes a dataclass of arrays and numbers as an npz file, whole or not at all."""
    with drafted(path) as draft, open(draft, "wb") as file:
        np.savez(file, **{field.name: np.asarray(getattr(record, field.name)) for field in dataclasses.fields(record)})


def read(kind: type, path: pathlib.Path, again: str) -> dict[str, Any]:
    """The fields that `save` wrote; numbers come as arrays without axes.

    Args:
      kind: the dataclass.
      path: the file.
      again: what is run again when the file is removed, for the error's text.

    Raises:
      ValueError: it cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {field.name: stored[field.name] for field in dataclasses.fields(kind)}
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}): remove it, and {again} run again") from None
