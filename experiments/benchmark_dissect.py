"""How fast dissection is: similarity of units and concepts beside AND's and PyTorch's, recording beside the network.

    python experiments/benchmark_dissect.py --out out/dissect.json --write docs   # about 25 minutes on 2 cores
    python experiments/benchmark_dissect.py --only similarity --repeats 1

Prints Markdown tables with goals. Similarity runs on synthetic matrices of the size that AND has for AST on ESC-50,
55,346 units x 50 concepts x 2,000 clips: ten times as fast as AND's own way on 500 units, not slower than the same
functions in vectorised PyTorch (rank reorder: twice its time), in less than 4 GB. Recording reaches 80 % of the clips a
second that the network's own forward passes have. Both sides take turns with the same number of threads; a figure is
the median of the turns, without compilation.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np

import nd_jax as nd
from nd_jax import runtime
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
from nd_jax.network import Network
from nd_jax.networks.ast import AST

_PEAK = "--peak"
_GOAL_BYTES = 4_000_000_000
_CLIPS, _CONCEPTS, _UNITS = 2_000, 50, 55_346


@dataclasses.dataclass(frozen=True)
class Config(BenchmarkConfig):
    """What to measure."""

    only: tuple[Literal["similarity", "memory", "recording"], ...] = ("similarity", "memory", "recording")
    """Parts."""
    units: int = _UNITS
    """Units of the large matrix; AND's own way always has 500."""
    ast_clips: int = 16
    """Clips that the published AST is shown; a clip takes seconds."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the chosen parts; returns the exit status."""
    config = runtime.command_line(Config, arguments, __doc__)
    parts = {"similarity": beside_torch, "memory": memory, "recording": recording}
    run_parts(config, {name: functools.partial(parts[name], config) for name in config.only}, "dissection.md")
    return 0


def matrices(units: int, tiny: bool) -> tuple[np.ndarray, np.ndarray]:
    """Normal activations (clips, units), and probabilities (clips, concepts) as a softmax has them."""
    generator = np.random.default_rng(0)
    clips, concepts = (200, 7) if tiny else (_CLIPS, _CONCEPTS)
    scores = generator.dirichlet(np.full(concepts, 0.3), clips).astype(np.float32)
    return generator.standard_normal((clips, units), np.float32), scores


def beside_torch(config: Config) -> Section:
    """Every function on 500 units beside AND's own way, on all of them beside vectorised PyTorch."""
    small, large = (40, 40) if config.tiny else (500, config.units)
    activations, scores = matrices(large, config.tiny)
    some = np.ascontiguousarray(activations[:, :small])
    torch = torch_side() is not None
    rows: list[Row] = []
    figures: dict[str, Any] = {}
    for name in nd.dissect.FUNCTIONS:
        runs: dict[str, Callable[[], Any]] = {
            "some": functools.partial(nd.dissect.similarity, some, scores, name),
            "all": functools.partial(nd.dissect.similarity, activations, scores, name),
        }
        for run in runs.values():
            run()
        apart = None
        if torch:
            theirs, apart = _torch_runs(name, some, activations, scores)
            runs |= theirs
        # A turn of PyTorch's rank reorder of all units takes most of a minute.
        seconds = race(runs, config.repeats)
        figures[name] = {"seconds": seconds, "apart": apart}
        rows += _similarity_rows(name, seconds, small, large, apart)
    together = functools.partial(nd.dissect.similarity, activations, scores, "all")
    together()
    figures["together"] = race({"together": together}, config.repeats)["together"]
    rows.append(Row(f"all five in one pass, {large:,} units", f"{figures['together']:.1f} s"))
    title = f"Similarity of {large:,} units and {scores.shape[1]} concepts on {len(scores):,} clips"
    return Section(title, tuple(rows), figures, _NOTE if torch else "")


_NOTE = (
    "AND's DB calls a similarity function for every unit by itself, its TAB for all units at once (where functions "
    "with top clips loop over units); both are written again in PyTorch as the published code goes about it. "
    "Vectorised PyTorch is our own attempt at the fastest: embedding bags, chunks of units, ranks from one sort."
)


def _torch_runs(
    name: str, some: np.ndarray, activations: np.ndarray, scores: np.ndarray
) -> tuple[dict[str, Callable[[], Any]], float | None]:
    """PyTorch's three ways, and the largest difference of our result; None where theirs depends on chance."""
    import torch

    from nd_jax.experiments.benchmarks import torch_similarity

    few, many, concepts = (torch.from_numpy(each) for each in (some, activations, scores))
    own, fast = torch_similarity.own_way(name), torch_similarity.vectorised(name)

    def one_by_one() -> Any:
        return torch.cat([own(few[:, unit : unit + 1], concepts) for unit in range(few.shape[1])])

    runs: dict[str, Callable[[], Any]] = {
        "AND's DB": one_by_one,
        "AND's TAB": functools.partial(own, few, concepts),
        "PyTorch": functools.partial(fast, many, concepts),
    }
    if name == "rank_reorder":
        return runs, None
    return runs, float(np.max(np.abs(nd.dissect.similarity(some, scores, name) - fast(few, concepts).numpy())))


def _similarity_rows(name: str, seconds: dict[str, float], small: int, large: int, apart: float | None) -> list[Row]:
    few, many = 1e3 * seconds["some"], seconds["all"]
    if "PyTorch" not in seconds:
        return [Row(f"{name}, {small} units", f"{few:.1f} ms"), Row(f"{name}, {large:,} units", f"{many:.2f} s")]
    alone, joint, torch = (seconds[way] for way in ("AND's DB", "AND's TAB", "PyTorch"))
    limit = 2 if name == "rank_reorder" else 1
    difference = "" if apart is None else f"; largest difference {apart:.0e}"
    return [
        Row(
            f"{name}, {small} units",
            f"{few:.1f} ms; AND's DB {1e3 * alone:.0f} ms: {1e3 * alone / few:.0f} x; AND's TAB {1e3 * joint:.0f} ms: "
            f"{1e3 * joint / few:.1f} x",
            "at least 10 x AND's DB",
            1e3 * alone >= 10 * few,
        ),
        Row(
            f"{name}, {large:,} units",
            f"{many:.2f} s; PyTorch {torch:.2f} s: {many / torch:.2f} x its time{difference}",
            f"at most {limit} x PyTorch's time",
            many <= limit * torch,
        ),
    ]


def memory(config: Config) -> Section:
    """The most memory of a process that does nothing but all functions on all units."""
    settings = {"units": 40 if config.tiny else config.units, "tiny": config.tiny, "threads": config.threads}
    command = [sys.executable, __file__, _PEAK, json.dumps(settings)]
    found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()[-1])
    held = found["activations"]
    what = f"largest memory of a process that computes all five functions of {settings['units']:,} units"
    figure = f"{found['peak'] / 1e9:.2f} GB, of which the activations {held / 1e9:.2f} GB"
    return Section("Memory", (Row(what, figure, "less than 4 GB", found["peak"] < _GOAL_BYTES),), found)


def peak(units: int, tiny: bool, threads: int) -> None:
    """What `memory` runs: prints one line of JSON."""
    limit_threads(threads)
    activations, scores = matrices(units, tiny)
    nd.dissect.similarity(activations, scores, "all")
    print(json.dumps({"peak": peak_resident(), "activations": activations.nbytes}), flush=True)


def recording(config: Config) -> Section:
    """Recording beside forward passes of the same network in the same batches."""
    rows: list[Row] = []
    figures: dict[str, Any] = {}
    for title, network, layers, pool, clips, turns in _networks(config):
        found = _recorded(network, layers, pool, clips, turns)
        figures[title] = found
        share = found["recorded"] / found["forward"]
        what = (
            f"{title}: {found['units']:,} units of {len(layers)} layers, {clips} clips, {found['bytes'] / 1e6:.1f} MB"
        )
        ours, limit = (f"{found[name]:,.2f} clips/s" for name in ("recorded", "forward"))
        figure = f"{ours}; forward passes {limit}: {100 * share:.0f} %"
        rows.append(Row(what, figure, "at least 80 %", share >= 0.8))
    note = (
        f"A record of {_UNITS:,} units on {_CLIPS:,} clips has {4 * _UNITS * _CLIPS / 1e6:.0f} MB. Recording includes "
        "reading the clips, pooling, the top and bottom clips of every unit, and writing. Both take network inputs."
    )
    return Section("Recording", tuple(rows), figures, note)


def _networks(config: Config) -> list[tuple[str, Network, list[str], str, int, int]]:
    """(title, network, layers, pool, clips, turns) of what is recorded."""
    if config.tiny:
        module, domain = AST(classes=5, width=16, blocks=1, heads=2, hidden=32), nd.domain.ast(32)
    else:
        module, domain = AST(classes=50), nd.domain.ast()
    variables = jax.jit(module.init)(jax.random.key(0), np.zeros((1, *domain.shape), np.float32))
    ast, clips = Network(module, variables, input=domain), 16 if config.tiny else config.ast_clips
    published = ("AST of the published size, random weights", ast, list(module.dissected_layers), "first", clips, 1)
    if config.tiny:
        return [published]
    esc10 = nd.load("esc10")
    layers = list(nd.taps.weighted_layers(esc10))
    return [("esc10, shipped", esc10, layers, "mean", _CLIPS, config.repeats), published]


def _recorded(network: Network, layers: list[str], pool: str, clips: int, turns: int) -> dict[str, Any]:
    generator = np.random.default_rng(1)
    inputs = generator.uniform(0, 1, (clips, *network.input.shape)).astype(np.float32)
    batch = 8
    with tempfile.TemporaryDirectory() as scratch:
        # A record of its own each time: to remove an old one takes longer than to write a small one.
        folders = (pathlib.Path(scratch) / f"record{turn}" for turn in itertools.count())
        latest = pathlib.Path(scratch)

        def record(count: int = clips) -> None:
            nonlocal latest
            latest = next(folders)
            nd.dissect.record(
                network,
                inputs=inputs[:count],
                layers=layers,
                folder=latest,
                pool=pool,
                batch_size=batch,
                progress=False,
            )

        def forward(count: int = clips) -> None:
            for start in range(0, count, batch):
                jax.block_until_ready(network(inputs[start : start + batch]))

        record(batch)
        forward(batch)
        seconds = race({"record": record, "forward": forward}, turns)
        found = nd.dissect.open_record(latest)
        size = sum(path.stat().st_size for path in (latest / "activations").rglob("*") if path.is_file())
        units = sum(found.units.values())
    rates = {"recorded": clips / seconds["record"], "forward": clips / seconds["forward"]}
    return {**rates, "bytes": size, "units": units, "clips": clips, "batches": math.ceil(clips / batch)}


if __name__ == "__main__":
    if sys.argv[1:2] == [_PEAK]:
        peak(**json.loads(sys.argv[2]))
    else:
        sys.exit(main())
