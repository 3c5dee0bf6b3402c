"""Activations of all units of many layers over a probing set, in one pass, streamed to disk: `record`.

Clips are read in the background, go through network and front end in batches over all devices, are pooled there, and
leave in blocks that go to disk while the next one runs. What is in memory is a batch of activations and two blocks of
pooled numbers. A record that was killed goes on with the blocks that are missing; several processes take turns with the
blocks, into one folder on a shared disk or into one each (`merge_records`).
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from nd_jax import taps
from nd_jax.data.pipeline import prefetch
from nd_jax.dissect.record_extremes import Running
from nd_jax.dissect.record_reading import Record, add, of_store
from nd_jax.dissect.record_sounds import Sounds, sounds_of
from nd_jax.dissect.record_store import FORMAT, Store, block_size
from nd_jax.domain.axes import time_axis
from nd_jax.network import Network, digest
from nd_jax.runtime import nearest, progress_bar

POOLS = ("mean", "max", "first", "time")
# A matrix product of fewer rows takes another path through a CPU and is rounded in another way.
_LEAST_ON_CPU = 8
_CLIPS = "clips"
_ENDS = ("top", "bottom")


def record(
    network: Network,
    sounds: Any = None,
    *,
    layers: Sequence[str] | None = None,
    folder: Any,
    pool: str | Sequence[str] = "mean",
    top: int = 5,
    inputs: Any = None,
    sample_rate: int | None = None,
    names: Sequence[str] | None = None,
    batch_size: int = 8,
    devices: Sequence[jax.Device] | None = None,
    part: tuple[int, int] | None = None,
    resume: bool = True,
    progress: bool | Callable[[int, int], None] = True,
) -> Record:
    """Records what every unit of some layers does on every clip.

    Args:
      network: whose units are read.
      sounds: the probing set: (n, samples) at the network's own rate and length; a folder of sound files; or a list of
        files, which are resampled, cut or followed by silence.
      layers: names as in `taps.layers`, or "output"; None for every layer that has weights of its own.
      folder: where the record goes; with one of the same network, sounds and layers in it that is gone on with.
      pool: what is kept of a layer with positions, one of `POOLS` or several: "mean" and "max" over all of them,
        "first", the first token (of a layer (tokens, units)), or "time", the mean over the other axes at every step of
        time. A layer without positions is kept as it is by the first three.
      top: how many clips with the highest and how many with the lowest activation are kept of each unit.
      inputs: the probing set as network inputs instead, (n, *network.input.shape).
      sample_rate: of an array of sounds in Hz, to be checked against the network's.
      names: what each clip of an array is called, (n,).
      batch_size: clips of a forward pass on each device; on a CPU at least 8, so that every size gives the same bits.
      devices: None for all of this process, on a CPU for its first.
      part: (number of this process, from 0, number of processes), each of which takes every so manyth block; None for
        those of `jax.distributed`. All of them get the same arguments.
      resume: False throws away the record that is there.
      progress: True for a bar over clips, or a function of (clips on disk, clips of this process).

    Returns:
      The record, complete where no other process still has blocks to do.

    Raises:
      LayerError: an unknown layer, with the nearest names.
      ValueError: a layer without units, or that has no such pool; no clips, or fewer than `top`; a folder with
        something else, or with a record of another network, other sounds or other settings.
      OSError: the disk refuses.
    """
    shapes, steps, pools = _asked(network, layers, pool)
    mine, processes = (jax.process_index(), jax.process_count()) if part is None else part
    if not 0 <= mine < processes:
        raise ValueError(f"part must be (number from 0, how many), such as (0, 4), got {part!r}")
    for name, value in (("batch_size", batch_size), ("top", top)):
        if value < 1:
            raise ValueError(f"{name} must be 1 or more, got {value}")
    clips = sounds_of(network.input, sounds, inputs, sample_rate, names, progress)
    if len(clips) < top:
        raise ValueError(
            f"the probing set has {len(clips)} clips, fewer than the {top} top ones: add clips or lower top"
        )
    numbers = sum(
        shape[-1] * (steps.get(layer, 1) if each == "time" else 1) for layer, shape in shapes.items() for each in pools
    )
    header = {
        "format": FORMAT,
        "network": digest(network),
        "layers": {layer: list(shape) for layer, shape in shapes.items()},
        "steps": steps,
        "pools": list(pools),
        "top": top,
        "block": block_size(numbers, len(clips)),
        "front_end": clips.are_waves,
        "clips": list(clips.names),
        "hashes": list(clips.hashes),
        "skipped": clips.skipped,
    }
    store = Store(pathlib.Path(folder).expanduser().absolute(), header)
    store.prepare(resume)
    share = range(mine, store.blocks, processes)
    forward = _Forward(network, tuple(shapes), pools, clips.are_waves, batch_size, devices)
    _run(store, clips, share, forward, f"{mine}-of-{processes}", progress)
    if part is None and processes > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices("nd_jax.dissect.record")
    return of_store(store)


def _asked(
    network: Network, layers: Sequence[str] | None, pool: str | Sequence[str]
) -> tuple[dict[str, tuple[int, ...]], dict[str, int], tuple[str, ...]]:
    """Shapes of the layers, steps of time of those that have them, and pools."""
    if isinstance(layers, str) or (layers is not None and not len(layers)):
        raise ValueError(f"layers must be a list of layer names, got {layers!r}")
    wanted = list(taps.weighted_layers(network)) if layers is None else list(layers)
    if not wanted:
        raise ValueError(f"this network has no layer with weights; {nearest('', taps.layers(network))}")
    pools = (pool,) if isinstance(pool, str) else tuple(pool)
    for each in pools:
        if each not in POOLS:
            raise ValueError(f"no pool {each!r}; {nearest(str(each), POOLS)}")
    if not pools or len(set(pools)) < len(pools) or len(set(wanted)) < len(wanted):
        raise ValueError(f"layers and pools are named once each, and at least one of them: {wanted}, {pools}")
    shapes = {layer: taps.layer_shape(network, layer) for layer in wanted}
    steps = {}
    for layer, shape in shapes.items():
        if 0 in shape:
            raise ValueError(f"layer {layer!r} has no units: its output for one example has shape {shape}")
        if "first" in pools and len(shape) > 2:
            raise ValueError(f"'first' is for layers of tokens (tokens, units), and layer {layer!r} has shape {shape}")
        axis = time_axis(network.input, shape)
        if axis is not None:
            steps[layer] = shape[axis - 1]
        elif "time" in pools:
            raise ValueError(f"layer {layer!r} of shape {shape} has no axis of time, which the pool 'time' asks for")
    return shapes, steps if "time" in pools else {}, pools


class _Forward:
    """Batches through network and pools: one program for all of them, each device with its share of the clips."""

    def __init__(
        self,
        network: Network,
        layers: tuple[str, ...],
        pools: tuple[str, ...],
        are_waves: bool,
        batch_size: int,
        devices: Sequence[jax.Device] | None,
    ):
        if devices is not None and not len(devices):
            raise ValueError("devices is an empty list: give at least one, or None")
        local = jax.local_devices()
        # Several CPU devices are one machine seen twice.
        chosen = list(devices) if devices is not None else local if jax.default_backend() != "cpu" else local[:1]
        least = _LEAST_ON_CPU if chosen[0].platform == "cpu" else 1
        self.size = len(chosen) * max(batch_size, least)
        mesh = Mesh(np.asarray(chosen), (_CLIPS,))
        self._split = NamedSharding(mesh, PartitionSpec(_CLIPS))
        self._network = jax.device_put(network, NamedSharding(mesh, PartitionSpec()))
        self._run = _program(mesh, layers, pools, are_waves)

    def __call__(self, batch: np.ndarray) -> dict[tuple[str, str], jax.Array]:
        return self._run(self._network, jax.device_put(batch, self._split))


@functools.lru_cache(maxsize=16)
def _program(mesh: Mesh, layers: tuple[str, ...], pools: tuple[str, ...], are_waves: bool) -> Any:
    """Each device runs its share of the clips by itself: there is nothing to communicate."""
    shared = jax.shard_map(
        functools.partial(_pooled, layers=layers, pools=pools, are_waves=are_waves),
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec(_CLIPS)),
        out_specs=PartitionSpec(_CLIPS),
        check_vma=False,
    )
    return jax.jit(shared)


def _pooled(
    network: Network, x: jax.Array, *, layers: tuple[str, ...], pools: tuple[str, ...], are_waves: bool
) -> dict[tuple[str, str], jax.Array]:
    """{(layer, pool): (batch, units) or (batch, time, units)}."""
    x = network.input.from_wave(x) if are_waves else x  # type: ignore[attr-defined]
    found = {}
    for layer, value in taps.forward(network, x, layers)[1].items():
        value = value if value.ndim > 1 else value[:, None]
        places = tuple(range(1, value.ndim - 1))
        for pool in pools:
            if pool == "time":
                axis = time_axis(network.input, value.shape[1:])
                each = value.mean(axis=tuple(place for place in places if place != axis))
            elif not places:
                each = value
            else:
                each = value[:, 0] if pool == "first" else (value.max if pool == "max" else value.mean)(axis=places)
            found[layer, pool] = each.astype(np.float32)
    return found


def _run(
    store: Store,
    clips: Sounds,
    share: Sequence[int],
    forward: _Forward,
    name: str,
    progress: bool | Callable[[int, int], None],
) -> None:
    """Does what is missing of this process's blocks, and keeps the extremes of all of them."""
    done = set(store.done())
    todo = [block for block in share if block not in done]
    ends = {(key, end): Running(store.header["top"], lowest=end == "bottom") for key in store.keys for end in _ENDS}

    def keep(block: int, values: Mapping[tuple[str, str], np.ndarray]) -> None:
        for (key, _), running in ends.items():
            add(running, store, block, values[key])

    def count(blocks: Sequence[int]) -> int:
        return sum(store.rows(block).stop - store.rows(block).start for block in blocks)

    if not todo and (store.folder / "extremes" / f"{name}.npz").is_file():
        return
    with progress_bar(count(share), "clip", progress) as tick:
        for block in share:
            if block in done:
                keep(block, {key: store.read(block, *key) for key in store.keys})
        if count(share) > count(todo):
            tick(count(share) - count(todo))
        under_way: tuple[int, list[Any]] | None = None
        # The network goes on while a block is looked through and written.
        with prefetch(_blocks(store, clips, todo, forward), 1) as ready:
            for block, values in ready:
                writes = store.begin(block, values)
                keep(block, values)
                if under_way is not None:
                    store.finish(*under_way)
                    tick(count([under_way[0]]))
                under_way = (block, writes)
        if under_way is not None:
            store.finish(*under_way)
            tick(count([under_way[0]]))
    _save_extremes(store, ends, name)


def _blocks(
    store: Store, clips: Sounds, todo: Sequence[int], forward: _Forward
) -> Iterator[tuple[int, dict[tuple[str, str], np.ndarray]]]:
    """The blocks to do with their values; batches run across their borders, so that only the last one is filled up."""
    if not todo:
        return
    rows = np.concatenate([np.arange(store.clips)[store.rows(block)] for block in todo])
    waiting = list(todo)
    held: list[dict[tuple[str, str], np.ndarray]] = []
    for values in _values(rows, clips, forward):
        held.append(values)
        while waiting:
            taken = store.rows(waiting[0])
            size = taken.stop - taken.start
            if sum(len(next(iter(each.values()))) for each in held) < size:
                break
            joined = {key: np.concatenate([each[key] for each in held]) for key in held[0]}
            yield waiting.pop(0), {key: value[:size] for key, value in joined.items()}
            held = [{key: value[size:] for key, value in joined.items()}]


def _values(rows: np.ndarray, clips: Sounds, forward: _Forward) -> Iterator[dict[tuple[str, str], np.ndarray]]:
    """What batches give, in order; the next one is under way while one is fetched."""

    def batches() -> Iterator[tuple[int, np.ndarray]]:
        for start in range(0, len(rows), forward.size):
            part = rows[start : start + forward.size]
            batch = clips.read(part)
            missing = forward.size - len(part)
            yield len(part), np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)]) if missing else batch

    before: tuple[int, dict[tuple[str, str], jax.Array]] | None = None
    with prefetch(batches(), 2) as ready:
        for count, batch in ready:
            now = (count, forward(batch))
            if before is not None:
                yield _fetched(*before)
            before = now
    if before is not None:
        yield _fetched(*before)


def _fetched(count: int, values: Mapping[tuple[str, str], jax.Array]) -> dict[tuple[str, str], np.ndarray]:
    return {key: value[:count] for key, value in jax.device_get(dict(values)).items()}


def _save_extremes(store: Store, ends: Mapping[tuple[tuple[str, str], str], Running], name: str) -> None:
    arrays: dict[str, Any] = {}
    for ((layer, pool), end), running in ends.items():
        found = running.result()
        number = f"{list(store.header['layers']).index(layer)}-{pool}-{end}"
        arrays |= {f"{number}-clips": found.clips, f"{number}-values": found.values}
    folder = store.folder / "extremes"
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{name}.npz"
    np.savez(draft, **arrays)
    draft.replace(folder / f"{name}.npz")
