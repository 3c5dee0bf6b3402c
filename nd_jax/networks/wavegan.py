"""WaveGAN: raw audio from a latent (Donahue, McAuley & Puckette 2019, tables 3 and 4).

Generator layers and their output shapes for 16,384 samples and dim 64; c = 16 * dim = 1024:

| layer               | shape           |                                              |
|---------------------|-----------------|----------------------------------------------|
| dense               | (16384,)        | norm0, relu0: (16, 1024)                     |
| conv1               | (64, 512)       | and norm1, relu1                             |
| conv2               | (256, 256)      | and norm2, relu2                             |
| conv3               | (1024, 128)     | and norm3, relu3                             |
| conv4               | (4096, 64)      | and norm4, relu4                             |
| conv5               | (16384, 1)      | and tanh                                     |

Discriminator layers for a (16384, 1) input in -1 ... 1:

| layer               | shape           |                                              |
|---------------------|-----------------|----------------------------------------------|
| conv1               | (4096, 64)      | and relu1, shuffle1                          |
| conv2               | (1024, 128)     | and norm2, relu2, shuffle2                   |
| conv3               | (256, 256)      | and norm3, relu3, shuffle3                   |
| conv4               | (64, 512)       | and norm4, relu4, shuffle4                   |
| conv5               | (16, 1024)      | and norm5, relu5                             |
| dense               | (1,)            | logit                                        |

Norms are there with `batch_norm=True` only. Fewer samples leave the layers and shorten the signal of 16 steps: 8,192
begin with 8, 4,096 with 4. Batch norms have TensorFlow's constants, momentum 0.99 and epsilon 1e-3.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.networks import conditional
from nd_jax.networks.conv import Conv, conv_general_dilated
from nd_jax.networks.deviation import Freezable
from nd_jax.networks.layers import MinibatchDeviation, PhaseShuffle, Relu, Tanh, norm

STRIDE = 4
UPSAMPLE = ("zeros", "nearest")
_MOMENTUM, _EPSILON = 0.99, 1e-3


class UpConv(nn.Module):
    """Makes a signal four times as long: transposed convolution, or every value four times and a convolution.

    Attributes:
      features: number of output channels.
      kernel_size: length of the kernel.
      upsample: "zeros", the input gradient of a convolution of stride 4 and padding "SAME": input step i adds its value
        times the kernel to output steps 4 i - (kernel - 4) // 2 and on; or "nearest" (Odena et al. 2016).

    Parameters: `kernel` (kernel, in, out), `bias` (out,).
    """

    features: int
    kernel_size: int = 25
    upsample: str = "zeros"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, time, in) -> (batch, 4 * time, features)."""
        shape = (self.kernel_size, x.shape[2], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        numbers = ("NWC", "WIO", "NWC")
        if self.upsample == "nearest":
            kernel, padding = _summed(kernel)
            y = conv_general_dilated(x, kernel, (1,), (padding,), dimension_numbers=numbers)
            y = y.reshape(y.shape[0], STRIDE * y.shape[1], self.features)
        else:
            reach = self.kernel_size - 1
            left = (self.kernel_size - STRIDE) // 2
            padding = (reach - left, left + STRIDE - 1)
            flipped = jnp.flip(kernel, 0)
            y = conv_general_dilated(x, flipped, (1,), (padding,), (STRIDE,), dimension_numbers=numbers)
        return y + bias[None, None, :]


def _summed(kernel: jax.Array) -> tuple[jax.Array, tuple[int, int]]:
    """The kernel of a convolution "SAME" of a signal in which every value stands four times, for the signal itself.

    Taps that meet the same value are added first, which leaves a quarter of the products.

    Args:
      kernel: (length, in, out).

    Returns:
      The kernel (length', in, 4 * out), whose channels are four steps of the output, and its padding.
    """
    length, channels, features = kernel.shape
    left = (length - 1) // 2
    # Tap t of output step p reads value (p + t - left) // 4, counted from that of the step's own.
    first, last = -left // STRIDE, (STRIDE - 1 + length - 1 - left) // STRIDE
    meets = np.zeros((last - first + 1, STRIDE, length), np.float32)
    for step in range(STRIDE):
        for tap in range(length):
            meets[(step + tap - left) // STRIDE - first, step, tap] = 1.0
    together = jnp.einsum("vst,tio->viso", meets.astype(kernel.dtype), kernel, precision=jax.lax.Precision.HIGHEST)
    return together.reshape(last - first + 1, channels, STRIDE * features), (-first, last)


class Generator(nn.Module):
    """Family "wavegan_generator".

    Attributes:
      samples: length of the sound, a multiple of 4 to the number of layers.
      dim: channels in front of the last convolution; each layer before has twice as many.
      latent: size of the latent.
      layers: number of convolutions.
      kernel: their length.
      batch_norm: whether dense layer and convolutions, but for the last, are normalised.
      upsample: "zeros" or "nearest", see `UpConv`.
      features: 0, or how many units a dense layer (`features`, with a ReLU) right after the latent has.
      classes: 0, or how many classes can be asked for: the input is then {"z": latent, "label": class}.
      conditioning: how the class gets in: "concat" or, with batch_norm, "batch_norm"; see `conditional`.
    """

    samples: int = 16384
    dim: int = 64
    latent: int = 100
    layers: int = 5
    kernel: int = 25
    batch_norm: bool = False
    upsample: str = "zeros"
    features: int = 0
    classes: int = 0
    conditioning: str = "concat"

    @nn.compact
    def __call__(self, z: Any, train: bool = False) -> jax.Array:
        """(batch, latent), uniform in -1 ... 1 in the paper -> sound (batch, samples, 1) in -1 ... 1."""
        start = _start("wavegan_generator", self.samples, self.layers, self.kernel)
        if self.upsample not in UPSAMPLE:
            raise ValueError(f"upsample of wavegan_generator is 'zeros' or 'nearest', not {self.upsample!r}")
        if self.classes and self.conditioning == "batch_norm" and not self.batch_norm:
            raise ValueError("conditioning 'batch_norm' of wavegan_generator needs batch_norm=True, and it is False")
        z, norms = conditional.generator_input(self, z, train, momentum=_MOMENTUM, epsilon=_EPSILON)

        def activated(x: jax.Array, index: int) -> jax.Array:
            if self.batch_norm:
                x = norms(f"norm{index}")(x)
            return Relu(name=f"relu{index}")(x)

        if self.features:
            z = nn.Dense(self.features, name="features")(z)
            if self.batch_norm:
                z = norms("norm_features")(z)
            z = Relu(name="relu_features")(z)
        widest = self.dim * 2 ** (self.layers - 1)
        x = nn.Dense(start * widest, name="dense")(z).reshape(z.shape[0], start, widest)
        x = activated(x, 0)
        for index in range(1, self.layers):
            features = self.dim * 2 ** (self.layers - 1 - index)
            x = UpConv(features, self.kernel, self.upsample, name=f"conv{index}")(x)
            x = activated(x, index)
        x = UpConv(1, self.kernel, self.upsample, name=f"conv{self.layers}")(x)
        return Tanh(name="tanh")(x)


class Discriminator(Freezable, nn.Module):
    """Family "wavegan_discriminator"; it takes any number of samples that the layers divide.

    Attributes:
      dim: channels of the first convolution; each later one has twice as many.
      layers: number of convolutions.
      kernel: their length.
      batch_norm: whether they are normalised, but for the first; a critic with a gradient penalty must not be.
      shuffle: radius of the phase shuffle behind all convolutions but the last, 0 for none.
      slope: of the leaky ReLUs.
      features: 0, or how many units a dense layer (`features`, with a ReLU) before the score has.
      deviation: whether the dense layer sees how much the batch's examples differ (`layers.MinibatchDeviation`).
      frozen_deviation: what it sees of that when it is not trained; None for what the batch at hand gives. Only a
        frozen one is looked into from there on (see `deviation.frozen`).
      classes: 0, or the number of classes.
      conditioning: what becomes of the class: "projection" or "auxiliary", see `conditional`.
    """

    dim: int = 64
    layers: int = 5
    kernel: int = 25
    batch_norm: bool = False
    shuffle: int = 2
    slope: float = 0.2
    features: int = 0
    deviation: bool = False
    frozen_deviation: float | None = None
    classes: int = 0
    conditioning: str = "projection"

    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        """(batch, samples, 1) in -1 ... 1 -> logits (batch, 1).

        Training needs, unless shuffle is 0, an rng "phase".
        """
        x, label = conditional.discriminator_input(self, x)
        if x.ndim != 3:
            raise ValueError(f"wavegan_discriminator takes sounds of shape (batch, samples, 1), got {x.shape}")
        _start("wavegan_discriminator", x.shape[1], self.layers, self.kernel)
        for index in range(1, self.layers + 1):
            features = self.dim * 2 ** (index - 1)
            x = Conv(features, (self.kernel,), (STRIDE,), padding="SAME", name=f"conv{index}")(x)
            if self.batch_norm and index > 1:
                x = norm(f"norm{index}", train, _MOMENTUM, _EPSILON)(x)
            x = Relu(self.slope, name=f"relu{index}")(x)
            if self.shuffle and index < self.layers:
                x = PhaseShuffle(self.shuffle, name=f"shuffle{index}")(x, train)
        if self.deviation:
            x = MinibatchDeviation(name="deviation")(x, None if train else self.frozen_deviation)
        x = x.reshape(x.shape[0], -1)
        if self.features:
            x = Relu(self.slope, name="relu_features")(nn.Dense(self.features, name="features")(x))
        score = nn.Dense(1, name="dense")(x)
        return conditional.judged(self, score, x, label) if self.classes else score


def _start(family: str, samples: int, layers: int, kernel: int) -> int:
    """Steps of the shortest signal inside the network."""
    if kernel < STRIDE:
        raise ValueError(f"kernel of {family} must be at least {STRIDE}, got {kernel}")
    step = STRIDE ** max(layers, 1)
    if layers < 1 or samples < 1 or samples % step:
        raise ValueError(f"{family} with {layers} layers needs a multiple of {step} samples, not {samples}")
    return samples // step
