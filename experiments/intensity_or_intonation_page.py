"""What `intensity_or_intonation.py` finds, and the tables and the page that it makes of it."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import nd_jax as nd
from nd_jax import proportions
from nd_jax.attribute import intonation
from nd_jax.domain import Sound
from nd_jax.report import sheets
from nd_jax.report.leaflet import Leaflet
from nd_jax.runtime import require
from nd_jax.visualize import classes as by_class

WAYS = {
    "again": "spoken again as it is",
    "intonation": "with a flat f0",
    "intensity": "with a flat level",
    "both": "with both flat",
}
MASKS = {"intonation": "of the f0 contour", "intensity": "of the level contour", "s2": "of the sound, S2's mask"}


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """What became of one recording.

    Attributes:
      network: the classifier, as the command line calls it.
      name: of the recording.
      target: its class.
      arrays: {"way/wave", "way/says"} of "whole" and `WAYS`; {"contour/mask", "/used", "/kept", "/chances", "/masked"};
        "s2/mask", "s2/kept" and "s2/says" where there are such; "seconds", "f0", "level".
    """

    network: str
    name: str
    target: int
    arrays: Mapping[str, np.ndarray]

    def right(self, way: str) -> bool:
        """Whether the class is still what is said."""
        return int(self.arrays[f"{way}/says"].argmax()) == self.target

    def odds(self, way: str) -> float:
        """The class's log-odds."""
        chance = float(np.clip(self.arrays[f"{way}/says"][self.target], 1e-6, 1 - 1e-6))
        return float(np.log(chance / (1 - chance)))


def figures(networks: Mapping[str, nd.Network], found: Sequence[Answer], settings: Any) -> dict[str, Any]:
    """All numbers of the page, JSON-ready: a row for every classifier and class, and one for all classes."""
    rows = []
    for name, network in networks.items():
        mine = [each for each in found if each.network == name]
        for target, label in enumerate(by_class.class_names(network, settings.part)):
            few = [each for each in mine if each.target == target]
            if few:
                rows.append({"network": name, "class": label, **_row(few)})
        if mine:
            rows.append({"network": name, "class": "all", **_row(mine)})
    settled = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    return {
        "settings": {name: str(value) if isinstance(value, pathlib.Path) else value for name, value in settled.items()},
        "rows": rows,
    }


def _row(few: Sequence[Answer]) -> dict[str, Any]:
    """Of some recordings. Masks count where the class is recognised when all of the contour is kept."""
    again = [each for each in few if each.right("again")]
    row: dict[str, Any] = {
        "sounds": len(few),
        "recognised": {way: proportions.proportion([each.right(way) for each in few]) for way in WAYS},
        "fall_of_log_odds": {
            way: _mean([each.odds("again") - each.odds(way) for each in few]) for way in WAYS if way != "again"
        },
        "kept": {},
    }
    for mask in MASKS:
        values = [float(each.arrays[f"{mask}/kept"]) for each in again if f"{mask}/kept" in each.arrays]
        if values:
            row["kept"][mask] = _quartiles(values)
    return row


def write(networks: Mapping[str, nd.Network], found: Sequence[Answer], settings: Any) -> pathlib.Path:
    """Writes figures.json and index.html; returns the path of the latter.

    Raises:
      MissingExtraError: matplotlib or Pillow is missing.
    """
    out = settings.out.expanduser()
    told = figures(networks, found, settings)
    sheets.replace(out / "figures.json", (json.dumps(told, indent=1) + "\n").encode())
    page = Leaflet(
        out,
        "Intensity or intonation?",
        "Recordings that a classifier gets right, spoken again with the contour of their fundamental frequency made "
        "flat at the loudness they had, and with their level made flat at the pitch they had. What is still "
        "recognised does not need that contour.",
    )
    page.table(
        ["classifier", "class", "recordings", *WAYS.values()],
        [
            [_short(row["network"]), row["class"], row["sounds"], *(_share(row["recognised"][way]) for way in WAYS)]
            for row in told["rows"]
        ],
    )
    page.text("Still recognised, with 95 % intervals (Wilson).", soft=True)
    falls = ("intonation", "intensity", "both")
    page.table(
        ["classifier", "class", *(f"log-odds fall {WAYS[way]}" for way in falls)],
        [
            [_short(row["network"]), row["class"], *(_number(row["fall_of_log_odds"][way]) for way in falls)]
            for row in told["rows"]
        ],
    )
    page.text("From the recording spoken again as it is; means with 95 % intervals over recordings.", soft=True)
    masks = [mask for mask in MASKS if any(mask in row["kept"] for row in told["rows"])]
    page.table(
        ["classifier", "class", *(f"least {MASKS[mask]}" for mask in masks)],
        [
            [_short(row["network"]), row["class"], *(_spread(row["kept"].get(mask)) for mask in masks)]
            for row in told["rows"]
        ],
    )
    page.text(
        f"The share that is kept when one cell of {settings.cells} after the other is flattened, cheapest first, as "
        f"long as the class is {100 * settings.sure:.0f} % probable or as it was; 0 means that none is needed. "
        "S2's mask takes parts of the input itself away, and its share is of what sounds. Medians (quartiles).",
        soft=True,
    )
    for name, network in networks.items():
        for target, label in enumerate(by_class.class_names(network, settings.part)):
            each = next((each for each in found if each.network == name and each.target == target), None)
            if each is not None:
                _example(page, network, each, f"{_short(name)}: {label}, {each.name}", settings)
    page.link("figures.json", "All numbers")
    return page.finish()


def _example(page: Leaflet, network: nd.Network, each: Answer, title: str, settings: Any) -> None:
    """One recording: its contours with the masks, and players."""
    names = by_class.class_names(network, settings.part)
    rate = network.input.sample_rate  # type: ignore[attr-defined]
    stem = f"{_short(each.network)}-{each.target:02d}".replace(" ", "_")
    page.heading(title)
    page.figure(
        f"{stem}.png", _contours(each), f"f0 and level of {each.name}; shaded is what of each contour must stay"
    )
    waves = {"as recorded": "whole"} | {words: way for way, words in WAYS.items()}
    shown = {words: (each.arrays[f"{way}/wave"], each.arrays[f"{way}/says"]) for words, way in waves.items()}
    masked = {f"least {MASKS[contour]}": each.arrays[f"{contour}/masked"] for contour in intonation.CONTOURS}
    said = intonation.said(network, list(masked.values()), rate, settings.part)
    shown |= {words: (wave, row) for (words, wave), row in zip(masked.items(), said, strict=True)}
    page.tiles(
        stem,
        intonation.heard(network, [wave for wave, _ in shown.values()], rate),
        network.input,
        titles=list(shown),
        facts=[[f"says {names[int(row.argmax())]}, {100 * row.max():.0f} %"] for _, row in shown.values()],
        made=(Sound(np.asarray(wave, np.float32), rate) for wave, _ in shown.values()),
    )


def _contours(each: Answer) -> Any:
    figure = require("matplotlib.figure", "report").Figure(figsize=(8.8, 2.6), dpi=110, layout="constrained")
    arrays = each.arrays
    seconds, voiced = arrays["seconds"], arrays["f0"] > 0
    sounding = arrays["level"] > arrays["level"].max() - 40
    for axes, contour, values, where, label in zip(
        figure.subplots(1, 2),
        intonation.CONTOURS,
        (arrays["f0"], arrays["level"]),
        (voiced, sounding),
        ("f0 (Hz)", "level (dB)"),
        strict=True,
    ):
        axes.plot(seconds, np.where(where, values, np.nan), linewidth=1.4, color="0.15")
        if where.any():
            edges = np.linspace(seconds[where][0], seconds[where][-1], len(arrays[f"{contour}/mask"]) + 1)
            for low, high, kept in zip(
                edges[:-1], edges[1:], arrays[f"{contour}/mask"] * arrays[f"{contour}/used"], strict=True
            ):
                if kept:
                    axes.axvspan(low, high, color="#cc2133", alpha=0.18, linewidth=0)
        axes.set(xlabel="time (s)", ylabel=label, xlim=(0, seconds[-1]))
        axes.set_title(f"{100 * float(arrays[f'{contour}/kept']):.0f} % of it must stay", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    return figure


def _short(name: str) -> str:
    """What a classifier is called: the folder that is not just "network"."""
    parts = [part for part in pathlib.PurePath(name).parts if part != "network"]
    return parts[-1] if parts else name


def _mean(values: Sequence[float]) -> dict[str, float]:
    """Mean and 95 % interval over recordings."""
    array = np.asarray(values)
    draws = array[np.random.default_rng(0).integers(0, len(array), (2000, len(array)))].mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"value": float(array.mean()), "low": float(low), "high": float(high)}


def _quartiles(values: Sequence[float]) -> dict[str, float]:
    quarter, median, three_quarters = (float(value) for value in np.quantile(values, [0.25, 0.5, 0.75]))
    return {"median": median, "quarter": quarter, "three_quarters": three_quarters, "of": len(values)}


def _share(told: Mapping[str, Any]) -> str:
    return f"{told['right']} of {told['of']} ({100 * told['low']:.0f} to {100 * told['high']:.0f} %)"


def _number(told: Mapping[str, float]) -> str:
    return f"{told['value']:.1f} ({told['low']:.1f} to {told['high']:.1f})".replace("-", "−")


def _spread(told: Mapping[str, float] | None) -> str:
    if told is None:
        return ""
    return f"{100 * told['median']:.0f} % ({100 * told['quarter']:.0f} to {100 * told['three_quarters']:.0f})"
