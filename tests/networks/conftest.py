"""Variables of untrained networks without compiling their initialisation, which takes longer than all else."""

from __future__ import annotations

import pathlib
import sys

import jax
import numpy as np
import pytest

# For the seeded weights of the reference vectors, beside the tests.
sys.path.insert(0, str(pathlib.Path(__file__).parent))


def invented_variables(module, given, seed=0):
    """Random parameters of a module that takes `given`; scales near 1, running statistics as they begin."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), given)
    draw = np.random.default_rng(seed)

    def one(path, leaf):
        last = path[-1].key
        if path[0].key == "batch_stats":
            return np.full(leaf.shape, float(last == "var"), np.float32)
        return (0.3 * draw.standard_normal(leaf.shape) + float(last == "scale")).astype(np.float32)

    return jax.tree_util.tree_map_with_path(one, dict(shapes))


@pytest.fixture(scope="session")
def invented():
    """The function `invented_variables(module, given, seed=0)`."""
    return invented_variables
