"""Resumable runs: what a training needs to go on exactly where it was, on disk.

Orbax's CheckpointManager behind one save / restore pair. Arrays are written as plain numpy, so a run that was started
on eight accelerators goes on on one CPU; notes (data position, best score, counters, settings) are JSON beside them.
A checkpoint is complete or it is not there: what a killed process left half-written is never offered for restoring,
and one whose files were damaged afterwards is put aside for the one before it.

With several processes the first one alone reads and writes, so the folder may be on its own disk; the others get what
it read, wait while it writes, and fail when it fails.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import pathlib
import re
import shutil
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from nd_jax.training import hosts

Tree = Any
_CHECKSUM = "crc32"


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
        self.folder = pathlib.Path(folder).expanduser().absolute()
        self._manager: Any = None
        self._latest = hosts.led(lambda: self._open(keep), CheckpointError)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends what Orbax keeps running."""
        if self._manager is not None:
            with _quiet():
                self._manager.close()

    @property
    def latest(self) -> int | None:
        """The step of the last complete checkpoint, or None."""
        return self._latest

    def save(self, step: int, arrays: Tree, notes: dict[str, Any]) -> None:
        """Writes one checkpoint.

        Args:
          step: number of steps done.
          arrays: any pytree of arrays; fetched from the devices here.
          notes: JSON-ready.

        Raises:
          CheckpointError: the disk refuses (full, read-only, gone). The checkpoints before this one are kept.
        """
        self._latest = hosts.led(lambda: self._write(step, arrays, notes), CheckpointError)

    def restore(self, like: Tree) -> Checkpoint | None:
        """Reads the last complete checkpoint; when its files are damaged, with a warning, the one before it.

        Args:
          like: a tree of the same structure, shapes and types (a fresh state, or what `jax.eval_shape` says of it).

        Returns:
          The checkpoint, with numpy leaves in the structure of `like`; None when there is none yet.

        Raises:
          CheckpointError: it was made by a run with another network or optimizer, or all there are are damaged.
        """
        target = jax.tree.map(lambda leaf: np.zeros(np.shape(leaf), leaf.dtype), like)
        arrays = target

        def read() -> tuple[int, dict[str, Any]] | None:
            nonlocal arrays
            found = self._read(target)
            if found is None:
                return None
            arrays = found.arrays
            return found.step, found.notes

        found = hosts.led(read, CheckpointError)
        if found is None:
            return None
        self._latest, notes = found
        return Checkpoint(self._latest, hosts.same_everywhere(arrays), notes)

    # --- what process 0 does ------------------------------------------------------------------------------------------

    def _open(self, keep: int) -> int | None:
        import orbax.checkpoint as ocp

        me = jax.process_index()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            create=False,
            cleanup_tmp_directories=True,
            enable_async_checkpointing=False,
            multiprocessing_options=ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me}),
        )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with _quiet():
                self._manager = ocp.CheckpointManager(self.folder, options=options, item_names=("arrays", "notes"))
        except OSError as error:
            raise CheckpointError(f"checkpoints cannot be kept in {self.folder}: {_reason(error)}") from error
        return self._manager.latest_step()

    def _write(self, step: int, arrays: Tree, notes: dict[str, Any]) -> int:
        import orbax.checkpoint as ocp

        plain = jax.tree.map(np.asarray, jax.device_get(arrays))
        notes = {**notes, _CHECKSUM: _checksum(plain)}
        before = self.latest
        try:
            self._check_room(plain)
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
        return step

    def _check_room(self, arrays: Tree) -> None:
        """Refuses what a disk has no room for: Orbax would write until it is full, and answer with pages."""
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(arrays))
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise OSError(errno.ENOSPC, f"No space left on device ({needed:,} bytes needed, {free:,} free)")

    def _read(self, target: Tree) -> Checkpoint | None:
        damaged: list[tuple[int, CheckpointError]] = []
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                found = self._read_step(step, target)
            except CheckpointError as error:
                damaged.append((step, error))
                continue
            for other, reason in damaged:
                self._put_aside(other, reason, step)
            return found
        if damaged:
            raise damaged[0][1]
        return None

    def _read_step(self, step: int, target: Tree) -> Checkpoint:
        import orbax.checkpoint as ocp

        try:
            with _quiet():
                found = self._manager.restore(
                    step,
                    args=ocp.args.Composite(arrays=ocp.args.StandardRestore(target), notes=ocp.args.JsonRestore()),
                )
            notes = dict(found["notes"])
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
        written, read = notes.pop(_CHECKSUM, None), _checksum(found["arrays"])
        # Checkpoints of earlier versions have no checksum, and arrays that were read as another type another one.
        if written is not None and written["types"] == read["types"] and written != read:
            raise CheckpointError(
                f"the checkpoint of step {step} in {self.folder} is damaged: its arrays are not those that were written"
            )
        return Checkpoint(step, found["arrays"], notes)

    def _put_aside(self, step: int, reason: CheckpointError, instead: int) -> None:
        """Renames a damaged checkpoint, so that the run can write that step again and a person can look at it."""
        aside = self.folder / f"damaged-{step}"
        try:
            for count in range(2, 100):
                if not aside.exists():
                    break
                aside = self.folder / f"damaged-{step}-{count}"
            (self.folder / str(step)).rename(aside)
        except OSError as refused:
            raise CheckpointError(f"{reason}; and it cannot be put aside: {_reason(refused)}") from refused
        self._manager.reload()
        warnings.warn(
            f"{reason}; it is now {aside.name}, and the run goes on from the checkpoint of step {instead}", stacklevel=6
        )


def _checksum(arrays: Tree) -> dict[str, int]:
    """Of the types and the bytes of all leaves in order: Orbax does not notice when stored values were changed."""
    types = found = 0
    for leaf in jax.tree.leaves(arrays):
        types = zlib.crc32(str(leaf.dtype).encode(), types)
        found = zlib.crc32(leaf.tobytes(), found)
    return {"types": types, "bytes": found}


_DISK = re.compile(
    r"no space left on device( \([^)]*\))?|disk quota exceeded|read-only file system|permission denied|file too large"
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
