"""What judge_gan.py says of a generator of notes: pitch by two judges, the set figures, variety and copies.

Notes are asked for evenly, one of every pitch in turn. Two judges say which pitch they have: a classifier, and Praat's
autocorrelation, which no network is part of. Each stands beside real notes: those that the GAN was not trained on, and
those of instruments that the judge `notes_judge` has never heard; Praat's settings were chosen on neither.

Distances, bins and scores depend on how many notes there are and which pitches they have. So the real notes are halved
at random: one half (training notes only) is the reference, the other half (with all held-out ones) is the real row, and
one sample is made for each of its notes, of its pitch. Nearness to the training set is measured with all of it, and
beside held-out notes only.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

import nd_jax as nd
from nd_jax import generators, metrics
from nd_jax.domain import LogMel
from nd_jax.domain.playing import sounds
from nd_jax.experiments.configs.gansynth import GansynthExperiment
from nd_jax.experiments.configs.instrument_notes import LOWEST, PITCHES, InstrumentNotes
from nd_jax.experiments.judge_gan import SEED, Judge, real, untrained
from nd_jax.training.splits import group_positions

# Real notes that are drawn at most, and how often each training note is drawn for the search of copies, changed anew.
_MOST = 2000
_DRAWS = 4
_BINS = 20
# Of so many samples of every pitch the card also keeps the figures alone, so that they are soon measured again.
_FIRST = 2
# How far two notes are apart: in the judge's features, and in what it hears.
_VIEWS: dict[str, Callable[[Any], np.ndarray]] = {
    "features": lambda notes: notes.heard.features,
    "levels": lambda notes: notes.levels,
}
# The bar: so many points below real notes, and such a share of their variety.
POINTS, VARIETY = 5.0, 0.5


@dataclasses.dataclass(frozen=True)
class _Notes:
    """Notes as the judge hears them.

    Attributes:
      heard: what it says, and its features.
      levels: (n, cells) what it takes, flattened; log-mels in dB, divided by the root of their number of cells, so that
        a distance is a root mean square.
      pitch: (n,) MIDI numbers that they should have.
    """

    heard: metrics.Heard
    levels: np.ndarray
    pitch: np.ndarray

    @classmethod
    def of(cls, judge: Judge, x: np.ndarray, pitch: np.ndarray) -> _Notes:
        taken = np.asarray(judge.given(x))
        span = judge.network.input.ceiling_db - judge.network.input.transform.floor_db if _hears_mels(judge) else 1.0
        flat = taken.reshape(len(taken), -1)
        heard = metrics.hear(judge.network, taken, judge.layer, head=judge.head)
        return cls(heard, flat * (span / flat.shape[1] ** 0.5), np.asarray(pitch))

    def __len__(self) -> int:
        return len(self.pitch)

    def __getitem__(self, rows: Any) -> _Notes:
        return _Notes(self.heard[rows], self.levels[rows], self.pitch[rows])

    def __add__(self, other: _Notes) -> _Notes:
        pairs = ((getattr(self, name), getattr(other, name)) for name in ("levels", "pitch"))
        both = ((getattr(self.heard, name), getattr(other.heard, name)) for name in ("probabilities", "features"))
        return _Notes(metrics.Heard(*map(np.concatenate, both)), *map(np.concatenate, pairs))


def _hears_mels(judge: Judge) -> bool:
    return isinstance(judge.network.input, LogMel)


def figures_of(experiment: GansynthExperiment, generator: nd.Network, judge: Judge, count: int) -> dict[str, Any]:
    """All figures of a generator of notes; JSON-ready.

    Args:
      experiment: its recipe's, with the real notes.
      generator: what is measured.
      judge: a classifier of pitches.
      count: samples, asked for evenly, by which pitch and variety are measured.

    Returns:
      What `nd.metrics.judge` gives for the halves, {"judge", "layer", "seed"}, and {"notes": {"rows", "each",
      "variety", "copies", "sets", "first", "bar"}}; experiments/judge_notes_table.py makes it readable.

    Raises:
      ValueError: a judge that does not know the generator's pitches, or too few notes.
      MissingExtraError: parselmouth is missing.
    """
    names = generators.classes_of(generator)
    judge.classes(names, [0])
    midi = midi_numbers(names)

    # --- pitch, of notes that are asked for evenly --------------------------------------------------------------------
    shown = _recorded(experiment, judge) | {"generated": _made(generator, midi, None, count)}
    rows, cents = {}, {}
    for name, (x, pitch) in shown.items():
        notes = _Notes.of(judge, x, pitch)
        rows[name], cents[name] = pitch_row(notes.heard, judge.labels, _hertz(generator.output, x), pitch)
    evenly = notes
    right = {name: np.abs(off) <= metrics.WITHIN_CENTS for name, off in cents["generated"].items()}

    # --- the two halves of the real notes -----------------------------------------------------------------------------
    known, apart = _real(experiment, judge, midi, known=True), _real(experiment, judge, midi)
    order = np.random.default_rng(SEED).permutation(len(known))
    half = min(len(known), (len(known) + len(apart)) // 2)
    reference, others = known[np.sort(order[:half])], known[np.sort(order[half:])] + apart
    labels = others.pitch - midi[0]
    made, before = (
        _Notes.of(judge, *_made(network, midi, labels, len(labels))) for network in (generator, untrained(generator))
    )
    record = metrics.judge(
        reference.heard,
        others.heard,
        made.heard,
        jax.random.key(SEED),
        untrained=before.heard,
        labels=judge.labels,
        asked=judge.classes(names, labels),
        meant=judge.classes(names, labels),
        bins=int(np.clip(len(others) // 20, 2, _BINS)),
    )

    # --- variety and copies -------------------------------------------------------------------------------------------
    every = known
    for draw in range(1, _DRAWS):
        every = every + _real(experiment, judge, midi, known=True, draw=draw)
    copies = {row: _copies(every, apart, notes) for row, notes in (("generated", made), ("untrained", before))}
    for row, found in copies.items():
        record["rows"][row]["memorisation"] = found["features"]
    found = {
        "rows": rows,
        "each": _each(names, evenly.pitch - midi[0], right),
        "variety": _variety(known + apart, evenly),
        "copies": copies,
        "sets": {"reference": half, "known": len(known), "held_out": len(apart), "draws": _DRAWS},
        "first": first(right, evenly.heard, _FIRST * len(names)),
    }
    head = {"judge": judge.name, "layer": judge.layer, "seed": SEED}
    return {**head, **record, "notes": {**found, "bar": bar(rows, found["variety"], len(names))}}


# --- notes ------------------------------------------------------------------------------------------------------------


def _made(
    network: nd.Network, midi: np.ndarray, labels: np.ndarray | None, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Samples of some classes, by default all in turn, and their MIDI numbers."""
    given = generators.inputs(network, SEED, count)
    given = given if labels is None else {**given, "label": np.asarray(labels, np.int32)}
    return generators.make(network, given), midi[given["label"]]


def _real(experiment: GansynthExperiment, judge: Judge, midi: np.ndarray, **which: Any) -> _Notes:
    """Real notes as the discriminator sees them, heard by the judge; `which` as of `judge_gan.real`."""
    drawn = real(experiment, _MOST, **which)
    return _Notes.of(judge, drawn["x"], midi[drawn["label"]])


def _hertz(domain: nd.Domain, x: np.ndarray) -> np.ndarray:
    """(n,) fundamentals of examples of a sound domain."""
    heard = list(sounds(domain, x) or ())
    return metrics.fundamentals([sound.wave for sound in heard], int(heard[0].sample_rate))


def _recorded(experiment: GansynthExperiment, judge: Judge) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Real notes as they were recorded, with their MIDI numbers.

    {"held_out": from the GAN, "unheard": of instruments that the judge does not know, where that can be said}.
    """
    lowest, many = int(midi_numbers(experiment.task.labels)[0]), len(experiment.task.labels)
    sides = {"known": experiment.task.arrays, "held_out": experiment.held_out}
    wanted = {"held_out": {"held_out": np.ones(len(experiment.held_out["pitch"]), bool)}}
    if judge.network.card.get("name") == "notes_judge":
        # By instrument, as its recipe splits them.
        split = InstrumentNotes(pathlib.Path("."), held_out_by="instrument")
        wanted["unheard"] = {
            side: group_positions(experiment.instruments[side].tolist(), split.split_seed) < split.held_out
            for side in sides
        }
    present = jax.jit(jax.vmap(experiment.present))
    found = {}
    for name, chosen in wanted.items():
        parts = []
        for side, rows in chosen.items():
            pitch = np.asarray(sides[side]["pitch"])
            places = np.flatnonzero(rows & (pitch >= lowest) & (pitch < lowest + many))[:_MOST]
            for at in range(0, len(places), 50):
                some = {each: values[places[at : at + 50]] for each, values in sides[side].items()}
                parts.append(jax.device_get(present(some)))
        if parts:
            x, label = (np.concatenate([part[each] for part in parts]) for each in ("x", "label"))
            found[name] = (x, label + lowest)
    return found


def midi_numbers(names: Sequence[str]) -> np.ndarray:
    """(n,) MIDI numbers of pitches by their names here, C1 to C6.

    Raises:
      ValueError: another name, or pitches that do not follow each other.
    """
    wrong = [name for name in names if name not in PITCHES]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is no pitch; there are {PITCHES[0]} to {PITCHES[-1]}")
    found = LOWEST + np.asarray([PITCHES.index(name) for name in names])
    if len(found) < 3 or np.any(np.diff(found) != 1):
        raise ValueError(f"the generator's pitches must follow each other, three or more, got {', '.join(names)}")
    return found


# --- figures ----------------------------------------------------------------------------------------------------------


def pitch_row(
    heard: metrics.Heard, labels: Sequence[str], hertz: np.ndarray, pitch: np.ndarray
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What both judges say of the pitch of some notes.

    Args:
      heard: as the classifier hears them.
      labels: its classes, names of pitches.
      hertz: (n,) fundamentals; not a number where there is none.
      pitch: (n,) MIDI numbers that they should have.

    Returns:
      {"n", "classifier" and "f0": what `metrics.pitch_figures` says, "entropy", "entropy_interval"}, and {"classifier",
      "f0": (n,) by how many cents each is off}.
    """
    number = midi_numbers(labels)[heard.probabilities.argmax(axis=1)]
    cents = {"classifier": 100.0 * (number - pitch), "f0": metrics.cents_off(hertz, pitch)}
    entropy = metrics.prediction_entropy(heard.probabilities)
    ends = metrics.jackknife(lambda rows: metrics.prediction_entropy(heard.probabilities[rows]), len(pitch))
    figures = {name: metrics.pitch_figures(off) for name, off in cents.items()}
    return {"n": len(pitch), **figures, "entropy": entropy, "entropy_interval": list(ends)}, cents


def first(right: Mapping[str, np.ndarray], heard: metrics.Heard, count: int) -> dict[str, Any]:
    """The figures of the first samples alone, which are soon made and measured again."""
    few = min(count, len(heard))
    counts = {name: int(each[:few].sum()) for name, each in right.items()}
    return {"n": few, **counts, "entropy": metrics.prediction_entropy(heard.probabilities[:few])}


def bar(rows: Mapping[str, Any], variety: Mapping[str, Any], pitches: int) -> dict[str, Any]:
    """How far the generator is from what a good one must reach.

    Args:
      rows: as of `pitch_row`, "generated" and those of real notes.
      variety: as of `metrics.variety`, one for every kind of distance.
      pitches: how many it has, one next to the other.

    Returns:
      {"pitches", "classifier" and "f0": points below the best real row of the judge, "variety": the smallest share of
      that of real notes, "met": whether these are at most `POINTS` and at least `VARIETY`}.
    """
    below = {}
    for judge in ("classifier", "f0"):
        found = {name: 100 * row[judge]["right"]["value"] for name, row in rows.items()}
        below[judge] = round(max(value for name, value in found.items() if name != "generated") - found["generated"], 2)
    varied = min(one["ratio"] for one in variety.values())
    met = max(below.values()) <= POINTS and varied >= VARIETY
    return {"pitches": pitches, **below, "variety": round(varied, 3), "met": bool(met)}


def _each(names: Sequence[str], classes: np.ndarray, right: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
    """How many of every pitch there are, and are right, lowest first."""
    many = len(names)
    counts = {name: np.bincount(classes[flags], minlength=many).tolist() for name, flags in right.items()}
    return {"pitch": list(names), "of": np.bincount(classes, minlength=many).tolist(), **counts}


def _variety(real_notes: _Notes, made: _Notes) -> dict[str, Any]:
    return {
        name: metrics.variety(view(real_notes), real_notes.pitch, view(made), made.pitch).to_dict()
        for name, view in _VIEWS.items()
    }


def _copies(known: _Notes, held_out: _Notes, made: _Notes) -> dict[str, Any]:
    return {
        name: metrics.memorisation(view(known), view(held_out), view(made)).to_dict() for name, view in _VIEWS.items()
    }
