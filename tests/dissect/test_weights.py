"""Composed weights: exact where nothing bends, the straight line where something does, drawn with true axes."""

from __future__ import annotations

import dataclasses

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import audio, dissect
from nd_jax.dissect.straight import NotComposable, straightened
from nd_jax.dissect.weights import composable
from nd_jax.domain import Image, Latent, LogMel, Waveform
from nd_jax.networks.conv import Conv


class Chain(nn.Module):
    """Convolution, norm, bend, pooling, convolution, bend, head; with `bent` False nothing bends."""

    bent: bool = True
    pool: str = "mean"

    @nn.compact
    def __call__(self, x, train=False):
        bend = nn.relu if self.bent else (lambda value: value)
        x = bend(nn.BatchNorm(use_running_average=True, name="norm")(Conv(5, (3, 3), name="one")(x)))
        x = (nn.max_pool if self.pool == "max" else nn.avg_pool)(x, (2, 2), (2, 2))
        x = bend(Conv(4, (3, 3), name="two")(x))
        return nn.Dense(3, name="head")(x.mean(axis=(1, 2)))


class Maker(nn.Module):
    """A generator: dense, bend, convolution, tanh."""

    @nn.compact
    def __call__(self, z, train=False):
        x = nn.leaky_relu(nn.Dense(6 * 8 * 3, name="seed")(z), 0.2).reshape(len(z), 6, 8, 3)
        return nn.tanh(Conv(1, (3, 3), name="paint")(nn.relu(x)))


def made(module, domain, seed=0, **more):
    example = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), domain.abstract(1))
    variables = jax.tree.map(np.array, module.init(jax.random.key(seed), example))
    if "batch_stats" in variables:
        variables["batch_stats"]["norm"]["var"] = np.linspace(0.5, 2, 5).astype(np.float32)
    return nd.Network(module, variables, input=domain, apply_kwargs={"train": False}, **more)


IMAGE = Image((12, 14, 1), low=-1.0)


@pytest.mark.parametrize("layer", ["one", "two", "head"])
def test_without_bends_they_are_the_jacobian(layer):
    network = made(Chain(bent=False), IMAGE)
    found = dissect.composed(network, layer)

    def middle(x):
        value = nd.taps.forward(network, x[None], (layer,))[1][layer][0]
        return value[tuple(size // 2 for size in value.shape[:-1])]

    expected = jax.jacobian(middle)(jnp.zeros(IMAGE.shape))
    chex.assert_trees_all_close(found.values, np.asarray(expected), atol=1e-6)
    assert found.towards == "input" and found.placed == (layer != "head")


def test_bends_let_everything_through_and_a_largest_is_a_mean():
    straight = made(Chain(bent=False, pool="mean"), IMAGE)
    bent = nd.Network(Chain(bent=True, pool="max"), straight.variables, input=IMAGE, apply_kwargs={"train": False})
    for layer in ("two", "head"):
        chex.assert_trees_all_close(
            dissect.composed(bent, layer).values, dissect.composed(straight, layer).values, atol=1e-6
        )


def test_the_first_layers_are_its_filters():
    network = made(Chain(), IMAGE)
    found = dissect.composed(network, "one", [3, 0])
    assert found.is_filter and found.through == ("one",) and found.units.tolist() == [3, 0]
    drawn = found.pictures()
    kernel = network.variables["params"]["one"]["kernel"]
    for picture, unit in zip(drawn, (3, 0), strict=True):
        chex.assert_trees_all_close(picture.values, kernel[:, :, 0, unit], atol=1e-6)
        assert picture.low == -picture.high and picture.x.unit == "px"
        assert picture.y.values.tolist() == [5, 6, 7]
    assert dissect.composed(network, "two", [1]).through == ("one", "two")
    assert found.sounds() is None


def test_filters_of_colour_keep_their_colours():
    """A filter of red minus green is not blank."""
    network = made(Chain(), Image((12, 12, 3)))
    found = dissect.composed(network, "one", [0])
    opposed = dataclasses.replace(found, values=found.values * 0 + np.array([1.0, -1.0, 0.0], np.float32))
    [picture] = opposed.pictures()
    assert picture.values.shape == (12, 12, 3) and picture.high == 1.0
    [drawn] = found.pictures()
    chex.assert_trees_all_close(drawn.values, network.variables["params"]["one"]["kernel"][..., 0], atol=1e-6)


def test_a_generators_go_on_to_its_output():
    network = made(Maker(), Latent(5), output=Image((6, 8, 1), low=-1.0))
    found = dissect.composed(network, "seed", [0, 70])
    assert found.towards == "output" and found.through == ("paint",) and found.domain.kind == "image"
    kernel = network.variables["params"]["paint"]["kernel"][:, :, :, 0]
    row, column, channel = np.unravel_index(70, (6, 8, 3))
    expected = np.zeros((6, 8))
    for down in range(3):
        for across in range(3):
            y, x = row + 1 - down, column + 1 - across
            if 0 <= y < 6 and 0 <= x < 8:
                expected[y, x] = kernel[down, across, channel]
    chex.assert_trees_all_close(found.values[1, :, :, 0], expected.astype(np.float32), atol=1e-6)
    assert composable(network, "paint") is None, "one number on one pixel is nothing to draw"


def test_spectra_have_seconds_and_hertz_and_can_be_heard():
    front = audio.LogMel(sample_rate=8000, n_fft=256, hop_length=128, n_mels=16, f_min=60.0)
    network = made(Chain(), LogMel(front, frames=20))
    found = dissect.composed(network, "one", [0, 1])
    picture = found.pictures()[0]
    assert picture.values.shape == (3, 3)
    assert (picture.x.unit, picture.y.unit) == ("s", "Hz") and picture.y.scale == "mel"
    centres = np.asarray(front.centre_frequencies)
    chex.assert_trees_all_close(np.asarray(picture.y.values), centres[[9, 8, 7]])
    chex.assert_trees_all_close(np.asarray(picture.x.values), np.array([9, 10, 11]) * 128 / 8000)
    chex.assert_trees_all_close(picture.values[0], found.values[0, 9, 9:12, 0], atol=1e-6)
    sounds = found.sounds()
    assert len(sounds) == 2 and sounds[0].sample_rate == 8000 and np.abs(sounds[0].wave).max() > 1e-3


def test_weights_on_samples_are_a_wave():
    class Samples(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            return nn.Conv(2, (9,), name="bank")(x)

    network = made(Samples(), Waveform(256, 8000))
    found = dissect.composed(network, "bank", [1])
    wave = found.sounds()[0].wave
    kernel = network.variables["params"]["bank"]["kernel"][:, 0, 1]
    assert np.abs(wave).max() == pytest.approx(1)
    chex.assert_trees_all_close(wave[124:133], (kernel / np.abs(kernel).max()).astype(np.float32), atol=1e-5)
    assert found.pictures()[0].unit == "dB"


@pytest.mark.parametrize(
    ("function", "slope"),
    [
        (jax.nn.relu, 1),
        (lambda x: jax.nn.leaky_relu(x, 0.2), 1),
        (jnp.tanh, 1),
        (lambda x: jnp.maximum(x, -3.0) + jnp.minimum(2.0, x), 2),
        (lambda x: jnp.clip(x, -1, 1), 1),
        (jax.jit(lambda x: jax.checkpoint(jax.nn.relu)(3 * x)), 3),
        (lambda x: x / 4 + jnp.where(x > 0, x, 0.5 * x), 1.25),
    ],
)
def test_what_a_straight_line_is(function, slope):
    straight = straightened(function, jnp.zeros(4))
    for x in (jnp.array([-5.0, -0.1, 0.1, 7.0]), jnp.ones(4)):
        chex.assert_trees_all_close(straight(x) - straight(jnp.zeros(4)), slope * x, atol=1e-5)


def test_what_has_none_says_so():
    class Attention(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            x = x.reshape(len(x), 12, 14)
            return nn.Dense(2, name="out")(nn.softmax(x @ x.swapaxes(1, 2)).mean(1))

    network = made(Attention(), IMAGE)
    with pytest.raises(NotComposable, match="cannot be composed"):
        dissect.composed(network, "out")
    assert composable(network, "out") is None
    with pytest.raises(ValueError, match="units 0 to 1"):
        dissect.composed(network, "out", [2])
    with pytest.raises(ValueError, match="has no picture"):
        dissect.composed(network, "out", towards="output")
    with pytest.raises(ValueError, match="no layer 'outt'"):
        dissect.composed(network, "outt")
