"""Emotions in speech: the seven classes of EmoDB, judged by speakers who were never heard.

    python experiments/train_classifier.py emotion --data-dir EMODB --out runs/emotion
    python experiments/train_classifier.py emotion --data-dir EMODB --out runs/emotion_raw --front-end waveform

EMODB is the unpacked http://emodb.bilderbar.info/download/download.zip. The database's makers offer it as a free
download and state no licence, so that no network trained on it ships with nd_jax. The second command hears the samples
themselves.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import data
from nd_jax.audio import LogMel
from nd_jax.domain import LogMel as LogMelDomain
from nd_jax.domain import Waveform
from nd_jax.experiments.configs import Experiment, describe, full_scale, samples_of, with_band_mean
from nd_jax.networks.audio_cnn import AudioCNN
from nd_jax.networks.wave_cnn import WaveCNN
from nd_jax.runtime import nearest
from nd_jax.training import Settings, Task, augment
from nd_jax.training.measures import proportion

_SAMPLE_RATE = 16000


@dataclasses.dataclass(frozen=True)
class Emotion:
    """Which of seven emotions is acted, from two seconds of speech."""

    data_dir: pathlib.Path
    """The folder with the recordings ({speaker}{sentence}{emotion}{version}.wav or .flac, in wav/ or audio/)."""
    out: pathlib.Path = pathlib.Path("runs/emotion")
    """Where the network, the measures and the checkpoints go; the same folder again goes on with an interrupted run."""
    prepared_dir: pathlib.Path | None = None
    """Where the prepared data set is kept; by default in the user's data folder."""
    front_end: Literal["log_mel", "waveform"] = "log_mel"
    """What the network hears: log-mel spectrograms, or the samples themselves."""
    leave_out: tuple[str, ...] = ("15", "16")
    """The speakers that are held out."""
    features: tuple[int, ...] = (24, 48, 96, 128)
    """Channels of the convolutions."""
    dropout: float = 0.3
    """Rate in front of the head."""
    speed: float = 1.1
    """Recordings are played up to so many times faster or slower: pitch, formants and tempo move together."""
    stretch: float = 1.15
    """Of log-mels: the tempo alone is changed up to so many times."""
    formants: float = 1.1
    """Of log-mels: the band axis alone is scaled up to so many times."""
    equalizer_db: float = 4.0
    """Of log-mels: standard deviation of a random smooth curve over frequency."""
    noise_db: tuple[float, float] = (-100.0, -45.0)
    """Level of the added white noise; recordings peak between -12 and 0 dB."""
    training: Settings = Settings(steps=1800, batch_size=32, learning_rate=2e-3, weight_decay=1e-2, eval_every=300)

    @property
    def domain(self) -> LogMelDomain | Waveform:
        """Two seconds at 16 kHz: 64 bands and 128 frames, or 32,768 samples."""
        if self.front_end == "waveform":
            return Waveform(32768, _SAMPLE_RATE)
        front_end = LogMel(_SAMPLE_RATE, 1024, 256, 64, f_max=8000.0, scale="slaney")
        return LogMelDomain(front_end, frames=128)

    def experiments(self) -> Iterator[Experiment]:
        """One training."""
        clips = data.load(
            "emodb", "all", manual_dir=self.data_dir, data_dir=self.prepared_dir, sample_rate=_SAMPLE_RATE
        )
        speakers = clips.names["speaker"]
        for speaker in self.leave_out:
            if speaker not in speakers:
                raise ValueError(f"no speaker {speaker!r}; {nearest(speaker, speakers)}")
        held_out = np.isin(clips.features["speaker"], [speakers.index(speaker) for speaker in self.leave_out])
        if not 0 < held_out.sum() < len(held_out):
            raise ValueError(
                f"{held_out.sum()} of {len(held_out)} recordings are by the speakers that are held out: there must be "
                "some to train on and some to measure on"
            )
        yield self._experiment(clips, held_out)

    def _experiment(self, clips: data.Clips, is_held_out: np.ndarray) -> Experiment:
        domain = self.domain
        wave, length = samples_of(clips, 5 * domain.samples // 4)
        arrays = {"wave": wave, "length": length, "emotion": clips.features["emotion"].astype(np.int32)}
        train, held_out = ({name: each[rows] for name, each in arrays.items()} for rows in (~is_held_out, is_held_out))
        if isinstance(domain, LogMelDomain):
            domain = with_band_mean(domain, train["wave"])
        emotions = clips.names["emotion"]
        heads = (("emotion", len(emotions)),)
        module: Any
        if isinstance(domain, Waveform):
            module = WaveCNN(heads, features=self.features, dropout=self.dropout)
        else:
            kernels, strides = ((5, 5), *((3, 3),) * (len(self.features) - 1)), ((2, 2),) * len(self.features)
            module = AudioCNN(heads, self.features, kernels, strides, pooling="frequency", dropout=self.dropout)
        return Experiment(
            name="",
            title=f"speakers {', '.join(self.leave_out)} held out: {len(train['wave'])} recordings to train, "
            f"{len(held_out['wave'])} held out",
            module=module,
            domain=domain,
            task=Task(
                train=train,
                validation=None,
                prepare=lambda key, clip: _prepare(key, clip, domain, self),
                present=lambda clip: _present(clip, domain),
                heads=dict(heads),
                head_weights={"emotion": 1.0},
            ),
            held_out=held_out,
            labels={"emotion": emotions},
            measure=lambda outputs: {
                "emotion": proportion(np.argmax(outputs, axis=-1) == held_out["emotion"]),
            },
            card={
                "name": "emotion" if self.front_end == "log_mel" else "emotion_raw",
                "task": f"Which emotion is acted: {', '.join(emotions)}.",
                "intended_use": "a network of emotional speech to open up; not a judge of what people feel",
                "limits": "ten actors, ten German sentences, two seconds of each; acted emotions in a quiet room; what "
                "is none of the seven is called one all the same",
                "data": f"EmoDB: {len(clips)} recordings, seven emotions, ten actors",
                "source": "http://emodb.bilderbar.info",
                "licence": "of the recordings none is stated: a free download of TU Berlin, to be cited as Burkhardt "
                "et al., Interspeech 2005",
                "split": f"speakers {', '.join(self.leave_out)} held out ({len(held_out['wave'])} recordings); a fixed "
                "number of steps, the last weights: no evaluation of held-out recordings ends or chooses a run",
                "front_end": describe(domain)
                if isinstance(domain, LogMelDomain)
                else f"samples: {domain.samples} at {domain.sample_rate} Hz",
                "network": f"{'audio_cnn' if self.front_end == 'log_mel' else 'wave_cnn'}, convolutions of "
                f"{', '.join(map(str, self.features))} channels",
            },
        )


def _present(clip: Any, domain: LogMelDomain | Waveform) -> jax.Array:
    """The first two seconds, from the beginning, as the network hears a file of its own length."""
    wave = full_scale(jax.lax.optimization_barrier(clip["wave"][: domain.samples]))
    return wave[:, None] if isinstance(domain, Waveform) else domain.from_wave(wave)


def _prepare(key: jax.Array, clip: Any, domain: LogMelDomain | Waveform, config: Emotion) -> Any:
    """One training example: another voice, tempo, microphone and level, a bit missing."""
    keys = jax.random.split(key, 6)
    wave = augment.place(
        full_scale(clip["wave"]), clip["length"], key=keys[0], samples=domain.samples, speed=config.speed
    )
    wave = wave / jnp.maximum(jnp.max(jnp.abs(wave)), 1e-4)
    wave = augment.gain(wave, key=keys[1], low_db=-12.0, high_db=0.0)
    wave = augment.noise(wave, key=keys[2], low_db=config.noise_db[0], high_db=config.noise_db[1])
    # The barrier keeps XLA's CPU backend from computing every sample again for every frame that it is part of.
    wave = jax.lax.optimization_barrier(wave)
    if isinstance(domain, Waveform):
        return wave[:, None], {"emotion": clip["emotion"]}, {}
    levels = augment.equalize(domain.transform.forward(wave), key=keys[3], decibels=config.equalizer_db)
    levels = augment.warp(levels, key=keys[4], time=config.stretch, frequency=config.formants)
    levels = augment.mask(levels, key=keys[5], bands=8, frames=16, fill=domain.transform.floor_db)
    return domain.from_db(levels)[..., None], {"emotion": clip["emotion"]}, {}
