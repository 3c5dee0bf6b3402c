"""Kaldi features: parity with torchaudio, and the options that its vectors do not cover, against their definition."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nd_jax import audio

CASES = {
    "fbank0": (0, 8000, {"num_mel_bins": 40}),
    "fbank1": (1, 16000, {"num_mel_bins": 64, "window_type": "hanning", "frame_length": 25.0, "frame_shift": 10.0}),
    "fbank2": (
        2,
        22050,
        {
            "num_mel_bins": 23,
            "window_type": "hamming",
            "frame_length": 32.0,
            "frame_shift": 8.0,
            "preemphasis_coefficient": 0.0,
            "low_freq": 60.0,
            "high_freq": -200.0,
        },
    ),
    "fbank3": (1, 16000, {"num_mel_bins": 30, "use_log_fbank": False, "remove_dc_offset": False, "use_power": False}),
    "fbank4": (0, 8000, {"num_mel_bins": 20, "snip_edges": False}),
    "numpy_fbank": (1, 16000, {"num_mel_bins": 64, "window_type": "hanning"}),
}
EPSILON = np.finfo(np.float32).eps


@pytest.fixture(scope="module")
def vectors(shared):
    return np.load(shared / "reference" / "audio" / "kaldi.npz")


@pytest.fixture
def wave(getkey):
    return np.asarray(0.1 * jax.random.normal(getkey(), (2000,)))


@pytest.mark.parametrize("name", CASES)
def test_parity_with_torchaudio(vectors, name):
    index, rate, settings = CASES[name]
    found = np.asarray(audio.kaldi_fbank(vectors[f"wave_{index}"], sample_frequency=rate, **settings))
    chex.assert_shape(found, vectors[name].shape)
    chex.assert_trees_all_close(found, vectors[name], atol=2e-3, rtol=0)


def test_cepstra_parity_with_torchaudio(vectors):
    found = np.asarray(audio.kaldi_mfcc(vectors["wave_0"], sample_frequency=8000))
    chex.assert_trees_all_close(found, vectors["kaldi_mfcc"], atol=5e-3, rtol=0)


def frames_by_hand(wave, size, shift, snip_edges):
    if snip_edges:
        starts = range(0, len(wave) - size + 1, shift)
        return np.stack([wave[start : start + size] for start in starts])
    # Kaldi: frame t is centred on (t + 1/2) * shift, and samples outside are mirrored with the edge repeated.
    count = (len(wave) + shift // 2) // shift
    index = np.arange(count)[:, None] * shift + shift // 2 - size // 2 + np.arange(size)
    index = np.where(index < 0, -1 - index, index)
    return wave[np.where(index >= len(wave), 2 * len(wave) - 1 - index, index)]


@pytest.mark.parametrize("snip_edges", [True, False])
@pytest.mark.parametrize("window_type", audio.KALDI_WINDOWS)
@pytest.mark.parametrize(("length", "shift"), [(25.0, 10.0), (10.0, 25.0), (16.0, 16.0), (20.0, 15.1)])
def test_definition(wave, snip_edges, window_type, length, shift):
    rate, size, hop = 8000, int(8000 * length * 0.001), int(8000 * shift * 0.001)
    frames = frames_by_hand(wave.astype(np.float64), size, hop, snip_edges)
    frames = frames - frames.mean(axis=1, keepdims=True)
    energy = np.log(np.maximum((frames**2).sum(axis=1), EPSILON))
    frames = frames - 0.97 * np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    name = {"hanning": "hann"}.get(window_type, window_type)
    frames = frames * audio.window(name, size, periodic=False, blackman_coefficient=0.4)
    padded = 2 ** int(np.ceil(np.log2(size)))
    power = np.abs(np.fft.rfft(frames, padded)) ** 2
    bank = audio.mel_filter_bank(rate, padded, 10, 100.0, 3800.0, "kaldi", None)
    wanted = np.log(np.maximum(power @ bank.T, EPSILON))
    found = audio.kaldi_fbank(
        wave,
        sample_frequency=rate,
        frame_length=length,
        frame_shift=shift,
        window_type=window_type,
        blackman_coeff=0.4,
        snip_edges=snip_edges,
        num_mel_bins=10,
        low_freq=100.0,
        high_freq=-200.0,
        use_energy=True,
        energy_floor=0.0,
        htk_compat=True,
    )
    chex.assert_shape(found, (len(frames), 11))
    chex.assert_trees_all_close(np.asarray(found[:, :10]), wanted.astype(np.float32), atol=2e-3, rtol=0)
    chex.assert_trees_all_close(np.asarray(found[:, 10]), energy.astype(np.float32), atol=1e-3, rtol=0)


def test_energy_options(wave):
    plain = audio.kaldi_fbank(wave, sample_frequency=8000)
    first = audio.kaldi_fbank(wave, sample_frequency=8000, use_energy=True, energy_floor=0.5)
    last = audio.kaldi_fbank(wave, sample_frequency=8000, use_energy=True, energy_floor=0.5, htk_compat=True)
    chex.assert_trees_all_close(first[:, 1:], plain, atol=1e-5)
    chex.assert_trees_all_close(last, jnp.roll(first, -1, axis=1), atol=1e-5)
    frames = frames_by_hand(wave, 200, 80, True)
    frames = frames - frames.mean(axis=1, keepdims=True)
    energy = np.log(np.maximum((frames**2).sum(axis=1), 0.5))
    chex.assert_trees_all_close(np.asarray(first[:, 0]), energy, atol=1e-3)
    # The floor of 1 is Kaldi's default: sound in -1 ... 1 hardly reaches it.
    quiet = audio.kaldi_fbank(0.1 * wave, sample_frequency=8000, use_energy=True)
    chex.assert_trees_all_close(quiet[:, 0], jnp.zeros(len(quiet)), atol=1e-6)
    late = audio.kaldi_fbank(wave, sample_frequency=8000, use_energy=True, raw_energy=False, energy_floor=0.0)
    frames = frames - 0.97 * np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    frames = frames * audio.window("povey", 200, periodic=False)
    chex.assert_trees_all_close(np.asarray(late[:, 0]), np.log((frames**2).sum(axis=1)).astype(np.float32), atol=1e-3)


def test_other_options(wave, getkey):
    plain = audio.kaldi_fbank(wave, sample_frequency=8000)
    centred = audio.kaldi_fbank(wave, sample_frequency=8000, subtract_mean=True)
    chex.assert_trees_all_close(centred, plain - plain.mean(axis=0, keepdims=True), atol=1e-4)
    chex.assert_shape(audio.kaldi_fbank(wave, sample_frequency=8000, min_duration=1.0), (0, 23))
    exact = audio.kaldi_fbank(wave, sample_frequency=8000, round_to_power_of_two=False)
    assert np.abs(exact - plain).max() > 1e-3
    dithered = audio.kaldi_fbank(wave, sample_frequency=8000, dither=1e-3, key=getkey())
    assert 0 < np.abs(dithered - plain).mean() < 0.1
    warped = audio.kaldi_fbank(wave, sample_frequency=8000, vtln_warp=1.1)
    assert np.abs(warped - plain).max() > 1e-2


def test_warped_banks_keep_their_ends():
    plain = audio.kaldi_mel_banks(20, 512, 8000)
    for warp in (0.9, 1.1):
        bank = audio.kaldi_mel_banks(20, 512, 8000, vtln_warp=warp)
        chex.assert_shape(bank, plain.shape)
        peaks, wanted = bank.argmax(axis=1), plain.argmax(axis=1)
        assert ((peaks[5:14] < wanted[5:14]) if warp > 1 else (peaks[5:14] > wanted[5:14])).all()
        for edge in (0, -1):
            assert abs(int(np.flatnonzero(bank.any(axis=0))[edge]) - int(np.flatnonzero(plain.any(axis=0))[edge])) <= 1


def test_cepstral_options(wave):
    plain = audio.kaldi_mfcc(wave, sample_frequency=8000)
    htk = audio.kaldi_mfcc(wave, sample_frequency=8000, htk_compat=True)
    chex.assert_trees_all_close(htk[:, :-1], plain[:, 1:], atol=1e-5)
    chex.assert_trees_all_close(htk[:, -1], np.sqrt(2.0) * plain[:, 0], rtol=1e-5)
    energy = audio.kaldi_fbank(wave, sample_frequency=8000, use_energy=True)[:, 0]
    for compat, column in ((False, 0), (True, -1)):
        found = audio.kaldi_mfcc(wave, sample_frequency=8000, use_energy=True, htk_compat=compat)
        chex.assert_trees_all_close(found[:, column], energy, atol=1e-5)
    centred = audio.kaldi_mfcc(wave, sample_frequency=8000, subtract_mean=True)
    chex.assert_trees_all_close(centred.mean(axis=0), jnp.zeros(13), atol=1e-3)
    plain_lifter = audio.kaldi_mfcc(wave, sample_frequency=8000, cepstral_lifter=0.0)
    chex.assert_trees_all_close(plain_lifter[:, 0], plain[:, 0], rtol=1e-5)


def test_batches_and_gradients(wave):
    waves = np.stack([wave, wave[::-1]])[:, None]
    for settings in ({}, {"snip_edges": False}):
        both = audio.kaldi_fbank(waves, sample_frequency=8000, **settings)
        single = audio.kaldi_fbank(wave, sample_frequency=8000, **settings)
        chex.assert_trees_all_close(both[0, 0], single, atol=1e-3)
    for power in (True, False):

        def total(w, power=power):
            return audio.kaldi_fbank(w, sample_frequency=8000, use_power=power, use_energy=True).sum()

        for sound in (wave, np.zeros(2000, np.float32)):
            assert np.isfinite(jax.grad(total)(sound)).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"window_type": "hann"}, "did you mean 'hanning'"),
        ({"num_mel_bins": 3}, "at least 4 bands"),
        ({"low_freq": 5000.0}, "low_freq < high_freq"),
        ({"high_freq": 9000.0}, "low_freq < high_freq"),
        ({"frame_length": 500.0}, "it must be 2"),
        ({"frame_shift": 0.01}, "less than one sample"),
        ({"frame_length": 25.125, "round_to_power_of_two": False}, "is odd"),
        ({"dither": 1.0}, "needs a key"),
        ({"vtln_warp": 1.1, "vtln_low": 10.0}, "vtln_low"),
    ],
)
def test_refusals(wave, settings, words):
    with pytest.raises(ValueError, match=words):
        audio.kaldi_fbank(wave, sample_frequency=8000, **settings)
    with pytest.raises(ValueError, match="num_ceps"):
        audio.kaldi_mfcc(wave, num_ceps=24)
    with pytest.raises(ValueError, match="always True"):
        audio.kaldi_mfcc(wave, use_power=False)
