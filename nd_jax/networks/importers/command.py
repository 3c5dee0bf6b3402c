"""What the command lines of the importers share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence


def parser(module: str, description: str) -> argparse.ArgumentParser:
    """The parser of an importer, `python -m nd_jax.networks.importers.MODULE`, whose arguments are still to be added.

    Args:
      module: name of the importer's file.
      description: what `--help` says.
    """
    return argparse.ArgumentParser(prog=f"python -m nd_jax.networks.importers.{module}", description=description)


def run(
    asked: argparse.ArgumentParser,
    bring: Callable[[argparse.Namespace], Iterable[str]],
    arguments: Sequence[str] | None,
) -> None:
    """Reads a command line, imports and prints the report.

    Files that do not fit end the program with one sentence on standard error.

    Args:
      asked: as `parser` made it, with the arguments of the importer.
      bring: the options -> the lines of the report, after everything is saved.
      arguments: the words after the program's name; None for those of this process.
    """
    options = asked.parse_args(arguments)
    try:
        report = bring(options)
    except (ValueError, OSError) as error:
        asked.error(str(error))
    for line in report:
        print(line)
