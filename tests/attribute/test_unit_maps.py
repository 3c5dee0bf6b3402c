"""Activation maps: positions stand where what they see is, and the sound is filtered by them."""

from __future__ import annotations

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attribution_problem import tiny

import nd_jax as nd
from nd_jax.attribute import receptive
from nd_jax.domain import LogMel, Waveform
from nd_jax.networks.conv import Conv


class Strided(nn.Module):
    """Two strided convolutions and a mean, over one axis or two."""

    axes: int

    @nn.compact
    def __call__(self, x):
        x = Conv(6, (5,) * self.axes, (2,) * self.axes, name="first")(x)
        x = Conv(6, (3,) * self.axes, (2,) * self.axes, padding="VALID", name="second")(nn.relu(x))
        return nn.Dense(2, name="out")(jnp.mean(x, axis=tuple(range(1, self.axes + 1))))


def strided(domain):
    module = Strided(len(domain.shape) - 1)
    return nd.Network(module, module.init(jax.random.key(0), jnp.zeros((1, *domain.shape))), domain)


@pytest.fixture(scope="module")
def hearing():
    return strided(LogMel(nd.audio.LogMel(sample_rate=8000, n_fft=256, hop_length=80, n_mels=16), frames=24))


def test_what_a_position_sees_is_where_the_kernels_are(hearing):
    # SAME pads an even size by 1 before and 2 after: position p of the first begins at 2 p - 1 and sees 5 steps.
    first = receptive.fields(hearing, "first")
    assert [field.reach for field in first] == [5, 5]
    chex.assert_trees_all_close(first[0].centres, 2.0 * np.arange(8) + 1, atol=1e-9)
    # Position q of the second sees the first's 2 q to 2 q + 2: 4 q - 1 and 9 steps.
    second = receptive.fields(hearing, "second")
    assert [field.reach for field in second] == [9, 9]
    chex.assert_trees_all_close(second[1].centres, 4.0 * np.arange(5) + 3, atol=1e-9)
    chex.assert_trees_all_close(second[1].matrix.sum(axis=1), np.ones(24), atol=1e-6)
    # Padding of VALID: the small network's second convolution begins behind a pool.
    assert [field.reach for field in receptive.fields(tiny(), "conv2")] == [8, 8]


def test_a_position_that_sees_everything_gets_an_equal_part():
    network = strided(Waveform(12, 8000))
    (field,) = receptive.fields(network, "second")
    assert field.reach == 2 * 12 - 1
    chex.assert_trees_all_close(field.centres, np.array([2.5, 8.5]), atol=1e-9)


def test_a_click_lights_up_where_it_is(hearing):
    x = np.zeros((2, 16, 24, 1), np.float32)
    x[0, 9, 6] = x[1, 4, 16] = 1.0
    maps = nd.attribute.unit_maps(hearing, x, "first")
    read = np.moveaxis(np.asarray(nd.taps.read(hearing, x, "first")["first"]), -1, 1)
    chex.assert_trees_all_close(maps.activations, read, atol=1e-6)
    chex.assert_shape(maps.values, (2, 6, 16, 24))
    weight = np.abs(maps.values - maps.rest).sum(axis=1)
    for clip, (band, frame) in enumerate([(9, 6), (4, 16)]):
        rows, columns = np.nonzero(weight[clip] > 1e-6)
        assert abs(rows.mean() - band) <= 1.5 and abs(columns.mean() - frame) <= 1.5
        assert np.ptp(rows) <= 8 and np.ptp(columns) <= 8
    assert np.all(np.diff(np.take_along_axis(maps.strength, maps.order, axis=1)) <= 0)

    one = nd.attribute.unit_maps(hearing, x[0], "first", units=[4, 2])
    chex.assert_trees_all_close(one.values, maps.values[0, [4, 2]], atol=1e-6)
    alone = one.attribution(2)
    chex.assert_trees_all_close(alone.values[..., 0], maps.values[0, 2] - maps.rest[0, 2], atol=1e-6)
    assert alone.labels == ("first:2",)


def test_the_sound_goes_through_the_mask_as_through_a_filter(hearing):
    x = np.asarray(jax.random.uniform(jax.random.key(1), (16, 24, 1)), np.float32)
    maps = nd.attribute.unit_maps(hearing, x, "first", units=[0, 3])
    heard = maps.heard(x)
    chex.assert_shape(heard, (2, 16, 24, 1))
    domain = hearing.input
    fall = np.asarray(domain.to_db(x)[None] - domain.to_db(heard))[..., 0]
    inside = heard[..., 0] > 0
    chex.assert_trees_all_close(fall[inside], -20 * np.log10(maps.masks[inside]), atol=1e-2)
    assert np.all(heard[maps.masks == 0] == 0)

    network = strided(Waveform(400, 8000))
    wave = np.sin(np.arange(400) / 3)[:, None].astype(np.float32)
    maps = nd.attribute.unit_maps(network, wave, "first")
    chex.assert_shape(maps.values, (6, 400))
    chex.assert_trees_all_close(maps.heard(wave), maps.masks[..., None] * wave[None], atol=1e-6)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"layer": "out"}, r"layer 'out' has the shape \(2,\) and no positions .* layers that have: first, second"),
        ({"layer": "frist"}, "did you mean 'first'"),
        ({"layer": "first", "units": [6]}, "has units 0 to 5, and not 6"),
        ({"layer": "first", "baseline": "neighbours"}, "for occlusion only"),
        ({"layer": "first", "baseline": np.zeros((3, 3))}, r"an array of shape \(16, 24, 1\)"),
    ],
)
def test_one_sentence(hearing, more, message):
    x = np.zeros((16, 24, 1), np.float32)
    with pytest.raises(ValueError, match=message):
        nd.attribute.unit_maps(hearing, x, **more)
    with pytest.raises(ValueError, match=r"of inputs of shape \(16, 24, 1\), not \(2, 16, 24, 1\)"):
        nd.attribute.unit_maps(hearing, x, "first", units=[0]).heard(np.zeros((2, 16, 24, 1)))
