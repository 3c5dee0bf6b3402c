"""The MNIST networks of "Neural Dissection" (for its DCGAN and its WGAN-GP): 208,832 and 2,305,472 parameters.

Discriminator layers for a (28, 28, 1) input in -1 ... 1: conv1, norm1, relu1 (12, 12, 64); conv2, norm2, relu2
(4, 4, 128); dense (1,) is the logit, sigmoid (1,) the probability. Generator layers for a latent of 100: dense, norm0,
relu0 (12544,); conv1, norm1, relu1 (7, 7, 128); conv2, norm2, relu2 (14, 14, 64); conv3, tanh (28, 28, 1).

Pictures are channels-last and are flattened in (row, column, channel) order; weights of the PyTorch originals, which
flatten channel-first, have their dense kernels permuted at import (`importers.neural_dissection`).
"""

from __future__ import annotations

import flax.linen as nn
import jax

from nd_jax.networks.conv import Conv, ConvTranspose
from nd_jax.networks.layers import Relu, Sigmoid, Tanh, norm


class Discriminator(nn.Module):
    """Family "dcgan_discriminator".

    Attributes:
      hidden: channels of the first convolution; the second has twice as many.
      sigmoid: whether the output is a probability (layer `sigmoid`) or the logit (layer `dense`).
      dropout: rate after each block, in training.
      slope: of the leaky ReLUs.
    """

    hidden: int = 64
    sigmoid: bool = True
    dropout: float = 0.3
    slope: float = 0.2

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """(batch, 28, 28, 1) in -1 ... 1 -> (batch, 1), probability of being real or logit.

        Training needs `batch_stats` to be mutable and, unless dropout is 0, an rng "dropout".
        """
        for index, features in enumerate((self.hidden, 2 * self.hidden), start=1):
            x = Conv(features, (5, 5), (2, 2), padding="VALID", use_bias=False, name=f"conv{index}")(x)
            x = norm(f"norm{index}", train)(x)
            x = Relu(self.slope, name=f"relu{index}")(x)
            if self.dropout:
                x = nn.Dropout(self.dropout, deterministic=not train, name=f"dropout{index}")(x)
        x = nn.Dense(1, use_bias=False, name="dense")(x.reshape(x.shape[0], -1))
        return Sigmoid(name="sigmoid")(x) if self.sigmoid else x


class Generator(nn.Module):
    """Family "dcgan_generator".

    Attributes:
      latent: size of the latent.
      hidden: channels in front of the last convolution; twice and four times as many before.
      slope: of the leaky ReLUs.
    """

    latent: int = 100
    hidden: int = 64
    slope: float = 0.2

    @nn.compact
    def __call__(self, z: jax.Array, train: bool = False) -> jax.Array:
        """(batch, latent), standard normal -> pictures (batch, 28, 28, 1) in -1 ... 1."""
        if z.ndim != 2 or z.shape[1] != self.latent:
            raise ValueError(f"dcgan_generator takes latents of shape (batch, {self.latent}), got {z.shape}")
        x = nn.Dense(7 * 7 * 4 * self.hidden, use_bias=False, name="dense")(z)
        x = Relu(self.slope, name="relu0")(norm("norm0", train)(x))
        x = x.reshape(x.shape[0], 7, 7, 4 * self.hidden)
        x = ConvTranspose(2 * self.hidden, (5, 5), (1, 1), (2, 2), (0, 0), use_bias=False, name="conv1")(x)
        x = Relu(self.slope, name="relu1")(norm("norm1", train)(x))
        x = ConvTranspose(self.hidden, (5, 5), (2, 2), (2, 2), (1, 1), use_bias=False, name="conv2")(x)
        x = Relu(self.slope, name="relu2")(norm("norm2", train)(x))
        x = ConvTranspose(1, (5, 5), (2, 2), (2, 2), (1, 1), use_bias=False, name="conv3")(x)
        return Tanh(name="tanh")(x)
