"""Augmentations: what they do to pitch, time and level, and that keys decide everything."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nd_jax.training import augment

RATE = 16000


def _sine(midi: float, seconds: float = 1.0) -> jax.Array:
    return 0.5 * jnp.sin(2 * jnp.pi * 440 * 2 ** ((midi - 69) / 12) * jnp.arange(int(RATE * seconds)) / RATE)


def _midi(wave) -> float:
    """The pitch of the strongest partial, by a parabola over a long windowed spectrum."""
    wave = np.asarray(wave)
    level = np.log(np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 1 << 16)) + 1e-9)
    top = int(np.argmax(level))
    left, mid, right = level[top - 1 : top + 2]
    place = top + 0.5 * (left - right) / (left - 2 * mid + right)
    return 69 + 12 * np.log2(place * RATE / (1 << 16) / 440)


def test_resample_moves_the_pitch_and_reads_silence_outside():
    wave = _sine(60)
    assert abs(_midi(augment.resample(wave, 2 ** (3 / 12), 0.0, 8000)) - 63) < 0.02
    chex.assert_trees_all_close(augment.resample(wave, 1.0, 100.0, 500), wave[100:600], atol=1e-6)
    early = augment.resample(wave, 1.0, -200.0, 500)
    chex.assert_trees_all_equal(early[:198], jnp.zeros(198))
    middle = augment.resample(wave, 1.0, 100.5, 500)
    exact = 0.5 * jnp.sin(2 * jnp.pi * 440 * 2 ** (-9 / 12) * (jnp.arange(500) + 100.5) / RATE)
    chex.assert_trees_all_close(middle, exact, atol=1e-4)


@pytest.mark.parametrize("midi", [25, 60, 83])
def test_shifted_notes_have_the_pitch_that_is_returned(midi, getkey):
    shift = jax.jit(jax.vmap(lambda key: augment.shift_pitch(_sine(midi), midi, key=key, samples=12000, cents=0.0)))
    waves, labels = shift(jax.random.split(getkey(), 12))
    assert np.all((labels >= 24) & (labels <= 84)) and len(set(np.asarray(labels).tolist())) > 1
    assert np.all(np.abs(labels - midi) <= 4)
    for wave, label in zip(waves, labels, strict=True):
        assert abs(_midi(wave) - int(label)) < 0.1


@pytest.mark.parametrize("midi", [45, 60, 84])
def test_procedural_notes_have_their_pitch(midi, getkey):
    waves = jax.vmap(lambda key: augment.harmonic_note(midi, key=key, samples=16000, sample_rate=RATE))(
        jax.random.split(getkey(), 6)
    )
    chex.assert_tree_all_finite(waves)
    chex.assert_trees_all_close(jnp.max(jnp.abs(waves), axis=1), jnp.full(6, 0.25), rtol=1e-5)
    period = RATE / (440 * 2 ** ((midi - 69) / 12))
    for wave in np.asarray(waves):
        part = wave[6000:10000]
        lags = np.arange(int(period * 0.94), int(period * 1.06) + 2)
        together = [np.dot(part, wave[6000 + lag : 10000 + lag]) / np.dot(part, part) for lag in lags]
        assert max(together) > 0.7


def test_level_and_noise_stay_in_their_range(getkey):
    wave = _sine(60)
    levels = [
        20 * np.log10(np.std(augment.gain(wave, key=getkey(), low_db=-12, high_db=6)) / np.std(wave)) for _ in range(8)
    ]
    assert -12.01 < min(levels) < max(levels) < 6.01
    noises = [
        20 * np.log10(np.std(augment.noise(wave, key=getkey(), low_db=-60, high_db=-40) - wave)) for _ in range(8)
    ]
    assert -60.5 < min(noises) < max(noises) < -39.5


def test_place_keeps_the_whole_recording(getkey):
    wave = jnp.zeros(4000).at[:1000].set(_sine(60)[:1000])
    energy = float(jnp.sum(jnp.square(wave)))
    for _ in range(5):
        placed = augment.place(wave, jnp.int32(1000), key=getkey(), samples=4000, speed=1.0)
        assert np.isclose(float(jnp.sum(jnp.square(placed))), energy, rtol=0.02)


def test_spectrogram_changes_keep_shape_and_range(getkey):
    levels = jnp.linspace(-80, 0, 24)[:, None] + jnp.zeros((1, 30))
    tilted = augment.equalize(levels, key=getkey(), decibels=3.0)
    chex.assert_trees_all_close(jnp.std(tilted - levels, axis=1), jnp.zeros(24), atol=1e-4)
    assert float(jnp.max(jnp.abs(tilted - levels))) > 0.1
    chex.assert_trees_all_close(augment.warp(levels, key=getkey()), levels, atol=1e-4)
    warped = augment.warp(levels, key=getkey(), time=1.3, frequency=1.2)
    chex.assert_equal_shape([warped, levels])
    assert float(jnp.min(warped)) >= -80.001 and float(jnp.max(warped)) <= 0.001
    hidden = augment.mask(jnp.zeros((24, 30)), key=getkey(), bands=5, frames=7, fill=-80.0)
    rows, columns = np.all(np.asarray(hidden) == -80, axis=1), np.all(np.asarray(hidden) == -80, axis=0)
    assert rows.sum() <= 5 and columns.sum() <= 7
    assert np.array_equal(np.asarray(hidden) == -80, rows[:, None] | columns[None])


def test_the_same_key_gives_the_same_sound(getkey):
    key = getkey()
    first, second = (augment.noise(_sine(60), key=key, low_db=-60, high_db=-40) for _ in range(2))
    chex.assert_trees_all_equal(first, second)
