"""The same network with random weights: what optimisation reaches where nothing was learned."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.network import Network


def random_twin(network: Network, key: jax.Array) -> Network:
    """The network as it is before training: the module's own initialisation (Adebayo et al. 2018, "Sanity checks").

    What has two axes or more and is started at a constant by the module gets the trained numbers in random order
    instead: a constant kernel would be silent.

    Args:
      network: the trained network.
      key: of the weights.
    """
    first, second = jax.random.split(key)
    example = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), network.input.abstract(1))
    init = functools.partial(network.module.init, **dict(network.apply_kwargs))
    fresh = jax.device_get(jax.jit(init)(first, example))
    flat, structure = jax.tree_util.tree_flatten_with_path(network.variables)
    drawn = dict(jax.tree_util.tree_flatten_with_path(fresh)[0])
    leaves = [
        _leaf(np.asarray(leaf), drawn.get(path), jax.random.fold_in(second, place))
        for place, (path, leaf) in enumerate(flat)
    ]
    return dataclasses.replace(network, variables=jax.tree.unflatten(structure, leaves), edits=())


def _leaf(trained: np.ndarray, fresh: Any, key: jax.Array) -> np.ndarray:
    started = None if fresh is None else np.asarray(fresh)
    constant = started is None or np.ptp(started) == 0
    if constant and trained.ndim >= 2:
        return np.asarray(jax.random.permutation(key, trained.reshape(-1))).reshape(trained.shape)
    return trained if started is None else started.astype(trained.dtype)
