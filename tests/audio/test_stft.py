"""Short-time Fourier transforms: parity with librosa, round trips, batches, gradients, refusals."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from nd_jax import audio
from nd_jax.audio.stft import frame, overlap_add

CASES = {
    "stft0": (0, audio.STFT(512, 128)),
    "stft1": (1, audio.STFT(400, 160, pad_mode="reflect")),
    "stft2": (2, audio.STFT(512, 200, win_length=300, window="hamming")),
    "stft3": (0, audio.STFT(256, 100, center=False)),
}
# (settings, samples): odd sizes, hops longer than the window, short waves, every window.
GENERAL = [
    (audio.STFT(255, 64), 1000),
    (audio.STFT(128, 200), 1500),
    (audio.STFT(128, 50, win_length=40), 777),
    (audio.STFT(64, 1, window="blackman"), 200),
    (audio.STFT(301, 77, win_length=200, window="povey", pad_mode="reflect"), 900),
    (audio.STFT(64, 16, window="rectangular", center=False), 333),
    (audio.STFT(512, 128, window="bartlett"), 30),
    (audio.STFT(512, 128, pad_mode="reflect"), 30),
    (audio.STFT(100, 30, window="blackmanharris", center=False), 100),
]


def reference_stft(wave, settings):
    """The definition, one frame at a time."""
    window = np.zeros(settings.n_fft)
    size = settings.win_length or settings.n_fft
    left = (settings.n_fft - size) // 2
    window[left : left + size] = audio.window(settings.window, size)
    side = settings.n_fft // 2 if settings.center else 0
    wave = np.pad(wave, side, mode=settings.pad_mode) if side else wave
    starts = range(0, len(wave) - settings.n_fft + 1, settings.hop_length)
    return np.stack([np.fft.rfft(window * wave[start : start + settings.n_fft]) for start in starts], axis=1)


@pytest.fixture(scope="module")
def vectors(shared):
    return np.load(shared / "reference" / "audio" / "librosa.npz")


@pytest.mark.parametrize("name", CASES)
def test_parity_with_librosa(vectors, name):
    index, settings = CASES[name]
    wave = vectors[f"wave_{index}"][:5000]
    spectrum = vectors[f"{name}/re"] + 1j * vectors[f"{name}/im"]
    found = settings.forward(wave)
    assert found.dtype == jnp.complex64
    chex.assert_trees_all_close(np.asarray(found), spectrum, atol=1e-5 * np.abs(spectrum).max(), rtol=0)
    length = settings.win_length or settings.n_fft
    chex.assert_trees_all_close(audio.window(settings.window, length), vectors[f"{name}/window"], atol=1e-6, rtol=0)
    inner = slice(None) if settings.center else slice(settings.n_fft, -settings.n_fft)
    wanted = vectors[f"{name}/istft_nolength"]
    found = np.asarray(settings.inverse(spectrum))
    chex.assert_shape(found, wanted.shape)
    chex.assert_trees_all_close(found[inner], wanted[inner], atol=1e-5, rtol=0)
    if f"{name}/istft" in vectors:
        chex.assert_trees_all_close(
            np.asarray(settings.inverse(spectrum, 5000)), vectors[f"{name}/istft"], atol=1e-5, rtol=0
        )
    if f"{name}/modified_re" in vectors:
        modified = vectors[f"{name}/modified_re"] + 1j * vectors[f"{name}/modified_im"]
        found = np.asarray(settings.inverse(modified, 5000))
        chex.assert_trees_all_close(found, vectors[f"{name}/modified_istft"], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("settings", "samples"), GENERAL)
def test_definition_for_unusual_settings(settings, samples, getkey):
    wave = np.asarray(jax.random.normal(getkey(), (samples,)))
    wanted = reference_stft(wave.astype(np.float64), settings)
    found = np.asarray(settings.forward(wave))
    chex.assert_shape(found, wanted.shape)
    assert settings.num_frames(samples) == wanted.shape[1]
    chex.assert_trees_all_close(found, wanted.astype(np.complex64), atol=1e-5 * np.abs(wanted).max(), rtol=0)


@pytest.mark.parametrize("settings", [audio.STFT(256, 64), audio.STFT(255, 50, win_length=200), audio.STFT(64, 3)])
@pytest.mark.parametrize("samples", [1000, 1023])
def test_round_trip(settings, samples, getkey):
    wave = jax.random.normal(getkey(), (2, 3, samples))
    again = settings.inverse(settings.forward(wave), length=samples)
    chex.assert_shape(again, wave.shape)
    # The very last samples may lie in no frame when the hop does not divide the length.
    covered = (settings.num_frames(samples) - 1) * settings.hop_length
    chex.assert_trees_all_close(again[..., :covered], wave[..., :covered], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("size", "hop"), [(8, 2), (8, 3), (8, 8), (8, 11), (200, 1), (5, 4)])
def test_overlap_add_is_the_transpose_of_framing(size, hop, getkey):
    samples = size + 4 * hop
    wave = jax.random.normal(getkey(), (2, samples))
    frames = jax.random.normal(getkey(), frame(wave, size, hop).shape)
    added = overlap_add(frames, hop)
    chex.assert_shape(added, (2, samples))
    (transposed,) = jax.linear_transpose(lambda w: frame(w, size, hop), wave)(frames)
    chex.assert_trees_all_close(added, transposed, atol=1e-5, rtol=1e-5)


def test_inverse_is_the_least_squares_wave_of_a_random_spectrum(getkey):
    settings = audio.STFT(64, 16)
    spectrum = jax.random.normal(getkey(), (33, 12)) + 1j * jax.random.normal(getkey(), (33, 12))
    spectrum = spectrum.at[jnp.array([0, 32])].set(spectrum[jnp.array([0, 32])].real)
    wave = settings.inverse(spectrum)

    def distance(wave):
        # Inner bins stand for two, so that the distance is that of the windowed frames.
        weight = jnp.ones((33, 1)).at[1:32].set(2.0)
        return jnp.sum(weight * jnp.square(jnp.abs(settings.forward(wave) - spectrum)))

    gradient = jax.grad(distance)(wave)[32:-32]
    scale = jnp.abs(jax.grad(distance)(jnp.zeros_like(wave))).max()
    chex.assert_trees_all_close(gradient / scale, jnp.zeros_like(gradient), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", audio.WINDOWS)
def test_samples_that_no_window_reaches_stay_small(name, getkey):
    settings = audio.STFT(64, 80, win_length=50, window=name)
    wave = jax.random.normal(getkey(), (500,))
    again = settings.inverse(settings.forward(wave), length=500)
    assert np.abs(again).max() <= 1.01 * np.abs(wave).max()


def test_batch_jit_and_vmap_give_what_single_calls_give(getkey):
    settings = audio.STFT(128, 32)
    waves = jax.random.normal(getkey(), (3, 500))
    single = jnp.stack([settings.forward(wave) for wave in waves])
    chex.assert_trees_all_close(settings.forward(waves), single, atol=1e-5)
    chex.assert_trees_all_close(jax.vmap(settings.forward)(waves), single, atol=1e-5)
    with jax.disable_jit():
        chex.assert_trees_all_close(settings.forward(waves), single, atol=1e-5)
    back = settings.inverse(single, length=500)
    chex.assert_trees_all_close(back, jnp.stack([settings.inverse(z, length=500) for z in single]), atol=1e-6)


@pytest.mark.parametrize("level", [0.0, 1e-20, 1.0])
def test_gradients_are_finite_at_silence_too(level, getkey):
    wave = level * jax.random.normal(getkey(), (400,))

    def loss(wave):
        spectrum = audio.stft(wave, n_fft=64, hop_length=16)
        return jnp.abs(spectrum).sum() + jnp.square(audio.istft(spectrum, hop_length=16)).sum()

    assert np.isfinite(jax.grad(loss)(wave)).all()


@pytest.mark.parametrize("name", ["hann", "hamming", "blackman", "blackmanharris", "bartlett", "boxcar"])
@pytest.mark.parametrize("length", [1, 2, 7, 64])
@pytest.mark.parametrize("periodic", [True, False])
def test_windows_are_those_of_scipy(name, length, periodic):
    wanted = scipy.signal.get_window(name, length, fftbins=periodic)
    chex.assert_trees_all_close(audio.window(name, length, periodic=periodic), wanted, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: audio.window("han", 8), "did you mean 'hann'"),
        (lambda: audio.window("hann", 0), "at least 1 sample"),
        (lambda: audio.stft(np.zeros(100), n_fft=64, hop_length=0), "at least 1"),
        (lambda: audio.stft(np.zeros(100), n_fft=64, hop_length=8, win_length=65), "longer than n_fft"),
        (lambda: audio.stft(np.zeros(100), n_fft=64, hop_length=8, win_length=0), "at least 1 sample"),
        (lambda: audio.stft(np.zeros(60), n_fft=64, hop_length=8, center=False), "shorter than one frame"),
        (lambda: audio.stft(np.zeros(0), n_fft=64, hop_length=8), "at least 1 sample"),
        (lambda: audio.stft(0.0, n_fft=64, hop_length=8), "samples"),
        (lambda: audio.istft(np.zeros((33, 4)), hop_length=8, n_fft=66), "34 bins"),
        (lambda: audio.istft(np.zeros(33), hop_length=8), "bins, frames"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()
