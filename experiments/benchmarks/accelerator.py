"""The comparison on a GPU: units a second, the share of the measured peak, PyTorch eager and compiled."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import nd_jax as nd
from nd_jax.experiments.benchmarks.cases import PLAIN, Case, discriminator_case, mel_case, random_network
from nd_jax.experiments.benchmarks.scale import DEMO_STEPS
from nd_jax.experiments.benchmarks.tables import Row, Section, race, torch_side


def accelerator_cases(tiny: bool) -> dict[str, Case]:
    """What the part `accelerator` runs: the two above with more channels, and a layer of the base AST."""
    sizes = {"width": 16, "blocks": 2, "heads": 2, "hidden": 24} if tiny else {}
    spectrogram, block = ((32, 32, 1), 2) if tiny else ((128, 1024, 1), 6)
    transformer = random_network("ast", spectrogram, 0.0, sizes)
    wide = mel_case(tiny)
    return {
        "DCGAN discriminator conv2": discriminator_case(tiny),
        "CNN-mel block2/conv": wide if tiny else dataclasses.replace(wide, units=tuple(range(256)), steps=64),
        f"AST block{block}/mlp/hidden": Case(
            transformer, f"block{block}/mlp/hidden", tuple(range(8 if tiny else 64)), 2 if tiny else 64, PLAIN
        ),
    }


def operations(network: nd.Network, layer: str) -> int:
    """Floating-point operations of one step of one unit: the matrix products and convolutions up to a layer, twice.

    Twice because the gradient with respect to a layer's input costs what the layer costs. A multiplication and an
    addition count as two.
    """
    known = nd.taps.layers(network)
    total = 0
    for name, shape in known.items():
        params: Any = network.variables["params"]
        for part in name.split("/"):
            params = params.get(part, {}) if hasattr(params, "get") else {}
        if hasattr(params, "get") and "kernel" in params:
            # One product with the kernel for each position of the output.
            total += 2 * int(np.prod(params["kernel"].shape)) * int(np.prod(shape[:-1]))
        elif name.endswith("/weights"):
            heads, tokens, others = shape
            total += 2 * 2 * tokens * others * known[name.removesuffix("weights") + "query"][-1]
        if name == layer:
            break
    return 2 * total


def peak_operations(tiny: bool) -> float:
    """Floating-point operations a second of a chain of large matrix products, in the precision that networks get."""
    size, links = (128, 2) if tiny else (8192, 8)
    a = jax.random.normal(jax.random.key(0), (size, size)) / size**0.5

    @jax.jit
    def chain(x: jax.Array) -> jax.Array:
        for _ in range(links):
            x = x @ a
        return x

    jax.block_until_ready(chain(a))
    seconds = race({"chain": lambda: jax.block_until_ready(chain(a))}, 3)["chain"]
    return links * 2 * size**3 / seconds


def accelerator(tiny: bool, repeats: int) -> Section:
    """Units a second and the share of the measured peak, against PyTorch eager and compiled on the same GPU."""
    title = "On an accelerator"
    if jax.default_backend() == "cpu" and not tiny:
        return Section(title, (Row("not measured", "JAX sees no accelerator on this machine"),), {})
    peak = peak_operations(tiny)
    rows = [Row("measured peak, a chain of float32 matrix products", f"{peak / 1e12:.2f} TFLOP/s")]
    figures: dict[str, Any] = {"peak": peak}
    peers = torch_side()
    gpu = False
    if peers:
        import torch

        torch.set_float32_matmul_precision("high")
        gpu = torch.cuda.is_available()
        if not gpu and jax.default_backend() != "cpu":
            rows.append(Row("PyTorch", "sees no GPU: its rows are left out"))
            peers = None
    for name, case in accelerator_cases(tiny).items():
        compiling = case.warm()
        runs: dict[str, Callable[[], Any]] = {"nd_jax": case.run}
        if peers:
            recipe, starts = peers.Recipe(**case.recipe), case.starts()
            twin = peers.network(case.network.module, case.network.variables)
            eager = functools.partial(peers.batched, twin, case.layer, case.units, starts, case.steps, recipe)
            runs["PyTorch eager"] = eager
            if gpu:
                runs["torch.compile"] = functools.partial(eager, cut=torch.compile(twin.cut(case.layer)))
        for way in runs.values():
            way()
        seconds = race(runs, repeats)
        work = len(case.units) * case.steps
        needed = operations(case.network, case.layer) * work
        figures[name] = {"seconds": seconds, "operations": needed, "compile_seconds": compiling}
        for way, value in seconds.items():
            speed = needed / value
            figure = (
                f"{work / value / DEMO_STEPS:.2f} units/s at {DEMO_STEPS} steps, {100 * speed / peak:.1f} % of the peak"
            )
            rows.append(Row(f"{name}, {len(case.units)} units, {way}", figure))
    return Section(title, tuple(rows), figures)
