"""The minibatch deviation: what it adds, that it has a slope, and that devices share it."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nd_jax.networks.layers import MinibatchDeviation


def test_minibatch_deviation_is_one_more_feature_map(getkey):
    x = 5 + jax.random.normal(getkey(), (6, 3, 4, 2))
    found = MinibatchDeviation().apply({}, x)
    chex.assert_trees_all_equal(found[..., :2], x)
    chex.assert_trees_all_close(found[..., 2:], jnp.full((6, 3, 4, 1), np.std(x, axis=0).mean()), rtol=1e-5)
    alike = MinibatchDeviation().apply({}, jnp.tile(x[:1], (6, 1, 1, 1)))
    assert float(alike[..., 2].max()) == pytest.approx(1e-4, rel=1e-4)
    slope = jax.grad(lambda x: MinibatchDeviation().apply({}, x)[..., 2].sum())(jnp.tile(x[:1], (6, 1, 1, 1)))
    chex.assert_tree_all_finite(slope)
    half = MinibatchDeviation().apply({}, x.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    assert float(half[0, 0, 0, 2]) == pytest.approx(float(found[0, 0, 0, 2]), rel=2e-2)


def test_minibatch_deviation_is_that_of_the_batch_of_all_devices(getkey):
    x = jax.random.normal(getkey(), (6, 3, 2)) + jnp.arange(6.0).reshape(6, 1, 1)
    weights = jax.random.normal(getkey(), (3, 3))

    def total(x, layer):
        return jnp.sum(jnp.tanh(layer.apply({}, x) * weights[None]))

    def slope(x):
        return jax.value_and_grad(lambda x: total(x, MinibatchDeviation(axis_name="devices")))(x)

    values, slopes = jax.pmap(slope, axis_name="devices")(x.reshape(2, 3, 3, 2))
    whole, expected = jax.value_and_grad(lambda x: total(x, MinibatchDeviation()))(x)
    chex.assert_trees_all_close(values.sum(), whole, rtol=1e-5)
    chex.assert_trees_all_close(slopes.reshape(6, 3, 2), expected, rtol=1e-4, atol=1e-6)
