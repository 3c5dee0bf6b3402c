"""Every unit of every layer of the shipped spoken-digit network: beside PyTorch, and with the active set or without."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

import nd_jax as nd
from nd_jax.experiments.benchmarks.cases import PLAIN, Case
from nd_jax.experiments.benchmarks.tables import Row, Section, race, torch_side

NETWORK = "spoken_digits"
STEPS = 256
# The recipe whose lanes may leave is given twice as many steps, of which half are polish: where it ends is then flat.
_RECIPE_STEPS = 512


def whole_cases(tiny: bool = False) -> tuple[Case, ...]:
    """All units of every layer with weights, plain ascent on pixels: what both sides can do alike."""
    network = nd.load(NETWORK)
    known = nd.taps.layers(network)
    layers = list(nd.taps.weighted_layers(network))
    chosen = [layers[0], layers[-1]] if tiny else layers
    return tuple(
        Case(network, layer, tuple(range(2 if tiny else known[layer][-1])), 2 if tiny else STEPS, PLAIN)
        for layer in chosen
    )


def digits(tiny: bool, repeats: int) -> Section:
    """The whole sweep: seconds and units a second for each contender, and what the active set is worth."""
    cases = whole_cases(tiny)
    units = sum(len(case.units) for case in cases)
    compiling = sum(case.warm() for case in cases)
    runs: dict[str, Callable[[], Any]] = {"nd_jax": lambda: [case.run() for case in cases]}
    peers = torch_side()
    sample = 1 if tiny else 2
    if peers:
        twin = peers.network(cases[0].network.module, cases[0].network.variables)
        recipe = peers.Recipe(**PLAIN)

        def everything(way: str, most: int | None) -> list[np.ndarray]:
            return [
                getattr(peers, way)(twin, case.layer, case.units[:most], case.starts()[:most], case.steps, recipe)
                for case in cases
            ]

        runs["batched"] = functools.partial(everything, "batched", None)
        runs["usual_loop"] = functools.partial(everything, "usual_loop", sample)
    found: dict[str, Any] = {}
    seconds = race({name: functools.partial(_keep, found, name, run) for name, run in runs.items()}, repeats)
    if peers:
        # A few units of each layer are timed, and the time of all is reckoned from them.
        seconds["usual_loop"] *= units / (sample * len(cases))
    ours = [result.scores for result in found["nd_jax"]]

    def told(name: str) -> str:
        pace = f"{seconds[name]:.1f} s, {units / seconds[name]:.2f} units/s"
        return pace + (f": nd_jax is {seconds[name] / seconds['nd_jax']:.2f} x as fast" if name != "nd_jax" else "")

    rows = [Row(f"nd_jax, {cases[0].steps} steps of plain ascent", f"{told('nd_jax')}; compiled in {compiling:.1f} s")]
    if peers:
        rows.append(Row("PyTorch, each layer batched by hand, the network cut after it", told("batched")))
        rows.append(Row(f"PyTorch, one unit at a time ({sample} of each layer timed)", told("usual_loop")))
        apart = max(_apart(a, b) for a, b in zip(ours, found["batched"], strict=True))
        rows.append(Row("largest difference of the last scores, relative to the layer's largest", f"{apart:.1e}"))
    active, figures = _active_set(cases, tiny, repeats)
    return Section(
        f"Every unit of every layer of {NETWORK}: {units} units of {len(cases)} layers",
        (*rows, *active),
        {"units": units, "seconds": seconds, "compile_seconds": compiling, **figures},
        "Plain ascent: pixels through a sigmoid, Adam 0.05. The active set is measured with the default recipe of "
        "`visualize_batch` and `stop_when=converged()`; a lane that leaves has shaken its input for fewer steps, and "
        "may end higher or lower than with all of them.",
    )


def _active_set(cases: Sequence[Case], tiny: bool, repeats: int) -> tuple[list[Row], dict[str, Any]]:
    steps = 4 if tiny else _RECIPE_STEPS
    stop = nd.visualize.converged()

    def run(stop_when: nd.visualize.Converged | None, most: int = steps) -> list[nd.Visualization]:
        return [
            nd.visualize_batch(
                case.network,
                nd.objectives.channel(case.layer, case.units),
                key=jax.random.key(0),
                steps=most,
                stop_when=stop_when,
                snapshots=0,
                restarts=0,
                progress=False,
            )
            for case in cases
        ]

    compiling = {}
    for name, wish in (("off", None), ("on", stop)):
        began = time.perf_counter()
        # The chunk of an active set is a quarter of the lanes: two programs.
        run(wish, 1)
        compiling[name] = time.perf_counter() - began
    found: dict[str, Any] = {}
    seconds = race(
        {
            "off": functools.partial(_keep, found, "off", lambda: run(None)),
            "on": functools.partial(_keep, found, "on", lambda: run(stop)),
        },
        repeats,
    )
    done = {name: int(sum(result.steps_done.sum() for result in results)) for name, results in found.items()}
    alive = [result.scores > 0 for result in found["off"]]
    ratios = np.concatenate(
        [on.scores[good] / off.scores[good] for on, off, good in zip(found["on"], found["off"], alive, strict=True)]
    )
    low, middle = np.percentile(ratios, [10, 50]) if len(ratios) else (np.nan, np.nan)
    gain, fewer = seconds["off"] / seconds["on"], done["off"] / max(done["on"], 1)
    rows = [
        Row(f"default recipe, all {steps} steps", f"{seconds['off']:.1f} s; compiled in {compiling['off']:.1f} s"),
        Row(
            "default recipe, active set",
            f"{seconds['on']:.1f} s: {gain:.2f} x as fast, {fewer:.2f} x fewer steps; "
            f"compiled in {compiling['on']:.1f} s",
            "at least 1.5 x",
            gain >= 1.5,
        ),
        Row(
            "last score with the active set over that with all steps",
            f"mean {np.mean(ratios):.3f}, median {middle:.3f}, tenth percentile {low:.3f}",
        ),
    ]
    return rows, {"active_seconds": seconds, "steps_done": done, "score_ratio": ratios.tolist()}


def _keep(found: dict[str, Any], name: str, run: Callable[[], Any]) -> None:
    found[name] = run()


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.max(np.abs(a - b)) / np.max(np.abs(b)))
