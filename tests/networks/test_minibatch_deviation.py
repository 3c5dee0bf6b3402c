"""The minibatch deviation: what it adds, that it has a slope, that devices share it, and how it is frozen."""

from __future__ import annotations

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax.networks import dcgan, gansynth, mel_dcgan, wavegan
from nd_jax.networks.deviation import frozen
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


PLAYERS = {
    "dcgan": (dcgan.Discriminator(hidden=2, deviation=True, features=3), (28, 28, 1), "dense"),
    "mel_dcgan": (mel_dcgan.Discriminator((2, 3), deviation=True, classes=3), (8, 8, 1), "score"),
    "wavegan": (wavegan.Discriminator(2, 2, deviation=True), (32, 1), "dense"),
}


@pytest.mark.parametrize("name", PLAYERS)
def test_frozen_an_example_is_judged_as_it_is_among_others(name, tmp_path):
    module, shape, layer = PLAYERS[name]
    x = np.random.default_rng(2).uniform(-1, 1, (6, *shape)).astype(np.float32)
    domain = nd.domain.Image(shape) if len(shape) == 3 else nd.domain.Waveform(32, 8000)
    if module.classes:
        x = {"x": x, "label": np.array([0, 1, 2, 0, 1, 2], np.int32)}
        domain = nd.domain.Parts({"x": domain, "label": nd.domain.Label(("a", "b", "c"))})
    variables = module.init(jax.random.key(0), x)
    live = nd.Network(module, variables, input=domain, apply_kwargs={"train": False})
    # Alone an example would be something that training never saw.
    with pytest.raises(nd.taps.LayerError, match="freeze 'deviation' over batches of real ones first"):
        nd.taps.layer_shape(live, layer)
    parts = [jax.tree.map(lambda leaf, at=at: leaf[at : at + 3], x) for at in (0, 3)]
    fixed = dataclasses.replace(live, module=frozen(module, variables, parts))
    seen = [float(nd.taps.read(live, part, "deviation")["deviation"].reshape(-1)[-1]) for part in parts]
    assert fixed.module.frozen_deviation == pytest.approx(np.mean(seen), rel=1e-5) and np.ptp(seen) > 1e-4
    assert nd.taps.layer_shape(fixed, layer) == (1,)
    first = jax.tree.map(lambda leaf: leaf[:1], x)
    chex.assert_trees_all_close(fixed(x)[:1], fixed(first), atol=1e-5)
    assert abs(float(live(x)[0, 0] - live(first)[0, 0])) > 1e-4
    loaded = nd.load(fixed.save(tmp_path / name))
    assert loaded.module == fixed.module
    # Training goes by the batch at hand.
    kept = {"mutable": ["batch_stats"], "rngs": {"phase": jax.random.key(1), "dropout": jax.random.key(1)}}
    trained = [each.apply(variables, x, train=True, **kept)[0] for each in (module, fixed.module)]
    chex.assert_trees_all_equal(*trained)


def test_a_network_that_sees_no_batch_has_nothing_to_freeze():
    for module in (dcgan.Discriminator(), dcgan.Generator(), gansynth.Generator()):
        with pytest.raises(ValueError, match="has no minibatch deviation to freeze"):
            frozen(module, {}, [np.zeros((2, 28, 28, 1))])
