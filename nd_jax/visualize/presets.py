"""Published settings as one call each.

| preset                         | whose                                        | for                               |
|--------------------------------|----------------------------------------------|-----------------------------------|
| `neural_dissection`            | the GAN maximiser of Neural Dissection       | discriminators of small pictures  |
| `neural_dissection_photograph` | its GoogLeNet maximiser                      | classifiers of photographs        |
| `lucid`                        | Lucid's standard: Fourier, five moves        | classifiers of photographs        |

The first is exact to the source's own numbers; what the other two do otherwise than their sources stands with each.
Class-based activation maximisation with a GAN prior, exact too, is `nd_jax.visualize.maximize_classes(project=False)`.
"""

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


def neural_dissection_photograph(
    network: Network,
    layer: str,
    *,
    key: jax.Array,
    channels: objectives.Units = None,
    whole_layer: bool = False,
    steps: int = 1000,
    learning_rate: float = 0.1,
    **settings: Any,
) -> Visualization:
    """The GoogLeNet maximiser of "Neural Dissection" (pyroxenite/audio-neural-dissection), many channels at once.

    Pixels from blurred noise, stretched over the whole range before every step (`parameterizations.stretched`);
    rotation by up to 0.1 degrees, blur of 1 ... 2 pixels, brightness by 0.2, contrast and saturation by 0.8 ... 1.3,
    hue by a tenth of a turn, and a window that moves over a canvas 1.2 times as large; Adam with a rate of 0.1, 1000
    steps, a snapshot every 50; the objective is the sum of absolute activations. Its pictures: layer "inception3a" as a
    whole, its channels 0, 20, 45, 50, and the logit 277 ("fc"; red fox).

    What is done otherwise, because the source's way is a defect: transforms do not pile up in the picture from step to
    step; the picture reaches the network normalised as its weights want it. Because an input here has one size: the
    window does not walk (with steps of 20 pixels, so that two in a row have little in common) but is drawn anew, and
    what comes in from outside is the edge, held. Brightness is added, not multiplied. The sum is a mean, which Adam
    does not notice, and activations are not made absolute: those behind a ReLU are.

    Args:
      network: a classifier of photographs, such as `networks.importers.torchvision` brings in.
      layer: layer name; for a class the dense layer of the logits.
      key: a JAX key.
      channels: channel indices, one lane each; None for all.
      whole_layer: the whole layer instead: one lane.
      steps: 1000 in the source; 3000, 5000 and 10,000 for its earlier pictures.
      learning_rate: of Adam (the source's eta).
      **settings: further arguments of `visualize_batch`.
    """
    side = min(network.input.shape[:2])
    moves = (
        transforms.rotate(0.1),
        transforms.blur(1.0, 2.0),
        transforms.brightness(0.2),
        transforms.contrast(0.8, 1.3),
        *((transforms.saturation(0.8, 1.3), transforms.hue(0.1)) if network.input.shape[-1] == 3 else ()),
        transforms.jitter(max(1, int(round(0.1 * side))), fill="edge"),
    )
    objective = objectives.layer(layer, power=1) if whole_layer else objectives.channel(layer, channels)
    defaults: dict[str, Any] = {
        "parameterization": parameterizations.stretched(),
        "transforms": moves,
        "optimizer": optimizers.adam(learning_rate),
        "steps": steps,
        "polish": 0.0,
        "snapshots": tuple(range(0, steps + 1, 50)),
    }
    return visualize_batch(network, objective, key=key, **{**defaults, **settings})


def lucid(
    network: Network,
    layer: str,
    *,
    key: jax.Array,
    channels: objectives.Units = None,
    neuron: bool = False,
    steps: int = 512,
    learning_rate: float = 0.05,
    **settings: Any,
) -> Visualization:
    """Lucid's standard settings (tensorflow/lucid, `optvis/render.py`, `transform.py`), many channels at once.

    A decorrelated Fourier image through a sigmoid; a border of 12 pixels of grey, jitter by 8, scale 0.9 ... 1.1,
    rotation by up to 10 degrees, jitter by 4; Adam with a rate of 0.05, 512 steps, all of them under transforms.

    What is done otherwise: the border lies over the picture and not around it, since an input has one size; scale and
    angle are uniform and not drawn from a list (Lucid's angles have 0 five times more often); a picture smaller than 96
    pixels, on which these moves would leave little, has them in proportion.

    Args:
      network: a classifier of photographs.
      layer: layer name; for a class the dense layer of the logits.
      key: a JAX key.
      channels: channel indices, one lane each; None for all.
      neuron: the middle neuron of each channel instead of its mean.
      steps: 512.
      learning_rate: of Adam.
      **settings: further arguments of `visualize_batch`.
    """
    share = min(1.0, min(network.input.shape[:2]) / 96)

    def pixels(count: int) -> int:
        return max(1, int(round(share * count)))

    moves = (
        transforms.padding(pixels(12)),
        transforms.jitter(pixels(8)),
        transforms.scale(0.9, 1.1),
        transforms.rotate(10.0),
        transforms.jitter(pixels(4)),
    )
    objective = objectives.neuron(layer, channels) if neuron else objectives.channel(layer, channels)
    defaults: dict[str, Any] = {
        "parameterization": parameterizations.fourier(),
        "transforms": moves,
        "optimizer": optimizers.adam(learning_rate),
        "steps": steps,
        "polish": 0.0,
    }
    return visualize_batch(network, objective, key=key, **{**defaults, **settings})
