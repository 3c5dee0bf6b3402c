"""The figures of experiments/judge_notes.py as a table, and in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nd_jax.proportions import in_words, p_in_words

_COLUMNS = {
    "held_out": "real",
    "unheard": "real, new to the judge",
    "generated": "generated",
    "untrained": "untrained",
}
_VIEWS = {"features": "features", "levels": "log-mel (dB)"}
_Cell = Callable[[str], str]


def lines(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """What `judge_notes.figures_of` returned, or what came back from its JSON, as a table: its head, then its rows.

    As in Engel et al. 2019, table 1, with a line for every figure: real notes come first.
    """
    notes = found["notes"]
    shown = [name for name in _COLUMNS if name in notes["rows"] or name == "untrained"]
    every = (*_pitch_lines(notes["rows"]), *_set_lines(found["rows"]), *_note_lines(notes))
    return [("", *(_COLUMNS[name] for name in shown)), *((name, *map(cell, shown)) for name, cell in every)]


def table(found: Mapping[str, Any]) -> str:
    """The same as Markdown."""
    head, *rows = lines(found)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ("---",) * len(head), *rows))


def _pitch_lines(rows: Mapping[str, Any]) -> list[tuple[str, _Cell]]:
    def line(say: Callable[[Mapping[str, Any]], str]) -> _Cell:
        return lambda name: say(rows[name]) if name in rows else ""

    def share(judge: str, what: str) -> _Cell:
        return line(lambda row: in_words(row[judge][what]))

    return [
        ("notes, for pitch", line(lambda row: f"{row['n']:,}")),
        ("pitch as asked, by the classifier", share("classifier", "right")),
        ("... an octave off", share("classifier", "octave_errors")),
        ("pitch within 50 cents, by Praat", share("f0", "right")),
        ("... an octave off", share("f0", "octave_errors")),
        ("... no pitch found", share("f0", "no_pitch")),
        ("pitch entropy (nats)", line(lambda row: _interval(row["entropy"], row["entropy_interval"], ".3f"))),
    ]


def _set_lines(rows: Mapping[str, Any]) -> list[tuple[str, _Cell]]:
    def line(say: Callable[[Mapping[str, Any]], str]) -> _Cell:
        # The real row of these is that of the halves.
        return lambda name: "" if name == "unheard" else say(rows["real" if name == "held_out" else name])

    def bins(row: Mapping[str, Any]) -> str:
        return f"{row['ndb']['different']} of {row['ndb']['k']}, {row['ndb']['jensen_shannon']:.3f}"

    def figure(key: str, form: str) -> _Cell:
        return line(lambda row: _interval(row[key], row["intervals"][key], form))

    def neighbours(key: str) -> _Cell:
        return line(lambda row: _interval(row[key], (row[f"{key}_low"], row[f"{key}_high"]), ".2f"))

    return [
        ("notes, for what follows", line(lambda row: f"{row['n']:,}")),
        ("inception score", figure("inception_score", ".2f")),
        ("kernel distance (MMD²)", figure("kernel_distance", ".4f")),
        ("its permutation p", line(lambda row: p_in_words(row["kernel_p"]))),
        ("NDB (share of bins), JS", line(bins)),
        ("density", neighbours("density")),
        ("coverage", neighbours("coverage")),
    ]


def _note_lines(notes: Mapping[str, Any]) -> list[tuple[str, _Cell]]:
    def near(view: str) -> _Cell:
        def say(name: str) -> str:
            if name not in notes["copies"]:
                return ""
            one = notes["copies"][name][view]
            share = _interval(100 * one["near"], (100 * one["near_low"], 100 * one["near_high"]), ".1f")
            return f"{share} %, p {p_in_words(one['near_p'])}"

        return say

    def median(view: str) -> _Cell:
        copies = notes["copies"]
        return lambda name: f"{copies[name][view]['median_ratio']:.2f} of real" if name in copies else ""

    def variety(view: str) -> _Cell:
        one = notes["variety"][view]
        ratio = _interval(one["ratio"], (one["low"], one["high"]), ".2f")
        cells = {"held_out": f"{one['real']:.2f}", "generated": f"{one['generated']:.2f}; {ratio} of real"}
        return lambda name: cells.get(name, "")

    return [
        line
        for view, words in _VIEWS.items()
        for line in (
            (f"nearer to training than 95 % of held-out, {words}", near(view)),
            (f"median distance to training, {words}", median(view)),
            (f"distance of two notes of one pitch, {words}", variety(view)),
        )
    ]


def explained(found: Mapping[str, Any]) -> str:
    """What the columns are and how they were measured, for below the table."""
    notes = found["notes"]
    rows, each, sets, goal = notes["rows"], notes["each"], notes["sets"], notes["bar"]
    new = (
        f" and those of instruments that the classifier never heard ({rows['unheard']['n']})"
        if "unheard" in rows
        else ""
    )
    sentences = (
        f"Pitch: {rows['generated']['n']:,} notes of seed {found['seed']}, all pitches in turn, heard by the "
        f"classifier {found['judge']} and by Praat's autocorrelation; beside them real notes as recorded: those that "
        f"the GAN was not trained on ({rows['held_out']['n']}){new}. All went through the generator's pictures.",
        f"Weakest pitches: {_weakest(each, 'classifier')} by the classifier, {_weakest(each, 'f0')} by Praat.",
        f"Below these lines, features are those of the layer {found['layer']}. From the inception score to coverage "
        f"the reference is a random half of the real notes ({sets['reference']}, from training); the others, with "
        "the held-out ones, are the real row, and one sample was made for each of them, of its pitch.",
        f"Nearness is that to all {sets['known']} training notes, each drawn {sets['draws']} times as training does, "
        f"beside that of {sets['held_out']} held-out notes. Intervals: 95 %.",
        f"Over {goal['pitches']} pitches next to each other, pitch is {goal['classifier']:.1f} points below the best "
        f"real row by the classifier, {goal['f0']:.1f} by Praat.",
    )
    return " ".join(sentences)


def _weakest(each: Mapping[str, Any], judge: str) -> str:
    at = min(range(len(each["of"])), key=lambda place: each[judge][place] / max(each["of"][place], 1))
    return f"{each['pitch'][at]} ({each[judge][at]} of {each['of'][at]})"


def _interval(value: float, ends: Sequence[float], form: str) -> str:
    return f"{value:{form}} ({ends[0]:{form}} to {ends[1]:{form}})"
