"""The Free Spoken Digit Dataset: English digits 0-9 by six speakers, 8 kHz."""

from __future__ import annotations

import pathlib
import re

from nd_jax.data.builders.base import CLASSES, AudioBuilder, Example, LayoutError, find_root, sound_files

_NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>[^_]+)_(?P<take>\d+)")
_TEST_TAKES = range(5)


class SpokenDigits(AudioBuilder):
    """Features digit, speaker and take; the official split: takes 0-4 of every speaker and digit are the test."""

    name = "spoken_digits"
    title = "Free Spoken Digit Dataset"
    homepage = "https://github.com/Jakobovski/free-spoken-digit-dataset"
    licence = "CC BY-SA 4.0"
    instructions = (
        "clone or download https://github.com/Jakobovski/free-spoken-digit-dataset and give the folder that holds "
        "'recordings' (files {digit}_{speaker}_{take}.wav); a folder 'audio' of FLAC files named alike works too"
    )
    features = {"digit": tuple("0123456789"), "speaker": CLASSES, "take": int}

    def splits(self, folder: pathlib.Path) -> dict[str, list[Example]]:
        root = find_root(folder, "recordings", "audio") or folder
        sounds = next((root / part for part in ("recordings", "audio") if (root / part).is_dir()), root)
        splits: dict[str, list[Example]] = {"train": [], "test": []}
        for path in sound_files(sounds):
            match = _NAME.fullmatch(path.stem)
            if match is None:
                continue
            labels = {**match.groupdict(), "take": int(match["take"])}
            split = "test" if labels["take"] in _TEST_TAKES else "train"
            splits[split].append(Example(path.relative_to(sounds).as_posix(), labels, path))
        if not any(splits.values()):
            raise LayoutError(f"no files named {{digit}}_{{speaker}}_{{take}}.wav in {sounds}")
        return splits
