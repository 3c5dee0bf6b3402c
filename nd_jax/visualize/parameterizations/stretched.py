"""Free pixels stretched over the whole range: how Neural Dissection keeps its ImageNet pictures in 0 ... 1."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.domain import Domain
from nd_jax.visualize.parameterizations import core

# Widths of the Gaussian kernels that the source blurs its first noise with, one after the other; sigma is half of each.
KERNELS = tuple(range(3, 41, 2))


@dataclasses.dataclass(frozen=True)
class Stretched:
    """See `stretched`."""

    name: ClassVar[str] = "stretched"

    sd: float = 0.01
    blurred: bool = True

    def init(self, key: jax.Array, domain: Domain) -> jax.Array:
        shape = self._shape(domain)
        values = 0.5 + self.sd * jax.random.normal(key, shape)
        if not self.blurred:
            return values
        return jnp.einsum("ih,jw,hwc->ijc", blur(shape[0]), blur(shape[1]), values, precision="highest")

    def apply(self, parameters: jax.Array, domain: Domain) -> jax.Array:
        self._shape(domain)
        low, high = jax.lax.stop_gradient((jnp.min(parameters), jnp.max(parameters)))
        # Pixels that are all equal are the middle of the range.
        share = jnp.where(high > low, (parameters - low) / jnp.where(high > low, high - low, 1.0), 0.5)
        return domain.low + (domain.high - domain.low) * share

    def invert(self, x: Any, domain: Domain) -> jax.Array:
        self._shape(domain)
        return (core.one_example(self.name, x, domain) - domain.low) / (domain.high - domain.low)

    def _shape(self, domain: Domain) -> tuple[int, ...]:
        shape = core.array_shape(self.name, domain)
        if domain.kind != "image":
            raise ValueError(f"parameterizations.stretched is for images, not for a domain {domain.kind!r}")
        return shape


def stretched(sd: float = 0.01, *, blurred: bool = True) -> Stretched:
    """Free pixels; the smallest becomes the domain's low, the largest its high, whatever they are.

    As the GoogLeNet script of "Neural Dissection" (pyroxenite/audio-neural-dissection) has it: the first pixels are
    normal around 0.5, blurred by Gaussian kernels of 3, 5, ..., 39 pixels. The two ends carry no gradient. `invert`
    gives back x itself where x covers the whole range, else a picture of more contrast. Parameters: domain.shape.

    Args:
      sd: standard deviation of the first pixels.
      blurred: whether they are blurred.
    """
    return Stretched(core.not_negative("sd", sd), bool(blurred))


@functools.cache
def blur(side: int) -> np.ndarray:
    """All of `KERNELS` that fit, one after the other with mirrored edges, as a float32 matrix (side, side)."""
    total = np.eye(side)
    for width in KERNELS:
        reach = width // 2
        if reach >= side:
            break
        kernel = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / (width / 2)))
        one = np.zeros((side, side))
        for offset, weight in zip(range(-reach, reach + 1), kernel / kernel.sum(), strict=True):
            place = np.abs(np.arange(side) + offset)
            np.add.at(one, (np.arange(side), np.where(place < side, place, 2 * (side - 1) - place)), weight)
        total = one @ total
    return total.astype(np.float32)
