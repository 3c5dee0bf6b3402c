"""Parts of a waveform's spectrum, and onsets."""

from __future__ import annotations

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax.attribute import TimeFrequency, onsets
from nd_jax.domain import Image, LogMel, Waveform

SOUND = Waveform(4000, 8000)
MEL = LogMel(nd.audio.LogMel(sample_rate=8000, n_fft=256, hop_length=80, n_mels=16, floor_db=-80.0), frames=50)


class Hears(nn.Module):
    """Energy of a tone of 1 kHz in the first half."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(1, use_bias=False, kernel_init=nn.initializers.ones, name="same")(x)[..., 0]
        time = jnp.arange(4000) / 8000
        tones = jnp.stack([jnp.sin(2 * jnp.pi * 1000 * time), jnp.cos(2 * jnp.pi * 1000 * time)])[:, :2000]
        return jnp.sum(jnp.square(x[:, :2000] @ tones.T), axis=1, keepdims=True) / 1e5


def hearing():
    module = Hears()
    return nd.Network(module, module.init(jax.random.key(0), jnp.zeros((1, 4000, 1))), SOUND)


def tones(*hertz):
    time = np.arange(4000) / 8000
    return sum(0.3 * np.sin(2 * np.pi * f * time) for f in hertz).astype(np.float32)[:, None]


def test_taking_nothing_and_everything_away():
    view = TimeFrequency(SOUND, 256)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4000, 1)).astype(np.float32))
    chex.assert_shape(view.spectrum(x), (2, *view.shape))
    chex.assert_trees_all_close(view.sound(view.spectrum(x)), x, atol=1e-5)


def test_the_band_and_the_time_that_count_are_found():
    found = nd.attribute.occlusion(
        hearing(), tones(1000, 2500), 0, frequency=[0, 800, 1200, 2300, 2700, 4000], time=[0, 0.25, 0.5], n_fft=256
    )
    assert found.shape == (129, 63)
    assert [axis.name for axis in found.axes] == ["frequency", "time"]
    drops = found.drops.reshape(5, 2)
    assert drops[1, 0] > 0.9 * found.scores
    others = np.delete(drops.ravel(), 2)
    assert np.all(np.abs(others) < 0.05 * found.scores)
    assert found.along("frequency")[32] > 10 * abs(found.along("frequency")[80])
    kept, removed = nd.attribute.parts(tones(1000, 2500), found, share=0.1)
    chex.assert_trees_all_close(kept + removed, tones(1000, 2500), atol=1e-5)
    assert float(hearing()(kept[None])[0, 0]) > 0.8 * found.scores > 8 * float(hearing()(removed[None])[0, 0])
    # A baseline of the same sound leaves it as it is.
    same = nd.attribute.occlusion(hearing(), tones(1000), 0, frequency=500.0, baseline=tones(1000))
    chex.assert_trees_all_close(same.drops, np.zeros_like(same.drops), atol=1e-4)


def test_segments_begin_where_sounds_begin():
    wave = np.zeros((4000, 1), np.float32)
    for start in (1000, 2400):
        wave[start : start + 800] = tones(700)[:800] * np.linspace(1, 0, 800)[:, None]
    edges = onsets(SOUND, wave)[0]
    chex.assert_trees_all_close(edges, np.array([0.0, 0.125, 0.3, 0.5]), atol=0.04)
    mel = np.zeros((2, *MEL.shape), np.float32)
    mel[0, 4:8, 20:] = 0.8
    several = onsets(MEL, mel)
    chex.assert_trees_all_close(several[0], np.array([0.0, 0.2, 0.5]))
    chex.assert_trees_all_close(several[1], np.array([0.0, 0.5]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: onsets(Image((4, 4, 1)), np.zeros((4, 4, 1))), "onsets are for log-mel"),
        (lambda: onsets(SOUND, np.zeros((4000, 1)), least=0.0), "least above 0"),
        (lambda: onsets(SOUND, np.zeros((400, 1))), "input has shape"),
        (lambda: TimeFrequency(SOUND, 255), "n_fft is a multiple of 4"),
        (
            lambda: nd.attribute.occlusion(hearing(), tones(9), 0, frequency=500.0, baseline="neighbours"),
            "not for the short-time spectrum",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
