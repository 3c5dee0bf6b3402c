"""Penalties on what is free instead of on the input: a mask's area and roughness, a latent's length.

They have `of_parameters = True` and a method `of(parameterization, parameters, domain)` for ONE example; those of
`nd_jax.visualize.penalties`, which shows both kinds, take the input.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from nd_jax.domain import Domain
from nd_jax.visualize.parameterizations import core


@dataclasses.dataclass(frozen=True)
class _OfParameters:
    of_parameters: ClassVar[bool] = True

    def check(self, domain: Domain) -> None:
        """Nothing is asked of the domain."""

    def __call__(self, x: jax.Array, domain: Domain) -> jax.Array:
        raise TypeError(f"{type(self).__name__} is a penalty on parameters: call of(parameterization, ...)")


@dataclasses.dataclass(frozen=True)
class _OfMask(_OfParameters):
    def check_parameterization(self, parameterization: Any) -> None:
        """Raises ValueError unless it has a mask."""
        if not hasattr(parameterization, "mask"):
            raise ValueError(
                f"{type(self).__name__} is for parameterizations.mask(...), not for {type(parameterization).__name__}"
            )


@dataclasses.dataclass(frozen=True)
class MaskArea(_OfMask):
    """See `mask_area`."""

    share: float = 0.0
    weight: float = 1.0

    @property
    def label(self) -> str:
        return f"mask_area({self.share:g}) x {self.weight:g}"

    def of(self, parameterization: Any, parameters: Any, domain: Domain) -> jax.Array:
        """A scalar of at least 0, without the weight."""
        # An unbounded mask has negative numbers too, and they are no less of the input.
        return jnp.maximum(jnp.mean(jnp.abs(parameterization.mask(parameters, domain))) - self.share, 0.0)


def mask_area(share: float = 0.0, *, weight: float = 1.0) -> MaskArea:
    """How much more of the input than `share` a mask keeps: max(mean |m| - share, 0).

    Args:
      share: what is free, 0 ... 1.
      weight: factor of the objective's unit for the whole input.

    Raises:
      ValueError: a share outside 0 ... 1, or a negative weight.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in 0 ... 1, got {share!r}")
    return MaskArea(float(share), core.not_negative("weight", weight))


@dataclasses.dataclass(frozen=True)
class MaskVariation(_OfMask):
    """See `mask_variation`."""

    weight: float = 1.0

    @property
    def label(self) -> str:
        return f"mask_variation x {self.weight:g}"

    def of(self, parameterization: Any, parameters: Any, domain: Domain) -> jax.Array:
        """A scalar of at least 0, without the weight."""
        mask = parameterization.mask(parameters, domain)
        steps = [jnp.mean(jnp.abs(jnp.diff(mask, axis=axis))) for axis in range(mask.ndim) if mask.shape[axis] > 1]
        return sum(steps, jnp.zeros(()))


def mask_variation(weight: float = 1.0) -> MaskVariation:
    """Mean absolute step of a mask from one number to the next, along each of its axes: few pieces, soft edges."""
    return MaskVariation(core.not_negative("weight", weight))


@dataclasses.dataclass(frozen=True)
class LatentLength(_OfParameters):
    """See `latent_length`."""

    l2: float = 1.0
    l1: float = 0.0
    weight: float = 1.0

    @property
    def label(self) -> str:
        return f"latent_length(l2={self.l2:g}, l1={self.l1:g}) x {self.weight:g}"

    def check_parameterization(self, parameterization: Any) -> None:
        """Raises ValueError unless it has a latent."""
        if not hasattr(parameterization, "latents"):
            raise ValueError(
                f"LatentLength is for parameterizations.prior(...), not for {type(parameterization).__name__}"
            )

    def of(self, parameterization: Any, parameters: Any, domain: Domain) -> jax.Array:
        """A scalar of at least 0, without the weight."""
        z = parameterization.latents(parameters)
        return (self.l2 * jnp.sum(jnp.square(z)) + self.l1 * jnp.sum(jnp.abs(z))) / math.prod(domain.shape)


def latent_length(l2: float = 1.0, l1: float = 0.0, *, weight: float = 1.0) -> LatentLength:
    """The length of a prior's latent: (l2 ||z||^2 + l1 ||z||_1) / D, D the number of values of the input.

    For `prior(..., project=False)`; a projected latent always has the same length. With l2 = 100 and l1 = 0 it is the
    second half of the loss of class-based activation maximisation with a prior.

    Raises:
      ValueError: a negative factor.
    """
    return LatentLength(core.not_negative("l2", l2), core.not_negative("l1", l1), core.not_negative("weight", weight))
