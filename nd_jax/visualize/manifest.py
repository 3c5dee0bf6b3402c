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

CUSTOM = "custom"


def describe(
    network: Network,
    *,
    key: jax.Array,
    parameterization: Any,
    transforms: Sequence[Any],
    penalties: Sequence[Any],
    optimizer: str,
    steps: int,
    snapshots: Sequence[int],
    chunk_size: int,
    seconds: float,
) -> dict[str, Any]:
    """The JSON-ready manifest of one run; `restore` reads the settings back."""
    import nd_jax

    return {
        "versions": {"nd_jax": nd_jax.__version__}
        | {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")},
        "device": jax.devices()[0].device_kind,
        "network": {"name": network.card.get("name", type(network.module).__name__), "digest": digest(network)},
        "key": {"impl": str(jax.random.key_impl(key)), "data": np.asarray(jax.random.key_data(key)).tolist()}
        if jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)
        else {"impl": "raw", "data": np.asarray(key).tolist()},
        "settings": {
            "parameterization": plain(parameterization),
            "transforms": [plain(item) for item in transforms],
            "penalties": [plain(item) for item in penalties],
            "optimizer": optimizer,
            "steps": int(steps),
            "snapshots": [int(step) for step in snapshots],
        },
        "chunk_size": int(chunk_size),
        "seconds": round(float(seconds), 3),
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
