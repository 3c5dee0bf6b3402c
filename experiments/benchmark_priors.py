"""How fast classes are maximised through a generator, beside PyTorch with the same networks, weights and steps.

    python experiments/benchmark_priors.py --out out/priors.json --write docs      # about 3 minutes on 2 idle cores
    python experiments/benchmark_priors.py --only mnist --repeats 1

Prints Markdown tables with goals: within 1.25 times of a batch made by hand, at least as fast as one latent at a time,
and 10 times as fast where generator and classifier together need less than 50 MFLOP. Contenders take turns and have the
same number of threads; a figure is the median of the turns, without compilation, which is given apart. On a machine
with a GPU both sides run there.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from nd_jax import runtime
from nd_jax.experiments.benchmarks.prior_cases import PriorCase, prior_cases
from nd_jax.experiments.benchmarks.tables import (
    BenchmarkConfig,
    Row,
    Section,
    race,
    run_parts,
    torch_side,
)

# Beside S2's way ten times is asked for where networks are as small as this.
_SMALL = 50e6
# Latents that the slow way is timed on; the rest is reckoned.
_SAMPLE = 4


@dataclasses.dataclass(frozen=True)
class Config(BenchmarkConfig):
    """What to measure."""

    only: tuple[Literal["mnist", "digits"], ...] = ("mnist", "digits")
    """Pairs of a generator and a classifier."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the chosen parts; returns the exit status."""
    config = runtime.command_line(Config, arguments, __doc__)
    chosen = {name: case for name, case in prior_cases(config.tiny).items() if name in config.only}
    parts = {name: functools.partial(beside_torch, case, config.repeats) for name, case in chosen.items()}
    run_parts(config, parts, "generator_priors.md")
    return 0


def beside_torch(case: PriorCase, repeats: int) -> Section:
    """Ours, a PyTorch batch by hand, and two PyTorch loops over latents, of which `_SAMPLE` are run."""
    compile_seconds = case.warm()
    scores: dict[str, Any] = {}
    runs = {"nd_jax": lambda: scores.update(nd_jax=case.run().scores)}
    if torch_side():
        from nd_jax.experiments.benchmarks import torch_priors

        pair = torch_priors.Pair(case.generator, case.network)
        given = case.starts()
        few = tuple(each[:_SAMPLE] for each in given)
        torch_priors.batched(pair, *few, steps=2)
        runs["batched"] = lambda: scores.update(batched=torch_priors.batched(pair, *given, steps=case.steps))
        runs["one"] = lambda: scores.update(one=torch_priors.one_at_a_time(pair, *few, steps=case.steps))
        runs["source"] = lambda: scores.update(source=torch_priors.source_loop(pair, *few, steps=case.steps))
    seconds = race(runs, repeats)
    for slow in ("one", "source"):
        if slow in seconds:
            seconds[slow] *= case.count / _SAMPLE
    operations = case.operations
    work = case.count * case.steps
    ratios = {name: each / seconds["nd_jax"] for name, each in seconds.items() if name != "nd_jax"}

    def told(name: str) -> str:
        pace = f"{seconds[name]:.2f} s, {work / seconds[name]:,.0f} lane-steps/s"
        return pace + (f": nd_jax is {ratios[name]:.2f} x as fast" if name in ratios else "")

    rows = [Row("nd_jax", f"{told('nd_jax')}; compiled in {compile_seconds:.1f} s")]
    if ratios:
        times = 10.0 if operations < _SMALL else 1.0
        what = f"PyTorch, the {case.count} latents batched by hand"
        rows.append(Row(what, told("batched"), "at least 0.8 x", ratios["batched"] >= 0.8))
        what = f"PyTorch, one latent at a time ({_SAMPLE} of {case.count} timed)"
        rows.append(Row(what, told("one"), "at least 1 x", ratios["one"] >= 1))
        what = f"PyTorch, the source's loop, one latent at a time ({_SAMPLE} of {case.count} timed)"
        rows.append(Row(what, told("source"), f"at least {times:.0f} x", ratios["source"] >= times))
        ours = np.asarray(scores.pop("nd_jax"))
        # Rounding turns single latents another way at a fork, so that the largest difference would say little.
        apart = np.concatenate([np.abs(ours[: len(s)] - s) / np.max(np.abs(s)) for s in scores.values()])
        told_apart = f"{np.median(apart):.1e}; {100 * np.mean(apart < 0.01):.0f} % of the lanes within 1 %"
        rows.append(Row("difference of the last objectives between contenders, relative, median", told_apart))
    note = (
        f"Generator and classifier together: {operations / 1e6:.1f} MFLOP forward for one example, as XLA counts them."
    )
    figures = {"seconds": seconds, "ratios": ratios, "compile_seconds": compile_seconds, "lanes": case.count}
    return Section(case.title, tuple(rows), {**figures, "operations": operations}, note)


if __name__ == "__main__":
    sys.exit(main())
