"""The other side of `benchmark_priors.py`: the same generators and classifiers in PyTorch, from our variables.

Three ways to climb, all without gradients of weights:

  source_loop     that of "Activation Maximization with a Prior in Speech Data" as its code runs, one latent after the
                  other, without its printing and plotting
  one_at_a_time   the same without what does not belong to the climb
  batched         all latents in one batch by hand
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from nd_jax.network import Network
from nd_jax.networks.audio_cnn import AudioCNN
from nd_jax.networks.dcgan import Generator as DCGAN
from nd_jax.networks.lenet import LeNet
from nd_jax.networks.mel_dcgan import Generator as MelGAN


class Pair(nn.Module):
    """A generator and a classifier: latents (n, size) and classes (n,) to logits (n, classes)."""

    def __init__(self, generator: Network, network: Network):
        super().__init__()
        makers: dict[type, Any] = {DCGAN: _DCGAN, MelGAN: _MelGAN, LeNet: _LeNet, AudioCNN: _AudioCNN}
        self.generator, self.classifier = (
            makers[type(each.module)](each.module, each.variables) for each in (generator, network)
        )
        self.values = math.prod(network.input.shape)
        self.eval().requires_grad_(False)
        if torch.cuda.is_available():
            self.cuda()

    def forward(self, z: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.classifier(self.generator(z, label))


class _DCGAN(nn.Module):
    def __init__(self, module: DCGAN, variables: Any):
        super().__init__()
        params, stats = variables["params"], variables["batch_stats"]
        h, self.slope = module.hidden, module.slope
        self.features, self.norm_features = _dense(params["features"]), _norm1(params, stats, "norm_features")
        # Ours is (row, column, channel), PyTorch's (channel, row, column).
        order = np.arange(49 * 4 * h).reshape(7, 7, 4 * h).transpose(2, 0, 1).reshape(-1)
        self.dense = _dense({"kernel": np.asarray(params["dense"]["kernel"])[:, order]})
        self.norm0 = _norm1(params, stats, "norm0", order)
        self.shape = (4 * h, 7, 7)
        self.conv1, self.norm1 = _transposed(params["conv1"], 1, 2, 0), _norm2(params, stats, "norm1")
        self.conv2, self.norm2 = _transposed(params["conv2"], 2, 2, 1), _norm2(params, stats, "norm2")
        self.conv3 = _transposed(params["conv3"], 2, 2, 1)

    def forward(self, z: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        def relu(x: torch.Tensor) -> torch.Tensor:
            return nn.functional.leaky_relu(x, self.slope)

        x = relu(self.norm_features(self.features(z)))
        x = relu(self.norm0(self.dense(x))).view(-1, *self.shape)
        x = relu(self.norm1(self.conv1(x)))
        x = relu(self.norm2(self.conv2(x)))
        return torch.tanh(self.conv3(x))


class _ClassNorm(nn.Module):
    def __init__(self, params: Any, stats: Any):
        super().__init__()
        for name, value in {**params, **stats["standard"]}.items():
            self.register_buffer(name, _array(value))

    def forward(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        rest = (1,) * (x.ndim - 2)
        mean, var = (value.view(1, -1, *rest) for value in (self.mean, self.var))
        scale, bias = (table[label].view(len(x), -1, *rest) for table in (self.scale, self.bias))
        return (x - mean) * torch.rsqrt(var + 1e-5) * scale + bias


class _MelGAN(nn.Module):
    """With classes in its norms, a dense layer behind the latent and no norm at the end, as the shipped one."""

    def __init__(self, module: MelGAN, variables: Any):
        super().__init__()
        params, stats = variables["params"], variables["batch_stats"]
        self.slope = module.slope
        self.features = _dense(params["features"])
        self.norm_features = _ClassNorm(params["norm_features"], stats["norm_features"])
        layers = [_transposed(params["conv1"], 1, 0, 0)]
        layers += [_transposed(params[f"conv{index}"], 2, 1, 0) for index in range(2, len(module.widths) + 2)]
        self.layers = nn.ModuleList(layers)
        self.norms = nn.ModuleList(
            _ClassNorm(params[f"norm{index}"], stats[f"norm{index}"]) for index in range(1, len(module.widths) + 1)
        )

    def forward(self, z: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        x = nn.functional.leaky_relu(self.norm_features(self.features(z), label), self.slope)[:, :, None, None]
        for layer, norm in zip(self.layers, self.norms, strict=False):
            x = nn.functional.leaky_relu(norm(layer(x), label), self.slope)
        return torch.sigmoid(self.layers[-1](x))


class _LeNet(nn.Module):
    def __init__(self, module: LeNet, variables: Any):
        super().__init__()
        params = variables["params"]
        self.conv1, self.conv2 = _conv(params["conv1"]), _conv(params["conv2"])
        kernel = np.asarray(params["dense1"]["kernel"])
        side = math.isqrt(kernel.shape[0] // module.features[1])
        order = np.arange(len(kernel)).reshape(side, side, -1).transpose(2, 0, 1).reshape(-1)
        self.dense1 = _dense({**params["dense1"], "kernel": kernel[order]})
        self.dense2, self.dense3 = _dense(params["dense2"]), _dense(params["dense3"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in (self.conv1, self.conv2):
            x = nn.functional.max_pool2d(torch.relu(layer(x)), 2)
        x = torch.relu(self.dense1(x.flatten(1)))
        return self.dense3(torch.relu(self.dense2(x)))


class _AudioCNN(nn.Module):
    """With one head and a mean over time, as the shipped one."""

    def __init__(self, module: AudioCNN, variables: Any):
        super().__init__()
        params, stats = variables["params"], variables["batch_stats"]
        names = [f"block{index + 1}" for index in range(len(module.features))]
        self.convs = nn.ModuleList(
            _conv(params[name]["conv"], stride) for name, stride in zip(names, module.strides, strict=True)
        )
        self.norms = nn.ModuleList(_norm2(params[name], stats[name], "norm") for name in names)
        self.head = _dense(params[module.heads[0][0]])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer, norm in zip(self.convs, self.norms, strict=True):
            pads: list[int] = []
            for size, kernel, stride in zip(x.shape[:1:-1], layer.kernel_size[::-1], layer.stride[::-1], strict=True):
                missing = max((-(-size // stride) - 1) * stride + kernel - size, 0)
                pads += [missing // 2, missing - missing // 2]
            x = torch.relu(norm(layer(nn.functional.pad(x, pads))))
        return self.head(x.mean(3).transpose(1, 2).flatten(1))


def _array(leaf: Any) -> torch.Tensor:
    return torch.tensor(np.asarray(leaf))


def _dense(params: Any) -> nn.Linear:
    kernel = _array(params["kernel"])
    layer = nn.Linear(*kernel.shape, bias="bias" in params)
    layer.weight.data = kernel.T.contiguous()
    if "bias" in params:
        layer.bias.data = _array(params["bias"])
    return layer


def _conv(params: Any, stride: Sequence[int] = (1, 1)) -> nn.Conv2d:
    kernel = _array(params["kernel"]).permute(3, 2, 0, 1).contiguous()
    layer = nn.Conv2d(*kernel.shape[1::-1], tuple(kernel.shape[2:]), tuple(stride), bias="bias" in params)
    layer.weight.data = kernel
    if layer.bias is not None:
        layer.bias.data = _array(params["bias"])
    return layer


def _transposed(params: Any, stride: int, padding: int, output_padding: int) -> nn.ConvTranspose2d:
    kernel = _array(params["kernel"]).permute(2, 3, 0, 1).contiguous()
    layer = nn.ConvTranspose2d(
        *kernel.shape[:2], tuple(kernel.shape[2:]), stride, padding, output_padding, bias="bias" in params
    )
    layer.weight.data = kernel
    if layer.bias is not None:
        layer.bias.data = _array(params["bias"])
    return layer


def _filled(layer: Any, params: Any, stats: Any, order: np.ndarray | None = None) -> Any:
    values = (params["scale"], params["bias"], stats["mean"], stats["var"])
    rows = [_array(np.asarray(value) if order is None else np.asarray(value)[order]) for value in values]
    layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var = rows
    return layer


def _norm1(params: Any, stats: Any, name: str, order: np.ndarray | None = None) -> nn.BatchNorm1d:
    return _filled(nn.BatchNorm1d(len(params[name]["scale"])), params[name], stats[name], order)


def _norm2(params: Any, stats: Any, name: str) -> nn.BatchNorm2d:
    return _filled(nn.BatchNorm2d(len(params[name]["scale"])), params[name], stats[name])


# --- ways to maximise -------------------------------------------------------------------------------------------------


def batched(pair: Pair, z: np.ndarray, targets: np.ndarray, labels: np.ndarray, steps: int) -> np.ndarray:
    """The source's loss and its hand-written Adam on a batch of latents; returns the last margins, (n,)."""
    device = next(pair.buffers()).device
    free = torch.tensor(z, device=device, requires_grad=True)
    wanted, label = (torch.as_tensor(each, device=device) for each in (targets, labels))
    mean, square = torch.zeros_like(free), torch.zeros_like(free)
    for step in range(steps):
        loss = -_margins(pair, free, wanted, label).sum() + 100.0 * (free**2).sum() / pair.values
        (gradient,) = torch.autograd.grad(loss, free)
        with torch.no_grad():
            mean = 0.9 * mean + 0.1 * gradient
            square = 0.999 * square + 0.001 * gradient**2
            free -= 0.01 * 0.99**step * (mean / 0.1) / (torch.sqrt(square / 0.001) + 1e-8)
    with torch.no_grad():
        return _margins(pair, free, wanted, label).cpu().numpy()


def one_at_a_time(pair: Pair, z: np.ndarray, targets: np.ndarray, labels: np.ndarray, steps: int) -> np.ndarray:
    """`batched`, one latent after the other."""
    rows = (slice(index, index + 1) for index in range(len(z)))
    return np.concatenate([batched(pair, z[row], targets[row], labels[row], steps) for row in rows])


def source_loop(pair: Pair, z: np.ndarray, targets: np.ndarray, labels: np.ndarray, steps: int) -> np.ndarray:
    """As the source's code runs.

    At every step the classifier is asked again for its probabilities, these and the loss
    are brought to the host, and the graph is kept; returns the last margins, (n,).
    """
    device, found = next(pair.buffers()).device, []
    for row in range(len(z)):
        free = torch.tensor(z[row : row + 1], device=device, requires_grad=True)
        wanted, label = (torch.as_tensor(each[row : row + 1], device=device) for each in (targets, labels))
        mean: Any = 0
        square: Any = 0
        kept = []
        for step in range(steps):
            made = pair.generator(free, label)
            kept.append(torch.softmax(pair.classifier(made), 1).detach().cpu().numpy())
            scores = pair.classifier(made)
            own = scores[0, wanted[0]]
            rest = (torch.sum(scores[0]) - own) / (scores.shape[1] - 1)
            loss = -own + rest + 100.0 * torch.sum(free**2) / pair.values
            gradient = torch.autograd.grad(loss, free, retain_graph=True)[0]
            mean = 0.9 * mean + 0.1 * gradient
            square = 0.999 * square + 0.001 * gradient**2
            free = free - 0.01 * 0.99**step / ((square / 0.001) ** 0.5 + 1e-8) * (mean / 0.1)
            kept.append(loss.detach().cpu().numpy())
        with torch.no_grad():
            found.append(_margins(pair, free, wanted, label).cpu().numpy())
    return np.concatenate(found)


def _margins(pair: Pair, z: torch.Tensor, wanted: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    scores = pair(z, label)
    own = scores.gather(1, wanted[:, None])[:, 0]
    return own - (scores.sum(1) - own) / (scores.shape[1] - 1)
