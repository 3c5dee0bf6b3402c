"""Emotional speech: the mel GAN prior of "Activation Maximization with a Prior in Speech Data", at full size.

    python experiments/train_gan.py emotion-mel-gan --data-dir EMODB --data-set emodb --out runs/emotion_mel_gan
    python experiments/train_gan.py emotion-mel-gan --data-dir SPEECH --data-set tess_and_ravdess --levels source

EMODB is the Berlin database; RAVDESS and TESS are taken likewise. SPEECH has the folders tess/ and ravdess/. The
default is the source's 301 epochs of EmoDB, 3 batches each, with its rates; another data set has other epochs
(--training.steps, --training.decay-every). Work for a GPU; it has not been run to its end: no figures to expect.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax
import numpy as np

from nd_jax import data
from nd_jax.data.arrays import Clips
from nd_jax.domain import LogMel as LogMelDomain
from nd_jax.experiments.configs import describe, emotional_speech
from nd_jax.experiments.configs.gans import GanExperiment, GanRecipe, check_batch, moved
from nd_jax.networks.mel_dcgan import Discriminator, Generator
from nd_jax.training import gan

_LICENCES = {
    "emodb": "offered by TU Berlin for research, with citation (Burkhardt et al. 2005)",
    "ravdess": "CC BY-NC-SA 4.0 (Livingstone & Russo 2018)",
    "tess": "CC BY-NC-ND 4.0 (Pichora-Fuller & Dupuis 2020)",
}


@dataclasses.dataclass(frozen=True)
class EmotionMelGan(GanRecipe):
    """Log-mels of emotional speech: least squares on sigmoids, consistency, a discriminator unrolled five updates."""

    out: pathlib.Path = pathlib.Path("runs/emotion_mel_gan")
    """Where networks, measures, samples and checkpoints go; the same folder again goes on with an interrupted run."""
    data_set: Literal["emodb", "ravdess", "tess", "tess_and_ravdess"] = "emodb"
    """Which recordings data_dir has; the source has the last."""
    levels: Literal["fixed", "source"] = "fixed"
    """What 0 and 1 are: -100 and 0 dBFS, or, as in the source, smallest and largest value of each example."""
    latent: int = 512
    """Size of the latent."""
    widths: tuple[int, ...] = (512, 256, 128, 64)
    """Channels of the generator's layers but the last."""
    critic_widths: tuple[int, ...] = (64, 128, 256, 512)
    """Channels of the discriminator's convolutions."""
    training: gan.Settings = gan.Settings(
        steps=301 * 3,
        batch_size=128,
        loss="sigmoid_least_squares",
        unroll=5,
        consistency=0.1,
        generator_lr=1e-3,
        discriminator_lr=1e-3,
        beta1=0.5,
        beta2=0.999,
        schedule="exponential",
        decay=0.99,
        decay_every=3,
        ema=0.0,
        log_every=3,
        save_every=30,
        watch_every=60,
        history=12,
    )

    family: ClassVar[str] = "emotion_mel_gan"

    @property
    def domain(self) -> LogMelDomain:
        """What is made: 80 bands up to 8 kHz, 160 frames (1.9 seconds at 22,050 Hz)."""
        return emotional_speech.source_domain() if self.levels == "source" else emotional_speech.domain()

    def players(self) -> tuple[Generator, Discriminator]:
        """Generator and discriminator, untrained."""
        bands, frames, _ = self.domain.shape
        step = 2 ** len(self.widths)
        return Generator(self.latent, (bands // step, frames // step), self.widths), Discriminator(self.critic_widths)

    def experiment(self) -> GanExperiment:
        """The training on all recordings but those that the source tests on (of EmoDB: the last two speakers)."""
        clips, away = self._recordings()
        check_batch(int(np.sum(~away)), self.training)
        domain = self.domain
        if self.levels == "source":
            levels = emotional_speech.source_arrays(clips)
        else:
            levels = emotional_speech.arrays(clips, domain)

        def prepare(key: jax.Array, recording: Mapping[str, jax.Array]) -> Any:
            if self.levels == "source":
                return emotional_speech.source_example(key, recording)
            return emotional_speech.example(key, recording, domain)

        known, held_out = ({name: rows[chosen] for name, rows in levels.items()} for chosen in (~away, away))
        generator, discriminator = self.players()
        sets = self.data_set.split("_and_")
        return GanExperiment(
            title=f"{int(np.sum(~away))} recordings of emotional speech ({', '.join(sets)})",
            generator=generator,
            discriminator=discriminator,
            task=gan.GanTask(
                known, prepare, domain, self.latent, augment=lambda key, x: moved(x, key, domain.frames // 10)
            ),
            held_out=held_out,
            card={
                "name": f"{self.family}_{self.data_set}",
                "task": "Makes log-mels of emotional speech from a latent.",
                "intended_use": "a prior of speech for activation maximisation of emotion classifiers",
                "limits": "speech-like, without words; few speakers; no choice of the emotion",
                "data": f"{len(clips)} recordings: {', '.join(sets)}",
                "source": "; ".join(sets),
                "licence": [_LICENCES[name] for name in sets],
                "split": f"{int(np.sum(away))} recordings only to measure by: those that the source tests on, of EmoDB "
                "the last two speakers",
                "front_end": describe(domain)
                + ("; each example stretched to 0 ... 1" if self.levels == "source" else ""),
                "network": f"mel_dcgan, generator {' '.join(map(str, self.widths))}, discriminator "
                f"{' '.join(map(str, self.critic_widths))} channels",
            },
        )

    def _recordings(self) -> tuple[Clips, np.ndarray]:
        """The recordings, and which of them are held out (n,) bool."""

        def load(name: str, place: pathlib.Path) -> Clips:
            rate = emotional_speech.SAMPLE_RATE
            found = data.load(name, "all", manual_dir=place, data_dir=self.prepared_dir, sample_rate=rate)
            assert isinstance(found, Clips)
            return found

        if self.data_set == "tess_and_ravdess":
            clips, part = emotional_speech.source_corpus(
                *(load(name, self.data_dir / name) for name in ("tess", "ravdess"))
            )
            return clips, part == emotional_speech.TEST
        clips = load(self.data_set, self.data_dir)
        speaker, names = clips.features["speaker"], clips.names["speaker"]
        if self.data_set == "tess":
            part = emotional_speech.tess_part(clips.files, speaker.tolist(), clips.features["emotion"].tolist())
            return clips, part == emotional_speech.TEST
        if self.data_set == "ravdess":
            return clips, emotional_speech.ravdess_part([names[one] for one in speaker]) == emotional_speech.TEST
        return clips, np.isin(speaker, np.unique(speaker)[-2:])
