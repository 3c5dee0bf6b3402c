"""Visualizes every unit of every layer of a network, kept on disk as it goes; the same command goes on after a kill.

    python experiments/sweep.py --network checkpoints/spoken_digits --out out/sweep
    python experiments/sweep.py --network my_googlenet --until-converged --out out/googlenet
    python experiments/sweep.py --network checkpoints/instrument_notes --tuned out/settings/settings.json

Results without pages, part by part, for networks with thousands of units; `nd.visualize.open_sweep(OUT)` reads them.
experiments/visualize.py makes the atlas of a small network.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax

import nd_jax as nd
from nd_jax.runtime import command_line, enable_compilation_cache


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to sweep, for how long, and where to keep it."""

    network: str = "checkpoints/instrument_notes"
    """A folder that Network.save wrote, or the name of a shipped network."""
    layers: tuple[str, ...] = ()
    """Layer names; by default every layer that has weights of its own."""
    units: int | None = None
    """At most so many units of each layer (the first ones); by default all."""
    steps: int = 512
    """Optimizer steps for each unit."""
    until_converged: bool = False
    """Units stop when they have converged, and others take their places; steps is then the most."""
    tuned: pathlib.Path | None = None
    """Penalties and transforms from experiments/tune_settings.py; it must have all layers."""
    snapshots: int = 2
    """How many inputs of the way to keep."""
    units_per_part: int | None = None
    """Units that are run and kept together; by default 64, fewer where inputs are large."""
    seed: int = 0
    """Of everything random."""
    anew: bool = False
    """Throw away what the folder has of these layers."""
    out: pathlib.Path = pathlib.Path("out/sweep")
    """The folder to write, and to go on with."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status, 130 after Ctrl-C."""
    settings = command_line(Settings, arguments, __doc__)
    enable_compilation_cache()
    try:
        found = run(settings)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"nd.visualize.open_sweep({str(found.folder)!r})")
    return 130 if found.interrupted else 0


def run(settings: Settings) -> nd.visualize.Sweep:
    """Runs what is missing, and tells what became of each layer's units."""
    began = time.perf_counter()
    network = nd.load(settings.network)
    chosen = None if settings.tuned is None else nd.tuning.load(settings.tuned).check(network)

    def of(layer: str) -> dict[str, Any]:
        given = {} if chosen is None else chosen(layer)
        stop = nd.visualize.converged() if settings.until_converged else None
        return {**given, "steps": settings.steps, "snapshots": settings.snapshots, "stop_when": stop}

    found = nd.visualize.sweep(
        network,
        settings.out,
        key=jax.random.key(settings.seed),
        layers=settings.layers or None,
        units=settings.units,
        settings=of,
        resume=not settings.anew,
        units_per_part=settings.units_per_part,
    )
    for layer, units in found.planned.items():
        ended: Counter[str] = Counter()
        steps = 0
        for part in found.parts(layer):
            ended.update(part.stopped)
            steps += int(part.steps_done.sum())
        words = ", ".join(f"{count} {word}" for word, count in sorted(ended.items()))
        count = sum(ended.values())
        print(f"{layer}: {count} of {len(units)} units, {steps / max(count, 1):.0f} steps each; {words}")
    print(f"{found!r} in {time.perf_counter() - began:.0f} s" + (", interrupted" if found.interrupted else ""))
    return found


if __name__ == "__main__":
    sys.exit(main())
