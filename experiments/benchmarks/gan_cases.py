"""What experiments/benchmark_train.py trains: networks, settings and one batch, and our side of the race."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.domain import Domain, Image, Waveform
from nd_jax.networks import dcgan, mel_dcgan, wavegan
from nd_jax.training import gan, parallel
from nd_jax.training.gan.state import initial_state


@dataclasses.dataclass(frozen=True)
class GanCase:
    """One GAN to train on noise.

    Attributes:
      title: one line.
      generator, discriminator: Flax modules.
      domain: what is made.
      settings: with the batch size.
      goal: times as fast as PyTorch that is asked for; None where nothing is.
    """

    title: str
    generator: Any
    discriminator: Any
    domain: Domain
    settings: gan.Settings
    goal: float | None = None

    @property
    def task(self) -> gan.GanTask:
        """Two batches of noise as real examples."""
        rng = np.random.default_rng(0)
        shape = (2 * self.settings.batch_size, *self.domain.shape)
        real = rng.uniform(self.domain.low, self.domain.high, shape).astype(np.float32)
        return gan.GanTask(
            {"x": real},
            lambda key, example: example["x"],
            self.domain,
            self.generator.latent,
            augment=lambda key, x: jnp.roll(x, jax.random.randint(key, (), -4, 5), axis=-2),
        )


class Ours:
    """Our training step, compiled, with its state.

    Args:
      case: what.
      devices: over how many local devices.
      steps: of one call; more than 1 scans over them.
    """

    def __init__(self, case: GanCase, devices: int = 1, steps: int = 1):
        self.case, self.devices = case, devices
        self.run, self.state, self.batch = _program(case, devices, steps)
        began = time.perf_counter()
        self.compiled = self.run.lower(self.state, self.batch).compile()
        self.compile_seconds = time.perf_counter() - began
        self.metrics: Any = None

    def start(self) -> None:
        """Begins a call; the host does not wait."""
        self.state, self.metrics = self.run(self.state, self.batch)

    def step(self) -> None:
        """Runs a call to its end."""
        self.start()
        jax.block_until_ready(self.metrics)

    @property
    def memory(self) -> int:
        """Bytes that one step needs on a device: state, batch and temporaries."""
        found = self.compiled.memory_analysis()
        return int(found.temp_size_in_bytes + found.argument_size_in_bytes)

    @property
    def operations(self) -> float:
        """Floating-point operations of one step on one device, as XLA counts them.

        It counts what a loop repeats once, so the discriminator's further updates, which are one, are counted as the
        difference that a second one outside of a loop makes.
        """
        settings = self.case.settings
        further = max(settings.critic_steps, settings.unroll, 1) - 1
        if not further:
            return self._counted(settings)
        one, two = (dataclasses.replace(settings, critic_steps=1, unroll=unroll) for unroll in (0, 2))
        return self._counted(one) + further * (self._counted(two) - self._counted(one))

    def _counted(self, settings: gan.Settings) -> float:
        run, state, batch = _program(dataclasses.replace(self.case, settings=settings), self.devices, 1)
        return float(run.lower(state, batch).cost_analysis()["flops"])


def _program(case: GanCase, devices: int, steps: int) -> tuple[Any, Any, Any]:
    """The training step as a program, the state and the batch that it takes; `steps` scans over so many."""
    task, settings = case.task, case.settings
    chosen = jax.local_devices()[:devices]
    step = gan.make_step(gan.Gan(case.generator, case.discriminator, task, settings))
    run = parallel.data_parallel(parallel.several(step) if steps > 1 else step, chosen)
    state = parallel.replicate(initial_state(case.generator, case.discriminator, task, settings), chosen)
    rows = np.arange(settings.batch_size).reshape(devices, 1, -1)
    if not settings.same_batch:
        rows = np.repeat(rows, settings.critic_steps, axis=1)
    if steps > 1:
        rows = np.repeat(rows[:, None], steps, axis=1)
    return run, state, parallel.place({"x": task.arrays["x"][rows], "index": rows}, chosen)


def gan_cases(tiny: bool) -> dict[str, GanCase]:
    """By name: the two MNIST GANs of "Neural Dissection", WaveGAN (small and original width) and the mel GAN.

    The critics of the first WGAN-GP are the source's: sigmoid, batch normalisation, dropout, five updates on one batch.
    """
    hidden, batch = (4, 8) if tiny else (64, 256)
    image = Image((28, 28, 1), -1.0, 1.0)
    rates: dict[str, Any] = {"generator_lr": 1e-4, "discriminator_lr": 1e-4, "beta1": 0.9, "ema": 0.0}
    penalty: dict[str, Any] = {"loss": "wasserstein", "penalty": "gradient_penalty", "critic_steps": 5}
    cases = {
        "dcgan": GanCase(
            f"DCGAN on 28 x 28 images, batch {batch}, one step",
            dcgan.Generator(hidden=hidden),
            dcgan.Discriminator(hidden=hidden, sigmoid=False),
            image,
            gan.Settings(batch_size=batch, reuse_fakes=True, **rates),
            1 / 1.25,
        ),
        "wgan": GanCase(
            f"WGAN-GP on 28 x 28 images, batch {batch}, five updates of the critic and one of the generator",
            dcgan.Generator(hidden=hidden),
            dcgan.Discriminator(hidden=hidden, sigmoid=True),
            image,
            gan.Settings(batch_size=batch, same_batch=True, **penalty, **rates),
            1.0,
        ),
    }
    rates = {"generator_lr": 1e-4, "discriminator_lr": 1e-4, "beta1": 0.5, "beta2": 0.9, "ema": 0.0}
    samples, dim, batch = (1024, 2, 4) if tiny else (8192, 16, 64)
    cases["wavegan"] = GanCase(
        f"WaveGAN-GP, {samples:,} samples, dim {dim}, batch {batch}, five updates of the critic, one of the generator",
        wavegan.Generator(samples=samples, dim=dim),
        wavegan.Discriminator(dim=dim),
        Waveform(samples, 8000),
        gan.Settings(batch_size=batch, **penalty, **rates),
    )
    widths, batch = ((8, 8, 4, 4), 4) if tiny else ((512, 256, 128, 64), 32)
    start = (1, 2) if tiny else (5, 10)
    height, width = (side * 2 ** len(widths) for side in start)
    cases["mel"] = GanCase(
        f"mel GAN on {height} x {width}, batch {batch}, least squares, consistency, one update of each player",
        mel_dcgan.Generator(latent=16 if tiny else 512, start=start, widths=widths),
        mel_dcgan.Discriminator(widths=tuple(reversed(widths)) if tiny else (64, 128, 256, 512)),
        Image((height, width, 1), 0.0, 1.0),
        gan.Settings(batch_size=batch, loss="sigmoid_least_squares", consistency=0.1, ema=0.0),
    )
    return cases


def parameters(module: nn.Module, case: GanCase) -> int:
    """Number of parameters of one of a case's networks."""
    domain = case.task.z if module is case.generator else case.domain
    shapes = jax.eval_shape(
        lambda x: module.init(jax.random.key(0), x, train=False)["params"], jnp.zeros((2, *domain.shape))
    )
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))
