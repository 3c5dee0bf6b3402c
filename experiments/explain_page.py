"""What `explain.py` finds, and the figures and the page that it makes of it."""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import nd_jax as nd
from nd_jax import proportions
from nd_jax.attribute import TimeFrequency
from nd_jax.domain import Axis
from nd_jax.experiments.explain_inputs import Aim
from nd_jax.report import pictures, sheets
from nd_jax.report.leaflet import Leaflet
from nd_jax.report.overlays import AGAINST, FOR, overlaid
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

# Maps in a row of the figure, and the share of a score below which a value is its rounding.
_ACROSS = 3
_ROUNDING = 1e-6
_WHOLE = {True: "all that the network hears", False: "all that the network sees"}


@dataclasses.dataclass(frozen=True, eq=False)
class Explained:
    """One sound and what the methods say of it.

    Attributes:
      name: of the sound.
      x: the input.
      aim: what is explained.
      said: (classes,) probabilities; of a unit (1,) its activation.
      arrays: {"method/what": array}: map, time, frequency, kept, removed, kept_says, removed_says, deletion, insertion,
        score, and of integrated gradients sum and error.
      source: the file that it is of.
      note: what was done to make it fit, or "".
    """

    name: str
    x: np.ndarray
    aim: Aim
    said: np.ndarray
    arrays: Mapping[str, np.ndarray]
    source: str = ""
    note: str = ""


def figures(network: nd.Network, found: Sequence[Explained], settings: Any) -> dict[str, Any]:
    """All numbers of the page, JSON-ready."""
    told: dict[str, Any] = {
        "settings": {field.name: _plain(getattr(settings, field.name)) for field in dataclasses.fields(settings)},
        "sounds": [
            {
                "name": each.name,
                "file": each.source,
                "note": each.note,
                "explained": each.aim.label,
                "score" if each.aim.is_unit else "probability": _own(each),
            }
            for each in found
        ],
        "methods": {},
        "noise": {"deletion": _mean([_area(each.arrays["noise/deletion"]) for each in found])},
        "whole": _mean([_own(each) for each in found]),
    }
    for method in settings.methods:
        row: dict[str, Any] = {}
        for side in ("kept", "removed"):
            said = [each.arrays[f"{method}/{side}_says"] for each in found]
            if found[0].aim.is_unit:
                row[side] = _mean([float(now[0]) for now in said])
            else:
                numbers = [each.aim.number for each in found]
                row[side] = proportions.proportion(np.stack(said).argmax(axis=1) == np.asarray(numbers))
        for way in ("deletion", "insertion"):
            if all(f"{method}/{way}" in each.arrays for each in found):
                row[way] = _mean([_area(each.arrays[f"{method}/{way}"]) for each in found])
        if all(f"{method}/error" in each.arrays for each in found):
            row["completeness_error"] = max(_incomplete(each, method) for each in found)
        told["methods"][method] = row
    return told


def write(network: nd.Network, found: Sequence[Explained], settings: Any, units: Sequence[str] = ()) -> pathlib.Path:
    """Writes figures.json and index.html; returns the path of the latter.

    Args:
      network: what was explained.
      found: every sound or picture.
      settings: of the run.
      units: for each the page of its units, if there are such.

    Raises:
      MissingExtraError: matplotlib or Pillow is missing.
    """
    out = settings.out.expanduser()
    told = figures(network, found, settings)
    sheets.replace(out / "figures.json", (json.dumps(told, indent=1) + "\n").encode())
    unit, hears = found[0].aim.is_unit, network.input.is_sound
    nothing = "middle grey" if settings.baseline == "silence" and not hears else settings.baseline
    one = settings.target is not None or unit
    explained = f"{'unit' if unit else 'class'} {found[0].aim.label}" if one else "what it says to each"
    page = Leaflet(
        out,
        f"Why {network.card.get('name') or settings.network} {'answers' if unit else 'says'} so",
        f"{_what(network, found, settings)} Explained is {explained}. Red spoke for it, blue against it; each map has "
        f"a scale of its own. Marked are the {100 * settings.share:.0f} % of a map's values that are largest, or the "
        f"mask itself; what is taken away becomes {nothing}.",
    )
    if settings.methods:
        _table(page, told, settings, unit, hears)
    for number, each in enumerate(found):
        _section(page, network, number, each, settings, units[number] if units else "")
    page.link("figures.json", "All numbers")
    return page.finish()


def _what(network: nd.Network, found: Sequence[Explained], settings: Any) -> str:
    """How many of what were explained, and how sounds were made to fit."""

    def some(count: int, word: str) -> str:
        return f"{count} {word}{'s' * (count > 1)}"

    domain: Any = network.input
    if not domain.is_sound:
        return f"{some(len(found), 'picture')}."
    files = len({each.source for each in found})
    if settings.sounds is None:
        return f"{some(len(found), 'sound')}."
    return (
        f"{some(len(found), 'window')} of {some(files, 'sound')}. The network hears "
        f"{domain.samples / domain.sample_rate:.2f} s at a time: a longer sound is cut into windows, the last of which "
        "ends with it (silent ones are left out), a shorter one is followed by silence."
    )


def _table(page: Leaflet, told: Mapping[str, Any], settings: Any, unit: bool, hears: bool) -> None:
    """How well every method serves, over all sounds."""
    sides = ["activation by the marked part alone", "by the rest"]
    classes = ["the marked part alone is recognised", "the rest is"]
    written = _number if unit else functools.partial(proportions.in_words, digits=0)
    whole = [[_WHOLE[hears], _number(told["whole"]), "", "", ""]] if unit else []
    page.table(
        ["method", *(sides if unit else classes), "area under deletion", "under insertion"],
        [
            *(
                [
                    _NAMES[method],
                    *(written(told["methods"][method][side]) for side in ("kept", "removed")),
                    *(_number(told["methods"][method].get(way)) for way in ("deletion", "insertion")),
                ]
                for method in settings.methods
            ),
            ["noise", "", "", _number(told["noise"]["deletion"]), ""],
            *whole,
        ],
    )
    measured = "mean activation" if unit else "mean probability"
    page.text(
        f"Deletion: the {measured} while values are taken away, largest of the map first; small is good, and "
        "noise is what to beat. Insertion: while they are put back; large is good. Gradient maps often win here by "
        f"finding inputs like no {'sound: listen to' if hears else 'picture: look at'} what they mark. Intervals are "
        "95 %.",
        soft=True,
    )


def _section(page: Leaflet, network: nd.Network, number: int, each: Explained, settings: Any, units: str) -> None:
    names = () if each.aim.is_unit else by_class.class_names(network, settings.part)
    says = _says(each, each.said, names)
    also = ""
    if names and int(each.said.argmax()) != each.aim.number:
        also = f"; explained is {each.aim.label}, {100 * _own(each):.0f} %"
    page.heading(f"{each.name}: {says}{also}")
    if each.note:
        page.text(each.note, soft=True)
    if units:
        page.link(units, f"Where every unit of {settings.units} is active")
    if not settings.methods:
        return
    page.figure(
        f"sound-{number:03d}.png",
        _maps(network, each, settings),
        f"Maps of {each.name} by {len(settings.methods)} methods, with their curves over time and frequency",
    )
    for method in settings.methods:
        if _nothing(each, method):
            score = float(each.arrays.get(f"{method}/score", _own(each)))
            page.text(
                f"{_NAMES[method].capitalize()} finds nothing: no value reaches a millionth of the score, {score:.4g}. "
                "What it marks is chance.",
                soft=True,
            )
        elif f"{method}/error" in each.arrays:
            total, error = (float(each.arrays[f"{method}/{key}"]) for key in ("sum", "error"))
            name, wrong = _NAMES[method].capitalize(), 100 * _incomplete(each, method)
            page.text(
                f"{name}: the values add up to {total:.4g}, and the score rises by {total - error:.4g} from the "
                f"baseline (completeness error {wrong:.2g} %).",
                soft=True,
            )
    inputs, titles, facts = [each.x], [_WHOLE[network.input.is_sound]], [[says]]
    for method in settings.methods:
        for side, word in (("kept", "marked"), ("removed", "the rest")):
            inputs.append(each.arrays[f"{method}/{side}"])
            titles.append(f"{_NAMES[method]}: {word}")
            facts.append([_says(each, each.arrays[f"{method}/{side}_says"], names)])
    page.tiles(f"sound-{number:03d}", np.stack(inputs), network.input, titles=titles, facts=facts)


def _own(each: Explained) -> float:
    """The probability of what is explained, or the unit's activation."""
    return float(each.said[0 if each.aim.is_unit else each.aim.number])


def _says(each: Explained, said: np.ndarray, names: Sequence[str]) -> str:
    if each.aim.is_unit:
        return f"{each.aim.label} is {float(said[0]):.3g}"
    return f"says {names[int(said.argmax())]}, {100 * said.max():.0f} %"


def _incomplete(each: Explained, method: str) -> float:
    """The error of a sum that should be the rise of the score, as a share of that rise."""
    total, error = (float(each.arrays[f"{method}/{key}"]) for key in ("sum", "error"))
    return abs(error) / max(abs(total - error), 1e-12)


def _maps(network: nd.Network, each: Explained, settings: Any) -> Any:
    """The input, and each method's map over the same axes with its curves over time and frequency, in rows."""
    require("matplotlib", "report")
    lines = -(-len(settings.methods) // _ACROSS)
    across = -(-len(settings.methods) // lines)
    curves = any(f"{method}/time" in each.arrays for method in settings.methods)
    heights = [3.0, 1.0] * lines if curves else [3.0] * lines + [0.5]
    figure = require("matplotlib.figure", "report").Figure(
        figsize=(3.1 * (1 + across), 0.9 * sum(heights)), dpi=110, layout="constrained"
    )
    grid = figure.add_gridspec(len(heights), 1 + across, height_ratios=heights)
    picture = network.input.picture(each.x)
    assert picture is not None
    hears = network.input.is_sound
    for line in range(lines):
        row = 2 * line if curves else line
        whole = figure.add_subplot(grid[row, 0])
        _draw(whole, picture, cmap="magma" if hears else "gray", vmin=picture.low, vmax=picture.high)
        whole.set_title("the sound" if hears else "the picture", fontsize=9)
        whole.set_ylabel(pictures.axis_title(picture.y), fontsize=8)
        whole.set_xlabel(pictures.axis_title(picture.x), fontsize=8)
        for column, method in enumerate(settings.methods[line * across :][:across], start=1):
            below = grid[row + 1, column] if f"{method}/time" in each.arrays else None
            _map(figure, grid[row, column], below, network.input, picture, each, method)
    legend = figure.add_subplot(grid[1 if curves else lines, 0])
    legend.axis("off")
    colours = require("matplotlib.colors", "report").LinearSegmentedColormap.from_list("", [AGAINST, (1, 1, 1), FOR])
    scale = require("matplotlib.cm", "report").ScalarMappable(cmap=colours)
    scale.set_clim(-1, 1)
    bar = figure.colorbar(scale, ax=legend, orientation="horizontal", fraction=0.5, ticks=[-1, 0, 1])
    bar.set_ticklabels(["against it", "0", "for it"], fontsize=7)
    return figure


def _map(figure: Any, place: Any, below: Any, domain: Any, picture: Any, each: Explained, method: str) -> None:
    """A method's map, with its curve over frequency beside it and, where there is a place for it, over time below."""
    seen = not _nothing(each, method)
    values = each.arrays[f"{method}/map"] * seen
    over = figure.add_subplot(place)
    _draw(over, overlaid(picture, values, _axes_of(domain, values)))
    title = _title(method, str(each.arrays.get(f"{method}/method", "")))
    over.set_title(title if seen else f"{title}: nothing", fontsize=9)
    over.set_yticklabels([])
    if f"{method}/frequency" in each.arrays:
        side = over.inset_axes((1.02, 0.0, 0.18, 1.0))
        curve = each.arrays[f"{method}/frequency"] * seen
        side.plot(curve, (np.arange(len(curve)) + 0.5) / len(curve), linewidth=0.9, color="0.2")
        side.axvline(0, color="0.7", linewidth=0.6)
        side.set(ylim=(0, 1), xticks=[], yticks=[])
    if below is None:
        over.set_xlabel(pictures.axis_title(picture.x), fontsize=8)
        return
    under = figure.add_subplot(below)
    curve = each.arrays[f"{method}/time"] * seen
    seconds = np.asarray(picture.x.values)
    under.plot(np.linspace(seconds[0], seconds[-1], len(curve)), curve, linewidth=0.9, color="0.2")
    under.axhline(0, color="0.7", linewidth=0.6)
    under.set_xlabel("time (s)", fontsize=8)
    under.tick_params(labelsize=7)
    under.spines[["top", "right"]].set_visible(False)
    under.margins(x=0)


def negligible(values: np.ndarray, score: float) -> bool:
    """Whether a map is the rounding of a score and no more: no value reaches a millionth of it."""
    return bool(np.max(np.abs(values), initial=0.0) <= _ROUNDING * abs(score))


def _nothing(each: Explained, method: str) -> bool:
    """Whether a map is rounding; a mask is none of a score."""
    score = float(each.arrays.get(f"{method}/score", _own(each)))
    return method != "mask" and negligible(each.arrays[f"{method}/map"], score)


def _title(method: str, exactly: str) -> str:
    """The name of a method; of RISE with the share that it kept, of Grad-CAM with the layer."""
    return exactly if method in ("rise", "grad_cam") and exactly else _NAMES[method]


def _axes_of(domain: Any, values: np.ndarray) -> tuple[Axis, ...]:
    """The axes of a map: the input's, or those of a waveform's short-time spectrum."""
    return domain.axes if values.shape == domain.shape else TimeFrequency(domain).axes


def _draw(axes: Any, picture: Any, **colours: Any) -> None:
    square = picture.x.unit == "px"
    height, width = np.shape(picture.values)[:2]
    axes.imshow(
        picture.values,
        aspect=height / width if square else "auto",
        interpolation="nearest",
        extent=(0, 1, 0, 1),
        **colours,
    )
    for axis, described, flip in ((axes.xaxis, picture.x, False), (axes.yaxis, picture.y, True)):
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


def _number(told: Mapping[str, float] | None) -> str:
    if told is None:
        return ""
    value, low, high = (f"{told[name]:.{2 if abs(told['value']) >= 0.1 else 4}f}" for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})".replace("-", "−")


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, pathlib.Path) else value
