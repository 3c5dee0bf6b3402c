"""nd_jax opens up deep audio networks: it shows, lets you hear, explains and edits what their units do.

The public face is exactly the names below; rooms load when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_ROOMS = (
    "attribute",
    "audio",
    "data",
    "dissect",
    "domain",
    "metrics",
    "networks",
    "report",
    "taps",
    "training",
    "tuning",
    "visualize",
)
_FROM_VISUALIZE = ("objectives", "parameterizations", "penalties", "transforms")
_NAMES = {
    "Network": "nd_jax.network",
    "Domain": "nd_jax.domain",
    "load": "nd_jax.storage",
    "visualize_batch": "nd_jax.visualize.batch",
    "Visualization": "nd_jax.visualize.result",
}

if TYPE_CHECKING:
    from nd_jax import (
        attribute,
        audio,
        data,
        dissect,
        domain,
        metrics,
        networks,
        report,
        taps,
        training,
        tuning,
        visualize,
    )
    from nd_jax.domain import Domain
    from nd_jax.network import Network
    from nd_jax.storage import load
    from nd_jax.visualize import objectives, parameterizations, penalties, transforms
    from nd_jax.visualize.batch import visualize_batch
    from nd_jax.visualize.result import Visualization

__all__ = [
    "Domain",
    "Network",
    "Visualization",
    "attribute",
    "audio",
    "data",
    "dissect",
    "domain",
    "load",
    "metrics",
    "networks",
    "objectives",
    "parameterizations",
    "penalties",
    "report",
    "taps",
    "training",
    "transforms",
    "tuning",
    "visualize",
    "visualize_batch",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"nd_jax.{name}")
    if name in _FROM_VISUALIZE:
        return importlib.import_module(f"nd_jax.visualize.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'nd_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
