"""Everything within a given distance of a given input: what an adversarial example is looked for in."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from nd_jax.domain import Domain
from nd_jax.visualize.parameterizations import core

NORMS = ("l2", "linf")


@dataclasses.dataclass(frozen=True)
class Nearby:
    """See `nearby`."""

    name: ClassVar[str] = "nearby"

    radius: float = 1.0
    norm: str = "l2"

    def init(self, key: jax.Array, domain: Domain) -> dict[str, jax.Array]:
        return self.invert(domain.silence(), domain)

    def apply(self, parameters: dict[str, jax.Array], domain: Domain) -> jax.Array:
        base, radius = (jax.lax.stop_gradient(parameters[name]) for name in ("base", "radius"))
        change = parameters["change"]
        if self.norm == "linf":
            step = jnp.tanh(change)
        else:
            step = change / jnp.sqrt(1.0 + jnp.sum(jnp.square(change)))
        moved = base + radius * step
        # A base inside the range is nearer to the clipped value than to the value itself: the distance stays kept.
        return _kept_inside(moved, *domain.limits) if core.is_bounded(domain) else moved

    def invert(self, x: Any, domain: Domain) -> dict[str, jax.Array]:
        return {
            "base": core.one_example(self.name, x, domain),
            "change": jnp.zeros(core.array_shape(self.name, domain)),
            "radius": jnp.asarray(self.radius, jnp.float32),
        }


def nearby(radius: float, *, norm: str = "l2") -> Nearby:
    """All inputs within `radius` of a given one, which is handed over as the start of a run.

    The change is a smooth map of free numbers c into the ball: radius c / sqrt(1 + ||c||^2) for "l2", radius tanh(c)
    for "linf"; then the input is kept inside the domain's range, which brings it nearer still. Parameters: {"base": the
    given input, "change": c, both of domain.shape, "radius": ()}. The base and the radius stay as they are, so lanes
    may differ in both and share one compiled program:

        near = parameterizations.nearby(2.0)
        visualize_batch(network, objective, parameterization=near, start=near.invert(x, network.input), ...)

    Args:
      radius: the largest distance, in the values of the domain: the root of the sum of squares for "l2", the largest
        single change for "linf".
      norm: "l2" or "linf".

    Raises:
      ValueError: a radius that is not above 0, or an unknown norm.
    """
    if isinstance(radius, bool) or not (math.isfinite(radius) and radius > 0):
        raise ValueError(f"the radius of parameterizations.nearby must be a number above 0, got {radius!r}")
    return Nearby(float(radius), core.choice("norm", norm, NORMS))


@jax.custom_vjp
def _kept_inside(x: jax.Array, low: float, high: float) -> jax.Array:
    """Clips; a value outside keeps the part of its gradient that leads back, or it could never return."""
    return jnp.clip(x, low, high)


def _forward(x: jax.Array, low: float, high: float) -> tuple[jax.Array, Any]:
    return jnp.clip(x, low, high), (x, low, high)


def _backward(kept: Any, gradient: jax.Array) -> tuple[jax.Array, None, None]:
    x, low, high = kept
    # The gradient is of what is to become smaller: an optimizer takes it off.
    leads_out = ((x < low) & (gradient > 0)) | ((x > high) & (gradient < 0))
    return jnp.where(leads_out, 0.0, gradient), None, None


_kept_inside.defvjp(_forward, _backward)
