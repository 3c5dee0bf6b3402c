"""NSynth: four-second notes at 16 kHz.

Engel et al., "Neural Audio Synthesis of Musical Notes with WaveNet Autoencoders", ICML 2017.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any

from nd_jax.data.builders.base import CLASSES, AudioBuilder, Example, LayoutError

FAMILIES = ("bass", "brass", "flute", "guitar", "keyboard", "mallet", "organ", "reed", "string", "synth_lead", "vocal")
SOURCES = ("acoustic", "electronic", "synthetic")
QUALITIES = (
    "bright",
    "dark",
    "distortion",
    "fast_decay",
    "long_release",
    "multiphonic",
    "nonlinear_env",
    "percussive",
    "reverb",
    "tempo-synced",
)
_ARCHIVES = {"train": "nsynth-train", "valid": "nsynth-valid", "test": "nsynth-test"}


class NSynth(AudioBuilder):
    """Features instrument, family, source, pitch, velocity (MIDI), and a flag per quality ("quality_bright", ...)."""

    name = "nsynth"
    title = "NSynth"
    homepage = "https://magenta.tensorflow.org/datasets/nsynth"
    licence = "CC BY 4.0"
    instructions = (
        "download the json/wav archives from https://magenta.tensorflow.org/datasets/nsynth and unpack them here: "
        "nsynth-train, nsynth-valid, nsynth-test (any of them), each with examples.json and a folder audio of WAV files"
    )
    features = {
        "instrument": CLASSES,
        "family": FAMILIES,
        "source": SOURCES,
        "pitch": int,
        "velocity": int,
        **{f"quality_{quality}": bool for quality in QUALITIES},
    }

    def splits(self, folder: pathlib.Path) -> dict[str, list[Example]]:
        archives = {split: folder / name for split, name in _ARCHIVES.items() if (folder / name).is_dir()}
        if not archives:
            split = next((split for split, name in _ARCHIVES.items() if name == folder.name), "train")
            archives = {split: folder}
        return {split: _archive(path, "" if path == folder else path.name + "/") for split, path in archives.items()}


def _archive(folder: pathlib.Path, prefix: str) -> list[Example]:
    path = folder / "examples.json"
    if not path.is_file():
        raise LayoutError(f"no examples.json in {folder}")
    try:
        notes = json.loads(path.read_text(encoding="utf-8"))
        return [
            Example(f"{prefix}{note}.wav", _labels(record), folder / "audio" / f"{note}.wav")
            for note, record in notes.items()
        ]
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not readable JSON: {error}") from None
    except (AttributeError, KeyError, TypeError, IndexError, ValueError) as error:
        raise ValueError(f"{path} is not NSynth's table of notes: {type(error).__name__} {error}") from None


def _labels(record: dict[str, Any]) -> dict[str, Any]:
    flags = zip(QUALITIES, record["qualities"], strict=True)
    return {
        "instrument": record["instrument_str"],
        "family": record.get("instrument_family_str") or FAMILIES[record["instrument_family"]],
        "source": record.get("instrument_source_str") or SOURCES[record["instrument_source"]],
        "pitch": int(record["pitch"]),
        "velocity": int(record["velocity"]),
        **{f"quality_{quality}": bool(flag) for quality, flag in flags},
    }
