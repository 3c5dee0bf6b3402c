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
    phase = 2 * np.pi * 440 * 2 ** ((midi - 69) / 12) * np.arange(int(RATE * seconds)) / RATE
    return jnp.asarray(0.5 * np.sin(phase), jnp.float32)


@jax.jit
def _shifted(keys, wave, midi):
    return jax.vmap(lambda key: augment.shift_pitch(wave, midi, key=key, samples=12000, cents=0.0))(keys)


@jax.jit
def _notes(keys, midi):
    return jax.vmap(lambda key: augment.harmonic_note(midi, key=key, samples=16000, sample_rate=RATE))(keys)


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
    resample = jax.jit(lambda ratio, start: augment.resample(wave, ratio, start, 8000))
    assert abs(_midi(resample(2 ** (3 / 12), 0.0)) - 63) < 0.02
    chex.assert_trees_all_close(resample(1.0, 100.0), wave[100:8100], atol=1e-6)
    chex.assert_trees_all_equal(np.asarray(resample(1.0, -200.0))[:198], np.zeros(198, np.float32))
    middle = np.asarray(resample(1.0, 100.5))
    exact = 0.5 * np.sin(2 * np.pi * 440 * 2 ** (-9 / 12) * (np.arange(8000) + 100.5) / RATE)
    chex.assert_trees_all_close(middle, exact.astype(np.float32), atol=1e-4)


@pytest.mark.parametrize("midi", [25, 60, 83])
def test_shifted_notes_have_the_pitch_that_is_returned(midi, getkey):
    waves, labels = jax.device_get(_shifted(jax.random.split(getkey(), 12), _sine(midi), midi))
    assert np.all((labels >= 24) & (labels <= 84)) and len(set(np.asarray(labels).tolist())) > 1
    assert np.all(np.abs(labels - midi) <= 4)
    for wave, label in zip(waves, labels, strict=True):
        assert abs(_midi(wave) - int(label)) < 0.1


@pytest.mark.parametrize("midi", [45, 60, 84])
def test_procedural_notes_have_their_pitch(midi, getkey):
    waves = jax.device_get(_notes(jax.random.split(getkey(), 6), midi))
    chex.assert_tree_all_finite(waves)
    chex.assert_trees_all_close(np.max(np.abs(waves), axis=1), np.full(6, 0.25, np.float32), rtol=1e-5)
    period = RATE / (440 * 2 ** ((midi - 69) / 12))
    for wave in waves:
        part = wave[6000:10000]
        lags = np.arange(int(period * 0.94), int(period * 1.06) + 2)
        together = [np.dot(part, wave[6000 + lag : 10000 + lag]) / np.dot(part, part) for lag in lags]
        assert max(together) > 0.7


def test_level_and_noise_stay_in_their_range(getkey):
    wave = _sine(60)
    louder = jax.jit(lambda key: augment.gain(wave, key=key, low_db=-12.0, high_db=6.0))
    noisier = jax.jit(lambda key: augment.noise(wave, key=key, low_db=-60.0, high_db=-40.0) - wave)
    levels = [20 * np.log10(np.std(louder(getkey())) / np.std(wave)) for _ in range(8)]
    assert -12.01 < min(levels) < max(levels) < 6.01
    noises = [20 * np.log10(np.std(noisier(getkey()))) for _ in range(8)]
    assert -60.5 < min(noises) < max(noises) < -39.5


def test_place_keeps_the_whole_recording(getkey):
    wave = jnp.asarray(np.pad(np.asarray(_sine(60))[:1000], (0, 3000)))
    place = jax.jit(lambda key: augment.place(wave, jnp.int32(1000), key=key, samples=4000, speed=1.0))
    for _ in range(5):
        assert np.isclose(np.sum(np.square(place(getkey()))), np.sum(np.square(wave)), rtol=0.02)


def test_centre_puts_it_in_the_middle_or_cuts_both_ends():
    wave = jnp.asarray(np.r_[np.arange(1, 7), np.zeros(4)], jnp.int16)
    found = jax.jit(lambda length: augment.centre(wave, length, samples=4))
    chex.assert_trees_all_equal(np.asarray(found(6)), np.asarray([2, 3, 4, 5], np.int16))
    chex.assert_trees_all_equal(np.asarray(found(2)), np.asarray([0, 1, 2, 0], np.int16))


def test_spectrogram_changes_keep_shape_and_range(getkey):
    levels = jnp.broadcast_to(jnp.linspace(-80, 0, 24)[:, None], (24, 30))

    @jax.jit
    def change(key):
        keys = jax.random.split(key, 4)
        return (
            augment.equalize(levels, key=keys[0], decibels=3.0) - levels,
            augment.warp(levels, key=keys[1]),
            augment.warp(levels, key=keys[2], time=1.3, frequency=1.2),
            augment.mask(jnp.zeros((24, 30)), key=keys[3], bands=5, frames=7, fill=-80.0) == -80,
        )

    curve, same, warped, hidden = jax.device_get(change(getkey()))
    assert np.max(np.std(curve, axis=1)) < 1e-4 and np.max(np.abs(curve)) > 0.1
    chex.assert_trees_all_close(same, levels, atol=1e-4)
    chex.assert_equal_shape([warped, levels])
    assert warped.min() >= -80.001 and warped.max() <= 0.001
    rows, columns = hidden.all(axis=1), hidden.all(axis=0)
    assert rows.sum() <= 5 and columns.sum() <= 7
    assert np.array_equal(hidden, rows[:, None] | columns[None])


def test_crop_takes_sound_only_and_keeps_all_of_a_short_one(getkey):
    levels = jnp.broadcast_to(jnp.arange(1.0, 21.0), (3, 20))
    crop = jax.jit(
        jax.vmap(lambda key, length: augment.crop(levels, length, key=key, frames=8, fill=-80.0), in_axes=(0, None))
    )
    keys = jax.random.split(getkey(), 60)
    long, short = jax.device_get((crop(keys, 12), crop(keys, 5)))
    starts = long[:, 0, 0]
    assert starts.min() == 1 and starts.max() == 5 and len(set(starts.tolist())) == 5
    chex.assert_trees_all_equal(long, np.broadcast_to((starts[:, None] + np.arange(8))[:, None], long.shape))
    for row in short[:, 0]:
        sounding = row > 0
        chex.assert_trees_all_equal(row[sounding], np.arange(1.0, 6.0, dtype=np.float32))
        assert np.all(row[~sounding] == -80)
    assert {0, 3} <= {int(np.argmax(row > 0)) for row in short[:, 0]}


def test_two_sounds_have_the_power_of_both_and_the_ratio_is_one_of_loudness():
    together = jax.jit(augment.together)(jnp.asarray([-20.0, -80.0, -3.0]), jnp.asarray([-20.0, -30.0, -80.0]))
    chex.assert_trees_all_close(together, jnp.asarray([-20 + 3.0103, -30.0, -3.0]), atol=1e-3)

    loud = jnp.full((4, 5), -80.0).at[0].set(-6.0)
    quiet = jnp.full((4, 5), -80.0).at[2].set(-36.0)
    mix = jax.jit(augment.mix)
    half, most = mix(loud, quiet, 0.5), mix(loud, quiet, 0.8)
    # Equally loud at a half; at 0.8 the amplitudes are as 4 to 1, and the power is that of the parts.
    assert abs(float(half[0, 0] - half[2, 0])) < 0.01
    assert abs(float(most[0, 0] - most[2, 0]) - 20 * np.log10(4)) < 0.01
    chex.assert_trees_all_close(mix(loud, loud, 0.3), loud, atol=1e-3)
    chex.assert_trees_all_close(mix(loud, quiet, 1.0)[0], loud[0], atol=0.02)


def test_the_same_key_gives_the_same_sound(getkey):
    key = getkey()
    first, second = (augment.noise(_sine(60), key=key, low_db=-60, high_db=-40) for _ in range(2))
    chex.assert_trees_all_equal(first, second)


def _spot(row: float, column: float) -> np.ndarray:
    """An image of 21 x 25 pixels with one soft spot; its second channel is the negative."""
    rows, columns = np.mgrid[:21, :25]
    spot = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 4)
    return np.stack([spot, -spot], axis=-1).astype(np.float32)


def _centre(image) -> np.ndarray:
    weight = np.asarray(image)[..., 0]
    return np.asarray([(np.indices(weight.shape)[axis] * weight).sum() / weight.sum() for axis in range(2)])


def test_affine_moves_turns_and_resizes_about_the_middle(getkey):
    keys = jax.random.split(getkey(), 40)
    middle, spot = np.asarray([10.0, 12.0]), _spot(10, 17)

    def seen(**options):
        images = jax.jit(jax.vmap(lambda key: augment.affine(spot, key=key, **options)))(keys)
        chex.assert_shape(images, (40, 21, 25, 2))
        chex.assert_trees_all_close(images[..., 1], -images[..., 0], atol=1e-6)
        return np.stack([_centre(image) for image in np.asarray(images)]) - middle

    chex.assert_trees_all_close(augment.affine(spot, key=keys[0]), spot, atol=1e-5)
    moved = seen(shift=2.0) - (0, 5)
    assert np.abs(moved).max() <= 2.05 and moved.min() < -1.2 and moved.max() > 1.2
    turned = seen(rotate=30.0)
    chex.assert_trees_all_close(np.hypot(*turned.T), np.full(40, 5.0), atol=0.1)
    angles = np.rad2deg(np.arctan2(turned[:, 0], turned[:, 1]))
    assert np.abs(angles).max() <= 30.5 and angles.min() < -15 and angles.max() > 15
    resized = seen(scale=1.25)
    chex.assert_trees_all_close(resized[:, 0], np.zeros(40), atol=0.05)
    assert 3.9 < resized[:, 1].min() < 4.5 and 5.6 < resized[:, 1].max() < 6.35
    spot = _spot(15, 12)
    slanted = seen(shear=0.3)
    assert np.abs(slanted[:, 1]).max() <= 1.6 and slanted[:, 1].min() < -0.7 and slanted[:, 1].max() > 0.7
    outside = augment.affine(np.ones((6, 6, 1)), key=keys[3], shift=3.0, fill=-1.0)
    assert float(outside.min()) == -1.0
