"""The bench's generator makes what natural sounds span, and nothing else."""

from __future__ import annotations

import chex
import jax
import numpy as np
import pytest

from nd_jax.bench import generated, planted
from nd_jax.visualize import parameterizations

DOMAIN = planted.QUICK.domain()


def natural(count=12):
    """Inputs whose log-odds lie in a plane, and a little noise."""
    draw = np.random.default_rng(0)
    root = 0.3 * draw.standard_normal((2, *DOMAIN.shape))
    odds = -1 + np.tensordot(draw.standard_normal((count, 2)), root, axes=1)
    return (1 / (1 + np.exp(-odds))).astype(np.float32)


def test_two_components_make_what_two_directions_span():
    inputs = natural()
    generator = generated.components(inputs, DOMAIN, 2)
    made = np.asarray(generator(np.asarray(jax.random.normal(jax.random.key(0), (400, 2)))))
    odds, given = np.log(made / (1 - made)), np.log(inputs / (1 - inputs))
    chex.assert_trees_all_close(odds.mean(axis=0), given.mean(axis=0), atol=0.2)
    flat = (given - given.mean(axis=0)).reshape(len(given), -1)
    _, _, rows = np.linalg.svd(flat, full_matrices=False)
    rest = (odds - given.mean(axis=0)).reshape(len(odds), -1)
    rest = rest - rest @ rows[:2].T @ rows[:2]
    assert np.abs(rest).max() < 1e-3, "what is made stays in the plane"
    assert 0.7 < odds.std() / given.std() < 1.4
    prior = parameterizations.prior(generator)
    found = prior.apply(prior.init(jax.random.key(1), DOMAIN), DOMAIN)
    chex.assert_shape(found, DOMAIN.shape)


def test_refusals():
    with pytest.raises(ValueError, match="12 inputs have 1 to 11 directions, not 12"):
        generated.components(natural(), DOMAIN, 12)
