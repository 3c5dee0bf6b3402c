"""The other side of experiments/benchmark_visualize.py: the same maximisations in PyTorch.

Networks are built from the Flax variables of ours, so that both sides climb the same function from the same start and
must end at the same scores. Three ways to do it:

  source_loop   the loop of "Neural Dissection" (pyroxenite/audio-neural-dissection), one unit at a time
  usual_loop    what most PyTorch code does: a hook, the whole forward pass, one unit at a time
  batched       all inputs in one batch by hand, the network cut after the layer, no gradients of weights
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from nd_jax.experiments.benchmarks import torch_audio_cnn, torch_googlenet
from nd_jax.networks.ast import AST
from nd_jax.networks.audio_cnn import AudioCNN
from nd_jax.networks.cnn_mel import CNNMel
from nd_jax.networks.dcgan import Discriminator
from nd_jax.networks.googlenet import GoogLeNet


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a channel is maximised: Adam on pixels, objective scale * mean(channel ** power).

    Attributes:
      power, scale: of the objective.
      learning_rate: of Adam.
      sums: Adam sees the sum of all gradients so far, as in the source's loop, which never clears them.
      bounds: (low, high) of a sigmoid through which pixels enter the network; None for pixels as they are.
    """

    power: int
    scale: float
    learning_rate: float
    sums: bool
    bounds: tuple[float, float] | None


# --- networks ---------------------------------------------------------------------------------------------------------


def network(module: Any, variables: Any) -> nn.Module:
    """The PyTorch twin of a Flax module, eval mode: DCGAN discriminator, CNN-mel, audio CNN, AST or GoogLeNet.

    Input (batch, channels, height, width). Attribute `cut(layer)` gives the same network as far as a layer,
    `hooked(layer)` the submodule whose output that layer is.
    """
    builders: dict[type, Callable[[Any, Any], nn.Module]] = {
        Discriminator: _Discriminator,
        CNNMel: _CNNMel,
        AST: _Transformer,
        AudioCNN: torch_audio_cnn.AudioCNN,
        GoogLeNet: lambda module, variables: torch_googlenet.GoogLeNet(variables),
    }
    twin = builders[type(module)](module, variables).eval()
    return twin.to("cuda") if torch.cuda.is_available() else twin


class _Discriminator(nn.Module):
    def __init__(self, module: Discriminator, variables: Any):
        super().__init__()
        params, stats = variables["params"], variables["batch_stats"]
        layers: list[tuple[str, nn.Module]] = []
        for index in (1, 2):
            layers += [
                (f"conv{index}", _conv(params[f"conv{index}"], 2)),
                (f"norm{index}", _norm(params[f"norm{index}"], stats[f"norm{index}"])),
                (f"relu{index}", nn.LeakyReLU(module.slope)),
                (f"dropout{index}", nn.Dropout(module.dropout)),
            ]
        # PyTorch flattens channels first.
        kernel = _array(params["dense"]["kernel"]).reshape(4, 4, -1, 1).permute(2, 0, 1, 3).reshape(-1, 1)
        layers += [("flat", nn.Flatten()), ("dense", _dense(kernel, None)), ("sigmoid", nn.Sigmoid())]
        self.names = [name for name, _ in layers]
        self.main = nn.Sequential(*(layer for _, layer in layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.main(x.view(-1, 1, 28, 28))

    def hooked(self, layer: str) -> nn.Module:
        return self.main[self.names.index(layer)]

    def cut(self, layer: str) -> Callable[[torch.Tensor], torch.Tensor]:
        return self.main[: self.names.index(layer) + 1]


class _CNNMel(nn.Module):
    def __init__(self, module: CNNMel, variables: Any):
        super().__init__()
        params, stats = variables["params"], variables["batch_stats"]
        layers: list[tuple[str, nn.Module]] = []
        for block in ("stem", "block1", "block2", "block3"):
            layers.append((f"{block}/conv", _conv(params[block]["conv"], 1, same=True)))
            if block != "stem":
                layers.append((f"{block}/pool", nn.MaxPool2d(2)))
            layers += [
                (f"{block}/norm", _norm(params[block]["norm"], stats[block]["norm"])),
                (f"{block}/relu", nn.ReLU()),
            ]
        head = params["head"]
        layers += [
            ("pool", nn.AdaptiveAvgPool2d(1)),
            ("flat", nn.Flatten()),
            ("head", _dense(_array(head["kernel"]), _array(head["bias"]))),
        ]
        self.names = [name for name, _ in layers]
        self.main = nn.Sequential(*(layer for _, layer in layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.main(x)

    def hooked(self, layer: str) -> nn.Module:
        return self.main[self.names.index(layer)]

    def cut(self, layer: str) -> Callable[[torch.Tensor], torch.Tensor]:
        return self.main[: self.names.index(layer) + 1]


class _Block(nn.Module):
    def __init__(self, params: Any, heads: int):
        super().__init__()
        self.heads = heads
        attention, mlp = params["attention"], params["mlp"]
        self.norm1, self.norm2 = _layer_norm(params["norm1"]), _layer_norm(params["norm2"])
        kernels = [_array(attention[name]["kernel"]) for name in ("query", "key", "value")]
        biases = [_array(attention[name]["bias"]) for name in ("query", "key", "value")]
        self.qkv = _dense(torch.cat(kernels, 1), torch.cat(biases))
        self.project = _dense(_array(attention["output"]["kernel"]), _array(attention["output"]["bias"]))
        self.hidden = _dense(_array(mlp["hidden"]["kernel"]), _array(mlp["hidden"]["bias"]))
        self.output = _dense(_array(mlp["output"]["kernel"]), _array(mlp["output"]["bias"]))

    def as_far_as_hidden(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The stream after attention, and the MLP's units before GELU (batch, tokens, hidden)."""
        batch, tokens, width = x.shape
        parts = self.qkv(self.norm1(x)).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(parts[0], parts[1], parts[2])
        x = x + self.project(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return x, self.hidden(self.norm2(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, hidden = self.as_far_as_hidden(x)
        return x + self.output(nn.functional.gelu(hidden))


class _Transformer(nn.Module):
    """The Audio Spectrogram Transformer as far as its last block; layers "block<k>/mlp/hidden"."""

    def __init__(self, module: AST, variables: Any):
        super().__init__()
        params = variables["params"]
        self.patches = _conv(params["patches"], module.strides)
        tokens = params["tokens"]
        self.front = nn.Parameter(torch.stack([_array(tokens["class_token"]), _array(tokens["distillation_token"])]))
        self.positions = nn.Parameter(_array(tokens["positions"]))
        self.stack = [_Block(params[f"block{k + 1}"], module.heads) for k in range(module.blocks)]
        self.blocks = nn.ModuleList(self.stack)

    def tokens(self, x: torch.Tensor) -> torch.Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        return torch.cat([self.front.expand(len(x), -1, -1), patches], 1) + self.positions

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.tokens(x)
        for block in self.stack:
            x = block(x)
        return x

    def cut(self, layer: str) -> Callable[[torch.Tensor], torch.Tensor]:
        index = int(layer.removeprefix("block").removesuffix("/mlp/hidden")) - 1
        last = self.stack[index]

        def run(x: torch.Tensor) -> torch.Tensor:
            x = self.tokens(x)
            for block in self.stack[:index]:
                x = block(x)
            return last.as_far_as_hidden(x)[1].transpose(1, 2)

        return run


def _array(leaf: Any) -> torch.Tensor:
    return torch.tensor(np.asarray(leaf))


def _conv(params: Any, stride: int | tuple[int, int], same: bool = False) -> nn.Conv2d:
    height, width, inputs, outputs = params["kernel"].shape
    padding = (height // 2, width // 2) if same else 0
    layer = nn.Conv2d(inputs, outputs, (height, width), stride, padding, bias="bias" in params)
    layer.weight.data = _array(params["kernel"]).permute(3, 2, 0, 1).contiguous()
    if layer.bias is not None:
        layer.bias.data = _array(params["bias"])
    return layer


def _dense(kernel: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    layer = nn.Linear(kernel.shape[0], kernel.shape[1], bias=bias is not None)
    layer.weight.data = kernel.T.contiguous()
    if bias is not None:
        layer.bias.data = bias
    return layer


def _norm(params: Any, stats: Any) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(len(params["scale"]))
    layer.weight.data, layer.bias.data = _array(params["scale"]), _array(params["bias"])
    layer.running_mean, layer.running_var = _array(stats["mean"]), _array(stats["var"])
    return layer


def _layer_norm(params: Any) -> nn.LayerNorm:
    layer = nn.LayerNorm(len(params["scale"]), eps=1e-12)
    layer.weight.data, layer.bias.data = _array(params["scale"]), _array(params["bias"])
    return layer


# --- ways to maximise -------------------------------------------------------------------------------------------------


def source_loop(
    twin: Any, layer: str, units: Sequence[int], starts: np.ndarray, steps: int, recipe: Recipe
) -> np.ndarray:
    """One unit at a time as "Neural Dissection" does it; returns the last scores, (units,).

    As there: the hook stores a global output and is never removed; the whole network runs forward; the loss is the mean
    over the whole layer of a masked square; weights want gradients, the model's are cleared and the input's are not;
    the graph is kept after each backward pass.
    """
    scores = []
    for unit, start in zip(units, starts, strict=True):
        pixels = nn.Parameter(_pictures(start[None])[0].clone())
        store: dict[str, torch.Tensor] = {}
        twin.hooked(layer).register_forward_hook(lambda module, x, y, store=store: store.update(out=y))
        optimizer = torch.optim.Adam([pixels], recipe.learning_rate)
        for _ in range(steps):
            twin.zero_grad()
            twin(pixels)
            mask = torch.zeros_like(store["out"])
            mask[0, unit] = 1
            loss = -torch.mean((mask * store["out"]) ** 2)
            loss.backward(retain_graph=True)
            optimizer.step()
        scores.append(_score(twin.cut(layer), pixels[None], [unit], recipe))
    return np.concatenate(scores)


def usual_loop(
    twin: Any, layer: str, units: Sequence[int], starts: np.ndarray, steps: int, recipe: Recipe
) -> np.ndarray:
    """One unit at a time with a hook and the whole forward pass; returns the last scores, (units,)."""
    scores = []
    for unit, start in zip(units, starts, strict=True):
        pixels = _pictures(start[None]).clone().requires_grad_()
        store: dict[str, torch.Tensor] = {}
        handle = twin.hooked(layer).register_forward_hook(lambda module, x, y, store=store: store.update(out=y))
        optimizer = torch.optim.Adam([pixels], recipe.learning_rate)
        for _ in range(steps):
            optimizer.zero_grad()
            twin(_bounded(pixels, recipe))
            loss = -recipe.scale * (store["out"][0, unit] ** recipe.power).mean()
            loss.backward()
            optimizer.step()
        handle.remove()
        scores.append(_score(twin.cut(layer), pixels, [unit], recipe))
    return np.concatenate(scores)


def batched(
    twin: Any,
    layer: str,
    units: Sequence[int],
    starts: np.ndarray,
    steps: int,
    recipe: Recipe,
    cut: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> np.ndarray:
    """All units in one batch, the network cut after the layer; returns the last scores, (units,).

    `cut` is what runs instead of `twin.cut(layer)`, for example its compiled form.
    """
    for parameter in twin.parameters():
        parameter.requires_grad_(False)
    cut = cut or twin.cut(layer)
    pixels = _pictures(starts).clone().requires_grad_()
    lanes, chosen = torch.arange(len(starts)), torch.as_tensor(list(units))
    optimizer = torch.optim.Adam([pixels], recipe.learning_rate)
    for _ in range(steps):
        if not recipe.sums:
            optimizer.zero_grad()
        activation = cut(_bounded(pixels, recipe))[lanes, chosen].reshape(len(pixels), -1)
        (-recipe.scale * (activation**recipe.power).mean(1).sum()).backward()
        optimizer.step()
    scores = _score(cut, pixels, units, recipe)
    for parameter in twin.parameters():
        parameter.requires_grad_(True)
    return scores


def _pictures(starts: np.ndarray) -> torch.Tensor:
    """(n, height, width, channels) -> (n, channels, height, width), on the GPU where there is one."""
    pictures = torch.tensor(np.asarray(starts)).permute(0, 3, 1, 2).contiguous()
    return pictures.to("cuda") if torch.cuda.is_available() else pictures


def _bounded(pixels: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    if recipe.bounds is None:
        return pixels
    low, high = recipe.bounds
    return low + (high - low) * torch.sigmoid(pixels)


@torch.no_grad()
def _score(
    cut: Callable[[torch.Tensor], torch.Tensor], pixels: torch.Tensor, units: Sequence[int], recipe: Recipe
) -> np.ndarray:
    activation = cut(_bounded(pixels, recipe))[torch.arange(len(pixels)), torch.as_tensor(list(units))].reshape(
        len(pixels), -1
    )
    return (recipe.scale * (activation**recipe.power).mean(1)).cpu().numpy()
