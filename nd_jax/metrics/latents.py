"""Is a latent space orthogonal? What each of its directions does to the output, from the generator's Jacobian."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import generators, taps

if TYPE_CHECKING:
    from nd_jax.network import Network

_ROTATIONS = 8


@dataclasses.dataclass(frozen=True)
class Orthogonality:
    """How independent the effects of a latent's axes are, from Gram matrices J^T J of some latents.

    The cosine of axes i and j is G_ij / sqrt(G_ii G_jj): how alike the changes of the output are that they make.

    Attributes:
      coherence: mean over latents and pairs of abs(cosine), 0 for orthogonal axes.
      coherence_rotated: the same for the axes of random rotations of the latent. Where both agree, the axes are no
        better than any other directions: nothing speaks for treating them one by one.
      systematic: of the mean Gram matrix, whose entries cancel where pairs are alike at one latent and opposed at the
        next; systematic_rotated: in rotated axes.
      dimensions: (sum of eigenvalues)^2 / (sum of their squares), mean over latents: how many directions change the
        output, of `size`.
      directions_90: how many directions hold 90 % of the change that a small step makes, mean over latents.
      size: of the latent.
    """

    coherence: float
    coherence_rotated: float
    systematic: float
    systematic_rotated: float
    dimensions: float
    directions_90: float
    size: int


def jacobian_gram(generator: Network, given: Any, *, layer: str | None = None) -> np.ndarray:
    """J^T J of a generator, J the derivative of its output by its latent.

    Args:
      generator: takes a latent, or {"z", "label"}.
      given: (n, size) latents, or that with labels, as `generators.inputs` makes them.
      layer: a layer instead of the output.

    Returns:
      (n, size, size) float64.

    Raises:
      ValueError, LayerError: no generator, or no such layer.
    """
    generators.latent_of(generator)
    name = taps.OUTPUT if layer is None else layer
    taps.layer_shape(generator, name)
    with_label = isinstance(given, dict)

    def one(row: Any) -> jax.Array:
        def made(z: jax.Array) -> jax.Array:
            x = {"z": z[None], "label": row["label"][None]} if with_label else z[None]
            return taps.forward(generator, x, (name,))[1][name].reshape(-1).astype(jnp.float32)

        slope = jax.jacfwd(made)(row["z"] if with_label else row)
        return jnp.matmul(slope.T, slope, precision=jax.lax.Precision.HIGHEST)

    rows = jax.tree.map(jnp.asarray, given)
    return np.asarray(jax.jit(lambda rows: jax.lax.map(one, rows))(rows), np.float64)


def orthogonality(grams: Any, *, seed: int = 0) -> Orthogonality:
    """See `Orthogonality`.

    Args:
      grams: (n, size, size) as `jacobian_gram` makes them.
      seed: of the rotations that the axes are held against.

    Raises:
      ValueError: another shape, or fewer than two axes.
    """
    grams = np.asarray(grams, np.float64)
    if grams.ndim != 3 or grams.shape[1] != grams.shape[2] or grams.shape[1] < 2 or not len(grams):
        raise ValueError(f"Gram matrices have the shape (n, size, size) with a size of 2 or more, got {grams.shape}")
    size, draw = grams.shape[1], np.random.default_rng(seed)
    turns = [np.linalg.qr(draw.standard_normal((size, size)))[0] for _ in range(_ROTATIONS)]
    mean = grams.mean(axis=0, keepdims=True)
    values = np.maximum(np.linalg.eigvalsh(grams), 0.0)
    shares = np.cumsum(values[:, ::-1], axis=1) / values.sum(axis=1, keepdims=True)
    return Orthogonality(
        coherence=_coherence(grams),
        coherence_rotated=float(np.mean([_coherence(turn.T @ grams @ turn) for turn in turns])),
        systematic=_coherence(mean),
        systematic_rotated=float(np.mean([_coherence(turn.T @ mean @ turn) for turn in turns])),
        dimensions=float(np.mean(values.sum(axis=1) ** 2 / np.square(values).sum(axis=1))),
        directions_90=float(np.mean(1 + np.sum(shares < 0.9, axis=1))),
        size=size,
    )


def cosines(grams: Any) -> np.ndarray:
    """The cosines (n, size, size) of the axes of Gram matrices; an axis that does nothing has 0 with all."""
    grams = np.asarray(grams, np.float64)
    lengths = np.sqrt(np.maximum(np.diagonal(grams, axis1=1, axis2=2), 0.0))
    product = lengths[:, :, None] * lengths[:, None, :]
    return np.divide(grams, product, out=np.zeros_like(grams), where=product > 0)


def _coherence(grams: np.ndarray) -> float:
    size = grams.shape[1]
    off = ~np.eye(size, dtype=bool)
    return float(np.abs(cosines(grams))[:, off].mean())
