"""Priors from natural inputs: bands that go together, and how fast each axis changes."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nd_jax import domain as domains
from nd_jax.audio.mel import LogMel
from nd_jax.visualize import manifest, parameterizations

BANDS, FRAMES = 20, 17
BARE = domains.LogMel(LogMel(sample_rate=8000, n_fft=256, hop_length=128, n_mels=BANDS), frames=FRAMES)
LARGE = domains.LogMel(LogMel(sample_rate=16000, n_fft=1024, hop_length=160, n_mels=64), frames=64)


@pytest.fixture(scope="module")
def domain():
    """Two groups of bands: those below the tenth sound together, and so do those above."""
    rng = np.random.default_rng(0)
    groups = rng.normal(size=(200, 2, 1, FRAMES)).repeat(10, axis=2).reshape(200, BANDS, FRAMES)
    odds = groups + 0.3 * rng.normal(size=groups.shape)
    return domains.with_statistics(BARE, (1 / (1 + np.exp(-odds)))[..., None])


def test_white_parameters_have_the_covariance_of_the_data(domain):
    """Starts drawn with the band root co-vary as the root says, and are as strong as those drawn without it."""
    keys = jax.random.split(jax.random.key(0), 400)

    def odds(made):
        draw = jax.jit(jax.vmap(lambda key: made.apply(made.init(key, domain), domain)))
        x = np.asarray(draw(keys), np.float64)[..., 0]
        return np.log(x / (1 - x)) - np.log(0.2 / 0.8)

    mixed = odds(parameterizations.fourier(sd=0.05, bands="covariance"))
    flat = mixed.transpose(1, 0, 2).reshape(BANDS, -1)
    expected = np.asarray(domain.band_root, np.float64) @ np.asarray(domain.band_root, np.float64).T
    covariance = np.cov(flat)
    chex.assert_trees_all_close(covariance / np.diag(covariance).mean(), expected, atol=0.15)
    assert np.std(mixed) == pytest.approx(np.std(odds(parameterizations.fourier(sd=0.05))), rel=0.06)
    correlation = np.corrcoef(flat)
    assert correlation[0, 5] > 0.8 and correlation[15, 19] > 0.8 and abs(correlation[5, 15]) < 0.2


@pytest.mark.parametrize("frames", [16, 17])
def test_time_is_smooth_and_the_way_back_is_exact(domain, frames):
    domain = domains.LogMel(BARE.transform, frames=frames, band_root=domain.band_root)
    made = parameterizations.fourier(bands="covariance")
    parameters = made.init(jax.random.key(1), domain)
    chex.assert_shape(parameters, (BANDS, frames // 2 + 1, 2))
    x = jnp.asarray(np.random.default_rng(1).uniform(0.01, 0.99, (2, *domain.shape)), jnp.float32)
    found = jax.jit(jax.vmap(lambda one: made.invert(one, domain)))(x)
    chex.assert_trees_all_close(jax.vmap(lambda one: made.apply(one, domain))(found), x, atol=2e-4)
    low, high = (
        float(jnp.std(made.apply(jnp.zeros(parameters.shape).at[:, bins].set(0.1), domain))) for bins in (1, -2)
    )
    assert low > 4 * high


def test_the_root_is_an_argument_of_the_compiled_program(domain):
    """Another bank's statistics are other numbers, not another program."""
    traces = []
    made = parameterizations.fourier(bands="covariance")
    parameters = made.init(jax.random.key(1), domain)

    @jax.jit
    def apply(parameters, domain):
        traces.append(1)
        return made.apply(parameters, domain)

    first = apply(parameters, domain)
    second = apply(parameters, domains.LogMel(BARE.transform, FRAMES, band_root=2 * domain.band_root,
                                              band_mean=domain.band_mean))  # fmt: skip
    assert len(traces) == 1
    assert float(jnp.abs(first - second).max()) > 0


def test_a_manifest_holds_the_choice_and_old_ones_stay_readable():
    made = parameterizations.fourier(0.5, bands="covariance", start="mean")
    stored = manifest.plain(made)
    assert manifest._rebuild("parameterization", stored) == made
    del stored["bands"]
    assert manifest._rebuild("parameterization", stored) == parameterizations.fourier(0.5, start="mean")


def field(rows, columns, decay, count=150):
    """Inputs whose log-odds have the amplitude |(rows * a, columns * b)| ** -decay, cut from a larger grid."""
    rng = np.random.default_rng(3)
    a, b = np.meshgrid(rows * np.fft.fftfreq(128), columns * np.fft.fftfreq(128), indexing="ij")
    weights = 1.0 / np.maximum(np.hypot(a, b), 1.0 / 128) ** decay
    odds = np.fft.ifft2(np.fft.fft2(rng.normal(size=(count, 128, 128))) * weights).real[:, :64, :64]
    return (1.0 / (1.0 + np.exp(-odds / odds.std())))[..., None]


@pytest.mark.parametrize(("rows", "columns", "decay"), [(1.0, 1.0, 1.0), (0.4, 1.0, 1.0), (2.0, 1.0, 1.5)])
def test_natural_scale_finds_what_the_field_was_made_with(rows, columns, decay):
    found = parameterizations.natural_scale(LARGE, field(rows, columns, decay))
    assert found.axis_scale[0] / found.axis_scale[1] == pytest.approx(rows / columns, rel=0.15)
    assert found.axis_scale[0] * found.axis_scale[1] == pytest.approx(1.0)
    assert found.decay == pytest.approx(decay, rel=0.15)
    assert 0.9 < found.explained <= 1.0
    per_band = found.octaves_per_second(LARGE)
    again = parameterizations.axis_scale(LARGE, seconds=0.1, octaves=0.1 * per_band)
    chex.assert_trees_all_close(again, found.axis_scale, rtol=1e-6)


def test_physical_axis_scale():
    """A frame lasts 10 ms; above 1 kHz Slaney's bands divide the octave evenly (27 mels per factor of 6.4)."""
    rows, columns = parameterizations.axis_scale(LARGE, seconds=0.01, octaves=0.1)
    centres = np.asarray(LARGE.axes[0].values)
    per_band = np.log2(centres[-1] / centres[-2])
    assert rows / columns == pytest.approx(0.1 / per_band, rel=1e-3)
    parameterizations.fourier(axis_scale=(rows, columns)).init(jax.random.key(0), LARGE)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: parameterizations.fourier(bands="covarianc"), "did you mean 'covariance'"),
        (lambda: parameterizations.fourier(bands="covariance", axis_scale=2.0), "no meaning"),
        (lambda: parameterizations.fourier(bands="covariance").init(jax.random.key(0), BARE), "with_statistics"),
        (
            lambda: parameterizations.fourier(bands="covariance").init(
                jax.random.key(0), domains.LogMel(BARE.transform, FRAMES, band_root=np.eye(3))
            ),
            r"band_root has shape \(3, 3\), but the domain has 20 bands",
        ),
        (
            lambda: parameterizations.fourier(bands="covariance").invert(
                jnp.zeros((2, 2, 3)), domains.Image((2, 2, 3))
            ),
            "needs a LogMel domain with a band_root, and this 'image'",
        ),
        (lambda: parameterizations.axis_scale(LARGE, seconds=0.0, octaves=1.0), "above 0"),
        (lambda: parameterizations.axis_scale(domains.Image((9, 9, 1)), seconds=1.0, octaves=1.0), "time axis"),
        (lambda: parameterizations.natural_scale(domains.Image((9, 9, 3)), np.zeros((2, 9, 9, 3))), "natural_scale"),
        (lambda: parameterizations.natural_scale(LARGE, np.zeros((2, 64, 64))), r"shape \(n, 64, 64, 1\)"),
        (lambda: parameterizations.natural_scale(LARGE, np.zeros((2, 64, 64, 1))), "never change"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
