"""Tiny named layers shared by the families: what would be an invisible function call becomes a layer with a name."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp


class Relu(nn.Module):
    """max(x, 0), or leaky with `slope` on the negative side."""

    slope: float = 0.0

    def __call__(self, x: jax.Array) -> jax.Array:
        """Any shape; the shape stays."""
        return nn.leaky_relu(x, self.slope) if self.slope else nn.relu(x)


class Sigmoid(nn.Module):
    """Logits to probabilities."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Any shape; the shape stays."""
        return nn.sigmoid(x)


class Tanh(nn.Module):
    """Squashes to -1 ... 1."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Any shape; the shape stays."""
        return jnp.tanh(x)


class Mean(nn.Module):
    """Mean over some axes of a batch (axis 0 is the batch); all that remains is flattened into one unit axis."""

    axes: Sequence[int]

    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, ...) -> (batch, units)."""
        y = x.mean(axis=tuple(self.axes))
        return y.reshape(y.shape[0], -1)


class Pool(nn.Module):
    """Pooling over square windows of `size`, as far apart, without padding; `kind` is "max" or "average"."""

    size: int = 2
    kind: str = "max"

    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, height, width, channels) -> (batch, height // size, width // size, channels)."""
        batch, height, width, channels = x.shape
        rows, columns = height // self.size, width // self.size
        if not rows or not columns:
            raise ValueError(f"pooling by {self.size} leaves nothing of a {height} x {width} picture")
        x = x[:, : rows * self.size, : columns * self.size]
        x = x.reshape(batch, rows, self.size, columns, self.size, channels)
        return x.max(axis=(2, 4)) if self.kind == "max" else x.mean(axis=(2, 4))


def norm(name: str, train: bool) -> nn.BatchNorm:
    """Batch normalisation with PyTorch's constants: running mean and variance move by a tenth, epsilon 1e-5."""
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, name=name)
