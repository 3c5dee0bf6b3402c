"""Lets the tests of this folder import the small problems beside them, which are also programs that can be killed."""

from __future__ import annotations

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
