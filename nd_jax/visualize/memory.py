"""How many lanes one compiled program takes: read from the memory that XLA says the program needs."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from nd_jax import taps
from nd_jax.visualize import objectives

if TYPE_CHECKING:
    from nd_jax.network import Network
    from nd_jax.visualize.program import Plan

# A product of one row takes another path than one of many and drifts: no lane ever runs in fewer.
LEAST_LANES = 8

# Working sets beyond this run no faster on a CPU (measured on 2 cores: docs/speed.md), and take longer to interrupt.
_CPU_BYTES = 32 << 20


def rounded(lanes: float) -> int:
    """The least multiple of `LEAST_LANES` that holds so many lanes."""
    return LEAST_LANES * max(math.ceil(lanes / LEAST_LANES), 1)


def choose(
    network: Network, plan: Plan, lanes: int, wish: int | None, device: jax.Device, needed: Callable[[int], int]
) -> int:
    """The number of lanes of a chunk on one device.

    Args:
      network: what is looked into.
      plan: what runs.
      lanes: how many lanes there are for the device.
      wish: the caller's `chunk_size`, or None.
      device: where it runs.
      needed: lanes -> bytes that the compiled step needs, weights included; compiles it.

    Raises:
      ValueError: a wish that does not fit, with the size that does.
    """
    room = available_bytes(device)
    whole = rounded(lanes)

    def even(size: int) -> int:
        # As many chunks as that size asks for, all of one size: the last one is not half empty.
        return rounded(lanes / math.ceil(lanes / max(size, LEAST_LANES)))

    if wish is not None:
        size = min(rounded(wish), whole)
        _check_room(size, needed(size), room, device)
        return size
    target = min(_CPU_BYTES, room // 2) if device.platform == "cpu" else room // 2
    size = even(_guess(network, plan, target))
    found = needed(size)
    best = even(int(target * size / max(found, 1)) // LEAST_LANES * LEAST_LANES)
    # Twice off costs little; compiling again costs seconds. Nothing found: there are no steps to run.
    if found and (best > 2 * size or found > 2 * target):
        size, found = best, needed(best)
    _check_room(size, found, room, device)
    return size


def available_bytes(device: jax.Device) -> int:
    """Memory that a program may still take on a device."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"]) - int(stats.get("bytes_in_use", 0))
    found = [amount for amount in (_linux_available(), _group_available()) if amount is not None]
    # Where the system does not say: what any machine that trains networks has.
    return min(found, default=4 << 30)


def _linux_available() -> int | None:
    try:
        lines = pathlib.Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return found[0] * 1024 if found else None


def _group_available() -> int | None:
    """What a container's limit leaves (control groups, version 2)."""
    group = pathlib.Path("/sys/fs/cgroup")
    try:
        return int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
    except (OSError, ValueError):
        return None


def _check_room(size: int, needed: int, room: int, device: jax.Device) -> None:
    if needed <= room:
        return
    fitting = int(room * size / needed) // LEAST_LANES * LEAST_LANES
    if fitting >= LEAST_LANES:
        advice = f"chunk_size={fitting} fits"
    else:
        advice = f"not even the least, {LEAST_LANES} lanes, fits: take a smaller input or an earlier layer"
    raise ValueError(
        f"{size} lanes at once need {needed / 2**30:.2f} GiB and {device.device_kind} has {room / 2**30:.2f} GiB free; "
        f"{advice}"
    )


def _guess(network: Network, plan: Plan, target: int) -> int:
    """A first size to compile: about eight numbers for each activation up to the layers that the objective reads."""
    layers = set(objectives.layers_of(plan.spec))
    elements = sum(int(np.prod(shape)) for shape in jax.tree.leaves(network.input.shape, is_leaf=_is_shape))
    found: set[str] = set()
    for name, shape in taps.layers(network).items():
        elements += int(np.prod(shape))
        found.add(name)
        if layers <= found:
            break
    return max(target // (elements * plan.inputs * 4 * 8) // LEAST_LANES, 1) * LEAST_LANES


def _is_shape(node: Any) -> bool:
    return isinstance(node, tuple)
