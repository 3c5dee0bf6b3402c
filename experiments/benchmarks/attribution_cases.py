"""Occlusion that `benchmark_attribution.py` runs on both sides."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import nd_jax as nd

NETWORK, TARGET = "esc10", 0
# Sizes of a batch that the network's own throughput is the best of.
BATCHES = (8, 16, 32, 64)
# Clips that go through it for that.
PASSES = 512


@dataclasses.dataclass(frozen=True)
class AttributionCase:
    """Every window of some clips, the logit of one class.

    Attributes:
      clips: how many.
      seconds: of a clip.
      window, stride: in bands, frames and channels.
    """

    clips: int
    seconds: float
    window: tuple[int, int, int]
    stride: tuple[int, int, int]

    @property
    def network(self) -> nd.Network:
        """The shipped network for clips of that length: it pools over time, whatever the number of frames."""
        network = nd.load(NETWORK)
        return dataclasses.replace(
            network, input=dataclasses.replace(network.input, frames=int(self.seconds / 0.02) + 1)
        )

    @property
    def x(self) -> np.ndarray:
        """Levels drawn at random, (clips, bands, frames, 1)."""
        shape = (self.clips, *self.network.input.shape)
        return np.random.default_rng(0).uniform(0.0, 1.0, shape).astype(np.float32)

    @property
    def windows(self) -> int:
        """Of one clip."""
        return len(nd.attribute.grid(self.network.input, window=self.window, stride=self.stride))

    @property
    def operations(self) -> float:
        """Floating-point operations of the network on one clip, as XLA counts them."""
        network = self.network
        shape = (1, *network.input.shape)
        return float(jax.jit(lambda x: network(x)).lower(np.zeros(shape, np.float32)).cost_analysis()["flops"])


def cases(tiny: bool = False) -> dict[str, AttributionCase]:
    """By name: one clip of five seconds and sixteen, small windows; and large ones."""
    if tiny:
        return {
            "one": AttributionCase(1, 0.6, (16, 8, 1), (16, 8, 1)),
            "many": AttributionCase(2, 0.6, (32, 8, 1), (32, 8, 1)),
        }
    small = {"window": (4, 4, 1), "stride": (4, 2, 1)}
    return {
        "one": AttributionCase(1, 5.0, **small),
        "many": AttributionCase(16, 5.0, **small),
        "large": AttributionCase(1, 5.0, (16, 25, 1), (2, 3, 1)),
    }


def ours(case: AttributionCase) -> dict[str, Callable[[], Any]]:
    """Ours by name: `PASSES` forward passes at every size of a batch, and occlusion both ways."""
    network, x = case.network, case.x

    def passes(size: int) -> None:
        batch = jax.device_put(np.resize(x, (size, *x.shape[1:])))
        for _ in range(PASSES // size):
            found = network(batch)
        found.block_until_ready()

    def occluded(recompute: bool) -> np.ndarray:
        return nd.attribute.occlusion(
            network, x, TARGET, window=case.window, stride=case.stride, baseline=0.0, recompute=recompute
        ).values

    return {
        **{f"forward {size}": (lambda size=size: passes(size)) for size in BATCHES},  # type: ignore[misc]
        "plain": lambda: occluded(False),
        "recomputed": lambda: occluded(True),
    }
