"""EmoDB, the Berlin Database of Emotional Speech (Burkhardt et al., Interspeech 2005): ten actors, seven emotions."""

from __future__ import annotations

import pathlib
import re

from nd_jax.data.builders.base import CLASSES, AudioBuilder, Example, LayoutError, find_root, sound_files

EMOTIONS = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "N": "neutral",
    "T": "sadness",
}
# Sex and age of the speakers, from the database's own page.
SPEAKERS = {
    "03": ("male", 31),
    "08": ("female", 34),
    "09": ("female", 21),
    "10": ("male", 32),
    "11": ("male", 26),
    "12": ("male", 30),
    "13": ("female", 32),
    "14": ("female", 35),
    "15": ("male", 25),
    "16": ("female", 31),
}
_TEST = ("15", "16")
_NAME = re.compile(rf"(?P<speaker>\d\d)(?P<sentence>[ab]\d\d)(?P<emotion>[{''.join(EMOTIONS)}])(?P<version>[a-z]?)")


class EmoDB(AudioBuilder):
    """Features emotion, speaker, sex, age, sentence and version.

    One split a speaker (speaker03 ... speaker16), so that scores can be by speakers who were never heard; train and
    test are aliases, and speakers 15 (male) and 16 (female) are the test.
    """

    name = "emodb"
    title = "Berlin Database of Emotional Speech (EmoDB)"
    homepage = "http://emodb.bilderbar.info"
    licence = "none stated: a free download of TU Berlin, to be cited as Burkhardt et al., Interspeech 2005"
    instructions = (
        "download http://emodb.bilderbar.info/download/download.zip and give the folder that holds 'wav' (files "
        "{speaker}{sentence}{emotion}{version}.wav, such as 03a01Fa.wav); a folder 'audio' of FLAC files named alike "
        "works too"
    )
    aliases = {
        "train": "+".join(f"speaker{speaker}" for speaker in SPEAKERS if speaker not in _TEST),
        "test": "+".join(f"speaker{speaker}" for speaker in _TEST),
    }
    features = {
        "emotion": tuple(EMOTIONS.values()),
        "speaker": tuple(SPEAKERS),
        "sex": ("female", "male"),
        "age": int,
        "sentence": CLASSES,
        "version": str,
    }

    def splits(self, folder: pathlib.Path) -> dict[str, list[Example]]:
        root = find_root(folder, "wav", "audio") or folder
        sounds = next((root / part for part in ("wav", "audio") if (root / part).is_dir()), root)
        splits: dict[str, list[Example]] = {f"speaker{speaker}": [] for speaker in SPEAKERS}
        for path in sound_files(sounds):
            match = _NAME.fullmatch(path.stem)
            if match is None:
                continue
            speaker = match["speaker"]
            if speaker not in SPEAKERS:
                raise ValueError(f"{path}: EmoDB has no speaker {speaker}; it has {', '.join(SPEAKERS)}")
            sex, age = SPEAKERS[speaker]
            labels = {**match.groupdict(), "emotion": EMOTIONS[match["emotion"]], "sex": sex, "age": age}
            splits[f"speaker{speaker}"].append(Example(path.relative_to(sounds).as_posix(), labels, path))
        if not any(splits.values()):
            raise LayoutError(f"no files named {{speaker}}{{sentence}}{{emotion}}{{version}}.wav in {sounds}")
        return splits
