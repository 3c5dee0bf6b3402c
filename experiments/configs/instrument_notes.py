"""Pitch and instrument family of single notes.

    python experiments/train_classifier.py instrument-notes --data-dir NOTES --out runs/instrument_notes

NOTES holds `labels.csv` (file, instrument, family, pitch_midi) and `audio/`. Took 19 minutes for 967 notes on 2 CPU
cores that had other work too; expect 99 % of the held-out notes at their exact pitch and 90 % in their family.

With `--held-out-by instrument --out runs/notes_judge` whole instruments are held out: a judge of notes by instruments
that it never heard, such as a generator's.
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
from nd_jax.experiments.configs import Experiment, describe, full_scale, samples_of, with_band_mean
from nd_jax.networks.audio_cnn import AudioCNN
from nd_jax.training import Settings, Task, augment
from nd_jax.training.measures import pitch_accuracy, proportion
from nd_jax.training.splits import group_positions

LOWEST, HIGHEST = 24, 84
PITCHES = tuple(
    f"{('C', 'C#', 'D', 'D#', 'E', 'F', 'F#', 'G', 'G#', 'A', 'A#', 'B')[midi % 12]}{midi // 12 - 1}"
    for midi in range(LOWEST, HIGHEST + 1)
)
LICENCES = (
    "FluidR3_GM renderings (midi-js-soundfonts): CC BY 3.0",
    "MusyngKite renderings (midi-js-soundfonts): CC BY-SA 3.0",
    "Discord-SFZ-GM-Bank samples: CC0 1.0, Salamander piano (Alexander Holm) CC BY",
    "NSynth notes (Google): CC BY 4.0",
)


@dataclasses.dataclass(frozen=True)
class InstrumentNotes:
    """Pitch (MIDI 24 to 84) and instrument family of single notes, from 2-second log-mels."""

    data_dir: pathlib.Path
    """The folder with the recordings: labels.csv and audio/."""
    out: pathlib.Path = pathlib.Path("runs/instrument_notes")
    """Where the network, the measures and the checkpoints go; the same folder again goes on with an interrupted run."""
    prepared_dir: pathlib.Path | None = None
    """Where the prepared data set is kept; by default in the user's data folder."""
    features: tuple[int, ...] = (24, 48, 96, 128)
    """Channels of the convolutions."""
    stem: int = 5
    """Size of the first convolution's kernel; the others are 3 x 3."""
    held_out_by: Literal["pair", "instrument"] = "pair"
    """What is held out: single (instrument, pitch) pairs, or all notes of an instrument."""
    held_out: float = 0.2
    """This share of the (instrument, pitch) pairs, or of the instruments, is never trained on."""
    validation: float = 0.06
    """This share decides which evaluation was the best."""
    split_seed: int = 0
    """Another seed, another split."""
    semitones: int = 3
    """Notes are shifted by up to so many semitones, their label with them."""
    procedural: float = 0.2
    """This share of the training examples are procedural harmonic notes of known pitch, of no family."""
    family_weight: float = 1.5
    """Weight of the family's loss; the pitch's is 1."""
    training: Settings = Settings(steps=2000, batch_size=32, learning_rate=3e-3, eval_every=100, patience=12)

    @property
    def domain(self) -> LogMelDomain:
        """What the network hears: 2.02 seconds at 16 kHz, 128 bands, 64 frames."""
        front_end = LogMel(sample_rate=16000, n_fft=2048, hop_length=512, n_mels=128, f_max=8000.0, scale="htk")
        return LogMelDomain(front_end, frames=64)

    def experiments(self) -> Iterator[Experiment]:
        """The one training of this recipe."""
        clips = data.load("instrument_notes", "all", manual_dir=self.data_dir, data_dir=self.prepared_dir)
        pitch = clips.features["pitch"]
        clips = clips.select((pitch >= LOWEST) & (pitch <= HIGHEST))
        domain, part = self.domain, split(clips, self)
        arrays, families = _arrays(clips, 2 * domain.samples)
        train, validation, held_out = (
            {name: values[part == index] for name, values in arrays.items()} for index in range(3)
        )
        domain = with_band_mean(domain, train["wave"])
        by_pair = self.held_out_by == "pair"
        groups = len(set(np.asarray(_groups(clips, self))[part == 2]))
        grouped = "(instrument, pitch)" if by_pair else "instrument"
        yield Experiment(
            name="",
            title=f"{len(clips)} notes: {len(train['wave'])} to train, {len(validation['wave'])} to choose, "
            f"{len(held_out['wave'])} held out",
            module=AudioCNN(
                heads=(("pitch", len(PITCHES)), ("family", len(families))),
                features=self.features,
                kernels=((self.stem, self.stem), *((3, 3),) * (len(self.features) - 1)),
                strides=((2, 2),) * len(self.features),
                pooling="frequency",
            ),
            domain=domain,
            task=Task(
                train=train,
                validation=validation,
                prepare=lambda key, note: _prepare(key, note, domain, self),
                present=lambda note: domain.from_wave(full_scale(note["wave"][: domain.samples])),
                heads={"pitch": len(PITCHES), "family": len(families)},
                head_weights={"pitch": 1.0, "family": self.family_weight},
            ),
            held_out=held_out,
            labels={"pitch": PITCHES, "family": families},
            measure=lambda outputs: _measure(outputs, held_out),
            card={
                "name": "instrument_notes" if by_pair else "notes_judge",
                "task": "Pitch (61 semitones, MIDI 24 to 84: unit i is MIDI 24 + i) and instrument family "
                f"({len(families)}) of one note.",
                "intended_use": ("the network of the demo (what do its units listen for?) and " if by_pair else "")
                + "a judge of the pitch of single synthetic or generated notes",
                "limits": "one note at a time; below MIDI 40 partials are closer than the bands, so pitch is less "
                "certain there; pure tones below middle C, which no instrument here makes, are often read one or two "
                "semitones wrong, and worse below MIDI 37; "
                + (
                    "soundfont notes are few recordings stretched over the whole range, so a held-out note often has a "
                    "training note that differs from it by a resampling; "
                    if by_pair
                    else "the family of an instrument that was never heard is a guess; "
                )
                + "families know few instruments each",
                "data": f"{len(clips)} single notes, {len(set(clips.features['instrument']))} instruments, "
                f"plus procedural harmonic notes ({self.procedural:.0%} of every batch)",
                "source": "soundfont renderings (MIDI.js, midi-js-soundfonts), Discord-SFZ-GM-Bank, NSynth test set",
                "licence": list(LICENCES),
                "split": f"by {grouped}, never by file: {groups} of them ({len(held_out['wave'])} notes) held out, "
                f"sha256 of 'seed:instrument{':pitch' if by_pair else ''}' below {self.held_out:g}, seed "
                f"{self.split_seed}",
                "front_end": describe(domain),
                "network": f"audio_cnn, convolutions of {', '.join(map(str, self.features))} channels",
            },
        )


def split(clips: data.Clips, config: InstrumentNotes) -> np.ndarray:
    """(n,) 0 = train, 1 = validation, 2 = held out; all notes of a group are on the same side."""
    place = group_positions(_groups(clips, config), config.split_seed)
    return np.where(place < config.held_out, 2, np.where(place < config.held_out + config.validation, 1, 0))


def _groups(clips: data.Clips, config: InstrumentNotes) -> list[str]:
    names = clips.names["instrument"]
    instruments, pitches = clips.features["instrument"], clips.features["pitch"]
    if config.held_out_by == "instrument":
        return [names[instrument] for instrument in instruments]
    return [f"{names[instrument]}:{pitch}" for instrument, pitch in zip(instruments, pitches, strict=True)]


def _arrays(clips: data.Clips, samples: int) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Notes of `samples` samples with their labels; the families are those that occur."""
    waves, _ = samples_of(clips, samples)
    present, family = np.unique(clips.features["family"], return_inverse=True)
    pitch = clips.features["pitch"].astype(np.int32) - LOWEST
    arrays = {"wave": waves, "pitch": pitch, "family": family.astype(np.int32)}
    return arrays, tuple(clips.names["family"][index] for index in present)


def _prepare(key: jax.Array, note: Any, domain: LogMelDomain, config: InstrumentNotes) -> Any:
    """One training example: a recorded note, or a procedural one, on its way through a room and a microphone."""
    keys = jax.random.split(key, 8)
    rate = domain.sample_rate
    recorded, recorded_pitch = augment.shift_pitch(
        full_scale(note["wave"]),
        note["pitch"] + LOWEST,
        key=keys[0],
        samples=domain.samples,
        semitones=config.semitones,
        lowest=LOWEST,
        highest=HIGHEST,
        early=0.2 * rate,
        late=0.3 * rate,
    )
    made_pitch = jax.random.randint(keys[1], (), LOWEST, HIGHEST + 1)
    made = augment.harmonic_note(made_pitch, key=keys[2], samples=domain.samples, sample_rate=rate)
    is_made = jax.random.uniform(keys[3], ()) < config.procedural
    wave = jnp.where(is_made, made, recorded)
    wave = augment.gain(wave, key=keys[4], low_db=-18.0, high_db=9.0)
    # The barrier keeps XLA's CPU backend from computing every sample again for every frame that it is part of.
    wave = jax.lax.optimization_barrier(augment.noise(wave, key=keys[5], low_db=-100.0, high_db=-45.0))
    levels = augment.equalize(domain.transform.forward(wave), key=keys[6], decibels=1.5)
    levels = augment.mask(levels, key=keys[7], bands=4, frames=10, fill=domain.transform.floor_db)
    labels = {"pitch": jnp.where(is_made, made_pitch, recorded_pitch) - LOWEST, "family": note["family"]}
    return domain.from_db(levels)[..., None], labels, {"family": jnp.where(is_made, 0.0, 1.0)}


def _measure(outputs: Any, held_out: dict[str, np.ndarray]) -> dict[str, Any]:
    pitch, family = (np.argmax(outputs[head], axis=-1) for head in ("pitch", "family"))
    found = {f"pitch_{name}": value for name, value in pitch_accuracy(held_out["pitch"], pitch).items()}
    return found | {"family": proportion(family == held_out["family"])}
