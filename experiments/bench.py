"""The speed figures of docs/numbers.md: `make bench`, or `python experiments/bench.py --only import visualize`.

Prints one Markdown table. Figures are medians over repeats on an otherwise idle machine; the first line says on what.
With torch installed (`pip install 'nd_jax[bench]'`) the same maximisation runs there too, all channels in one batch,
for comparison. What turning spectrograms back into sound costs is measured by experiments/benchmark_inverse.py.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Literal

import jax
import jax.numpy as jnp
import optax

import nd_jax as nd
from nd_jax import runtime
from nd_jax.storage import shipped

Part = Literal["import", "visualize", "torch"]
Row = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Config:
    """What to measure.

    Attributes:
      only: parts to run.
      steps: optimisation steps of a timed run.
      repeats: timed runs per figure; the median counts.
    """

    only: tuple[Part, ...] = ("import", "visualize", "torch")
    steps: int = 64
    repeats: int = 3


def seconds_of(run: Callable[[], object], repeats: int) -> float:
    """Median wall time of a call, in seconds, after one call that compiles and warms up."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def import_time(config: Config) -> Iterator[Row]:
    """Seconds of `import nd_jax` with every public name, beyond its core packages; the quickest of five processes."""
    code = (
        "import time, jax, flax.linen, optax, chex, numpy; start = time.perf_counter(); import nd_jax; "
        "[getattr(nd_jax, name) for name in nd_jax.__all__]; print(time.perf_counter() - start)"
    )
    runs = [float(subprocess.check_output([sys.executable, "-c", code], text=True)) for _ in range(5)]
    yield "import of every public name beyond jax, flax, optax, chex", f"{min(runs):.2f} s"


def discriminator() -> nd.Network:
    """The 208,832-parameter DCGAN discriminator with random weights: speed does not depend on them."""
    module = nd.networks.build("dcgan_discriminator", {})
    domain = nd.domain.Image(shape=(28, 28, 1), low=-1.0, high=1.0)
    variables = module.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    return nd.Network(module, variables, input=domain, apply_kwargs={"train": False})


def visualize_speed(config: Config) -> Iterator[Row]:
    """Unit-steps a second of `visualize_batch`: the discriminator without transforms, shipped networks as they come."""
    net = discriminator()
    plain = {
        "parameterization": nd.parameterizations.pixels(),
        "transforms": (),
        "optimizer": optax.adam(0.05),
        "chunk_size": 128,
    }
    runs = [("DCGAN discriminator, conv2, 128 channels, pixels", net, "conv2", 128, plain)]
    for name in sorted(shipped()):
        trained = nd.load(f"checkpoints/{name}")
        layers = nd.taps.layers(trained)
        layer = max((item for item in layers if len(layers[item]) == 3), key=lambda item: layers[item][-1])
        runs.append((f"{name}, {layer}, as the demo runs it", trained, layer, min(layers[layer][-1], 128), {}))
    for what, network, layer, units, settings in runs:
        objective = nd.objectives.channel(layer, range(units))

        run = functools.partial(
            nd.visualize_batch,
            network,
            objective,
            key=jax.random.key(0),
            steps=config.steps,
            snapshots=0,
            progress=False,
            **settings,
        )
        rate = units * config.steps / seconds_of(run, config.repeats)
        yield what, f"{rate:,.0f} unit-steps/s"


def torch_speed(config: Config) -> Iterator[Row]:
    """The first figure of `visualize_speed` in PyTorch: all 128 channels in one batch, eager mode, Adam."""
    try:
        import torch
    except ImportError:
        yield "the same in PyTorch", "not measured: pip install 'nd_jax[bench]'"
        return
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(1, 64, 5, 2, bias=False),
        torch.nn.BatchNorm2d(64),
        torch.nn.LeakyReLU(0.2),
        torch.nn.Dropout(0.3),
        torch.nn.Conv2d(64, 128, 5, 2, bias=False),
    ).eval()
    for parameter in layers.parameters():
        parameter.requires_grad_(False)
    lanes = torch.arange(128)

    def run() -> None:
        pixels = (0.01 * torch.randn(128, 1, 28, 28)).requires_grad_()
        optimizer = torch.optim.Adam([pixels], lr=0.05)
        for _ in range(config.steps):
            optimizer.zero_grad()
            activation = layers(torch.sigmoid(pixels) * 2 - 1)
            (-activation[lanes, lanes].mean(dim=(1, 2)).sum()).backward()
            optimizer.step()

    rate = 128 * config.steps / seconds_of(run, config.repeats)
    yield f"the same in PyTorch {torch.__version__}, one batch by hand", f"{rate:,.0f} unit-steps/s"


def machine() -> str:
    """One line: processor count, platform, versions."""
    devices = ", ".join(sorted({device.device_kind for device in jax.devices()}))
    versions = f"Python {platform.python_version()}, jax {jax.__version__}, nd_jax {nd.__version__}"
    return f"{os.cpu_count()} cores, {platform.machine()} {platform.system()}, {devices}; {versions}"


PARTS: dict[str, Callable[[Config], Iterator[Row]]] = {
    "import": import_time,
    "visualize": visualize_speed,
    "torch": torch_speed,
}


def main() -> None:
    """Runs the chosen parts and prints the table."""
    config = runtime.command_line(Config, None, __doc__)
    runtime.enable_compilation_cache()
    print(machine(), end="\n\n")
    print("| what | figure |\n|---|---|", flush=True)
    for part in config.only:
        for what, figure in PARTS[part](config):
            print(f"| {what} | {figure} |", flush=True)


if __name__ == "__main__":
    main()
