"""VGG (configuration D is VGG16) without batch norm as torchvision has it, for its weights: 138,357,544 parameters.

A layer's name is torchvision's with "/" for ".". For VGG16 and pictures of 224 x 224:

| layer                                      | what                                   | shape                 |
|--------------------------------------------|----------------------------------------|-----------------------|
| normalise                                  | where the network has it               | (224, 224, 3)         |
| features/0, /2; pool /4                    | 3 x 3 convolutions, max pool 2 x 2     | 224 x 224 x 64        |
| features/5, /7; pool /9                    | the same                               | 112 x 112 x 128       |
| features/10, /12, /14; pool /16            | the same                               | 56 x 56 x 256         |
| features/17, /19, /21; pool /23            | the same                               | 28 x 28 x 512         |
| features/24, /26, /28; pool /30            | the same                               | 14 x 14 x 512         |
| avgpool                                    | adaptive average                       | (7, 7, 512)           |
| classifier/0, classifier/3, classifier/6   | dense                                  | 4096, 4096, 1000      |

The number after a convolution or dense layer is its ReLU: `features/1`, ..., `classifier/1`, `classifier/4`; in the
literature, conv3_2 is `features/12` and relu3_2 is `features/13`.

Pictures are channels-last and are flattened in (row, column, channel) order; the importer permutes the first dense
kernel. Source: Simonyan and Zisserman 2015, "Very deep convolutional networks for large-scale image recognition".
"""

from __future__ import annotations

import flax.linen as nn
import jax

from nd_jax.networks.conv import Conv
from nd_jax.networks.layers import Normalise, Relu
from nd_jax.networks.pooling import AdaptiveAveragePool, MaxPool

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class Features(nn.Module):
    """Stages of 3 x 3 convolutions with ReLU, each ending in a max pool of 2 x 2; layers are numbered through."""

    stages: tuple[tuple[int, ...], ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, height, width, channels) -> (batch, height // 2 ** stages, width // 2 ** stages, channels')."""
        place = 0
        for widths in self.stages:
            for width in widths:
                x = Conv(width, (3, 3), padding=((1, 1), (1, 1)), name=str(place))(x)
                x = Relu(name=str(place + 1))(x)
                place += 2
            x = MaxPool(2, 2, name=str(place))(x)
            place += 1
        return x


class Classifier(nn.Module):
    """Dense layers with ReLU and dropout between them; layers are numbered through, dropout included."""

    hidden: tuple[int, ...]
    classes: int
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """(batch, numbers) -> logits (batch, classes)."""
        for index, units in enumerate(self.hidden):
            x = Relu(name=str(3 * index + 1))(nn.Dense(units, name=str(3 * index))(x))
            if self.dropout:
                x = nn.Dropout(self.dropout, deterministic=not train, name=str(3 * index + 2))(x)
        return nn.Dense(self.classes, name=str(3 * len(self.hidden)))(x)


class VGG(nn.Module):
    """Family "vgg".

    Attributes:
      stages: channels of the convolutions of each stage; the default is VGG16.
      pooled: rows and columns that the features are averaged to.
      hidden: units of the hidden dense layers.
      classes: number of logits.
      dropout: rate after each hidden dense layer, in training.
      mean, std: of the network's pictures, one number a channel: the input is 0 ... 1, and the network takes off the
        mean and divides by the deviation. Empty: the input is taken as it is.
    """

    stages: tuple[tuple[int, ...], ...] = STAGES
    pooled: tuple[int, int] = (7, 7)
    hidden: tuple[int, ...] = (4096, 4096)
    classes: int = 1000
    dropout: float = 0.5
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """(batch, height, width, channels) -> logits (batch, classes); 2 ** stages pixels or more along both axes.

        Training needs, unless dropout is 0, an rng "dropout".
        """
        if self.mean:
            x = Normalise(self.mean, self.std, name="normalise")(x)
        x = Features(self.stages, name="features")(x)
        x = AdaptiveAveragePool(self.pooled, name="avgpool")(x)
        x = x.reshape(x.shape[0], -1)
        return Classifier(self.hidden, self.classes, self.dropout, name="classifier")(x, train)
