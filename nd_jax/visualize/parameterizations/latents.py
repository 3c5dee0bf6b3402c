"""A generator's latent: free numbers that stay where its law has them, and how usual their length is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.domain import Domain, Latent, Parts, from_dict
from nd_jax.visualize.parameterizations import core

LAWS = ("normal", "uniform")

# The inverse of the error function is infinite at 1: latents of the uniform law come back so far inside.
_INSIDE = 1.0 - 1e-4


@dataclasses.dataclass(frozen=True)
class Normal:
    """See `latent`."""

    name: ClassVar[str] = "latent"

    sd: float = 1.0
    # Results of before there was a projection were saved without the field.
    project: bool = False

    def init(self, key: jax.Array, domain: Domain) -> jax.Array:
        return self.sd * jax.random.normal(key, self._shape(domain))

    def apply(self, parameters: jax.Array, domain: Domain) -> jax.Array:
        return projected(parameters, domain) if self.project and isinstance(domain, Latent) else parameters

    def invert(self, x: Any, domain: Domain) -> jax.Array:
        self._shape(domain)
        values = core.one_example(self.name, x, domain)
        return free(values, domain) if self.project and isinstance(domain, Latent) else values

    def _shape(self, domain: Domain) -> tuple[int, ...]:
        shape = core.array_shape(self.name, domain)
        if core.is_bounded(domain):
            raise ValueError(
                f"parameterizations.latent is for an unbounded domain, not for {domain.kind!r} with values "
                f"{domain.low} ... {domain.high}; use parameterizations.pixels"
            )
        return shape


def latent(sd: float = 1.0, *, project: bool = True) -> Normal:
    """Free numbers that begin as normal noise of standard deviation `sd`: a generator's latent.

    Nearly all of a normal law in d dimensions lies at a distance of sqrt(d) from its middle, and a generator has seen
    nothing else: an optimizer that walks away from there leaves what the generator knows. So the latent is projected,
    z = sqrt(d) p / ||p||, p the free numbers (a latent of law "normal"); one of law "uniform" is kept inside -1 ... 1
    by z = erf(p / sqrt(2)), which makes a standard normal p exactly uniform. Other unbounded domains (`Units`) have no
    law and take the numbers as they are. Parameters: (size,).

    Args:
      sd: at the start.
      project: False frees the numbers, as the loss of class-based maximisation with a penalty on ||z|| has it;
        `norm_percentile` then tells how far they went.

    Raises:
      ValueError: an sd below 0.
    """
    return Normal(core.not_negative("sd", sd), bool(project))


def projected(parameters: jax.Array, domain: Latent) -> jax.Array:
    """Free numbers (..., size) to latents of the domain's law, see `latent`."""
    if domain.law == "uniform":
        return jax.lax.erf(parameters / math.sqrt(2.0))
    # Far below any length that occurs, so that numbers that are all zero have a gradient that is finite.
    square = jnp.sum(jnp.square(parameters), axis=-1, keepdims=True) + 1e-12
    return parameters * (math.sqrt(domain.size) * jax.lax.rsqrt(square))


def free(values: jax.Array, domain: Latent) -> jax.Array:
    """Free numbers whose `projected` is the latent nearest to the one given, up to its length; (..., size)."""
    if domain.law == "uniform":
        return math.sqrt(2.0) * jax.lax.erf_inv(jnp.clip(values, -_INSIDE, _INSIDE))
    return values


def norm_percentile(z: Any, law: str = "normal") -> np.ndarray:
    """How many percent of the latents of a law are shorter than these: near 0 or 100 a generator has seen none like it.

    Law "normal": ||z||^2 is chi-square with d degrees of freedom, exact. Law "uniform" in -1 ... 1: ||z||^2 has mean
    d / 3 and variance 4 d / 45 and is taken as normal, good to a percent from d = 16 on.

    Args:
      z: (..., d) latents.
      law: "normal" or "uniform".

    Returns:
      (...) in 0 ... 100.

    Raises:
      ValueError: an unknown law.
    """
    core.choice("law", law, LAWS)
    values = np.asarray(z, np.float32)
    size = values.shape[-1]
    square = np.sum(np.square(values), axis=-1)
    if law == "uniform":
        share = jax.scipy.special.ndtr((square - size / 3.0) / math.sqrt(4.0 * size / 45.0))
    else:
        share = jax.scipy.special.gammainc(np.full_like(square, size / 2.0), square / 2.0)
    return 100.0 * np.asarray(share)


def percentile_of(stored: Mapping[str, Any], parameters: Any, domain: Domain) -> np.ndarray | None:
    """`norm_percentile` of a run's parameters.

    Args:
      stored: the parameterization as a manifest has it.
      parameters: with leading axes.
      domain: of the run.

    Returns:
      The leading axes; None where nothing is a latent.
    """
    if stored.get("is") == "ByPart" and isinstance(domain, Parts):
        found = (percentile_of(part, parameters[name], domain[name]) for name, part in stored["items"])
        return next((each for each in found if each is not None), None)
    if stored.get("is") == "Prior":
        domain = from_dict(stored["generator"]["input"])
        domain, parameters = domain["z"] if isinstance(domain, Parts) else domain, parameters["z"]
    elif stored.get("is") != "Normal":
        return None
    if not isinstance(domain, Latent):
        return None
    z = projected(jnp.asarray(parameters), domain) if stored.get("project") else parameters
    return norm_percentile(z, domain.law)
