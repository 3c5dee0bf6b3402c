"""Differentiable resampling: sines stay sines, noise agrees with a polyphase filter, lengths and gradients."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nd_jax import audio


@pytest.mark.parametrize(("old", "new", "samples"), [(8000, 16000, 500), (22050, 16000, 1001), (16000, 8000, 777)])
def test_a_sine_keeps_its_frequency_and_level(old, new, samples):
    def sine(rate, count):
        return np.sin(2 * np.pi * 440.0 * np.arange(count) / rate + 0.3).astype(np.float32)

    found = audio.resample_fft(jnp.asarray(np.stack([sine(old, samples)] * 2)), old, new)
    length = int(np.ceil(samples * new / old))
    chex.assert_shape(found, (2, length))
    # The ends are cut in the middle of a period; a polyphase filter rings there as well.
    inner = slice(length // 8, -length // 8)
    chex.assert_trees_all_close(np.asarray(found[0, inner]), sine(new, length)[inner], atol=0.01)


@pytest.mark.parametrize(("old", "new"), [(8000, 11025), (16000, 6000)])
def test_agrees_with_the_polyphase_filter(old, new):
    """On noise below the band in which the two low-passes fall differently."""
    rng = np.random.default_rng(0)
    spectrum = np.fft.rfft(rng.normal(size=2000))
    spectrum[np.fft.rfftfreq(2000, 1 / old) > 0.35 * min(old, new)] = 0
    wave = (np.fft.irfft(spectrum) * np.hanning(2000)).astype(np.float32)
    expected = audio.resample(wave, old, new)
    found = np.asarray(audio.resample_fft(wave, old, new))
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 0.01 * np.abs(expected).max()


def test_what_the_new_rate_cannot_hold_is_gone():
    high = np.sin(2 * np.pi * 3500.0 * np.arange(1600) / 8000).astype(np.float32)
    found = np.asarray(audio.resample_fft(high, 8000, 4000))
    assert np.abs(found[100:-100]).max() < 0.01


def test_equal_rates_gradients_and_errors():
    wave = jax.random.normal(jax.random.key(0), (3, 100))
    chex.assert_trees_all_equal(audio.resample_fft(wave, 8000, 8000), wave)
    gradient = jax.grad(lambda x: jnp.sum(audio.resample_fft(x, 8000, 6000) ** 2))(wave)
    chex.assert_tree_all_finite(gradient)
    one = jax.vmap(lambda x: audio.resample_fft(x, 8000, 6000))(wave)
    chex.assert_trees_all_close(one, audio.resample_fft(wave, 8000, 6000), atol=1e-6)
    with pytest.raises(ValueError, match="cannot resample from 0 Hz to 8000 Hz"):
        audio.resample_fft(wave, 0, 8000)
