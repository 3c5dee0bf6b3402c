"""Perturbations of a generator's latent: what a hidden unit likes should not hang on one number of it.

They are for networks that take a latent, and for the latent of `parameterizations.prior`.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from nd_jax.domain import Domain, Latent
from nd_jax.visualize.transforms import core


@dataclasses.dataclass(frozen=True)
class LatentNoise:
    """See `latent_noise`."""

    of_latent: ClassVar[bool] = True

    sd: float

    def check(self, domain: Domain) -> None:
        _check("latent_noise", domain)

    def __call__(self, key: jax.Array, x: jax.Array, domain: Domain) -> jax.Array:
        return _inside(x + self.sd * jax.random.normal(key, x.shape), domain)


def latent_noise(sd: float = 0.1) -> LatentNoise:
    """Adds normal noise to a latent, new at every step; one of law "uniform" stays in -1 ... 1.

    Args:
      sd: standard deviation, where a latent of law "normal" has 1.

    Raises:
      ValueError: a negative sd, or (by `check`) a domain that is no latent.
    """
    return LatentNoise(core.not_negative("sd", sd))


@dataclasses.dataclass(frozen=True)
class LatentDropout:
    """See `latent_dropout`."""

    of_latent: ClassVar[bool] = True

    rate: float

    def check(self, domain: Domain) -> None:
        _check("latent_dropout", domain)

    def __call__(self, key: jax.Array, x: jax.Array, domain: Domain) -> jax.Array:
        kept = jax.random.bernoulli(key, 1.0 - self.rate, x.shape)
        return _inside(jnp.where(kept, x, 0.0) / (1.0 - self.rate) ** 0.5, domain)


def latent_dropout(rate: float = 0.1) -> LatentDropout:
    """Sets some numbers of a latent to zero, others at every step; the rest grows so that its length stays the same.

    z_i -> z_i / sqrt(1 - rate) with probability 1 - rate, else 0: the mean of ||z||^2 is kept, on which the law of
    normal latents lies. It asks for a latent space whose directions mean something each for itself.

    Args:
      rate: the share that is dropped, 0 to below 1.

    Raises:
      ValueError: another rate, or (by `check`) a domain that is no latent.
    """
    if not 0 <= core.not_negative("rate", rate) < 1:
        raise ValueError(f"rate must be a share of at least 0 and below 1, got {rate!r}")
    return LatentDropout(float(rate))


def _check(name: str, domain: Domain) -> None:
    if not isinstance(domain, Latent):
        raise ValueError(
            f"{name} is for a generator's latent, not for {domain.kind!r}; of a dict of parts: on_part('z', {name}()), "
            "of an input that a generator makes: parameterization=prior(generator)"
        )


def _inside(x: jax.Array, domain: Domain) -> jax.Array:
    return jnp.clip(x, -1.0, 1.0) if isinstance(domain, Latent) and domain.law == "uniform" else x
