"""Resumable runs: what a training needs to go on exactly where it was, on disk.

Orbax's CheckpointManager behind one save / restore pair. Arrays are written as plain numpy, so a run that was started
on eight accelerators goes on on one CPU; notes (data position, best score, counters, settings) are JSON beside them.
A checkpoint is complete or it is not there: what a killed process left half-written is never offered for restoring.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

Tree = Any


class CheckpointError(OSError):
    """A checkpoint cannot be written or read; the message names the folder, the reason and what is still there."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """One restored checkpoint: the step it was made after, its arrays (numpy) and its notes."""

    step: int
    arrays: Tree
    notes: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run; use it as a context.

    Args:
      folder: made when needed.
      keep: how many of the latest checkpoints stay on disk.

    Raises:
      CheckpointError: the folder cannot be made or written.
    """

    def __init__(self, folder: Any, *, keep: int = 2):
        import orbax.checkpoint as ocp

        self.folder = pathlib.Path(folder).expanduser().absolute()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=False, cleanup_tmp_directories=True, enable_async_checkpointing=False
        )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with _quiet():
                self._manager = ocp.CheckpointManager(self.folder, options=options, item_names=("arrays", "notes"))
        except OSError as error:
            raise CheckpointError(f"checkpoints cannot be kept in {self.folder}: {_reason(error)}") from error

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for what is being written."""
        with _quiet():
            self._manager.close()

    @property
    def latest(self) -> int | None:
        """The step of the last complete checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, step: int, arrays: Tree, notes: dict[str, Any]) -> None:
        """Writes one checkpoint.

        Args:
          step: number of steps done.
          arrays: any pytree of arrays; fetched from the devices here.
          notes: JSON-ready.

        Raises:
          CheckpointError: the disk refuses (full, read-only, gone). The checkpoints before this one are kept.
        """
        import orbax.checkpoint as ocp

        plain = jax.tree.map(np.asarray, jax.device_get(arrays))
        before = self.latest
        try:
            with _quiet():
                self._manager.save(
                    step,
                    args=ocp.args.Composite(arrays=ocp.args.StandardSave(plain), notes=ocp.args.JsonSave(notes)),
                    force=True,
                )
                self._manager.wait_until_finished()
        except Exception as error:
            kept = f"the checkpoint of step {before} is kept" if before is not None else "there is no earlier one"
            raise CheckpointError(
                f"checkpoint of step {step} cannot be written to {self.folder}: {_reason(error)}; {kept}"
            ) from error

    def restore(self, like: Tree) -> Checkpoint | None:
        """Reads the last complete checkpoint.

        Args:
          like: a tree of the same structure, shapes and types (a fresh state).

        Returns:
          The checkpoint, with numpy leaves in the structure of `like`; None when there is none yet.

        Raises:
          CheckpointError: it was made by a run with another network or optimizer, or its files are damaged.
        """
        import orbax.checkpoint as ocp

        step = self.latest
        if step is None:
            return None
        target = jax.tree.map(lambda leaf: np.zeros(np.shape(leaf), leaf.dtype), jax.device_get(like))
        try:
            with _quiet():
                found = self._manager.restore(
                    step,
                    args=ocp.args.Composite(arrays=ocp.args.StandardRestore(target), notes=ocp.args.JsonRestore()),
                )
        except Exception as error:
            raise CheckpointError(
                f"the checkpoint of step {step} in {self.folder} does not fit this run or is damaged: {_reason(error)}"
            ) from error
        for (path, wanted), leaf in zip(
            jax.tree_util.tree_leaves_with_path(target), jax.tree.leaves(found["arrays"]), strict=True
        ):
            if leaf.shape != wanted.shape:
                raise CheckpointError(
                    f"the checkpoint of step {step} in {self.folder} does not fit this run: "
                    f"{jax.tree_util.keystr(path)} has shape {leaf.shape} there and {wanted.shape} here"
                )
        return Checkpoint(step, found["arrays"], dict(found["notes"]))


_DISK = re.compile(
    r"no space left on device|disk quota exceeded|read-only file system|permission denied|file too large"
    r"|not a directory|input/output error|no such file or directory",
    re.IGNORECASE,
)


def _reason(error: BaseException) -> str:
    """What the disk said, else the first line: Orbax and tensorstore append pages of settings to theirs."""
    text = str(error).strip() or type(error).__name__
    disk = _DISK.search(text)
    return disk.group(0).lower() if disk else text.splitlines()[0].rstrip(":. ")[:300]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Orbax's progress messages out of the terminal; its errors are raised, not logged."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
