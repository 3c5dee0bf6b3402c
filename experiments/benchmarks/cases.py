"""Maximisations that the benchmarks run on both sides, ours and PyTorch's."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import nd_jax as nd
from nd_jax.visualize import optimizers


@dataclasses.dataclass(frozen=True)
class Case:
    """One maximisation that both sides run: channels of a layer of a network, from given starts.

    Attributes:
      network: ours.
      layer: whose channels.
      units: which.
      steps: updates.
      recipe: a `torch_peers.Recipe`, as a dict.
    """

    network: nd.Network
    layer: str
    units: tuple[int, ...]
    steps: int
    recipe: dict[str, Any]

    def starts(self) -> np.ndarray:
        """(units, height, width, channels): the same pixels for all contenders."""
        shape = (len(self.units), *self.network.input.shape)
        return np.asarray(0.01 * jax.random.normal(jax.random.key(1), shape), np.float32)

    def run(self, steps: int | None = None) -> nd.Visualization:
        """Ours."""
        recipe = self.recipe
        kind = optimizers.exact_adam_on_sums if recipe["sums"] else optimizers.exact_adam
        objective = nd.objectives.channel(self.layer, self.units, power=recipe["power"]) * recipe["scale"]
        return nd.visualize_batch(
            self.network,
            objective,
            key=jax.random.key(0),
            # In the middle, where a sigmoid of nothing is: a spectrogram would start nearer to silence.
            parameterization=nd.parameterizations.pixels(bounds="sigmoid", start=0.5)
            if recipe["bounds"]
            else nd.parameterizations.pixels(bounds="none"),
            transforms=(),
            optimizer=kind(recipe["learning_rate"]),
            steps=self.steps if steps is None else steps,
            snapshots=0,
            start=self.starts(),
            restarts=0,
            progress=False,
        )

    def warm(self) -> float:
        """Compiles; returns the seconds that it took."""
        began = time.perf_counter()
        self.run(1 if jax.default_backend() == "cpu" else self.steps)
        return time.perf_counter() - began


SOURCE = {"power": 2, "scale": 1 / 128, "learning_rate": 1e-3, "sums": True, "bounds": None}
PLAIN = {"power": 1, "scale": 1.0, "learning_rate": 0.05, "sums": False, "bounds": (0.0, 1.0)}


def random_network(
    family: str, shape: tuple[int, int, int], low: float, config: dict[str, Any] | None = None
) -> nd.Network:
    """A network with random weights: speed does not depend on them."""
    module = nd.networks.build(family, config or {})
    like = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *shape)))
    draws = np.random.default_rng(0)

    def filled(path: Any, leaf: Any) -> np.ndarray:
        name = path[-1].key
        if name in ("scale", "var"):
            return np.ones(leaf.shape, np.float32)
        if name != "kernel":
            return np.zeros(leaf.shape, np.float32)
        # As wide as the layer's inputs allow (He et al. 2015); compiling an initialisation takes longer than drawing.
        return draws.normal(0, (2 / np.prod(leaf.shape[:-1])) ** 0.5, leaf.shape).astype(np.float32)

    variables = jax.tree_util.tree_map_with_path(filled, like)
    return nd.Network(module, variables, input=nd.domain.Image(shape, low, 1.0), apply_kwargs={"train": False})


def discriminator_case(tiny: bool = False) -> Case:
    """The channels of the second convolution of Neural Dissection's discriminator, 300 steps of its own recipe."""
    network = random_network("dcgan_discriminator", (28, 28, 1), -1.0)
    return Case(network, "conv2", tuple(range(8 if tiny else 128)), 3 if tiny else 300, SOURCE)


def mel_case(tiny: bool = False) -> Case:
    """32 channels of the CNN-mel's 128 -> 256 convolution, 16 steps."""
    network = random_network("cnn_mel", (16, 16, 1) if tiny else (80, 160, 1), 0.0, {"features": 4} if tiny else None)
    return Case(network, "block2/conv", tuple(range(8 if tiny else 32)), 2 if tiny else 16, PLAIN)


def googlenet_case(tiny: bool = False) -> Case:
    """Channels of GoogLeNet's inception3a at 224 x 224 (as in torchvision and Lucid), 8 steps."""
    settings = {"stem": [8, 8, 16], "blocks": [[4, 4, 8, 4, 4, 4]] * 9, "classes": 4} if tiny else {"classes": 8}
    network = random_network("googlenet", (64, 64, 3) if tiny else (224, 224, 3), 0.0, settings)
    return Case(network, "inception3a", tuple(range(8)), 2 if tiny else 8, PLAIN)
