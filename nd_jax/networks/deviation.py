"""What a batch decides in a discriminator, frozen: its minibatch deviation at the mean over real batches.

The deviation of a batch of one example is 0, or a constant that training never saw, and scores that depend on the other
examples are no property of one. What opens a discriminator up therefore asks for a module whose deviation is a number.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.networks.layers import MinibatchDeviation

Module = TypeVar("Module", bound=nn.Module)


class Freezable:
    """What a discriminator says of its fields `deviation`, whether it sees its batch, and `frozen_deviation`."""

    deviation: bool
    frozen_deviation: float | None

    @property
    def batch_decides_from(self) -> str | None:
        """The first layer that depends on the other examples of a batch; None where there is none, or it is frozen."""
        return "deviation" if self.deviation and self.frozen_deviation is None else None

    def with_deviation(self, value: float | None) -> Any:
        """The same module with its deviation frozen at a value, or live: None."""
        return self.clone(frozen_deviation=value)  # type: ignore[attr-defined]


def frozen(module: Module, variables: Any, batches: Iterable[Any], **given: Any) -> Module:
    """A discriminator's settings with its minibatch deviation frozen at the mean over batches of real examples.

    Args:
      module: a discriminator that says what a batch decides (`batch_decides_from`) and takes a number in its place
        (`with_deviation`); those of `nd_jax.networks` do.
      variables: its variables.
      batches: inputs of the module, of real examples: arrays (batch, ...) or {name: array}; of the size of training's.
      **given: what the module is called with beside its input.

    Returns:
      The same module but for its frozen deviation; variables stay what they are.

    Raises:
      ValueError: a module without such a layer, no batches, one of a single example, or one whose deviation is not
        finite.
    """
    live: Any = module.with_deviation(None) if hasattr(module, "with_deviation") else module
    if getattr(live, "batch_decides_from", None) is None:
        raise ValueError(f"this {type(module).__name__} has no minibatch deviation to freeze")
    found = []
    for part in batches:
        count = len(jax.tree.leaves(part)[0])
        if count < 2:
            raise ValueError(f"a batch of {count} has no deviation to freeze; batches of training's size have")
        found.append(float(_deviation(live, variables, jax.tree.map(jnp.asarray, part), given)))
    if not found:
        raise ValueError("to freeze the deviation takes one batch of real examples or more, and there are none")
    if not np.isfinite(found).all():
        raise ValueError("these batches have no finite deviation: an example, or one of the weights, is not finite")
    settled: Module = live.with_deviation(float(np.mean(found)))
    return settled


@functools.partial(jax.jit, static_argnums=0)
def _deviation(module: nn.Module, variables: Any, x: Any, given: Any) -> jax.Array:
    """What the layer says of a batch: the last channel of what it gives."""
    _, kept = module.apply(variables, x, capture_intermediates=_is_deviation, mutable=["intermediates"], **given)
    return jax.tree.leaves(kept["intermediates"])[0].reshape(-1)[-1]


def _is_deviation(module: nn.Module, method: str) -> bool:
    return isinstance(module, MinibatchDeviation) and method == "__call__"
