"""Every unit of every layer of a network, kept on disk as it goes: `sweep`.

A layer's units are cut into parts, each of which is one `visualize_batch` and one folder that appears whole or not at
all. A sweep that was killed goes on with the parts that are missing; no unit that is there is run again, and since a
unit's result depends on its name and the key alone, it is the same as if nothing had happened. Memory holds one part.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from nd_jax import taps
from nd_jax.network import digest
from nd_jax.runtime import nearest, progress_bar
from nd_jax.storage import NetworkFileError, load
from nd_jax.visualize import manifest, memory, objectives, optimizers
from nd_jax.visualize.batch import devices_of, visualize_batch
from nd_jax.visualize.result import Visualization, concatenate, slug

if TYPE_CHECKING:
    from nd_jax.network import Network

FORMAT = 2
_JSON = "sweep.json"
_NETWORK = "network"
_PART = re.compile(r"\d{5}-\d{5}")
# Units that are run and kept together, at most: what a kill can cost, and what is in memory at a time.
UNITS = 64
_BYTES = 256 << 20


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What a sweep has on disk.

    Attributes:
      folder: where.
      network: what was looked into.
      planned: {layer: its units}.
      interrupted: whether Ctrl-C ended it.
      unfinished: the part that was under way then, which is not on disk; or None.
    """

    folder: pathlib.Path
    network: Network
    planned: Mapping[str, tuple[int, ...]]
    interrupted: bool = False
    unfinished: Visualization | None = None

    def __repr__(self) -> str:
        done = {layer: len(self.done(layer)) for layer in self.planned}
        total = sum(map(len, self.planned.values()))
        return f"Sweep({sum(done.values())} of {total} units of {len(done)} layer{'s' if len(done) > 1 else ''})"

    def done(self, layer: str) -> tuple[int, ...]:
        """The units of a layer that are on disk, without reading them."""
        found = {unit for part in self._parts(layer) for unit in _units_in(part)}
        return tuple(unit for unit in self.planned[layer] if unit in found)

    def parts(self, layer: str) -> Iterator[Visualization]:
        """The results of a layer part by part, as `visualize_batch` gave them; one is in memory at a time."""
        for part in self._parts(layer):
            yield Visualization.load(part, network=self.network)

    def result(self, layer: str) -> Visualization | None:
        """The units of a layer that are on disk as one result; None where there are none."""
        parts = list(self.parts(layer))
        if not parts:
            return None
        told = [part.manifest for part in parts]
        ended: dict[str, int] = {}
        for each in told:
            for word, count in each["ended"].items():
                ended[word] = ended.get(word, 0) + count
        seconds = {name: round(sum(each[name] for each in told), 3) for name in _SECONDS}
        swept = [unit for each in told for unit in each["swept"]]
        joined = dataclasses.replace(
            concatenate(parts), manifest={**told[0], **seconds, "ended": ended, "swept": swept}
        )
        wanted = set(self.planned[layer])
        lanes = np.flatnonzero([unit in wanted for unit in swept])
        return joined if len(lanes) == len(joined) else joined.select(lanes)

    def results(self) -> Iterator[Visualization]:
        """One result a layer, in the network's order; layers of which nothing is on disk are left out."""
        for layer in self.planned:
            found = self.result(layer)
            if found is not None:
                yield found

    def _parts(self, layer: str) -> list[pathlib.Path]:
        if layer not in self.planned:
            raise ValueError(f"no layer {layer!r} in this sweep; {nearest(layer, self.planned)}")
        return _folders(self.folder / slug(layer))


_SECONDS = ("seconds", "compile_seconds", "host_seconds")


def sweep(
    network: Network,
    folder: Any,
    *,
    key: jax.Array,
    layers: Sequence[str] | None = None,
    units: int | Mapping[str, Sequence[int]] | None = None,
    objective: Callable[[str, Sequence[int]], objectives.Objective] = objectives.channel,
    settings: Mapping[str, Any] | Callable[[str], Mapping[str, Any]] | None = None,
    resume: bool = True,
    units_per_part: int | None = None,
    progress: bool | Callable[[int, int], None] = True,
) -> Sweep:
    """Visualizes all units of all layers, keeping every part as soon as it is done.

    Args:
      network: what to look into.
      folder: where results are kept; `Sweep` reads them back.
      key: as in `visualize_batch`, the same for all units.
      layers: layer names; None for every layer that has weights of its own.
      units: at most so many of each layer (the first ones), or {layer: units}; None for all.
      objective: (layer, units) -> what they climb, one lane a unit; channels by default.
      settings: further arguments of `visualize_batch`, for all layers or as a function of the layer's name.
      resume: go on from what is in the folder. False throws away the parts of these layers.
      units_per_part: units that are run and kept together; None for 64, fewer where a unit's result is large.
      progress: True for one bar over all units that are left, with the time left, in which a step of a deep layer
        counts more than one of a shallow one; False for silence, or a function of (done, total).

    Returns:
      A `Sweep`. After Ctrl-C it has what is on disk, and `unfinished`.

    Raises:
      LayerError, ValueError: unknown layers or units, or a folder with a sweep of another network, key or settings.
    """
    where = pathlib.Path(folder).expanduser().absolute()
    planned = _planned(network, layers, units)
    of_layer = settings if callable(settings) else lambda layer: settings or {}
    chosen = {layer: dict(of_layer(layer)) for layer in planned}
    for layer in planned:
        lanes = len(objective(layer, planned[layer]).bind(network))
        if lanes != len(planned[layer]):
            raise ValueError(
                f"objective must give one lane a unit, got {lanes} lanes for {len(planned[layer])} units of {layer!r}"
            )
    asked = _described(network, key, planned, objective, chosen)
    _prepare(where, network, asked, resume)
    found = Sweep(where, network, planned)
    todo = {layer: _cut(network, units, found.done(layer), units_per_part) for layer, units in planned.items()}
    left = {layer: sum(map(len, parts)) for layer, parts in todo.items()}
    steps = {layer: int(chosen[layer].get("steps", 512)) for layer in planned}
    weights = _weights(network, [layer for layer in planned if left[layer]])
    total = sum(left[layer] * steps[layer] * weights.get(layer, 1.0) for layer in planned)
    with progress_bar(round(total), "unit-step", progress) as tick:
        for layer, parts in todo.items():
            counted = _Counted(tick, weights.get(layer, 1.0), steps[layer])
            try:
                stopped, unfinished = _run(found, layer, parts, key, objective, chosen[layer], counted)
            except KeyboardInterrupt:
                stopped, unfinished = True, None
            if stopped:
                return dataclasses.replace(found, interrupted=True, unfinished=unfinished)
    return found


def open_sweep(folder: Any, *, network: Network | None = None) -> Sweep:
    """The sweep of a folder, finished or not.

    Args:
      folder: that `sweep` was given.
      network: for one that could not be saved with it.

    Raises:
      ValueError: no sweep, or one without its network.
    """
    where = pathlib.Path(folder).expanduser().absolute()
    try:
        told = _read(where)
        planned = {layer: tuple(item["units"]) for layer, item in told["layers"].items()}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{where} is not the folder of a sweep: {error}") from None
    if network is None:
        try:
            network = load(where / _NETWORK)
        except NetworkFileError as error:
            raise ValueError(f"{where} has no network that can be read, pass network=...: {error}") from None
    if digest(network) != told["network"]:
        raise ValueError(f"{where} holds a sweep of a network of digest {told['network']}, not {digest(network)}")
    return Sweep(where, network, planned)


def _run(
    found: Sweep,
    layer: str,
    parts: Sequence[Sequence[int]],
    key: jax.Array,
    objective: Callable[[str, Sequence[int]], objectives.Objective],
    settings: Mapping[str, Any],
    counted: _Counted,
) -> tuple[bool, Visualization | None]:
    """Runs and keeps the parts of a layer; returns whether Ctrl-C came, and the part that was under way then."""
    chunk = settings.get("chunk_size")
    # The smallest part first: the size of chunk that fits it serves the others, with the same program.
    for part in sorted(parts, key=len):
        counted.begin(len(part))
        now = {**settings, "chunk_size": chunk, "progress": counted}
        result = visualize_batch(found.network, objective(layer, part), key=key, **now)
        if len(result) < len(part) or any(word.startswith("interrupted") for word in result.status):
            return True, result
        counted.end()
        chunk = chunk or result.manifest["chunk_size"] // len(devices_of(settings.get("devices")))
        # One copy of the network serves all parts. A lane's own unit is none where it climbs more than one unit.
        kept = dataclasses.replace(result, network=None, manifest={**result.manifest, "swept": list(part)})
        kept.save(found.folder / slug(layer) / f"{min(part):05d}-{max(part):05d}")
        if result.manifest["interrupted"]:
            return True, None
    return False, None


class _Counted:
    """Progress of one part as progress of the whole sweep."""

    def __init__(self, tick: Callable[[int], None], weight: float, steps: int):
        self._tick, self._weight, self._steps = tick, weight, steps
        self._exact, self._told, self._part, self._before = 0.0, 0, 0, 0

    def begin(self, units: int) -> None:
        self._part, self._before = units * self._steps, 0

    def __call__(self, done: int, total: int) -> None:
        done = min(done, self._part)
        self._exact += self._weight * (done - self._before)
        self._before = done
        more = round(self._exact) - self._told
        self._told += more
        if more:
            self._tick(more)

    def end(self) -> None:
        self(self._part, self._part)


def _planned(network: Network, layers: Any, units: Any) -> dict[str, tuple[int, ...]]:
    known = taps.layers(network)
    names = tuple(layers) if layers is not None else tuple(taps.weighted_layers(network))
    if isinstance(units, Mapping):
        for layer in units:
            if layer not in names:
                raise ValueError(f"units of {layer!r}, which is not swept; {nearest(layer, names)}")
    planned = {}
    for layer in names:
        width = taps.layer_shape(network, layer)[-1] if layer not in known else known[layer][-1]
        if isinstance(units, Mapping):
            planned[layer] = tuple(int(unit) for unit in units.get(layer, range(width)))
        else:
            planned[layer] = tuple(range(width if units is None else min(width, units)))
        if not planned[layer]:
            raise ValueError(f"no units of {layer!r} are asked for: leave the layer out")
        if len(set(planned[layer])) < len(planned[layer]):
            raise ValueError(f"a unit of {layer!r} is given twice: {planned[layer]}")
    return planned


def _cut(network: Network, units: Sequence[int], done: Sequence[int], wish: int | None) -> list[tuple[int, ...]]:
    """The units that are not done in parts of about one size."""
    there = set(done)
    left = [unit for unit in units if unit not in there]
    if not left:
        return []
    example = sum(math.prod(shape) for shape in jax.tree.leaves(network.input.shape, is_leaf=_is_shape))
    # An input, its parameters and eight snapshots, in single precision.
    room = memory.rounded(_BYTES // (4 * 10 * example)) if wish is None else wish
    count = math.ceil(len(left) / (min(UNITS, room) if wish is None else wish))
    return [tuple(int(unit) for unit in part) for part in np.array_split(left, count)]


def _is_shape(node: Any) -> bool:
    return isinstance(node, tuple)


def _weights(network: Network, layers: Sequence[str]) -> dict[str, float]:
    """What a step of a layer costs beside the mean of the layers: operations and bytes up to it, as XLA counts them."""
    costs = {}
    for layer in layers:
        x = jax.tree.map(
            lambda shape, kind: jax.ShapeDtypeStruct((1, *shape), kind),
            network.input.shape,
            network.input.dtype,
            is_leaf=_is_shape,
        )
        lowered = jax.jit(lambda x, layer=layer: taps.forward(network, x, (layer,))[1][layer]).lower(x)
        told = lowered.cost_analysis() or {}
        # A number that is moved costs about as much as eight operations on it.
        costs[layer] = float(told.get("flops", 0.0)) + 2.0 * float(told.get("bytes accessed", 0.0))
    mean = float(np.mean(list(costs.values()))) if costs else 0.0
    return {layer: cost / mean if mean > 0 else 1.0 for layer, cost in costs.items()}


def _described(
    network: Network, key: jax.Array, planned: Mapping[str, Sequence[int]], objective: Any, chosen: Mapping[str, Any]
) -> dict[str, Any]:
    typed = jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)
    return {
        "format": FORMAT,
        "network": digest(network),
        "key": np.asarray(jax.random.key_data(key) if typed else key).tolist(),
        "layers": {
            layer: {
                "units": list(planned[layer]),
                "objective": _named(objective(layer, planned[layer][:1]).bind(network)),
                "settings": _plain(chosen[layer]),
            }
            for layer in planned
        },
    }


def _named(bound: objectives.Bound) -> list[Any]:
    """An objective without its units."""
    return json.loads(json.dumps([bound.to_dict()["spec"], [float(part["weight"][0]) for part in bound.arrays]]))


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as text that tells others apart; how they are run is none."""
    told: dict[str, Any] = {}
    for name, value in sorted(settings.items()):
        if name in ("chunk_size", "devices", "progress"):
            continue
        if name == "optimizer" and value is not None:
            told[name] = optimizers.name_of(value)
        elif isinstance(value, Mapping) or (name == "probes" and value is not None):
            told[name] = jax.tree.map(manifest.fingerprint, value)
        else:
            told[name] = manifest.plain(value)
    return json.loads(json.dumps(told))


def _prepare(where: pathlib.Path, network: Network, asked: dict[str, Any], resume: bool) -> None:
    """Makes the folder, or finds one of the same sweep; anything else is refused."""
    told = where / _JSON
    if where.exists() and not told.is_file() and any(where.iterdir()):
        raise ValueError(f"{where} exists and is not the folder of a sweep, so it is not written to")
    before: dict[str, Any] = _read(where) if told.is_file() else {}
    layers = dict(before.get("layers", {}))
    if before:
        for name, what in {"network": "another network", "key": "another key"}.items():
            if before.get(name) != asked[name]:
                if resume:
                    raise ValueError(f"{where} holds a sweep of {what}: give another folder, or resume=False")
                layers = {}
        for layer, wanted in asked["layers"].items():
            differ = _difference(layers.get(layer, wanted), wanted)
            if resume and differ:
                raise ValueError(
                    f"{where} holds a sweep of {layer!r} with other settings ({differ}): give another folder, or "
                    "resume=False"
                )
    for layer in {*before.get("layers", {}), *asked["layers"]}:
        for leftover in (where / slug(layer)).glob(".*-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        if not resume and (layer in asked["layers"] or layer not in layers):
            for part in _folders(where / slug(layer)):
                shutil.rmtree(part)
    where.mkdir(parents=True, exist_ok=True)
    draft = where / f".{_JSON}"
    draft.write_text(json.dumps({**asked, "layers": {**layers, **asked["layers"]}}, indent=1) + "\n", encoding="utf-8")
    os.replace(draft, told)
    try:
        if before.get("network") != asked["network"] or not (where / _NETWORK).is_dir():
            network.save(where / _NETWORK, overwrite=True)
    except NetworkFileError:
        # A module that only lives in this process: results are read with it at hand.
        shutil.rmtree(where / _NETWORK, ignore_errors=True)


def _read(where: pathlib.Path) -> dict[str, Any]:
    told = json.loads((where / _JSON).read_text(encoding="utf-8"))
    if told.get("format") != FORMAT:
        raise ValueError(f"{where} holds a sweep of format {told.get('format')!r}, not {FORMAT}: give another folder")
    return dict(told)


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The names of what is not the same."""
    ours, theirs = ({"objective": each["objective"], **each["settings"]} for each in (new, old))
    return ", ".join(name for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name))


def _folders(layer: pathlib.Path) -> list[pathlib.Path]:
    found = sorted(layer.iterdir()) if layer.is_dir() else []
    return [part for part in found if _PART.fullmatch(part.name) and (part / "manifest.json").is_file()]


def _units_in(part: pathlib.Path) -> list[int]:
    told = json.loads((part / "manifest.json").read_text(encoding="utf-8"))["manifest"]
    return [int(unit) for unit in told["swept"]]
