"""The mel-spectrogram classifier of "Activation Maximisation with a prior" (speech emotion), 1,560,964 parameters.

Convolution 11 x 11 to 64 channels, batch norm, ReLU; three blocks of convolution 3 x 3 (channels doubled), max-pooling
by 2, batch norm, ReLU; global average; linear.

Layers and their output shapes for an (80, 160, 1) input:

| layer               | shape           |                                              |
|---------------------|-----------------|----------------------------------------------|
| stem/conv           | (80, 160, 64)   | and stem/norm, stem/relu                     |
| block1/conv         | (80, 160, 128)  | before pooling                               |
| block1/pool         | (40, 80, 128)   | and block1/norm, block1/relu, block1         |
| block2/conv         | (40, 80, 256)   | pooled to (20, 40, 256)                      |
| block3/conv         | (20, 40, 512)   | pooled to (10, 20, 512)                      |
| pool                | (512,)          | global average                               |
| head                | (classes,)      | logits                                       |
"""

from __future__ import annotations

import flax.linen as nn
import jax

from nd_jax.networks.conv import Conv
from nd_jax.networks.layers import Mean, Pool, Relu, norm


class Block(nn.Module):
    """Convolution (stride 1, same size), optional max-pooling by 2, batch normalisation, ReLU."""

    features: int
    kernel: int
    pooled: bool

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """(batch, height, width, in) -> (batch, height, width, features), halved where pooled."""
        reach = self.kernel // 2
        x = Conv(self.features, (self.kernel, self.kernel), padding=((reach, reach), (reach, reach)), name="conv")(x)
        if self.pooled:
            x = Pool(2, name="pool")(x)
        x = norm("norm", train)(x)
        return Relu(name="relu")(x)


class CNNMel(nn.Module):
    """Family "cnn_mel"; see the module's table.

    Attributes:
      classes: number of logits.
      features: channels of the stem; each of the three blocks doubles them.
    """

    classes: int = 4
    features: int = 64

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """(batch, mel bands, frames, 1) -> logits (batch, classes); bands and frames of at least 8."""
        x = Block(self.features, 11, False, name="stem")(x, train)
        for index in (1, 2, 3):
            x = Block(self.features * 2**index, 3, True, name=f"block{index}")(x, train)
        x = Mean((1, 2), name="pool")(x)
        return nn.Dense(self.classes, name="head")(x)
