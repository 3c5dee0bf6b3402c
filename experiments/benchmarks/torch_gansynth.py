"""The other side of experiments/benchmark_gansynth.py: GANSynth as it is written plainly in PyTorch, with our weights.

Channels first, `nn.functional.conv2d`, `interpolate` and `avg_pool2d`, Adam of torch.optim, and
`autograd.grad(create_graph=True)` for the gradient penalty; the way from a picture to sound with dense mel matrices,
`torch.fft.irfft` and `fold`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from nd_jax.audio.mel_if import EPSILON, MelIF, mel_back_matrix
from nd_jax.networks import gansynth

Draws = Mapping[str, torch.Tensor]


class _Player(nn.Module):
    """Parameters by our names; kernels (out, in, height, width)."""

    def __init__(self, settings: Any, variables: Any):
        super().__init__()
        self.settings = settings
        flat = jax.tree_util.tree_flatten_with_path(jax.device_get(variables["params"]))[0]
        for path, leaf in flat:
            name = ".".join(str(part.key) for part in path).replace(".", "_")
            order = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[leaf.ndim]
            self.register_parameter(name, nn.Parameter(torch.from_numpy(leaf.transpose(order).copy())))
        self.gain, self.offset = (
            torch.tensor(values, dtype=torch.float32)[None, :, None, None]
            for values in (settings.gain, settings.offset)
        )

    def gradients(self) -> dict[str, np.ndarray]:
        """By our names, in our order of axes."""
        orders = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
        return {
            name: values.grad.numpy().transpose(orders[values.ndim])
            for name, values in self.named_parameters()
            if values.grad is not None
        }

    def conv(self, x: torch.Tensor, name: str, padding: Any = 0, slope: float = 0.0) -> torch.Tensor:
        kernel = getattr(self, f"{name}_kernel")
        scale = math.sqrt(2.0 / ((1.0 + slope**2) * kernel[0].numel()))
        return functional.conv2d(x, kernel * scale, getattr(self, f"{name}_bias"), padding=padding)

    def dense(self, x: torch.Tensor, name: str) -> torch.Tensor:
        kernel = getattr(self, f"{name}_kernel")
        return functional.linear(x, kernel * math.sqrt(1.0 / kernel.shape[1]), getattr(self, f"{name}_bias"))

    def relu(self, x: torch.Tensor) -> torch.Tensor:
        return functional.leaky_relu(x, self.settings.slope)


class Generator(_Player):
    """All blocks grown: ((batch, latent), (batch,) classes) -> (batch, channels, frames, bands)."""

    def forward(self, z: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        settings = self.settings
        x = torch.cat([z, functional.one_hot(label, settings.classes).float()], dim=1)
        x = _normed(x)[:, :, None, None]
        for block in range(1, settings.blocks + 1):
            if block > 1:
                x = functional.interpolate(x, scale_factor=2, mode="nearest")
            around = tuple(size - 1 for size in settings.start) if block == 1 else 1
            x = _normed(self.relu(self.conv(x, f"block{block}_conv0", around)))
            x = _normed(self.relu(self.conv(x, f"block{block}_conv1", 1)))
        x = torch.tanh(self.conv(x, f"to_rgb{settings.blocks}_conv", slope=1.0))
        return (x - self.offset) / self.gain


class Discriminator(_Player):
    """All blocks grown: (batch, channels, frames, bands) -> scores (batch,), logits (batch, classes)."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        settings = self.settings
        x = (self.gain * x + self.offset).clamp(-1.0, 1.0)
        x = self.relu(self.conv(x, f"from_rgb{settings.blocks}_conv"))
        for block in range(settings.blocks, 1, -1):
            x = self.relu(self.conv(x, f"block{block}_conv0", 1))
            x = functional.avg_pool2d(self.relu(self.conv(x, f"block{block}_conv1", 1)), 2)
        # TensorFlow's moments have no slope of a slope through the mean.
        spread = (x - x.mean(dim=0, keepdim=True).detach()).square().mean(dim=0).add(1e-6).sqrt().mean()
        x = torch.cat([x, spread.expand(len(x), 1, *x.shape[2:])], dim=1)
        x = self.relu(self.conv(x, "block1_conv0", 1))
        x = self.relu(self.conv(x, "block1_conv1")).flatten(1)
        return self.dense(x, "logits")[:, 0], self.dense(x, "pitch")


def _normed(x: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


class Sound(nn.Module):
    """Mel-IF pictures (batch, 2, frames, bands) -> waves (batch, samples), as `MelIF.inverse`."""

    def __init__(self, transform: MelIF):
        super().__init__()
        self.transform = transform
        back = mel_back_matrix(transform.n_fft // 2, transform.bins, transform.sample_rate)
        self.back = torch.from_numpy(back.astype(np.float32))
        hop = transform.n_fft // 4 if transform.hop_length is None else transform.hop_length
        hann = np.hanning(transform.n_fft + 1)[:-1]
        squares = sum(np.roll(hann**2, hop * turn) for turn in range(-(-transform.n_fft // hop)))
        self.hop, self.window = hop, torch.from_numpy((hann / squares).astype(np.float32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        power = x[:, 0].exp() @ self.back
        phase = torch.cumsum(torch.pi * (x[:, 1] @ self.back), dim=1)
        spectrum = torch.polar((power + EPSILON).sqrt(), phase)
        frames = torch.fft.irfft(functional.pad(spectrum, (1, 0)), self.transform.n_fft) * self.window
        length = self.hop * (frames.shape[1] - 1) + self.transform.n_fft
        size = (1, self.transform.n_fft)
        wave = functional.fold(frames.transpose(1, 2), (1, length), size, stride=(1, self.hop))
        return wave[:, 0, 0, self.transform.padding :]


class Training:
    """One step: the discriminator's update with gradient penalty, then the generator's, as GANSynth trains.

    Args:
      players: our settings of both, all blocks grown.
      variables: and their weights.
      settings: `nd_jax.training.gan.Settings`.
    """

    def __init__(self, players: tuple[gansynth.Generator, gansynth.Discriminator], variables: Any, settings: Any):
        self.settings = settings
        self.generator = Generator(players[0], variables[0])
        self.discriminator = Discriminator(players[1], variables[1])
        betas = (settings.beta1, settings.beta2)
        self.of_generator = torch.optim.Adam(self.generator.parameters(), settings.generator_lr, betas)
        self.of_discriminator = torch.optim.Adam(self.discriminator.parameters(), settings.discriminator_lr, betas)

    def discriminator_loss(self, draws: Draws) -> torch.Tensor:
        """Of {"real", "label", "z", "asked", "share" (batch,)}."""
        settings, real = self.settings, draws["real"]
        with torch.no_grad():
            fake = self.generator(draws["z"], draws["asked"])
        score, logits = self.discriminator(real)
        loss = self.discriminator(fake)[0].mean() - score.mean() + settings.drift * score.square().mean()
        share = draws["share"][:, None, None, None]
        mixed = (share * real + (1 - share) * fake).requires_grad_()
        slope = torch.autograd.grad(self.discriminator(mixed)[0].sum(), mixed, create_graph=True)[0]
        loss = loss + settings.penalty_weight * ((slope.flatten(1).norm(dim=1) - 1) ** 2).mean()
        return loss + settings.class_weight * functional.cross_entropy(logits, draws["label"])

    def generator_loss(self, draws: Draws) -> torch.Tensor:
        """Of {"z", "asked"}."""
        score, logits = self.discriminator(self.generator(draws["z"], draws["asked"]))
        return self.settings.class_weight * functional.cross_entropy(logits, draws["asked"]) - score.mean()

    def gradients(self, draws: Draws) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Of generator and discriminator at the same weights; see `discriminator_loss` for the draws."""
        self.generator_loss(draws).backward()
        of_generator = self.generator.gradients()
        self.discriminator.zero_grad()
        self.discriminator_loss(draws).backward()
        return of_generator, self.discriminator.gradients()

    def step(self, draws: Draws) -> None:
        """Both updates."""
        self.of_discriminator.zero_grad()
        self.discriminator_loss(draws).backward()
        self.of_discriminator.step()
        self.of_generator.zero_grad()
        self.discriminator.requires_grad_(False)
        self.generator_loss(draws).backward()
        self.discriminator.requires_grad_(True)
        self.of_generator.step()


def tensors(draws: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Our arrays in torch; pictures (batch, frames, bands, channels) get their channels first."""
    found = {}
    for name, values in draws.items():
        array = np.asarray(values)
        array = np.ascontiguousarray(np.moveaxis(array, -1, 1)) if array.ndim == 4 else array
        found[name] = torch.from_numpy(array.astype(np.int64) if array.dtype.kind == "i" else array.copy())
    return found
