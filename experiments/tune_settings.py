"""Chooses how strong regularisation has to be in each layer, by the network's own activations (docs/settings.md).

    python experiments/tune_settings.py                 # the shipped instrument-note network, about 10 minutes
    python experiments/tune_settings.py --network checkpoints/spoken_digits --data-dir digits --data-set spoken_digits
    python experiments/tune_settings.py --layers block2/conv --units 16 --steps 128

Writes settings.json for `nd.tuning.load`, and the curve of every layer as curves.png.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

import nd_jax as nd
from nd_jax.data.loading import DataSet
from nd_jax.experiments import visualize
from nd_jax.experiments.visualize_cards import natural_inputs
from nd_jax.runtime import require, script


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to tune, on what, and where to put it."""

    network: str = "checkpoints/instrument_notes"
    """A folder that Network.save wrote, or the name of a shipped network."""
    layers: tuple[str, ...] = ()
    """Layer names; by default every layer that has weights of its own."""
    units: int = 32
    """At most so many units of each layer, spread over it; half of them choose."""
    steps: int = 256
    """Optimizer steps for each unit and candidate."""
    data_dir: pathlib.Path | None = None
    """Natural recordings; by default samples of a generator or the procedural sound bank."""
    data_set: DataSet = "audio_folder"
    """How to read data_dir."""
    clips: int = 1024
    """At most so many natural inputs."""
    until_converged: bool = True
    """Candidates leave when they have converged."""
    seed: int = 0
    """Of everything random."""
    out: pathlib.Path = pathlib.Path("out/settings")
    """The folder to write."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return script(Settings, run, arguments, __doc__, tell=lambda path: f"nd.tuning.load({str(path)!r})")


def run(settings: Settings) -> pathlib.Path:
    """Tunes every layer; returns the path of settings.json."""
    if settings.units < 4 or settings.steps < 1:
        raise ValueError(f"4 units and 1 step or more are needed, got {settings.units} and {settings.steps}")
    began = time.perf_counter()
    network = nd.load(settings.network)
    known = nd.taps.weighted_layers(network)
    for layer in settings.layers:
        nd.taps.layer_shape(network, layer)
    found, _ = visualize._natural(
        network,
        visualize.Settings(
            network=settings.network,
            data_dir=settings.data_dir,
            data_set=settings.data_set,
            clips=settings.clips,
            seed=settings.seed,
        ),
    )
    if found is None:
        raise ValueError("settings are chosen against natural inputs: pass --data-dir")
    natural = natural_inputs(network.input, found)
    tuned: list[nd.tuning.Tuned] = []
    for layer in settings.layers or tuple(known):
        width = nd.taps.layer_shape(network, layer)[-1]
        if width < 4:
            print(f"{layer}: {width} units are too few to tune on half of them, left out")
            continue
        units = np.unique(np.linspace(0, width - 1, min(width, settings.units)).round().astype(int))
        started = time.perf_counter()
        tuned.append(
            nd.tuning.tune(
                network,
                layer,
                natural,
                key=jax.random.key(settings.seed),
                units=units.tolist(),
                steps=settings.steps,
                stop_when=nd.visualize.converged() if settings.until_converged else None,
            )
        )
        seconds = time.perf_counter() - started
        print(f"{tuned[-1].words()}; {len(units)} units x {len(tuned[-1].strengths)} candidates in {seconds:.0f} s")
        # A run that ends early leaves what it has.
        path = nd.tuning.save(settings.out / "settings.json", network, tuned)
    if not tuned:
        raise ValueError("no layer was tuned")
    draw(tuned, settings.out / "curves.png")
    print("\n" + table(tuned))
    print(f"\n{len(tuned)} layers in {time.perf_counter() - began:.0f} s")
    return path


def table(tuned: Sequence[nd.tuning.Tuned]) -> str:
    """The choice of every layer and what it is worth on the units held out, as Markdown."""
    knobs = tuned[0].knobs
    lines = [
        "| layer | " + " | ".join(knobs) + " | distance, units held out | without | best on them "
        "| score over the highest natural one | without |",
        "|" + "---|" * (len(knobs) + 6),
    ]
    for item in tuned:
        chosen = [f"{value:g}" for value in item.strengths[item.chosen]]
        numbers = (item.held_out[item.chosen], item.held_out[0], item.held_out.min())
        scores = (item.score[item.chosen], item.score[0])
        cells = [item.layer, *chosen, *(f"{value:.3f}" for value in numbers), *(f"{value:.2f}" for value in scores)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(tuned: Sequence[nd.tuning.Tuned], path: pathlib.Path) -> None:
    """Distance against strength, a row a layer and a column a knob; the other knobs as chosen."""
    require("matplotlib", "report")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = max(len(item.knobs) for item in tuned)
    figure = Figure(figsize=(4.2 * columns, 2.6 * len(tuned)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(tuned), columns, squeeze=False)
    for row, item in zip(axes, tuned, strict=True):
        for place, (axis, knob) in enumerate(zip(row, item.knobs, strict=True)):
            _curve(axis, item, place, knob)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _curve(axis: Any, item: nd.tuning.Tuned, place: int, knob: str) -> None:
    best = item.strengths[item.chosen]
    others = [column for column in range(len(item.knobs)) if column != place]
    along = np.flatnonzero((item.strengths[:, others] == best[others]).all(axis=1))
    along = along[np.argsort(item.strengths[along, place], kind="stable")]
    ticks = np.arange(len(along))
    axis.plot(ticks, item.tuning[along], "o-", label="units that chose")
    axis.plot(ticks, item.held_out[along], "s--", label="units held out")
    axis.axvline(int(np.flatnonzero(along == item.chosen)[0]), color="0.7", zorder=0)
    axis.set_xticks(ticks, [f"{value:g}" for value in item.strengths[along, place]])
    share = "how often applied" if knob == "transforms" else "strength, spreads of a unit's natural activation"
    axis.set_xlabel(f"{knob}: {share}", fontsize=7)
    axis.set_ylabel("kernel distance", fontsize=8)
    axis.set_title(item.layer, fontsize=9)
    axis.legend(fontsize=6)


if __name__ == "__main__":
    sys.exit(main())
