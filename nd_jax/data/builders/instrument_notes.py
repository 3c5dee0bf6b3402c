"""Single notes of sampled instruments: `audio/*` and a `labels.csv`."""

from __future__ import annotations

import hashlib
import pathlib

from nd_jax.data.builders.base import CLASSES, AudioBuilder, Example, LayoutError, find_root, number, read_table
from nd_jax.data.builders.nsynth import FAMILIES


class InstrumentNotes(AudioBuilder):
    """Features instrument, family and pitch (MIDI number).

    The same instrument at the same pitch may occur several times and sound nearly the same, so the splits are by
    (instrument, pitch), never by file: a hash of the two gives about 80 % train, 10 % valid, 10 % test.
    """

    name = "instrument_notes"
    title = "Single instrument notes"
    licence = "per file, see the column 'licence' of labels.csv"
    instructions = (
        "put one sound file a note into a folder 'audio', and beside it a file 'labels.csv' with the columns "
        "file, instrument, family, pitch_midi (families are NSynth's: " + ", ".join(FAMILIES) + ")"
    )
    features = {"instrument": CLASSES, "family": FAMILIES, "pitch": int}

    def splits(self, folder: pathlib.Path) -> dict[str, list[Example]]:
        root = find_root(folder, "labels.csv")
        if root is None:
            raise LayoutError(f"no labels.csv in {folder}")
        table = root / "labels.csv"
        splits: dict[str, list[Example]] = {"train": [], "valid": [], "test": []}
        for row in read_table(table, ("file", "instrument", "family", "pitch_midi")):
            pitch = number(row, "pitch_midi", table)
            labels = {"instrument": row["instrument"], "family": row["family"], "pitch": pitch}
            split = _split(row["instrument"], pitch)
            splits[split].append(Example(row["file"], labels, root / "audio" / row["file"]))
        return splits


def _split(instrument: str, pitch: int) -> str:
    bucket = hashlib.sha256(f"{instrument}:{pitch}".encode()).digest()[0]
    return "test" if bucket < 26 else "valid" if bucket < 52 else "train"
