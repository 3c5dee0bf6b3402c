"""How fast GANSynth is, beside the same networks with the same weights, written plainly in PyTorch.

    python experiments/benchmark_gansynth.py --write docs                       # about 10 minutes on 2 idle cores
    python experiments/benchmark_gansynth.py --only official --repeats 1

Prints Markdown tables with goals, at the official size and at that of the recipe gansynth-notes: notes a second and how
many times faster than they sound, from latents to pictures and to waves; seconds of a training step (discriminator with
gradient penalty, generator, Adam). Before anything is timed, pictures, waves and gradients of both sides are compared.
Contenders take turns in one process with the same number of threads; a figure is the median of the turns, without
compilation, which is given apart. Without PyTorch (`pip install 'nd_jax[bench]'`) its rows are left out.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from nd_jax import runtime
from nd_jax.experiments.benchmarks.gansynth_cases import GansynthCase, OurStep, gansynth_cases
from nd_jax.experiments.benchmarks.tables import BenchmarkConfig, Row, Section, race, run_parts, torch_side

Part = Literal["official", "small", "official_step", "small_step"]
_COMPARED = 2  # notes of which gradients are compared


@dataclasses.dataclass(frozen=True)
class Config(BenchmarkConfig):
    """What to measure."""

    only: tuple[Part, ...] = ("official", "small", "official_step", "small_step")
    """Parts to run: sampling at a size, or a training step."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the chosen parts; returns the exit status."""
    config = runtime.command_line(Config, arguments, __doc__)
    cases = gansynth_cases(config.tiny)
    parts: dict[str, Callable[[], Section]] = {}
    for name in config.only:
        measure = training if name.endswith("_step") else sampling
        parts[name] = functools.partial(measure, cases[name.removesuffix("_step")], config.repeats)
    run_parts(config, parts, "gansynth.md")
    return 0


def sampling(case: GansynthCase, repeats: int) -> Section:
    """Notes from latents: the generator alone, and with the way to sound."""
    began = time.perf_counter()
    waves = case.waves()
    compiling = time.perf_counter() - began
    runs: dict[str, Callable[[], Any]] = {"networks": case.pictures, "sound": case.waves}
    rows = []
    if torch_side():
        import torch

        from nd_jax.experiments.benchmarks import torch_gansynth

        maker = torch_gansynth.Generator(case.generator, case.variables[0])
        play = torch_gansynth.Sound(case.transform)
        given = torch_gansynth.tensors(case.given())

        @torch.no_grad()
        def theirs(sound: bool) -> Any:
            pictures = maker(given["z"], given["label"])
            return play(pictures) if sound else pictures

        pictures = np.moveaxis(theirs(False).numpy(), 1, -1)
        apart = _apart(
            {"pictures": case.pictures(), "waves": waves}, {"pictures": pictures, "waves": theirs(True).numpy()}
        )
        rows.append(
            Row("largest difference, relative: pictures, waves", " and ".join(f"{a:.0e}" for a in apart.values()))
        )
        runs |= {"torch networks": lambda: theirs(False), "torch sound": lambda: theirs(True)}
    seconds = race(runs, repeats)
    sounding = case.notes * case.transform.samples / case.transform.sample_rate
    figures = {
        run: {"notes_per_second": case.notes / each, "real_time": sounding / each} for run, each in seconds.items()
    }
    words = {"networks": "pictures", "sound": "sound"}
    for run, each in reversed(figures.items()):
        side, kind = ("PyTorch", run.split()[1]) if run.startswith("torch") else ("nd_jax", run)
        told = f"{each['notes_per_second']:.2f} notes/s, {each['real_time']:.1f} x real time"
        goal, met = "", None
        if side == "PyTorch":
            ratio = seconds[run] / seconds[kind]
            told, goal, met = f"{told}: nd_jax is {ratio:.2f} x as fast", "at least 1 x", ratio >= 1
        elif run == "sound" and case.fast:
            goal, met = f"at least {case.fast:.0f} x real time", each["real_time"] >= case.fast
        rows.insert(0, Row(f"{side}, from latents to {words[kind]}", told, goal, met))
    title = f"Sampling. {case.title}, {case.notes} at once"
    return Section(title, tuple(rows), figures, f"The first call, with compilation: {compiling:.1f} s.")


def training(case: GansynthCase, repeats: int) -> Section:
    """One step of training: both players."""
    rows = []
    runs: dict[str, Callable[[], Any]] = {}
    figures: dict[str, Any] = {}
    if torch_side():
        from nd_jax.experiments.benchmarks import torch_gansynth

        theirs = torch_gansynth.Training((case.generator, case.discriminator), case.variables, case.settings)
        few = case.draws(_COMPARED)
        apart = [
            _apart(*pair)
            for pair in zip(case.gradients(few), theirs.gradients(torch_gansynth.tensors(few)), strict=True)
        ]
        figures["apart"] = [max(each.values()) for each in apart]
        told = " and ".join(f"{each:.0e}" for each in figures["apart"])
        rows.append(Row("largest difference of gradients, relative: generator, discriminator", told))
        draws = torch_gansynth.tensors(case.draws(case.batch))
        runs["PyTorch"] = lambda: theirs.step(draws)
    ours = OurStep(case)
    runs = {"nd_jax": ours.step, **runs}
    for run in runs.values():
        run()
    seconds = race(runs, repeats)
    if "PyTorch" in seconds:
        ratio = seconds["PyTorch"] / seconds["nd_jax"]
        rows.insert(
            0,
            Row("PyTorch", f"{seconds['PyTorch']:.2f} s: nd_jax is {ratio:.2f} x as fast", "at least 1 x", ratio >= 1),
        )
    rows.insert(0, Row("nd_jax", f"{seconds['nd_jax']:.2f} s; compiled in {ours.compile_seconds:.0f} s"))
    title = f"A training step. {case.title}, batch {case.batch}"
    return Section(title, tuple(rows), {**figures, "seconds": seconds, "compile_seconds": ours.compile_seconds})


def _apart(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The largest difference of each, over its largest number; what the other side has none of must be 0.

    Raises:
      ValueError: another network altogether.
    """
    found = {}
    for name, values in ours.items():
        largest = float(np.max(np.abs(values)))
        off = float(np.max(np.abs(values - theirs.get(name, np.float32(0.0)))))
        found[name] = off / largest if largest else off
    if max(found.values()) > 0.01:
        worst = max(found, key=lambda name: found[name])
        raise ValueError(f"the two sides are not the same network: {worst} is {found[worst]:.1e} apart")
    return found


if __name__ == "__main__":
    sys.exit(main())
