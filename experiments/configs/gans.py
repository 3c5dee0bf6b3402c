"""What the GAN recipes share: their flags, what one training is, and sounds on their way to a generator's domain."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.data.arrays import Clips, as_float
from nd_jax.domain import LogMel
from nd_jax.training import gan

DIGITS = tuple("0123456789")
# Of a discriminator with a minibatch deviation, for its model card.
FROZEN = (
    "; the discriminator's minibatch deviation is frozen at its mean over real batches (`frozen_deviation` in "
    "network.json)"
)


@dataclasses.dataclass(frozen=True)
class GanExperiment:
    """One training: what a recipe's `experiment()` gives to `train_gan`.

    Attributes:
      title: one line for the terminal.
      generator: untrained.
      discriminator: likewise.
      task: what is learned.
      held_out: real examples that training never sees, with the same names as the task's arrays.
      card: everything of the model cards that is known before training.
    """

    title: str
    generator: nn.Module
    discriminator: nn.Module
    task: gan.GanTask
    held_out: Mapping[str, np.ndarray]
    card: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class GanRecipe:
    """The flags of all GAN recipes."""

    data_dir: pathlib.Path
    """The folder with the data set, as downloaded."""
    out: pathlib.Path = pathlib.Path("runs/gan")
    """Where networks, measures, samples and checkpoints go; the same folder again goes on with an interrupted run."""
    prepared_dir: pathlib.Path | None = None
    """Where the prepared data set is kept; by default in the user's data folder."""
    judge: str = ""
    """The classifier that samples are measured by: a network's folder or the name of a shipped one; of several heads
    one, as notes_judge:pitch; "" for none."""
    samples: int = 1000
    """So many samples are measured at the end."""
    storage: Literal["float16", "float32"] = "float16"
    """How the parameters of the trained networks are stored; the figures are those of the networks as stored."""
    watch: bool = False
    """Measure samples also at every look during training (training.watch-every), 500 at a time."""
    tensorboard: bool = False
    """Write the log for TensorBoard too."""
    coordinator: str | None = None
    """For several processes: HOST:PORT of process 0; SLURM, Kubernetes and TPU pods need none of these three."""
    processes: int | None = None
    """How many processes train together."""
    process: int | None = None
    """Which of them this is, from 0."""

    family: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise ValueError(f"samples must be 2 or more, not {self.samples}")

    def train(self, experiment: GanExperiment, **options: Any) -> gan.TrainedGan:
        """Trains; options as of `gan.train`."""
        players = experiment.generator, experiment.discriminator
        return gan.train(*players, experiment.task, self.training, **options)  # type: ignore[attr-defined]


def centred(clips: Clips, samples: int, peak: float = 0.9) -> np.ndarray:
    """All sounds with one peak, in the middle of a window or cut to its length: (n, samples) int16.

    Silent sounds stay silent.
    """
    waves = np.zeros((len(clips), samples), np.int16)
    for row, wave in zip(waves, clips.waves, strict=True):
        sound = as_float(wave)
        extra = max(len(sound) - samples, 0)
        sound = sound[extra // 2 : extra // 2 + samples]
        sound = sound * (peak / max(float(np.max(np.abs(sound), initial=0.0)), 1e-4))
        start = (samples - len(sound)) // 2
        row[start : start + len(sound)] = np.round(np.clip(sound, -1.0, 1.0) * 32767)
    return waves


def mels(waves: np.ndarray, domain: LogMel, batch: int = 64) -> np.ndarray:
    """Log-mels in network values of sounds (n, domain.samples) int16: (n, *domain.shape) float32."""
    hear = jax.jit(lambda part: domain.from_wave(part.astype(jnp.float32) / 32768.0))
    found = np.zeros((len(waves), *domain.shape), np.float32)
    for start in range(0, len(waves), batch):
        part = waves[start : start + batch]
        padded = np.concatenate([part, np.zeros((batch - len(part), part.shape[1]), np.int16)])
        found[start : start + batch] = np.asarray(hear(padded))[: len(part)]
    return found


def moved(levels: jax.Array, key: jax.Array, frames: int) -> jax.Array:
    """A log-mel (bands, frames, 1) up to so many frames earlier or later; what becomes free is the floor, 0."""
    if not frames:
        return levels
    index = jnp.arange(levels.shape[1]) - jax.random.randint(key, (), -frames, frames + 1)
    inside = (index >= 0) & (index < levels.shape[1])
    return jnp.where(inside[None, :, None], levels[:, jnp.clip(index, 0, levels.shape[1] - 1)], 0.0)


def check_batch(examples: int, settings: gan.Settings) -> None:
    """Refuses too few examples before any of them is prepared.

    Raises:
      ValueError: there are none, or fewer than one batch.
    """
    if examples < settings.batch_size:
        raise ValueError(
            f"there are {examples} examples to learn from, and a batch takes {settings.batch_size}; "
            "take a smaller training.batch-size, or another data-dir"
        )


def check_devices(settings: gan.Settings) -> None:
    """Refuses a batch that cannot be shared, before data are prepared.

    Raises:
      ValueError: the devices of all processes do not divide it.
    """
    devices = jax.device_count()
    if settings.batch_size % devices:
        raise ValueError(
            f"a batch of {settings.batch_size} cannot be shared by {devices} devices; "
            f"take a training.batch-size that is a multiple of {devices}"
        )
