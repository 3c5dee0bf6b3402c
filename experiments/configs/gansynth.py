"""GANSynth: single notes of a pitch that is asked for, as mel-IF pictures.

    python experiments/train_gan.py gansynth-notes --data-dir NOTES --out runs/notes_gansynth
    python experiments/train_gan.py gansynth-nsynth --data-dir NSYNTH --out runs/gansynth

NOTES holds `labels.csv` (file, instrument, family, pitch_midi) and `audio/`; NSYNTH the unpacked json/wav archives
`nsynth-train`, `nsynth-valid`, `nsynth-test`, or (`--subset`) TFDS's own folder.

The first is of laptop size: one second, 37 pitches (C3 to C6). It took 158 minutes on 2 CPU cores that other programs
used as well. Expect the right pitch in 97 % of notes, by a classifier and by Praat (checkpoints/notes_gansynth).
The second has the official sizes, stages and rates (Engel et al. 2019; the authors give 3 to 4 days on a V100), needs
8 GB of memory for the notes and has not been run here.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import data, generators
from nd_jax.audio import MelIF
from nd_jax.data.arrays import Clips
from nd_jax.domain import MelIF as MelIFDomain
from nd_jax.experiments.configs import full_scale, samples_of
from nd_jax.experiments.configs.gans import GanExperiment, GanRecipe, check_batch
from nd_jax.experiments.configs.instrument_notes import LICENCES, PITCHES
from nd_jax.experiments.configs.instrument_notes import LOWEST as FIRST
from nd_jax.network import Network
from nd_jax.networks.gansynth import Discriminator, Generator
from nd_jax.training import augment, gan, gansynth
from nd_jax.training.splits import group_positions

# What of a recipe decides which notes are held out, and how the others are heard in training.
_OF_NOTES = ("semitones", "cents", "early", "gain", "held_out", "split_seed")


@dataclasses.dataclass(frozen=True)
class GansynthExperiment(GanExperiment):
    """One training of a GANSynth.

    Attributes:
      counts: how often every pitch is asked for.
      present: one note of the task's or held-out arrays as it was recorded, without shift or gain: {"x", "label"}.
      instruments: {"known": (n,) names of the instruments of the task's notes, "held_out": those of the held-out ones}.
    """

    counts: np.ndarray = dataclasses.field(default_factory=lambda: np.ones(1))
    present: Callable[[Mapping[str, jax.Array]], dict[str, jax.Array]] = lambda note: dict(note)
    instruments: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class GansynthNotes(GanRecipe):
    """A small GANSynth of the instrument notes pack: one second at 16 kHz, MIDI 48 to 84."""

    out: pathlib.Path = pathlib.Path("runs/notes_gansynth")
    """Where networks, measures, samples and checkpoints go; the same folder again goes on with an interrupted run."""
    lowest: int = 48
    """The lowest pitch that can be asked for, a MIDI number of 24 or more."""
    highest: int = 84
    """The highest one, 84 or less."""
    samples_long: int = 16384
    """Length of a note, in samples."""
    n_fft: int = 1024
    """Frame size of the pictures; they have half as many bands."""
    frames: int = 64
    """Frames of a picture, a quarter of a frame size apart."""
    blocks: int = 6
    """The resolution is doubled so many times, less one."""
    latent: int = 16
    """Size of the latent."""
    fmap_base: float = 512
    """Channels of block b are this by 2 ** b ..."""
    fmap_max: int = 128
    """... and at most so many."""
    semitones: int = 2
    """Notes are shifted by up to so many semitones, their label with them."""
    cents: float = 5.0
    """And by so much more, which the label does not say."""
    early: float = 0.01
    """Up to so many seconds of silence come before a note."""
    gain: float = 4.0
    """Levels change by up to so many dB each way."""
    held_out: float = 0.1
    """This share of the (instrument, pitch) pairs is never trained on."""
    split_seed: int = 0
    """Another seed, another split."""
    stages: gansynth.Stages = gansynth.Stages(stable=6_000, fade=6_000, total=100_000)
    """How long every stage takes, in notes."""
    # The official losses, rates and latents are for a hundred times as many steps. Here generator and Wasserstein
    # critic go round in circles (the mean of all frequencies swings from one end to the other as soon as block 3 is
    # there), which R1 does not (Mescheder et al. 2018); among 128 latents one of 37 pitches is hardly heard; and a
    # pitch that the discriminator's head is mistaken about stays wrong unless its score is of note and pitch together.
    training: gan.Settings = dataclasses.replace(
        gansynth.SETTINGS,
        loss="non_saturating",
        penalty="r1",
        penalty_weight=20.0,
        drift=0.0,
        class_weight=1.0,
        pair_weight=1.0,
        generator_lr=2e-3,
        discriminator_lr=2e-3,
        ema=0.998,
        log_every=50,
        save_every=250,
        watch_every=1500,
        history=3,
    )

    family: ClassVar[str] = "notes_gansynth"
    data_set: ClassVar[str] = "instrument_notes"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not FIRST <= self.lowest < self.highest <= FIRST + len(PITCHES) - 1:
            raise ValueError(
                f"pitches go from lowest to highest within {FIRST} ... {FIRST + len(PITCHES) - 1}, not from "
                f"{self.lowest} to {self.highest}"
            )
        step = 2 ** (self.blocks - 1)
        if self.blocks < 1 or self.frames % step or (self.n_fft // 2) % step:
            raise ValueError(
                f"{self.blocks} blocks need frames and bands that {step} divides, not {self.frames} and "
                f"{self.n_fft // 2}"
            )

    @property
    def domain(self) -> MelIFDomain:
        """What is made."""
        front_end = MelIF(sample_rate=16000, samples=self.samples_long, n_fft=self.n_fft, frames=self.frames)
        return MelIFDomain(front_end)

    @property
    def pitches(self) -> tuple[str, ...]:
        """The names of the pitches, lowest first."""
        return PITCHES[self.lowest - FIRST : self.highest - FIRST + 1]

    def players(self) -> tuple[Generator, Discriminator]:
        """Generator and discriminator, untrained."""
        frames, bands, _ = self.domain.shape
        step = 2 ** (self.blocks - 1)
        sizes: dict[str, Any] = {
            "classes": len(self.pitches),
            "blocks": self.blocks,
            "start": (frames // step, bands // step),
            "fmap_base": self.fmap_base,
            "fmap_max": self.fmap_max,
        }
        return Generator(latent=self.latent, **sizes), Discriminator(**sizes)

    def notes(self) -> tuple[Clips, np.ndarray]:
        """All notes that can be shifted to one of the pitches, and (n,) whether each is held out."""
        clips = data.load(self.data_set, "all", manual_dir=self.data_dir, data_dir=self.prepared_dir)
        pitch = clips.features["pitch"]
        clips = clips.select((pitch >= self.lowest - self.semitones) & (pitch <= self.highest + self.semitones))
        names = clips.names["instrument"]
        pairs = zip(clips.features["instrument"], clips.features["pitch"], strict=True)
        groups = [f"{names[instrument]}:{pitch}" for instrument, pitch in pairs]
        return clips, group_positions(groups, self.split_seed) < self.held_out

    def experiment(self) -> GansynthExperiment:
        """The training on all pairs of instrument and pitch that are not held out."""
        clips, apart = self.notes()
        domain = self.domain
        pitch = clips.features["pitch"].astype(np.int32)
        check_batch(int(np.sum(~apart)), dataclasses.replace(self.training, batch_size=max(self.stages.batch_sizes)))
        longest = int(domain.samples * 2 ** ((self.semitones + self.cents / 100) / 12)) + 2
        waves, _ = samples_of(clips, longest)
        inside = (pitch >= self.lowest) & (pitch <= self.highest)
        arrays = {
            "wave": waves,
            "pitch": pitch,
            "label": np.clip(pitch - self.lowest, 0, len(self.pitches) - 1).astype(np.int32),
        }
        known = {name: rows[~apart] for name, rows in arrays.items()}
        held_out = {name: rows[apart & inside] for name, rows in arrays.items()}
        names = np.asarray(clips.names["instrument"])[clips.features["instrument"]]
        generator, discriminator = self.players()
        return GansynthExperiment(
            title=f"{len(known['wave'])} notes to train, {len(held_out['wave'])} held out",
            generator=generator,
            discriminator=discriminator,
            task=self._task(known, domain),
            held_out=held_out,
            card=self._card(len(clips), domain),
            counts=shifted_counts(known["pitch"], self.lowest, self.highest, self.semitones),
            present=lambda note: {
                "x": domain.from_wave(full_scale(note["wave"])[: domain.samples]),
                "label": note["label"],
            },
            instruments={"known": names[~apart], "held_out": names[apart & inside]},
        )

    def train(self, experiment: GanExperiment, **options: Any) -> gan.TrainedGan:
        """Through all stages."""
        same = {name: value for name, value in options.pop("recipe").items() if name != "stages"}
        assert isinstance(experiment, GansynthExperiment)
        return gansynth.train(
            experiment.generator,  # type: ignore[arg-type]
            experiment.discriminator,  # type: ignore[arg-type]
            experiment.task,
            self.training,
            self.stages,
            counts=experiment.counts,
            recipe=same,
            **options,
        )

    def _task(self, arrays: Mapping[str, np.ndarray], domain: MelIFDomain) -> gan.GanTask:
        def prepare(key: jax.Array, note: Mapping[str, jax.Array]) -> Any:
            shift_key, gain_key = jax.random.split(key)
            wave, pitch = augment.shift_pitch(
                full_scale(note["wave"]),
                note["pitch"],
                key=shift_key,
                samples=domain.samples,
                semitones=self.semitones,
                cents=self.cents,
                lowest=self.lowest,
                highest=self.highest,
                early=self.early * domain.sample_rate,
            )
            wave = augment.gain(wave, key=gain_key, low_db=-self.gain, high_db=self.gain)
            # The barrier keeps XLA's CPU backend from computing every sample again for every frame it is part of.
            wave = jax.lax.optimization_barrier(wave)
            return {"x": domain.from_wave(wave), "label": (pitch - self.lowest).astype(jnp.int32)}

        return gan.GanTask(arrays, prepare, domain, self.latent, labels=self.pitches, pairs=False)

    def _card(self, notes: int, domain: MelIFDomain) -> dict[str, Any]:
        front_end = domain.transform
        return {
            "name": self.family,
            "task": f"Makes a note of {domain.samples / domain.sample_rate:.2f} s of the pitch that is asked for, "
            f"{self.pitches[0]} to {self.pitches[-1]} (MIDI {self.lowest} to {self.highest}).",
            "intended_use": "a small GANSynth to open up: what do units of its generator make, what do those of its "
            "discriminator listen for?",
            "limits": "one note at a time, of few instruments",
            "data": f"{notes} single notes; each is shifted by up to {self.semitones} semitones with its label, by "
            f"{self.cents:g} cents more, by up to {self.gain:g} dB, and begins up to {self.early:g} s late",
            "source": "soundfont renderings (MIDI.js, midi-js-soundfonts), Discord-SFZ-GM-Bank, NSynth test set",
            "licence": list(LICENCES),
            "split": "by (instrument, pitch), never by file: sha256 of 'seed:instrument:pitch' below "
            f"{self.held_out:g} is held out, seed {self.split_seed}",
            "front_end": f"mel-IF, {front_end.frames} frames of {front_end.n_fft} samples every "
            f"{front_end.hop_length}, {front_end.bins} bands, at {front_end.sample_rate} Hz",
            "network": f"gansynth, {self.blocks} blocks, {self.fmap_base:g} / 2 ** block channels, at most "
            f"{self.fmap_max}; the discriminator's minibatch deviation is frozen at its mean over real batches "
            "(`deviation` in network.json)",
            "stages": dataclasses.asdict(self.stages),
            "notes": {name: getattr(self, name) for name in _OF_NOTES},
        }


@dataclasses.dataclass(frozen=True)
class GansynthNsynth(GansynthNotes):
    """The official GANSynth: four seconds, MIDI 24 to 84, the acoustic notes of NSynth."""

    out: pathlib.Path = pathlib.Path("runs/gansynth")
    """Where networks, measures, samples and checkpoints go; the same folder again goes on with an interrupted run."""
    lowest: int = 24
    """The lowest pitch that can be asked for, a MIDI number of 24 or more."""
    highest: int = 84
    """The highest one, 84 or less."""
    samples_long: int = 64000
    """Length of a note, in samples."""
    n_fft: int = 2048
    """Frame size of the pictures; they have half as many bands."""
    frames: int = 128
    """Frames of a picture, a quarter of a frame size apart."""
    blocks: int = 7
    """The resolution is doubled so many times, less one."""
    latent: int = 256
    """Size of the latent."""
    fmap_base: float = 4096
    """Channels of block b are this by 2 ** b ..."""
    fmap_max: int = 256
    """... and at most so many."""
    semitones: int = 0
    """Notes are shifted by up to so many semitones, their label with them."""
    cents: float = 0.0
    """And by so much more, which the label does not say."""
    early: float = 0.0
    """Up to so many seconds of silence come before a note."""
    gain: float = 0.0
    """Levels change by up to so many dB each way."""
    sources: tuple[str, ...] = ("acoustic",)
    """Which notes: acoustic, electronic, synthetic."""
    subset: bool = False
    """data-dir is TFDS's own, in which nsynth/gansynth_subset is prepared; its valid split is held out."""
    stages: gansynth.Stages = gansynth.Stages()
    """How long every stage takes, in notes."""
    training: gan.Settings = dataclasses.replace(
        gansynth.SETTINGS, log_every=100, save_every=2500, watch_every=25_000, history=3
    )

    family: ClassVar[str] = "gansynth"
    data_set: ClassVar[str] = "nsynth"

    def notes(self) -> tuple[Clips, np.ndarray]:
        """All notes of the sources and pitches, and (n,) whether each is held out."""
        if self.subset:
            parts = [data.load_gansynth_subset(self.data_dir, split) for split in ("train", "valid")]
            return joined(*parts), np.repeat([False, True], [len(part) for part in parts])
        clips, apart = super().notes()
        names = clips.names["source"]
        wrong = sorted(set(self.sources) - set(names))
        if wrong:
            raise ValueError(f"NSynth has no source {wrong[0]!r}; there are {', '.join(names)}")
        chosen = np.isin(clips.features["source"], [names.index(name) for name in self.sources])
        return clips.select(chosen), apart[chosen]

    def _card(self, notes: int, domain: MelIFDomain) -> dict[str, Any]:
        return super()._card(notes, domain) | {
            "data": f"{notes} notes of NSynth, {' and '.join(self.sources)} instruments",
            "source": "https://magenta.tensorflow.org/datasets/nsynth",
            "licence": "CC BY 4.0 (Google)",
        }


def recipe_of(generator: Network, **places: Any) -> GansynthNotes:
    """The recipe of a generator's notes: its sound and pitches, and what its card says of the notes it was trained on.

    Args:
      generator: a GANSynth whose classes are named as the recipes name pitches; without a card the notes are those of
        the defaults.
      places: data_dir and the like.

    Raises:
      ValueError: its classes are no pitches of these recipes.
    """
    module, front_end, names = generator.module, generator.output.transform, generators.classes_of(generator)  # type: ignore[attr-defined]
    if not isinstance(module, Generator) or not names or names[0] not in PITCHES:
        raise ValueError(
            f"no recipe makes notes of the classes {', '.join(names[:3]) or '(none)'}: a GANSynth here makes the "
            f"pitches {PITCHES[0]} to {PITCHES[-1]}"
        )
    lowest = FIRST + PITCHES.index(names[0])
    kind = GansynthNsynth if generator.card.get("name") == GansynthNsynth.family else GansynthNotes
    return kind(
        **places,
        **generator.card.get("notes", {}),
        lowest=lowest,
        highest=lowest + len(names) - 1,
        samples_long=front_end.samples,
        n_fft=front_end.n_fft,
        frames=front_end.frames,
        blocks=module.blocks,
        latent=module.latent,
        fmap_base=module.fmap_base,
        fmap_max=module.fmap_max,
    )


def joined(one: Clips, other: Clips) -> Clips:
    """The sounds of two parts of one data set."""
    features = {name: np.concatenate([values, other.features[name]]) for name, values in one.features.items()}
    waves = [*one.waves, *other.waves]
    return dataclasses.replace(one, waves=waves, features=features, files=(*one.files, *other.files))


def shifted_counts(pitch: np.ndarray, lowest: int, highest: int, semitones: int) -> np.ndarray:
    """How often every pitch comes, (pitches,), lowest first, when notes are shifted as `augment.shift_pitch` does."""
    counts = np.zeros(highest - lowest + 1)
    for note in pitch:
        least, most = max(-semitones, lowest - note), min(semitones, highest - note)
        counts[note + least - lowest : note + most - lowest + 1] += 1.0 / (most - least + 1)
    return counts
