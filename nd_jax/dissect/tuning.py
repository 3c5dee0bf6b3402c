"""Tuning curves: how strongly each unit answers to pure tones, over their pitch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import taps
from nd_jax.dissect.sound_bank import LEVEL_DB, reach
from nd_jax.network import Network

_BATCH = 16


@dataclasses.dataclass(frozen=True, eq=False)
class Tuning:
    """What `tuning` found.

    Attributes:
      frequencies: (tones,) in Hz, even in octaves.
      responses: {layer: (units, tones) float32}, mean over positions.
    """

    frequencies: np.ndarray
    responses: dict[str, np.ndarray]


def tuning(network: Network, layers: Sequence[str], *, tones: int = 48) -> Tuning:
    """Plays pure tones of -20 dBFS, as long as the network hears, and reads the mean activation of every unit.

    Args:
      network: a network that takes sound.
      layers: layer names.
      tones: how many, from the lowest to the highest frequency that the network's input tells apart.

    Raises:
      LayerError: an unknown layer.
      ValueError: a network that takes no sound.
    """
    domain: Any = network.input
    lowest, highest = reach(domain)
    for layer in layers:
        taps.layer_shape(network, layer)
    frequencies = np.geomspace(lowest, highest, tones)
    time = np.arange(domain.samples) / domain.sample_rate
    waves = (10 ** (LEVEL_DB / 20) * np.sin(2 * np.pi * frequencies[:, None] * time)).astype(np.float32)
    found: dict[str, list[np.ndarray]] = {layer: [] for layer in layers}
    for start in range(0, tones, _BATCH):
        part = jnp.asarray(waves[np.resize(np.arange(start, min(start + _BATCH, tones)), _BATCH)])
        for layer, value in taps.read(network, jax.jit(domain.from_wave)(part), layers).items():
            means = np.asarray(value, np.float32).mean(axis=tuple(range(1, value.ndim - 1)))
            found[layer].append(means[: tones - start])
    return Tuning(frequencies, {layer: np.concatenate(parts).T for layer, parts in found.items()})
