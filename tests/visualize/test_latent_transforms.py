"""Noise and dropout on latents: their statistics, their laws, new at every step, and refusals."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nd_jax import domain as domains
from nd_jax.visualize import transforms

NORMAL, UNIFORM = domains.Latent(400), domains.Latent(400, law="uniform")
KEYS = jax.random.split(jax.random.key(0), 64)


def test_noise_has_its_spread_and_new_keys_new_noise():
    made = transforms.latent_noise(0.2)
    z = NORMAL.draw(KEYS[:1])[0]
    moved = jax.vmap(lambda key: made(key, z, NORMAL))(KEYS) - z[None]
    assert float(jnp.std(moved)) == pytest.approx(0.2, rel=0.02)
    assert not np.array_equal(moved[0], moved[1])
    chex.assert_trees_all_equal(transforms.latent_noise(0.0)(KEYS[0], z, NORMAL), z)


def test_dropout_keeps_the_length():
    made = transforms.latent_dropout(0.25)
    z = NORMAL.draw(KEYS[:1])[0]
    found = jax.vmap(lambda key: made(key, z, NORMAL))(KEYS)
    assert float(jnp.mean(found == 0)) == pytest.approx(0.25, abs=0.01)
    squares = jnp.sum(found**2, axis=1)
    assert float(jnp.mean(squares)) == pytest.approx(float(jnp.sum(z**2)), rel=0.02)
    kept = found[0] != 0
    chex.assert_trees_all_close(found[0][kept], z[kept] / np.sqrt(0.75), rtol=1e-5)


@pytest.mark.parametrize("made", [transforms.latent_noise(2.0), transforms.latent_dropout(0.5)])
def test_uniform_latents_stay_in_their_range(made):
    z = UNIFORM.draw(KEYS[:1])[0]
    found = jax.vmap(lambda key: made(key, z, UNIFORM))(KEYS)
    assert float(jnp.abs(found).max()) <= 1 and float(jnp.abs(found).max()) > 0.99
    chex.assert_trees_all_equal(made(KEYS[3], z, UNIFORM), found[3])


def test_refusals():
    for made, name in ((transforms.latent_noise(), "latent_noise"), (transforms.latent_dropout(), "latent_dropout")):
        made.check(NORMAL)
        transforms.on_part("z", made).check(domains.Parts({"z": NORMAL, "label": domains.Label(("a", "b"))}))
        with pytest.raises(ValueError, match=f"{name} is for a generator's latent, not for 'waveform'"):
            made.check(domains.Waveform(8, 8000))
    for rate in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="rate must be"):
            transforms.latent_dropout(rate)
    with pytest.raises(ValueError, match="sd must be"):
        transforms.latent_noise(-1.0)
