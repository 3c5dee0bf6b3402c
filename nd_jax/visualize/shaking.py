"""A lane's inputs, made from what is free and perturbed by the transforms of a step. All traced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from nd_jax.visualize.costs import each

if TYPE_CHECKING:
    from nd_jax.visualize.program import Clock, Plan

_CHANCE = 0xFFFFFFFD


def render(plan: Plan, parameters: Any, domain: Any) -> Any:
    """A lane's inputs."""
    return each(plan, lambda one: plan.parameterization.apply(one, domain))(parameters)


def stirred(
    plan: Plan, keys: jax.Array, clock: Clock, parameters: Any, domain: Any, chances: jax.Array | None = None
) -> Any:
    """A lane's inputs, made from latents after the latent transforms of this step; as they are while polished."""
    stirs = [(place, item) for place, item in enumerate(plan.transforms) if stirs_latent(plan, item)]
    if not stirs:
        return render(plan, parameters, domain)

    def one(key: jax.Array, free: Any) -> Any:
        step_key = jax.random.fold_in(key, clock.step)

        def stir(z: jax.Array) -> jax.Array:
            moved = z
            for place, item in stirs:
                after = item(jax.random.fold_in(step_key, place), moved, plan.parameterization.latent)
                moved = _perhaps(step_key, place, chances, after, moved)
            return jnp.where(clock.step < clock.polish, moved, z)

        return plan.parameterization.apply(free, domain, stir)

    return one(keys, parameters) if plan.inputs == 1 else jax.vmap(one)(keys, parameters)


def stirs_latent(plan: Plan, transform: Any) -> bool:
    """Whether a transform perturbs the latent that inputs are made from, and not the inputs themselves."""
    return getattr(transform, "of_latent", False) and hasattr(plan.parameterization, "latent")


def shaken(plan: Plan, keys: jax.Array, clock: Clock, x: Any, domain: Any, chances: jax.Array | None = None) -> Any:
    """A lane's inputs after the transforms of this step; as they are while they are polished."""
    moves = [(place, item) for place, item in enumerate(plan.transforms) if not stirs_latent(plan, item)]
    if not moves:
        return x

    def shake(key: jax.Array, one: Any) -> Any:
        step_key = jax.random.fold_in(key, clock.step)
        for place, transform in moves:
            after = transform(jax.random.fold_in(step_key, place), one, domain)
            one = _perhaps(step_key, place, chances, after, one)
        return one

    return jax.lax.cond(clock.step < clock.polish, each(plan, shake), lambda keys, x: x, keys, x)


def _perhaps(key: jax.Array, place: int, chances: jax.Array | None, after: Any, before: Any) -> Any:
    """What a transform made, or what was there, by the chance of the transform at this place."""
    if chances is None:
        return after
    drawn = jax.random.uniform(jax.random.fold_in(jax.random.fold_in(key, place), _CHANCE))
    return jax.tree.map(lambda new, old: jnp.where(drawn < chances[place], new, old), after, before)
