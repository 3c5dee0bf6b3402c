"""A record on disk: one Zarr array a layer, cut into blocks of clips, and a mark for every block that is complete.

    record.json                 what is recorded: layers, pools, clips with their hashes, the network's digest
    activations/003-mean        Zarr (version 3), (clips, units) or (clips, time, units), one chunk a block
    done/00012                  empty: block 12 is complete in all arrays
    extremes/0-of-1.npz         top and bottom clips of the blocks of one process

Zarr is read and written by TensorStore, which comes with Orbax; any Zarr library reads it. A chunk appears whole or not
at all, and a block's mark comes last: a kill costs the blocks that were under way.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

FORMAT = 1
_JSON = "record.json"
_BLOCK_BYTES = 256 << 20
_LARGEST_BLOCK = 64


def block_size(numbers: int, clips: int) -> int:
    """Clips of a block, when each has so many float32: what a kill can cost, and what memory holds.

    All blocks are of one size on disk, so the clips are cut evenly.
    """
    most = int(np.clip(_BLOCK_BYTES // (4 * numbers), 1, _LARGEST_BLOCK))
    return -(-clips // -(-clips // most))


class OtherRecordError(ValueError):
    """A folder holds a record of something else; `what` says of what ("other layers")."""

    def __init__(self, folder: pathlib.Path, what: str):
        super().__init__(f"{folder} holds a record of {what}: give another folder, or resume=False to replace it")
        self.what = what


class Store:
    """The files of a record.

    Attributes:
      folder: where.
      header: what is in record.json.
    """

    def __init__(self, folder: pathlib.Path, header: Mapping[str, Any]):
        self.folder, self.header = folder, header
        self._arrays: dict[tuple[str, str], Any] = {}

    @property
    def keys(self) -> list[tuple[str, str]]:
        """(layer, pool) of every array."""
        return [(layer, pool) for layer in self.header["layers"] for pool in self.header["pools"]]

    @property
    def clips(self) -> int:
        """How many clips there are."""
        return len(self.header["hashes"])

    @property
    def blocks(self) -> int:
        """How many blocks the clips are cut into."""
        return -(-self.clips // self.header["block"])

    def rows(self, block: int) -> slice:
        """The clips of a block."""
        size = self.header["block"]
        return slice(block * size, min((block + 1) * size, self.clips))

    def shape(self, layer: str, pool: str) -> tuple[int, ...]:
        """(clips, units), or (clips, time, units)."""
        steps = self.header["steps"].get(layer) if pool == "time" else None
        units = self.header["layers"][layer][-1]
        return (self.clips, units) if steps is None else (self.clips, steps, units)

    def array(self, layer: str, pool: str) -> Any:
        """The TensorStore of an array, made when it is not there."""
        key = (layer, pool)
        if key not in self._arrays:
            import tensorstore

            shape = self.shape(layer, pool)
            chunk = (self.header["block"], *shape[1:])
            path = self.folder / "activations" / f"{list(self.header['layers']).index(layer):03d}-{pool}"
            self._arrays[key] = tensorstore.open(
                {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}},
                open=True,
                create=True,
                dtype="float32",
                shape=shape,
                chunk_layout=tensorstore.ChunkLayout(chunk_shape=chunk),
                fill_value=np.nan,
            ).result()
        return self._arrays[key]

    def done(self) -> list[int]:
        """The blocks that are complete."""
        folder = self.folder / "done"
        return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()) if folder.is_dir() else []

    def begin(self, block: int, values: Mapping[tuple[str, str], np.ndarray]) -> list[Any]:
        """Starts to write a block; returns what `finish` waits for."""
        return [self.array(*key)[self.rows(block)].write(values[key]) for key in self.keys]

    def finish(self, block: int, writes: Sequence[Any]) -> None:
        """Waits until a block is written, and marks it as complete.

        Raises:
          OSError: the disk refuses.
        """
        try:
            for write in writes:
                write.result()
        except ValueError as error:
            raise OSError(f"{self.folder} cannot be written: {str(error).splitlines()[0]}") from None
        mark = self.folder / "done" / f"{block:05d}"
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()

    def read(self, block: int, layer: str, pool: str) -> np.ndarray:
        """A block of an array."""
        return np.asarray(self.array(layer, pool)[self.rows(block)].read().result())

    def prepare(self, resume: bool) -> None:
        """Makes the folder, or finds one of the same record; anything else is refused.

        Raises:
          OtherRecordError: a record of something else.
          ValueError: the folder holds something else.
        """
        told = self.folder / _JSON
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder} is a file; a record is a folder")
        if self.folder.is_dir() and not told.is_file() and any(self.folder.iterdir()):
            raise ValueError(f"{self.folder} exists and is not the folder of a record, so it is not written to")
        if told.is_file() and not resume:
            for part in ("activations", "done", "extremes"):
                shutil.rmtree(self.folder / part, ignore_errors=True)
        elif told.is_file():
            differ = difference(read_header(self.folder), self.header)
            if differ:
                raise OtherRecordError(self.folder, differ)
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f".{_JSON}.{uuid.uuid4().hex}"
        draft.write_text(json.dumps(self.header, indent=1) + "\n", encoding="utf-8")
        os.replace(draft, told)


_SAYS = {
    "network": "another network",
    "hashes": "other sounds",
    "clips": "other names of clips",
    "layers": "other layers",
    "pools": "other pools",
    "top": "another number of top clips",
    "block": "blocks of another size",
    "front_end": "sounds given in another way (waves and inputs)",
}


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What a record on disk is of that is not asked for, in words; "" for the same."""
    return next((words for name, words in _SAYS.items() if old.get(name) != new.get(name)), "")


def read_header(folder: pathlib.Path) -> dict[str, Any]:
    """What record.json says.

    Raises:
      ValueError: no record, or one that this version does not read.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; a record is one that nd_jax.dissect.record wrote")
    if not (folder / _JSON).is_file():
        raise ValueError(f"{folder} has no {_JSON}: it was not written by nd_jax.dissect.record")
    try:
        header = json.loads((folder / _JSON).read_text(encoding="utf-8"))
        if header["format"] != FORMAT:
            raise ValueError(f"it has format {header['format']!r}, and this nd_jax reads {FORMAT}")
        missing = [name for name in (*_SAYS, "steps", "skipped") if name not in header]
        if missing:
            raise ValueError(f"{', '.join(missing)} is missing")
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / _JSON} does not describe a record: {error}") from None
    return dict(header)
