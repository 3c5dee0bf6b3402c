"""Band statistics of natural inputs: what they say about sounds of known covariance, and how they are kept."""

import dataclasses
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import domain as domains
from nd_jax.audio import LogMel
from nd_jax.network import digest

BANDS = 12
DOMAIN = domains.LogMel(LogMel(sample_rate=8000, n_fft=256, hop_length=128, n_mels=BANDS), frames=16)


def sounds(count=400, *, tilt=0.0, seed=0):
    """Inputs whose log-odds are normal: neighbouring bands correlate by 0.8, distance d by 0.8 ** d."""
    distance = np.abs(np.subtract.outer(np.arange(BANDS), np.arange(BANDS)))
    sd = np.exp(tilt * np.linspace(-1, 1, BANDS))
    covariance = 0.8**distance * np.outer(sd, sd) * 0.25
    rng = np.random.default_rng(seed)
    odds = np.linalg.cholesky(covariance) @ rng.normal(size=(count, BANDS, 16))
    return np.asarray(1 / (1 + np.exp(-odds)), np.float32)[..., None], covariance


@pytest.mark.parametrize("tilt", [0.0, 0.7])
def test_root_of_a_known_covariance(tilt):
    x, covariance = sounds(tilt=tilt)
    root = domains.with_statistics(DOMAIN, x, shrinkage=0.01).band_root.astype(np.float64)
    expected = 0.99 * covariance / np.diag(covariance).mean() + 0.01 * np.eye(BANDS)
    chex.assert_trees_all_close(root @ root.T, expected, atol=0.12)
    assert np.trace(root @ root.T) == pytest.approx(BANDS, rel=1e-4)
    lengths = np.linalg.norm(root, axis=0)
    assert np.all(np.diff(lengths) < 0)
    chex.assert_trees_all_close(root.T @ root, np.diag(lengths**2), atol=1e-4)


def test_silence_and_the_ends_of_the_range_change_nothing_but_the_mean():
    x, _ = sounds()
    alone = domains.with_statistics(DOMAIN, x)
    chex.assert_trees_all_close(alone.band_mean, x.mean(axis=(0, 2, 3)), atol=1e-5)
    padded = domains.with_statistics(DOMAIN, np.concatenate([x, np.zeros_like(x)], axis=2))
    chex.assert_trees_all_close(padded.band_root, alone.band_root, atol=1e-6)
    chex.assert_trees_all_close(padded.band_mean, alone.band_mean / 2, atol=1e-6)
    floored = domains.with_statistics(DOMAIN, np.where(x < 0.1, 0.0, x))
    assert np.isfinite(floored.band_root).all()


def test_few_sounds_and_bands_that_never_sound_leave_no_direction_dead():
    x, _ = sounds(1)
    x = x[:, :, :3]
    x[:, -2:] = 0.0
    root = domains.with_statistics(DOMAIN, x, shrinkage=0.05).band_root
    assert np.linalg.norm(root, axis=0).min() == pytest.approx(np.sqrt(0.05), rel=1e-3)
    assert np.linalg.norm(root, axis=1).min() >= np.sqrt(0.05) * 0.999


def test_statistics_travel_with_a_network(tmp_path):
    x, _ = sounds(50)
    domain = domains.with_statistics(DOMAIN, x)
    assert json.dumps(domain.to_dict()) == json.dumps(DOMAIN.to_dict())
    assert domain == DOMAIN
    module = nd.networks.build("audio_cnn", {"heads": [["a", 2]], "features": [3], "kernels": [[3, 3]],
                                             "strides": [[2, 2]]})  # fmt: skip
    variables = module.init(jax.random.key(0), jnp.zeros((1, *domain.shape)))
    network = nd.Network(module, variables, input=domain)
    again = nd.load(network.save(tmp_path / "net"))
    chex.assert_trees_all_equal(again.input.arrays(), domain.arrays())
    assert digest(again) == digest(network)
    bare = dataclasses.replace(network, input=dataclasses.replace(domain, band_root=None))
    assert digest(bare) != digest(network)
    assert "band_root" not in nd.load(bare.save(tmp_path / "bare")).input.arrays()


@pytest.mark.parametrize(
    ("domain", "inputs", "shrinkage", "message"),
    [
        (domains.Latent(3), np.zeros((2, 3)), 0.05, "not for 'latent'"),
        (DOMAIN, np.zeros((4, BANDS, 16)), 0.05, r"shape \(n, 12, frames, 1\), got \(4, 12, 16\)"),
        (DOMAIN, np.zeros((0, BANDS, 16, 1)), 0.05, "must have the shape"),
        (DOMAIN, np.zeros((4, BANDS, 16, 1)), 0.05, "of 64 frames only 0 are not silent"),
        (DOMAIN, np.full((4, BANDS, 16, 1), np.nan), 0.05, "not finite"),
        (DOMAIN, np.full((4, BANDS, 16, 1), 0.3), 0.05, "never change"),
        (DOMAIN, np.zeros((4, BANDS, 16, 1)), 0.0, "shrinkage must be above 0"),
    ],
)
def test_refusals(domain, inputs, shrinkage, message):
    with pytest.raises(ValueError, match=message):
        domains.with_statistics(domain, inputs, shrinkage=shrinkage)
