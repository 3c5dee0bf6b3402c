"""Does what a source system of nd_jax has published come out again, on what is at hand? One study, one sub-command.

    python experiments/reproduce.py s3 --data-dir ESC                                  # Table 2 of AND on ESC-10
    python experiments/reproduce.py s3 --released AND                                  # AND's own files
    python experiments/reproduce.py s3 --help

s3 is "AND: Audio Network Dissection" (Wu, Lin, Weng, ICML 2024). OUT/index.html is the page, OUT/tables.md has its
tables as Markdown, OUT/figures.json all numbers. What is done is kept in OUT: the same command goes on where it was
stopped.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

from nd_jax.experiments import reproduce_s3
from nd_jax.runtime import nearest, script

STUDIES: dict[str, tuple[type, Callable[[Any], pathlib.Path], str | None]] = {
    "s3": (reproduce_s3.Settings, reproduce_s3.run, reproduce_s3.__doc__),
}
"""{sub-command: (its settings, what runs it and gives its page, what --help says)}."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if words else 2
    if words[0] not in STUDIES:
        print(f"error: there is no study {words[0]!r} to reproduce; {nearest(words[0], STUDIES)}", file=sys.stderr)
        return 2
    settings, run, told = STUDIES[words[0]]
    return script(settings, run, words[1:], told, resumes=True)


if __name__ == "__main__":
    sys.exit(main())
