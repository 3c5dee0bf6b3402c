"""Optimised masks where the answer is known, and what they refuse."""

from __future__ import annotations

import attribution_problem
import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax.attribute.masks import ExtremalArea, MaskedInput
from nd_jax.domain import Image

SHAPE = (16, 12, 1)


class Box(nn.Module):
    """The score of class k is the sum of the k-th box."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(1, name="same", use_bias=False, kernel_init=nn.initializers.ones)(x)
        return jnp.stack([jnp.sum(x[:, :4, :6], axis=(1, 2, 3)), jnp.sum(x[:, 8:12, 6:], axis=(1, 2, 3))], axis=1)


def boxes():
    module = Box()
    return nd.Network(module, module.init(jax.random.key(0), jnp.zeros((1, *SHAPE))), Image(SHAPE, 0.0, 1.0))


class Heard(nn.Module):
    """What rises above 0.7 in the first box: half of the input is not heard at all."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(1, name="same", use_bias=False, kernel_init=nn.initializers.ones)(x)
        return jnp.sum(nn.relu(x[:, :4, :6] - 0.7), axis=(1, 2, 3))[:, None]


def truth(kind):
    mask = np.zeros(SHAPE, np.float32)
    mask[((slice(0, 4), slice(0, 6)), (slice(8, 12), slice(6, 12)))[kind]] = 1
    return mask


def test_extremal_masks_find_the_box_of_each_clip():
    x = np.ones((2, *SHAPE), np.float32)
    found = nd.attribute.mask(boxes(), x, [0, 1], areas=[0.125, 0.25], cells=(16, 12), baseline=0.0, steps=250)
    assert found.shape == (2, 2, *SHAPE)
    for clip in range(2):
        exact = found.values[clip, 0]
        assert exact[truth(clip) > 0].min() > 0.8
        assert exact[truth(clip) == 0].mean() < 0.1
        assert abs(float(found.values[clip, 1].mean()) - 0.25) < 0.05
    assert np.all(found.scores[:, 0] > 0.85 * 24)
    alone = nd.attribute.mask(boxes(), x[1], 1, areas=0.125, cells=(16, 12), baseline=0.0, steps=250)
    chex.assert_trees_all_close(alone.values, found.values[1, 0], atol=1e-4)


@pytest.mark.parametrize("variant", ["preserve", "delete"])
@pytest.mark.parametrize("method", ["extremal", "meaningful"])
def test_masks_begin_where_a_threshold_is_passed(method, variant):
    module = Heard()
    network = nd.Network(module, module.init(jax.random.key(0), jnp.zeros((1, *SHAPE))), Image(SHAPE, 0.0, 1.0))
    x = np.ones(SHAPE, np.float32)
    settings = {"areas": 0.125, "cells": (16, 12), "baseline": 0.0, "steps": 250}
    found = nd.attribute.mask(network, x, 0, method=method, variant=variant, **settings)
    inside, outside = (float(found.values[truth(0) == side].mean()) for side in (1, 0))
    # A cell is gone for good as soon as it is below the threshold: no more of it need be taken away.
    assert inside > (0.7 if variant == "preserve" else 0.2) and outside < inside / 3
    assert (float(found.scores) > 5.0) == (variant == "preserve")


def test_what_is_deleted_is_what_the_score_needs():
    x = np.ones(SHAPE, np.float32)
    found = nd.attribute.mask(boxes(), x, 0, variant="delete", areas=0.125, cells=(16, 12), baseline=0.0, steps=250)
    assert found.values[truth(0) > 0].mean() > 0.9
    assert float(found.scores) < 0.15 * 24
    assert found.labels == ("output:0",)


def test_meaningful_masks_pay_for_what_they_cover():
    x = np.ones(SHAPE, np.float32)
    cheap, dear = (
        nd.attribute.mask(
            boxes(), x, 0, method="meaningful", cells=(16, 12), baseline=0.0, steps=150, l1=price, variation=0.01
        )
        for price in (0.4, 40.0)
    )
    # The box, an eighth of the input, is all there is to gain: dear at forty times that for a whole input.
    assert cheap.values[truth(0) > 0].mean() > 0.9
    assert cheap.values[truth(0) == 0].mean() < 0.1
    assert dear.values.mean() < 0.1


def test_a_mask_over_one_axis():
    x = np.ones((2, *SHAPE), np.float32)
    found = nd.attribute.mask(boxes(), x, 1, areas=0.25, cells=(16, 1), baseline=0.0, steps=200)
    rows = found.values[:, :, 0, 0]
    chex.assert_trees_all_close(found.values, np.broadcast_to(rows[:, :, None, None], found.shape))
    assert rows[:, 8:12].min() > 0.7
    assert rows[:, :6].max() < 0.3


def test_the_area_costs_nothing_when_it_is_met():
    domain, form = Image((4, 5, 1), 0.0, 1.0), MaskedInput((4, 5))
    free = jnp.where(jnp.arange(20).reshape(4, 5) < 5, 50.0, -50.0)
    met = ExtremalArea().of(form, {"free": free, "area": jnp.asarray(0.25)}, domain)
    missed = ExtremalArea().of(form, {"free": free, "area": jnp.asarray(0.5)}, domain)
    chex.assert_trees_all_close((met, missed), (jnp.zeros(()), jnp.asarray(0.25)), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "extreme"}, "unknown method 'extreme'.*extremal"),
        ({"variant": "keep"}, "unknown variant 'keep'"),
        ({"areas": 1.0}, "areas are shares"),
        ({"areas": []}, "areas are shares"),
        ({"cells": (3,)}, "cells are whole numbers"),
        ({"cells": 0}, "cells are whole numbers"),
        ({"cells": 2.5}, "cells are whole numbers"),
        ({"areas": "a"}, "areas are shares of the input between 0 and 1, got 'a'"),
        ({"l1": float("nan")}, "l1 is a finite number of 0 or more, got nan"),
        ({"cells": 1}, "covers all or nothing"),
        ({"baseline": "neighbours"}, "for occlusion only"),
        ({"target": 7}, "units 0 to 2"),
        ({"target": nd.objectives.logit([0, 1])}, "there are 2 for 1"),
        ({"target": nd.objectives.diversity("conv1")}, "compares several inputs"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(change, message):
    network = attribution_problem.tiny()
    options = {"target": 0} | change
    with pytest.raises(ValueError, match=message) as caught:
        nd.attribute.mask(network, np.zeros((12, 10, 1), np.float32), options.pop("target"), **options)
    assert len(str(caught.value).splitlines()) == 1
