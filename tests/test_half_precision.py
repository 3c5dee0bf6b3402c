"""Networks stored in half precision: half the size, float32 again when loaded, statistics untouched."""

from __future__ import annotations

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import domain
from nd_jax.network import Network
from nd_jax.networks.dcgan import Discriminator
from nd_jax.storage import NetworkFileError


@pytest.fixture(scope="module")
def network():
    """A discriminator whose statistics are no round numbers."""
    module = Discriminator(hidden=24, sigmoid=False)
    variables = dict(jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 28, 28, 1))))
    variables["batch_stats"] = jax.tree.map(lambda leaf: leaf + 0.1, variables["batch_stats"])
    return Network(module, variables, input=domain.Image((28, 28, 1), -1.0, 1.0), apply_kwargs={"train": False})


@pytest.fixture(scope="module")
def plain(network, tmp_path_factory):
    """The same on disk as it is."""
    return network.save(tmp_path_factory.mktemp("plain") / "network")


def _size(folder):
    return sum(path.stat().st_size for path in (folder / "arrays").rglob("*") if path.is_file())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_the_size_and_nearly_the_same_output(network, plain, tmp_path, getkey, dtype):
    folder = network.save(tmp_path / "network", dtype=dtype)
    assert json.loads((folder / "network.json").read_text())["stored"] == dtype
    assert _size(folder) < 0.6 * _size(plain)
    loaded = nd.load(folder)
    chex.assert_trees_all_equal_shapes_and_dtypes(loaded.variables, network.variables)
    chex.assert_trees_all_equal(loaded.variables["batch_stats"], network.variables["batch_stats"])
    rounded = jax.tree.map(lambda leaf: np.asarray(leaf).astype(jnp.dtype(dtype)), network.variables["params"])
    chex.assert_trees_all_equal(loaded.variables["params"], jax.tree.map(lambda leaf: leaf.astype(np.float32), rounded))
    x = jax.random.uniform(getkey(), (8, 28, 28, 1), minval=-1.0)
    before, after = network(x), loaded(x)
    change = float(jnp.linalg.norm(after - before) / jnp.linalg.norm(before))
    assert 0 < change < 1e-2
    # Saved once more it is what it is: nothing is lost a second time.
    chex.assert_trees_all_equal(nd.load(loaded.save(tmp_path / "again", dtype=dtype)).variables, loaded.variables)


def test_without_asking_nothing_is_rounded(network, plain):
    assert "stored" not in json.loads((plain / "network.json").read_text())
    chex.assert_trees_all_equal(nd.load(plain).variables, network.variables)


def test_what_cannot_be_stored_gives_one_sentence(network, tmp_path):
    with pytest.raises(NetworkFileError, match="stored as 'float16' or 'bfloat16', or with None as they are: 'int8'"):
        network.save(tmp_path / "network", dtype="int8")
    variables = jax.tree.map(lambda leaf: leaf, network.variables)
    variables["params"]["dense"]["kernel"] = variables["params"]["dense"]["kernel"].at[0, 0].set(1e6)
    large = Network(network.module, variables, input=network.input, apply_kwargs={"train": False})
    with pytest.raises(NetworkFileError, match="a parameter of 1e\\+06 does not fit float16"):
        large.save(tmp_path / "network", dtype="float16")
    assert not (tmp_path / "network").exists()
    large.save(tmp_path / "network", dtype="bfloat16")


def test_a_folder_that_names_another_type_is_refused(network, tmp_path):
    folder = network.save(tmp_path / "network", dtype="float16")
    description = json.loads((folder / "network.json").read_text())
    (folder / "network.json").write_text(json.dumps(description | {"stored": "int4"}))
    with pytest.raises(NetworkFileError, match="weights are stored as 'int4'"):
        nd.load(folder)
