"""How `visualize_batch` behaves over a whole network, with more units, larger chunks and a second device.

Everything is measured with the demo's settings on the shipped notes network, in processes of their own: memory is then
that of the measured run alone, and the number of devices can differ.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

import nd_jax as nd
from nd_jax import runtime
from nd_jax.experiments.benchmarks.tables import Row, Section, peak_resident

DEMO_STEPS = 256


def sweep(tiny: bool) -> Section:
    """Every unit of every layer of the shipped notes network as the demo runs it, in a process of its own."""
    found = _elsewhere(
        "sweep", {"steps": 3 if tiny else DEMO_STEPS, "units": 8 if tiny else None, "last": 2 if tiny else 0}, 1
    )
    total, seconds = sum(item["units"] for item in found["layers"]), sum(item["seconds"] for item in found["layers"])
    host = sum(item["host_seconds"] for item in found["layers"])
    rounds = sum(item["rounds"] for item in found["layers"])
    compiling = sum(item["compile_seconds"] for item in found["layers"])
    rows = [
        Row(
            f"{total} units of {len(found['layers'])} layers, {found['steps']} steps", f"{total / seconds:.2f} units/s"
        ),
        Row("time in all, without compilation", f"{seconds:.1f} s; compiling {compiling:.1f} s"),
        Row(
            "peak memory of the process",
            f"{found['peak'] / 2**20:.0f} MiB, {found['idle'] / 2**20:.0f} before the sweep",
        ),
        Row(
            "host time between steps", f"{1e3 * host / rounds:.2f} ms a step, {100 * host / seconds:.1f} % of the time"
        ),
    ]
    for item in found["layers"]:
        rows.append(
            Row(
                f"{item['layer']}: {item['units']} units in chunks of {item['chunk_size']}",
                f"{item['units'] / item['seconds']:.2f} units/s, a step needs {item['memory_bytes'] / 2**20:.0f} MiB",
            )
        )
    return Section("Every unit of every layer of instrument_notes, demo settings", tuple(rows), found)


def growth(tiny: bool) -> Section:
    """Units a second against the number of units, on one device and on two."""
    counts = (1, 8) if tiny else (1, 8, 64, 256, 1024)
    devices = (1, 2) if jax.default_backend() == "cpu" else tuple(sorted({1, len(jax.devices())}))
    curves = {
        number: _elsewhere("curve", {"counts": counts, "work": 16 if tiny else 8192}, number) for number in devices
    }
    rows = []
    for index, count in enumerate(counts):
        parts = [f"{curve['units_per_second'][index]:.2f} units/s on {number}" for number, curve in curves.items()]
        rows.append(Row(f"{count} unit{'s' * (count > 1)}", ", ".join(parts) + " device(s)"))
    note = (
        f"Units of {curves[1]['layer']} with the demo's settings and {DEMO_STEPS} steps; beyond its channels, further "
        "starts of them."
    )
    if jax.default_backend() == "cpu":
        note += " The two devices are two halves of the same processor."
    return Section("Units a second against the number of units", tuple(rows), {"curves": curves}, note)


def chunks(tiny: bool) -> Section:
    """What the size of a chunk is worth, and what is chosen without a wish."""
    sizes = (8, 16) if tiny else (8, 16, 32, 64, 128)
    found = _elsewhere("chunk_sizes", {"sizes": sizes, "steps": 2 if tiny else 16}, 1)
    rows = [
        Row(
            ("chosen: " if item["wish"] is None else "") + f"{item['chunk_size']} lanes",
            f"{item['rate']:,.0f} unit-steps/s, {item['memory_bytes'] / 2**20:.0f} MiB",
        )
        for item in found["sizes"]
    ]
    return Section(f"Chunk sizes, {found['units']} units of {found['layer']}", tuple(rows), found)


def _elsewhere(task: str, settings: dict[str, Any], devices: int) -> dict[str, Any]:
    """Runs a task of `TASKS` in a process of its own and returns its result."""
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": jax.default_backend()}
    command = [sys.executable, __file__, task, str(devices), json.dumps(settings)]
    output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(output.splitlines()[-1])


def _demo_run(network: nd.Network, layer: str, units: int, steps: int, **settings: Any) -> nd.Visualization:
    """The demo's settings; beyond the layer's channels, further starts of them."""
    width = nd.taps.layer_shape(network, layer)[-1]
    return nd.visualize_batch(
        network,
        nd.objectives.channel(layer, [unit % width for unit in range(units)]),
        key=jax.random.key(0),
        penalties=(nd.penalties.silence(weight=0.3),),
        replicates=[unit // width for unit in range(units)],
        steps=steps,
        progress=False,
        **settings,
    )


def _warmed(
    network: nd.Network, layer: str, units: int, steps: int, **settings: Any
) -> tuple[nd.Visualization, float, float]:
    """The result of a run, its seconds without compilation, and the seconds that compiling took."""
    began = time.perf_counter()
    short = 1 if jax.default_backend() == "cpu" else steps
    _demo_run(network, layer, units, short, restarts=0, **settings)
    compiled = time.perf_counter() - began
    began = time.perf_counter()
    result = _demo_run(network, layer, units, steps, **settings)
    return result, time.perf_counter() - began, compiled


def _notes() -> nd.Network:
    return nd.load("instrument_notes")


def _widest(network: nd.Network) -> str:
    """The convolution with the most channels, the last of these."""
    known = nd.taps.layers(network)
    layers = [layer for layer in nd.taps.weighted_layers(network) if len(known[layer]) == 3]
    return max(reversed(layers), key=lambda layer: known[layer][-1])


def measure_sweep(steps: int, units: int | None, last: int, devices: int) -> dict[str, Any]:
    """All units (or the first few) of every weighted layer (or the last few): seconds, bytes, memory of the process."""
    network = _notes()
    known = nd.taps.layers(network)
    idle = peak_resident()
    layers = []
    for layer in list(nd.taps.weighted_layers(network))[-last:]:
        count = min(known[layer][-1], units or known[layer][-1])
        result, seconds, compiled = _warmed(network, layer, count, steps, devices=jax.devices()[:devices])
        told = result.manifest
        item = {name: told[name] for name in ("chunk_size", "host_seconds", "memory_bytes")}
        rounds = steps * -(-count // told["chunk_size"])
        layers.append(
            item | {"layer": layer, "units": count, "seconds": seconds, "compile_seconds": compiled, "rounds": rounds}
        )
    peak = peak_resident()
    return {"layers": layers, "steps": steps, "idle": idle, "peak": peak}


def measure_curve(counts: Sequence[int], work: int, devices: int) -> dict[str, Any]:
    """Units a second at `DEMO_STEPS` steps for each number of units, from runs of about `work` unit-steps."""
    network = _notes()
    layer = _widest(network)
    rates = []
    for count in counts:
        steps = min(max(work // count, 8), 64)
        _, seconds, _ = _warmed(network, layer, count, steps, snapshots=0, devices=jax.devices()[:devices])
        rates.append(count * steps / seconds / DEMO_STEPS)
    return {"layer": layer, "counts": list(counts), "units_per_second": rates, "devices": devices}


def measure_chunk_sizes(sizes: Sequence[int], steps: int, devices: int) -> dict[str, Any]:
    """Unit-steps a second and bytes for each chunk size, and for the size that is chosen without a wish."""
    network = _notes()
    layer = _widest(network)
    units = max(sizes)
    rows = []
    for wish in (*sizes, None):
        result, seconds, _ = _warmed(network, layer, units, steps, snapshots=0, chunk_size=wish)
        told = {name: result.manifest[name] for name in ("chunk_size", "memory_bytes")}
        rows.append(told | {"wish": wish, "rate": units * steps / seconds})
    return {"layer": layer, "units": units, "sizes": rows}


TASKS: dict[str, Callable[..., dict[str, Any]]] = {
    "sweep": measure_sweep,
    "curve": measure_curve,
    "chunk_sizes": measure_chunk_sizes,
}


def plot_growth(figures: Any, path: pathlib.Path) -> None:
    """Draws the figures of `growth` into a picture file."""
    runtime.require("matplotlib", "report").use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for number, curve in figures["curves"].items():
        label = f"{number} device{'s' * (int(number) > 1)}"
        axes.plot(curve["counts"], curve["units_per_second"], marker="o", label=label)
    axes.set(
        xscale="log", xlabel="units optimised together", ylabel=f"units per second ({DEMO_STEPS} steps each)", ylim=0
    )
    counts = figures["curves"][1]["counts"]
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    chosen, number, given = sys.argv[1:]
    print(json.dumps(TASKS[chosen](devices=int(number), **json.loads(given))))
