"""Optimizers that a manifest can name, made once for each setting so that their programs are compiled once."""

from __future__ import annotations

import re

import optax

CUSTOM = "custom"
_MADE: dict[str, optax.GradientTransformation] = {}
_NAME = re.compile(r"adam\(([0-9.e+-]+)\)")


def adam(learning_rate: float = 0.05) -> optax.GradientTransformation:
    """Adam; 0.05 is Lucid's learning rate and the default of `visualize_batch`.

    Raises:
      ValueError: a learning rate that is not above 0.
    """
    if not learning_rate > 0:
        raise ValueError(f"learning_rate must be above 0, got {learning_rate}")
    name = f"adam({float(learning_rate):.9g})"
    return _MADE.setdefault(name, optax.adam(learning_rate))


def name_of(optimizer: optax.GradientTransformation) -> str:
    """The name of an optimizer that was made here, "adam(0.05)"; "custom" for any other."""
    return next((name for name, made in _MADE.items() if made is optimizer), CUSTOM)


def from_name(name: str) -> optax.GradientTransformation:
    """The optimizer of a name.

    Raises:
      ValueError: "custom", or no such name.
    """
    found = _NAME.fullmatch(name)
    if not found:
        raise ValueError(f"optimizer {name!r} cannot be rebuilt from a manifest: pass optimizer=...")
    return adam(float(found[1]))
