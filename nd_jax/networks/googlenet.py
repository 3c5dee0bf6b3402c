"""GoogLeNet (Inception v1 with batch norm) as torchvision has it, for its weights: 6,624,904 parameters.

A layer's name is torchvision's with "/" for ".", so that a unit of a paper or a notebook is found again:

| layer                               | what                                          | shape at 224 x 224   |
|-------------------------------------|-----------------------------------------------|----------------------|
| normalise, transform_input          | where the network has them                    | (224, 224, 3)        |
| conv1                               | 7 x 7, stride 2                               | (112, 112, 64)       |
| maxpool1, conv2, conv3, maxpool2    | pool 3 / 2; 1 x 1; 3 x 3; pool 3 / 2          | 56 ... 28, 192       |
| inception3a, inception3b            | blocks                                        | (28, 28, 256), 480   |
| maxpool3, inception4a ... 4e        | pool 3 / 2; blocks                            | (14, 14, 512) ... 832|
| maxpool4, inception5a, inception5b  | pool 2 / 2; blocks                            | (7, 7, 832), 1024    |
| avgpool, fc                         | mean over places; logits                      | (1024,), (1000,)     |

Every convolution is a block of three layers (`conv1/conv`, `conv1/bn`, `conv1/relu`) and has their result under its own
name. An inception block is the channels of its branches side by side: `inception3a/branch1`, `inception3a/branch2/0`
and `/1`, `inception3a/branch3/0` and `/1` (called 5 x 5 in the paper, 3 x 3 in torchvision), and
`inception3a/branch4/0` (a pool) and `/1`. The two auxiliary heads, which serve training only, are not here.

Source: Szegedy et al. 2015, "Going deeper with convolutions"; the numbers are those of torchvision's `googlenet.py`.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from nd_jax.networks.conv import Conv
from nd_jax.networks.layers import Mean, Normalise, Relu, norm
from nd_jax.networks.pooling import MaxPool

# Of inception 3a, 3b, 4a ... 4e, 5a, 5b: channels of branch 1; of branch 2, first and second; of branch 3; of branch 4.
BLOCKS = (
    (64, 96, 128, 16, 32, 32),
    (128, 128, 192, 32, 96, 64),
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
    (256, 160, 320, 32, 128, 128),
    (384, 192, 384, 48, 128, 128),
)
NAMES = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class BasicConv(nn.Module):
    """Convolution without bias, batch norm (epsilon 1e-3), ReLU."""

    features: int
    kernel: int
    stride: int = 1
    padding: int = 0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """(batch, height, width, channels) -> (batch, height', width', features)."""
        size, edge = (self.kernel, self.kernel), (self.padding, self.padding)
        x = Conv(self.features, size, (self.stride, self.stride), (edge, edge), use_bias=False, name="conv")(x)
        return Relu(name="relu")(norm("bn", train, epsilon=1e-3)(x))


class _Pair(nn.Module):
    """1 x 1, then 3 x 3: branches 2 and 3."""

    reduced: int
    features: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = BasicConv(self.reduced, 1, name="0")(x, train)
        return BasicConv(self.features, 3, padding=1, name="1")(x, train)


class _Pooled(nn.Module):
    """Pool, then 1 x 1: branch 4."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        return BasicConv(self.features, 1, name="1")(MaxPool(3, 1, 1, ceil=True, name="0")(x), train)


class Inception(nn.Module):
    """Four branches whose channels stand side by side; `widths` as in `BLOCKS`."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """(batch, height, width, channels) -> (batch, height, width, sum of the branches' channels)."""
        one, reduced2, two, reduced3, three, four = self.widths
        branches = (
            BasicConv(one, 1, name="branch1")(x, train),
            _Pair(reduced2, two, name="branch2")(x, train),
            _Pair(reduced3, three, name="branch3")(x, train),
            _Pooled(four, name="branch4")(x, train),
        )
        return jnp.concatenate(branches, axis=-1)


class GoogLeNet(nn.Module):
    """Family "googlenet".

    Attributes:
      stem: channels of conv1, conv2, conv3.
      blocks: six widths for each of the nine inception blocks, as in `BLOCKS`.
      classes: number of logits.
      dropout: rate before the logits, in training.
      transform_input: whether pictures normalised as ImageNet's (mean 0.485, 0.456, 0.406; deviation 0.229, 0.224,
        0.225) are changed to a mean and a deviation of 0.5 first, which torchvision's published weights want.
      mean, std: of the network's pictures, one number a channel: the input is 0 ... 1, and the network takes off the
        mean and divides by the deviation. Empty: the input is taken as it is.
    """

    stem: tuple[int, int, int] = (64, 64, 192)
    blocks: tuple[tuple[int, ...], ...] = BLOCKS
    classes: int = 1000
    dropout: float = 0.2
    transform_input: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """(batch, height, width, 3) -> logits (batch, classes); any picture of 33 x 33 pixels or more.

        Training needs `batch_stats` to be mutable and, unless dropout is 0, an rng "dropout".
        """
        if len(self.blocks) != len(NAMES) or any(len(widths) != 6 for widths in self.blocks):
            raise ValueError(f"googlenet has {len(NAMES)} blocks of 6 widths each, got {self.blocks!r}")
        if self.mean:
            x = Normalise(self.mean, self.std, name="normalise")(x)
        if self.transform_input:
            # (x * deviation + mean - 0.5) / 0.5, as a normalisation of its own.
            mean = tuple((0.5 - mean) / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True))
            x = Normalise(mean, tuple(0.5 / std for std in IMAGENET_STD), name="transform_input")(x)
        first, second, third = self.stem
        x = BasicConv(first, 7, 2, 3, name="conv1")(x, train)
        x = MaxPool(3, 2, ceil=True, name="maxpool1")(x)
        x = BasicConv(second, 1, name="conv2")(x, train)
        x = BasicConv(third, 3, padding=1, name="conv3")(x, train)
        x = MaxPool(3, 2, ceil=True, name="maxpool2")(x)
        for place, widths in zip(NAMES, self.blocks, strict=True):
            if place == "4a":
                x = MaxPool(3, 2, ceil=True, name="maxpool3")(x)
            elif place == "5a":
                x = MaxPool(2, 2, ceil=True, name="maxpool4")(x)
            x = Inception(tuple(widths), name=f"inception{place}")(x, train)
        x = Mean((1, 2), name="avgpool")(x)
        if self.dropout:
            x = nn.Dropout(self.dropout, deterministic=not train, name="dropout")(x)
        return nn.Dense(self.classes, name="fc")(x)
