"""Cross-entropy against Optax, over several heads, with missing labels."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from nd_jax.training import losses


def test_cross_entropy_equals_optax(getkey):
    logits = jax.random.normal(getkey(), (7, 5))
    labels = jax.random.randint(getkey(), (7,), 0, 5)
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    chex.assert_trees_all_close(losses.cross_entropy(logits, labels), expected, rtol=1e-6)
    smooth = optax.softmax_cross_entropy(logits, optax.smooth_labels(jax.nn.one_hot(labels, 5), 0.1))
    chex.assert_trees_all_close(losses.cross_entropy(logits, labels, smoothing=0.1), smooth, rtol=1e-6)


def test_heads_are_weighted_and_examples_without_a_label_do_not_count(getkey):
    logits = {"pitch": jax.random.normal(getkey(), (4, 6)), "family": jax.random.normal(getkey(), (4, 3))}
    labels = {"pitch": jnp.asarray([0, 5, 2, 1]), "family": jnp.asarray([0, 2, 1, 0])}
    weights = {"family": jnp.asarray([1.0, 0.0, 0.0, 1.0])}
    heads = jax.jit(
        lambda weights: losses.heads_cross_entropy(
            logits, labels, head_weights={"pitch": 1.0, "family": 0.5}, example_weights=weights
        )
    )
    total, each = heads(weights)
    pitch = np.mean(losses.cross_entropy(logits["pitch"], labels["pitch"]))
    family = np.mean(losses.cross_entropy(logits["family"], labels["family"])[np.asarray([0, 3])])
    chex.assert_trees_all_close(each, {"pitch": pitch, "family": family}, rtol=1e-6)
    chex.assert_trees_all_close(total, pitch + 0.5 * family, rtol=1e-6)
    assert float(heads({"family": jnp.zeros(4)})[1]["family"]) == 0.0


def test_shares_of_classes_are_labels_too(getkey):
    logits, other = jax.random.normal(getkey(), (6, 4)), jax.random.normal(getkey(), (6, 4))
    labels = jax.random.randint(getkey(), (6,), 0, 4)
    chex.assert_trees_all_close(
        losses.cross_entropy(logits, jax.nn.one_hot(labels, 4), smoothing=0.1),
        losses.cross_entropy(logits, labels, smoothing=0.1),
        rtol=1e-6,
    )
    shares = jax.nn.softmax(other)
    chex.assert_trees_all_close(
        losses.cross_entropy(logits, shares), optax.softmax_cross_entropy(logits, shares), rtol=1e-5
    )
    assert np.isclose(losses.accuracy(logits, shares), losses.accuracy(logits, jnp.argmax(shares, axis=-1)))


def test_accuracy():
    logits = jnp.asarray([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0]])
    labels = jnp.asarray([0, 1, 1])
    assert np.isclose(losses.accuracy(logits, labels), 2 / 3)
    assert np.isclose(losses.accuracy(logits, labels, jnp.asarray([1.0, 0.0, 1.0])), 0.5)
