r"""Spoken digits as raw sound: WaveGAN, small enough for a CPU.

    python experiments/train_gan.py wavegan --data-dir FSDD --out runs/wavegan
    python experiments/train_gan.py conditional-wavegan --data-dir FSDD --out runs/conditional_wavegan

FSDD is a copy of https://github.com/Jakobovski/free-spoken-digit-dataset. The second took 25 minutes on 2 CPU cores
that did other work too; of 1,000 samples the judge hears the asked digit in 86 %, with an inception score of 4.9 (real
recordings: 6.7). The first has not been run to its end. The paper's own way, a critic of samples:

    python experiments/train_gan.py wavegan --data-dir FSDD --critic wave --no-deviation --features 0 --no-batch-norm \
        --length 16384 --dim 64 --training.loss wasserstein --training.penalty gradient_penalty \
        --training.penalty-weight 10 --training.critic-steps 5 --training.no-reuse-fakes --training.beta1 0.5 \
        --training.beta2 0.9 --training.generator-lr 1e-4 --training.discriminator-lr 1e-4 --training.batch-size 64 \
        --training.schedule constant --training.ema 0 --training.steps 200000
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import data
from nd_jax.audio import LogMel
from nd_jax.domain import LogMel as LogMelDomain
from nd_jax.domain import Waveform
from nd_jax.experiments.configs.gans import DIGITS, FROZEN, GanExperiment, GanRecipe, centred, check_batch
from nd_jax.experiments.configs.mel_gans import FSDD
from nd_jax.experiments.configs.spoken_digits import split
from nd_jax.networks import mel_dcgan
from nd_jax.networks.wavegan import Discriminator, Generator
from nd_jax.training import gan

_RATE = 8000
_FRAMES = 64


@dataclasses.dataclass(frozen=True)
class Wavegan(GanRecipe):
    """WaveGAN of spoken digits at 8 kHz."""

    out: pathlib.Path = pathlib.Path("runs/wavegan")
    """Where networks, measures, samples and checkpoints go; the same folder again goes on with an interrupted run."""
    judge: str = "checkpoints/spoken_digits"
    """The classifier that samples are measured by: a network's folder or the name of a shipped one; "" for none."""
    length: int = 4096
    """Samples of a sound, a multiple of 1,024: half a second, longer digits lose their ends; the paper has 16,384."""
    dim: int = 16
    """Channels next to the sound, twice as many in each layer further in; the paper has 64."""
    latent: int = 100
    """Size of the latent."""
    features: int = 256
    """Units of a dense layer after the latent and of one before the critic's score; 0, as in the paper, for none."""
    critic: Literal["mel", "wave"] = "mel"
    """What the critic sees: log-mels of the sound, or, as in the paper, its samples (with phase shuffle)."""
    critic_widths: tuple[int, ...] = (24, 48, 96, 192)
    """Channels of the convolutions of a critic of log-mels."""
    deviation: bool = True
    """Whether the critic sees how much the sounds of a batch differ; without, it is one sound for every digit."""
    floor: float = -50.0
    """Below this level, in dBFS, a critic of log-mels hears nothing: recordings are digital zeros around the word, and
    no generator of samples makes those."""
    batch_norm: bool = True
    """Whether the generator is normalised; in the paper it is not."""
    shuffle: int = 2
    """Radius of the phase shuffle in a critic of samples."""
    shift: int = 200
    """Recordings are moved by up to so many samples."""
    training: gan.Settings = gan.Settings(
        steps=4000,
        batch_size=32,
        loss="non_saturating",
        penalty="r1",
        penalty_weight=0.3,
        reuse_fakes=True,
        generator_lr=1e-3,
        discriminator_lr=3e-4,
        beta1=0.0,
        beta2=0.99,
        schedule="linear",
        ema=0.998,
        log_every=25,
        save_every=100,
        watch_every=250,
        history=12,
    )

    family: ClassVar[str] = "wavegan"
    labels: ClassVar[tuple[str, ...]] = ()

    @property
    def domain(self) -> Waveform:
        """What is made: sound at 8 kHz."""
        return Waveform(self.length, _RATE)

    @property
    def seen(self) -> LogMelDomain | None:
        """What a critic of log-mels sees: 64 bands and 64 frames over the whole sound; None for one of samples."""
        if self.critic == "wave":
            return None
        hop = -(-self.length // (_FRAMES - 1))
        front_end = LogMel(
            sample_rate=_RATE,
            n_fft=512,
            hop_length=hop,
            n_mels=64,
            f_max=_RATE / 2,
            scale="htk",
            floor_db=self.floor,
        )
        return LogMelDomain(front_end, frames=_FRAMES)

    def players(self) -> tuple[Generator, Discriminator | mel_dcgan.Discriminator]:
        """Generator and discriminator, untrained."""
        critic: Discriminator | mel_dcgan.Discriminator = Discriminator(
            dim=self.dim, shuffle=self.shuffle, features=self.features, deviation=self.deviation
        )
        if self.critic == "mel":
            critic = mel_dcgan.Discriminator(
                self.critic_widths, features=self.features, batch_norm=False, deviation=self.deviation
            )
        return (
            Generator(
                samples=self.length,
                dim=self.dim,
                latent=self.latent,
                batch_norm=self.batch_norm,
                features=self.features,
            ),
            critic,
        )

    def experiment(self) -> GanExperiment:
        """The training on the official training recordings."""
        clips = data.load("spoken_digits", "all", manual_dir=self.data_dir, data_dir=self.prepared_dir)
        part = split(clips)
        check_batch(int(np.sum(part != 2)), self.training)
        arrays = {"wave": centred(clips, self.length)}
        if self.labels:
            arrays["label"] = clips.features["digit"].astype(np.int32)
        known, held_out = ({name: rows[chosen] for name, rows in arrays.items()} for chosen in (part != 2, part == 2))
        generator, discriminator = self.players()
        return GanExperiment(
            title=f"{int(np.sum(part != 2))} recordings of spoken digits",
            generator=generator,
            discriminator=discriminator,
            task=gan.GanTask(
                known, self._prepare, self.domain, self.latent, self.labels, law="uniform", seen=self.seen
            ),
            held_out=held_out,
            card={
                "name": self.family,
                "task": "Makes the sound of spoken English digits, sample by sample"
                + (", of the digit that is asked for." if self.labels else "."),
                "intended_use": "a small raw-audio GAN to open up",
                "limits": f"six speakers, {self.length / _RATE:.2f} seconds at 8 kHz, dim {self.dim}; noisy, with "
                "the buzz of transposed convolutions (here 125 Hz), few variants of some digits, and not every sample "
                "is a word; figures are those of our own classifier, which calls everything a digit",
                **FSDD,
                "front_end": f"raw sound, {self.length} samples at {_RATE} Hz; recordings have a peak of 0.9 and are "
                f"centred in the window, then moved by up to {self.shift} samples",
                "network": f"wavegan generator of dim {self.dim}, against "
                + (
                    f"a critic of samples with a phase shuffle of radius {self.shuffle}"
                    if self.critic == "wave"
                    else f"a mel_dcgan discriminator of log-mels, {' '.join(map(str, self.critic_widths))} channels"
                )
                + f"; a dense layer of {self.features} units in each"
                + (FROZEN if self.deviation else ""),
            },
        )

    def _prepare(self, key: jax.Array, example: Mapping[str, jax.Array]) -> Any:
        wave = example["wave"].astype(jnp.float32)[:, None] / 32768.0
        index = jnp.arange(self.length) - jax.random.randint(key, (), -self.shift, self.shift + 1)
        inside = (index >= 0) & (index < self.length)
        moved = jnp.where(inside[:, None], wave[jnp.clip(index, 0, self.length - 1)], 0.0)
        return {"x": moved, "label": example["label"]} if self.labels else moved


@dataclasses.dataclass(frozen=True)
class ConditionalWavegan(Wavegan):
    """The same with a choice of the digit: class-conditional batch norms, and a critic that scores sound and digit."""

    out: pathlib.Path = pathlib.Path("runs/conditional_wavegan")
    """Where networks, measures, samples and checkpoints go; the same folder again goes on with an interrupted run."""

    family: ClassVar[str] = "conditional_wavegan"
    labels: ClassVar[tuple[str, ...]] = DIGITS

    def players(self) -> tuple[Generator, Discriminator | mel_dcgan.Discriminator]:
        """Generator and discriminator, untrained."""
        generator, discriminator = super().players()
        count = len(self.labels)
        given = "batch_norm" if self.batch_norm else "concat"
        return (
            dataclasses.replace(generator, classes=count, conditioning=given),
            dataclasses.replace(discriminator, classes=count),
        )
