"""Pooling as PyTorch does it, where `layers.Pool` is not enough: overlapping windows, ceil mode, adaptive sizes."""

from __future__ import annotations

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


class MaxPool(nn.Module):
    """`torch.nn.MaxPool2d`.

    Attributes:
      size: height and width of the window.
      stride: how far windows are apart.
      padding: rows and columns around the picture that count as minus infinity, at most half of `size`.
      ceil: whether a last window may hang over the edge, as long as it begins inside the picture or its left padding.
    """

    size: int
    stride: int
    padding: int = 0
    ceil: bool = False

    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, height, width, channels) -> (batch, height', width', channels)."""
        if x.ndim != 4:
            raise ValueError(f"MaxPool takes (batch, height, width, channels), got shape {x.shape}")
        for axis in (1, 2):
            x = _pooled(x, axis, self.size, self.stride, self.padding, self.ceil)
        return x


def windows(length: int, size: int, stride: int, padding: int, ceil: bool) -> int:
    """How many windows PyTorch's pooling has along an axis.

    Raises:
      ValueError: none, or a padding of more than half of the window.
    """
    if not 0 <= padding <= size // 2:
        raise ValueError(f"the padding of a pooling is at most half of its size {size}, got {padding}")
    over = length + 2 * padding - size
    count = (-(-over // stride) if ceil else over // stride) + 1
    if ceil and (count - 1) * stride >= length + padding:
        count -= 1
    if count < 1:
        raise ValueError(f"pooling by {size} leaves nothing of a picture of {length} rows or columns")
    return count


def _pooled(x: jax.Array, axis: int, size: int, stride: int, padding: int, ceil: bool) -> jax.Array:
    """The largest of `size` neighbours along one axis, as a chain of choices between moved pictures.

    XLA's own pooling has a gradient that a CPU does window by window; here it is a chain of selections. Of equal values
    the first is chosen, as in PyTorch.
    """
    length = x.shape[axis]
    count = windows(length, size, stride, padding, ceil)
    span = (count - 1) * stride + 1
    edges = [(0, 0, 0)] * x.ndim
    edges[axis] = (padding, max(0, span + size - 1 - padding - length), 0)
    padded = jax.lax.pad(x, jnp.asarray(-jnp.inf, x.dtype), edges)
    parts = [jax.lax.slice_in_dim(padded, at, at + span, stride, axis) for at in range(size)]
    return functools.reduce(lambda best, part: jnp.where(part > best, part, best), parts)


class AdaptiveAveragePool(nn.Module):
    """`torch.nn.AdaptiveAvgPool2d`: cell i of n averages the rows floor(i h / n) ... ceil((i + 1) h / n) - 1.

    A picture smaller than `size` is spread out by the same rule.

    Attributes:
      size: height and width of the result.
    """

    size: tuple[int, int]

    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, height, width, channels) -> (batch, *size, channels)."""
        average: Callable[..., jax.Array] = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
        if x.shape[1] != self.size[0]:
            x = average("bhwc,hn->bnwc", x, cells(x.shape[1], self.size[0]))
        if x.shape[2] != self.size[1]:
            x = average("bhwc,wn->bhnc", x, cells(x.shape[2], self.size[1]))
        return x


def cells(length: int, count: int) -> np.ndarray:
    """The averages of an adaptive pooling along an axis as a matrix, float32 (length, count); columns sum to 1."""
    matrix = np.zeros((length, count), np.float32)
    for cell in range(count):
        first, last = cell * length // count, -(-(cell + 1) * length // count)
        matrix[first:last, cell] = 1.0 / (last - first)
    return matrix
