"""Latents: on the shell of their law by default, the percentile of their length, and results of before."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nd_jax import domain as domains
from nd_jax.visualize import manifest, parameterizations

NORMAL, UNIFORM = domains.Latent(24), domains.Latent(24, law="uniform")


def test_a_normal_latent_stays_at_the_root_of_its_size():
    made = parameterizations.latent()
    parameters = 5.0 * jax.random.normal(jax.random.key(0), (3, 24))
    z = jax.vmap(lambda p: made.apply(p, NORMAL))(parameters)
    chex.assert_trees_all_close(jnp.linalg.norm(z, axis=1), jnp.full(3, np.sqrt(24.0)), rtol=1e-5)
    cosine = jnp.sum(z * parameters, axis=1) / jnp.linalg.norm(parameters, axis=1) / np.sqrt(24.0)
    chex.assert_trees_all_close(cosine, jnp.ones(3), rtol=1e-5)
    gradient = jax.grad(lambda p: jnp.sum(made.apply(p, NORMAL)))(jnp.zeros(24))
    chex.assert_tree_all_finite(gradient)


def test_a_uniform_latent_is_bounded_and_begins_uniform():
    made = parameterizations.latent()
    keys = jax.random.split(jax.random.key(0), 500)
    z = np.asarray(jax.vmap(lambda key: made.apply(made.init(key, UNIFORM), UNIFORM))(keys)).ravel()
    assert np.abs(z).max() <= 1
    share, _ = np.histogram(z, 8, (-1, 1))
    assert np.abs(share / len(z) - 1 / 8).max() < 0.01
    x = jnp.linspace(-0.99, 0.99, 24)
    chex.assert_trees_all_close(made.apply(made.invert(x, UNIFORM), UNIFORM), x, atol=1e-4)


def test_other_numbers_and_freed_latents_stay_as_they_are():
    values = jnp.arange(24.0)
    chex.assert_trees_all_equal(parameterizations.latent().apply(values, domains.Units(24)), values)
    for domain in (NORMAL, UNIFORM):
        chex.assert_trees_all_equal(parameterizations.latent(project=False).apply(values, domain), values)


def test_saved_results_of_before_are_not_projected():
    old = manifest._rebuild("parameterization", {"is": "Normal", "sd": 1.0})
    assert old == parameterizations.latent(project=False)
    new = manifest._rebuild("parameterization", manifest.plain(parameterizations.latent(2.0)))
    assert new == parameterizations.latent(2.0)


@pytest.mark.parametrize("domain", [NORMAL, UNIFORM], ids=lambda domain: domain.law)
def test_percentiles_are_those_of_drawn_latents(domain):
    drawn = np.asarray(domain.draw(jax.random.split(jax.random.key(3), 2000)))
    found = parameterizations.norm_percentile(drawn, domain.law)
    chex.assert_shape(found, (2000,))
    # Percentiles of a law, of its own draws, are spread evenly.
    for share in (10, 50, 90):
        assert abs(np.mean(found < share) - share / 100) < 0.03
    assert parameterizations.norm_percentile(np.zeros(24), domain.law) < 1e-3
    assert parameterizations.norm_percentile(np.full(24, 3.0), domain.law) > 99.9
    with pytest.raises(ValueError, match="unknown law 'normall'"):
        parameterizations.norm_percentile(drawn, "normall")
