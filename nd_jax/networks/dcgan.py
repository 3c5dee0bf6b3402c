"""The MNIST networks of "Neural Dissection" (for its DCGAN and its WGAN-GP): 208,832 and 2,305,472 parameters.

Discriminator layers for a (28, 28, 1) input in -1 ... 1: conv1, norm1, relu1 (12, 12, 64); conv2, norm2, relu2
(4, 4, 128); dense (1,) is the logit, sigmoid (1,) the probability. Generator layers for a latent of 100: dense, norm0,
relu0 (12544,); conv1, norm1, relu1 (7, 7, 128); conv2, norm2, relu2 (14, 14, 64); conv3, tanh (28, 28, 1).

Pictures are channels-last and are flattened in (row, column, channel) order; weights of the PyTorch originals, which
flatten channel-first, have their dense kernels permuted at import (`importers.neural_dissection`).

The originals are the defaults. As a critic of Wasserstein distance with a gradient penalty a discriminator wants
neither end nor batch statistics: `Discriminator(sigmoid=False, batch_norm=False)`. Its convolutions then have biases,
208,640 parameters in all.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax

from nd_jax.networks import conditional
from nd_jax.networks.conv import Conv, ConvTranspose
from nd_jax.networks.deviation import Freezable
from nd_jax.networks.layers import MinibatchDeviation, Relu, Sigmoid, Tanh, norm


class Discriminator(Freezable, nn.Module):
    """Family "dcgan_discriminator".

    Attributes:
      hidden: channels of the first convolution; the second has twice as many.
      sigmoid: whether the output is a probability (layer `sigmoid`) or the logit (layer `dense`).
      dropout: rate after each block, in training.
      slope: of the leaky ReLUs.
      batch_norm: whether both convolutions are normalised (without, they have biases).
      whole: whether all of the picture is looked at: with kernels of 5 at a distance of 2 and no padding, as in the
        source, its last three rows and columns are not, and a generator makes what it likes there. One row and column
        more, of zeros, is enough.
      features: 0, or how many units a dense layer (`features`, with a ReLU) before the score has: the source's score is
        linear in the parts of strokes that the second convolution finds, and does not see which parts go together.
      deviation: whether the dense layer sees how much the batch's examples differ (`layers.MinibatchDeviation`).
      frozen_deviation: what it sees of that when it is not trained; None for what the batch at hand gives. Only a
        frozen one is looked into from there on (see `deviation.frozen`).
      classes: 0, or the number of classes.
      conditioning: what becomes of the class: "projection" or "auxiliary", see `conditional`.
    """

    hidden: int = 64
    sigmoid: bool = True
    dropout: float = 0.3
    slope: float = 0.2
    batch_norm: bool = True
    whole: bool = False
    features: int = 0
    deviation: bool = False
    frozen_deviation: float | None = None
    classes: int = 0
    conditioning: str = "projection"

    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        """(batch, 28, 28, 1) in -1 ... 1 -> (batch, 1), probability of being real or logit.

        Training needs `batch_stats` to be mutable and, unless dropout is 0, an rng "dropout".
        """
        x, label = conditional.discriminator_input(self, x)
        for index, features in enumerate((self.hidden, 2 * self.hidden), start=1):
            bias = not self.batch_norm
            padding = ((0, 1), (0, 1)) if self.whole and index == 1 else "VALID"
            x = Conv(features, (5, 5), (2, 2), padding=padding, use_bias=bias, name=f"conv{index}")(x)
            if self.batch_norm:
                x = norm(f"norm{index}", train)(x)
            x = Relu(self.slope, name=f"relu{index}")(x)
            if self.dropout:
                x = nn.Dropout(self.dropout, deterministic=not train, name=f"dropout{index}")(x)
        if self.deviation:
            x = MinibatchDeviation(name="deviation")(x, None if train else self.frozen_deviation)
        x = x.reshape(x.shape[0], -1)
        if self.features:
            x = Relu(self.slope, name="relu_features")(nn.Dense(self.features, name="features")(x))
        score = nn.Dense(1, use_bias=False, name="dense")(x)
        output = conditional.judged(self, score, x, label) if self.classes else score
        if not self.sigmoid:
            return output
        if isinstance(output, dict):
            return output | {"score": Sigmoid(name="sigmoid")(score)}
        return Sigmoid(name="sigmoid")(output)


class Generator(nn.Module):
    """Family "dcgan_generator".

    Attributes:
      latent: size of the latent.
      hidden: channels in front of the last convolution; twice and four times as many before.
      features: 0, or how many units a dense layer (`features`, with norm and ReLU) right after the latent has: without,
        as in the source, where strokes go is one linear map of the latent, and between two digits lies their blend.
      slope: of the leaky ReLUs.
      classes: 0, or how many classes can be asked for: the input is then {"z": latent, "label": class}.
      conditioning: how the class gets in: "concat" or "batch_norm", see `conditional`.
    """

    latent: int = 100
    hidden: int = 64
    features: int = 0
    slope: float = 0.2
    classes: int = 0
    conditioning: str = "concat"

    @nn.compact
    def __call__(self, z: Any, train: bool = False) -> jax.Array:
        """(batch, latent), standard normal -> pictures (batch, 28, 28, 1) in -1 ... 1."""
        z, norms = conditional.generator_input(self, z, train)
        if self.features:
            z = nn.Dense(self.features, use_bias=False, name="features")(z)
            z = Relu(self.slope, name="relu_features")(norms("norm_features")(z))
        x = nn.Dense(7 * 7 * 4 * self.hidden, use_bias=False, name="dense")(z)
        x = Relu(self.slope, name="relu0")(norms("norm0")(x))
        x = x.reshape(x.shape[0], 7, 7, 4 * self.hidden)
        x = ConvTranspose(2 * self.hidden, (5, 5), (1, 1), (2, 2), (0, 0), use_bias=False, name="conv1")(x)
        x = Relu(self.slope, name="relu1")(norms("norm1")(x))
        x = ConvTranspose(self.hidden, (5, 5), (2, 2), (2, 2), (1, 1), use_bias=False, name="conv2")(x)
        x = Relu(self.slope, name="relu2")(norms("norm2")(x))
        x = ConvTranspose(1, (5, 5), (2, 2), (2, 2), (1, 1), use_bias=False, name="conv3")(x)
        return Tanh(name="tanh")(x)
