"""What a visualization must remember so that any unit can be run again: versions, key, settings, network.

Settings are written as plain values by class name and read back from an allow-list of nd_jax's own classes; nothing in
a manifest is ever executed. Arrays among the settings (a spectrum of data, an input that is masked) and networks (a
generator) stand there by their fingerprint; `carried` finds them, a result keeps them, and `restore_settings` takes
them back. A network that a result was not saved with is looked for among those that ship with nd_jax.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from nd_jax.network import Network, digest
from nd_jax.runtime import nearest

if TYPE_CHECKING:
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
    ended: Mapping[str, int],
    seconds: float,
) -> dict[str, Any]:
    """The JSON-ready manifest of one run; `restore_key` and `restore_settings` read it back.

    Beside the settings it tells what the run cost: `seconds` in all, `compile_seconds` of these for compiling the step,
    `host_seconds` in the step loop without waiting for the device, and `memory_bytes` that the compiled step of one
    chunk needs on each device; how its lanes `ended`, and
    whether it was `interrupted`.
    """
    import nd_jax
    from nd_jax.visualize import optimizers

    return {
        "versions": {"nd_jax": nd_jax.__version__}
        | {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")},
        "device": jax.devices()[0].device_kind,
        "network": {"name": _name(network), "digest": digest(network)},
        "key": {"impl": str(jax.random.key_impl(key)), "data": np.asarray(jax.random.key_data(key)).tolist()}
        if jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)
        else {"impl": "raw", "data": np.asarray(key).tolist()},
        "settings": {
            "parameterization": plain(plan.parameterization),
            "transforms": [plain(item) for item in plan.transforms],
            "penalties": [plain(item) for item in plan.penalties],
            "optimizer": optimizers.name_of(plan.optimizer),
            "steps": int(steps),
            "stop_when": plain(run.stop_when),
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
        "ended": dict(ended),
        "interrupted": run.interrupted,
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


def restore_settings(
    manifest: Mapping[str, Any], carried: Mapping[str, Any] | None = None, given: Sequence[str] = ()
) -> dict[str, Any]:
    """The keyword arguments of `visualize_batch` that a manifest stands for.

    Args:
      manifest: of a result.
      carried: its arrays and networks by fingerprint, see `carried`.
      given: names of settings that are given by hand, and so left out here.

    Raises:
      ValueError: a setting of your own that nd_jax cannot rebuild, or a network that is not at hand; pass it again by
        hand.
    """
    from nd_jax.visualize import optimizers

    stored = manifest["settings"]
    makers = {
        "optimizer": lambda: optimizers.from_name(stored["optimizer"]),
        "parameterization": lambda: _rebuild("parameterization", stored["parameterization"], carried),
        "transforms": lambda: tuple(_rebuild("transform", item, carried) for item in stored["transforms"]),
        "penalties": lambda: tuple(_rebuild("penalty", item, carried) for item in stored["penalties"]),
    }
    return {
        **{name: make() for name, make in makers.items() if name not in given},
        "steps": stored["steps"],
        "snapshots": stored["snapshots"],
        # Runs of before these settings shook to the end, had one input a lane and left silent units alone.
        "polish": stored.get("polish", 0.0),
        "inputs_per_lane": stored.get("inputs_per_lane", 1),
        "stop_when": _rebuild("stop_when", stored.get("stop_when")),
        "restarts": stored.get("restarts", 0),
    }


def carried(settings: Any) -> dict[str, Any]:
    """The arrays and networks among settings (dataclasses, tuples, dicts), by fingerprint."""
    if isinstance(settings, Network):
        return {digest(settings): settings}
    if isinstance(settings, (jax.Array, np.ndarray)):
        return {fingerprint(settings): np.asarray(settings)}
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        parts: Any = [getattr(settings, field.name) for field in dataclasses.fields(settings)]
    elif isinstance(settings, Mapping):
        parts = list(settings.values())
    else:
        parts = settings if isinstance(settings, (tuple, list)) else ()
    return {name: value for part in parts for name, value in carried(part).items()}


def refers(stored: Any) -> bool:
    """Whether a setting, as a manifest has it, names arrays or networks by fingerprint."""
    if isinstance(stored, Mapping):
        return "array" in stored or "network" in stored or any(map(refers, stored.values()))
    return isinstance(stored, (list, tuple)) and any(map(refers, stored))


def fingerprint(array: Any) -> str:
    """Sixteen hexadecimal digits of an array's type, shape and values."""
    values = np.ascontiguousarray(array)
    return hashlib.sha256(f"{values.dtype} {np.shape(array)}".encode() + values.tobytes()).hexdigest()[:16]


def plain(item: Any) -> Any:
    """A setting as JSON-ready values: a dataclass becomes a dict with its class name under `is`."""
    if isinstance(item, Network):
        return {"network": _name(item), "digest": digest(item), "input": item.input.to_dict()}
    if isinstance(item, (jax.Array, np.ndarray)):
        return {"array": fingerprint(item)}
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


def _name(network: Network) -> str:
    return str(network.card.get("name") or type(network.module).__name__)


def _rebuild(what: str, stored: Any, carried: Mapping[str, Any] | None = None) -> Any:
    if isinstance(stored, list):
        return tuple(_rebuild(what, part, carried) for part in stored)
    if not isinstance(stored, Mapping):
        return stored
    if "map" in stored:
        return {key: _rebuild(what, value, carried) for key, value in stored["map"]}
    if "array" in stored:
        if stored["array"] not in (carried or {}):
            raise ValueError(f"this run's {what} has an array that was not kept: pass the {what} by hand")
        return (carried or {})[stored["array"]]
    if "network" in stored:
        return (carried or {}).get(stored["digest"]) or _shipped(what, stored["network"], stored["digest"])
    fields = {name: _rebuild(what, value, carried) for name, value in stored.items() if name != "is"}
    known = classes()
    if stored["is"] == CUSTOM:
        raise ValueError(f"this run used a {what} of your own, which a manifest cannot hold: pass it by hand")
    if stored["is"] not in known:
        raise ValueError(f"no {what} {stored['is']!r} in this nd_jax; {nearest(stored['is'], known)}")
    return known[stored["is"]](**fields)


def _shipped(what: str, name: str, wanted: str) -> Network:
    """The network that ships with nd_jax under a name, if it is the one that was meant."""
    from nd_jax.storage import load, shipped

    found = load(shipped()[name]) if name in shipped() else None
    if found is None or digest(found) != wanted:
        raise ValueError(
            f"this run went through the network {name!r} of digest {wanted}, which is not at hand: pass the {what} "
            "with that network by hand"
        )
    return found


def classes() -> dict[str, type]:
    """The settings that a manifest may name, by class name: the dataclasses of `nd_jax.visualize`."""
    import importlib
    import pkgutil

    import nd_jax.visualize as room

    found: dict[str, type] = {}
    for info in pkgutil.walk_packages(room.__path__, "nd_jax.visualize."):
        for name, value in vars(importlib.import_module(info.name)).items():
            if isinstance(value, type) and dataclasses.is_dataclass(value) and value.__module__ == info.name:
                found[name] = value
    return found
