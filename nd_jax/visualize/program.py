"""What one lane does in one step, and the compiled programs over a chunk of lanes.

Everything here is traced: `batch` drives it from the host.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from nd_jax import taps
from nd_jax.visualize import objectives

if TYPE_CHECKING:
    from nd_jax.network import Network


class Plan(NamedTuple):
    """Everything static about a run: what decides the compiled program."""

    spec: Any
    parameterization: Any
    transforms: tuple[Any, ...]
    penalties: tuple[Any, ...]
    optimizer: optax.GradientTransformation


class Lane(NamedTuple):
    """The state of one lane; stacked over a chunk.

    Attributes:
      parameters: the free parameters.
      optimizer: the Optax state.
      failed: the step at which a number stopped being finite, or -1.
      moved: whether any gradient was ever different from zero.
    """

    parameters: Any
    optimizer: Any
    failed: jax.Array
    moved: jax.Array


def _lane_step(plan: Plan, network: Network, lane: Lane, arrays: Any, key: jax.Array, step: jax.Array) -> Lane:
    def loss(parameters: Any) -> jax.Array:
        x = plan.parameterization.apply(parameters, network.input)
        penalty = jnp.zeros((), jnp.float32)
        for item in plan.penalties:
            penalty = penalty + item.weight * item(x, network.input)
        step_key = jax.random.fold_in(key, step)
        for place, transform in enumerate(plan.transforms):
            x = transform(jax.random.fold_in(step_key, place), x, network.input)
        return penalty - _score(plan, network, x, arrays)

    gradient = jax.grad(loss)(lane.parameters)
    updates, state = plan.optimizer.update(gradient, lane.optimizer, lane.parameters)
    parameters = optax.apply_updates(lane.parameters, updates)
    finite = _all_finite((gradient, parameters)) & (lane.failed < 0)

    def keep(new: Any, old: Any) -> Any:
        return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)

    moved = lane.moved | jnp.any(jnp.stack([jnp.any(leaf != 0) for leaf in jax.tree.leaves(gradient)]))
    failed = jnp.where(finite | (lane.failed >= 0), lane.failed, step)
    return Lane(keep(parameters, lane.parameters), keep(state, lane.optimizer), failed, moved)


def _score(plan: Plan, network: Network, x: Any, arrays: Any) -> jax.Array:
    names = tuple(dict.fromkeys(layer for _, layer, _ in plan.spec))
    batch = jax.tree.map(lambda leaf: leaf[None], x)
    _, activations = taps.forward(network, batch, names)
    return objectives.evaluate(plan.spec, arrays, {name: activations[name][0] for name in names})


def _all_finite(tree: Any) -> jax.Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


@functools.partial(jax.jit, static_argnames="plan")
def initialise(plan: Plan, domain: Any, keys: jax.Array) -> Lane:
    """The first state of a chunk: one lane for each key."""
    return _fresh(
        plan, jax.vmap(lambda key: plan.parameterization.init(jax.random.fold_in(key, 0xFFFFFFFF), domain))(keys)
    )


@functools.partial(jax.jit, static_argnames="plan")
def resume(plan: Plan, parameters: Any) -> Lane:
    """The first state of a chunk that starts from given parameters, (lanes, ...)."""
    return _fresh(plan, parameters)


def _fresh(plan: Plan, parameters: Any) -> Lane:
    lanes = len(jax.tree.leaves(parameters)[0])
    state = jax.vmap(plan.optimizer.init)(parameters)
    return Lane(parameters, state, jnp.full(lanes, -1, jnp.int32), jnp.zeros(lanes, bool))


@functools.partial(jax.jit, static_argnames=("plan", "count"), donate_argnames="lane")
def advance(
    plan: Plan, network: Network, lane: Lane, arrays: Any, keys: jax.Array, step: Any, count: int
) -> tuple[Lane, jax.Array]:
    """`count` steps for a chunk of lanes; the second result is a small array to wait for."""
    along = jax.vmap(_lane_step, in_axes=(None, None, 0, 0, 0, None))

    def body(state: Lane, moment: jax.Array) -> tuple[Lane, None]:
        return along(plan, network, state, arrays, keys, moment), None

    first = jnp.asarray(step, jnp.int32)
    if count == 1:
        lane = body(lane, first)[0]
    else:
        lane = jax.lax.scan(body, lane, first + jnp.arange(count, dtype=jnp.int32))[0]
    return lane, jnp.copy(lane.failed)


@functools.partial(jax.jit, static_argnames="plan")
def evaluate(plan: Plan, network: Network, lane: Lane, arrays: Any) -> tuple[Any, jax.Array]:
    """The inputs of a chunk, (lanes, ...), and their scores, (lanes,), without transforms."""

    def one(parameters: Any, values: Any) -> tuple[Any, jax.Array]:
        x = plan.parameterization.apply(parameters, network.input)
        return x, _score(plan, network, x, values)

    return jax.vmap(one)(lane.parameters, arrays)
