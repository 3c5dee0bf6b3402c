"""Classifier losses: cross-entropy over one or several heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp


def cross_entropy(logits: jax.Array, labels: jax.Array, *, smoothing: float = 0.0) -> jax.Array:
    """Softmax cross-entropy of every example, in nats.

    Args:
      logits: (batch, classes).
      labels: (batch,) integers, or (batch, classes) shares of the classes, each row with the sum 1 (mixed examples).
      smoothing: this much of the target's weight is spread evenly over all classes (Szegedy et al. 2016, section 7).

    Returns:
      (batch,).
    """
    classes = logits.shape[-1]
    shares = labels if labels.ndim == logits.ndim else jax.nn.one_hot(labels, classes)
    target = shares * (1.0 - smoothing) + smoothing / classes
    return -jnp.sum(target * jax.nn.log_softmax(logits), axis=-1)


def heads_cross_entropy(
    logits: Mapping[str, jax.Array],
    labels: Mapping[str, jax.Array],
    *,
    head_weights: Mapping[str, float],
    example_weights: Mapping[str, jax.Array] | None = None,
    smoothing: float = 0.0,
    mean: Callable[[jax.Array], jax.Array] = lambda value: value,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The weighted sum over heads of the mean cross-entropy over examples.

    Args:
      logits: {head: (batch, classes)}.
      labels: {head: (batch,) integers, or (batch, classes) shares}.
      head_weights: {head: weight of its mean in the sum}.
      example_weights: {head: (batch,)}, 0 for an example without this label; a head left out counts all alike.
      smoothing: label smoothing, all heads.
      mean: the mean over devices (`parallel.mean`). It is applied to the sums of example weights only, which depend on
        no parameter; so the mean over devices of the gradients is the gradient of the whole batch's loss even
        when the devices hold different numbers of labelled examples.

    Returns:
      The loss (scalar) and {head: its mean cross-entropy} before head weights.
    """
    each = {}
    for head in sorted(head_weights):
        losses = cross_entropy(logits[head], labels[head], smoothing=smoothing)
        weights = (example_weights or {}).get(head, jnp.ones_like(losses))
        each[head] = jnp.sum(losses * weights) / jnp.maximum(mean(jnp.sum(weights)), 1e-6)
    total = sum((head_weights[head] * each[head] for head in each), jnp.zeros(()))
    return total, each


def accuracy(logits: jax.Array, labels: jax.Array, weights: jax.Array | None = None) -> jax.Array:
    """The share of examples whose largest logit is the label's (of shares: the largest one's).

    Weighted by (batch,) weights when given.
    """
    if labels.ndim == logits.ndim:
        labels = jnp.argmax(labels, axis=-1)
    right = (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32)
    if weights is None:
        return jnp.mean(right)
    return jnp.sum(right * weights) / jnp.maximum(jnp.sum(weights), 1e-6)
