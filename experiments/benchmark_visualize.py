"""How fast `visualize_batch` is: beside PyTorch in the same run, over a whole network, and as units and devices grow.

    python experiments/benchmark_visualize.py                              # all parts, about 6 minutes on 2 idle cores
    python experiments/benchmark_visualize.py --only discriminator mel     # the comparisons with PyTorch
    python experiments/benchmark_visualize.py --out speed.json --write docs

Prints Markdown tables with goals. Contenders take turns and have the same number of threads; a figure is the median of
the turns, without compilation, which is given apart. Without PyTorch (`pip install 'nd_jax[bench]'`) its rows are left
out. On a machine with a GPU the part `accelerator` compares with PyTorch there.
"""

from __future__ import annotations

import dataclasses
import functools
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from nd_jax import runtime
from nd_jax.experiments.benchmarks import scale, whole
from nd_jax.experiments.benchmarks.accelerator import accelerator
from nd_jax.experiments.benchmarks.cases import Case, discriminator_case, googlenet_case, mel_case
from nd_jax.experiments.benchmarks.tables import (
    BenchmarkConfig,
    Row,
    Section,
    race,
    run_parts,
    torch_side,
)

Part = Literal["import", "discriminator", "mel", "googlenet", "digits", "sweep", "growth", "chunks", "accelerator"]


@dataclasses.dataclass(frozen=True)
class Config(BenchmarkConfig):
    """What to measure."""

    only: tuple[Part, ...] = (
        "import",
        "discriminator",
        "mel",
        "googlenet",
        "digits",
        "sweep",
        "growth",
        "chunks",
        "accelerator",
    )
    """Parts to run."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the chosen parts; returns the exit status."""
    config = runtime.command_line(Config, arguments, __doc__)

    def plot(found: Mapping[str, Section], blocks: dict[str, str]) -> None:
        if "growth" in found:
            scale.plot_growth(found["growth"].figures, config.write / "images" / "units_per_second.png")  # type: ignore[operator]
            blocks["growth"] += "\n\n![Units per second against units optimised together](images/units_per_second.png)"

    run_parts(config, {part: functools.partial(PARTS[part], config) for part in config.only}, "speed.md", plot)
    return 0


# --- import -----------------------------------------------------------------------------------------------------------


def import_time(config: Config) -> Section:
    """Seconds of `import nd_jax` with every public name, beyond its core packages; the quickest of five processes."""
    code = (
        "import time, jax, flax.linen, optax, chex, numpy; start = time.perf_counter(); import nd_jax; "
        "[getattr(nd_jax, name) for name in nd_jax.__all__]; print(time.perf_counter() - start)"
    )
    count = 1 if config.tiny else 5
    best = min(float(subprocess.check_output([sys.executable, "-c", code], text=True)) for _ in range(count))
    row = Row("import of every public name beyond jax, flax, optax, chex", f"{best:.2f} s")
    return Section("import nd_jax", (row,), {"seconds": best})


# --- beside PyTorch ---------------------------------------------------------------------------------------------------


def discriminator(config: Config) -> Section:
    """Against the source's loop and against a hand-made batch."""
    title = "128 channels of the DCGAN discriminator's second convolution, 300 steps"
    loops = {"the source's loop, one unit at a time": ("source_loop", 15.0)}
    return _beside_torch(config, discriminator_case(config.tiny), title, loops, 2.0, "at least 2 x", 4)


def mel(config: Config) -> Section:
    """Against a hand-made batch and against the usual way."""
    title = "32 channels of CNN-mel's 128 -> 256 convolution (40 x 80 x 256), 16 steps"
    loops = {"the usual way (hook, whole forward pass, one unit at a time)": ("usual_loop", None)}
    return _beside_torch(config, mel_case(config.tiny), title, loops, 1 / 1.3, "within 1.3 x (0.77)", 2)


def googlenet(config: Config) -> Section:
    """A picture of 224 x 224 as far as inception3a, against a hand-made batch and against the usual way of doing it."""
    title = "8 channels of GoogLeNet's inception3a at 224 x 224, 8 steps"
    section = _beside_torch(config, googlenet_case(config.tiny), title, {}, 1 / 1.3, "within 1.3 x (0.77)", 2)
    steps, units = (2, 8) if config.tiny else (8, 8)
    rows = [
        Row(f"a step of one picture, {name}", f"{1e3 * seconds / steps / units:.1f} ms")
        for name, seconds in section.figures["seconds"].items()
    ]
    return dataclasses.replace(section, rows=(*section.rows, *rows))


def _beside_torch(
    config: Config,
    case: Case,
    title: str,
    loops: Mapping[str, tuple[str, float | None]],
    least: float,
    goal: str,
    sample: int,
) -> Section:
    """Ours, a PyTorch batch by hand, and PyTorch loops over units, of which `sample` are run and the rest reckoned."""
    compile_seconds = case.warm()
    runs: dict[str, Callable[[], Any]] = {"nd_jax": case.run}
    scores: dict[str, Any] = {"nd_jax": None}
    peers = torch_side()
    count = len(case.units)
    if peers:
        recipe, starts = peers.Recipe(**case.recipe), case.starts()

        def contender(way: str, units: tuple[int, ...]) -> Callable[..., Any]:
            twin = peers.network(case.network.module, case.network.variables)
            run = getattr(peers, way)
            run(twin, case.layer, units[:1], starts[:1], 2, recipe)
            return functools.partial(run, twin, case.layer, units, starts[: len(units)], case.steps, recipe)

        runs["batched"] = contender("batched", case.units)
        runs |= {way: contender(way, case.units[:sample]) for way, _ in loops.values()}

    def keeping(name: str) -> Callable[[], None]:
        return lambda: scores.__setitem__(name, runs[name]())

    seconds = race({name: keeping(name) for name in runs}, config.repeats)
    for way, _ in loops.values():
        if way in seconds:
            seconds[way] *= count / sample
    work = count * case.steps
    ours = np.asarray(scores.pop("nd_jax").scores)
    ratios = {name: seconds[name] / seconds["nd_jax"] for name in seconds if name != "nd_jax"}

    def told(name: str) -> str:
        pace = f"{seconds[name]:.2f} s, {work / seconds[name]:,.0f} unit-steps/s"
        return pace + (f": nd_jax is {ratios[name]:.2f} x as fast" if name in ratios else "")

    rows = [Row("nd_jax", f"{told('nd_jax')}; compiled in {compile_seconds:.1f} s")]
    if peers:
        what = f"PyTorch, the {count} inputs batched by hand, the network cut after the layer"
        rows.append(Row(what, told("batched"), goal, ratios["batched"] >= least))
        for name, (way, times) in loops.items():
            wanted, met = (f"at least {times:.0f} x", ratios[way] >= times) if times else ("", None)
            rows.append(Row(f"PyTorch, {name} ({sample} of {count} units timed)", told(way), wanted, met))
        apart = max(float(np.max(np.abs(ours[: len(s)] - s)) / np.max(np.abs(s))) for s in scores.values())
        rows.append(Row("largest difference of the last scores between contenders, relative", f"{apart:.1e}"))
    return Section(
        title, tuple(rows), {"seconds": seconds, "ratios": ratios, "compile_seconds": compile_seconds, "units": count}
    )


PARTS: dict[str, Callable[[Config], Section]] = {
    "import": import_time,
    "discriminator": discriminator,
    "mel": mel,
    "googlenet": googlenet,
    "digits": lambda config: whole.digits(config.tiny, config.repeats),
    "sweep": lambda config: scale.sweep(config.tiny),
    "growth": lambda config: scale.growth(config.tiny),
    "chunks": lambda config: scale.chunks(config.tiny),
    "accelerator": lambda config: accelerator(config.tiny, config.repeats),
}


if __name__ == "__main__":
    sys.exit(main())
