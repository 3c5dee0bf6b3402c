"""Adversarial losses: small pure functions of scores, chosen by name, and the penalties that tame a critic.

| name                    | discriminator minimises              | generator minimises | source                 |
|-------------------------|--------------------------------------|---------------------|------------------------|
| "non_saturating"        | softplus(-D(x)) + softplus(D(G(z)))  | softplus(-D(G(z)))  | Goodfellow et al. 2014 |
| "least_squares"         | (D(x) - 1)^2 + D(G(z))^2             | (D(G(z)) - 1)^2     | Mao et al. 2017        |
| "sigmoid_least_squares" | the same of sigmoid(D)               | likewise            | Inoue 2021             |
| "hinge"                 | relu(1 - D(x)) + relu(1 + D(G(z)))   | -D(G(z))            | Lim & Ye 2017          |
| "wasserstein"           | D(G(z)) - D(x)                       | -D(G(z))            | Arjovsky et al. 2017   |

All are means over the examples. Scores are logits ("non_saturating" is binary cross-entropy on them) or, for a critic,
unbounded numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp

from nd_jax.runtime import nearest

Scores = Callable[[jax.Array], tuple[jax.Array, Any]]


@dataclasses.dataclass(frozen=True)
class AdversarialLoss:
    """One pair of losses.

    Attributes:
      discriminator: (scores of real examples, scores of generated ones), each (batch,) -> scalar.
      generator: scores of generated examples (batch,) -> scalar.
      probability: scores -> what the discriminator says of an example, for the log: a probability of being real, or the
        score itself for a critic.
    """

    discriminator: Callable[[jax.Array, jax.Array], jax.Array]
    generator: Callable[[jax.Array], jax.Array]
    probability: Callable[[jax.Array], jax.Array]


def _itself(scores: jax.Array) -> jax.Array:
    return scores


def _squares(scores: jax.Array, target: float) -> jax.Array:
    return jnp.mean(jnp.square(scores - target))


LOSSES: Mapping[str, AdversarialLoss] = MappingProxyType(
    {
        "non_saturating": AdversarialLoss(
            lambda real, fake: jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake)),
            lambda fake: jnp.mean(jax.nn.softplus(-fake)),
            jax.nn.sigmoid,
        ),
        "least_squares": AdversarialLoss(
            lambda real, fake: _squares(real, 1.0) + _squares(fake, 0.0),
            lambda fake: _squares(fake, 1.0),
            _itself,
        ),
        "sigmoid_least_squares": AdversarialLoss(
            lambda real, fake: _squares(jax.nn.sigmoid(real), 1.0) + _squares(jax.nn.sigmoid(fake), 0.0),
            lambda fake: _squares(jax.nn.sigmoid(fake), 1.0),
            jax.nn.sigmoid,
        ),
        "hinge": AdversarialLoss(
            lambda real, fake: jnp.mean(jax.nn.relu(1.0 - real)) + jnp.mean(jax.nn.relu(1.0 + fake)),
            lambda fake: -jnp.mean(fake),
            _itself,
        ),
        "wasserstein": AdversarialLoss(
            lambda real, fake: jnp.mean(fake) - jnp.mean(real),
            lambda fake: -jnp.mean(fake),
            _itself,
        ),
    }
)
PENALTIES = ("none", "gradient_penalty", "r1")


def adversarial_loss(name: str) -> AdversarialLoss:
    """The loss of that name.

    Raises:
      ValueError: there is none; names the nearest.
    """
    if name not in LOSSES:
        raise ValueError(f"there is no adversarial loss {name!r}; {nearest(str(name), LOSSES)}")
    return LOSSES[name]


def gradient_penalty(scores: Scores, real: jax.Array, fake: jax.Array, share: jax.Array) -> tuple[jax.Array, Any]:
    """The critic's slope between real and generated examples should be 1 (Gulrajani et al. 2017, eq. 3).

    Args:
      scores: examples -> (their scores (batch,), anything that comes back as it is).
      real: (batch, ...).
      fake: (batch, ...).
      share: (batch,) in 0 ... 1, how much of each mixture is real.

    Returns:
      The mean over examples of (the gradient's norm - 1)^2, and what `scores` gave beside the scores.
    """
    share = share.reshape(-1, *(1,) * (real.ndim - 1))
    squares, beside = _squared_slopes(scores, share * real + (1.0 - share) * fake)
    # The square root has no slope at 0, where PyTorch's norm has the gradient 0.
    positive = squares > 0
    norms = jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1.0)), 0.0)
    return jnp.mean(jnp.square(norms - 1.0)), beside


def r1(scores: Scores, real: jax.Array) -> tuple[jax.Array, Any]:
    """Half the mean squared norm of the discriminator's gradient at real examples (Mescheder et al. 2018, eq. 9).

    Args:
      scores: examples -> (their scores (batch,), anything that comes back as it is).
      real: (batch, ...).

    Returns:
      The penalty and what `scores` gave beside the scores.
    """
    squares, beside = _squared_slopes(scores, real)
    return 0.5 * jnp.mean(squares), beside


def consistency(scores: jax.Array, changed: jax.Array) -> jax.Array:
    """Twice the mean distance of the scores of real examples and of the same examples changed a little.

    Zhang et al. 2020 (consistency regularisation) with the absolute difference of Inoue 2021.

    Args:
      scores: (batch,) of the examples.
      changed: (batch,) of the changed ones.
    """
    return jnp.mean(2.0 * jnp.abs(changed - scores))


def _squared_slopes(scores: Scores, x: jax.Array) -> tuple[jax.Array, Any]:
    """(batch,) squared norms of the gradient of every score by its own example."""

    def total(x: jax.Array) -> tuple[jax.Array, Any]:
        each, beside = scores(x)
        return jnp.sum(each), beside

    gradient, beside = jax.grad(total, has_aux=True)(x)
    return jnp.sum(jnp.square(gradient), axis=tuple(range(1, x.ndim))), beside
