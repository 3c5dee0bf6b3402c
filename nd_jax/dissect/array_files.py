"""Files of several arrays, as NumPy's npz, that a kill leaves whole or not at all."""

from __future__ import annotations

import os
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np


def save_arrays(path: pathlib.Path, arrays: Mapping[str, Any]) -> None:
    """Writes an npz file, whole or not at all; its folder is made.

    Args:
      path: of the file.
      arrays: of any shapes, by name.

    Raises:
      OSError: the disk refuses; what stood there before stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, suffix=".draft")
    try:
        with os.fdopen(handle, "wb") as stream:
            np.savez(stream, **arrays)
        os.replace(draft, path)
    except BaseException:
        pathlib.Path(draft).unlink(missing_ok=True)
        raise
