"""How near do nd_jax's methods come to the truth? Networks with planted units, whose preferences are known.

python experiments/truth_bench.py --seeds 11 12 13          # a page at out/truth/index.html
python experiments/truth_bench.py --chapters attribution    # one chapter alone
python experiments/truth_bench.py --quick                   # a small run of every part, for tests
"""

from __future__ import annotations

import dataclasses
import pathlib
import shlex
import sys
import time
from collections.abc import Sequence
from typing import Literal

import jax

from nd_jax.bench import (
    attribution,
    attribution_cues,
    attribution_methods,
    attribution_networks,
    attribution_segments,
    attribution_sounds,
    attribution_story,
    page,
    planted,
    story,
    visualization,
)
from nd_jax.bench.chapter import Chapter, Tell
from nd_jax.runtime import script

Name = Literal["visualization", "attribution"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure, and where to put the report."""

    seeds: tuple[int, ...] = (1, 2, 3)
    """Each draws its own templates, weights and networks."""
    steps: int = 512
    """Optimizer steps for each unit; recipes are compared at half as many."""
    chapters: tuple[Name, ...] = ("visualization", "attribution")
    """What to measure."""
    quick: bool = False
    """Small networks, few steps, two recipes: shows that everything runs, not how good it is."""
    out: pathlib.Path = pathlib.Path("out/truth")
    """The folder to write."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status, which is 0 also when a requirement is not met."""
    given = sys.argv[1:] if arguments is None else arguments
    command = " ".join(["python experiments/truth_bench.py", *map(shlex.quote, given)])
    return script(Settings, lambda settings: run(settings, command), arguments, __doc__)


def run(settings: Settings, command: str = "python experiments/truth_bench.py") -> pathlib.Path:
    """Does what the settings say; returns the path of the page."""
    if not settings.seeds or settings.steps < 16:
        raise ValueError(f"at least one seed and 16 steps are needed, got {settings.seeds} and {settings.steps}")
    began = time.perf_counter()
    found = [_CHAPTERS[name](settings, lambda line: print(line, flush=True)) for name in settings.chapters]
    seconds = time.perf_counter() - began
    for each in found:
        print(f"\n{each.title}\n\n{each.text}\n")
    return page.write(found, settings.out, command=command, seconds=seconds)


def _visualization(settings: Settings, tell: Tell) -> Chapter:
    size = planted.QUICK if settings.quick else planted.Size()
    keys = {seed: jax.random.key(seed) for seed in settings.seeds}
    measured = visualization.measure_all(
        keys,
        size,
        tell,
        steps=min(settings.steps, 24) if settings.quick else settings.steps,
        quick=settings.quick,
    )
    return story.chapter(measured)


def _attribution(settings: Settings, tell: Tell) -> Chapter:
    size = attribution_sounds.QUICK if settings.quick else attribution_sounds.Size()
    effort = attribution_methods.Effort(size.window)
    if settings.quick:
        effort = dataclasses.replace(effort, masks=64, share=0.02, samples=8)
    methods = attribution_methods.methods(settings.quick)
    networks = ("cells", "saturated") if settings.quick else attribution_networks.NAMES
    keys = {seed: jax.random.key(seed) for seed in settings.seeds}
    measured = attribution.measure(keys, size, tell, effort=effort, methods=methods, networks=networks)
    cues = attribution_cues.measure(keys, size, tell, effort=effort)
    plain = [method for method in methods if not method.name.startswith("occlusion, ")]
    segments = attribution_segments.measure(
        keys,
        size,
        tell,
        effort=effort,
        methods=plain[:1] if settings.quick else plain,
        masks=300 if settings.quick else 3000,
        networks=networks[:1] if settings.quick else attribution_segments.NAMES,
    )
    return attribution_story.chapter(measured, cues, segments)


_CHAPTERS = {"visualization": _visualization, "attribution": _attribution}


if __name__ == "__main__":
    sys.exit(main())
