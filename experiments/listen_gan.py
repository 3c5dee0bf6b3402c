"""A page to listen to a generator of notes: every pitch with several latents, and a real note beside.

    python experiments/listen_gan.py --generator checkpoints/notes_gansynth --data-dir NOTES

OUT/index.html is one file that holds all spectrograms and sounds. A row is a pitch; its first note is real (held out
from the GAN where there is such a one), the others are made from the same few latents in every row, nothing chosen.
Every note says which pitch is found in it, by the judge and by Praat (extra `voice`).
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

import nd_jax as nd
from nd_jax import generators, metrics
from nd_jax.domain import MelIF, Sound
from nd_jax.domain.playing import sounds
from nd_jax.experiments.configs.gansynth import GansynthExperiment, recipe_of
from nd_jax.experiments.judge_gan import Judge
from nd_jax.experiments.judge_notes import midi_numbers
from nd_jax.experiments.judge_notes_table import explained, lines
from nd_jax.report import pictures
from nd_jax.report.leaflet import Leaflet
from nd_jax.runtime import command_line, enable_compilation_cache
from nd_jax.training import gan


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is listened to."""

    generator: str
    """A generator of notes: its folder, or the name of a shipped one."""
    data_dir: pathlib.Path
    """The folder with the notes that it was trained on."""
    judge: str = "notes_judge:pitch"
    """The classifier of pitches: a network's folder or the name of a shipped one, and its head."""
    out: pathlib.Path = pathlib.Path("out/listen")
    """The folder to write."""
    prepared_dir: pathlib.Path | None = None
    """Where the prepared data set is kept; by default in the user's data folder."""
    latents: int = 3
    """So many for every pitch."""
    seed: int = 0
    """Of the latents."""

    def __post_init__(self) -> None:
        if self.latents < 1:
            raise ValueError(f"latents must be 1 or more, got {self.latents}")


@dataclasses.dataclass(frozen=True)
class _Note:
    """One note of the page.

    Attributes:
      name: what it is.
      asked: the MIDI number that it should have.
      generated: whether it is.
    """

    name: str
    asked: int
    generated: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    settings = command_line(Settings, arguments, __doc__)
    enable_compilation_cache()
    try:
        print(run(settings))
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run(settings: Settings) -> pathlib.Path:
    """Makes, measures and draws all notes; returns the path of the page."""
    generator = nd.load(settings.generator)
    if not isinstance(generator.output, MelIF):
        raise ValueError(f"{settings.generator} makes no notes as mel-IF pictures, but {generator.output.kind}")
    names = generators.classes_of(generator)
    midi = midi_numbers(names)
    judge = Judge.load(settings.judge, generator.output)
    places = {"data_dir": settings.data_dir, "prepared_dir": settings.prepared_dir}
    experiment = recipe_of(generator, **places, training=gan.Settings(batch_size=1)).experiment()

    # --- the notes of every row: a real one, then one a latent --------------------------------------------------------
    per = settings.latents
    z = generators.inputs(generator, settings.seed, per)["z"]
    labels = np.repeat(np.arange(len(names), dtype=np.int32), per)
    made = generators.make(generator, {"z": np.tile(z, (len(names), 1)), "label": labels})
    rows: list[tuple[str, np.ndarray, list[_Note]]] = []
    for place, (name, pitch) in enumerate(zip(names, midi, strict=True)):
        notes = [_Note(f"{name}, latent {number}", int(pitch), True) for number in range(per)]
        x = made[place * per : (place + 1) * per]
        real = _real(experiment, place, int(pitch))
        if real is not None:
            notes, x = [_Note(real[0], int(pitch), False), *notes], np.concatenate([real[1][None], x])
        rows.append((name, x, notes))

    # --- what is found in them ----------------------------------------------------------------------------------------
    everything = np.concatenate([x for _, x, _ in rows])
    every = [note for _, _, notes in rows for note in notes]
    heard = list(sounds(generator.output, everything) or ())
    probabilities = judge.hear(everything).probabilities
    hertz = metrics.fundamentals([sound.wave for sound in heard], generator.output.sample_rate)
    cents = metrics.cents_off(hertz, [note.asked for note in every])
    said = [judge.labels[number] for number in probabilities.argmax(axis=1)]
    facts = [
        [f"judge: {name} ({probability:.2f})", _praat(frequency, off)]
        for name, probability, frequency, off in zip(said, probabilities.max(axis=1), hertz, cents, strict=True)
    ]

    # --- the page -----------------------------------------------------------------------------------------------------
    right = {
        "the judge": [name == names[note.asked - midi[0]] for name, note in zip(said, every, strict=True)],
        "Praat": list(np.abs(np.nan_to_num(cents, nan=np.inf)) <= metrics.WITHIN_CENTS),
    }
    title = generator.card.get("name") or pathlib.Path(settings.generator).name
    sheet = Leaflet(settings.out, f"{title}: every pitch", one_file=True)
    _head(sheet, generator.card, settings, judge, every, right)
    start = 0
    for name, x, notes in rows:
        end = start + len(notes)
        _row(sheet, name, x, notes, facts[start:end], heard[start:end], generator.output)
        start = end
    return sheet.finish()


def _real(experiment: GansynthExperiment, label: int, pitch: int) -> tuple[str, np.ndarray] | None:
    """A real note of a pitch and what it is: a held-out one if there is one, always the same; None without any."""
    for arrays, side, words in (
        (experiment.held_out, "held_out", "held out"),
        (experiment.task.arrays, "known", "training"),
    ):
        there = np.flatnonzero(np.asarray(arrays["pitch"]) == pitch)
        if len(there):
            chosen = int(np.random.default_rng(label).choice(there))
            shown = jax.jit(experiment.present)({name: values[chosen] for name, values in arrays.items()})
            instrument = str(experiment.instruments[side][chosen]).replace("_", " ")
            return f"real: {instrument} ({words})", np.asarray(shown["x"])
    return None


def _praat(hertz: float, cents: float) -> str:
    if not np.isfinite(hertz):
        return "Praat: no pitch"
    octaves = round(cents / 1200)
    if octaves and abs(cents - 1200 * octaves) <= metrics.WITHIN_CENTS:
        return f"Praat: {hertz:.1f} Hz, {octaves:+d} octave{'s' if abs(octaves) > 1 else ''}".replace("-", "−")
    return f"Praat: {hertz:.1f} Hz, {cents:+.0f} cents".replace("-", "−")


def _head(
    sheet: Leaflet,
    card: Mapping[str, Any],
    settings: Settings,
    judge: Judge,
    notes: Sequence[_Note],
    right: Mapping[str, Sequence[bool]],
) -> None:
    """What the page shows, what was found on it, and the figures of the card."""
    made = np.asarray([note.generated for note in notes])
    found = ", ".join(
        f"{np.sum(np.asarray(each)[made])} by {who} ({np.sum(np.asarray(each)[~made])} of the {np.sum(~made)} real)"
        for who, each in right.items()
    )
    sheet.text(
        f"A row is a pitch. Its first note is real, the others are made from the same {settings.latents} latents in "
        f"every row (seed {settings.seed}); nothing was chosen. Of the {made.sum()} generated notes on this page, the "
        f"pitch is as asked in {found}: the judge is {judge.name}, and for Praat right is within 50 cents."
    )
    if card.get("limits"):
        sheet.text(f"Limits: {card['limits']}.")
    figures = card.get("samples") or {}
    if "notes" in figures:
        head, *rows = lines(figures)
        sheet.heading("How good it is")
        sheet.table(head, rows)
        sheet.text(explained(figures), soft=True)


def _row(
    sheet: Leaflet,
    name: str,
    x: np.ndarray,
    notes: Sequence[_Note],
    facts: Sequence[Sequence[str]],
    heard: Sequence[Sound],
    domain: MelIF,
) -> None:
    drawn = pictures.level_tiles(x, domain, [f"{note.name}: level over time and frequency" for note in notes])
    hertz = 440.0 * 2.0 ** ((notes[0].asked - 69) / 12)
    sheet.heading(f"{name}, {hertz:.1f} Hz")
    titles = [note.name for note in notes]
    sheet.tiles(name.replace("#", "s"), x, domain, titles=titles, facts=facts, made=heard, figures=drawn)


if __name__ == "__main__":
    raise SystemExit(main())
