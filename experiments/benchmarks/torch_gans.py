"""The other side of experiments/benchmark_train.py: the same networks and the same steps in eager PyTorch.

Written as PyTorch users write it: modules of torch.nn, Adam of torch.optim, `autograd.grad(create_graph=True)` for the
gradient penalty. The generator's examples of the discriminator's update are detached, the DCGAN's are used twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from nd_jax.experiments.benchmarks.gan_cases import GanCase
from nd_jax.networks import dcgan, mel_dcgan, wavegan


class _View(nn.Module):
    def __init__(self, *shape: int):
        super().__init__()
        self.shape = shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(-1, *self.shape)


class _Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3))


class _PhaseShuffle(nn.Module):
    """A random shift of every example, with reflection at the ends."""

    def __init__(self, radius: int):
        super().__init__()
        self.radius = radius

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x
        padded = nn.functional.pad(x, (self.radius, self.radius), mode="reflect")
        begin = torch.randint(0, 2 * self.radius + 1, (len(x), 1, 1), device=x.device)
        places = begin + torch.arange(x.shape[2], device=x.device)
        return torch.gather(padded, 2, places.expand(-1, x.shape[1], -1))


def _dcgan_generator(module: dcgan.Generator) -> nn.Module:
    h = module.hidden
    return nn.Sequential(
        nn.Linear(module.latent, 7 * 7 * 4 * h, bias=False),
        nn.BatchNorm1d(7 * 7 * 4 * h),
        nn.LeakyReLU(module.slope),
        _View(4 * h, 7, 7),
        nn.ConvTranspose2d(4 * h, 2 * h, 5, 1, 2, bias=False),
        nn.BatchNorm2d(2 * h),
        nn.LeakyReLU(module.slope),
        nn.ConvTranspose2d(2 * h, h, 5, 2, 2, 1, bias=False),
        nn.BatchNorm2d(h),
        nn.LeakyReLU(module.slope),
        nn.ConvTranspose2d(h, 1, 5, 2, 2, 1, bias=False),
        nn.Tanh(),
    )


def _dcgan_discriminator(module: dcgan.Discriminator) -> nn.Module:
    h = module.hidden
    layers: list[nn.Module] = []
    for before, after in ((1, h), (h, 2 * h)):
        layers += [
            nn.Conv2d(before, after, 5, 2, bias=False),
            nn.BatchNorm2d(after),
            nn.LeakyReLU(module.slope),
            nn.Dropout(module.dropout),
        ]
    layers += [nn.Flatten(), nn.Linear(2 * h * 16, 1, bias=False)]
    return nn.Sequential(*layers, *([nn.Sigmoid()] if module.sigmoid else []))


def _wavegan_generator(module: wavegan.Generator) -> nn.Module:
    depth = 2 ** (module.layers - 1) * module.dim
    start = module.samples // 4**module.layers
    layers: list[nn.Module] = [nn.Linear(module.latent, start * depth), _View(depth, start), nn.ReLU()]
    for index in range(module.layers):
        after = 1 if index == module.layers - 1 else depth // 2
        # 25 taps at a distance of 4: 11 outputs fall off, 10 of them before the first input's place.
        layers += [
            nn.ConvTranspose1d(depth, after, module.kernel, 4, 11, 1),
            nn.Tanh() if after == 1 else nn.ReLU(),
        ]
        depth = after
    return nn.Sequential(*layers)


def _wavegan_discriminator(module: wavegan.Discriminator, samples: int) -> nn.Module:
    layers: list[nn.Module] = []
    before = 1
    for index in range(module.layers):
        after = module.dim * 2**index
        layers += [nn.Conv1d(before, after, module.kernel, 4, 11), nn.LeakyReLU(module.slope)]
        if index < module.layers - 1:
            layers.append(_PhaseShuffle(module.shuffle))
        before = after
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * samples // 4**module.layers, 1))


def _mel_generator(module: mel_dcgan.Generator) -> nn.Module:
    widths = (*module.widths, 1)
    layers: list[nn.Module] = [
        _View(module.latent, 1, 1),
        nn.ConvTranspose2d(module.latent, widths[0], module.start),
        nn.BatchNorm2d(widths[0]),
        nn.LeakyReLU(module.slope),
    ]
    for index, (before, after) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        layers += [nn.ConvTranspose2d(before, after, 4, 2, 1), nn.BatchNorm2d(after)]
        if index < len(widths) - 2:
            layers.append(nn.LeakyReLU(module.slope))
    return nn.Sequential(*layers, nn.Sigmoid())


def _mel_discriminator(module: mel_dcgan.Discriminator) -> nn.Module:
    layers: list[nn.Module] = []
    before = 1
    for after in module.widths:
        layers += [nn.Conv2d(before, after, 4, 2, 1), nn.BatchNorm2d(after), nn.LeakyReLU(module.slope)]
        before = after
    return nn.Sequential(*layers, nn.Conv2d(before, 1, 1), _Mean())


def networks(case: GanCase) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator of a case, freshly initialised, on the GPU when there is one."""
    makers: dict[type, Callable[[], nn.Module]] = {
        dcgan.Generator: lambda: _dcgan_generator(case.generator),
        dcgan.Discriminator: lambda: _dcgan_discriminator(case.discriminator),
        wavegan.Generator: lambda: _wavegan_generator(case.generator),
        wavegan.Discriminator: lambda: _wavegan_discriminator(case.discriminator, case.generator.samples),
        mel_dcgan.Generator: lambda: _mel_generator(case.generator),
        mel_dcgan.Discriminator: lambda: _mel_discriminator(case.discriminator),
    }
    made = [makers[type(module)]() for module in (case.generator, case.discriminator)]
    generator, discriminator = (module.cuda() if torch.cuda.is_available() else module for module in made)
    return generator, discriminator


def step_of(case: GanCase, compiled: bool = False) -> Callable[[], None]:
    """One training step of a case in PyTorch, run to its end.

    Args:
      case: what.
      compiled: whether both networks go through torch.compile.
    """
    settings = case.settings
    generator, discriminator = networks(case)
    device = next(generator.parameters()).device
    if compiled:
        generator, discriminator = torch.compile(generator), torch.compile(discriminator)  # type: ignore[assignment]
    betas = (settings.beta1, settings.beta2)
    of_generator = torch.optim.Adam(generator.parameters(), settings.generator_lr, betas)
    of_discriminator = torch.optim.Adam(discriminator.parameters(), settings.discriminator_lr, betas)
    real = np.moveaxis(case.task.arrays["x"][: settings.batch_size], -1, 1)
    real = torch.from_numpy(np.ascontiguousarray(real)).to(device)
    count = settings.batch_size

    def make() -> torch.Tensor:
        return generator(torch.randn(count, case.generator.latent, device=device))

    def losses(fake: torch.Tensor) -> torch.Tensor:
        on_real, on_fake = discriminator(real), discriminator(fake)
        if settings.loss == "non_saturating":
            loss = nn.functional.softplus(-on_real).mean() + nn.functional.softplus(on_fake).mean()
        elif settings.loss == "wasserstein":
            loss = on_fake.mean() - on_real.mean()
        else:
            loss = ((on_real.sigmoid() - 1) ** 2).mean() + (on_fake.sigmoid() ** 2).mean()
        if settings.penalty == "gradient_penalty":
            share = torch.rand(count, *(1,) * (real.ndim - 1), device=device)
            mixed = (share * real + (1 - share) * fake).requires_grad_()
            slope = torch.autograd.grad(discriminator(mixed).sum(), mixed, create_graph=True)[0]
            loss = loss + settings.penalty_weight * ((slope.flatten(1).norm(dim=1) - 1) ** 2).mean()
        if settings.consistency:
            moved = torch.roll(real, int(torch.randint(-4, 5, ())), -1)
            loss = loss + settings.consistency * (2 * (discriminator(moved) - on_real).abs()).mean()
        return loss

    def generator_loss(fake: torch.Tensor) -> torch.Tensor:
        scores = discriminator(fake)
        if settings.loss == "non_saturating":
            return nn.functional.softplus(-scores).mean()
        return -scores.mean() if settings.loss == "wasserstein" else ((scores.sigmoid() - 1) ** 2).mean()

    def step() -> None:
        for _ in range(settings.critic_steps):
            fake = make()
            of_discriminator.zero_grad()
            losses(fake.detach()).backward()
            of_discriminator.step()
        of_generator.zero_grad()
        generator_loss(fake if settings.reuse_fakes else make()).backward()
        of_generator.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def parameters(modules: Sequence[nn.Module]) -> list[int]:
    """Number of parameters of each."""
    return [sum(values.numel() for values in module.parameters()) for module in modules]
