"""What the convolutions of nd_jax cost on a CPU, beside XLA's own and PyTorch's: the table of docs/convolutions.md.

For every shape the convolution, its input gradient and its kernel gradient, in a plain program and inside a scan.
Milliseconds are medians of interleaved repeats, so that a disturbance of the machine falls on all sides; JAX and
PyTorch have two threads each. PyTorch is optional (`pip install 'nd_jax[bench]'`).

    python experiments/benchmark_convolutions.py                    # the table, about three minutes
    python experiments/benchmark_convolutions.py --write docs       # and into docs/convolutions.md, with its plot
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from nd_jax import runtime
from nd_jax.networks import conv

THREADS = 2
SCANNED = 2  # steps of the timed loop
SLOW = 0.5  # seconds after which a way is timed once only
NAIVE = 2e8  # multiply-adds beyond which XLA's kernel gradient in a loop (up to minutes) is left out
COLUMNS = ("XLA", "nd_jax", "PyTorch", "XLA in scan", "nd_jax in scan")
DIRECTIONS = ("forward", "input gradient", "kernel gradient")
START, END = "<!-- benchmark_convolutions.py: start -->", "<!-- benchmark_convolutions.py: end -->"


@dataclasses.dataclass(frozen=True)
class Shape:
    """A convolution: input (batch, height, width, in), kernel (height, width, in, out); height 1 for a 1-D one."""

    name: str
    x: tuple[int, int, int, int]
    w: tuple[int, int, int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    dilation: tuple[int, int] = (1, 1)
    transposed: bool = False

    def run(self, door: Callable[..., jax.Array]) -> Callable[[jax.Array, jax.Array], jax.Array]:
        """The convolution as a function of input and kernel, by `jax.lax`'s operation or by ours."""
        spread, stride = (self.stride, (1, 1)) if self.transposed else ((1, 1), self.stride)
        numbers = ("NHWC", "HWIO", "NHWC")
        return lambda x, w: door(x, w, stride, self.padding, spread, self.dilation, numbers)


def _same(rows: int, columns: int) -> tuple[tuple[int, int], tuple[int, int]]:
    return ((rows, rows), (columns, columns))


SHAPES = (
    Shape("DCGAN, 5x5 /2, 1 -> 64", (128, 28, 28, 1), (5, 5, 1, 64), (2, 2)),
    Shape("DCGAN, 5x5 /2, 64 -> 128", (128, 12, 12, 64), (5, 5, 64, 128), (2, 2)),
    Shape("audio_cnn, 3x3 /2, 1 -> 24", (32, 128, 64, 1), (3, 3, 1, 24), (2, 2), ((0, 1), (0, 1))),
    Shape("audio_cnn, 3x3 /2, 24 -> 48", (32, 64, 32, 24), (3, 3, 24, 48), (2, 2), ((0, 1), (0, 1))),
    Shape("audio_cnn, 3x3 /2, 96 -> 128", (32, 16, 8, 96), (3, 3, 96, 128), (2, 2), ((0, 1), (0, 1))),
    Shape("cnn_mel, 11x11, 1 -> 64", (4, 80, 160, 1), (11, 11, 1, 64), padding=_same(5, 5)),
    Shape("cnn_mel, 3x3, 64 -> 128", (4, 80, 160, 64), (3, 3, 64, 128), padding=_same(1, 1)),
    Shape("cnn_mel, 3x3, 128 -> 256", (16, 20, 40, 128), (3, 3, 128, 256), padding=_same(1, 1)),
    Shape("cnn_mel, 3x3, 256 -> 512", (8, 20, 40, 256), (3, 3, 256, 512), padding=_same(1, 1)),
    Shape("1x1, 128 -> 128", (32, 16, 16, 128), (1, 1, 128, 128)),
    Shape("3x3 by 2, 64 -> 64", (8, 32, 32, 64), (3, 3, 64, 64), padding=_same(2, 2), dilation=(2, 2)),
    Shape("3x3 /2 by 2, 64 -> 64", (8, 32, 32, 64), (3, 3, 64, 64), (2, 2), _same(2, 2), (2, 2)),
    Shape("4x4 /2, 64 -> 128", (16, 40, 80, 64), (4, 4, 64, 128), (2, 2), _same(1, 1)),
    Shape("patches, 16x16 /10, 1 -> 768", (16, 128, 100, 1), (16, 16, 1, 768), (10, 10)),
    Shape("patches, 16x16 /16, 3 -> 384", (16, 128, 96, 3), (16, 16, 3, 384), (16, 16)),
    Shape("WaveGAN, 25 /4, 1 -> 64", (8, 1, 16384, 1), (1, 25, 1, 64), (1, 4), ((0, 0), (11, 10))),
    Shape("WaveGAN, 25 /4, 64 -> 128", (8, 1, 4096, 64), (1, 25, 64, 128), (1, 4), ((0, 0), (11, 10))),
    Shape("WaveNet, 3 by 64, 64 -> 64", (8, 1, 4096, 64), (1, 3, 64, 64), padding=_same(0, 64), dilation=(1, 64)),
    Shape("generator, 5x5 x2, 128 -> 64", (64, 7, 7, 128), (5, 5, 128, 64), (2, 2), ((2, 3), (2, 3)), transposed=True),
    Shape("generator, 25 x4, 64 -> 32", (8, 1, 1024, 64), (1, 25, 64, 32), (1, 4), ((0, 0), (13, 14)), transposed=True),
)


def directions(function: Callable[[jax.Array, jax.Array], jax.Array]) -> dict[str, Callable[..., jax.Array]]:
    """The convolution and its two gradients, each of three arguments: input, kernel, output gradient."""
    return {
        "forward": lambda x, w, g: function(x, w),
        "input gradient": lambda x, w, g: jax.vjp(lambda x: function(x, w), x)[1](g)[0],
        "kernel gradient": lambda x, w, g: jax.vjp(lambda w: function(x, w), w)[1](g)[0],
    }


def scanned(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """The function in a loop; the carried number, always 0 but unknown to the compiler, keeps it inside the loop."""

    def run(x: jax.Array, w: jax.Array, g: jax.Array) -> jax.Array:
        def step(carry: jax.Array, _: Any) -> tuple[jax.Array, None]:
            return 0.0 * function(x + carry, w, g + carry).mean(), None

        return lax.scan(step, jnp.float32(0), None, length=SCANNED)[0]

    return run


def torch_calls(shape: Shape, x: np.ndarray, w: np.ndarray, g: np.ndarray) -> dict[str, Callable[[], Any]]:
    """PyTorch's convolution and gradients, channels-last."""
    import torch

    torch.set_num_threads(THREADS)
    form = torch.channels_last
    picture = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(memory_format=form)
    (top, bottom), (left, right) = shape.padding
    cut, extra = [top, left], [0, 0]
    if shape.transposed:
        # PyTorch cuts its padding off a full transposed convolution, whose taps are the flipped ones.
        kernel = torch.from_numpy(w[::-1, ::-1].copy()).permute(2, 3, 0, 1).contiguous(memory_format=form)
        reach = [(size - 1) * step for size, step in zip(shape.w[:2], shape.dilation, strict=True)]
        cut = [reach[0] - top, reach[1] - left]
        extra = [bottom - top, right - left]
    else:
        kernel = torch.from_numpy(w).permute(3, 2, 0, 1).contiguous(memory_format=form)
        if (top, left) != (bottom, right):
            picture = torch.nn.functional.pad(picture, (left, right, top, bottom)).contiguous(memory_format=form)
            cut = [0, 0]
    settings = (list(shape.stride), cut, list(shape.dilation), shape.transposed, extra, 1)
    gradient = torch.from_numpy(g).permute(0, 3, 1, 2).contiguous(memory_format=form)

    def backward(mask: list[bool]) -> Callable[[], Any]:
        return lambda: torch.ops.aten.convolution_backward(gradient, picture, kernel, None, *settings, mask)

    return {
        "forward": lambda: torch.ops.aten.convolution(picture, kernel, None, *settings),
        "input gradient": backward([True, False, False]),
        "kernel gradient": backward([False, True, False]),
    }


def medians(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Milliseconds of each call: the median of interleaved repeats after a first call, or the first if it is slow."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(1 + repeats):
        for name, call in calls.items():
            if times[name] and times[name][0] > SLOW:
                continue
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: 1e3 * statistics.median(values[1:] or values) for name, values in times.items()}


def measure(shape: Shape, repeats: int, with_torch: bool) -> list[dict[str, Any]]:
    """A row for each direction of one shape."""
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(size).astype(np.float32) for size in (shape.x, shape.w))
    ours, native = shape.run(conv.conv_general_dilated), shape.run(lax.conv_general_dilated)
    g = rng.standard_normal(jax.eval_shape(native, x, w).shape).astype(np.float32)
    arrays = tuple(jnp.asarray(array) for array in (x, w, g))
    products = w.size * (x if shape.transposed else g)[..., 0].size
    theirs = torch_calls(shape, x, w, g) if with_torch else {}
    rows = []
    for direction in DIRECTIONS:
        plain = {"XLA": directions(native)[direction], "nd_jax": directions(ours)[direction]}
        calls: dict[str, Callable[[], Any]] = {}
        for name, function in plain.items():
            calls[name] = _call(function, arrays)
            if not (name == "XLA" and direction == "kernel gradient" and products > NAIVE):
                calls[f"{name} in scan"] = _call(scanned(function), arrays)
        if theirs:
            calls["PyTorch"] = theirs[direction]
        found = medians(calls, repeats)
        times = {name: value / (SCANNED if "scan" in name else 1) for name, value in found.items()}
        rows.append({"shape": shape.name, "direction": direction, **times})
    return rows


def _call(function: Callable[..., jax.Array], arrays: Sequence[jax.Array]) -> Callable[[], Any]:
    compiled = jax.jit(function).lower(*arrays).compile()
    return lambda: jax.block_until_ready(compiled(*arrays))


def line(row: dict[str, Any]) -> str:
    """One line of the Markdown table; the quickest plain time is bold."""
    best = min(row[name] for name in COLUMNS[:3] if name in row)
    cells = [row["shape"], row["direction"]]
    for name in COLUMNS:
        text = f"{row[name]:.3g}" if name in row else ""
        cells.append(f"**{text}**" if name in COLUMNS[:3] and row.get(name) == best else text)
    return "| " + " | ".join(cells) + " |"


def heading() -> str:
    """The table's first two lines."""
    return "\n".join(["| " + " | ".join(("shape", "", *COLUMNS)) + " |", "|---|---|" + "---:|" * len(COLUMNS)])


def machine(with_torch: bool) -> str:
    """What the figures were measured on."""
    names = ["jax", "flax", *(["torch"] if with_torch else [])]
    versions = ", ".join(f"{name} {importlib.import_module(name).__version__}" for name in names)
    model = platform.processor() or platform.machine()
    if pathlib.Path("/proc/cpuinfo").exists():
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((text.split(":", 1)[1].strip() for text in lines if text.startswith("model name")), model)
    return f"{model}, {THREADS} threads; Python {platform.python_version()}, {versions}"


def plot(rows: Sequence[dict[str, Any]], path: pathlib.Path) -> None:
    """Time over that of nd_jax for each shape, a panel for each direction; left of 1 the other is quicker."""
    pyplot = runtime.require("matplotlib.pyplot", "report")
    names = list(dict.fromkeys(row["shape"] for row in rows))
    figure, panels = pyplot.subplots(1, 3, figsize=(12, 0.32 * len(names) + 1.4), sharey=True, layout="constrained")
    pairs = [("XLA", "nd_jax", "o"), ("PyTorch", "nd_jax", "s"), ("XLA in scan", "nd_jax in scan", "x")]
    for panel, direction in zip(panels, DIRECTIONS, strict=True):
        chosen = [row for row in rows if row["direction"] == direction]
        for other, ours, marker in pairs:
            points = [(row[other] / row[ours], names.index(row["shape"])) for row in chosen if other in row]
            if points:
                panel.scatter(*zip(*points, strict=True), marker=marker, s=26, label=other)
        panel.axvline(1.0, color="0.4", linewidth=0.8)
        panel.set_xscale("log")
        panel.set_title(direction)
        panel.set_xlabel("time / time of nd_jax")
        panel.grid(axis="both", alpha=0.25)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    panels[0].legend(loc="best", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def write(folder: pathlib.Path, text: str, rows: Sequence[dict[str, Any]]) -> None:
    """Puts the table between the marks of convolutions.md and the plot beside it."""
    page = folder / "convolutions.md"
    before, mark, rest = page.read_text(encoding="utf-8").partition(START)
    _, closing, after = rest.partition(END)
    if not mark or not closing:
        raise SystemExit(f"{page} has no lines {START} and {END} to write between")
    plot(rows, folder / "images" / "convolutions.png")
    page.write_text(f"{before}{START}\n{text}\n{END}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", default="", help="shapes whose name has this in it")
    parser.add_argument("--write", type=pathlib.Path, help="the folder of docs to write table and plot into")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    shapes = [shape for shape in SHAPES if arguments.only in shape.name]
    if not shapes:
        raise SystemExit(f"no shape has {arguments.only!r} in its name")
    with_torch = importlib.util.find_spec("torch") is not None
    lines = [f"Milliseconds; {machine(with_torch)}.", "", heading()]
    print("\n".join(lines), flush=True)
    rows = []
    for shape in shapes:
        for row in measure(shape, arguments.repeats, with_torch):
            rows.append(row)
            lines.append(line(row))
            print(lines[-1], flush=True)
    if arguments.write:
        write(arguments.write, "\n".join(lines), rows)


if __name__ == "__main__":
    main()
