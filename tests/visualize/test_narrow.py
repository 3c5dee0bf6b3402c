"""One unit of a layer alone: equal to the whole layer, in any chunk, and only where it may be taken."""

import math
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import taps
from nd_jax.networks.conv import Conv
from nd_jax.networks.layers import Relu
from nd_jax.visualize import narrow, objectives


class Net(nn.Module):
    """A stem, the layer under test, and more behind it that one channel alone would not fit."""

    make: Any
    shape: tuple[int, ...]
    wrap: str = ""

    @nn.compact
    def __call__(self, x):
        x = x.reshape(-1, *self.shape)
        x = Relu(name="relu")(Conv(24, (3,) * (x.ndim - 2), name="stem")(x))
        kind = nn.remat(self.make.func) if self.wrap == "remat" else self.make.func
        module = kind(*self.make.args, **self.make.keywords, name="layer")
        y = module(inputs=x) if self.wrap == "keyword" else module(x)
        if self.wrap == "twice":
            y = y + module(x)
        return nn.LayerNorm(name="norm")(y).sum(axis=tuple(range(1, y.ndim)))


def network(make, shape, key, wrap="", **settings):
    module = Net(make, shape, wrap)
    variables = module.init(key, jnp.zeros((1, math.prod(shape))))
    # Biases start at zero, which would hide a wrong one.
    variables = jax.tree.map(
        lambda leaf: leaf + 0.1 * jax.random.normal(key, leaf.shape) if leaf.ndim == 1 else leaf, variables
    )
    return nd.Network(module, variables, input=nd.domain.Latent(math.prod(shape)), **settings)


def both(net, objective, x):
    """(narrow, whole): value and gradient of every lane on its own input; the first is None where it is refused."""
    bound = objective.bind(net)
    arrays = jax.tree.map(jnp.asarray, bound.arrays)
    refused, layer = [], bound.spec[0][1]

    def whole(x, terms):
        return objectives.evaluate(bound.spec, terms, {layer: taps.forward(net, x[None], (layer,))[1][layer][0]})

    def alone(x, terms):
        found = narrow.forward(bound.spec, terms, net, x[None])
        if found is None:
            refused.append(True)
            return 0.0
        activations, terms = found
        assert activations[layer].shape[-1] == 1
        return objectives.evaluate(bound.spec, terms, {layer: activations[layer][0]})

    pair = [jax.jit(jax.vmap(jax.value_and_grad(each)))(x, arrays) for each in (alone, whole)]
    return (None if refused else pair[0]), pair[1]


SHAPES = {
    "same": (partial(Conv, 16, (3, 3)), (8, 7, 1)),
    "strided": (partial(Conv, 32, (5, 5), (2, 2), padding="VALID", use_bias=False), (12, 13, 2)),
    "uneven": (partial(Conv, 16, (3, 4), (1, 2), padding=((2, 0), (1, 3))), (9, 10, 1)),
    "dilated": (partial(nn.Conv, 8, (3, 3), padding=2, kernel_dilation=2), (9, 8, 1)),
    "dilated, strided": (partial(nn.Conv, 32, (3, 3), (2, 2), kernel_dilation=(1, 3)), (9, 12, 1)),
    "stride skips": (partial(nn.Conv, 64, (2, 2), (3, 3), padding="VALID"), (10, 10, 1)),
    "one axis": (partial(nn.Conv, 16, 5, 2), (21, 2)),
    "dense": (partial(nn.Dense, 8), (5, 4, 1)),
}


@pytest.mark.parametrize(("name", "kind"), [*((name, "channel") for name in SHAPES), ("uneven", "neuron")])
def test_equals_the_whole_layer(name, kind, getkey):
    make, shape = SHAPES[name]
    net = network(make, shape, getkey())
    features = make.args[0]
    units = range(features)
    objective = {
        "channel": lambda: nd.objectives.channel("layer", units, power=2) * 0.5,
        "neuron": lambda: nd.objectives.neuron("layer", units),
    }[kind]()
    alone, whole = both(net, objective, jax.random.normal(getkey(), (features, math.prod(shape))))
    assert alone is not None
    for one, other in zip(alone, whole, strict=True):
        chex.assert_trees_all_close(one, other, atol=1e-5 * float(jnp.abs(other).max()))
    assert float(jnp.abs(whole[1]).max()) > 0


class Other(nn.Conv):
    """A convolution of somebody's own."""

    def __call__(self, inputs):
        return 2 * super().__call__(inputs)


def plain(getkey, make=None, **settings):
    return network(make or partial(nn.Conv, 8, (3, 3)), (6, 6, 1), getkey(), **settings)


def channels(count=8):
    return nd.objectives.channel("layer", range(count))


@pytest.mark.parametrize(
    "case",
    ["own class", "own function", "grouped", "circular", "few units", "long stride", "input dilation", "half precision"]
    + ["edited", "remat", "twice", "keyword", "two terms", "direction", "unpositioned", "few channels in"],
)
def test_the_whole_layer_where_it_is_needed(case, getkey):
    layers = {
        "own class": partial(Other, 8, (3, 3)),
        "own function": partial(
            nn.Conv, 8, (3, 3), conv_general_dilated=lambda *a, **k: 2 * jax.lax.conv_general_dilated(*a, **k)
        ),
        "grouped": partial(nn.Conv, 12, (3, 3), feature_group_count=2),
        "circular": partial(nn.Conv, 8, (3, 3), padding="CIRCULAR"),
        "few units": partial(nn.Conv, 3, (3, 3)),
        "long stride": partial(nn.Conv, 8, (3, 3), (3, 3)),
        "input dilation": partial(nn.Conv, 8, (3, 3), input_dilation=2, padding=((1, 1), (1, 1))),
        "half precision": partial(nn.Conv, 8, (3, 3), dtype=jnp.bfloat16),
    }
    wrap = case if case in ("remat", "twice", "keyword") else ""
    net = plain(getkey, layers.get(case), wrap=wrap)
    objective = channels(3)
    if case == "edited":
        net = nd.taps.edited(net, [nd.taps.Scale("layer", units=[1], factor=3.0)])
    elif case == "two terms":
        objective = channels(3) - nd.objectives.channel("layer", [3, 4, 5])
    elif case == "direction":
        objective = nd.objectives.direction("layer", np.eye(8, dtype=np.float32)[:3])
    elif case == "few channels in":
        net = network(partial(nn.Conv, 24, (3, 3)), (6, 6, 1), getkey())
        objective = nd.objectives.channel("stem", range(3))
    elif case == "unpositioned":
        net = plain(getkey, partial(nn.Conv, 8, (6, 6), padding="VALID"))
    alone, _ = both(net, objective, jax.random.normal(getkey(), (3, 36)))
    assert alone is None


def test_an_edit_of_an_earlier_layer_is_seen(getkey):
    net = nd.taps.edited(plain(getkey), [nd.taps.Scale("stem", units=[0, 1], factor=3.0)])
    alone, whole = both(net, channels(), jax.random.normal(getkey(), (8, 36)))
    chex.assert_trees_all_close(alone, whole, rtol=1e-4, atol=1e-5)


def test_a_run_takes_it_and_lanes_stay_themselves(getkey, monkeypatch):
    net = plain(getkey, partial(Conv, 12, (3, 3), (1, 1)))
    key = getkey()
    taken = []
    convolve = narrow.convolve_one

    def counted(*arguments, **options):
        taken.append(1)
        return convolve(*arguments, **options)

    monkeypatch.setattr(narrow, "convolve_one", counted)

    def run(units, **settings):
        objective = nd.objectives.channel("layer", units)
        return nd.visualize_batch(net, objective, key=key, steps=60, snapshots=0, progress=False, **settings)

    together = run(range(12))
    first = len(taken)
    assert first
    alone = run([5])
    turned = run([11, 5, 2], chunk_size=8)
    assert len(taken) <= 2 * first, "each unit must not be traced anew"
    np.testing.assert_array_equal(together.inputs[5], alone.inputs[0])
    np.testing.assert_array_equal(together.inputs[[11, 5, 2]], turned.inputs)
    np.testing.assert_array_equal(together.scores[[11, 5, 2]], turned.scores)
    monkeypatch.setattr(narrow, "forward", lambda *arguments: None)
    jax.clear_caches()
    whole = run(range(12))
    chex.assert_trees_all_close(together.scores, whole.scores, rtol=1e-3)


def test_three_axes(getkey):
    x, kernel = jax.random.normal(getkey(), (2, 4, 5, 3, 2)), jax.random.normal(getkey(), (2, 3, 2, 2))
    padding = ((1, 0), (1, 1), (0, 2))
    whole = jax.lax.conv_general_dilated(
        x, kernel[..., None], (1, 2, 1), padding, dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )
    alone = narrow.convolve_one(x, kernel, (1, 2, 1), padding, (1, 1, 1))
    chex.assert_trees_all_close(alone, whole[..., 0], atol=1e-5)


def test_several_inputs_a_lane(getkey):
    net = plain(getkey)
    bound = channels().bind(net)
    terms = jax.tree.map(lambda leaf: jnp.asarray(leaf[3]), bound.arrays)
    x = jax.random.normal(getkey(), (5, 36))
    activations, _ = narrow.forward(bound.spec, terms, net, x)
    whole = taps.read(net, x, ["layer"])["layer"][..., 3:4]
    chex.assert_trees_all_close(activations["layer"], whole, atol=1e-5)
