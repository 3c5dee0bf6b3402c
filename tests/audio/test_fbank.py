"""Kaldi's filter bank as levels: full scale, floor, pre-emphasis, and the way back to sound."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nd_jax import audio

SMALL = audio.Fbank(8000, 24, f_min=100.0)


def tone(hertz, rate=16_000, seconds=0.2, amplitude=1.0):
    time = np.arange(round(seconds * rate)) / rate
    return (amplitude * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


@pytest.mark.parametrize("window", audio.KALDI_WINDOWS)
@pytest.mark.parametrize("full_scale", [1.0, 2.0**15])
def test_full_scale_is_0_db_but_for_the_pre_emphasis(window, full_scale):
    front_end = audio.Fbank(window=window, full_scale=full_scale, n_mels=40)
    for hertz in (2667.0, 6000.0):
        levels = np.asarray(front_end.forward(tone(hertz)))
        chex.assert_shape(levels, (40, front_end.num_frames(3200)))
        total = 10 * np.log10((10 ** (levels / 10)).sum(axis=0))
        turn = 2 * np.pi * hertz / 16_000
        emphasis = 10 * np.log10(1 + 0.97**2 - 2 * 0.97 * np.cos(turn))
        np.testing.assert_allclose(total, emphasis, atol=0.35 if window != "rectangular" else 0.7)
        assert abs(front_end.centre_frequencies[levels.mean(axis=1).argmax()] - hertz) < 200


def test_levels_are_kaldis_numbers_and_silence_is_the_floor():
    wave = 0.1 * np.random.default_rng(0).normal(size=(2, 1000)).astype(np.float32)
    energies = audio.kaldi_fbank(
        100 * wave, sample_frequency=8000, num_mel_bins=24, low_freq=100.0, window_type="hanning"
    )
    front_end = audio.Fbank(8000, 24, f_min=100.0, full_scale=100.0)
    chex.assert_trees_all_close(front_end.log_energies(wave), energies, atol=1e-5)
    chex.assert_trees_all_close(front_end.from_db(front_end.forward(wave)), jnp.swapaxes(energies, -1, -2), atol=1e-4)
    silence = front_end.forward(np.zeros(1000, np.float32))
    chex.assert_trees_all_close(silence, jnp.full_like(silence, front_end.floor_db), atol=1e-4)
    assert hash(front_end) == hash(audio.Fbank(8000, 24, f_min=100.0, full_scale=100.0))


def test_the_way_back_to_sound():
    noise = 0.1 * np.random.default_rng(0).normal(size=4000).astype(np.float32)
    samples = SMALL.num_samples(SMALL.num_frames(4000))
    wave = (noise + tone(900, 8000, 0.5, 0.3))[:samples]
    levels = SMALL.forward(wave)
    made = jax.jit(SMALL.inverse)(levels)
    chex.assert_shape(made, (samples,))
    error = np.abs(np.asarray(SMALL.forward(made) - levels))[:, 2:-2]
    assert error.mean() < 2.0
    assert SMALL.num_frames(samples) == levels.shape[1] and SMALL.num_frames(199) == 0
    nothing = SMALL.inverse(jnp.full((24, 5), SMALL.floor_db))
    assert not np.any(nothing)


def test_errors():
    for settings, message in (
        ({"window": "haning"}, "unknown window 'haning'; .*hanning"),
        ({"n_mels": 2}, "at least 4 bands"),
        ({"f_max": 9000.0}, "low_freq < high_freq"),
        ({"full_scale": 0.0}, "must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            audio.Fbank(**settings)
    with pytest.raises(ValueError, match="a frame of 25.0 ms is 200 samples"):
        SMALL.forward(np.zeros(100, np.float32))
    with pytest.raises(ValueError, match=r"shape \(..., 24, frames\), not \(23, 5\)"):
        SMALL.inverse(np.zeros((23, 5)))
