"""How fast GANs train: beside PyTorch in the same run, on one device and two, and on an accelerator when there is one.

    python experiments/benchmark_train.py                              # all parts
    python experiments/benchmark_train.py --only dcgan wgan            # two of the comparisons
    python experiments/benchmark_train.py --out train.json --write docs
    python experiments/benchmark_train.py --trace traces --only dcgan  # what host and devices do, for TensorBoard

Prints Markdown tables with goals. Contenders take turns and have the same number of threads; a figure is the median of
the turns, without compilation, which is given apart. Without PyTorch (`pip install 'nd_jax[bench]'`) its rows are left
out. The part `accelerator` runs where JAX sees one.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax

from nd_jax import runtime
from nd_jax.experiments.benchmarks.accelerator import peak_operations
from nd_jax.experiments.benchmarks.gan_cases import GanCase, Ours, gan_cases
from nd_jax.experiments.benchmarks.tables import (
    BenchmarkConfig,
    Row,
    Section,
    limit_threads,
    peak_resident,
    race,
    run_parts,
    torch_side,
)

Part = Literal["dcgan", "wgan", "wavegan", "mel", "devices", "accelerator"]
_TRAININGS = {"dcgan": ("200 epochs of DCGAN", 200 * 187), "wgan": ("100 epochs of WGAN-GP", 100 * 187)}


@dataclasses.dataclass(frozen=True)
class Config(BenchmarkConfig):
    """What to measure."""

    only: tuple[Part, ...] = ("dcgan", "wgan", "wavegan", "mel", "devices", "accelerator")
    """Parts to run."""
    repeats: int = 7
    """Turns of each contender; the median counts."""
    trace: pathlib.Path | None = None
    """Also write a profiler's trace of ten steps of each comparison into this folder."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the chosen parts; returns the exit status."""
    config = runtime.command_line(Config, arguments, __doc__)
    run_parts(config, {part: functools.partial(PARTS[part], config) for part in config.only}, "training_speed.md")
    return 0


def beside_torch(config: Config, name: str) -> Section:
    """One GAN's step against eager PyTorch on the CPU."""
    case = gan_cases(config.tiny)[name]
    ours = Ours(case)
    ours.step()
    runs: dict[str, Callable[[], None]] = {"nd_jax": ours.step}
    if torch_side():
        from nd_jax.experiments.benchmarks import torch_gans

        runs["PyTorch"] = torch_gans.step_of(case)
        runs["PyTorch"]()
    seconds = race(runs, config.repeats)
    told = f"{seconds['nd_jax']:.3f} s; compiled in {ours.compile_seconds:.1f} s, needs {ours.memory / 2**20:.0f} MiB"
    rows = [Row("nd_jax", told)]
    if "PyTorch" in seconds:
        ratio = seconds["PyTorch"] / seconds["nd_jax"]
        goal = "" if case.goal is None else f"at least {case.goal:.2g} x"
        met = None if case.goal is None else ratio >= case.goal
        rows.append(Row("PyTorch eager", f"{seconds['PyTorch']:.3f} s: nd_jax is {ratio:.2f} x as fast", goal, met))
    if config.trace:
        with jax.profiler.trace(str(config.trace / name)):
            for _ in range(10):
                ours.step()
    return Section(case.title, tuple(rows), {"seconds": seconds, "compile_seconds": ours.compile_seconds})


def devices(config: Config) -> Section:
    """Steps a second and memory on one device and two: two virtual halves of a CPU, or two accelerators."""
    rows, figures = [], {}
    for count in (1, 2):
        environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(count)}
        command = [sys.executable, __file__, "--measure", str(count), str(int(config.tiny)), str(config.threads)]
        output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
        told = json.loads(output.splitlines()[-1])
        figures[str(count)] = told
        for name, item in told.items():
            rows.append(
                Row(
                    f"{name} on {count} device{'s' * (count > 1)}",
                    f"{item['rate']:.2f} steps/s, {item['memory'] / 2**20:.0f} MiB a device, "
                    f"the process {item['resident'] / 2**20:.0f} MiB, host {100 * item['host']:.2f} % of a step",
                )
            )
    note = (
        "The whole batch is the same on one device and on two. On a CPU the two devices are halves of one processor. "
        "The process's memory is its peak, of the second GAN with the first one's in it. *Host* is the time until a "
        "step has been handed over, which the devices spend on the step before."
    )
    return Section("One device and two", tuple(rows), figures, note)


def measure(count: int, tiny: bool) -> dict[str, Any]:
    """What `devices` asks of a process with so many devices."""
    found = {}
    for name in ("dcgan", "wgan"):
        ours = Ours(gan_cases(tiny)[name], devices=min(count, jax.local_device_count()))
        ours.step()
        steps = 2 if tiny else 5
        began = time.perf_counter()
        host = 0.0
        for _ in range(steps):
            handed = time.perf_counter()
            ours.start()
            host += time.perf_counter() - handed
            jax.block_until_ready(ours.metrics)
        seconds = time.perf_counter() - began
        found[name] = {
            "rate": steps / seconds,
            "memory": ours.memory,
            "resident": peak_resident(),
            "host": host / seconds,
        }
    return found


def accelerator(config: Config) -> Section:
    """Examples a second and the share of the measured peak on a GPU or TPU, PyTorch eager and compiled beside it."""
    title = "On an accelerator"
    if jax.default_backend() == "cpu" and not config.tiny:
        return Section(title, (Row("not measured", "JAX sees no accelerator on this machine"),), {})
    peak = peak_operations(config.tiny)
    rows = [Row("measured peak, a chain of float32 matrix products", f"{peak / 1e12:.2f} TFLOP/s")]
    figures: dict[str, Any] = {"peak": peak}
    for name, case in gan_cases(config.tiny).items():
        for precision in ("float32", "bfloat16"):
            settings = dataclasses.replace(case.settings, precision=precision)
            rows += _on_accelerator(config, name, dataclasses.replace(case, settings=settings), peak, figures)
    return Section(title, tuple(rows), figures)


def _on_accelerator(config: Config, name: str, case: GanCase, peak: float, figures: dict[str, Any]) -> list[Row]:
    calls = 2 if config.tiny else 8
    ours = Ours(case, steps=calls)
    ours.step()
    runs: dict[str, Callable[[], None]] = {"nd_jax": ours.step}
    if torch_side(say=False) and case.settings.precision == "float32":
        import torch

        from nd_jax.experiments.benchmarks import torch_gans

        torch.set_float32_matmul_precision("high")
        if torch.cuda.is_available():
            for way, compiled in (("PyTorch eager", False), ("torch.compile", True)):
                runs[way] = torch_gans.step_of(case, compiled)
                for _ in range(3):
                    runs[way]()
    seconds = race(runs, config.repeats)
    seconds["nd_jax"] /= calls
    share = ours.operations / seconds["nd_jax"] / peak
    what = f"{name}, {case.settings.precision}"
    figures[what] = {"seconds": seconds, "share": share, "compile_seconds": ours.compile_seconds}
    rows = []
    for way, value in seconds.items():
        told = f"{case.settings.batch_size / value:,.0f} examples/s, {1e3 * value:.2f} ms a step"
        if way == "nd_jax":
            told += f", {100 * share:.1f} % of the peak"
        if name in _TRAININGS:
            words, steps = _TRAININGS[name]
            told += f"; {words} would take {steps * value / 60:.1f} min"
        rows.append(Row(f"{what}, {way}", told))
    return rows


PARTS: dict[str, Callable[[Config], Section]] = {
    "dcgan": lambda config: beside_torch(config, "dcgan"),
    "wgan": lambda config: beside_torch(config, "wgan"),
    "wavegan": lambda config: beside_torch(config, "wavegan"),
    "mel": lambda config: beside_torch(config, "mel"),
    "devices": devices,
    "accelerator": accelerator,
}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        number, small, cores = map(int, sys.argv[2:])
        limit_threads(cores)
        print(json.dumps(measure(number, bool(small))))
        sys.exit(0)
    sys.exit(main())
