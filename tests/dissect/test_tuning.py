"""Tuning curves: a band detector answers to its band."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import audio, dissect
from nd_jax.domain import Image, LogMel, Waveform


class Bands(nn.Module):
    """One unit a band."""

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(16, use_bias=False, name="bands")(x.mean(axis=(2, 3)))


def test_each_band_answers_to_its_own_tones():
    front = audio.LogMel(sample_rate=8000, n_fft=512, hop_length=128, n_mels=16, f_min=100.0)
    params = {"bands": {"kernel": np.eye(16, dtype=np.float32)}}
    network = nd.Network(Bands(), {"params": params}, input=LogMel(front, frames=12))
    found = dissect.tuning(network, ["bands"], tones=40)
    curves, centres = found.responses["bands"], np.asarray(front.centre_frequencies)
    assert curves.shape == (16, 40)
    assert np.ptp(np.diff(np.log(found.frequencies))) < 1e-9, "even in octaves"
    best = found.frequencies[curves.argmax(axis=1)]
    assert np.all(np.abs(np.log2(best[2:] / centres[2:])) < 0.3)


def test_waveforms_are_read_and_images_refused():
    class Loud(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            return nn.Dense(1, use_bias=False, name="loud")(jnp.square(x).mean(axis=1))

    loud = nd.Network(Loud(), {"params": {"loud": {"kernel": np.ones((1, 1), np.float32)}}}, input=Waveform(800, 8000))
    curve = dissect.tuning(loud, ["loud"], tones=5).responses["loud"][0]
    assert curve == pytest.approx(np.full(5, 0.5 * 0.01), rel=0.1), "a tone of -20 dBFS"
    image = nd.Network(Loud(), loud.variables, input=Image((4, 1, 1)))
    with pytest.raises(ValueError, match="for networks that take sound"):
        dissect.tuning(image, ["loud"])
    with pytest.raises(ValueError, match="no layer 'loudd'"):
        dissect.tuning(loud, ["loudd"])
