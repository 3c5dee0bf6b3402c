"""The units of an atlas, layer by layer: their files, the columns of the grid, and the details of each unit."""

from __future__ import annotations

import base64
import collections
import dataclasses
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from nd_jax import taps
from nd_jax.domain import Picture, Sound
from nd_jax.report import pictures, recipe
from nd_jax.report.natural import Natural, played
from nd_jax.report.page import Page
from nd_jax.report.sounds import Played, at_playback_level, brightness, encode_wav, pitch, sounds

if TYPE_CHECKING:
    from nd_jax.network import Network
    from nd_jax.visualize.result import Visualization

_THUMB = (96, 128)
_COLUMNS = (
    "key",
    "unit",
    "label",
    "score",
    "reason",
    "pitch",
    "bright",
    "look",
    "silent",
    "seconds",
    "gain",
    "limited",
)


@dataclasses.dataclass
class Collected:
    """What the page's index says about all layers.

    Attributes:
      layers: one dict a layer, in the order of the forward pass.
      others: a sentence about layers that were not asked for.
      thumbs: whether tiles have pictures of their own, smaller than the unit's.
      sound: whether anything can be played.
    """

    layers: list[dict[str, Any]]
    others: str
    thumbs: bool
    sound: bool


def collect(
    page: Page,
    runs: Sequence[Visualization],
    network: Network | None,
    natural: Natural,
    *,
    source: str | None,
    planned: Mapping[str, int],
    progress: bool,
) -> Collected:
    """Writes the files of every unit and returns what the index needs."""
    from tqdm import tqdm

    lanes: dict[str, list[tuple[Visualization, int]]] = collections.defaultdict(list)
    for run in runs:
        for lane, layer in enumerate(run.layers):
            lanes[layer].append((run, lane))
    shapes = {**taps.layers(network), **taps.output_shapes(network)} if network is not None else {}
    wanted = [layer for layer in shapes if layer in lanes or layer in planned]
    wanted += [layer for layer in (*lanes, *planned) if layer not in wanted]
    wanted = list(dict.fromkeys(wanted))
    total = sum(len(group) for group in lanes.values())
    bar = tqdm(total=total, desc="units", disable=not progress, leave=False)
    found = Collected([], _others(shapes, wanted), False, False)
    with bar:
        for number, layer in enumerate(wanted):
            writer = _Layer(page, natural, layer, slug(number, layer), source, _names(network, layer), found)
            for run, members in _by_run(sorted(lanes[layer], key=_order)):
                writer.add(run, members, bar.update)
            shape = " × ".join(map(str, shapes[layer])) if layer in shapes else ""
            found.layers.append(writer.finish(shape, max(planned.get(layer, 0), len(lanes[layer]))))
    return found


def at(tree: Any, index: Any) -> Any:
    """The part of every leaf of a tree at an index, as numpy arrays."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], tree)


def slug(number: int, layer: str) -> str:
    """A file name for a layer, different for every number whatever the file system thinks of upper case."""
    return f"{number:02d}-{re.sub(r'[^A-Za-z0-9]+', '-', layer).strip('-')[:48] or 'layer'}"


def _order(item: tuple[Visualization, int]) -> tuple[int, int]:
    run, lane = item
    unit = int(run.units[lane])
    return (unit if unit >= 0 else 1 << 30, int(run.replicates[lane]))


def _by_run(items: Sequence[tuple[Visualization, int]]) -> list[tuple[Visualization, list[int]]]:
    """Neighbours of one run together, so that their sounds are made in one batch."""
    groups: list[tuple[Visualization, list[int]]] = []
    for run, lane in items:
        if groups and groups[-1][0] is run:
            groups[-1][1].append(lane)
        else:
            groups.append((run, [lane]))
    return groups


def _others(shapes: Mapping[str, Any], wanted: Sequence[str]) -> str:
    left = [layer for layer in shapes if layer not in wanted and not layer.startswith(taps.OUTPUT)]
    if not left:
        return ""
    some = ", ".join(left[:6]) + (f" and {len(left) - 6} others" if len(left) > 6 else "")
    return f"{len(left)} more {'layer was' if len(left) == 1 else 'layers were'} not asked for: {some}."


def _names(network: Network | None, layer: str) -> tuple[str, ...]:
    """The labels of a layer's units: of an output, and of the last layer (a head's layer) that gives it."""
    if network is None or not network.labels:
        return ()
    heads = dict(network.labels) if isinstance(network.labels, Mapping) else {"": tuple(network.labels)}
    last = list(taps.layers(network))[-len(heads) :]
    for part, names in heads.items():
        output = f"{taps.OUTPUT}[{part}]" if part else taps.OUTPUT
        is_head = layer in last and (not part or layer.rsplit("/", 1)[-1] == part)
        if layer == output or (is_head and taps.layer_shape(network, layer) == (len(names),)):
            return names
    return ()


class _Layer:
    """One layer on its way to the page."""

    def __init__(
        self,
        page: Page,
        natural: Natural,
        layer: str,
        slug: str,
        source: str | None,
        names: tuple[str, ...],
        found: Collected,
    ):
        self.page, self.natural, self.layer, self.slug = page, natural, layer, slug
        self.source, self.names, self.found = source, names, found
        self.columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
        self.units: dict[str, dict[str, Any]] = {}
        self.dead = 0

    def add(self, run: Visualization, members: Sequence[int], tick: Any) -> None:
        """Adds lanes of one run."""
        inputs = at(run.inputs, np.asarray(members))
        heard = sounds(run.domain, inputs)
        calls = recipe.sources(run, members, self.source)
        for place, lane in enumerate(members):
            self._unit(run, lane, None if heard is None else heard[place], calls[place])
            tick(1)

    def finish(self, shape: str, planned: int) -> dict[str, Any]:
        """Writes the details and returns the layer's part of the index."""
        self.page.add_data(self.slug, {"units": self.units, "clips": self.natural.clips(self.units.values())})
        scores = [
            score
            for score, reason in zip(self.columns["score"], self.columns["reason"], strict=True)
            if score is not None and not reason
        ]
        median = float(np.median(scores)) if scores else None
        about = {"name": self.layer, "slug": self.slug, "shape": shape, "planned": planned, "dead": self.dead}
        return {**about, "median": median, **self.columns}

    def _unit(self, run: Visualization, lane: int, sound: Sound | None, call: str) -> None:
        key = self._key(int(run.units[lane]))
        example = at(run.inputs, lane)
        picture = run.domain.picture(example)
        assert picture is not None
        ready = None if sound is None else at_playback_level(sound)
        files = self._files(run, lane, key, example, picture, ready)
        status = run.status[lane]
        reason = "" if status == "ok" else status
        self.dead += reason.startswith("dead")
        score = float(run.scores[lane])
        row: dict[str, Any] = {
            "key": key,
            "unit": int(run.units[lane]),
            "label": self._label(run, lane),
            "score": score if np.isfinite(score) else None,
            "reason": reason,
            "pitch": None if ready is None or ready.silent else _rounded(pitch(ready.sound)),
            "bright": _rounded(_brightness(picture, ready)),
            "look": base64.b64encode(look(picture)).decode("ascii"),
            **(played(ready) if ready is not None else {"silent": True, "seconds": 0, "gain": 0, "limited": 0}),
        }
        for name in _COLUMNS:
            self.columns[name].append(row[name])
        entry: dict[str, Any] = {
            "steps": int(run.steps_done[lane]),
            "history": [list(run.snapshot_steps), [_finite(value) for value in run.history[:, lane]]],
            "call": call,
            "files": files,
            **self.natural.of(self.layer, int(run.units[lane])),
        }
        if len(run.snapshot_steps):
            strip = [run.domain.picture(at(run.snapshots, (k, lane))) for k in range(len(run.snapshot_steps))]
            small = [pictures.indexed(pictures.shrink(one, *_THUMB)) for one in strip if one is not None]
            self.page.add(f"{self.slug}/{key}.strip.png", pictures.encode_png(np.concatenate(small)))
            entry["strip"] = {"steps": entry["history"][0], "scores": entry["history"][1]}
        self.units[key] = entry

    def _key(self, unit: int) -> str:
        """The last part of a unit's address: its number, with a suffix for a further run; `o3` for other objectives."""
        base = str(unit) if unit >= 0 else f"o{len(self.units)}"
        key, run = base, 1
        while key in self.units:
            run += 1
            key = f"{base}.{run}"
        return key

    def _label(self, run: Visualization, lane: int) -> str:
        unit, label = int(run.units[lane]), run.labels[lane]
        if label != f"{self.layer}:{unit}":
            return label
        return self.names[unit] if 0 <= unit < len(self.names) else ""

    def _files(
        self, run: Visualization, lane: int, key: str, example: Any, picture: Picture, ready: Played | None
    ) -> dict[str, int]:
        stem = f"{self.slug}/{key}"
        sizes = {}
        if ready is not None:
            self.found.sound = True
            if not ready.silent:
                sizes["wav"] = self.page.add(f"{stem}.wav", encode_wav(ready.sound))
        sizes["npz"] = self.page.add(f"{stem}.npz", _arrays(run, lane, example, picture))
        sizes["png"] = self.page.add(f"{stem}.png", pictures.png(picture))
        small = pictures.shrink(picture, *_THUMB)
        if small is not picture:
            self.found.thumbs = True
            self.page.add(f"{stem}.thumb.png", pictures.png(small))
        return sizes


def _arrays(run: Visualization, lane: int, example: Any, picture: Picture) -> bytes:
    """The npz of one unit: its input, score, history, axes and the manifest as JSON text."""
    inputs = {"input": example} if not isinstance(example, Mapping) else {f"input/{k}": v for k, v in example.items()}
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        **inputs,
        label=np.array(run.labels[lane]),
        score=np.float32(run.scores[lane]),
        history=np.asarray(run.history[:, lane], np.float32),
        snapshot_steps=np.asarray(run.snapshot_steps, np.int32),
        status=np.array(run.status[lane]),
        picture_x=np.asarray(picture.x.values, np.float64),
        picture_y=np.asarray(picture.y.values, np.float64),
        manifest=np.array(json.dumps(dict(run.manifest), default=str)),
    )
    return buffer.getvalue()


def look(picture: Picture) -> bytes:
    """24 numbers (0 ... 255) that say what a picture looks like, for sorting by similarity.

    A spectrogram: mean level of 12 bands and their variation over time, which do not depend on when a sound happens. An
    image: 4 x 6 block means.
    """
    if np.ndim(picture.values) == 3:
        levels = pictures.pixels(picture).mean(axis=-1)
    else:
        levels = pictures.levels(picture).astype(np.float32)
    if picture.x.unit == "px":
        return _blocks(_blocks(levels, 4).T, 6).round().astype(np.uint8).tobytes()
    bands = _blocks(levels, 12)
    return (
        np.concatenate([bands.mean(axis=1), np.minimum(2 * bands.std(axis=1), 255)]).round().astype(np.uint8).tobytes()
    )


def _blocks(values: np.ndarray, count: int) -> np.ndarray:
    """Means of `count` blocks of rows (the nearest row where there are fewer): (rows, columns) -> (count, columns)."""
    edges = np.linspace(0, len(values), count + 1)
    return np.stack(
        [
            values[int(low) : max(int(np.ceil(high)), int(low) + 1)].mean(axis=0)
            for low, high in zip(edges[:-1], edges[1:], strict=True)
        ]
    )


def _brightness(picture: Picture, ready: Played | None) -> float | None:
    if ready is not None:
        return None if ready.silent else brightness(ready.sound)
    return float(np.nan_to_num(picture.values).mean()) if picture.x.unit == "px" else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
