"""What `experiments/dissect.py` has done already, and with which settings: a stage that is the same is kept."""

from __future__ import annotations

import hashlib
import json
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np

from nd_jax.report.sheets import replace


def digest_of(value: Any) -> str:
    """Sixteen hexadecimal digits of an array, or of anything that is JSON."""
    if isinstance(value, np.ndarray):
        text = f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes()
    else:
        text = json.dumps(value, sort_keys=True).encode()
    return hashlib.sha256(text).hexdigest()[:16]


class Marks:
    """Which stages are done.

    A stage's files count when its mark is there, which is written last, and is of the same settings.

    Args:
      folder: where the files of all stages are.
      fresh: takes away what is there, but for the record, which knows what it is of.
    """

    def __init__(self, folder: pathlib.Path, fresh: bool = False):
        self.folder = folder
        if fresh:
            for name in ("marks", "labels", "results", "clap", "replies"):
                shutil.rmtree(folder / name, ignore_errors=True)
            for path in (*folder.glob("*.npz"), folder / "captions.jsonl"):
                path.unlink(missing_ok=True)

    def kept(self, name: str, decides: Mapping[str, Any], *files: pathlib.Path) -> bool:
        """Whether a stage is done with these settings; says so, and which of them are others than the last time."""
        path = self._path(name)
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            old = None
        if old == dict(decides) and all(file.exists() for file in files):
            return True
        if isinstance(old, dict) and old != dict(decides):
            changed = [key for key in decides if old.get(key) != decides[key]]
            print(f"      {name}: other {', '.join(changed)} than the last time, done again")
        path.unlink(missing_ok=True)
        return False

    def done(self, name: str, decides: Mapping[str, Any]) -> None:
        """Marks a stage as done."""
        replace(self._path(name), json.dumps(dict(decides), indent=1).encode())

    def _path(self, name: str) -> pathlib.Path:
        return self.folder / "marks" / f"{digest_of(name)}.json"
