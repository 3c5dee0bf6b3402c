"""Class maximisations through a generator that `benchmark_priors.py` runs on both sides."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import jax
import numpy as np

import nd_jax as nd
from nd_jax import generators
from nd_jax.visualize import classes

KEY = jax.random.key(0)


@dataclasses.dataclass(frozen=True)
class PriorCase:
    """Every class of a classifier from some seeds through a generator, with the source's loss and optimizer.

    Attributes:
      title: one line.
      network, generator: ours.
      seeds: of each class.
      steps: updates.
    """

    title: str
    network: nd.Network
    generator: nd.Network
    seeds: int
    steps: int

    @property
    def count(self) -> int:
        """Lanes."""
        return self.seeds * len(classes.class_indices(self.network))

    def run(self, steps: int | None = None) -> nd.Visualization:
        """Ours."""
        return nd.visualize.maximize_classes(
            self.network,
            self.generator,
            key=KEY,
            seeds=self.seeds,
            steps=self.steps if steps is None else steps,
            project=False,
            snapshots=0,
            progress=False,
        )

    def warm(self) -> float:
        """Compiles; returns the seconds that it took."""
        began = time.perf_counter()
        self.run(1 if jax.default_backend() == "cpu" else self.steps)
        return time.perf_counter() - began

    def starts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Latents (lanes, size), wanted classes (lanes,) and classes of the generator (lanes,), as ours has them."""
        targets = np.tile(classes.class_indices(self.network), self.seeds)
        seeds = np.repeat(np.arange(self.seeds), self.count // self.seeds)
        z = classes.starts(generators.latent_of(self.generator), KEY, seeds)
        labels = np.zeros(len(z), int)
        if generators.classes_of(self.generator):
            labels = classes.asked_classes(self.network, self.generator, targets, seeds, "target")
        return z, targets, labels

    @property
    def operations(self) -> float:
        """Floating-point operations of the two networks on one example, forward, as XLA counts them."""

        def counted(network: nd.Network, given: Any) -> float:
            return float(jax.jit(lambda x: network(x)).lower(given).cost_analysis()["flops"])

        return counted(self.generator, generators.inputs(self.generator, 0, 1)) + counted(
            self.network, np.zeros((1, *self.network.input.shape), np.float32)
        )


def prior_cases(tiny: bool = False) -> dict[str, PriorCase]:
    """By name: pictures of digits and log-mels of spoken digits, with the shipped networks."""
    seeds, steps = (1, 3) if tiny else (8, 100)
    return {
        "mnist": PriorCase(
            f"{10 * seeds} lanes of the MNIST classifier through the DCGAN, {steps} steps",
            nd.load("mnist"),
            nd.load("dcgan_mnist"),
            seeds,
            steps,
        ),
        "digits": PriorCase(
            f"{10 * seeds} lanes of the spoken-digit classifier through the conditional mel GAN, {steps} steps",
            nd.load("spoken_digits"),
            nd.load("conditional_mel_gan"),
            seeds,
            steps,
        ),
    }
