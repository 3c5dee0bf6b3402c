"""Optimizers that a manifest can name, made once for each setting so that their programs are compiled once."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

CUSTOM = "custom"
_CLASS_DECAY = 0.99
_NAME = re.compile(r"(\w+)\(([0-9.e+-]+)\)")
_MADE: dict[str, optax.GradientTransformation] = {}


def adam(learning_rate: float = 0.05) -> optax.GradientTransformation:
    """Optax's Adam; 0.05 is Lucid's learning rate and the default of `visualize_batch`.

    Raises:
      ValueError: a learning rate that is not above 0.
    """
    return _made("adam", learning_rate)


def exact_adam(learning_rate: float) -> optax.GradientTransformation:
    """Adam (Kingma and Ba 2015, algorithm 1) with exact bias correction, as PyTorch computes it.

    Optax forms 1 - beta ** t in float32, which for the first steps is wrong in the fifth digit: enough to turn single
    pixels the other way over a hundred steps.
    """
    return _made("exact_adam", learning_rate)


def exact_adam_on_sums(learning_rate: float) -> optax.GradientTransformation:
    """`exact_adam` on the sum of all gradients so far: what a PyTorch loop does that never clears the gradient."""
    return _made("exact_adam_on_sums", learning_rate)


def class_adam(learning_rate: float = 0.01) -> optax.GradientTransformation:
    """The Adam of class-based activation maximisation with a prior, written by hand there.

    Both moments are divided by 1 - beta at every step and not by 1 - beta ** t, so that steps become about 0.3 times as
    large as Adam's once the averages have filled; the learning rate falls by 1 % a step.
    """
    return _made("class_adam", learning_rate)


def name_of(optimizer: optax.GradientTransformation) -> str:
    """The name of an optimizer that was made here, "adam(0.05)"; "custom" for any other."""
    return next((name for name, made in _MADE.items() if made is optimizer), CUSTOM)


def from_name(name: str) -> optax.GradientTransformation:
    """The optimizer of a name.

    Raises:
      ValueError: "custom", or no such name.
    """
    found = _NAME.fullmatch(name)
    if not found or found[1] not in _KINDS:
        raise ValueError(f"optimizer {name!r} cannot be rebuilt from a manifest: pass optimizer=...")
    return _made(found[1], float(found[2]))


def _made(kind: str, learning_rate: float) -> optax.GradientTransformation:
    if not learning_rate > 0:
        raise ValueError(f"learning_rate must be above 0, got {learning_rate}")
    name = f"{kind}({float(learning_rate):.9g})"
    if name not in _MADE:
        _MADE[name] = _KINDS[kind](learning_rate)
    return _MADE[name]


class _AdamState(NamedTuple):
    step: jax.Array
    mean: Any
    square: Any


def _scale_by_exact_adam(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> optax.GradientTransformation:
    def init(parameters: Any) -> _AdamState:
        zeros = jax.tree.map(jnp.zeros_like, parameters)
        return _AdamState(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(gradients: Any, state: _AdamState, parameters: Any = None) -> tuple[Any, _AdamState]:
        step = state.step + 1
        steps = step.astype(jnp.float32)
        mean = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mean, gradients)
        square = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.square, gradients)
        first, second = -jnp.expm1(steps * math.log(b1)), -jnp.expm1(steps * math.log(b2))
        updates = jax.tree.map(lambda m, v: (m / first) / (jnp.sqrt(v) / jnp.sqrt(second) + eps), mean, square)
        return updates, _AdamState(step, mean, square)

    return optax.GradientTransformation(init, update)


def _exact_adam(learning_rate: float) -> optax.GradientTransformation:
    return optax.chain(_scale_by_exact_adam(), optax.scale(-learning_rate))


def _exact_adam_on_sums(learning_rate: float) -> optax.GradientTransformation:
    return optax.chain(optax.trace(decay=1.0), _exact_adam(learning_rate))


def _scale_by_class_adam(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> optax.GradientTransformation:
    def init(parameters: Any) -> _AdamState:
        zeros = jax.tree.map(jnp.zeros_like, parameters)
        return _AdamState(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(gradients: Any, state: _AdamState, parameters: Any = None) -> tuple[Any, _AdamState]:
        mean = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mean, gradients)
        square = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.square, gradients)
        factor = _CLASS_DECAY ** state.step.astype(jnp.float32)
        updates = jax.tree.map(lambda m, v: factor * (m / (1 - b1)) / (jnp.sqrt(v / (1 - b2)) + eps), mean, square)
        return updates, _AdamState(state.step + 1, mean, square)

    return optax.GradientTransformation(init, update)


def _class_adam(learning_rate: float) -> optax.GradientTransformation:
    return optax.chain(_scale_by_class_adam(), optax.scale(-learning_rate))


_KINDS: dict[str, Callable[[float], optax.GradientTransformation]] = {
    "adam": optax.adam,
    "exact_adam": _exact_adam,
    "exact_adam_on_sums": _exact_adam_on_sums,
    "class_adam": _class_adam,
}
