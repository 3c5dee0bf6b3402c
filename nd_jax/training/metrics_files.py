"""The log of a training as files."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any


def write(folder: Any, lines: Sequence[Mapping[str, Any]], tensorboard: bool = False) -> None:
    """Rewrites metrics.jsonl."""
    draft = pathlib.Path(folder) / "metrics.jsonl.draft"
    draft.write_text("".join(json.dumps(line) + "\n" for line in lines))
    draft.replace(pathlib.Path(folder) / "metrics.jsonl")
