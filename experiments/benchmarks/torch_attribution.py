"""The other side of `benchmark_attribution.py`: Captum's Occlusion on the same network in PyTorch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from captum.attr import Occlusion

from nd_jax.experiments.benchmarks.attribution_cases import BATCHES, PASSES, TARGET, AttributionCase
from nd_jax.experiments.benchmarks.torch_audio_cnn import AudioCNN

# Inputs at once (clips of a call times `perturbations_per_eval`) that its best setting is looked for among.
_AT_ONCE = (1, 2, 4, 8, 16, 32, 64, 128)


def captum(case: AttributionCase) -> dict[str, Callable[[], Any]]:
    """Captum's by name, as `attribution_cases.ours` has ours; "captum" at the setting that "tune" found last."""
    network = case.network
    twin = AudioCNN(network.module, network.variables).eval().requires_grad_(False)
    x = torch.tensor(case.x).permute(0, 3, 1, 2).contiguous()
    if torch.cuda.is_available():
        twin, x = twin.cuda(), x.cuda()
    occlusion = Occlusion(twin)
    best = {"clips": 1, "at_once": 1}

    def passes(size: int) -> None:
        batch = x[torch.arange(size) % len(x)].contiguous()
        with torch.no_grad():
            for _ in range(PASSES // size):
                twin(batch)

    def occluded(clips: int, at_once: int, window: Sequence[int], stride: Sequence[int], most: int) -> np.ndarray:
        found = [
            occlusion.attribute(
                x[first : first + clips],
                (window[2], *window[:2]),
                strides=(stride[2], *stride[:2]),
                baselines=0.0,
                target=TARGET,
                perturbations_per_eval=max(1, at_once // clips),
            )
            for first in range(0, most, clips)
        ]
        return torch.cat(found).permute(0, 2, 3, 1).cpu().numpy()

    def tune() -> dict[str, int]:
        """All clips in one call or one call a clip, and how many windows at once: the fastest on 64 large windows."""
        large = tuple(-(-size // parts) for size, parts in zip(case.x.shape[1:], (4, 16, 1), strict=True))
        seconds: dict[tuple[int, int], float] = {}
        for clips in sorted({1, len(x)}):
            for at_once in (each for each in _AT_ONCE if each >= clips):
                times = []
                for _ in range(3):
                    began = time.perf_counter()
                    occluded(clips, at_once, large, large, clips)
                    times.append((time.perf_counter() - began) / clips)
                seconds[clips, at_once] = sorted(times)[1]
        best["clips"], best["at_once"] = min(seconds, key=lambda setting: seconds[setting])
        return {"clips": best["clips"], "perturbations_per_eval": max(1, best["at_once"] // best["clips"])}

    return {
        **{f"torch forward {size}": (lambda size=size: passes(size)) for size in BATCHES},  # type: ignore[misc]
        "tune": tune,
        "captum": lambda: occluded(**best, window=case.window, stride=case.stride, most=len(x)),
    }
