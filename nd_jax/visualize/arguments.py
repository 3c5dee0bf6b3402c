"""Arrays of a plan as arguments of its compiled programs.

A parameterization (or a penalty, a transform) that is a registered pytree keeps its arrays in its leaves: the spectrum
of data, an input that is masked, the weights of a generator. They must not be constants of a program: others of the
same shape run without another compilation, and no lane has a copy of its own. What is no pytree is static as a whole.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np


class Still(NamedTuple):
    """A tree without its arrays, hashable: what decides the compiled program."""

    structure: Any
    leaves: tuple[Any, ...]


class _Hole:
    """Where an array was."""


def separate(plan: Any) -> tuple[Still, tuple[Any, ...]]:
    """A tree as what is static about it and its arrays; `joined` puts them together again."""
    leaves, structure = jax.tree.flatten(plan)
    arrays = tuple(leaf for leaf in leaves if isinstance(leaf, (jax.Array, np.ndarray)))
    rest = (_Hole if isinstance(leaf, (jax.Array, np.ndarray)) else leaf for leaf in leaves)
    return Still(structure, tuple(rest)), arrays


def joined(still: Still, arrays: tuple[Any, ...]) -> Any:
    """The tree that `separate` took apart."""
    left = iter(arrays)
    return jax.tree.unflatten(still.structure, [next(left) if leaf is _Hole else leaf for leaf in still.leaves])


def placed(plan: Any, where: Any) -> Any:
    """The tree with its arrays on a device, or spread as a sharding says; None for the default device."""
    still, arrays = separate(plan)
    return joined(still, jax.device_put(arrays, where)) if arrays else plan


class Program:
    """A jitted function of (still, arrays, ...), called as a function of (plan, ...)."""

    def __init__(self, jitted: Any):
        self._jitted = jitted

    def __call__(self, plan: Any, *arguments: Any) -> Any:
        return self._jitted(*separate(plan), *arguments)

    def lower(self, plan: Any, *arguments: Any) -> Any:
        """Ready to be compiled."""
        return self._jitted.lower(*separate(plan), *arguments)

    def compiled(self) -> int:
        """How many programs it became so far."""
        return int(self._jitted._cache_size())

    def shapes(self, plan: Any, *arguments: Any) -> Any:
        """What would come out, without values."""
        return jax.eval_shape(self._jitted, *separate(plan), *arguments)
