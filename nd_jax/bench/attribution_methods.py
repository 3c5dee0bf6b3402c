"""Every way to explain that `nd_jax.attribute` offers, as it comes, and ways that are wrong on purpose."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from nd_jax import attribute
from nd_jax.attribute import Attribution
from nd_jax.bench.attribution_networks import Planted

BOTH = ("frequency", "time")
BASELINES = ("mean", "band_mean", "noise", "blur", "neighbours")


@dataclasses.dataclass(frozen=True)
class Effort:
    """What methods may spend.

    Attributes:
      window: bands and frames of an occluded window; windows overlap by half in time.
      masks: of RISE.
      share: of the steps that an optimised mask takes by default.
      samples: of SmoothGrad, and points of integrated gradients.
    """

    window: tuple[int, int]
    masks: int = 500
    share: float = 1.0
    samples: int = 50


Explain = Callable[[Planted, np.ndarray, Sequence[int], Effort, jax.Array], Attribution]


@dataclasses.dataclass(frozen=True)
class Method:
    """One way to explain.

    Attributes:
      name: short and unique.
      explain: (planted, inputs (n, bands, frames, 1), a class for each, effort, key) -> an attribution.
      axes: what it can tell apart.
    """

    name: str
    explain: Explain
    axes: tuple[str, ...] = BOTH

    def __call__(
        self, planted: Planted, inputs: np.ndarray, classes: Sequence[int], effort: Effort, key: jax.Array
    ) -> np.ndarray:
        """Maps, (n, bands, frames)."""
        return np.asarray(self.explain(planted, inputs, classes, effort, key).values)[..., 0]


def methods(quick: bool = False) -> tuple[Method, ...]:
    """All of them; quick: one of each kind."""
    found = [
        Method("occlusion", _occlusion("silence")),
        Method("occlusion in time", _occlusion("silence", ("time",)), ("time",)),
        Method("occlusion in frequency", _occlusion("silence", ("frequency",)), ("frequency",)),
        Method("saliency", lambda p, x, c, e, k: attribute.saliency(p.network, x, c)),
        Method("gradient x input", lambda p, x, c, e, k: attribute.input_x_gradient(p.network, x, c)),
        Method("SmoothGrad", lambda p, x, c, e, k: attribute.smooth_grad(p.network, x, c, key=k, samples=e.samples)),
        Method(
            "integrated gradients",
            lambda p, x, c, e, k: attribute.integrated_gradients(p.network, x, c, steps=e.samples),
        ),
        Method("Grad-CAM", lambda p, x, c, e, k: attribute.grad_cam(p.network, x, c, p.layer)),
        Method("RISE", lambda p, x, c, e, k: attribute.rise(p.network, x, c, key=k, masks=e.masks)),
        Method("extremal mask", _mask("extremal", 800)),
        Method("meaningful mask", _mask("meaningful", 300)),
    ]
    if quick:
        return tuple(method for method in found if method.name in _QUICK)
    found[1:1] = [Method(f"occlusion, {name}", _occlusion(name)) for name in BASELINES]
    return tuple(found)


_QUICK = ("occlusion", "saliency", "Grad-CAM", "RISE", "extremal mask")


def _occlusion(baseline: str, axes: tuple[str, ...] = BOTH) -> Explain:
    def explain(planted: Planted, inputs: np.ndarray, classes: Any, effort: Effort, key: jax.Array) -> Attribution:
        size = inputs.shape[1:3]
        window = [step if name in axes else full for name, step, full in zip(BOTH, effort.window, size, strict=True)]
        return attribute.occlusion(
            planted.network,
            inputs,
            classes,
            window=(*window, 1),
            stride=(window[0], max(1, window[1] // 2) if "time" in axes else window[1], 1),
            baseline=baseline,
            key=key,
        )

    return explain


def _mask(method: str, steps: int) -> Explain:
    def explain(planted: Planted, inputs: np.ndarray, classes: Any, effort: Effort, key: jax.Array) -> Attribution:
        taken = max(2, round(effort.share * steps))
        return attribute.mask(planted.network, inputs, classes, method=method, steps=taken)

    return explain


Wrong = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def _shuffled(maps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.permuted(maps.reshape(len(maps), -1), axis=1).reshape(maps.shape)


def _turned(maps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return maps[:, :, ::-1]


def _neighbour(maps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.roll(maps, 1, axis=0)


def _noise(maps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=maps.shape)


def _away(maps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return -maps


WRONG: dict[str, Wrong] = {
    "wrong: values shuffled": _shuffled,
    "wrong: another clip's map": _neighbour,
    "wrong: time reversed": _turned,
    "wrong: sign turned": _away,
    "wrong: noise": _noise,
}
"""Maps of occlusion, spoilt: (maps (n, bands, frames), rng) -> maps. A bench that lets one of them pass is no bench."""
