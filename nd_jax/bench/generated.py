"""A generator of sounds like given ones, for a bench that trains nothing: their principal components.

x = sigmoid(mean + R z), z standard normal: probabilistic PCA (Tipping and Bishop 1999, without its noise) of the
log-odds of natural inputs. What it makes has their mean, their covariance as far as its directions go, and nothing
else; how much of a planted sound it can make is what a generator prior is worth at best.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.domain import Domain, Latent
from nd_jax.network import Network

_CLIP = 0.02


class Components(nn.Module):
    """See the module's text. Parameters: `mean` (*shape,), `root` (latent, *shape).

    Attributes:
      shape: of what is made.
      latent: how many components.
    """

    shape: tuple[int, ...]
    latent: int

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """(batch, latent) -> (batch, *shape) in 0 ... 1."""
        mean = self.param("mean", nn.initializers.zeros_init(), self.shape, jnp.float32)
        root = self.param("root", nn.initializers.zeros_init(), (self.latent, *self.shape), jnp.float32)
        return jax.nn.sigmoid(mean[None] + jnp.tensordot(z, root, axes=1))


def components(inputs: Any, domain: Domain, latent: int) -> Network:
    """A generator from natural inputs.

    Args:
      inputs: (n, *domain.shape).
      domain: of values in 0 ... 1.
      latent: how many directions, the largest first; at most n - 1.

    Raises:
      ValueError: too many directions, or another range.
    """
    if (domain.low, domain.high) != (0.0, 1.0):
        raise ValueError(f"components are made for values in 0 ... 1, not in {domain.low} ... {domain.high}")
    values = np.clip(np.asarray(inputs, np.float64), _CLIP, 1 - _CLIP)
    if not 1 <= latent < len(values):
        raise ValueError(f"{len(values)} inputs have 1 to {len(values) - 1} directions, not {latent}")
    odds = np.log(values / (1 - values)).reshape(len(values), -1)
    mean = odds.mean(axis=0)
    _, sizes, rows = np.linalg.svd(odds - mean, full_matrices=False)
    root = rows[:latent] * (sizes[:latent, None] / np.sqrt(len(values) - 1))
    shape = tuple(int(size) for size in domain.shape)
    variables = {
        "params": {
            "mean": mean.reshape(shape).astype(np.float32),
            "root": root.reshape(latent, *shape).astype(np.float32),
        }
    }
    return Network(
        Components(shape, latent),
        variables,
        input=Latent(latent),
        output=domain,
        card={"name": f"{latent} components of natural sound"},
    )
