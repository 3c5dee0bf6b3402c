"""What `experiments/dissect.py` writes: the page that says what was found, and every label as CSV and JSON."""

from __future__ import annotations

import collections
import csv
import dataclasses
import io
import json
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import nd_jax as nd
from nd_jax import taps
from nd_jax.dissect import ConceptSet, Labels, UnitLabel, UnitTuning
from nd_jax.experiments.dissect_optimised import Seen
from nd_jax.experiments.dissect_sounds import Heard
from nd_jax.experiments.dissect_stages import Told
from nd_jax.report.leaflet import Leaflet
from nd_jax.report.sheets import replace

if TYPE_CHECKING:
    from nd_jax.experiments.dissect import Settings

COLUMNS = (
    "layer", "unit", "class", "source", "function", "names_unit", "label", "score", "second", "second_score", "margin",
    "above_shuffles", "shuffles", "top_concepts", "icl", "best_frequency_hz", "tuning",
)  # fmt: skip
_MOST = 200
_FREQUENT = 5


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """Everything that was found, for pages and tables.

    Attributes:
      network: what was dissected.
      heard: clips and record.
      told: captions.
      concepts: what units were asked about.
      labels: of all units.
      tuning: measured, or None.
      skipped: {what: reason} of everything that was left out.
      encoder: of texts.
    """

    network: nd.Network
    heard: Heard
    told: Told
    concepts: ConceptSet
    labels: Labels
    tuning: nd.dissect.MeasuredTuning | None
    skipped: Mapping[str, str]
    encoder: Any

    def tuned(self, layer: str, unit: int) -> UnitTuning | None:
        """What a unit is tuned to, where that was measured."""
        return None if self.tuning is None else self.tuning.unit(layer, unit)

    def classes(self, layer: str) -> tuple[str, ...]:
        """The network's own names of a layer's units: those of its last layer; () for the others."""
        names = self.network.labels
        last = list(self.heard.record.layers)[-1]
        whole = not isinstance(names, Mapping) and names and list(taps.layers(self.network))[-1] == last == layer
        return tuple(map(str, names)) if whole and len(names) == self.heard.record.units[layer] else ()


def write(
    found: Found, seen: Seen | None, atlas: pathlib.Path | None, settings: Settings, out: pathlib.Path
) -> pathlib.Path:
    """Writes labels.csv, labels.json and index.html, each in one step; returns the path of the page."""
    _write_csv(found, out / "labels.csv")
    _write_json(found, settings, out / "labels.json")
    record, labels = found.heard.record, found.labels
    name = found.network.card.get("name", "a network")
    sheet = Leaflet(
        out,
        f"What the units of {name} listen for",
        f"{sum(record.units.values()):,} units of {len(record.layers)} layers on {len(record.clips):,} sounds, by "
        f"Audio Network Dissection (Wu et al. 2024). {labels.named} A unit is called by what {labels.source} and "
        f"{labels.function} find, where that is above {settings.shuffles} shuffles of the clips.",
    )
    if atlas is not None:
        sheet.link(f"{atlas.parent.name}/index.html", "Units to see and hear, with labels, tuning and trust")
    sheet.link("labels.csv", "Every label as a table (labels.csv)")
    sheet.link("labels.json", "Every label as JSON (labels.json)")
    sheet.heading("Layers")
    sheet.table(
        [
            "layer",
            "units",
            "above chance",
            "most frequent labels",
            *(["median best frequency"] if found.tuning else []),
        ],
        [_layer_row(found, layer) for layer in record.layers],
    )
    _truth(found, sheet)
    sheet.heading("The unit that is most alike to each concept")
    rows = list(_best(found))
    sheet.table(["concept", "unit", "score", "ways that agree", *(["best frequency"] if found.tuning else [])], rows)
    never = [name for name in found.concepts.names if name not in {row[0] for row in rows}]
    if never:
        more = f" and {len(never) - _MOST:,} more" if len(never) > _MOST else ""
        sheet.text(f"No unit is called: {', '.join(never[:_MOST])}{more}.", soft=True)
    if found.skipped:
        sheet.heading("Left out")
        entries = list(found.skipped.items())
        sheet.table(["what", "why"], entries[:_MOST])
        if len(entries) > _MOST:
            sheet.text(f"And {len(entries) - _MOST:,} more, all in labels.json.", soft=True)
    return sheet.finish()


def _layer_row(found: Found, layer: str) -> list[str]:
    count = found.labels.count(layer)
    names = [found.labels.best(layer, unit) for unit in range(count)]
    above = [label.name for label in names if label is not None and label.above_chance]
    frequent = ", ".join(f"{name} {times}" for name, times in collections.Counter(above).most_common(_FREQUENT))
    row = [layer, f"{count:,}", f"{len(above):,}", frequent or "–"]
    if found.tuning is not None:
        best = sorted(
            tuned.best_frequency
            for unit in range(count)
            if (tuned := found.tuned(layer, unit)) is not None and tuned.best_frequency is not None
        )
        units = f"{len(best):,} unit{'s' if len(best) != 1 else ''}"
        row.append(f"{best[len(best) // 2]:,.0f} Hz ({units})" if best else "–")
    return row


def _truth(found: Found, sheet: Leaflet) -> None:
    """How true labels are, where that is known: of the last layer, whose units are the network's classes."""
    layer = list(found.heard.record.layers)[-1]
    classes = found.classes(layer)
    among = {text.casefold(): name for text, name in zip(found.concepts.texts, found.concepts.names, strict=True)}
    truth = [among.get(" ".join(name.replace("_", " ").split()).casefold()) for name in classes]
    known = sum(name is not None for name in truth)
    if not known:
        return
    rows = []
    for source, one in found.labels.layers[layer].items():
        for function, figures in one.found.last_layer(truth, _Named(found)).items():
            cosine = "–" if figures.cosine is None else f"{figures.cosine:.2f}"
            rows.append([f"{source}, {function}", f"{100 * figures.top1:.1f} %", f"{100 * figures.top5:.1f} %", cosine])
    sheet.heading("Are the labels true?")
    sheet.text(
        f"{known} of the {len(classes)} units of {layer}, the network's own classes, stand for a concept that was "
        f"asked about. How often it is the label, or among the five most alike (AND, Table 2); chance is "
        f"{100 / len(found.concepts):.1f} % of {len(found.concepts)} concepts."
    )
    sheet.table(["source and function", "top 1", "top 5", "mean cosine of the names"], rows)


class _Named:
    """The encoder, given names as texts."""

    def __init__(self, found: Found):
        self._encoder = found.encoder

    def encode(self, texts: list[str]) -> Any:
        return self._encoder.encode([" ".join(text.replace("_", " ").split()) for text in texts])


def _best(found: Found) -> Iterator[Sequence[str]]:
    """A row a concept: the unit with the highest similarity, of those that are called so; the strongest first."""
    best: dict[str, tuple[float, str, int]] = {}
    for layer in found.heard.record.layers:
        for unit in range(found.labels.count(layer)):
            label = found.labels.best(layer, unit)
            if label is not None and label.above_chance and label.score > best.get(label.name, (-math.inf, "", 0))[0]:
                best[label.name] = (label.score, layer, unit)
    for name, (score, layer, unit) in sorted(best.items(), key=lambda item: -item[1][0]):
        agreeing, ways = found.labels.agreeing(layer, unit)
        tuned = found.tuned(layer, unit)
        own = found.classes(layer)
        called = f" ({own[unit]})" if own else ""
        frequency = None if tuned is None else tuned.best_frequency
        more = [] if tuned is None else ["–" if frequency is None else f"{frequency:,.0f} Hz"]
        yield [name, f"{layer} {unit}{called}", f"{score:.3g}", f"{agreeing} of {ways}", *more]


def _write_csv(found: Found, path: pathlib.Path) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for layer in found.heard.record.layers:
        classes = found.classes(layer)
        for unit in range(found.labels.count(layer)):
            tuned = found.tuned(layer, unit)
            asked = found.labels.answers.get(layer, {}).get(unit, ())
            after = ["; ".join(asked), "" if tuned is None else _short(tuned.best_frequency), str(tuned or "")]
            for source, function, label in found.labels.every(layer, unit):
                main = (source, function) == (found.labels.source, found.labels.function)
                second = label.others[0] if label.others else ("", None)
                names = "; ".join([label.name, *(name for name, _ in label.others)])
                table.writerow(
                    [layer, unit, classes[unit] if classes else "", source, function, int(main), label.name]
                    + [_short(label.score), second[0], _short(second[1]), _short(label.margin)]
                    + [label.beaten, label.shuffles, names, *after]
                )
    replace(path, text.getvalue().encode())


def _short(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.6g}"


def _write_json(found: Found, settings: Settings, path: pathlib.Path) -> None:
    told = {
        "network": settings.network,
        "digest": found.heard.record.network,
        "concepts": {"name": found.concepts.title, "names": found.concepts.names, "ids": found.concepts.ids},
        "made_of": found.labels.named,
        "names_units": {"source": found.labels.source, "function": found.labels.function},
        "clips": found.heard.record.clips,
        "skipped": dict(found.skipped),
    }
    units = [(layer, unit) for layer in found.heard.record.layers for unit in range(found.labels.count(layer))]
    lines = ",\n".join(json.dumps(_unit(found, layer, unit), ensure_ascii=False) for layer, unit in units)
    head = json.dumps(told, ensure_ascii=False, indent=1).removesuffix("\n}")
    replace(path, f'{head},\n "units": [\n{lines}\n]}}\n'.encode())


def _unit(found: Found, layer: str, unit: int) -> dict[str, Any]:
    best = found.labels.best(layer, unit)
    classes = found.classes(layer)
    ways: dict[str, dict[str, Any]] = {}
    for source, function, label in found.labels.every(layer, unit):
        ways.setdefault(source, {})[function] = _told(label)
    one: dict[str, Any] = {
        "layer": layer,
        "unit": unit,
        "label": None if best is None else best.name,
        "above_chance": None if best is None else best.above_chance,
        "agree": list(found.labels.agreeing(layer, unit)),
        "ways": ways,
    }
    if classes:
        one["class"] = classes[unit]
    asked = found.labels.answers.get(layer, {}).get(unit)
    if asked is not None:
        one["icl"] = list(asked)
    tuned = found.tuned(layer, unit)
    if tuned is not None:
        one["tuning"] = {"words": str(tuned), **dataclasses.asdict(tuned)}
    return one


def _told(label: UnitLabel) -> dict[str, Any]:
    ranked = [(label.name, label.score), *label.others]
    return {
        "concepts": [[name, score if math.isfinite(score) else None] for name, score in ranked],
        "above_shuffles": label.beaten,
        "shuffles": label.shuffles,
    }
