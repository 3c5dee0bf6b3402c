"""The structure of a registered class: its fields, its class, its names."""

import dataclasses
import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import pytree

PACKAGE = pathlib.Path(nd.__file__).resolve().parent


@dataclasses.dataclass(frozen=True)
class Doubles:
    x: jax.Array
    name: str = "n"


class Triples(Doubles):
    pass


for kind in (Doubles, Triples):
    pytree.register(kind, ["x"], ["name"])


def test_leaves_and_names():
    value = Doubles(jnp.arange(3.0))
    chex.assert_trees_all_equal(jax.tree.map(lambda leaf: leaf + 1, value), Doubles(jnp.arange(3.0) + 1))
    [(path, leaf)] = jax.tree_util.tree_leaves_with_path(value)
    assert jax.tree_util.keystr(path) == ".x"
    chex.assert_trees_all_equal(leaf, value.x)
    assert jax.tree.structure(value) == jax.tree.structure(Doubles(jnp.zeros(5)))
    assert jax.tree.structure(value) != jax.tree.structure(Doubles(jnp.zeros(3), "m"))


def test_the_class_counts():
    """With jax.tree_util.register_dataclass these are equal, and jit may take one's program for the other."""
    assert jax.tree.structure(Doubles(1.0)) != jax.tree.structure(Triples(1.0))
    edits = [nd.taps.Scale("norm", np.array([0]), 0.7), nd.taps.Insert("norm", np.array([0]), 0.7)]
    assert jax.tree.structure(edits[0]) != jax.tree.structure(edits[1])


def test_nothing_in_the_package_forgets_its_class():
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text(encoding="utf-8").split('"""', 2)[-1]
        for way in ("register_dataclass", "flax.struct", "chex.dataclass"):
            assert way not in source or path.name == "pytree.py", f"{path.name} uses {way}; use nd_jax.pytree.register"


def test_fields_must_be_those_of_the_class():
    with pytest.raises(ValueError, match=r"Doubles has the fields \['name', 'x'\], got \['x', 'y'\]"):
        pytree.register(Doubles, ["x"], ["y"])
