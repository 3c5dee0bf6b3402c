"""How fast occlusion is, beside Captum's with the same network, weights, windows and baseline.

    python experiments/benchmark_attribution.py --out out/attribution.json --write docs   # about 8 minutes on 2 cores
    python experiments/benchmark_attribution.py --only one --repeats 1

Prints Markdown tables with goals: whole forward passes at 80 % or more of the network's own batched throughput and
within 1.25 times of Captum's time, recomputation of what a window reaches 3 times as fast as Captum or faster, and the
same maps. Captum runs at its fastest `perturbations_per_eval`. The two sides are processes of their own that take turns
with the same number of threads; a figure is the median of the turns, without compilation. On a machine with a GPU both
sides run there.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from nd_jax import runtime
from nd_jax.experiments.benchmarks.attribution_cases import PASSES, AttributionCase, cases, ours
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

_SIDE = "--side"
_TITLES = {
    "one": "One clip of 5 seconds",
    "many": "16 clips of 5 seconds",
    "large": "One clip of 5 seconds, large windows",
}


@dataclasses.dataclass(frozen=True)
class Config(BenchmarkConfig):
    """What to measure."""

    only: tuple[Literal["one", "many", "large"], ...] = ("one", "many", "large")
    """Clips and windows."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the chosen parts; returns the exit status."""
    config = runtime.command_line(Config, arguments, __doc__)
    chosen = {name: case for name, case in cases(config.tiny).items() if name in config.only}
    parts = {name: functools.partial(beside_captum, name, case, config) for name, case in chosen.items()}
    run_parts(config, parts, "attribution.md")
    return 0


def beside_captum(name: str, case: AttributionCase, config: Config) -> Section:
    """Forward passes, occlusion by whole passes, by what windows reach, and Captum's, in turns."""
    open_side = local if config.tiny else Side
    sides = {which: open_side(which, name, config) for which in (("ours", "torch") if has_captum() else ("ours",))}
    with tempfile.TemporaryDirectory() as folder:
        try:
            return _measured(_TITLES[name], case, sides, config.repeats, pathlib.Path(folder))
        finally:
            for side in sides.values():
                side.close()


def _measured(title: str, case: AttributionCase, sides: dict[str, Any], repeats: int, folder: pathlib.Path) -> Section:
    own, torch = sides["ours"], sides.get("torch")
    runs = {run: functools.partial(own.run, run) for run in own.runs}
    compiling = {run: own.run(run) for run in runs}
    setting: dict[str, int] = {}
    if torch:
        setting = torch.ask({"run": "tune"})["found"]
        runs |= {run: functools.partial(torch.run, run) for run in torch.runs if run != "tune"}
    seconds = race(runs, repeats)
    maps = {run: own.array(run, folder) for run in ("plain", "recomputed")}
    if torch:
        maps["captum"] = torch.array("captum", folder)
    rates = {run: case.windows * case.clips / each for run, each in seconds.items() if "forward" not in run}
    for kind in ("forward", "torch forward"):
        best = [PASSES / each for run, each in seconds.items() if run.startswith(kind + " ")]
        rates |= {kind: max(best)} if best else {}
    peak = own.ask({"peak": True})["peak"]
    apart = {run: float(np.max(np.abs(values - maps["plain"]))) for run, values in maps.items() if run != "plain"}
    note = (
        f"`esc10`, {case.operations / 1e6:.1f} MFLOP forward for a clip, as XLA counts them. First calls, compilation "
        f"included: {compiling['plain']:.1f} s for whole passes, {compiling['recomputed']:.1f} s for what windows "
        f"reach. Largest memory of our process: {peak / 2**20:.0f} MiB."
    )
    if torch:
        at_once = setting["perturbations_per_eval"]
        note += f" Captum's best: perturbations_per_eval={at_once} with {setting['clips']} clip(s) a call."
    figures = {"seconds": seconds, "rates": rates, "apart": apart, "peak": peak, "windows": case.windows}
    title += f", {case.windows:,} windows of {case.window[0]} bands x {case.window[1]} frames"
    return Section(title, _rows(rates, apart), {**figures, **setting, "operations": case.operations}, note)


def _rows(rates: dict[str, float], apart: dict[str, float]) -> tuple[Row, ...]:
    """The table: windows a second, and what is asked of them."""

    def told(run: str) -> str:
        return f"{rates[run]:,.0f} windows/s"

    share = rates["plain"] / rates["forward"]
    rows = [
        Row("the network's forward passes in batches, the limit of whole passes", told("forward")),
        Row(
            "nd_jax, whole passes", f"{told('plain')}: {100 * share:.0f} % of the limit", "at least 80 %", share >= 0.8
        ),
    ]
    ratio = rates["recomputed"] / rates["forward"]
    what = f"{told('recomputed')}: {ratio:.1f} x the limit"
    if "captum" not in rates:
        rows.append(Row("nd_jax, what a window reaches", what))
    else:
        ratio, slower = rates["recomputed"] / rates["captum"], rates["captum"] / rates["plain"]
        rows.append(
            Row("nd_jax, what a window reaches", f"{what}, {ratio:.1f} x Captum", "at least 3 x Captum", ratio >= 3)
        )
        rows.append(Row("PyTorch's forward passes in batches", told("torch forward")))
        text = f"{told('captum')}: whole passes take {slower:.2f} x its time"
        rows.append(Row("Captum", text, "at most 1.25 x", slower <= 1.25))
    goals = {"recomputed": ("1e-5", 1e-5), "captum": ("1e-4", 1e-4)}
    for run, each in apart.items():
        what = {"recomputed": "what a window reaches", "captum": "Captum"}[run]
        limit, most = goals[run]
        rows.append(Row(f"largest difference of the maps, whole passes and {what}", f"{each:.1e}", limit, each <= most))
    return tuple(rows)


def has_captum() -> bool:
    """Whether PyTorch and Captum are installed; says so where they are not."""
    if torch_side() is None:
        return False
    try:
        runtime.require("captum", "bench")
    except runtime.MissingExtraError as error:
        print(f"Captum's rows left out: {error}", flush=True)
        return False
    return True


class Local:
    """One side: what it can run, and what that gave last."""

    def __init__(self, runs: Mapping[str, Callable[[], Any]]):
        self.runs = list(runs)
        self._runs, self._last = runs, dict[str, Any]()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Runs something ("run"), saves what it gave ("save" to "path"), or tells the largest memory so far."""
        if "run" in request:
            began = time.perf_counter()
            found = self._last[request["run"]] = self._runs[request["run"]]()
            return {"seconds": time.perf_counter() - began, "found": found if isinstance(found, dict) else None}
        if "save" in request:
            np.save(request["path"], self._last[request["save"]])
            return {}
        return {"peak": peak_resident()}

    def run(self, run: str) -> float:
        """Runs something; returns its seconds."""
        return float(self.ask({"run": run})["seconds"])

    def array(self, run: str, folder: pathlib.Path) -> np.ndarray:
        """What the last run of something gave."""
        path = folder / f"{run}.npy"
        self.ask({"save": run, "path": str(path)})
        return np.load(path)

    def close(self) -> None:
        """Nothing is left behind."""


class Side(Local):
    """One side in a process of its own, which waits until it is asked."""

    def __init__(self, which: str, name: str, config: Config):
        settings = json.dumps({"which": which, "name": name, "tiny": config.tiny, "threads": config.threads})
        command = [sys.executable, __file__, _SIDE, settings]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.runs = self.ask({})["runs"]

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Sends a request and waits for the answer.

        Raises:
          RuntimeError: the process ended.
        """
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"the process of one side ended with {self._process.wait()}")

    def close(self) -> None:
        """Ends the process."""
        self._process.terminate()
        self._process.wait()


def local(which: str, name: str, config: Config) -> Local:
    """One side in this process."""
    case = cases(config.tiny)[name]
    if which == "torch":
        from nd_jax.experiments.benchmarks.torch_attribution import captum

        return Local(captum(case))
    return Local(ours(case))


def serve(which: str, name: str, tiny: bool, threads: int) -> None:
    """One side: answers requests on standard input until there are no more; the first asks what it can run."""
    limit_threads(threads)
    side = local(which, name, Config(tiny=tiny))
    for number, line in enumerate(sys.stdin):
        print(json.dumps(side.ask(json.loads(line)) if number else {"runs": side.runs}), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == [_SIDE]:
        serve(**json.loads(sys.argv[2]))
    else:
        sys.exit(main())
