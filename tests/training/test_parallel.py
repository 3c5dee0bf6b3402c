"""One device and two do the same: gradients, batch statistics, dropout, whole training steps."""

from __future__ import annotations

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nd_jax.training import parallel


class Small(nn.Module):
    """A bit of everything that tempts devices to differ: batch statistics and dropout."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(6, name="first")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x))
        x = nn.Dropout(0.5, deterministic=not train, name="dropout")(x)
        return nn.Dense(3, name="last")(x)


@pytest.fixture
def two_devices():
    devices = jax.local_devices()
    if len(devices) < 2:
        pytest.skip("needs two devices")
    return devices[:2]


def _split(batch, count):
    return jax.tree.map(lambda leaf: leaf.reshape(count, -1, *leaf.shape[1:]), batch)


def _gradients(devices, module, variables, x, keys, average=True):
    def step(state, batch):
        def loss(params):
            with parallel.same_on_any_number_of_devices(batch["key"]):
                y, changed = module.apply(
                    {"params": params, "batch_stats": state["batch_stats"]},
                    batch["x"],
                    train=True,
                    mutable=["batch_stats"],
                )
            return jnp.mean(jnp.square(y)), changed

        gradients, changed = jax.grad(loss, has_aux=True)(state["params"])
        gradients = parallel.mean(gradients) if average else gradients
        return {"params": gradients, **changed}, {"spread": parallel.spread(gradients)}

    run = parallel.data_parallel(step, devices)
    state = parallel.replicate(dict(variables), devices)
    return run(state, _split({"x": x, "key": keys}, len(devices)))


def test_two_devices_give_the_gradient_of_the_whole_batch(two_devices, getkey):
    module = Small()
    x = jax.random.normal(getkey(), (8, 4))
    variables = module.init(getkey(), x)
    keys = parallel.example_keys(3, jnp.int32(5), jnp.arange(8))
    whole, _ = _gradients(two_devices[:1], module, variables, x, keys)
    parts, metrics = _gradients(two_devices, module, variables, x, keys)
    chex.assert_trees_all_close(whole, parts, rtol=1e-5, atol=1e-6)
    assert int(metrics["spread"]) == 0
    assert float(optax.tree.norm(whole["params"])) > 1e-3


def test_gradient_without_batch_statistics_equals_plain_jax(two_devices, getkey):
    x, weights = jax.random.normal(getkey(), (8, 4)), jax.random.normal(getkey(), (4,))

    def loss(weights, x):
        return jnp.mean(jnp.tanh(x @ weights) ** 2)

    def step(weights, x):
        return parallel.mean(jax.grad(loss)(weights, x)), ()

    found, _ = parallel.data_parallel(step, two_devices)(parallel.replicate(weights, two_devices), _split(x, 2))
    chex.assert_trees_all_close(found, jax.grad(loss)(weights, x), rtol=1e-5)


def test_spread_notices_replicas_that_differ(two_devices, getkey):
    module = Small()
    x = jax.random.normal(getkey(), (8, 4))
    keys = parallel.example_keys(3, jnp.int32(5), jnp.arange(8))
    _, metrics = _gradients(two_devices, module, module.init(getkey(), x), x, keys, average=False)
    assert int(metrics["spread"]) > 0


def test_state_comes_back_without_a_device_axis_and_is_donated(two_devices):
    run = parallel.data_parallel(
        lambda state, batch: (state + parallel.mean(batch.sum()), batch.sum() * 0), two_devices
    )
    state = parallel.replicate(jnp.zeros((1000,)), two_devices)
    new, _ = run(state, jnp.ones((2, 3)))
    chex.assert_shape(new, (1000,))
    chex.assert_trees_all_close(new, jnp.full((1000,), 3.0))
    assert state.is_deleted()


def test_several_steps_in_one_call_are_the_same_steps(two_devices):
    def step(state, batch):
        state = 0.9 * state + parallel.mean(batch.sum())
        return state, {"state": state}

    batches = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    one = parallel.data_parallel(step, two_devices)
    many = parallel.data_parallel(parallel.several(step), two_devices)
    state = parallel.replicate(jnp.ones(()), two_devices)
    for at in range(3):
        state, _ = one(state, batches[:, at])
    together, metrics = many(parallel.replicate(jnp.ones(()), two_devices), batches)
    chex.assert_trees_all_close(state, together)
    chex.assert_shape(metrics["state"], (3,))


def test_keys_depend_on_seed_step_and_example_only():
    keys = parallel.example_keys(0, jnp.int32(4), jnp.asarray([9, 2, 5]))
    again = parallel.example_keys(0, jnp.int32(4), jnp.asarray([5, 9]))
    chex.assert_trees_all_equal(jax.random.key_data(keys)[jnp.asarray([2, 0])], jax.random.key_data(again))
    for other in (
        parallel.example_keys(1, jnp.int32(4), jnp.asarray([9])),
        parallel.example_keys(0, jnp.int32(5), jnp.asarray([9])),
    ):
        assert not np.array_equal(jax.random.key_data(other)[0], jax.random.key_data(keys)[0])


def test_dropout_keeps_the_right_share_and_scale(getkey):
    module = nn.Dropout(0.25, deterministic=False)
    keys = parallel.example_keys(0, jnp.int32(0), jnp.arange(64))
    with parallel.same_on_any_number_of_devices(keys):
        y = module.apply({}, jnp.ones((64, 500)))
    chex.assert_trees_all_close(jnp.unique(y), jnp.asarray([0.0, 4 / 3]))
    assert abs(float(jnp.mean(y > 0)) - 0.75) < 0.01
    assert not np.array_equal(y[0], y[1])
    with parallel.same_on_any_number_of_devices(keys):
        nothing = nn.Dropout(1.0, deterministic=False).apply({}, jnp.ones((64, 500)))
    chex.assert_trees_all_equal(nothing, jnp.zeros((64, 500)))


class Frozen(nn.Module):
    """Batch normalisation that keeps its statistics, said in either way."""

    in_call: bool

    @nn.compact
    def __call__(self, x):
        if self.in_call:
            return nn.BatchNorm(name="norm")(x, True)
        return nn.BatchNorm(use_running_average=True, name="norm")(x)


@pytest.mark.parametrize("in_call", [False, True])
def test_frozen_batch_statistics_stay(two_devices, getkey, in_call):
    module, x = Frozen(in_call), jax.random.normal(getkey(), (8, 3))
    variables = module.init(getkey(), x)

    def step(state, batch):
        with parallel.same_on_any_number_of_devices(batch["key"], unbiased_variance=True):
            y, changed = module.apply(state, batch["x"], mutable=["batch_stats"])
        return {**state, **changed}, parallel.mean(jnp.mean(y))

    run = parallel.data_parallel(step, two_devices)
    batch = _split({"x": x, "key": parallel.example_keys(0, jnp.zeros((), jnp.int32), jnp.arange(8))}, 2)
    after, _ = run(parallel.replicate(dict(variables), two_devices), batch)
    chex.assert_trees_all_equal(jax.device_get(after["batch_stats"]), jax.device_get(variables["batch_stats"]))
