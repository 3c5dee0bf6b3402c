"""Parameterizations backwards: parameters for a given input."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nd_jax import domain as domains
from nd_jax.audio.mel import LogMel
from nd_jax.visualize import parameterizations

LOG_MEL = domains.LogMel(LogMel(sample_rate=8000, n_fft=256, hop_length=128, n_mels=20), frames=17)
WAVE = domains.Waveform(samples=801, sample_rate=8000)
IMAGE = domains.Image((9, 12, 3))
GREY = domains.Image((7, 8, 1), low=-1.0, high=1.0)
LATENT = domains.Latent(6)
BAND_MEAN = domains.LogMel(LOG_MEL.transform, frames=16, band_mean=np.linspace(0.0, 0.7, 20, dtype=np.float32))
ROUND_TRIPS = {
    "pixels": (parameterizations.pixels(), LOG_MEL),
    "pixels grey tanh": (parameterizations.pixels(bounds="tanh", start=0.3), GREY),
    "pixels clip": (parameterizations.pixels(bounds="clip", start=(0.3, 0.5, 0.7)), IMAGE),
    "pixels none": (parameterizations.pixels(bounds="none"), GREY),
    "pixels none start": (parameterizations.pixels(bounds="none", start=0.2), LOG_MEL),
    "fourier log-mel": (parameterizations.fourier(), LOG_MEL),
    "fourier steep": (parameterizations.fourier(2.0, axis_scale=(1.0, 3.0), bounds="tanh"), LOG_MEL),
    "fourier band mean": (parameterizations.fourier(start="mean"), BAND_MEAN),
    "fourier colours": (parameterizations.fourier(start=(0.4, 0.5, 0.6)), IMAGE),
    "fourier rgb": (parameterizations.fourier(decorrelate=False, bounds="clip"), domains.Image((8, 7, 3))),
    "fourier samples": (parameterizations.fourier(bounds="tanh"), WAVE),
    "samples": (parameterizations.waveform(decay=None), WAVE),
    "spectrum odd": (parameterizations.waveform(), WAVE),
    "spectrum even": (parameterizations.waveform(1.0, bounds="clip"), domains.Waveform(800, 8000)),
    "latent": (parameterizations.latent(project=False), LATENT),
    "pixels on a latent": (parameterizations.pixels(), LATENT),
}


def examples_inside(domain, count):
    """Inputs of every value of the range that `invert` promises to keep, from within a thousandth of both ends."""
    uniform = np.random.default_rng(5).uniform(0.001, 0.999, (count, *domain.shape))
    if not np.isfinite(domain.high):
        return jnp.asarray(6 * uniform - 3, jnp.float32)
    return jnp.asarray(domain.low + (domain.high - domain.low) * uniform, jnp.float32)


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_invert_gives_the_input_back(name):
    made, domain = ROUND_TRIPS[name]
    assert isinstance(made, parameterizations.Invertible)
    x = examples_inside(domain, 3)
    parameters = jax.jit(jax.vmap(lambda one: made.invert(one, domain)))(x)
    shapes = jax.eval_shape(jax.vmap(lambda key: made.init(key, domain)), jax.random.split(jax.random.key(0), 3))
    chex.assert_trees_all_equal_shapes_and_dtypes(parameters, shapes)
    again = jax.vmap(lambda p: made.apply(p, domain))(parameters)
    chex.assert_trees_all_close(again, x, atol=3e-5 * (min(domain.high, 3) - max(domain.low, -3)))
    alone = parameterizations.invert(made, x[1], domain)
    chex.assert_trees_all_close(alone, parameters[1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("bounds", ["sigmoid", "tanh", "clip"])
def test_invert_of_the_ends_of_the_range_can_still_move(bounds):
    """Full scale and silence come back a thousandth of the range inside, where the gradient is not zero."""
    made = parameterizations.pixels(bounds=bounds)
    x = jnp.stack([jnp.zeros(LOG_MEL.shape), jnp.ones(LOG_MEL.shape)])
    parameters = jax.vmap(lambda one: made.invert(one, LOG_MEL))(x)
    again = jax.vmap(lambda p: made.apply(p, LOG_MEL))(parameters)
    chex.assert_trees_all_close(again, jnp.clip(x, 0.001, 0.999), atol=1e-5)
    slope = jax.grad(lambda p: jnp.sum(jax.vmap(lambda one: made.apply(one, LOG_MEL))(p)))(parameters)
    assert float(jnp.min(slope)) > 5e-4


def test_invert_of_parts_and_of_what_has_none():
    domain = domains.Parts({"z": LATENT, "sound": WAVE})
    made = parameterizations.default(domain)
    x = {name: examples_inside(part, 1)[0] for name, part in domain.parts.items()}
    parameters = made.invert(x, domain)
    again = made.apply(parameters, domain)
    length = np.linalg.norm(x["z"])
    chex.assert_trees_all_close(again, {**x, "z": x["z"] * np.sqrt(6) / length}, atol=1e-4)

    class Own:
        name = "own"

        def init(self, key, domain):
            return jnp.zeros(domain.shape)

        def apply(self, parameters, domain):
            return parameters

    assert isinstance(Own(), parameterizations.Parameterization)
    with pytest.raises(ValueError, match="Own has no method invert"):
        parameterizations.invert(Own(), x["z"], LATENT)
    with pytest.raises(ValueError, match="keys"):
        made.invert({"z": x["z"]}, domain)
    with pytest.raises(ValueError, match="unbounded"):
        parameterizations.latent().invert(jnp.zeros(GREY.shape), GREY)
    for made in (parameterizations.pixels(), parameterizations.fourier()):
        with pytest.raises(ValueError, match=r"shape \(7, 8, 1\), got \(2, 7, 8, 1\)"):
            made.invert(jnp.zeros((2, *GREY.shape)), GREY)
    with pytest.raises(ValueError, match="Waveform domain"):
        parameterizations.waveform().invert(jnp.zeros(GREY.shape), GREY)
    with pytest.raises(ValueError, match="values"):
        parameterizations.fourier_spectrum(jnp.zeros((3, 4)), (4, 4))
