"""The audio CNN of the shipped classifiers in PyTorch, from the Flax variables of ours.

Input (batch, 1, bands, frames). Eval mode; `tests/experiments` holds it against ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from nd_jax.networks import audio_cnn


class AudioCNN(nn.Module):
    """`cut(layer)` is the network as far as a convolution or its one head; `hooked(layer)` the module of that layer."""

    def __init__(self, module: audio_cnn.AudioCNN, variables: Any):
        super().__init__()
        if module.pooling not in _POOLED or len(module.heads) != 1:
            raise ValueError("the PyTorch side is written for one head behind pooling over time")
        params, stats = variables["params"], variables["batch_stats"]
        layers: list[tuple[str, nn.Module]] = []
        for place, (kernel, stride) in enumerate(zip(module.kernels, module.strides, strict=True), start=1):
            block = f"block{place}"
            layers += [
                (f"{block}/conv", _Same(params[block]["conv"]["kernel"], kernel, stride)),
                (f"{block}/norm", _norm(params[block]["norm"], stats[block]["norm"])),
                (f"{block}/relu", nn.ReLU()),
            ]
        head = module.heads[0][0]
        kernel, bias = _array(params[head]["kernel"]), _array(params[head]["bias"])
        dense = nn.Linear(*kernel.shape)
        dense.weight.data, dense.bias.data = kernel.T.contiguous(), bias
        layers += [("pool", _POOLED[module.pooling]()), (head, dense)]
        self.names = [name for name, _ in layers]
        self.main = nn.Sequential(*(layer for _, layer in layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.main(x)

    def hooked(self, layer: str) -> nn.Module:
        return self.main[self.names.index(layer)]

    def cut(self, layer: str) -> Callable[[torch.Tensor], torch.Tensor]:
        return self.main[: self.names.index(layer) + 1]


class _Same(nn.Module):
    """A convolution with XLA's "SAME" padding, which for a stride of 2 is one more at the end."""

    def __init__(self, kernel: Any, size: tuple[int, int], stride: tuple[int, int]):
        super().__init__()
        weights = _array(kernel).permute(3, 2, 0, 1).contiguous()
        self.conv = nn.Conv2d(weights.shape[1], weights.shape[0], tuple(size), tuple(stride), bias=False)
        self.conv.weight.data = weights
        self.size, self.stride = tuple(size), tuple(stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        edges = []
        for length, size, stride in zip(x.shape[-2:], self.size, self.stride, strict=True):
            total = max((-(-length // stride) - 1) * stride + size - length, 0)
            edges.append((total // 2, total - total // 2))
        return self.conv(nn.functional.pad(x, (*edges[1], *edges[0])))


class _OverTime(nn.Module):
    """(batch, channels, bands, frames) -> (batch, bands * channels), band-major."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(3).transpose(1, 2).flatten(1)


class _Events(nn.Module):
    """The mean over time and then the maximum, each as `_OverTime` has it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([y.transpose(1, 2).flatten(1) for y in (x.mean(3), x.amax(3))], dim=1)


_POOLED: dict[str, type[nn.Module]] = {"frequency": _OverTime, "events": _Events}


def _norm(params: Any, stats: Any) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(len(params["scale"]))
    layer.weight.data, layer.bias.data = _array(params["scale"]), _array(params["bias"])
    layer.running_mean, layer.running_var = _array(stats["mean"]), _array(stats["var"])
    return layer


def _array(leaf: Any) -> torch.Tensor:
    return torch.tensor(np.asarray(leaf))
