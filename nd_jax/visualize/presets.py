"""Published settings, exactly, as one call each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from nd_jax import taps
from nd_jax.visualize import objectives, optimizers, parameterizations, transforms
from nd_jax.visualize.batch import visualize_batch

if TYPE_CHECKING:
    from nd_jax.network import Network
    from nd_jax.visualize.result import Visualization


def neural_dissection(
    network: Network,
    layer: str,
    *,
    key: jax.Array,
    channels: objectives.Units = None,
    neuron: Sequence[int] | None = None,
    whole_layer: bool = False,
    robust: bool = True,
    faithful: bool = True,
    steps: int = 3000,
    learning_rate: float = 1e-3,
    **settings: Any,
) -> Visualization:
    """The GAN maximiser of "Neural Dissection" (pyroxenite/audio-neural-dissection), many channels at once.

    Minimises -mean((M * a) ** 2), the mean over all numbers of the layer and M a mask of ones on the chosen channel or
    neuron, by Adam on the free pixels, which start from N(0, 0.01 ** 2).

    Args:
      network: usually a discriminator; input (height, width, channels).
      layer: layer name.
      key: a JAX key.
      channels: channel indices, one lane each; None for all.
      neuron: (row, column, channel) instead: one lane.
      whole_layer: the whole layer instead: one lane.
      robust: with the source's transforms: translation up to 5 %, scale 0.9 to 1 / 0.9, rotation up to 3 degrees.
      faithful: as the source's code runs: it never clears the gradient, so that Adam sees the sum of all gradients so
        far. False for Adam on the gradient itself, which climbs faster.
      steps: 3000 in the source's notebooks.
      learning_rate: of Adam (the source's eta).
      **settings: further arguments of `visualize_batch`.

    Returns:
      A Visualization whose scores are the source's losses with the sign turned.
    """
    shape = taps.layer_shape(network, layer)
    if whole_layer:
        objective = objectives.layer(layer, power=2)
    elif neuron is not None:
        *position, unit = (int(index) for index in neuron)
        objective = objectives.neuron(layer, unit, position, power=2) * (1.0 / int(np.prod(shape)))
    else:
        objective = objectives.channel(layer, channels, power=2) * (1.0 / shape[-1])
    height, width = network.input.shape[:2]
    moves = (
        transforms.jitter(int(round(0.05 * max(height, width)))),
        transforms.scale(0.9, 1 / 0.9),
        transforms.rotate(3.0),
    )
    defaults: dict[str, Any] = {
        "parameterization": parameterizations.pixels(sd=0.01, bounds="none"),
        "transforms": moves if robust else (),
        "optimizer": (optimizers.exact_adam_on_sums if faithful else optimizers.exact_adam)(learning_rate),
        "steps": steps,
    }
    return visualize_batch(network, objective, key=key, **{**defaults, **settings})
