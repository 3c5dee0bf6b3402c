"""The mel-spectrogram GAN of "Activation Maximisation with a prior": 15,863,619 and 2,756,929 parameters.

Generator layers and their output shapes for a latent of 512 and the start (5, 10):

| layer               | shape           |                                              |
|---------------------|-----------------|----------------------------------------------|
| conv1               | (5, 10, 512)    | transposed, from the latent; norm1, relu1    |
| conv2               | (10, 20, 256)   | and norm2, relu2                             |
| conv3               | (20, 40, 128)   | and norm3, relu3                             |
| conv4               | (40, 80, 64)    | and norm4, relu4                             |
| conv5               | (80, 160, 1)    | and norm5, sigmoid                           |

Discriminator layers for an (80, 160, 1) input in 0 ... 1:

| layer               | shape           |                                              |
|---------------------|-----------------|----------------------------------------------|
| conv1               | (40, 80, 64)    | and norm1, relu1                             |
| conv2               | (20, 40, 128)   | and norm2, relu2                             |
| conv3               | (10, 20, 256)   | and norm3, relu3                             |
| conv4               | (5, 10, 512)    | and norm4, relu4                             |
| conv5               | (5, 10, 1)      | 1 x 1                                        |
| score               | (1,)            | logit, mean over space                       |

Every convolution has a bias. The batch norm behind the generator's last convolution fixes mean and contrast of what it
makes; `last_norm=False` leaves it away. Not to be taken for MelGAN, a vocoder.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from nd_jax.networks import conditional
from nd_jax.networks.conv import Conv, ConvTranspose
from nd_jax.networks.deviation import Freezable
from nd_jax.networks.layers import Mean, MinibatchDeviation, Relu, Sigmoid, norm


class FirstConv(nn.Module):
    """The transposed convolution of a latent, one pixel of many channels, to a first picture of the kernel's size.

    A matrix product, which is how it is computed: as a convolution it takes seven times as long on a CPU.

    Attributes:
      features: number of output channels.
      kernel_size: (height, width) of kernel and picture.

    Parameters: `kernel` (height, width, in, out), `bias` (out,), as those of `conv.ConvTranspose`.
    """

    features: int
    kernel_size: tuple[int, int]

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """(batch, in) -> (batch, height, width, features)."""
        shape = (*self.kernel_size, z.shape[1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        return jnp.einsum("bi,hwio->bhwo", z, kernel) + bias[None, None, None, :]


class Generator(nn.Module):
    """Family "mel_dcgan_generator".

    Attributes:
      latent: size of the latent.
      start: (mel bands, frames) of the first layer; every later one doubles both: (4, 4) makes (64, 64, 1).
      widths: channels of all layers but the last.
      features: 0, or how many units a dense layer (`features`, with norm and ReLU) right after the latent has.
      slope: of the leaky ReLUs.
      last_norm: whether a batch norm follows the last convolution.
      classes: 0, or how many classes can be asked for: the input is then {"z": latent, "label": class}.
      conditioning: how the class gets in: "concat" or "batch_norm", see `conditional`.
    """

    latent: int = 512
    start: tuple[int, int] = (5, 10)
    widths: tuple[int, ...] = (512, 256, 128, 64)
    features: int = 0
    slope: float = 0.2
    last_norm: bool = True
    classes: int = 0
    conditioning: str = "concat"

    @nn.compact
    def __call__(self, z: Any, train: bool = False) -> jax.Array:
        """(batch, latent), standard normal -> log-mels (batch, bands, frames, 1) in 0 ... 1."""
        z, norms = conditional.generator_input(self, z, train)
        if self.features:
            z = nn.Dense(self.features, use_bias=False, name="features")(z)
            z = Relu(self.slope, name="relu_features")(norms("norm_features")(z))
        x = FirstConv(self.widths[0], self.start, name="conv1")(z)
        x = Relu(self.slope, name="relu1")(norms("norm1")(x))
        for index, features in enumerate((*self.widths[1:], 1), start=2):
            x = ConvTranspose(features, (4, 4), (2, 2), (1, 1), name=f"conv{index}")(x)
            if index <= len(self.widths):
                x = Relu(self.slope, name=f"relu{index}")(norms(f"norm{index}")(x))
        if self.last_norm:
            # One channel for all classes alike: what a class sounds like is decided before.
            x = norm(f"norm{len(self.widths) + 1}", train)(x)
        return Sigmoid(name="sigmoid")(x)


class Discriminator(Freezable, nn.Module):
    """Family "mel_dcgan_discriminator".

    Attributes:
      widths: channels of the convolutions of stride 2; the input's sides are multiples of 2 to their number.
      features: 0, or how many units a dense layer (`features`, with a ReLU) before the score has. Without, as in the
        source, the score is a mean over places that each see a part of the sound, and so are the features that a class
        is projected on: what comes before what is hardly looked at.
      slope: of the leaky ReLUs.
      batch_norm: whether every convolution of stride 2 is normalised; a critic with a gradient penalty must not be.
      deviation: whether the last convolution sees how much the batch's examples differ (`layers.MinibatchDeviation`).
      frozen_deviation: what it sees of that when it is not trained; None for what the batch at hand gives. Only a
        frozen one is looked into from there on (see `deviation.frozen`).
      classes: 0, or the number of classes.
      conditioning: what becomes of the class: "projection" or "auxiliary", see `conditional`.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512)
    features: int = 0
    slope: float = 0.2
    batch_norm: bool = True
    deviation: bool = False
    frozen_deviation: float | None = None
    classes: int = 0
    conditioning: str = "projection"

    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        """(batch, bands, frames, 1) in 0 ... 1 -> logits (batch, 1)."""
        x, label = conditional.discriminator_input(self, x)
        step = 2 ** len(self.widths)
        if x.ndim != 4 or x.shape[1] % step or x.shape[2] % step:
            raise ValueError(
                f"mel_dcgan_discriminator takes (batch, bands, frames, channels) with bands and frames that are "
                f"multiples of {step}, got {x.shape}"
            )
        for index, features in enumerate(self.widths, start=1):
            x = Conv(features, (4, 4), (2, 2), padding=((1, 1), (1, 1)), name=f"conv{index}")(x)
            if self.batch_norm:
                x = norm(f"norm{index}", train)(x)
            x = Relu(self.slope, name=f"relu{index}")(x)
        if self.deviation:
            x = MinibatchDeviation(name="deviation")(x, None if train else self.frozen_deviation)
        if self.features:
            found = nn.Dense(self.features, name="features")(x.reshape(x.shape[0], -1))
            found = Relu(self.slope, name="relu_features")(found)
            score = nn.Dense(1, name="score")(found)
        else:
            score = Mean((1, 2), name="score")(Conv(1, (1, 1), name=f"conv{len(self.widths) + 1}")(x))
            found = Mean((1, 2), name="pool")(x) if self.classes else x
        return conditional.judged(self, score, found, label) if self.classes else score
