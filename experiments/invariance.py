"""How strong may a transform be? Moves natural inputs by every transform, ever stronger, and watches units and labels.

    python experiments/invariance.py --network checkpoints/instrument_notes --data-dir notes --data-set instrument_notes
    python experiments/invariance.py --network checkpoints/spoken_digits --data-dir recordings --data-set spoken_digits

Without --data-dir the inputs are procedural sounds. Writes OUT/invariance.json and OUT/invariance.png and prints, for
every transform, the largest strength at which the units and labels of the network still are what they were. The
defaults of `nd_jax.transforms.default` were chosen from it; docs/priors.md says how. 1 minute for 256 sounds.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

import nd_jax as nd
from nd_jax import transforms
from nd_jax.data.loading import DataSet
from nd_jax.network import digest
from nd_jax.runtime import require, script

RED = "#c03020"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured, on which inputs, and what counts as too much."""

    network: str = "checkpoints/instrument_notes"
    """A folder that Network.save wrote, or the name of a shipped network."""
    data_dir: pathlib.Path | None = None
    """Natural inputs; by default the procedural sound bank."""
    data_set: DataSet = "audio_folder"
    """How to read data_dir."""
    split: str = "all"
    """Which part of the data set."""
    clips: int = 256
    """At most so many inputs."""
    draws: int = 4
    """How often each transform is drawn for each input."""
    most_movement: float = 0.5
    """Too strong above this: the median unit of some layer moves by so many of its standard deviations."""
    most_labels: float = 0.03
    """Too strong above this: the share of inputs that get another label from some head."""
    out: pathlib.Path = pathlib.Path("out/invariance")
    """The folder to write."""
    seed: int = 0
    """Of everything random."""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """One transform at growing strengths.

    Attributes:
      name: of the transform.
      unit: of the strength.
      strengths: from weak to strong.
      make: strength -> transform.
      valid: whether the transform is physically valid on the domain; others are shown for comparison.
    """

    name: str
    unit: str
    strengths: tuple[float, ...]
    make: Callable[[float], Any]
    valid: bool = True


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return script(Settings, run, arguments, __doc__, tell=None)


def run(settings: Settings) -> dict[str, Any]:
    """Does what the settings say; returns what it writes to invariance.json."""
    network = nd.load(settings.network)
    swept = sweeps(network.input)
    if not swept:
        raise ValueError(f"there are no transforms for a domain of kind {network.input.kind!r}")
    inputs = natural_inputs(network.input, settings)
    print(f"{settings.network}: {len(inputs)} natural inputs, {settings.draws} draws each")

    together = transforms.default(network.input)
    measured = nd.visualize.invariance(
        network,
        inputs,
        [*(sweep.make(strength) for sweep in swept for strength in sweep.strengths), transforms.compose(*together)],
        key=jax.random.key(settings.seed),
        draws=settings.draws,
        progress=True,
    )
    rows: dict[str, list[dict[str, Any]]] = {}
    left = iter(measured)
    for sweep in swept:
        rows[sweep.name] = [_row(strength, next(left)) for strength in sweep.strengths]
    defaults = _row(0.0, next(left)) | {"strength": None, "transforms": [str(each) for each in together]}
    limits = {sweep.name: limit(rows[sweep.name], settings.most_movement, settings.most_labels) for sweep in swept}

    _print(swept, rows, limits, settings)
    print(f"\nthe defaults together, {', '.join(defaults['transforms'])}:\n  {_verdict(defaults)}\n")
    report = {
        "network": {"name": network.card.get("name", settings.network), "digest": digest(network)},
        "inputs": len(inputs),
        "draws": settings.draws,
        "seed": settings.seed,
        "most_movement": settings.most_movement,
        "most_labels": settings.most_labels,
        "defaults": defaults,
        "transforms": {
            sweep.name: {
                "unit": sweep.unit,
                "valid": sweep.valid,
                "largest": limits[sweep.name],
                "rows": rows[sweep.name],
            }
            for sweep in swept
        },
    }
    settings.out.mkdir(parents=True, exist_ok=True)
    (settings.out / "invariance.json").write_text(
        json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8"
    )
    draw(report, settings.out / "invariance.png")
    print(f"wrote {settings.out / 'invariance.json'} and {settings.out / 'invariance.png'}")
    return report


def sweeps(domain: nd.Domain) -> list[Sweep]:
    """Every transform that makes sense on a domain, and on spectrograms two that do not, for comparison."""
    if domain.kind == "image":
        return _image_sweeps(domain)
    if not domain.is_sound:
        return []
    times = next(axis.values for axis in domain.axes if axis.name == "time")
    step, length = float(times[1] - times[0]), float(times[-1] + times[1] - 2 * times[0])
    parts = tuple(round(length / part, 4) for part in (64, 32, 16, 8, 4) if length / part >= step)
    noises = (-90.0, -80.0, -70.0, -60.0, -50.0, -40.0)
    swept = [
        Sweep("time_shift", "s", parts, transforms.time_shift),
        Sweep("gain", "dB", (1.5, 3.0, 6.0, 12.0, 24.0), transforms.gain),
        Sweep("noise", "dB", noises, transforms.noise),
        Sweep("time_mask", "s", parts, transforms.time_mask),
    ]
    if domain.kind == "waveform":
        return [
            *swept,
            Sweep("band_mask", "Hz", (125.0, 250.0, 500.0, 1000.0, 2000.0), lambda hz: transforms.band_mask(hertz=hz)),
        ]
    bands = tuple(float(count) for count in (1, 2, 4, 8, 16, 32) if count <= domain.shape[0] // 2)
    return [
        *swept,
        Sweep(
            "time_stretch", "factor", (1.025, 1.05, 1.1, 1.2, 1.4), lambda most: transforms.time_stretch(1 / most, most)
        ),
        Sweep("band_mask", "bands", bands, lambda count: transforms.band_mask(int(count))),
        Sweep("blur", "s", tuple(round(step * count, 4) for count in (0.5, 1, 2, 4, 8)), transforms.blur),
        Sweep("bilateral", "s", tuple(round(step * count, 4) for count in (0.5, 1, 2, 4)), transforms.bilateral),
        Sweep(
            "frequency_shift",
            "bands",
            bands,
            lambda count: transforms.frequency_shift(int(count), allow_on_sound=True),
            valid=False,
        ),
        Sweep(
            "rotate",
            "degrees",
            (1.0, 2.0, 5.0, 10.0),
            lambda most: transforms.rotate(most, allow_on_sound=True),
            valid=False,
        ),
    ]


def _image_sweeps(domain: nd.Domain) -> list[Sweep]:
    side = min(domain.shape[:2])
    pixels = tuple(float(count) for count in (1, 2, 4, 8, 16) if count <= side // 4)
    factors = (1.025, 1.05, 1.1, 1.2, 1.4)
    return [
        Sweep("jitter", "px", pixels, lambda count: transforms.jitter(int(count))),
        Sweep("scale", "factor", factors, lambda most: transforms.scale(1 / most, most)),
        Sweep("rotate", "degrees", (1.0, 2.0, 5.0, 10.0, 20.0), transforms.rotate),
        Sweep("blur", "px", (0.25, 0.5, 1.0, 2.0), transforms.blur),
        Sweep(
            "noise",
            "of the range",
            (0.01, 0.02, 0.05, 0.1, 0.2),
            lambda sd: transforms.noise(sd=sd * (domain.high - domain.low)),
        ),
        Sweep("brightness", "of the range", (0.02, 0.05, 0.1, 0.2), transforms.brightness),
        Sweep("contrast", "factor", factors, lambda most: transforms.contrast(1 / most, most)),
    ]


def limit(rows: Sequence[dict[str, Any]], most_movement: float, most_labels: float) -> float | None:
    """The largest strength up to which no row passes a threshold; None when the weakest does already."""
    found = None
    for row in rows:
        if row["movement"] > most_movement or row["labels"] > most_labels:
            break
        found = row["strength"]
    return found


def _row(strength: float, found: nd.visualize.Invariance) -> dict[str, Any]:
    typical = {layer: value for layer, value in found.typical_movement.items() if not math.isnan(value)}
    return {
        "strength": strength,
        "movement": round(found.worst_movement, 4),
        "layers": {layer: round(value, 4) for layer, value in typical.items()},
        "rank_correlation": {layer: round(float(np.nanmedian(found.rank_correlation[layer])), 4) for layer in typical},
        "labels": round(found.worst_labels_changed, 4),
        "heads": {head: round(share, 4) for head, share in found.labels_changed.items()},
    }


def natural_inputs(domain: Any, settings: Any) -> np.ndarray:
    """Inputs of the network, (n, ...), or sounds (n, samples); short sounds stand in the middle of silence.

    `settings` has the fields data_dir, data_set, split, clips and seed.
    """
    if settings.clips < 3:
        raise ValueError(f"clips must be 3 or more, got {settings.clips}")
    rng = np.random.default_rng(settings.seed)
    if settings.data_dir is None:
        if not domain.is_sound:
            raise ValueError("pass --data-dir: there are no procedural inputs for a network that does not hear")
        classes = nd.data.synthetic.CLASSES
        seconds = max(domain.samples / domain.sample_rate, 0.5)
        bank = nd.data.synthetic.bank(
            jax.random.key(settings.seed),
            per_class=-(-settings.clips // len(classes)),
            sample_rate=domain.sample_rate,
            seconds=seconds,
        )
        return nd.audio.fit(bank.waves, domain.samples, policy="pad")[rng.permutation(len(bank))[: settings.clips]]
    found = nd.data.load(
        settings.data_set,
        settings.split,
        manual_dir=settings.data_dir,
        sample_rate=getattr(domain, "sample_rate", None),
    )
    found = found.select(np.sort(rng.permutation(len(found))[: settings.clips]))
    if isinstance(found, nd.data.Images):
        return found.fixed(domain.low, domain.high)
    waves = found.fixed(domain.samples)
    for row, wave in zip(waves, found.waves, strict=True):
        row[:] = np.roll(row, max(0, domain.samples - len(wave)) // 2)
    return waves


def _print(
    swept: Sequence[Sweep], rows: dict[str, list[dict[str, Any]]], limits: dict[str, float | None], settings: Settings
) -> None:
    print(
        f"\nmoved: median unit of the layer that moves most, in sd of the unit over the inputs "
        f"(too much above {settings.most_movement:g}); labels: share that changes in the head that changes most "
        f"(too much above {settings.most_labels:.0%})"
    )
    for sweep in swept:
        largest = limits[sweep.name]
        note = "" if sweep.valid else "  (refused by default)"
        verdict = f"up to {largest:g} {sweep.unit}" if largest is not None else "too much at every strength"
        print(f"\n{sweep.name}: {verdict}{note}")
        for row in rows[sweep.name]:
            print(f"  {row['strength']:8.4g} {sweep.unit:12s} {_verdict(row)}")


def _verdict(row: dict[str, Any]) -> str:
    most = max(row["layers"], key=row["layers"].get, default="")
    return f"moved {row['movement']:6.3f} ({most}), labels {100 * row['labels']:5.1f} %"


def draw(report: dict[str, Any], path: pathlib.Path) -> None:
    """One panel a transform: strength against movement (one line a layer) and changed labels, with both limits."""
    require("matplotlib", "report")
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    colours, found = colormaps["viridis"], report["transforms"]
    columns = min(4, len(found))
    lines = -(-len(found) // columns)
    figure = Figure(figsize=(3.0 * columns, 2.5 * lines), dpi=75, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    for panel in panels[len(found) :]:
        panel.set_visible(False)
    layers = list(dict.fromkeys(layer for sweep in found.values() for row in sweep["rows"] for layer in row["layers"]))
    for place, (panel, (name, sweep)) in enumerate(zip(panels, found.items(), strict=False)):
        across = [f"{row['strength']:g}" for row in sweep["rows"]]
        for index, layer in enumerate(layers):
            values = [row["layers"].get(layer, math.nan) for row in sweep["rows"]]
            panel.plot(across, values, "-", color=colours(0.9 * index / max(1, len(layers) - 1)), lw=1.3, label=layer)
        panel.plot(
            across, [10 * row["labels"] for row in sweep["rows"]], "o--", color=RED, ms=3.5, label="labels changed"
        )
        panel.axhline(report["most_movement"], color="black", lw=0.8, ls=":")
        panel.axhline(10 * report["most_labels"], color=RED, lw=0.8, ls=":")
        panel.set_title(name if sweep["valid"] else f"{name} (refused by default)", fontsize=9)
        panel.set_xlabel(f"strength, {sweep['unit']}", fontsize=8)
        panel.set_ylim(0, 1.5)
        panel.tick_params(labelsize=7)
        if place % columns == 0:
            panel.set_ylabel("moved, sd of the unit", fontsize=8)
        if place % columns == columns - 1 or place == len(found) - 1:
            # A tenth of the inputs with another label stands as high as one standard deviation.
            percent = panel.secondary_yaxis("right", functions=(lambda moved: 10 * moved, lambda share: share / 10))
            percent.tick_params(labelsize=7, colors=RED)
            percent.set_ylabel("labels changed, %", fontsize=8, color=RED)
    panels[0].legend(fontsize=6, loc="upper left")
    figure.suptitle(
        f"{report['network']['name']}: {report['inputs']} natural inputs, {report['draws']} draws", fontsize=10
    )
    figure.savefig(path, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    sys.exit(main())
