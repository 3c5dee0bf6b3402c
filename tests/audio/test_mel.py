"""Mel filter banks, spectrograms, decibels and cepstra: parity with librosa and the properties of LogMel."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft

from nd_jax import audio

BANKS = {"mel0": (16000, 512, 40, 0, None), "mel1": (22050, 1024, 64, 50, 8000.0), "mel2": (16000, 400, 80, 20, 7600.0)}
FEATURES = {
    "ms0": (0, {"sample_rate": 8000, "n_fft": 512, "hop_length": 160, "n_mels": 40}, {"n_mfcc": 13}),
    "ms1": (
        1,
        {"sample_rate": 16000, "n_fft": 400, "hop_length": 200, "n_mels": 32, "scale": "htk"},
        {"n_mfcc": 20, "lifter": 22},
    ),
    "ms2": (2, {"sample_rate": 22050, "n_fft": 1024, "hop_length": 256, "n_mels": 48}, {"n_mfcc": 12, "dct_type": 3}),
}
NOTES = audio.LogMel(16000, 2048, 512, 128, f_max=8000.0)
SPEECH = audio.LogMel(8000, 512, 128, 64)
SMALL = audio.LogMel(8000, 128, 32, 20)


@pytest.fixture(scope="module")
def vectors(shared):
    return np.load(shared / "reference" / "audio" / "librosa.npz")


def sine(hertz, transform, seconds=0.5, level=1.0):
    time = np.arange(round(seconds * transform.sample_rate)) / transform.sample_rate
    return (level * np.sin(2 * np.pi * hertz * time + 0.3)).astype(np.float32)


@pytest.mark.parametrize("name", BANKS)
@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize("norm", ["slaney", None])
def test_filter_banks_of_librosa(vectors, name, scale, norm):
    wanted = vectors[f"{name}/{scale}_{'norm' if norm else 'nonorm'}"]
    chex.assert_trees_all_close(audio.mel_filter_bank(*BANKS[name], scale, norm), wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", BANKS)
def test_filter_banks_of_kaldi(vectors, name):
    rate, n_fft, n_mels, f_min, f_max = BANKS[name]
    found = audio.mel_filter_bank(rate, n_fft, n_mels, max(f_min, 20), f_max, "kaldi", None)
    chex.assert_trees_all_close(found.T, vectors[f"{name}/kaldi"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", FEATURES)
def test_features_of_librosa(vectors, name):
    index, settings, cepstra = FEATURES[name]
    power = vectors[f"{name}/power_mel"]
    found = audio.mel_spectrogram(vectors[f"wave_{index}"], **settings)
    chex.assert_trees_all_close(np.asarray(found), power, atol=1e-6 * power.max(), rtol=1e-4)
    loud = power > 1e-8
    for array, arguments in {"db_ref1": {}, "db_refmax": {"ref": "max"}, "db_notop": {"top_db": None}}.items():
        levels = np.asarray(audio.power_to_db(found, **arguments))
        chex.assert_trees_all_close(levels[loud], vectors[f"{name}/{array}"][loud], atol=1e-2, rtol=0)
    ceps = np.asarray(audio.mfcc(audio.power_to_db(power), **cepstra))
    chex.assert_trees_all_close(ceps, vectors[f"{name}/mfcc"], atol=1e-2, rtol=0)


@pytest.mark.parametrize("scale", ["slaney", "htk", "kaldi"])
def test_mel_scales_invert(scale):
    hertz = np.array([0.0, 20.0, 440.0, 999.0, 1000.0, 1001.0, 8000.0, 22050.0])
    chex.assert_trees_all_close(audio.mel_to_hz(audio.hz_to_mel(hertz, scale), scale), hertz, atol=1e-8, rtol=1e-12)


@pytest.mark.parametrize("dct_type", [1, 2, 3])
@pytest.mark.parametrize("norm", ["ortho", None])
def test_cosine_transforms_are_those_of_scipy(dct_type, norm, getkey):
    numbers = np.asarray(jax.random.normal(getkey(), (9, 4)))
    wanted = scipy.fft.dct(numbers, axis=0, type=dct_type, norm=norm)[:5]
    chex.assert_trees_all_close(audio.dct_matrix(5, 9, dct_type, norm) @ numbers, wanted, atol=1e-5, rtol=1e-5)


def test_decibels():
    power = jnp.array([[1.0, 1e-3, 0.0], [1e-12, 100.0, 1e-9]])
    chex.assert_trees_all_close(
        audio.power_to_db(power), jnp.array([[0.0, -30.0, -60.0], [-60.0, 20.0, -60.0]]), atol=1e-4
    )
    chex.assert_trees_all_close(audio.power_to_db(power, top_db=None)[0], jnp.array([0.0, -30.0, -100.0]), atol=1e-4)
    chex.assert_trees_all_close(audio.amplitude_to_db(jnp.array([0.1, 10.0])), jnp.array([-20.0, 20.0]), atol=1e-4)
    batch = jnp.stack([power, 1e-6 * power])
    chex.assert_trees_all_close(audio.power_to_db(batch)[1], audio.power_to_db(batch[1]), atol=1e-4)
    assert np.isfinite(jax.grad(lambda p: audio.power_to_db(p).sum())(jnp.zeros((3, 4)))).all()


@pytest.mark.parametrize("transform", [NOTES, SPEECH])
def test_a_full_scale_sine_reads_0_dbfs(transform):
    middle = 20
    for band in range(3, transform.n_mels - 3, 10):
        hertz = transform.centre_frequencies[band]
        levels = np.asarray(transform.forward(sine(hertz, transform, 1.0)))[:, middle]
        assert levels.argmax() == band
        total = 10 * math.log10((10 ** (levels / 10)).sum())
        assert abs(total) < 0.1
        # A narrow band loses the outer parts of the main lobe, 3 bins wide, to its neighbours.
        narrow = (transform.filters[band] > 0).sum() < 10
        assert (-1.3 if narrow else -0.5) < levels.max() < 0.1


@pytest.mark.parametrize(
    "transform",
    [
        audio.LogMel(8000, 512, 128, 24, win_length=256),
        audio.LogMel(8000, 512, 128, 24, scale="htk"),
        audio.LogMel(8000, 512, 128, 24, power=1.0),
        audio.LogMel(8000, 511, 128, 24, f_min=100.0, f_max=3500.0),
    ],
)
def test_full_scale_for_other_settings(transform):
    levels = np.asarray(transform.forward(sine(transform.centre_frequencies[18], transform)))[:, 15]
    assert abs(levels.max()) < 0.6


def test_levels_follow_gain_and_stop_at_the_floor():
    loud, quiet = (np.asarray(SPEECH.forward(sine(1000, SPEECH, level=level))) for level in (1.0, 0.1))
    heard = quiet[:, 15] > -70
    chex.assert_trees_all_close(loud[:, 15][heard] - 20, quiet[:, 15][heard], atol=1e-2)
    silence = SPEECH.forward(np.zeros((2, 1000)))
    chex.assert_trees_all_equal(silence, jnp.full_like(silence, -80.0))


@pytest.mark.parametrize("transform", [NOTES, SPEECH, SMALL, audio.LogMel(8000, 127, 32, 20)])
def test_frames_and_samples(transform):
    for frames in (1, 2, 3, 63, 100):
        samples = transform.num_samples(frames)
        assert transform.num_frames(samples) == frames
    for samples in (1, transform.hop_length, transform.hop_length + 1):
        shape = jax.eval_shape(transform.forward, jax.ShapeDtypeStruct((samples,), jnp.float32)).shape
        assert shape == (transform.n_mels, transform.num_frames(samples))


def test_log_mel_in_batches_under_jit_and_grad(getkey):
    waves = 0.1 * jax.random.normal(getkey(), (2, 3, 700))
    levels = SMALL.forward(waves)
    chex.assert_shape(levels, (2, 3, 20, SMALL.num_frames(700)))
    chex.assert_trees_all_close(levels[1, 2], SMALL.forward(waves[1, 2]), atol=1e-3)
    with jax.disable_jit():
        chex.assert_trees_all_close(levels, SMALL.forward(waves), atol=1e-3)
    for wave in (waves[0, 0], jnp.zeros(700)):
        gradient = jax.grad(lambda w: SMALL.forward(w).sum())(wave)
        assert np.isfinite(gradient).all()
    assert np.abs(jax.grad(lambda w: SMALL.forward(w).sum())(waves[0, 0])).max() > 0
    assert np.isfinite(
        jax.grad(lambda w: audio.LogMel(8000, 128, 32, 20, power=1.0).forward(w).sum())(jnp.zeros(700))
    ).all()


def test_settings_are_values():
    assert hash(SMALL) == hash(audio.LogMel(8000, 128, 32, 20)) and SMALL == audio.LogMel(8000, 128, 32, 20)
    chex.assert_shape(SMALL.centre_frequencies, (20,))
    assert (np.diff(SMALL.centre_frequencies) > 0).all()


def test_spectrogram_db():
    wave = sine(1000, SPEECH)
    levels = np.asarray(audio.spectrogram_db(np.stack([wave, 0 * wave]), n_fft=512, hop_length=128))
    chex.assert_shape(levels, (2, 257, 1 + len(wave) // 128))
    assert abs(levels[0].max()) < 0.1 and levels[0, :, 15].argmax() == 64
    chex.assert_trees_all_close(levels[1], np.full_like(levels[1], -80.0), atol=1e-4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: audio.mel_filter_bank(8000, 128, 20, 0.0, None, "slany"), "did you mean 'slaney'"),
        (lambda: audio.mel_filter_bank(8000, 128, 20, norm="area"), "unknown filter norm"),
        (lambda: audio.mel_filter_bank(8000, 128, 20, 500.0, 400.0), "f_min < f_max"),
        (lambda: audio.mel_filter_bank(8000, 128, 0), "n_mels"),
        (lambda: audio.LogMel(8000, 128, 32, 20, scale="bark"), "unknown mel scale"),
        (lambda: audio.LogMel(8000, 128, 32, 20, f_max=5000.0), "half the sample rate"),
        (lambda: audio.LogMel(8000, 128, 32, 20, win_length=200), "longer than n_fft"),
        (lambda: audio.LogMel(0, 128, 32, 20), "positive"),
        (lambda: SMALL.inverse(np.zeros((19, 5))), "20, frames"),
        (lambda: audio.power_to_db(np.ones((2, 2)), amin=0), "amin"),
        (lambda: audio.power_to_db(np.ones((2, 2)), top_db=-1), "top_db"),
        (lambda: audio.power_to_db(np.ones((2, 2)), ref="loudest"), "'max'"),
        (lambda: audio.mfcc(np.ones((20, 5)), n_mfcc=21), "cannot give 21"),
        (lambda: audio.mfcc(np.ones((20, 5)), dct_type=4), "dct_type"),
        (lambda: audio.mfcc(np.ones((20, 5)), lifter=-1), "lifter"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()
