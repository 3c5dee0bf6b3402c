"""What every room needs from its surroundings: optional packages, the compilation cache, near names, progress.

Nothing here imports more than the standard library at import time.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any

CACHE_VARIABLE = "ND_JAX_CACHE"


class MissingExtraError(ImportError):
    """An optional package is not installed; the message is the one line that says how to get it."""


def require(module: str, extra: str) -> ModuleType:
    """Imports an optional module where it is used.

    Args:
      module: dotted module name, for example `"matplotlib"`.
      extra: the extra of nd_jax that installs it, for example `"report"`.

    Raises:
      MissingExtraError: one line naming the module and the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{module} is needed here and is not installed: pip install 'nd_jax[{extra}]'"
        ) from error


def command_line(settings: Any, arguments: Sequence[str] | None, description: str | None) -> Any:
    """Reads a script's settings from its command line (tyro): typed, with `--help`; a typo ends the program.

    Args:
      settings: a dataclass type, or anything else that tyro understands.
      arguments: the words after the program's name; None for those of this process.
      description: what `--help` says first.
    """
    try:
        tyro = require("tyro", "experiments")
    except MissingExtraError as error:
        raise SystemExit(f"error: {error}") from None
    return tyro.cli(settings, args=arguments, description=description)


def _open(page: Any) -> str:
    return f"open {page}"


def script(
    settings: Any,
    run: Callable[[Any], Any],
    arguments: Sequence[str] | None,
    description: str | None,
    *,
    tell: Callable[[Any], str] | None = _open,
    resumes: bool = False,
) -> int:
    """What a script's `main` does: reads its command line, runs it and says what came of it.

    What goes wrong is one sentence on standard error.

    Args:
      settings: as `command_line`.
      run: settings -> what was made, such as the page to open.
      arguments: as `command_line`.
      description: as `command_line`.
      tell: what was made -> the last words; by default those that open a page, None for scripts that have said it all.
      resumes: whether the same command goes on after Ctrl-C.

    Returns:
      The exit status: 0, 1 after an error, 130 after Ctrl-C.
    """
    given = command_line(settings, arguments, description)
    enable_compilation_cache()
    try:
        made = run(given)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted" + ": the same command goes on" * resumes, file=sys.stderr)
        return 130
    if tell is not None:
        print(tell(made))
    return 0


def nearest(name: str, choices: Iterable[str], limit: int = 3) -> str:
    """Returns the end of an error message: the names nearest to `name`, or all of a short list.

    Example: `nearest("bloc1", ["block1", "block2"])` gives `"did you mean 'block1', 'block2'?"`.
    """
    names = list(dict.fromkeys(str(choice) for choice in choices))
    close = difflib.get_close_matches(str(name), names, n=limit, cutoff=0.5)
    if close:
        return "did you mean " + ", ".join(repr(choice) for choice in close) + "?"
    if not names:
        return "there are none to choose from"
    shown = ", ".join(repr(choice) for choice in names[:12])
    return f"there are {shown}" + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def cache_folder() -> pathlib.Path | None:
    """The folder of compiled programs, or None when `ND_JAX_CACHE=off`.

    `ND_JAX_CACHE` moves it; the default is `nd_jax/compiled` in the user's cache folder (`XDG_CACHE_HOME`, else
    `~/.cache`).
    """
    setting = os.environ.get(CACHE_VARIABLE, "")
    if setting.lower() in {"off", "0", "false", "no"}:
        return None
    if setting:
        return pathlib.Path(setting).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return pathlib.Path(base).expanduser() / "nd_jax" / "compiled"


def enable_compilation_cache() -> pathlib.Path | None:
    """Turns JAX's persistent compilation cache on (scripts, demo and tests call this first).

    Returns:
      The folder in use, or None when it is disabled or cannot be written.
    """
    import jax

    folder = cache_folder()
    if folder is None:
        jax.config.update("jax_enable_compilation_cache", False)
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not os.access(folder, os.W_OK):
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


@functools.cache
def steady_options() -> dict[str, str] | None:
    """Compiler options under which the bits of one example do not depend on how many stand beside it in a batch.

    XLA's CPU backend hands softmax-like chains of operations to a library (YNNPACK) that is chosen by size and adds in
    another order; attention drifts by 1e-4 in 60 steps. An XLA that does not know the option does without.
    """
    import jax

    if jax.default_backend() != "cpu":
        return None
    options = {"xla_cpu_experimental_ynn_fusion_type": ""}
    try:
        jax.jit(lambda x: x + 1, compiler_options=options)(jax.numpy.zeros(()))
    except jax.errors.JaxRuntimeError:
        return None
    return options


@contextlib.contextmanager
def progress_bar(
    total: int, unit: str, show: bool | Callable[[int, int], None] = True
) -> Iterator[Callable[[int], None]]:
    """Progress with the time left, on standard error.

    Args:
      total: how much there is to do.
      unit: what is counted ("clip").
      show: True for a bar, False for silence, or a function of (done, total) that is called instead.

    Yields:
      A function that is told how much more is done.
    """
    if callable(show):
        done = 0

        def count(more: int) -> None:
            nonlocal done
            done += more
            show(done, total)

        yield count
        return
    from tqdm import tqdm

    with tqdm(total=total, unit=" " + unit, disable=not show, unit_scale=True, mininterval=0.5, leave=False) as bar:

        def advance(more: int) -> None:
            bar.update(more)

        yield advance
