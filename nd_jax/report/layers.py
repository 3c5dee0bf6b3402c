"""The layers of an atlas: the order they stand in, the columns of their grids, and the details of each unit."""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nd_jax import taps
from nd_jax.report import recipe
from nd_jax.report.labels import Labelled
from nd_jax.report.natural import Natural
from nd_jax.report.page import Page
from nd_jax.report.sounds import midi
from nd_jax.report.training import Course
from nd_jax.report.trust import Cards
from nd_jax.report.tuning import Measured
from nd_jax.report.units import Files, Lane
from nd_jax.report.weights import for_layer

if TYPE_CHECKING:
    from nd_jax.network import Network
    from nd_jax.visualize.result import Visualization

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
    "constant",
    "ratio",
    "path",
)


@dataclasses.dataclass
class Collected:
    """What the page's index says about all layers.

    Attributes:
      layers: one dict a layer, in the order of the forward pass.
      others: a sentence about layers that were not asked for.
      thumbs: whether tiles have pictures of their own, smaller than the unit's.
      sound: whether anything can be played.
      notes: of sounds that a generator was asked to make at a pitch, how many there are, and of how many the pitch
        heard lies within half a semitone of it.
    """

    layers: list[dict[str, Any]]
    others: str
    thumbs: bool
    sound: bool
    notes: tuple[int, int] = (0, 0)


def collect(
    page: Page,
    runs: Sequence[Visualization],
    network: Network | None,
    natural: Natural,
    cards: Cards,
    course: Course,
    measured: Measured,
    labelled: Labelled,
    *,
    weigh: bool,
    source: str | None,
    planned: Mapping[str, int],
    tick: Callable[[int], None],
) -> Collected:
    """Writes the files of every unit and returns what the index needs."""
    lanes: dict[str, list[tuple[Visualization, int]]] = collections.defaultdict(list)
    for run in runs:
        for lane, layer in enumerate(run.layers):
            lanes[layer].append((run, lane))
    shapes = {**taps.layers(network), **taps.output_shapes(network)} if network is not None else {}
    wanted = [layer for layer in shapes if layer in lanes or layer in planned]
    wanted += [layer for layer in (*lanes, *planned) if layer not in wanted]
    wanted = list(dict.fromkeys(wanted))
    found = Collected([], _others(shapes, wanted), False, False)
    heads = _heads(network) if network is not None else frozenset()
    first = next(iter(taps.weighted_layers(network)), "") if network is not None else ""
    for number, layer in enumerate(wanted):
        name = slug(number, layer)
        known = _names(network, layer)
        writer = _Layer(page, natural, cards, course, measured, labelled, layer, name, source, known, found)
        for run, members in _by_run(sorted(lanes[layer], key=_order)):
            writer.add(run, members, tick)
        shape = " × ".join(map(str, shapes[layer])) if layer in shapes else ""
        if weigh and network is not None and lanes[layer]:
            writer.shared["weights"] = for_layer(page, name, network, layer, layer == first)
        found.layers.append(writer.finish(shape, planned.get(layer, 0), layer in heads))
    return found


def _heads(network: Network) -> frozenset[str]:
    """The layers that are an output of a network with several: they stand side by side, not one after the other."""
    outputs = taps.outputs(network)
    return frozenset(outputs) | frozenset(outputs.values()) if len(outputs) > 1 else frozenset()


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
        is_head = is_head or taps.outputs(network).get(output) == layer
        if layer == output or (is_head and taps.layer_shape(network, layer) == (len(names),)):
            return names
    return ()


class _Layer:
    """One layer on its way to the page."""

    def __init__(
        self,
        page: Page,
        natural: Natural,
        cards: Cards,
        course: Course,
        measured: Measured,
        labelled: Labelled,
        layer: str,
        slug: str,
        source: str | None,
        names: tuple[str, ...],
        found: Collected,
    ):
        self.page, self.natural, self.cards, self.course = page, natural, cards, course
        self.measured, self.labelled = measured, labelled
        self.layer, self.slug = layer, slug
        self.shared: dict[str, Any] = {}
        self.source, self.names, self.found = source, names, found
        self.columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
        self.units: dict[str, dict[str, Any]] = {}

    def add(self, run: Visualization, members: Sequence[int], tick: Callable[[int], None]) -> None:
        """Adds lanes of one run."""
        keys = self._keys([int(unit) for unit in run.units[np.asarray(members)]])
        calls = recipe.sources(run, members, self.source, [f"{self.slug}-{key}.npz" for key in keys])
        lanes = [Lane(run, lane, f"{self.slug}/{key}") for lane, key in zip(members, keys, strict=True)]
        for lane, key, call, known in zip(lanes, keys, calls, Files(self.page, run, self.cards).of(lanes), strict=True):
            self.found.sound |= known["sounds"]
            self.found.thumbs |= known["thumb"]
            self._unit(lane, key, call, known)
            tick(1)

    def finish(self, shape: str, planned: int, head: bool) -> dict[str, Any]:
        """Writes the details and returns the layer's part of the index."""
        clips = self.natural.clips(self.units.values())
        self.shared |= {**self.cards.about(self.layer), **self.course.about(self.layer, self.slug)}
        self.shared |= {**self.measured.about(self.layer, self.slug), **self.labelled.about(self.layer)}
        self.page.add_data(self.slug, {"units": self.units, "clips": clips, **self.shared})
        rows = list(zip(self.columns["score"], self.columns["reason"], strict=True))
        scores = [score for score, reason in rows if score is not None and not reason]
        answering: dict[str, bool] = {}
        silent = set()
        for key, unit, (_, reason), constant in zip(
            self.columns["key"], self.columns["unit"], rows, self.columns["constant"], strict=True
        ):
            # Several runs of a unit are one unit; an objective without a unit stands for itself.
            name = str(unit) if unit >= 0 else key
            answering[name] = answering.get(name, False) or not reason.startswith("dead")
            silent |= {name} if constant else set()
        return {
            "name": self.layer,
            "slug": self.slug,
            "shape": shape,
            "head": head,
            "units": len(answering),
            "planned": max(planned, len(answering)),
            "dead": sum(not alive for alive in answering.values()),
            "unmoved": len(silent),
            "median": float(np.median(scores)) if scores else None,
            **self.columns,
        }

    def _unit(self, lane: Lane, key: str, call: str, known: Mapping[str, Any]) -> None:
        run, place = lane.run, lane.place
        unit, status = int(run.units[place]), run.status[place]
        row: dict[str, Any] = {
            "key": key,
            "unit": unit,
            "label": self._label(run, place),
            "reason": "" if status == "ok" else status,
            "constant": self.natural.constant(self.layer, unit),
            **known["row"],
            **self.cards.columns(lane.name),
        }
        for name in _COLUMNS:
            self.columns[name].append(row[name])
        more = {
            **self.natural.of(self.layer, unit),
            **self.cards.of(lane.name, lane.stem),
            **self.course.of(self.layer, run.labels[place], unit, lane.stem),
            **self.measured.of(self.layer, unit),
            **self.labelled.of(self.layer, unit),
        }
        self.units[key] = {"call": call, **known["entry"], **more}
        asked = [one for one in known["entry"].get("classes", ()) if one["midi"] is not None]
        right = [one for one in asked if one["pitch"] and abs(midi(one["pitch"]) - one["midi"]) <= 0.5]
        self.found.notes = self.found.notes[0] + len(asked), self.found.notes[1] + len(right)

    def _keys(self, units: Sequence[int]) -> list[str]:
        """The last part of units' addresses: the number, with a suffix for a further run; `o3` for other objectives."""
        taken = dict.fromkeys(self.units)
        found = []
        for unit in units:
            base = str(unit) if unit >= 0 else f"o{len(taken)}"
            key, run = base, 1
            while key in taken:
                run += 1
                key = f"{base}.{run}"
            taken[key] = None
            found.append(key)
        return found

    def _label(self, run: Visualization, lane: int) -> str:
        unit, label = int(run.units[lane]), run.labels[lane]
        if label != f"{self.layer}:{unit}":
            return label
        return self.names[unit] if 0 <= unit < len(self.names) else self.labelled.name(self.layer, unit)
