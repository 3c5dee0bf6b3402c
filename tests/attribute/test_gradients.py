"""Gradients and RISE where the answer is known, and what they refuse."""

from __future__ import annotations

import attribution_problem
import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax.attribute.gradients import quadrature
from nd_jax.attribute.rise import KEEPS, random_mask
from nd_jax.domain import Image
from nd_jax.taps import LayerError


class Square(nn.Module):
    """Half the squared length of the input, and the sum of one corner."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(1, name="eye", use_bias=False, kernel_init=nn.initializers.ones)(x)
        corner = jnp.sum(x[:, :4, :4], axis=(1, 2, 3))
        return jnp.stack([0.5 * jnp.sum(x**2, axis=(1, 2, 3)), corner], axis=1)


def square(shape=(12, 12, 1)):
    module = Square()
    return nd.Network(module, module.init(jax.random.key(0), jnp.zeros((1, *shape))), Image(shape, -4.0, 4.0))


def some(count=2, shape=(12, 12, 1)):
    return np.random.default_rng(1).uniform(-1, 1, (count, *shape)).astype(np.float32)


def test_the_square_has_the_input_as_its_gradient():
    network, x = square(), some()
    chex.assert_trees_all_close(nd.attribute.saliency(network, x, 0, absolute=False).values, x, atol=1e-5)
    chex.assert_trees_all_close(nd.attribute.input_x_gradient(network, x[0], 0).values, x[0] ** 2, atol=1e-5)
    smooth = nd.attribute.smooth_grad(network, x, 0, key=jax.random.key(0), samples=400, chunk_size=100)
    chex.assert_trees_all_close(smooth.values, x, atol=0.1)
    alone = nd.attribute.smooth_grad(network, x[1], 0, key=jax.random.key(0), samples=400)
    chex.assert_trees_all_close(smooth.values[1], alone.values, atol=1e-5)
    exact = nd.attribute.integrated_gradients(network, x, 0, baseline=0.5, steps=3, chunk_size=4)
    chex.assert_trees_all_close(exact.values, (x**2 - 0.25) / 2, atol=1e-5)
    chex.assert_trees_all_close(exact.error, np.zeros(2, np.float32), atol=1e-4)
    coarse = nd.attribute.integrated_gradients(network, x, 0, baseline=0.5, steps=3, rule="riemann_left")
    assert np.all(np.abs(coarse.error) > 1.0)


def test_several_lanes_and_each_clips_own_class():
    network, x = attribution_problem.tiny(), some(3, (12, 10, 1))
    lanes = nd.attribute.saliency(network, x, nd.objectives.logit())
    assert lanes.shape == (3, 3, 12, 10, 1)
    own = nd.attribute.saliency(network, x, [2, 0, 1])
    chex.assert_trees_all_close(own.values, lanes.values[np.arange(3), [2, 0, 1]], rtol=1e-4, atol=1e-6)
    chex.assert_trees_all_close(own.scores, lanes.scores[np.arange(3), [2, 0, 1]], rtol=1e-4, atol=1e-6)
    times = nd.attribute.input_x_gradient(network, x, nd.objectives.logit([0, 1]), baseline="mean")
    middle = x - x.mean(axis=(1, 2, 3), keepdims=True)
    signed = nd.attribute.saliency(network, x, nd.objectives.logit([0, 1]), absolute=False)
    chex.assert_trees_all_close(times.values, signed.values * middle[:, None], rtol=1e-4, atol=1e-6)


def test_grad_cam_of_a_hidden_unit():
    network, x = attribution_problem.tiny(), some(2, (12, 10, 1))
    found = nd.attribute.grad_cam(network, x, nd.objectives.channel("conv2", [1]), "conv2", resize=None, relu=False)
    unit = np.asarray(nd.taps.read(network, x, "conv2")["conv2"])[..., 1]
    chex.assert_trees_all_close(found.values, unit / unit[0].size, rtol=1e-4, atol=1e-6)
    assert nd.attribute.grad_cam(network, x[0], 0, "conv1").shape == (12, 10, 1)


def test_rise_finds_the_corner_and_chooses_what_it_keeps():
    network, x = square(), np.ones((2, 12, 12, 1), np.float32)
    found = nd.attribute.rise(network, x, 1, key=jax.random.key(0), masks=600, cells=3, baseline=0.0, chunk_size=100)
    inside, outside = found.values[:, :4, :4].mean(), found.values[:, 6:, 6:].mean()
    assert inside > 10 * abs(outside)
    chex.assert_trees_all_equal(found.values[0], found.values[1])
    assert float(found.method.rpartition(" ")[2]) in KEEPS
    alone = nd.attribute.rise(
        network, x[0], 1, key=jax.random.key(0), masks=600, cells=3, baseline=0.0, keep=0.5, chunk_size=999
    )
    together = nd.attribute.rise(
        network, x, [1, 0], key=jax.random.key(0), masks=600, cells=3, baseline=0.0, keep=0.5, chunk_size=7
    )
    chex.assert_trees_all_close(alone.values, together.values[0], atol=1e-4)


def test_masks_are_shown_as_often_as_is_asked():
    keys = jax.random.split(jax.random.key(1), 500)
    masks = jax.vmap(lambda key: random_mask(key, (15, 11), (4, 3), 0.3))(keys)
    chex.assert_shape(masks, (500, 15, 11))
    assert float(jnp.min(masks)) >= 0.0
    assert float(jnp.max(masks)) <= 1.0
    chex.assert_trees_all_close(jnp.mean(masks, axis=0), jnp.full((15, 11), 0.3), atol=0.08)


def test_quadratures_add_up():
    for rule in nd.attribute.gradients.RULES:
        nodes, weights = quadrature(rule, 7)
        assert np.all((nodes >= 0) & (nodes <= 1))
        total = 6 / 7 if rule == "riemann_trapezoid" else 1.0  # Captum's trapezoid: 1 / n each, half at both ends
        assert weights.sum() == pytest.approx(total)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda a, n, x: a.integrated_gradients(n, x, 0, rule="gauss"), ValueError, "unknown rule 'gauss'.*gauss"),
        (lambda a, n, x: a.integrated_gradients(n, x, 0, steps=0), ValueError, "steps must be"),
        (lambda a, n, x: a.integrated_gradients(n, x, 0, steps=1, rule="riemann_trapezoid"), ValueError, "at least 2"),
        (lambda a, n, x: a.integrated_gradients(n, x, 0, baseline="neighbours"), ValueError, "for occlusion only"),
        (lambda a, n, x: a.smooth_grad(n, x, 0, key=jax.random.key(0), noise=-1.0), ValueError, "noise must be"),
        (lambda a, n, x: a.smooth_grad(n, x, 0, key=jax.random.key(0), samples=0), ValueError, "samples must be"),
        (lambda a, n, x: a.grad_cam(n, x, 0, "conv3"), LayerError, "no layer 'conv3'"),
        (lambda a, n, x: a.grad_cam(n, x, 0, "fc"), ValueError, "needs a layer with positions"),
        (lambda a, n, x: a.grad_cam(n, x, 0, "conv1", resize="cubic"), ValueError, "unknown resize"),
        (lambda a, n, x: a.rise(n, x, 0, key=jax.random.key(0), keep=1.0), ValueError, "keep is a probability"),
        (lambda a, n, x: a.rise(n, x, 0, key=jax.random.key(0), cells=11), ValueError, "cells are at most"),
        (lambda a, n, x: a.rise(n, x, 0, key=jax.random.key(0), cells=2.7), ValueError, "cells are whole numbers"),
        (lambda a, n, x: a.rise(n, x, 0, key=jax.random.key(0), cells=(3, 4, 5)), ValueError, "cells are whole"),
        (lambda a, n, x: a.rise(n, x, 0, key=jax.random.key(0), masks=0), ValueError, "masks must be"),
        (lambda a, n, x: a.saliency(n, x, [0, 1]), ValueError, "2 classes are given for 1 clip"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(call, error, message):
    network = attribution_problem.tiny()
    with pytest.raises(error, match=message) as caught:
        call(nd.attribute, network, np.zeros((12, 10, 1), np.float32))
    assert len(str(caught.value).splitlines()) == 1


class Weighted(nn.Module):
    """sum(x * w) for three classes, written as it reads."""

    @nn.compact
    def __call__(self, x):
        weights = self.param("weights", nn.initializers.normal(), (*x.shape[1:3], 3))
        return jnp.sum(x * weights[None], axis=(1, 2))


def test_a_product_and_a_sum_has_its_weights_as_its_gradient():
    # Compiled wrongly by jaxlib 0.10 where the gradient is mapped over the one class that is explained.
    module, shape = Weighted(), (20, 48, 1)
    network = nd.Network(module, module.init(jax.random.key(0), jnp.zeros((1, *shape))), Image(shape, -4.0, 4.0))
    weights = np.asarray(network.variables["params"]["weights"])
    x = some(2, shape)
    alike = nd.attribute.saliency(network, x, 1, absolute=False).values
    own = nd.attribute.saliency(network, x, [0, 2], absolute=False).values
    chex.assert_trees_all_close(alike[..., 0], np.stack([weights[..., 1]] * 2), atol=1e-6)
    chex.assert_trees_all_close(own[..., 0], np.moveaxis(weights[..., [0, 2]], -1, 0), atol=1e-6)
