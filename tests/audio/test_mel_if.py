"""Level and instantaneous frequency: parity with the official code and with the definition, the way back, gradients."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nd_jax.audio import MelIF
from nd_jax.audio.mel_if import KINDS, denormalize, mel_back_matrix, normalize, shared_edge_mel_matrix

SMALL = MelIF(8000, 900, 128)
# Frames that do not divide, hops that do not divide, half and more overlap, fewer bands, other rates.
GENERAL = [
    MelIF(8000, 900, 128),
    MelIF(22050, 777, 100, hop_length=30, frames=29),
    MelIF(11025, 640, 64, hop_length=32, mel_downscale=3),
    MelIF(8000, 500, 128, hop_length=20, kind="linear"),
    MelIF(8000, 500, 100, hop_length=50, frames=9, kind="phase"),
    MelIF(8000, 50, 128, frames=1),
]


def sounds(transform, seed=0):
    """A decaying stack of partials after a silence, a chirp, and noise: (3, samples)."""
    time = np.arange(transform.samples) / transform.sample_rate
    partials = sum(np.sin(2 * np.pi * 211.0 * number * time + number) / number for number in range(1, 8))
    note = partials * np.exp(-8 * time) * (time > 0.01) / 3
    chirp = 0.5 * np.sin(2 * np.pi * (150.0 * time + 0.1 * transform.sample_rate / time[-1] * time**2))
    noise = np.random.default_rng(seed).normal(0, 0.1, len(time))
    return np.stack([note, chirp, noise]).astype(np.float32)


def defined(wave, transform):
    """The specification in float64, one sum at a time."""
    wave = np.concatenate([np.zeros(transform.padding), np.asarray(wave, np.float64)])
    place = np.arange(transform.n_fft)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * place / transform.n_fft)
    frames = np.stack([wave[t * transform.hop_length :][: transform.n_fft] * window for t in range(transform.frames)])
    spectrum = np.fft.rfft(frames)[:, 1:]
    level, phase = np.log(np.abs(spectrum) + 1e-6), np.where(spectrum == 0, 0.0, np.angle(spectrum))
    if transform.kind == "phase":
        return np.stack([level, phase / np.pi], axis=-1)
    frequency = np.diff(np.unwrap(phase, axis=0), axis=0, prepend=0.0) / np.pi
    if transform.kind == "linear":
        return np.stack([level, frequency], axis=-1)
    matrix, _ = shared_edge_mel_matrix(transform.n_fft // 2, transform.bins, transform.sample_rate)
    power = np.exp(2 * level) @ matrix
    psi = np.cumsum(np.pi * frequency, axis=0) @ matrix
    return np.stack([np.log(power + 1e-6), np.diff(np.unwrap(psi, axis=0), axis=0, prepend=0.0) / np.pi], axis=-1)


def turns(found, wanted):
    """How far instantaneous frequencies are apart, where -1 and 1 are the same."""
    return np.abs((np.asarray(found, np.float64) - wanted + 1) % 2 - 1)


def check_picture(found, wanted, transform):
    loud = wanted[..., 0] > (-5.0 if transform.kind == "mel" else -2.5)
    assert loud.mean() > 0.15
    assert np.abs(found[..., 0] - wanted[..., 0])[loud].max() < 1e-4
    assert turns(found[..., 1], wanted[..., 1])[loud].max() < 1e-2


@pytest.fixture(scope="module", params=["small", "small_down2"])
def case(request, shared):
    archive = np.load(shared / "reference/gansynth/spectral_small.npz")
    name = request.param
    values = {key.split("/")[1]: archive[key] for key in archive.files if key.split("/")[0] == name}
    return MelIF(16000, 2100, 256, mel_downscale=2 if name.endswith("down2") else 1), values


def sparse(values, name):
    matrix = np.zeros(values[f"{name}_shape"])
    matrix[values[f"{name}_rows"], values[f"{name}_cols"]] = values[f"{name}_vals"]
    return matrix


def test_matrices_are_the_official_ones(case):
    transform, values = case
    size = transform.n_fft // 2, transform.bins, transform.sample_rate
    chex.assert_trees_all_close(shared_edge_mel_matrix(*size)[0], sparse(values, "l2mel"), atol=1e-12)
    chex.assert_trees_all_close(mel_back_matrix(*size), sparse(values, "mel2l"), atol=1e-12)


def test_the_official_matrix_has_the_known_facts():
    matrix, centres = shared_edge_mel_matrix(1024, 1024, 16000)
    assert np.count_nonzero(matrix) == 2042
    assert not matrix[0].any() and not matrix[-1].any() and not matrix[:, 0].any()
    assert matrix.max() == pytest.approx(0.99963, abs=1e-5)
    assert np.all(np.diff(centres) > 0)
    seen = matrix.any(axis=0)
    rows = np.linspace(0, 8000, 1024)
    assert np.abs(rows[matrix.argmax(axis=0)] - centres)[seen].max() < 8000 / 1023


def test_every_step_has_the_official_values(case):
    transform, values = case
    spectrum = transform.spectrum(values["wave"])
    chex.assert_trees_all_close(spectrum, values["stft"], atol=1e-5)
    linear = dataclasses.replace(transform, kind="linear", mel_downscale=1)
    check_picture(linear.forward(values["wave"]), values["specgram"], linear)
    picture = transform.forward(values["wave"])
    check_picture(picture, values["mel"], transform)
    chex.assert_trees_all_close(normalize(values["mel"]), values["mel_norm"], atol=1e-6)


def test_every_step_back_has_the_official_values(case):
    transform, values = case
    back = np.asarray(transform.mel_to_linear(jnp.asarray(values["mel"])))
    chex.assert_trees_all_close(back[..., 0], values["specgram_from_mel"][..., 0], atol=1e-5)
    assert turns(back[..., 1], values["specgram_from_mel"][..., 1]).max() < 1e-4
    chex.assert_trees_all_close(transform.inverse(values["mel"]), values["audio_from_mel"], atol=1e-5)
    linear = dataclasses.replace(transform, kind="linear", mel_downscale=1)
    chex.assert_trees_all_close(linear.inverse(values["specgram"]), values["audio_from_specgram"], atol=1e-5)
    chex.assert_trees_all_close(transform.from_spectrum(values["stft"]), values["audio_from_stft"], atol=1e-5)


@pytest.mark.parametrize("transform", GENERAL, ids=str)
def test_pictures_follow_the_definition(transform):
    wave = sounds(transform)
    found = np.asarray(transform.forward(wave))
    chex.assert_shape(found, (3, *transform.shape))
    wanted = np.stack([defined(one, transform) for one in wave])
    check_picture(found, wanted, transform)
    assert len(transform.times) == transform.frames and len(transform.frequencies) == transform.bins


def test_official_sizes_follow_from_the_defaults():
    assert (MelIF().shape, MelIF().padding, MelIF().hop_length) == ((128, 1024, 2), 3072, 512)
    low = MelIF(n_fft=1024)
    assert (low.shape, low.padding, low.hop_length) == ((256, 512, 2), 2304, 256)
    assert MelIF(mel_downscale=4).shape == (128, 256, 2)
    # Frame 6 of the defaults begins with the sound, and its middle is 1024 samples later.
    assert MelIF().times[6] == pytest.approx(1024 / 16000)
    assert MelIF(kind="linear").frequencies[63] == pytest.approx(500.0)
    assert MelIF(frames=None) == MelIF(frames=128, hop_length=512)


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back(kind):
    transform = MelIF(8000, 4000, 256, kind=kind)
    wave = sounds(transform)[:2]
    made = np.asarray(transform.inverse(transform.forward(wave)))
    chex.assert_shape(made, wave.shape)
    whole = slice(None, -(transform.n_fft - transform.hop_length))
    if kind != "mel":
        # What is lost is the constant of every frame, and the 1e-6 of the logarithm.
        error = np.linalg.norm((made - wave)[:, whole], axis=1) / np.linalg.norm(wave[:, whole], axis=1)
        assert np.all(error < 0.01), error
    linear = MelIF(8000, 4000, 256, kind="linear")
    before, after = (np.exp(np.asarray(linear.forward(each))[:, 4:-3, :, 0]) for each in (wave, made))
    error = np.linalg.norm(after - before, axis=(1, 2)) / np.linalg.norm(before, axis=(1, 2))
    assert np.all(error < (0.5 if kind == "mel" else 0.01)), error
    assert np.abs(made[:, -2:]).max() < 0.05, "the end fades"


def test_silence_comes_back_as_silence():
    silent = SMALL.forward(np.zeros(SMALL.samples))
    chex.assert_trees_all_close(silent[..., 0], np.full(SMALL.shape[:2], np.log(1e-6), np.float32), atol=1e-5)
    chex.assert_trees_all_equal(silent[..., 1], np.zeros(SMALL.shape[:2], np.float32))
    assert np.abs(SMALL.inverse(silent)).max() < 2e-3
    # An FFT of zeros may well return a minus zero, whose angle would be pi.
    linear = dataclasses.replace(SMALL, kind="linear")
    zeros = np.asarray([complex(-0.0, 0.0), complex(-0.0, -0.0), complex(0.0, -0.0)], np.complex64)
    chex.assert_trees_all_equal(linear.linear(jnp.asarray(np.tile(zeros, (2, 1))))[..., 1], jnp.zeros((2, 3)))


def test_batches_are_what_their_members_are():
    wave = sounds(SMALL)
    both = SMALL.forward(wave.reshape(3, 1, -1))
    chex.assert_shape(both, (3, 1, *SMALL.shape))
    chex.assert_trees_all_close(both[1, 0, ..., 0], SMALL.forward(wave[1])[..., 0], atol=1e-3)
    back = SMALL.inverse(both)
    chex.assert_shape(back, (3, 1, SMALL.samples))
    chex.assert_trees_all_close(back[2, 0], SMALL.inverse(both[2, 0]), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_and_true(kind):
    transform = dataclasses.replace(SMALL, kind=kind)
    wave = jnp.asarray(sounds(transform)[2])
    weight = jax.random.normal(jax.random.key(0), transform.shape)
    loud = transform.forward(wave)[..., :1] > 0.0

    def score(x):
        return jnp.sum(jnp.where(loud, weight * transform.forward(x), 0.0))

    step = jax.random.normal(jax.random.key(1), wave.shape)
    slope = jnp.vdot(jax.grad(score)(wave), step)
    size = 1e-4
    chex.assert_trees_all_close(
        slope, (score(wave + size * step) - score(wave - size * step)) / (2 * size), rtol=0.02, atol=0.02
    )
    half = wave.at[: transform.samples // 2].set(0.0)
    for quiet in (jnp.zeros_like(wave), half, 1e-9 * wave, 1e-40 * wave, 1e15 * wave, jnp.ones_like(wave)):
        chex.assert_tree_all_finite(jax.grad(lambda x: jnp.sum(transform.forward(x) ** 2))(quiet))
    loudest = jnp.zeros(transform.shape).at[..., 0].set(40.0)
    for picture in (transform.forward(half), jnp.zeros(transform.shape), loudest):
        there = jax.grad(lambda x: jnp.sum(transform.inverse(x) ** 2))(picture)
        chex.assert_tree_all_finite(there)
        assert np.abs(there).max(axis=(0, 1)).min() > 0, "both channels matter"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_sound_that_is_not_finite_is_never_silence(kind, wrong):
    transform = dataclasses.replace(SMALL, kind=kind)
    wave = np.zeros((2, transform.samples), np.float32)
    wave[1, transform.samples // 2] = wrong
    with pytest.raises(ValueError, match="sound must be finite, and 1 of its 1800 samples are NaN or infinite"):
        transform.forward(wave)
    seen = ~np.isfinite(np.asarray(jax.jit(transform.forward)(wave)))
    assert not seen[0].any()
    frames = seen[1].any(axis=(1, 2))
    assert 1 < frames.sum() < len(frames), "the frames that hold it, and no others"


def test_normalising_there_and_back():
    picture = jnp.asarray([[-13.815511, 0.0], [10.38, 1.0], [30.0, -2.0]], jnp.float32)
    values = normalize(picture)
    chex.assert_trees_all_close(values, jnp.asarray([[-0.8, 0.0], [0.8, 0.8], [1.0, -1.0]]), atol=5e-4)
    chex.assert_trees_all_close(denormalize(values)[:2], picture[:2], atol=1e-4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SMALL.forward(np.zeros(901)), "sound has 901 samples, but this picture is of 900; bring it to length"),
        (lambda: SMALL.forward(np.zeros(900), sample_rate=16000), "16000 samples a second, .* of 8000; resample it"),
        (lambda: SMALL.forward(1.0), "no axis of samples"),
        (lambda: SMALL.inverse(np.zeros((32, 64))), r"shape \(\.\.\., 32, 64, 2\), not \(32, 64\)"),
        (lambda: MelIF(kind="mle"), "unknown kind 'mle'.*'mel'"),
        (lambda: MelIF(n_fft=255), "n_fft of a MelIF must be even"),
        (lambda: MelIF(n_fft="a"), "n_fft of a MelIF must be a whole number"),
        (lambda: MelIF(samples=0), "samples of a MelIF must be a whole number of 1 or more, got 0"),
        (lambda: MelIF(frames=100), "64000 samples need 122 frames or more, got frames 100"),
        (lambda: MelIF(frames=130.5), "frames 130.5"),
        (lambda: MelIF(hop_length=4096), "hop_length 4096 leaves gaps between frames of 2048"),
        (lambda: MelIF(kind="linear", mel_downscale=2), "mel_downscale is for the kind 'mel'"),
        (lambda: MelIF(n_fft=16, mel_downscale=9), "leaves no band of 8 bins"),
        (lambda: MelIF(samples=10**9), "more than any sound needs"),
    ],
)
def test_what_does_not_fit_is_said_in_one_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()
