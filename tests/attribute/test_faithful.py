"""Is it true? Curves and numbers where the answer is known."""

from __future__ import annotations

import dataclasses

import attribution_problem
import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax.domain import Image


class Corner(nn.Module):
    """Class 1 is as strong as the sum of a corner."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(1, name="same", use_bias=False, kernel_init=nn.initializers.ones)(x)
        total = jnp.sum(x[:, :2, :2], axis=(1, 2, 3))
        return jnp.stack([2.0 - total, total], axis=1)


def corner():
    module = Corner()
    return nd.Network(module, module.init(jax.random.key(0), jnp.zeros((1, 6, 5, 1))), Image((6, 5, 1), 0.0, 1.0))


def truth():
    mask = np.zeros((6, 5, 1), np.float32)
    mask[:2, :2] = 1
    return mask


def test_the_true_map_is_better_than_its_opposite():
    network, x = corner(), np.ones((2, 6, 5, 1), np.float32)
    good, bad = (
        nd.attribute.insertion_deletion(network, x, np.stack([sign * truth()] * 2), 1, step=1, baseline=0.0)
        for sign in (1, -1)
    )
    assert np.all(good.insertion_area > 0.9)
    assert np.all(good.deletion_area < 0.25)
    assert np.all(bad.deletion_area > 0.85)
    assert np.all(bad.insertion_area < 0.3)
    chex.assert_trees_all_close(good.deletion[0, 4:], np.full(27, good.deletion[0, -1]), atol=1e-6)
    chex.assert_trees_all_close(good.share, np.arange(31) / 30)
    one = nd.attribute.insertion_deletion(network, x[0], truth()[..., 0], [1], step=7, baseline=0.0, of="logit")
    assert one.deletion.shape == (6,)
    chex.assert_trees_all_close(one.deletion[[0, -1]], np.array([4.0, 0.0]), atol=1e-5)


def test_what_is_kept_decides():
    network, x = corner(), 0.4 * np.ones((3, 6, 5, 1), np.float32)
    x[:, :2, :2] = 0.9
    kept = nd.attribute.faithfulness(network, x, np.stack([truth()] * 3), 1, baseline=0.0)
    chex.assert_trees_all_close(kept.average_drop, 0.0, atol=1e-4)
    assert kept.fidelity == 1.0
    probability = jax.nn.softmax(jnp.asarray([2.0 - 3.6, 3.6]))[1] - jax.nn.softmax(jnp.asarray([2.0, 0.0]))[1]
    assert kept.faithfulness == pytest.approx(float(probability), abs=1e-5)
    lost = nd.attribute.faithfulness(network, x, 1 - np.stack([truth()] * 3), baseline=0.0)
    assert lost.fidelity == 0.0
    assert lost.average_drop > 80
    assert lost.average_increase == 0.0
    # With a bright baseline, the corner is better replaced than kept.
    gained = nd.attribute.faithfulness(network, 0.5 * x, 1 - np.stack([truth()] * 3), 1, baseline=1.0)
    assert gained.average_increase == 100.0
    assert gained.average_gain > 50


def test_masks_from_maps():
    network = attribution_problem.tiny()
    x = np.random.default_rng(0).uniform(0, 1, (2, 12, 10, 1)).astype(np.float32)
    found = nd.attribute.occlusion(network, x, 0, window=3)
    mask = nd.attribute.mask_of(found)
    assert mask.shape == x.shape
    chex.assert_trees_all_close(mask.max(axis=(1, 2, 3)), np.ones(2, np.float32))
    assert mask.min() == 0.0
    marked = nd.attribute.mask_of(found, share=0.25)
    assert np.all(marked.sum(axis=(1, 2, 3)) <= 30) and np.all(found.values[marked > 0] > 0)
    against = dataclasses.replace(found, values=np.where(found.values > np.median(found.values), found.values, -1.0))
    positive = np.sum(against.values > 0, axis=(1, 2, 3))
    chex.assert_trees_all_equal(
        nd.attribute.mask_of(against, share=1.0).sum(axis=(1, 2, 3)), positive.astype(np.float32)
    )
    assert not nd.attribute.mask_of(dataclasses.replace(found, values=-np.abs(found.values)), share=0.25).any()
    with pytest.raises(ValueError, match="of one target"):
        nd.attribute.mask_of(nd.attribute.saliency(network, x, nd.objectives.logit()))
    with pytest.raises(ValueError, match="share must be above 0"):
        nd.attribute.mask_of(found, share=0.0)


def test_parts_add_up_to_the_whole():
    network = attribution_problem.tiny()
    x = np.random.default_rng(0).uniform(0, 1, (2, 12, 10, 1)).astype(np.float32)
    found = nd.attribute.occlusion(network, x, 0, window=3)
    kept, removed = nd.attribute.parts(x, found, share=0.25, baseline=0.5)
    chex.assert_trees_all_close(kept + removed, x + 0.5, atol=1e-6)
    assert (kept != 0.5).sum() <= 60
    one = nd.attribute.parts(x[0], nd.attribute.occlusion(network, x[0], 0, window=3), baseline=0.5)
    chex.assert_trees_all_close(one[0], kept[0], atol=1e-6)
    masked = nd.attribute.Attribution(np.full(x.shape, 0.5), np.zeros(2), ("a",), "mask", network.input)
    chex.assert_trees_all_close(nd.attribute.parts(x, masked, share=None, baseline=0.0)[0], 0.5 * x)
    with pytest.raises(ValueError, match="is not one of inputs of shape"):
        nd.attribute.parts(x[:1], found)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a, n, x: a.insertion_deletion(n, x, np.zeros((3, 3)), 0), "a map for inputs of shape"),
        (lambda a, n, x: a.insertion_deletion(n, x, np.full((12, 10), np.nan), 0), "finite numbers"),
        (lambda a, n, x: a.insertion_deletion(n, x, x, 0, step=0), "step is a whole number from 1 to the 120"),
        (lambda a, n, x: a.insertion_deletion(n, x, x, 0, of="odds"), "of is 'probability' or 'logit'"),
        (lambda a, n, x: a.insertion_deletion(n, x, x, 0, chunk_size=0), "chunk_size must be"),
        (lambda a, n, x: a.insertion_deletion(n, x, x, nd.objectives.logit()), "of one target"),
        (lambda a, n, x: a.insertion_deletion(n, x, x, 0, baseline="neighbours"), "for occlusion only"),
        (lambda a, n, x: a.faithfulness(n, x, 2 + x), "a mask lies between 0 and 1"),
        (lambda a, n, x: a.faithfulness(n, x, x, nd.objectives.logit(0)), "takes classes"),
        (lambda a, n, x: a.faithfulness(n, x, x, [0, 1]), "2 classes are given for 1 clips"),
        (lambda a, n, x: a.mask_of(x), "takes an Attribution"),
        (lambda a, n, x: a.insertion_deletion(n, x, x, 0, baseline=None), "a baseline is one of silence, mean"),
        (lambda a, n, x: a.faithfulness(n, x, x, baseline="noise"), r"give key=jax.random.key\(...\)"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(call, message):
    network = attribution_problem.tiny()
    with pytest.raises(ValueError, match=message) as caught:
        call(nd.attribute, network, np.zeros((12, 10, 1), np.float32))
    assert len(str(caught.value).splitlines()) == 1


def test_noise_in_the_place_of_what_is_taken_away():
    network = attribution_problem.tiny()
    x = np.random.default_rng(0).uniform(0, 1, (2, 12, 10, 1)).astype(np.float32)
    noise = {"baseline": "noise", "key": jax.random.key(1)}
    found = nd.attribute.input_x_gradient(network, x, 0, **noise)
    curves = nd.attribute.insertion_deletion(network, x, found, 0, step=30, **noise)
    assert np.all(np.isfinite(curves.deletion))
    kept, removed = nd.attribute.parts(x, found, **noise)
    drawn = nd.attribute.baseline_of(network.input, jnp.asarray(x), "noise", key=jax.random.key(1))
    chex.assert_trees_all_close(kept + removed, x + np.asarray(drawn), atol=1e-6)
    assert nd.attribute.faithfulness(network, x, np.ones_like(x), **noise).fidelity == 1.0


class Breaks(nn.Module):
    """The logarithm of the least value, which is not a number where something is taken away."""

    @nn.compact
    def __call__(self, x):
        total = x.sum(axis=(1, 2, 3))
        return jnp.stack([total, jnp.where(x.min(axis=(1, 2, 3)) > 0, total, jnp.nan)], axis=1)


@pytest.mark.parametrize(
    "call",
    [
        lambda a, n, x: a.occlusion(n, x, 1, window=3, baseline=0.0),
        lambda a, n, x: a.rise(n, x, 1, key=jax.random.key(0), masks=8, cells=2, baseline=0.0),
        lambda a, n, x: a.insertion_deletion(n, x, x, 1, of="logit", baseline=0.0),
        lambda a, n, x: a.faithfulness(n, x, np.zeros_like(x), baseline=0.0),
        lambda a, n, x: a.mask(n, x, 1, steps=2, baseline=0.0),
    ],
)
def test_scores_that_are_no_numbers_are_said_so(call):
    network = nd.Network(Breaks(), {}, nd.domain.Image((6, 6, 1)))
    with pytest.raises(ValueError, match="the network gives scores that are not finite numbers for some of the"):
        call(nd.attribute, network, np.full((6, 6, 1), 0.5, np.float32))
