"""What a lane pays: its penalties, on the input and on what is free, with the weights of the moment. All traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from nd_jax.visualize.program import Clock, Plan


def each(plan: Plan, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of one input as a function of a lane's inputs."""
    return function if plan.inputs == 1 else jax.vmap(function)


def of_input(plan: Plan, clock: Clock, x: Any, domain: Any, factors: jax.Array | None = None) -> jax.Array:
    """The weighted penalties of a lane's unperturbed inputs, a scalar."""
    total = jnp.zeros((), jnp.float32)
    for place, item in enumerate(plan.penalties):
        if is_of_parameters(item):
            continue
        if getattr(item, "couples", False):
            value = item(x, domain)
        else:
            value = jnp.sum(each(plan, lambda one, item=item: item(one, domain))(x))
        total = total + _weight_now(item, clock, place, factors) * value
    return total


def of_parameters(
    plan: Plan, clock: Clock, parameters: Any, domain: Any, factors: jax.Array | None = None
) -> jax.Array:
    """The weighted penalties of what is free, a scalar."""
    total = jnp.zeros((), jnp.float32)
    for place, item in enumerate(plan.penalties):
        if not is_of_parameters(item):
            continue
        one = each(plan, lambda part, item=item: item.of(plan.parameterization, part, domain))
        total = total + _weight_now(item, clock, place, factors) * jnp.sum(one(parameters))
    return total


def is_of_parameters(penalty: Any) -> bool:
    """Whether a penalty looks at what is free instead of the input."""
    return getattr(penalty, "of_parameters", False)


def _weight_now(penalty: Any, clock: Clock, place: int, factors: jax.Array | None) -> jax.Array:
    """A penalty with `until` counts in full in that first share of the steps only (`penalties.early`).

    One with `growth` counts so many times as much with every step.
    """
    counts = clock.step < getattr(penalty, "until", 1.0) * clock.total
    weight = penalty.weight * jnp.where(counts, 1.0, getattr(penalty, "rest", 0.0))
    if getattr(penalty, "growth", 1.0) != 1.0:
        weight = weight * penalty.growth ** clock.step.astype(jnp.float32)
    return weight if factors is None else weight * factors[place]
