"""A small convolutional classifier of raw audio: strided convolutions over the samples, no front end.

Layers: block1/conv, block1/norm, block1/relu, block2/..., pool, one head per name in `heads`. Of 32,768
samples at 16 kHz block1 has 8,192 steps, one for 0.25 ms, and block4 128, one for 16 ms.
"""

from __future__ import annotations

import flax.linen as nn
import jax

from nd_jax.networks.conv import Conv
from nd_jax.networks.layers import Mean, Relu, norm


class WaveBlock(nn.Module):
    """Strided convolution over time, batch normalisation, ReLU."""

    features: int
    kernel: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """(batch, steps, in) -> (batch, ceil(steps / stride), features)."""
        x = Conv(self.features, (self.kernel,), (self.stride,), padding="SAME", use_bias=False, name="conv")(x)
        x = norm("norm", train)(x)
        return Relu(name="relu")(x)


class WaveCNN(nn.Module):
    """Family "wave_cnn".

    Attributes:
      heads: (name, number of classes) of every head; the name is the layer's name too.
      features: channels of every block.
      kernel: length of the kernels, in samples of the first block and steps of the others.
      stride: of every block.
      dropout: rate in front of the heads, in training.
    """

    heads: tuple[tuple[str, int], ...]
    features: tuple[int, ...] = (16, 32, 64, 96)
    kernel: int = 11
    stride: int = 4
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array | dict[str, jax.Array]:
        """Logits of a batch of sounds.

        Args:
          x: (batch, samples, 1), full scale 1.
          train: batch statistics (collection `batch_stats` must be mutable) and dropout (needs an rng "dropout").

        Returns:
          (batch, classes) for one head, {name: (batch, classes)} for several; means over time are what they see.
        """
        if not self.heads:
            raise ValueError("wave_cnn needs at least one head, a (name, number of classes) pair")
        for index, features in enumerate(self.features):
            x = WaveBlock(features, self.kernel, self.stride, name=f"block{index + 1}")(x, train)
        x = Mean((1,), name="pool")(x)
        if self.dropout:
            x = nn.Dropout(self.dropout, deterministic=not train, name="dropout")(x)
        logits = {name: nn.Dense(classes, name=name)(x) for name, classes in self.heads}
        return logits[self.heads[0][0]] if len(self.heads) == 1 else logits
