"""MACO: the magnitudes are those of the data at all phases, on images, bands and waveforms."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nd_jax import audio, domain
from nd_jax.visualize import manifest, parameterizations

MEL = domain.LogMel(audio.LogMel(sample_rate=8000, n_fft=64, hop_length=32, n_mels=8), frames=12)
ODD_MEL = domain.LogMel(MEL.transform, frames=13)
GREY = domain.Image((7, 8, 1), low=-1.0, high=1.0)
COLOURS = domain.Image((6, 9, 3))
WAVE = domain.Waveform(301, 8000)
ALL = {"mel": MEL, "odd mel": ODD_MEL, "grey": GREY, "colours": COLOURS, "wave": WAVE}


def natural(given, count=5):
    """Values well inside the range, so that single precision can still tell their log-odds."""
    share = np.random.default_rng(2).uniform(0.3, 0.8, (count, *given.shape))
    return (given.low + (given.high - given.low) * share).astype(np.float32)


def spectra(x, given):
    """|FFT| of the values in front of the bounds, by numpy: (..., rows, columns) for images, (..., time) for sound."""
    share = (np.asarray(x, np.float64) - given.low) / (given.high - given.low)
    odds = np.log(share / (1 - share))
    if given is WAVE:
        return np.fft.rfft(odds[..., 0] / 2, norm="ortho")
    if given in (MEL, ODD_MEL):
        return np.fft.rfft(odds[..., 0], norm="ortho")
    if given is COLOURS:
        odds = odds @ np.linalg.inv(parameterizations.COLOUR_MATRIX.astype(np.float64)).T
    return np.fft.rfftn(np.moveaxis(odds, -1, -3), axes=(-2, -1), norm="ortho")


@pytest.mark.parametrize("name", ALL)
def test_magnitudes_are_those_of_the_data_at_all_phases(name):
    given = ALL[name]
    data = natural(given)
    expected = np.abs(spectra(data, given)).mean(0)
    magnitude = parameterizations.magnitude_spectrum(given, data)
    assert magnitude.shape == parameterizations.magnitude_shape(given)
    # The constant keeps its sign: its entry is the size of the mean, not the mean of the sizes.
    constant = (..., 0) if given.kind != "image" else (..., 0, 0)
    expected[constant] = np.abs(spectra(data, given).real[constant].mean(0))
    chex.assert_trees_all_close(np.abs(magnitude), expected.astype(np.float32), rtol=1e-4, atol=1e-5)

    made = parameterizations.maco(data, given)
    keys = jax.random.split(jax.random.key(1), 4)
    phases = jax.vmap(lambda key: made.init(key, given))(keys) * jnp.asarray([0.0, 1.0, 3.0, 50.0]).reshape(
        (4,) + (1,) * len(magnitude.shape)
    )
    x = jax.jit(jax.vmap(lambda p: made.apply(p, given)))(phases)
    chex.assert_shape(x, (4, *given.shape))
    assert float(x.min()) >= given.low and float(x.max()) <= given.high
    for one in np.abs(spectra(x[1:], given)):
        chex.assert_trees_all_close(one.astype(np.float32), expected.astype(np.float32), rtol=0.01, atol=0.005)
    assert float(jnp.abs(x[1] - x[2]).max()) > 0.01
    gradient = jax.grad(lambda p: jnp.sum(made.apply(p, given) ** 3))(phases[1])
    chex.assert_tree_all_finite(gradient)
    assert float(jnp.abs(gradient).max()) > 0


@pytest.mark.parametrize("name", ALL)
def test_invert_keeps_the_phases_of_an_input(name):
    """What MACO can make comes back; of anything else the phases do."""
    given = ALL[name]
    made = parameterizations.maco(natural(given), given)
    x = made.apply(made.init(jax.random.key(3), given), given)
    chex.assert_trees_all_close(made.apply(made.invert(x, given), given), x, atol=1e-4)
    other = natural(given)[0]
    again = made.apply(made.invert(other, given), given)
    theirs, ours = spectra(other, given), spectra(again, given)
    inner = np.s_[..., 1:-1]
    chex.assert_trees_all_close(np.angle(ours / theirs)[inner], np.zeros_like(theirs.real)[inner], atol=0.02)


def test_without_bounds_the_values_themselves_have_the_magnitudes():
    data = natural(GREY)
    made = parameterizations.maco(data, GREY, bounds="none")
    x = np.asarray(made.apply(made.init(jax.random.key(0), GREY), GREY))
    found = np.abs(np.fft.rfft2(x[..., 0], norm="ortho"))
    chex.assert_trees_all_close(found[None].astype(np.float32), np.abs(made.magnitude), atol=1e-4)
    again = parameterizations.maco(made.magnitude, bounds="none")
    chex.assert_trees_all_equal(again.apply(again.init(jax.random.key(0), GREY), GREY), jnp.asarray(x))


def test_a_mean_level_per_band_stays():
    """Time is all that is free: on the log-odds every band keeps its mean, loud bands loud and quiet ones quiet."""
    data = natural(MEL)
    data[:, 2] = 0.05
    made = parameterizations.maco(data, MEL)
    for seed in (0, 1):
        x = np.asarray(made.apply(made.init(jax.random.key(seed), MEL), MEL))[..., 0]
        odds = np.log(x / (1 - x)).mean(1)
        assert odds.argmin() == 2 and odds[2] == pytest.approx(np.log(0.05 / 0.95), abs=1e-3)


def test_the_magnitudes_travel_with_the_manifest():
    made = parameterizations.maco(natural(MEL), MEL)
    stored, carried = manifest.plain(made), manifest.carried(made)
    assert stored["magnitude"] == {"array": next(iter(carried))}
    again = manifest._rebuild("parameterization", stored, carried)
    key = jax.random.key(0)
    chex.assert_trees_all_equal(again.apply(again.init(key, MEL), MEL), made.apply(made.init(key, MEL), MEL))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: parameterizations.maco(natural(MEL), GREY), r"shape \(n, 7, 8, 1\), got \(5, 8, 12, 1\)"),
        (lambda: parameterizations.maco(np.ones((3, 3))).init(jax.random.key(0), MEL), r"of shape \(8, 7\), got"),
        (lambda: parameterizations.maco(np.full((8, 7), np.nan)), "finite numbers"),
        (lambda: parameterizations.maco(natural(MEL) * np.nan, MEL), "not finite"),
        (lambda: parameterizations.maco(np.ones(4)).init(jax.random.key(0), domain.Latent(4)), "not for 'latent'"),
        (lambda: parameterizations.maco(np.ones((8, 7)), bounds="sigmoidal"), "unknown bounds"),
        (lambda: parameterizations.maco(np.ones((8, 7)), spread=-1.0), "spread must be"),
    ],
)
def test_senseless_magnitudes_end_in_one_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()
