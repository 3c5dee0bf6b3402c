"""Phase recovery: parity with librosa, what LogMel.inverse keeps of a sound, silence, gradients."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nd_jax import audio

CASES = {"gl0": (128, 0.99, 1), "gl1": (128, 0.99, 16), "gl2": (100, 0.0, 16), "gl3": (128, 0.5, 8)}
SPEECH = audio.LogMel(8000, 512, 128, 64)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("start", ["y", "y_zero_phase"])
def test_parity_with_librosa(shared, name, start):
    vectors = np.load(shared / "reference" / "audio" / "librosa.npz")
    hop_length, momentum, n_iter = CASES[name]
    wanted = vectors[f"{name}/{start}"]
    found = audio.griffin_lim(
        vectors[f"{name}/magnitude"],
        n_iter=n_iter,
        momentum=momentum,
        hop_length=hop_length,
        length=4000,
        init_phase=vectors[f"{name}/init_angle"] if start == "y" else None,
    )
    atol = 1e-4 if n_iter == 1 else 1e-3 * np.abs(wanted).max()
    chex.assert_trees_all_close(np.asarray(found), wanted, atol=atol, rtol=0)


def tones(count=3, frames=40):
    """Decaying harmonic tones with a pause before them: (count, samples)."""
    time = np.arange(SPEECH.num_samples(frames)) / SPEECH.sample_rate
    pitch = 200.0 * 1.3 ** np.arange(count)[:, None]
    sound = sum(np.sin(2 * np.pi * order * pitch * time) / order for order in range(1, 7))
    return (0.1 * sound * np.exp(-3 * time) * (time > 0.1)).astype(np.float32)


def test_log_mel_inverse_keeps_what_the_log_mel_says():
    sounds = tones()
    levels = SPEECH.forward(sounds)
    again = SPEECH.inverse(levels)
    chex.assert_shape(again, sounds.shape)
    heard = np.asarray(levels) > SPEECH.floor_db + 20
    error = np.abs(np.asarray(SPEECH.forward(again)) - np.asarray(levels))[heard]
    assert error.mean() < 1.0
    assert np.abs(again).max() < 1.5 * np.abs(sounds).max()
    chex.assert_trees_all_close(SPEECH.inverse(levels), again, atol=0)
    assert np.abs(SPEECH.inverse(levels, key=jax.random.key(5)) - again).max() > 1e-3
    # Many rounds amplify rounding differences between a batch and one example.
    chex.assert_trees_all_close(SPEECH.inverse(levels[1], n_iter=2, key=jax.random.key(3)).shape, again[1].shape)


def test_magnitudes_of_a_real_sound_converge():
    wave = tones(1)[0]
    magnitude = np.abs(audio.stft(wave, n_fft=512, hop_length=128))

    def distance(**settings):
        found = audio.griffin_lim(magnitude, hop_length=128, length=len(wave), key=jax.random.key(0), **settings)
        again = np.abs(audio.stft(found, n_fft=512, hop_length=128))
        return np.linalg.norm(again - magnitude) / np.linalg.norm(magnitude)

    assert distance(n_iter=32) < 0.15 < distance(n_iter=0)
    assert distance(n_iter=32) < distance(n_iter=32, momentum=0.0)


def test_silence_is_inverted_to_silence():
    floor = jnp.full((2, 64, 10), SPEECH.floor_db)
    chex.assert_trees_all_close(SPEECH.inverse(floor), jnp.zeros((2, SPEECH.num_samples(10))), atol=0)
    chex.assert_trees_all_close(SPEECH.inverse(floor - 30), jnp.zeros((2, SPEECH.num_samples(10))), atol=0)
    pause = jnp.concatenate([floor, jnp.full((2, 64, 20), -20.0), floor], axis=-1)
    wave = np.asarray(SPEECH.inverse(pause))
    assert np.abs(wave[:, : 5 * 128]).max() < 1e-4 < np.abs(wave[:, 20 * 128]).max()


def test_inverse_for_other_settings():
    for transform in (
        audio.LogMel(8000, 511, 128, 40, power=1.0),
        audio.LogMel(8000, 512, 128, 40, win_length=400, scale="htk", norm="slaney", floor_db=-100.0),
        # So many bands that some reach no bin.
        audio.LogMel(8000, 256, 64, 100, f_min=100.0, f_max=3000.0),
    ):
        levels = transform.forward(tones(1)[0])
        again = transform.forward(transform.inverse(levels))
        heard = (np.asarray(levels) > transform.floor_db + 30) & (transform.filters.sum(axis=1) > 0)[:, None]
        assert np.abs(np.asarray(again) - np.asarray(levels))[heard].mean() < 2.0


def test_mel_to_linear_fits_the_bands(getkey):
    bands = jnp.exp(2 * jax.random.normal(getkey(), (2, 64, 5)))
    smooth = SPEECH.filters.T @ np.asarray(bands)
    bands = SPEECH.filters @ smooth
    found = audio.mel_to_linear(bands, SPEECH.filters, 64)
    assert (np.asarray(found) >= 0).all()
    error = 10 * np.log10((SPEECH.filters @ np.asarray(found)) / np.asarray(bands))
    assert np.abs(error).mean() < 0.1


@pytest.mark.parametrize("level", [-80.0, -20.0])
def test_gradients_through_the_inverse_are_finite(level):
    transform = audio.LogMel(8000, 64, 16, 10)
    levels = jnp.full((10, 6), level).at[3, 2].set(-10.0)
    gradient = jax.grad(lambda x: jnp.square(transform.inverse(x, n_iter=3)).sum())(levels)
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
    magnitude = jnp.zeros((33, 6)).at[4].set(1.0)
    gradient = jax.grad(lambda m: jnp.square(audio.griffin_lim(m, n_iter=3, hop_length=16)).sum())(magnitude)
    assert np.isfinite(gradient).all()


def test_refusals():
    magnitude = np.ones((33, 5), np.float32)
    with pytest.raises(ValueError, match="not both"):
        audio.griffin_lim(magnitude, hop_length=16, key=jax.random.key(0), init_phase=magnitude)
    with pytest.raises(ValueError, match="gives 7 frames, but the magnitudes have 5"):
        audio.griffin_lim(magnitude, hop_length=16, length=100)
    with pytest.raises(ValueError, match="bins, frames"):
        audio.griffin_lim(magnitude[0], hop_length=16)
