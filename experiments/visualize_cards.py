"""Trust cards for `experiments/visualize.py`: measured layer by layer, kept beside the layer's result."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

import nd_jax as nd
from nd_jax.visualize.trust import Trust

_BATCH = 64
TWIN = 8
STARTS = {"quick": 1, "full": 4}


class Judge:
    """Measures the trust card of each layer.

    Args:
      network: what is looked into.
      natural: the natural inputs, as `nd.dissect.exemplars` takes them, or None.
      mode: "none", "quick" or "full".
      seed: of the random weights.
    """

    def __init__(self, network: nd.Network, natural: Mapping[str, Any] | None, mode: str, seed: int):
        self.network, self.mode, self.seed = network, mode, seed
        self.seconds = 0.0
        self.inputs = None if natural is None or mode == "none" else natural_inputs(network.input, natural)
        if natural is None and mode != "none":
            print("no trust cards: they hold what was found against natural inputs")

    def card(self, result: nd.Visualization, folder: pathlib.Path, exemplars: Any) -> Trust | None:
        """The card of one layer's result, which stands in `folder`; that of an earlier run, where it still fits."""
        if self.inputs is None:
            return None
        began = time.perf_counter()
        card = self._kept(result, folder / "trust")
        if card is None:
            card = nd.visualize.trust.measure(
                result,
                self.inputs,
                network=self.network,
                twin=TWIN,
                starts=STARTS[self.mode],
                further_steps=max(1, result.manifest["settings"]["steps"] // 2),
                key=jax.random.key(self.seed),
                probes=None if exemplars is None else exemplars.inputs,
            )
            card.save(folder / "trust")
        self.seconds += time.perf_counter() - began
        return card

    def _kept(self, result: nd.Visualization, folder: pathlib.Path) -> Trust | None:
        try:
            card = Trust.load(folder)
        except ValueError:
            return None
        fits = card.labels == result.labels and card.count == len(self.inputs)  # type: ignore[arg-type]
        fits = fits and np.allclose(card.score, result.scores, rtol=1e-3, equal_nan=True)
        return card if fits and card.preference.shape[1] == STARTS[self.mode] else None


def natural_inputs(domain: nd.Domain, natural: Mapping[str, Any], most: int | None = None) -> np.ndarray:
    """Natural inputs as the network takes them, (n, *domain.shape); at most so many, from all over the bank."""
    bank = natural["inputs"] if "inputs" in natural else natural["waves"]
    if most is not None and len(bank) > most:
        bank = bank[np.linspace(0, len(bank) - 1, most).round().astype(int)]
    if "inputs" in natural:
        return np.asarray(bank, np.float32)
    waves = np.asarray(bank, np.float32)
    if domain.kind == "waveform":
        return waves[..., None]
    analyse = jax.jit(domain.from_wave)  # type: ignore[attr-defined]
    made = np.empty((len(waves), *domain.shape), np.float32)
    for start in range(0, len(waves), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(waves)))
        made[rows] = np.asarray(analyse(waves[np.resize(rows, _BATCH)]))[: len(rows)]
    return made
