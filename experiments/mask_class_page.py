"""What `mask_class.py` finds, and the figures and the page that it makes of it."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

import nd_jax as nd
from nd_jax import proportions
from nd_jax.report import pictures
from nd_jax.report.leaflet import Leaflet
from nd_jax.report.sheets import pictures_of, replace
from nd_jax.runtime import require
from nd_jax.visualize import classes as by_class


@dataclasses.dataclass(frozen=True, eq=False)
class Masked:
    """One input and the least of it that is still recognised.

    Attributes:
      target: its class.
      x, kept, removed: inputs: the whole, under the mask, under one minus the mask.
      mask: the averaged mask.
      whole, kept_chances, removed_chances: (classes,), what the classifier says to them.
      moved_chances: (moves, classes), under the same mask moved along its axis.
      areas, chances: (lanes,), how much each price left and how probable the class then was.
    """

    target: int
    x: np.ndarray
    mask: np.ndarray
    kept: np.ndarray
    removed: np.ndarray
    whole: np.ndarray
    kept_chances: np.ndarray
    removed_chances: np.ndarray
    moved_chances: np.ndarray
    areas: np.ndarray
    chances: np.ndarray

    @property
    def area(self) -> float:
        """The share of the input that stays, silence included."""
        return float(np.abs(self.mask).mean())

    def level(self, silence: np.ndarray) -> float:
        """The share of what is not silence that stays."""
        return float(np.abs(self.kept - silence).sum() / max(np.abs(self.x - silence).sum(), 1e-9))


def figures(network: nd.Network, found: Sequence[Masked], settings: Any) -> dict[str, Any]:
    """All numbers of the page, JSON-ready."""
    names = by_class.class_names(network, settings.part)
    areas = np.asarray([each.area for each in found])
    targets = np.asarray([each.target for each in found])
    silence = np.asarray(network.input.silence())
    levels = np.asarray([each.level(silence) for each in found])
    # Moves of one sound are not independent: the interval is over the sounds.
    moved = np.asarray([np.mean(each.moved_chances.argmax(axis=1) == each.target) for each in found])
    draw = np.random.default_rng(0).integers(0, len(found), (2000, len(found)))
    ends = np.quantile(moved[draw].mean(axis=1), [0.025, 0.975])
    return {
        "settings": {field.name: _plain(getattr(settings, field.name)) for field in dataclasses.fields(settings)},
        "sounds": len(found),
        "kept": _quartiles(areas),
        "kept_of_what_sounds": _quartiles(levels),
        "kept_recognised": proportions.proportion(
            np.stack([each.kept_chances for each in found]).argmax(axis=1) == targets
        ),
        "removed_recognised": proportions.proportion(
            np.stack([each.removed_chances for each in found]).argmax(axis=1) == targets
        ),
        "moved_recognised": {"value": float(moved.mean()), "low": float(ends[0]), "high": float(ends[1])},
        "rows": [
            {
                "class": names[each.target],
                "kept": each.area,
                "kept_of_what_sounds": each.level(silence),
                "whole": float(each.whole[each.target]),
                "kept_probability": float(each.kept_chances[each.target]),
                "removed_probability": float(each.removed_chances[each.target]),
                "removed_says": names[int(each.removed_chances.argmax())],
                "moved_probability": float(each.moved_chances[:, each.target].mean()),
            }
            for each in found
        ],
    }


def write(network: nd.Network, found: Sequence[Masked], settings: Any) -> pathlib.Path:
    """Writes figures.json and index.html; returns the path of the latter.

    Raises:
      MissingExtraError: matplotlib or Pillow is missing.
    """
    out, domain = settings.out.expanduser(), network.input
    told = figures(network, found, settings)
    replace(out / "figures.json", (json.dumps(told, indent=1) + "\n").encode())
    names = by_class.class_names(network, settings.part)
    sheet = Leaflet(
        out,
        f"What {network.card.get('name') or settings.network} needs of a sound",
        f"A mask, one number a {settings.per}, averaged over {settings.width}, multiplies the input; where it is 0 "
        "there is silence. Of eight prices for what is kept, the one that keeps least and is still recognised "
        f"(probability {settings.sure:g}, or as with the whole input) counts.",
    )
    sheet.table(
        [
            "sounds",
            "kept, median (quartiles)",
            "of what is not silence",
            "recognised: the kept part",
            "the removed part",
            "the same mask, moved",
        ],
        [
            [
                told["sounds"],
                *(
                    f"{100 * each['median']:.0f} % ({100 * each['quarter']:.0f} to {100 * each['three_quarters']:.0f})"
                    for each in (told["kept"], told["kept_of_what_sounds"])
                ),
                *(
                    proportions.in_words(told[name], 0)
                    for name in ("kept_recognised", "removed_recognised", "moved_recognised")
                ),
            ]
        ],
    )
    sheet.text(
        "Moved: the mask shifted along its axis by an eighth or more of the input, 16 ways; as much is kept, but not "
        "the same. Intervals are 95 %.",
        soft=True,
    )
    sheet.figure(
        "prices.png",
        _prices(found, names),
        "Probability of the class over the share that is kept",
        "A line a sound, a point a price.",
    )
    for target in dict.fromkeys(each.target for each in found):
        mine = [each for each in found if each.target == target]
        sheet.heading(f"Class {names[target]}")
        if settings.per != "cell":
            sheet.figure(f"class-{target}.png", _masks(mine, domain, settings.per), f"Masks of class {names[target]}")
        inputs, titles, facts = [], [], []
        for number, each in enumerate(mine):
            for what, x, chances in (
                ("whole", each.x, each.whole),
                (f"kept, {100 * each.area:.0f} %", each.kept, each.kept_chances),
                ("removed", each.removed, each.removed_chances),
            ):
                inputs.append(x)
                titles.append(f"{names[target]}, {number}: {what}")
                facts.append([f"says {names[int(chances.argmax())]}, {100 * chances.max():.0f} %"])
        sheet.tiles(f"class-{target}", np.stack(inputs), domain, titles=titles, facts=facts)
    sheet.link("figures.json", "All numbers")
    return sheet.finish()


def _quartiles(values: np.ndarray) -> dict[str, float]:
    quarter, median, three_quarters = (float(value) for value in np.quantile(values, [0.25, 0.5, 0.75]))
    return {"median": median, "quarter": quarter, "three_quarters": three_quarters}


def _figure(width: float, height: float) -> Any:
    require("matplotlib", "report")
    return require("matplotlib.figure", "report").Figure(figsize=(width, height), dpi=110, layout="constrained")


def _prices(found: Sequence[Masked], names: Sequence[str]) -> Any:
    figure = _figure(6.4, 3.2)
    axes = figure.subplots()
    for each in found:
        order = np.argsort(each.areas)
        (line,) = axes.plot(100 * each.areas[order], each.chances[order], "o-", markersize=3, linewidth=0.8, alpha=0.6)
        axes.annotate(
            names[each.target],
            (100 * each.areas[order][0], each.chances[order][0]),
            fontsize=7,
            color=line.get_color(),
            xytext=(-8, 0),
            textcoords="offset points",
        )
    axes.set(xlabel="kept (%)", ylabel="probability of the class", ylim=(-0.02, 1.04))
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _masks(mine: Sequence[Masked], domain: nd.domain.Domain, per: str) -> Any:
    """Each whole input with its mask drawn along the axis that it runs along."""
    figure = _figure(4.4 * min(len(mine), 2), 2.9 * -(-len(mine) // 2))
    grid = figure.subplots(-(-len(mine) // 2), min(len(mine), 2), squeeze=False)
    for axes in grid.flat[len(mine) :]:
        axes.set_axis_off()
    for axes, each, picture in zip(grid.flat, mine, pictures_of(np.stack([m.x for m in mine]), domain), strict=False):
        rows, columns = np.shape(picture.values)[:2]
        axes.imshow(pictures.pixels(picture), interpolation="nearest", aspect="auto", extent=(0, columns, 0, rows))
        other = axes.twinx() if per != "band" else axes.twiny()
        line = {"color": "#56f0ff", "linewidth": 1.6}
        places = (np.arange(len(each.mask)) + 0.5) * (columns if per != "band" else rows) / len(each.mask)
        if per == "band":
            other.plot(each.mask, places, **line)
            other.set(xlim=(0, 1.02), xlabel="mask")
        else:
            other.plot(places, each.mask, **line)
            other.set(ylim=(0, 1.02), ylabel="mask")
        across, up = (list(zip(*pictures.ticks(axis, 5), strict=True)) for axis in (picture.x, picture.y))
        axes.set_xticks(np.asarray(across[0]) * columns, across[1])
        axes.set_yticks((1 - np.asarray(up[0])) * rows, up[1])
        axes.set_xlabel(pictures.axis_title(picture.x), fontsize=8)
        axes.set_ylabel(pictures.axis_title(picture.y), fontsize=8)
        axes.tick_params(labelsize=7)
        other.tick_params(labelsize=7)
        axes.set_title(f"kept {100 * each.area:.0f} %", fontsize=9)
    return figure


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
