"""From one domain to another: what passes through, what is converted, what is refused and why."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nd_jax import audio
from nd_jax import domain as domains
from nd_jax.domain import converter

FRONT = audio.LogMel(sample_rate=8000, n_fft=256, hop_length=128, n_mels=16)
MEL = domains.LogMel(FRONT, frames=12)
WAVE = domains.Waveform(1408, 8000)


def tone(domain, hertz=500.0, amplitude=0.5):
    times = np.arange(domain.samples) / domain.sample_rate
    return jnp.asarray(amplitude * np.sin(2 * np.pi * hertz * times)[:, None], jnp.float32)


def test_the_same_domain_passes_through():
    x = jax.random.uniform(jax.random.key(0), MEL.shape)
    same = dataclasses.replace(MEL, band_mean=np.zeros(16, np.float32))
    chex.assert_trees_all_equal(converter(MEL, same)(x), x)


def test_images_change_their_range():
    x = jnp.asarray([0.0, 0.25, 1.0]).reshape(1, 3, 1)
    moved = converter(domains.Image((1, 3, 1)), domains.Image((1, 3, 1), low=-1.0, high=1.0))(x)
    chex.assert_trees_all_close(moved.ravel(), jnp.asarray([-1.0, -0.5, 1.0]))


@pytest.mark.parametrize(("rate", "samples"), [(8000, 1000), (16000, 4001), (11025, 1500)])
def test_sound_of_another_rate_and_length_is_centred(rate, samples):
    source = domains.Waveform(samples, rate)
    x = jnp.zeros(source.shape).at[samples // 2].set(0.5)
    found = np.abs(np.asarray(converter(source, WAVE)(x)))[:, 0]
    assert found.shape == (1408,)
    assert abs(int(found.argmax()) - 704) <= 1


def test_sound_becomes_what_the_front_end_hears():
    source = domains.Waveform(2 * MEL.samples, 16000)
    x = converter(source, MEL)(tone(source))
    expected = MEL.from_wave(tone(domains.Waveform(MEL.samples, 8000))[:, 0])
    chex.assert_shape(x, MEL.shape)
    # The first and the last frames hear the ends.
    loudest = np.asarray(expected).argmax(0)[2:-2]
    chex.assert_trees_all_equal(np.asarray(x).argmax(0)[2:-2], loudest)
    chex.assert_trees_all_close(x.max(0)[2:-2], expected.max(0)[2:-2], atol=0.01)
    gradient = jax.grad(lambda one: jnp.sum(converter(source, MEL)(one)))(tone(source))
    chex.assert_tree_all_finite(gradient)
    assert float(jnp.abs(gradient).max()) > 0


def test_levels_move_into_another_range_and_length():
    quiet = domains.LogMel(dataclasses.replace(FRONT, floor_db=-100.0), frames=9, ceiling_db=-10.0)
    x = jax.random.uniform(jax.random.key(1), quiet.shape)
    found = converter(quiet, MEL)(x)
    levels = np.clip(np.asarray(quiet.to_db(x)), -80.0, 0.0)
    chex.assert_trees_all_close(np.asarray(MEL.to_db(found))[:, 1:10], levels, atol=1e-3)
    assert np.all(np.asarray(found)[:, [0, 10, 11]] == 0)


def test_a_domain_that_says_how_it_sounds_fits_too():
    class Spectra(domains.Latent):
        kind = "test_spectra"
        sample_rate = 8000

        def to_wave(self, x):
            return jnp.fft.irfft(jax.lax.complex(x, jnp.zeros_like(x)))

    x = converter(Spectra(705), MEL)(jnp.ones(705))
    chex.assert_shape(x, MEL.shape)


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        (domains.LogMel(dataclasses.replace(FRONT, n_mels=20), 12), MEL, "n_mels 20 cannot become .* with n_mels 16"),
        (domains.LogMel(dataclasses.replace(FRONT, hop_length=64), 12), MEL, "same front end with any floor"),
        (MEL, WAVE, "'log_mel' of shape .* cannot become a 'waveform'.*sound of any rate and length"),
        (domains.Image((4, 4, 1)), domains.Image((5, 4, 1)), "images of shape"),
        (domains.Parts({"a": WAVE}), MEL, "parts"),
        (WAVE, domains.Latent(4), "what fits is the same domain"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(source, target, words):
    with pytest.raises(ValueError, match=words):
        converter(source, target)
