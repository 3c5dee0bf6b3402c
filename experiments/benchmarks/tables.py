"""What the benchmark scripts share: tables with goals, the line about the machine, and putting both into a document."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import jax

import nd_jax as nd
from nd_jax import runtime


def peak_resident() -> int:
    """The most memory that this process has had so far, in bytes.

    `getrusage` will not do on Linux: a new process begins there with the peak of the one that started it.
    """
    status = pathlib.Path("/proc/self/status")
    if status.is_file():
        return 1024 * int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@dataclasses.dataclass(frozen=True)
class BenchmarkConfig:
    """What every benchmark's command line takes; each adds the parts it has."""

    threads: int = 2
    """Processor cores for each contender; 0 for all."""
    repeats: int = 3
    """Turns of each contender; the median counts."""
    out: pathlib.Path | None = None
    """Write all figures to this JSON file."""
    write: pathlib.Path | None = None
    """Bring the tables in this folder of documents up to date."""
    tiny: bool = False
    """Tiny sizes: a check that everything runs. The figures mean nothing."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
      what, figure: text.
      goal: text; empty where there is none.
      met: whether the goal is met; None where there is none.
    """

    what: str
    figure: str
    goal: str = ""
    met: bool | None = None


@dataclasses.dataclass(frozen=True)
class Section:
    """What one part of a benchmark found.

    Attributes:
      title: one line.
      rows: the table.
      figures: all numbers, JSON-ready.
      note: a paragraph under the table.
    """

    title: str
    rows: tuple[Row, ...]
    figures: Mapping[str, Any]
    note: str = ""

    def markdown(self) -> str:
        """The title in bold, the table, the note."""
        goals = any(row.goal for row in self.rows)
        lines = [f"**{self.title}**", ""]
        lines += (
            ["| what | figure | goal | met |", "|---|---|---|---|"] if goals else ["| what | figure |", "|---|---|"]
        )
        for row in self.rows:
            met = {None: "", True: "yes", False: "**no**"}[row.met]
            lines.append(f"| {row.what} | {row.figure} |" + (f" {row.goal} | {met} |" if goals else ""))
        return "\n".join(lines) + (f"\n\n{self.note}" if self.note else "")


def machine() -> dict[str, str]:
    """Processor count, platform and versions."""
    found = {
        "cores": str(os.cpu_count()),
        "platform": f"{platform.machine()} {platform.system()}",
        "processor": _processor(),
        "devices": ", ".join(sorted({device.device_kind for device in jax.devices()})),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "nd_jax": nd.__version__,
    }
    try:
        import torch
    except ImportError:
        return found
    return {**found, "torch": torch.__version__}


def machine_line(found: Mapping[str, str], threads: int) -> str:
    """`machine()` as one sentence."""
    versions = ", ".join(f"{name} {found[name]}" for name in ("python", "jax", "nd_jax", "torch") if name in found)
    used = f"{threads} threads each" if threads else "all cores"
    return (
        f"{found['cores']} cores ({used}), {found['processor']}, {found['platform']}; {found['devices']}; {versions}."
    )


def torch_side(say: bool = True) -> ModuleType | None:
    """The module `torch_peers`, or None, and a line about it, where PyTorch is not installed."""
    try:
        runtime.require("torch", "bench")
    except runtime.MissingExtraError as error:
        if say:
            print(f"PyTorch rows left out: {error}", flush=True)
        return None
    from nd_jax.experiments.benchmarks import torch_peers

    return torch_peers


def limit_threads(threads: int) -> None:
    """The same cores for everybody. XLA counts the cores that it may use when it starts, so this comes first."""
    if not threads:
        return
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[:threads])
        if jax.default_backend() != "cpu":
            os.sched_setaffinity(0, cores)
    if torch_side(say=False):
        import torch

        torch.set_num_threads(threads)


def run_parts(
    config: BenchmarkConfig,
    parts: Mapping[str, Callable[[], Section]],
    document: str,
    finish: Callable[[Mapping[str, Section], dict[str, str]], None] | None = None,
) -> None:
    """What all benchmarks do: runs the chosen parts, prints their tables, writes figures and documents.

    Args:
      config: of which `threads`, `out` and `write` are used here.
      parts: {name: what is run}, in order.
      document: the file of `config.write` whose blocks are brought up to date.
      finish: called with the sections and the blocks before these are written.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    limit_threads(config.threads)
    about = machine()
    line = machine_line(about, config.threads)
    print(line, flush=True)
    found: dict[str, Section] = {}
    for name, run in parts.items():
        found[name] = run()
        print("\n" + found[name].markdown(), flush=True)
    if config.out:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        figures = {name: dict(section.figures) for name, section in found.items()}
        config.out.write_text(json.dumps({"machine": about, "threads": config.threads, **figures}, indent=1) + "\n")
    if config.write:
        blocks = {"machine": line} | {name: section.markdown() for name, section in found.items()}
        if finish is not None:
            finish(found, blocks)
        write_blocks(config.write / document, blocks)


def _processor() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown processor"


def race(runs: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each run; the runs take turns, so that all see the same machine. They must be warm."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def write_blocks(document: pathlib.Path, blocks: Mapping[str, str]) -> None:
    """Replaces what stands between `<!-- name -->` and `<!-- /name -->` in a document.

    Raises:
      ValueError: the document has no such marks.
    """
    text = document.read_text(encoding="utf-8")
    for name, block in blocks.items():
        pattern = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- /{re.escape(name)} -->)", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"{document} has no <!-- {name} --> ... <!-- /{name} -->")
        text = pattern.sub(functools.partial(_between, block), text)
    document.write_text(text, encoding="utf-8")


def _between(block: str, match: re.Match[str]) -> str:
    return f"{match[1]}{block.strip()}\n{match[2]}"
