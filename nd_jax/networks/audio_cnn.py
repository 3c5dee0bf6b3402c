"""A small convolutional classifier of log-mel spectrograms: the network of the demo and of the shipped checkpoints.

Strided convolutions (no pooling) keep one pass cheap: 14 million multiply-adds for 128 bands and 64 frames, so that
hundreds of units can be optimised at once on a laptop.

Layers: block1/conv, block1/norm, block1/relu, block2/..., pool, one head per name in `heads`.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from nd_jax.networks.conv import Conv
from nd_jax.networks.layers import Mean, Relu, norm

_POOLINGS = ("frequency", "global", "events")


class Block(nn.Module):
    """Strided convolution, batch normalisation, ReLU."""

    features: int
    kernel: tuple[int, int]
    stride: tuple[int, int]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """(batch, height, width, in) -> (batch, ceil(height / stride), ceil(width / stride), features)."""
        x = Conv(self.features, self.kernel, self.stride, padding="SAME", use_bias=False, name="conv")(x)
        x = norm("norm", train)(x)
        return Relu(name="relu")(x)


class Peak(nn.Module):
    """Maximum over some axes of a batch (axis 0 is the batch); all that remains is flattened into one unit axis."""

    axes: tuple[int, ...]

    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, ...) -> (batch, units)."""
        y = x.max(axis=self.axes)
        return y.reshape(y.shape[0], -1)


class AudioCNN(nn.Module):
    """Family "audio_cnn".

    Attributes:
      heads: (name, number of classes) of every head; the name is the layer's name too.
      features: channels of every block.
      kernels: (mel bands, frames) of every block's kernel.
      strides: (mel bands, frames) of every block's stride.
      pooling: "frequency" averages over time and keeps bands x channels apart (what a pitch head needs: absolute
        frequency; the last block's maps as a vector, band-major), "global" averages over both; "events" is "frequency"
        (layer pool) followed by the maximum over time (layer peak), so that a short sound is not lost in a silence.
      dropout: rate in front of the heads, in training.
    """

    heads: tuple[tuple[str, int], ...]
    features: tuple[int, ...] = (24, 48, 96, 128)
    kernels: tuple[tuple[int, int], ...] = ((3, 3), (3, 3), (3, 3), (3, 3))
    strides: tuple[tuple[int, int], ...] = ((2, 2), (2, 2), (2, 2), (2, 2))
    pooling: str = "frequency"
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array | dict[str, jax.Array]:
        """Logits of a batch of log-mels.

        Args:
          x: (batch, mel bands, frames, 1), values 0 ... 1.
          train: batch statistics (collection `batch_stats` must be mutable) and dropout (needs an rng "dropout").

        Returns:
          (batch, classes) for one head, {name: (batch, classes)} for several.
        """
        if not len(self.features) == len(self.kernels) == len(self.strides):
            raise ValueError(
                f"audio_cnn needs as many kernels and strides as features, got {len(self.kernels)} and "
                f"{len(self.strides)} for {len(self.features)}"
            )
        if self.pooling not in _POOLINGS:
            raise ValueError(f"audio_cnn pooling must be 'frequency', 'global' or 'events', not {self.pooling!r}")
        if not self.heads:
            raise ValueError("audio_cnn needs at least one head, a (name, number of classes) pair")
        for index, (features, kernel, stride) in enumerate(zip(self.features, self.kernels, self.strides, strict=True)):
            x = Block(features, kernel, stride, name=f"block{index + 1}")(x, train)
        maps = x
        x = Mean((1, 2) if self.pooling == "global" else (2,), name="pool")(maps)
        if self.pooling == "events":
            x = jnp.concatenate([x, Peak((2,), name="peak")(maps)], axis=-1)
        if self.dropout:
            x = nn.Dropout(self.dropout, deterministic=not train, name="dropout")(x)
        logits = {name: nn.Dense(classes, name=name)(x) for name, classes in self.heads}
        return logits[self.heads[0][0]] if len(self.heads) == 1 else logits
