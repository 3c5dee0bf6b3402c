"""LeNets for small pictures: two convolutions with pooling, then three dense layers.

Layers: conv1, relu1, pool1, conv2, relu2, pool2, dense1, relu3, dense2, relu4, dense3 (logits). Pictures are
channels-last and are flattened in (row, column, channel) order.
"""

from __future__ import annotations

import flax.linen as nn
import jax

from nd_jax.networks.conv import Conv
from nd_jax.networks.layers import Pool, Relu


class LeNet(nn.Module):
    """Family "lenet".

    Attributes:
      features: channels of the two convolutions.
      kernel: height and width of their kernels (no padding).
      pooling: "max" or "average", by 2.
      hidden: units of the two hidden dense layers.
      classes: number of logits.
    """

    features: tuple[int, int] = (6, 16)
    kernel: int = 5
    pooling: str = "max"
    hidden: tuple[int, int] = (120, 84)
    classes: int = 10

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """(batch, height, width, channels) -> logits (batch, classes); the same in training and evaluation."""
        if self.pooling not in ("max", "average"):
            raise ValueError(f"lenet pooling must be 'max' or 'average', not {self.pooling!r}")
        for index, features in enumerate(self.features, start=1):
            x = Conv(features, (self.kernel, self.kernel), padding="VALID", name=f"conv{index}")(x)
            x = Relu(name=f"relu{index}")(x)
            x = Pool(2, self.pooling, name=f"pool{index}")(x)
        x = x.reshape(x.shape[0], -1)
        for index, units in enumerate(self.hidden, start=1):
            x = Relu(name=f"relu{index + 2}")(nn.Dense(units, name=f"dense{index}")(x))
        return nn.Dense(self.classes, name="dense3")(x)
