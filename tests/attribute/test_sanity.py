"""Maps that depend on what was learned, and maps that do not."""

from __future__ import annotations

import attribution_problem
import chex
import jax
import numpy as np
import pytest

import nd_jax as nd
from nd_jax.attribute.sanity import rank_correlation


def test_a_map_of_the_input_alone_survives_and_a_gradient_does_not():
    network = attribution_problem.tiny()
    x = np.random.default_rng(0).uniform(-1, 1, (3, 12, 10, 1)).astype(np.float32)
    key = jax.random.key(0)
    edges = nd.attribute.randomisation(network, x, lambda n, x: np.abs(np.diff(np.asarray(x), axis=1)), key=key)
    assert edges.layers == ("fc", "conv2", "conv1")
    chex.assert_trees_all_close(edges.similarity, np.ones((3, 3)))

    def gradient(network, x):
        return nd.attribute.saliency(network, x, 0, absolute=False)

    found = nd.attribute.randomisation(network, x, gradient, key=key)
    assert np.all(np.abs(found.similarity[-1]) < 0.4)
    alone = nd.attribute.randomisation(network, x, gradient, key=key, cascading=False)
    chex.assert_trees_all_close(alone.similarity[0], found.similarity[0])
    assert np.any(np.abs(alone.similarity[-1] - found.similarity[-1]) > 1e-3)


def test_rank_correlation_is_spearmans():
    scipy = pytest.importorskip("scipy.stats")
    draw = np.random.default_rng(1)
    a, b = draw.integers(0, 5, 40).astype(float), draw.normal(size=40)
    assert rank_correlation(a, b) == pytest.approx(scipy.spearmanr(a, b).statistic)
    assert rank_correlation(a, np.ones(40)) == 0.0


def test_what_does_not_fit_is_refused():
    network = attribution_problem.tiny()
    with pytest.raises(ValueError, match="one map for each of 1 clips"):
        nd.attribute.randomisation(
            network, np.zeros((1, 12, 10, 1)), lambda n, x: np.zeros((2, 5)), key=jax.random.key(0)
        )
