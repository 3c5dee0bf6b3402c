"""What `explain.py` finds, and the figures and the page that it makes of it."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import nd_jax as nd
from nd_jax import proportions
from nd_jax.attribute import TimeFrequency
from nd_jax.domain import Axis
from nd_jax.report import pictures, sheets
from nd_jax.report.leaflet import Leaflet
from nd_jax.runtime import require
from nd_jax.visualize import classes as by_class

_NAMES = {
    "occlusion": "occlusion",
    "mask": "extremal mask",
    "integrated_gradients": "integrated gradients",
    "smooth_grad": "SmoothGrad",
    "input_x_gradient": "input x gradient",
    "saliency": "saliency",
    "rise": "RISE",
    "grad_cam": "Grad-CAM",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Explained:
    """One sound and what the methods say of it.

    Attributes:
      name: of the sound.
      x: the input.
      target: the class that is explained.
      said: (classes,) probabilities.
      arrays: {"method/what": array}: map, time, frequency, kept, removed, kept_says, removed_says, deletion, insertion.
    """

    name: str
    x: np.ndarray
    target: int
    said: np.ndarray
    arrays: Mapping[str, np.ndarray]


def figures(network: nd.Network, found: Sequence[Explained], settings: Any) -> dict[str, Any]:
    """All numbers of the page, JSON-ready."""
    names = by_class.class_names(network, settings.part)
    targets = np.asarray([each.target for each in found])
    told: dict[str, Any] = {
        "settings": {field.name: _plain(getattr(settings, field.name)) for field in dataclasses.fields(settings)},
        "sounds": [
            {"name": each.name, "explained": names[each.target], "probability": float(each.said[each.target])}
            for each in found
        ],
        "methods": {},
        "noise": {"deletion": _mean([_area(each.arrays["noise/deletion"]) for each in found])},
    }
    for method in settings.methods:
        row: dict[str, Any] = {}
        for side in ("kept", "removed"):
            said = np.stack([each.arrays[f"{method}/{side}_says"] for each in found])
            row[side] = proportions.proportion(said.argmax(axis=1) == targets)
        for way in ("deletion", "insertion"):
            if all(f"{method}/{way}" in each.arrays for each in found):
                row[way] = _mean([_area(each.arrays[f"{method}/{way}"]) for each in found])
        told["methods"][method] = row
    return told


def write(network: nd.Network, found: Sequence[Explained], settings: Any) -> pathlib.Path:
    """Writes figures.json and index.html; returns the path of the latter.

    Raises:
      MissingExtraError: matplotlib or Pillow is missing.
    """
    out = settings.out.expanduser()
    told = figures(network, found, settings)
    sheets.replace(out / "figures.json", (json.dumps(told, indent=1) + "\n").encode())
    names = by_class.class_names(network, settings.part)
    explained = "what it says to each sound" if settings.target is None else f"class {names[found[0].target]}"
    page = Leaflet(
        out,
        f"Why {network.card.get('name') or settings.network} says so",
        f"{len(found)} sounds; explained is {explained}. Warm colours spoke for it, cold ones against it; each map has "
        f"a scale of its own. Marked are the {100 * settings.share:.0f} % of a map's values that are largest, or the "
        f"mask itself; taken away means {settings.baseline}.",
    )
    page.table(
        ["method", "the marked part alone is recognised", "the rest is", "area under deletion", "under insertion"],
        [
            *(
                [
                    _NAMES[method],
                    *(_share(told["methods"][method][side]) for side in ("kept", "removed")),
                    *(_number(told["methods"][method].get(way)) for way in ("deletion", "insertion")),
                ]
                for method in settings.methods
            ),
            ["noise", "", "", _number(told["noise"]["deletion"]), ""],
        ],
    )
    page.text(
        "Deletion: the mean probability while values are taken away, largest of the map first; small is good, and "
        "noise is what to beat. Insertion: while they are put back; large is good. Gradient maps often win here by "
        "finding inputs like no sound: listen to what they mark. Intervals are 95 %.",
        soft=True,
    )
    for number, each in enumerate(found):
        _section(page, network, number, each, names, settings)
    page.link("figures.json", "All numbers")
    return page.finish()


def _section(
    page: Leaflet, network: nd.Network, number: int, each: Explained, names: Sequence[str], settings: Any
) -> None:
    best = int(each.said.argmax())
    says = f"says {names[best]}, {100 * each.said[best]:.0f} %"
    also = "" if best == each.target else f"; explained is {names[each.target]}, {100 * each.said[each.target]:.0f} %"
    page.heading(f"{each.name}: {says}{also}")
    page.figure(
        f"sound-{number:03d}.png",
        _maps(network, each, settings),
        f"Maps of {each.name} by {len(settings.methods)} methods, with their curves over time and frequency",
    )
    inputs, titles, facts = [each.x], ["the whole"], [[says]]
    for method in settings.methods:
        for side, word in (("kept", "marked"), ("removed", "the rest")):
            said = each.arrays[f"{method}/{side}_says"]
            inputs.append(each.arrays[f"{method}/{side}"])
            titles.append(f"{_NAMES[method]}: {word}")
            facts.append([f"says {names[int(said.argmax())]}, {100 * said.max():.0f} %"])
    page.tiles(f"sound-{number:03d}", np.stack(inputs), network.input, titles=titles, facts=facts)


def _maps(network: nd.Network, each: Explained, settings: Any) -> Any:
    """The spectrogram, and each method's map over the same axes with its curves over time and frequency."""
    require("matplotlib", "report")
    figure = require("matplotlib.figure", "report").Figure(
        figsize=(3.1 * (1 + len(settings.methods)), 3.6), dpi=110, layout="constrained"
    )
    grid = figure.add_gridspec(2, 1 + len(settings.methods), height_ratios=[3, 1])
    picture = network.input.picture(each.x)
    assert picture is not None
    whole = figure.add_subplot(grid[0, 0])
    _draw(whole, picture.values, picture.x, picture.y, cmap="magma", vmin=picture.low, vmax=picture.high)
    whole.set_title("the sound", fontsize=9)
    whole.set_ylabel(pictures.axis_title(picture.y), fontsize=8)
    legend = figure.add_subplot(grid[1, 0])
    legend.axis("off")
    figure.colorbar(whole.images[0], ax=legend, orientation="horizontal", label=picture.unit, fraction=0.5)
    for place, method in enumerate(settings.methods, start=1):
        values = each.arrays[f"{method}/map"]
        over = figure.add_subplot(grid[0, place])
        rows, across, up = _oriented(network.input, values)
        limit = float(np.max(np.abs(rows))) or 1.0
        _draw(over, rows, across, up, cmap="coolwarm", vmin=-limit, vmax=limit)
        over.set_title(_NAMES[method], fontsize=9)
        over.set_yticklabels([])
        if f"{method}/frequency" in each.arrays:
            side = over.inset_axes((1.02, 0.0, 0.18, 1.0))
            curve = each.arrays[f"{method}/frequency"]
            side.plot(curve, (np.arange(len(curve)) + 0.5) / len(curve), linewidth=0.9, color="0.2")
            side.axvline(0, color="0.7", linewidth=0.6)
            side.set(ylim=(0, 1), xticks=[], yticks=[])
        below = figure.add_subplot(grid[1, place])
        curve = each.arrays[f"{method}/time"]
        below.plot(np.linspace(across.values[0], across.values[-1], len(curve)), curve, linewidth=0.9, color="0.2")
        below.axhline(0, color="0.7", linewidth=0.6)
        below.set_xlabel("time (s)", fontsize=8)
        below.tick_params(labelsize=7)
        below.spines[["top", "right"]].set_visible(False)
        below.margins(x=0)
    return figure


def _oriented(domain: Any, values: np.ndarray) -> tuple[np.ndarray, Axis, Axis]:
    """A map as rows from the top, with its axes; one over time alone as a single row."""
    if domain.kind == "waveform" and values.shape != domain.shape:
        frequency, time = TimeFrequency(domain).axes
        return values[::-1], time, dataclasses.replace(frequency, values=frequency.values[::-1])
    if domain.kind == "waveform":
        return values[:, 0][None], domain.axes[0], Axis("", "", np.zeros(1))
    frequency, time, _ = domain.axes
    return values[::-1, :, 0], time, dataclasses.replace(frequency, values=frequency.values[::-1])


def _draw(axes: Any, rows: np.ndarray, across: Axis, up: Axis, **colours: Any) -> None:
    axes.imshow(rows, aspect="auto", interpolation="nearest", extent=(0, 1, 0, 1), **colours)
    for axis, described, flip in ((axes.xaxis, across, False), (axes.yaxis, up, True)):
        marks = pictures.ticks(described, 5) if len(described.values) > 1 else []
        axis.set_ticks([1 - at if flip else at for at, _ in marks], [text for _, text in marks])
    axes.tick_params(labelsize=7)


def _area(curve: np.ndarray) -> float:
    return float(np.mean((curve[1:] + curve[:-1]) / 2))


def _mean(values: Sequence[float]) -> dict[str, float]:
    """Mean and 95 % interval over sounds."""
    array = np.asarray(values)
    draws = array[np.random.default_rng(0).integers(0, len(array), (2000, len(array)))].mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"value": float(array.mean()), "low": float(low), "high": float(high)}


def _share(told: Mapping[str, float]) -> str:
    return f"{100 * told['value']:.0f} % ({100 * told['low']:.0f} to {100 * told['high']:.0f})"


def _number(told: Mapping[str, float] | None) -> str:
    return "" if told is None else f"{told['value']:.2f} ({told['low']:.2f} to {told['high']:.2f})"


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, pathlib.Path) else value
