"""torchvision's GoogLeNet in PyTorch, from the Flax variables of ours, as far as its inception blocks.

Input (batch, 3, height, width), values as our network takes them. Written after the table in
`nd_jax/networks/googlenet.py`; `tests/experiments` holds it against ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from nd_jax.networks.googlenet import NAMES


class GoogLeNet(nn.Module):
    """Eval mode. `cut(layer)` is the network as far as a block: "conv3", "maxpool2", "inception3a"."""

    def __init__(self, variables: Any):
        super().__init__()
        params, stats = variables["params"], variables["batch_stats"]
        layers: list[tuple[str, nn.Module]] = [
            ("conv1", _block(params["conv1"], stats["conv1"], 2, 3)),
            ("maxpool1", nn.MaxPool2d(3, 2, ceil_mode=True)),
            ("conv2", _block(params["conv2"], stats["conv2"])),
            ("conv3", _block(params["conv3"], stats["conv3"], 1, 1)),
            ("maxpool2", nn.MaxPool2d(3, 2, ceil_mode=True)),
        ]
        pools = {"4a": nn.MaxPool2d(3, 2, ceil_mode=True), "5a": nn.MaxPool2d(2, 2, ceil_mode=True)}
        for place in NAMES:
            if place in pools:
                layers.append((f"maxpool{int(place[0]) - 1}", pools[place]))
            name = f"inception{place}"
            layers.append((name, _Inception(params[name], stats[name])))
        self.names = [name for name, _ in layers]
        self.main = nn.Sequential(*(layer for _, layer in layers))

    def cut(self, layer: str) -> Callable[[torch.Tensor], torch.Tensor]:
        return self.main[: self.names.index(layer) + 1]


class _Inception(nn.Module):
    def __init__(self, params: Any, stats: Any):
        super().__init__()

        def pair(name: str) -> nn.Module:
            first, second = params[name], stats[name]
            return nn.Sequential(_block(first["0"], second["0"]), _block(first["1"], second["1"], 1, 1))

        self.branches = nn.ModuleList(
            [
                _block(params["branch1"], stats["branch1"]),
                pair("branch2"),
                pair("branch3"),
                nn.Sequential(
                    nn.MaxPool2d(3, 1, 1, ceil_mode=True), _block(params["branch4"]["1"], stats["branch4"]["1"])
                ),
            ]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def _block(params: Any, stats: Any, stride: int = 1, padding: int = 0) -> nn.Module:
    height, width, inputs, outputs = params["conv"]["kernel"].shape
    conv = nn.Conv2d(inputs, outputs, (height, width), stride, padding, bias=False)
    conv.weight.data = _array(params["conv"]["kernel"]).permute(3, 2, 0, 1).contiguous()
    bn = nn.BatchNorm2d(outputs, eps=1e-3)
    bn.weight.data, bn.bias.data = _array(params["bn"]["scale"]), _array(params["bn"]["bias"])
    bn.running_mean, bn.running_var = _array(stats["bn"]["mean"]), _array(stats["bn"]["var"])
    return nn.Sequential(conv, bn, nn.ReLU())


def _array(leaf: Any) -> torch.Tensor:
    return torch.tensor(np.asarray(leaf))
