"""Which parameterization climbs fastest, and how high? The same units and steps through several, side by side.

    python experiments/compare_parameterizations.py --data-dir notes --data-set instrument_notes

Scores are standard deviations of a unit's activation above its mean on natural sounds, with the demo's prior for
silence. Prints, for each layer and parameterization, the final score, the climb beside that of the first (plain
`fourier`), and the steps to 90 % of the own climb and of the first one's. A higher score is not a truer picture: that
is what the truth bench is for. 10 minutes for 2 layers of 16 units, 160 steps.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

import nd_jax as nd
from nd_jax.data.loading import DataSet
from nd_jax.experiments.invariance import natural_inputs
from nd_jax.runtime import script


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is optimized, and for how long."""

    network: str = "checkpoints/instrument_notes"
    """A folder that Network.save wrote, or the name of a shipped network; its input is a log-mel spectrogram."""
    layers: tuple[str, ...] = ()
    """Layer names; by default the second and the last but one that have weights."""
    units: int = 16
    """The first so many of each layer."""
    steps: int = 160
    """Optimizer steps."""
    every: int = 5
    """Steps between two readings of the score."""
    quiet: float = 0.3
    """Silence prior, as in experiments/visualize.py."""
    data_dir: pathlib.Path | None = None
    """Natural sounds; by default the procedural sound bank."""
    data_set: DataSet = "audio_folder"
    """How to read data_dir."""
    split: str = "all"
    """Which part of the data set."""
    clips: int = 512
    """At most so many natural sounds."""
    seed: int = 0
    """Of everything random."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return script(Settings, run, arguments, __doc__, tell=None)


def run(settings: Settings) -> list[dict[str, Any]]:
    """Does what the settings say; returns one row for each layer and parameterization."""
    network = nd.load(settings.network)
    if not isinstance(network.input, nd.domain.LogMel):
        raise ValueError(f"this compares parameterizations of log-mel spectrograms, not of {network.input.kind!r}")
    waves = natural_inputs(network.input, settings)
    inputs = np.concatenate(
        [np.asarray(network.input.from_wave(waves[at : at + 64])) for at in range(0, len(waves), 64)]
    )
    domain = nd.domain.with_statistics(network.input, inputs)
    network = dataclasses.replace(network, input=domain)
    scale = nd.parameterizations.natural_scale(domain, inputs)
    rows, columns = scale.axis_scale
    print(
        f"natural scale: frequency x {rows:.2f}, time x {columns:.2f}, decay {scale.decay:.2f}, "
        f"{scale.explained:.0%} of the log spectrum explained; {scale.octaves_per_second(domain):.2f} octaves a second"
    )
    known = tuple(nd.taps.weighted_layers(network))
    found = []
    for layer in settings.layers or tuple(
        dict.fromkeys((known[min(1, len(known) - 1)], known[max(len(known) - 2, 0)]))
    ):
        scores = _climb(network, inputs, layer, candidates(scale.axis_scale), settings)
        found += [{"layer": layer, **row} for row in summary(scores, settings.every)]
    return found


def candidates(axis_scale: tuple[float, float]) -> dict[str, Any]:
    """The parameterizations that are compared, by name."""
    fourier = nd.parameterizations.fourier
    return {
        "fourier": fourier(),
        "fourier, bands by covariance": fourier(bands="covariance"),
        "fourier, natural axes": fourier(axis_scale=axis_scale),
        "fourier, natural axes the other way": fourier(axis_scale=axis_scale[::-1]),
        "fourier, start at band mean": fourier(start="mean"),
        "fourier, white": fourier(0.0),
        "pixels": nd.parameterizations.pixels(),
    }


def summary(scores: Mapping[str, np.ndarray], every: int) -> list[dict[str, Any]]:
    """One row for each name of scores, (readings, units); medians over the units.

    `climb` and `steps_to_first` compare with the first name: how high the others climb above its start, and after how
    many steps they stand at 90 % of its climb (infinite for never).
    """
    first = next(iter(scores.values()))
    start, climb = first[0], first[-1] - first[0]
    return [
        {
            "parameterization": name,
            "final": float(np.median(each[-1])),
            "climb": float(np.median((each[-1] - start) / climb)),
            "steps_to_own": _steps_to(each, each[0] + 0.9 * (each[-1] - each[0]), every),
            "steps_to_first": _steps_to(each, start + 0.9 * climb, every),
        }
        for name, each in scores.items()
    ]


def _steps_to(scores: np.ndarray, target: np.ndarray, every: int) -> float:
    reached = scores >= target
    return float(np.median(np.where(reached.any(axis=0), reached.argmax(axis=0) * float(every), np.inf)))


def _climb(
    network: nd.Network, inputs: np.ndarray, layer: str, made: Mapping[str, Any], settings: Settings
) -> dict[str, np.ndarray]:
    """{name: (readings, units) scores in standard deviations above the natural mean}."""
    exemplars = nd.dissect.exemplars(network, inputs=inputs, layers=[layer], progress=False)
    live = np.flatnonzero(~exemplars.constant[layer])[: settings.units]
    means = np.concatenate(
        [
            np.asarray(nd.taps.read(network, inputs[at : at + 64], layer)[layer])
            .reshape(len(inputs[at : at + 64]), -1, len(exemplars.spread[layer]))
            .mean(axis=1)
            for at in range(0, len(inputs), 64)
        ]
    )[:, live]
    quiet = settings.quiet * float(np.median(exemplars.spread[layer]))
    scores = {}
    for name, parameterization in made.items():
        result = nd.visualize_batch(
            network,
            nd.objectives.channel(layer, live),
            key=jax.random.key(settings.seed),
            parameterization=parameterization,
            penalties=(nd.penalties.silence(weight=quiet),),
            steps=settings.steps,
            snapshots=range(0, settings.steps + 1, settings.every),
            progress=False,
        )
        scores[name] = (np.asarray(result.history) - means.mean(axis=0)) / means.std(axis=0)
        row = summary({next(iter(scores)): next(iter(scores.values())), name: scores[name]}, settings.every)[-1]
        print(
            f"{layer:14s} {name:36s} {row['final']:6.2f} sd, {row['climb']:5.2f} of the first climb; "
            f"90 % of its own after {row['steps_to_own']:4.0f} steps, "
            f"90 % of the first's after {row['steps_to_first']:4.0f}",
            flush=True,
        )
    return scores


if __name__ == "__main__":
    sys.exit(main())
