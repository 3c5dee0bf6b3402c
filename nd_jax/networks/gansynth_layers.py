"""The layers of GANSynth, see `gansynth`: equalised convolutions, pixel norm, blocks of both players, resolutions.

Convolutions have the equalised learning rate: kernels are stored unscaled, about 1 in size, and multiplied when used.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.networks.conv import conv_general_dilated, conv_transpose
from nd_jax.networks.layers import Relu, Tanh

_KERNEL = (3, 3)
_NUMBERS = ("NHWC", "HWIO", "NHWC")


def enlarge(x: jax.Array, factor: int) -> jax.Array:
    """Every place `factor` times in both directions: (batch, h, w, c) -> (batch, h * factor, w * factor, c)."""
    if factor == 1:
        return x
    batch, height, width, count = x.shape
    spread = jnp.broadcast_to(x[:, :, None, :, None, :], (batch, height, factor, width, factor, count))
    return spread.reshape(batch, height * factor, width * factor, count)


def shrink(x: jax.Array, factor: int) -> jax.Array:
    """The mean over squares of `factor` places: (batch, h, w, c) -> (batch, h / factor, w / factor, c)."""
    if factor == 1:
        return x
    batch, height, width, count = x.shape
    return x.reshape(batch, height // factor, factor, width // factor, factor, count).mean(axis=(2, 4))


def is_nothing(share: Any) -> bool:
    """Whether a share is known to be 0 before anything runs."""
    return isinstance(share, float) and share == 0.0


class PixelNorm(nn.Module):
    """Every place has the root mean square 1 over its channels."""

    epsilon: float = 1e-8

    def __call__(self, x: jax.Array) -> jax.Array:
        """(..., channels); the shape stays."""
        return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + self.epsilon)


class EqualConv(nn.Module):
    """Convolution of stride 1 with the equalised learning rate (Karras et al. 2018, section 4.1).

    Attributes:
      features: number of output channels.
      kernel_size: (height, width).
      padding: "SAME", "VALID", "DOUBLE" or "PLACES". "DOUBLE" is "SAME" of the input at twice the resolution, see
        `enlarge`. With "PLACES" the input is one place, and the output kernel_size places, each with weights of its
        own; that is a convolution of the input with kernel_size - 1 zeros all around it.
      slope: of the leaky ReLU that follows, 1 for none; the weights are scaled by sqrt(2 / ((1 + slope^2) fan_in)). The
        originals say 0 where 0.2 follows.

    Parameters: `kernel` (height, width, in, out), unscaled; `bias` (out,).
    """

    features: int
    kernel_size: tuple[int, int] = _KERNEL
    padding: str = "SAME"
    slope: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, height, width, in), or (batch, in) for "PLACES" -> (batch, height', width', features)."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.normal(1.0), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        kernel = kernel * _scale(shape, self.slope)
        if self.padding == "PLACES":
            # Place (i, j) meets the one input that is not 0 at tap (height - 1 - i, width - 1 - j).
            flipped = jnp.flip(kernel, (0, 1)).transpose(2, 0, 1, 3).reshape(x.shape[-1], -1)
            y = (x @ flipped).reshape(x.shape[0], *self.kernel_size, self.features)
        elif self.padding == "DOUBLE":
            y = _convolve_enlarged(x, kernel)
        else:
            y = conv_general_dilated(x, kernel, (1, 1), self.padding, dimension_numbers=_NUMBERS)
        return y + bias[None, None, None, :]


def _convolve_enlarged(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The convolution ("SAME", odd kernels) of `enlarge(x, 2)`, with 16 products for 36 where the kernel is 3 x 3.

    A place of x meets taps that lie in one square of two by two, so these can be added up first. What comes out is a
    transposed convolution of x with stride 2.
    """
    kernel = jnp.flip(kernel, (0, 1))
    for axis in (0, 1):
        before, after = ([(int(axis == each) * at, int(axis == each) * (1 - at)) for each in range(4)] for at in (0, 1))
        kernel = jnp.pad(kernel, before) + jnp.pad(kernel, after)
    return conv_transpose(x, kernel, (2, 2), (kernel.shape[0] // 2 - 1, kernel.shape[1] // 2 - 1))


class EqualDense(nn.Module):
    """Linear layer with the equalised learning rate, scaled by sqrt(1 / fan_in).

    Parameters: `kernel` (in, out), unscaled; `bias` (out,).
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, in) -> (batch, features)."""
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.normal(1.0), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        return x @ (kernel * _scale(shape, 1.0)) + bias[None, :]


def _scale(shape: tuple[int, ...], slope: float) -> np.float32:
    return np.float32(np.sqrt(2.0 / ((1.0 + slope**2) * np.prod(shape[:-1], dtype=np.float64))))


class GeneratorBlock(nn.Module):
    """Two convolutions, each with leaky ReLU and then pixel norm; but for the first block, at twice the resolution."""

    features: int
    start: tuple[int, int] | None
    slope: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, latent) with `start`, else (batch, h, w, c) -> (batch, height, width, features)."""
        for index in (0, 1):
            if index == 0 and self.start is not None:
                x = EqualConv(self.features, self.start, "PLACES", name="conv0")(x)
            else:
                x = EqualConv(self.features, padding="SAME" if index else "DOUBLE", name=f"conv{index}")(x)
            x = PixelNorm(name=f"norm{index}")(Relu(self.slope, name=f"relu{index}")(x))
        return x


class DiscriminatorBlock(nn.Module):
    """Two convolutions with leaky ReLUs, halved; the second one of block 1 is as large as its input instead."""

    features: tuple[int, int]
    start: tuple[int, int] | None
    slope: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, h, w, c) -> (batch, h / 2, w / 2, features), or (batch, 1, 1, features) with `start`."""
        x = Relu(self.slope, name="relu0")(EqualConv(self.features[0], name="conv0")(x))
        if self.start is None:
            x = EqualConv(self.features[1], name="conv1")(x)
        else:
            x = EqualConv(self.features[1], self.start, "VALID", name="conv1")(x)
        x = Relu(self.slope, name="relu1")(x)
        return shrink(x, 2) if self.start is None else x


class ToRgb(nn.Module):
    """A block's picture, -1 ... 1."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, h, w, c) -> (batch, h, w, features)."""
        return Tanh(name="tanh")(EqualConv(self.features, (1, 1), slope=1.0, name="conv")(x))


class FromRgb(nn.Module):
    """What a block reads from the picture."""

    features: int
    slope: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, h, w, c) -> (batch, h, w, features)."""
        return Relu(self.slope, name="relu")(EqualConv(self.features, (1, 1), name="conv")(x))


class Blend(nn.Module):
    """The pictures of all blocks, enlarged, by their shares."""

    def __call__(self, pictures: Sequence[jax.Array], shares: Sequence[Any], blocks: int) -> jax.Array:
        """(batch, h, w, c) a block -> (batch, height, width, c)."""
        parts = [
            share * enlarge(picture, 2 ** (blocks - block))
            for block, (picture, share) in enumerate(zip(pictures, shares, strict=True), start=1)
            if not is_nothing(share)
        ]
        # Where nothing has a share there is a picture all the same.
        return functools.reduce(jnp.add, parts) if parts else 0.0 * enlarge(pictures[-1], 2 ** (blocks - len(pictures)))


class Normalise(nn.Module):
    """Data units to -1 ... 1, cut there."""

    gain: tuple[float, ...]
    offset: tuple[float, ...]

    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, height, width, channels); the shape stays."""
        gain, offset = constants(self.gain, self.offset)
        return jnp.clip(gain * x + offset, -1.0, 1.0)


def constants(gain: Sequence[float], offset: Sequence[float]) -> tuple[jax.Array, jax.Array]:
    """Gains and offsets, one number a channel, as arrays (1, 1, 1, channels)."""
    return jnp.asarray(gain, jnp.float32)[None, None, None], jnp.asarray(offset, jnp.float32)[None, None, None]
