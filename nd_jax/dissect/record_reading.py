"""A record that is read: activations by layer, the table of units, the clips at both ends of every unit."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nd_jax.dissect.record_extremes import Extremes, Running, merged
from nd_jax.dissect.record_store import Store, difference, read_header
from nd_jax.network import Network, digest
from nd_jax.runtime import nearest
from nd_jax.taps import LayerError


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """Activations of all units of some layers on some clips, on disk.

    Attributes:
      folder: where.
      layers: {layer: shape of its output for one example}.
      pools: what was recorded of it: "mean", "max", "first", "time".
      clips: names of the clips; hashes: sixteen hexadecimal digits of each one's content.
      skipped: {file: reason} of the sound files that could not be read.
      network: digest of the network.
    """

    folder: pathlib.Path
    layers: Mapping[str, tuple[int, ...]]
    pools: tuple[str, ...]
    clips: tuple[str, ...]
    hashes: tuple[str, ...]
    skipped: Mapping[str, str]
    network: str
    _store: Store

    def __repr__(self) -> str:
        done = self.recorded
        share = "" if done == len(self.clips) else f", {done} of them recorded"
        return (
            f"Record({sum(self.units.values()):,} units of {len(self.layers)} layers, {len(self.clips):,} clips{share})"
        )

    @property
    def units(self) -> dict[str, int]:
        """{layer: number of its units}."""
        return {layer: shape[-1] for layer, shape in self.layers.items()}

    def table(self) -> np.ndarray:
        """All units in the order of the layers, (units,) with the fields "layer" and "unit"."""
        width = max(map(len, self.layers))
        found = np.empty(sum(self.units.values()), [("layer", f"U{width}"), ("unit", np.int32)])
        start = 0
        for layer, count in self.units.items():
            found["layer"][start : start + count] = layer
            found["unit"][start : start + count] = np.arange(count)
            start += count
        return found

    @property
    def recorded(self) -> int:
        """How many clips are on disk."""
        rows = [self._store.rows(block) for block in self._store.done()]
        return sum(row.stop - row.start for row in rows)

    @property
    def complete(self) -> bool:
        """Whether all clips are on disk."""
        return self.recorded == len(self.clips)

    def array(self, layer: str, pool: str | None = None) -> Any:
        """A layer's activations on disk, a `tensorstore.TensorStore`, whose slices are read by `.read()`."""
        self._checked(layer, pool)
        return self._store.array(layer, pool or self.pools[0])

    def activations(self, layer: str, pool: str | None = None, *, units: Any = slice(None)) -> np.ndarray:
        """A layer's activations, all clips.

        Args:
          layer: its name.
          pool: one of `pools`; by default the first.
          units: a slice or numbers of units; None of the others are kept in memory, all are read.

        Returns:
          (clips, units) float32; (clips, time, units) of the pool "time".

        Raises:
          LayerError: a layer that is not in the record, with the nearest names.
          ValueError: an unknown pool, or a record that is not complete.
        """
        pool = self._checked(layer, pool)
        self._whole()
        return np.asarray(self._store.array(layer, pool)[..., units].read().result())

    def top(self, layer: str, pool: str | None = None) -> Extremes:
        """The clips with the highest activation of every unit (of the pool "time": with the highest mean over time).

        Raises:
          LayerError, ValueError: as `activations`.
        """
        return self._extremes(layer, pool, "top")

    def bottom(self, layer: str, pool: str | None = None) -> Extremes:
        """The clips with the lowest activation of every unit; as `top`."""
        return self._extremes(layer, pool, "bottom")

    def _checked(self, layer: str, pool: str | None) -> str:
        if layer not in self.layers:
            raise LayerError(f"no layer {layer!r} in this record; {nearest(layer, self.layers)}")
        if pool is not None and pool not in self.pools:
            raise ValueError(f"no pool {pool!r} in this record; {nearest(pool, self.pools)}")
        return pool or self.pools[0]

    def _whole(self) -> None:
        if not self.complete:
            raise ValueError(
                f"{self.folder} has {self.recorded} of {len(self.clips)} clips: call record with the same arguments to "
                "go on"
            )

    def _extremes(self, layer: str, pool: str | None, end: str) -> Extremes:
        pool = self._checked(layer, pool)
        self._whole()
        number = f"{list(self.layers).index(layer)}-{pool}-{end}"
        count = self._store.header["top"]
        parts = []
        for path in extremes_files(self.folder):
            with np.load(path, allow_pickle=False) as file:
                parts.append(Extremes(file[f"{number}-clips"], file[f"{number}-values"]))
        parts = [part for part in parts if part.clips.size]
        if not parts:
            running = Running(count, lowest=end == "bottom")
            for block in self._store.done():
                add(running, self._store, block, self._store.read(block, layer, pool))
            parts = [running.result()]
        return merged(parts, count, lowest=end == "bottom")


def add(running: Running, store: Store, block: int, values: np.ndarray) -> None:
    """Adds a block of a layer's activations to its extremes."""
    rows = store.rows(block)
    running.add(np.arange(rows.start, rows.stop), values if values.ndim == 2 else values.mean(axis=1))


def extremes_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The extremes of all processes of one run, or none where one is missing."""
    found: dict[int, list[pathlib.Path]] = {}
    for path in sorted((folder / "extremes").glob("*-of-*.npz")):
        match = re.fullmatch(r"(\d+)-of-(\d+)", path.stem)
        if match:
            found.setdefault(int(match[2]), []).append(path)
    return next((paths for count, paths in found.items() if len(paths) == count), [])


def open_record(folder: Any, *, network: Network | None = None) -> Record:
    """The record of a folder, complete or not.

    Args:
      folder: that `record` was given.
      network: where it must be a record of this network.

    Raises:
      ValueError: no record, or one of another network.
    """
    where = pathlib.Path(folder).expanduser().absolute()
    header = read_header(where)
    if network is not None and digest(network) != header["network"]:
        raise ValueError(f"{where} holds a record of a network of digest {header['network']}, not {digest(network)}")
    return of_store(Store(where, header))


def of_store(store: Store) -> Record:
    """The record that lies in a store."""
    header = store.header
    return Record(
        folder=store.folder,
        layers={layer: tuple(shape) for layer, shape in header["layers"].items()},
        pools=tuple(header["pools"]),
        clips=tuple(header["clips"]),
        hashes=tuple(header["hashes"]),
        skipped=dict(header["skipped"]),
        network=header["network"],
        _store=store,
    )


def merge_records(folders: Sequence[Any], folder: Any) -> Record:
    """Joins what several processes recorded in folders of their own (`record` with `part=`); may be called again.

    Args:
      folders: of one network, the same sounds, layers and pools.
      folder: where the joined record goes; blocks that are there already stay.

    Returns:
      The joined record, complete where the parts are together.

    Raises:
      ValueError: no folders, a folder without a record, or records of different things.
    """
    stores = []
    for each in folders:
        where = pathlib.Path(each).expanduser().absolute()
        stores.append(Store(where, read_header(where)))
        differ = difference(stores[0].header, stores[-1].header)
        if differ:
            raise ValueError(f"{where} holds a record of {differ} than {stores[0].folder}: they cannot be joined")
    if not stores:
        raise ValueError("no records to join: give the folders of at least one")
    whole = Store(pathlib.Path(folder).expanduser().absolute(), stores[0].header)
    whole.prepare(resume=True)
    there = set(whole.done())
    for store in stores:
        for block in store.done():
            if block not in there:
                whole.finish(block, whole.begin(block, {key: store.read(block, *key) for key in store.keys}))
                there.add(block)
    return of_store(whole)
