"""What a visualization must remember so that any unit can be run again: versions, key, settings, network.

Settings are written as plain values by class name and read back from an allow-list of nd_jax's own classes; nothing in
a manifest is ever executed.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from nd_jax.network import digest
from nd_jax.runtime import nearest

if TYPE_CHECKING:
    from nd_jax.network import Network
    from nd_jax.visualize.program import Plan
    from nd_jax.visualize.run import Run

CUSTOM = "custom"


def describe(
    network: Network,
    *,
    key: jax.Array,
    plan: Plan,
    steps: int,
    polish: float,
    snapshots: Sequence[int],
    restarts: int,
    run: Run,
    seconds: float,
) -> dict[str, Any]:
    """The JSON-ready manifest of one run; `restore_key` and `restore_settings` read it back.

    Beside the settings it tells what the run cost: `seconds` in all, `compile_seconds` of these for compiling the step,
    `host_seconds` in the step loop without waiting for the device, and `memory_bytes` that the compiled step of one
    chunk needs on each device.
    """
    import nd_jax
    from nd_jax.visualize import optimizers

    return {
        "versions": {"nd_jax": nd_jax.__version__}
        | {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")},
        "device": jax.devices()[0].device_kind,
        "network": {"name": network.card.get("name", type(network.module).__name__), "digest": digest(network)},
        "key": {"impl": str(jax.random.key_impl(key)), "data": np.asarray(jax.random.key_data(key)).tolist()}
        if jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)
        else {"impl": "raw", "data": np.asarray(key).tolist()},
        "settings": {
            "parameterization": plain(plan.parameterization),
            "transforms": [plain(item) for item in plan.transforms],
            "penalties": [plain(item) for item in plan.penalties],
            "optimizer": optimizers.name_of(plan.optimizer),
            "steps": int(steps),
            "polish": float(polish),
            "snapshots": [int(step) for step in snapshots],
            "inputs_per_lane": plan.inputs,
            "restarts": int(restarts),
        },
        "chunk_size": run.size,
        "seconds": round(float(seconds), 3),
        "compile_seconds": round(run.compile_seconds, 3),
        "host_seconds": round(run.loop_seconds - run.waited_seconds, 3),
        "memory_bytes": run.memory_bytes,
    }


def restore_key(manifest: Mapping[str, Any]) -> jax.Array:
    """The key a run was made with."""
    stored = manifest["key"]
    data = np.asarray(stored["data"], np.uint32)
    return (
        jax.numpy.asarray(data)
        if stored["impl"] == "raw"
        else jax.random.wrap_key_data(jax.numpy.asarray(data), impl=stored["impl"])
    )


def restore_settings(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of `visualize_batch` that a manifest stands for.

    Raises:
      ValueError: a setting of your own that nd_jax cannot rebuild; pass it again by hand.
    """
    from nd_jax.visualize import optimizers

    stored = manifest["settings"]
    return {
        "optimizer": optimizers.from_name(stored["optimizer"]),
        "parameterization": _rebuild("parameterization", stored["parameterization"]),
        "transforms": tuple(_rebuild("transform", item) for item in stored["transforms"]),
        "penalties": tuple(_rebuild("penalty", item) for item in stored["penalties"]),
        "steps": stored["steps"],
        "snapshots": stored["snapshots"],
        # Runs of before these settings shook to the end, had one input a lane and left silent units alone.
        "polish": stored.get("polish", 0.0),
        "inputs_per_lane": stored.get("inputs_per_lane", 1),
        "restarts": stored.get("restarts", 0),
    }


def plain(item: Any) -> Any:
    """A setting as JSON-ready values: a dataclass becomes a dict with its class name under `is`."""
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        module = type(item).__module__
        name = type(item).__name__ if module.startswith("nd_jax.") else CUSTOM
        fields = {field.name: plain(getattr(item, field.name)) for field in dataclasses.fields(item)}
        return {"is": name, **fields}
    if isinstance(item, Mapping):
        return {"map": [[str(key), plain(value)] for key, value in item.items()]}
    if isinstance(item, (tuple, list)):
        return [plain(part) for part in item]
    if isinstance(item, (np.integer, np.floating)):
        return item.item()
    return item if item is None or isinstance(item, (bool, int, float, str)) else {"is": CUSTOM}


def _rebuild(what: str, stored: Any) -> Any:
    if isinstance(stored, list):
        return tuple(_rebuild(what, part) for part in stored)
    if not isinstance(stored, Mapping):
        return stored
    if "map" in stored:
        return {key: _rebuild(what, value) for key, value in stored["map"]}
    fields = {name: _rebuild(what, value) for name, value in stored.items() if name != "is"}
    known = _classes()
    if stored["is"] == CUSTOM:
        raise ValueError(f"this run used a {what} of your own, which a manifest cannot hold: pass it by hand")
    if stored["is"] not in known:
        raise ValueError(f"no {what} {stored['is']!r} in this nd_jax; {nearest(stored['is'], known)}")
    return known[stored["is"]](**fields)


def _classes() -> dict[str, type]:
    import importlib
    import pkgutil

    import nd_jax.visualize as room

    found: dict[str, type] = {}
    for info in pkgutil.walk_packages(room.__path__, "nd_jax.visualize."):
        for name, value in vars(importlib.import_module(info.name)).items():
            if isinstance(value, type) and dataclasses.is_dataclass(value) and value.__module__ == info.name:
                found[name] = value
    return found
