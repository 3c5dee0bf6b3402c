"""What a GAN in training is: one tree of arrays, and how the networks in it are applied."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from nd_jax.training import parallel
from nd_jax.training.gan.settings import Settings
from nd_jax.training.gan.task import GanTask, dummy

Tree = Any
State = dict[str, Any]


def make_optimizer(settings: Settings) -> optax.GradientTransformation:
    """Adam's direction; the step's learning rate is applied by the training step, so that the schedule counts steps."""
    return optax.scale_by_adam(b1=settings.beta1, b2=settings.beta2, eps=1e-8)


def initial_state(
    generator: nn.Module,
    discriminator: nn.Module,
    task: GanTask,
    settings: Settings,
    optimizers: tuple[optax.GradientTransformation, optax.GradientTransformation] | None = None,
) -> State:
    """A fresh state; arguments as in `Gan`.

    Returns:
      {"step": (), "generator": player, "discriminator": player, "average": {"params", "collections"} or {}}, where a
      player is {"params", "collections" (batch statistics, ...), "optimizer"}.
    """
    both = optimizers or (make_optimizer(settings), make_optimizer(settings))
    keys = jax.random.split(jax.random.key(settings.seed))

    def player(module: nn.Module, key: jax.Array, x: Tree, optimizer: optax.GradientTransformation) -> State:
        variables = dict(jax.jit(functools.partial(module.init, train=False))(key, x))
        params = variables.pop("params")
        return {"params": params, "collections": variables, "optimizer": optimizer.init(params)}

    made = player(generator, keys[0], dummy(task.generator_input), both[0])
    state = {
        "step": jnp.zeros((), jnp.int32),
        "generator": made,
        "discriminator": player(discriminator, keys[1], dummy(task.discriminator_input), both[1]),
        "average": {},
    }
    if settings.ema:
        state["average"] = {"params": made["params"], "collections": made["collections"]}
    return state


def apply(
    module: nn.Module, params: Tree, collections: Tree, x: Tree, keys: jax.Array, settings: Settings, **given: Any
) -> tuple[Any, Tree]:
    """Runs a network in training: (its output in float32, its collections afterwards).

    Args:
      module: generator or discriminator.
      params: its parameters, float32.
      collections: its other variables.
      x: what it takes, leaves (batch, ...).
      keys: (batch,) for whatever is random in it.
      settings: precision and mode.
      given: what else its call takes.
    """
    if settings.precision == "bfloat16":
        params, x = _half(params), _half(x)
    variables = {"params": params, **collections}
    if settings.train_mode:
        with parallel.same_on_any_number_of_devices(keys, unbiased_variance=True):
            output, collections = module.apply(variables, x, train=True, mutable=list(collections), **given)
    else:
        output = module.apply(variables, x, train=False, **given)
    return jax.tree.map(_full, output), dict(collections)


def score(output: Any) -> jax.Array:
    """The scores (batch,) in the output of a discriminator."""
    output = output["score"] if isinstance(output, Mapping) else output
    return output.reshape(output.shape[0])


def updated(
    player: State,
    gradients: Tree,
    collections: Tree,
    optimizer: optax.GradientTransformation,
    learning_rate: jax.Array | float,
) -> State:
    """A player after one optimizer step."""
    direction, memory = optimizer.update(gradients, player["optimizer"], player["params"])
    params = jax.tree.map(lambda old, move: old - learning_rate * move, player["params"], direction)
    return {"params": params, "collections": collections, "optimizer": memory}


def averaged(average: State, player: State, step: jax.Array, settings: Settings) -> State:
    """The moving average of parameters and statistics after a step."""
    if not average:
        return {}
    warming = (1.0 + step) / (10.0 + step)
    past = jnp.minimum(settings.ema, warming) if settings.ema_warmup else jnp.float32(settings.ema)
    latest = {name: player[name] for name in average}
    return jax.tree.map(lambda old, new: past * old + (1.0 - past) * new, average, latest)


def _half(tree: Tree) -> Tree:
    return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16) if _is_float(leaf) else leaf, tree)


def _full(leaf: jax.Array) -> jax.Array:
    return leaf.astype(jnp.float32) if _is_float(leaf) else leaf


def _is_float(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jnp.floating))
