"""Gram matrices of a generator's Jacobian, and what they say about generators whose answer is known."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nd_jax import domain, metrics
from nd_jax.network import Network

SIZE = 6
KERNEL = np.random.default_rng(0).standard_normal((SIZE, 20)).astype(np.float32)


class Linear(nn.Module):
    """A generator that is a matrix."""

    @nn.compact
    def __call__(self, z):
        z = z["z"] * (1.0 + z["label"][:, None]) if isinstance(z, dict) else z
        return nn.Dense(20, use_bias=False, name="hidden")(z).reshape(-1, 4, 5, 1)


def linear(kernel, classes=()):
    z = domain.Latent(SIZE)
    taken = domain.Parts({"z": z, "label": domain.Label(classes)}) if classes else z
    variables = {"params": {"hidden": {"kernel": kernel}}}
    return Network(Linear(), variables, input=taken, output=domain.Image((4, 5, 1), -9.0, 9.0))


def latents(count):
    return np.asarray(jax.random.normal(jax.random.key(1), (count, SIZE)))


def test_a_linear_generator_has_the_gram_matrix_of_its_kernel():
    grams = metrics.jacobian_gram(linear(KERNEL), latents(3))
    chex.assert_trees_all_close(grams, np.broadcast_to(KERNEL @ KERNEL.T, (3, SIZE, SIZE)).astype(float), rtol=1e-5)
    chex.assert_trees_all_close(metrics.jacobian_gram(linear(KERNEL), latents(3), layer="hidden"), grams)
    given = {"z": latents(2), "label": np.asarray([0, 2], np.int32)}
    asked = metrics.jacobian_gram(linear(KERNEL, ("a", "b", "c")), given)
    chex.assert_trees_all_close(asked[1], 9 * asked[0], rtol=1e-5)
    with pytest.raises(ValueError, match="not a generator"):
        other = linear(KERNEL)
        metrics.jacobian_gram(Network(other.module, other.variables, input=domain.Units(SIZE)), latents(1))


def test_orthogonal_axes_and_one_direction():
    own = np.diag(np.arange(1.0, SIZE + 1))[None]
    told = metrics.orthogonality(own)
    assert told.coherence == 0 and told.coherence_rotated > 0.1 and told.size == SIZE
    assert told.dimensions == pytest.approx(21**2 / 91)
    row = np.ones((1, SIZE, 1))
    told = metrics.orthogonality(row @ row.transpose(0, 2, 1))
    assert told.coherence == pytest.approx(1) and told.coherence_rotated == pytest.approx(1)
    assert (told.dimensions, told.directions_90) == (pytest.approx(1), 1)


def test_what_cancels_over_latents_is_not_systematic():
    one = np.asarray([[1.0, 0.8], [0.8, 1.0]])
    told = metrics.orthogonality(np.stack([one, one * [[1, -1], [-1, 1]]]))
    assert (told.coherence, told.systematic) == (pytest.approx(0.8), pytest.approx(0.0))
    dead = metrics.cosines(np.asarray([[[1.0, 0.0], [0.0, 0.0]]]))
    chex.assert_trees_all_equal(dead, np.asarray([[[1.0, 0.0], [0.0, 0.0]]]))
    with pytest.raises(ValueError, match="Gram matrices have the shape"):
        metrics.orthogonality(jnp.ones((3, 3)))
