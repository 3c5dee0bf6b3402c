"""Loudness: ITU-R BS.1770 test signals, limiter, fades, silence."""

import chex
import jax
import numpy as np
import pytest

from nd_jax import audio


def sine(level_db, rate, seconds=3.0, hertz=997.0):
    time = np.arange(round(seconds * rate)) / rate
    return 10 ** (level_db / 20) * np.sin(2 * np.pi * hertz * time)


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
def test_a_full_scale_sine_at_997_hz_has_the_loudness_the_standard_states(rate):
    # BS.1770-5, annex 1: 0 dBFS at 997 Hz in one channel reads -3.01 LKFS.
    assert abs(audio.loudness(sine(0.0, rate), rate) + 3.01) < 0.15
    assert abs(audio.loudness(sine(-23.0, rate), rate) + 26.01) < 0.15


def test_k_weighting_at_48_khz_is_the_standards_table():
    from nd_jax.audio.loudness import k_weighting

    (shelf, shelf_feedback), (high_pass, high_pass_feedback) = k_weighting(48000)
    chex.assert_trees_all_close(shelf, np.array([1.53512485958697, -2.69169618940638, 1.19839281085285]), atol=1e-6)
    chex.assert_trees_all_close(shelf_feedback, np.array([1.0, -1.69065929318241, 0.73248077421585]), atol=1e-6)
    chex.assert_trees_all_close(high_pass, np.array([1.0, -2.0, 1.0]), atol=1e-12)
    chex.assert_trees_all_close(high_pass_feedback, np.array([1.0, -1.99004745483398, 0.99007225036621]), atol=1e-6)


def test_pauses_are_gated():
    rate = 16000
    tone = sine(-20.0, rate, 4.0)
    paused = np.concatenate([tone, np.zeros(8 * rate), 1e-2 * tone])
    assert abs(audio.loudness(paused, rate) - audio.loudness(tone, rate)) < 0.5
    assert audio.loudness(np.zeros(100), rate) == -np.inf
    assert audio.loudness(np.full(3, 0.5), rate) > -70


@pytest.mark.parametrize("level", [-60.0, -30.0, -6.0])
@pytest.mark.parametrize("seconds", [0.1, 1.0])
def test_normalized_to_the_target(level, seconds):
    rate = 16000
    levelled = audio.normalize_loudness(sine(level, rate, seconds), rate)
    wave, gain = levelled
    assert wave.dtype == np.float32 and not levelled.silent
    assert abs(gain - (-23.0 - audio.loudness(sine(level, rate, seconds), rate))) < 1e-6
    assert abs(audio.loudness(wave, rate) + 23.0) < 0.6
    assert wave[0] == 0.0 and abs(wave[-1]) < 1e-3 and np.abs(np.diff(wave)).max() < 0.1


def test_silence_stays_silence():
    rng = np.random.default_rng(0)
    for wave in (np.zeros(8000), 1e-5 * rng.standard_normal(8000)):
        levelled = audio.normalize_loudness(wave, 8000)
        chex.assert_trees_all_equal(levelled.wave, np.zeros(8000, np.float32))
        assert levelled.gain_db == 0.0 and levelled.silent


def test_clicks_are_limited_and_the_rest_is_left_alone():
    rate = 16000
    rng = np.random.default_rng(0)
    wave = 0.05 * rng.standard_normal(rate)
    wave[5000], wave[9000:9010] = 1.0, -0.9
    limited = audio.limit_peaks(4 * wave, rate, -1.0)
    assert np.abs(limited).max() <= 10 ** (-1 / 20) + 1e-9
    far = np.ones(rate, bool)
    far[4900:5100] = far[8900:9110] = False
    chex.assert_trees_all_close(limited[far], 4 * wave[far], atol=1e-9)
    levelled = audio.normalize_loudness(wave, rate, target_db=-3.0, limit_db=-6.0)
    assert np.abs(levelled.wave).max() <= 10 ** (-6 / 20) + 1e-6
    chex.assert_trees_all_equal(audio.limit_peaks(wave, rate, 6.0), wave)


def test_fades():
    faded = audio.fade(np.ones(1000), 8000)
    assert faded[0] == 0 and faded[-1] == 0 and (faded[40:-40] == 1).all() and (np.diff(faded[:40]) > 0).all()
    for length in (1, 2, 3):
        chex.assert_shape(audio.fade(np.ones(length), 8000), (length,))


@pytest.mark.parametrize("wave", [np.zeros(0), np.zeros((2, 5)), np.array([0.1, np.nan])])
def test_refusals(wave):
    with pytest.raises(ValueError, match="samples"):
        audio.normalize_loudness(wave, 8000)


def test_jax_arrays_are_taken(getkey):
    wave = 0.1 * jax.random.normal(getkey(), (4000,))
    assert abs(audio.loudness(audio.normalize_loudness(wave, 8000).wave, 8000) + 23) < 0.5
