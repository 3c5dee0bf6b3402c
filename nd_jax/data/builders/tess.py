"""TESS, the Toronto emotional speech set (Pichora-Fuller and Dupuis, 2010): two actresses say 200 words, 7 emotions."""

from __future__ import annotations

import pathlib
import re

from nd_jax.data.builders.base import CLASSES, AudioBuilder, Example, LayoutError, sound_files

EMOTIONS = ("anger", "disgust", "fear", "happiness", "neutral", "pleasant surprise", "sadness")
SPEAKERS = {"OAF": 64, "YAF": 26}
"""The older and the younger actress, with their ages."""

_CODES = {
    "angry": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happiness",
    "neutral": "neutral",
    "ps": "pleasant surprise",
    "sad": "sadness",
}
# OA_bite_neutral.wav lacks its F in the data set as it is published.
_NAME = re.compile(rf"(?P<speaker>OAF?|YAF?)_(?P<word>[^_]+)_(?P<emotion>{'|'.join(_CODES)})", re.IGNORECASE)
_TRAIN, _VALID = 0.8, 0.9


class TESS(AudioBuilder):
    """Features emotion, speaker, sex, age and word.

    Words are spoken in the carrier phrase "Say the word ...". Splits are by word: of the words in alphabetical order,
    the first 160 of 200 are train, the next 20 valid and the last 20 test, so that no word is in two of them; both
    actresses are in all.
    """

    name = "tess"
    title = "Toronto emotional speech set (TESS)"
    homepage = "https://doi.org/10.5683/SP2/E8H2MF"
    licence = "CC BY-NC-ND 4.0"
    instructions = (
        "download the files of https://doi.org/10.5683/SP2/E8H2MF and give their folder (OAF_back_angry.wav ..., all "
        "in one folder or in folders such as OAF_angry and YAF_pleasant_surprised)"
    )
    features = {
        "emotion": EMOTIONS,
        "speaker": tuple(SPEAKERS),
        "sex": ("female", "male"),
        "age": int,
        "word": CLASSES,
    }

    def splits(self, folder: pathlib.Path) -> dict[str, list[Example]]:
        found: dict[tuple[str, ...], Example] = {}
        for path in sound_files(folder):
            match = _NAME.fullmatch(path.stem)
            if match is None:
                continue
            speaker, word = match["speaker"][0].upper() + "AF", match["word"].lower()
            emotion = _CODES[match["emotion"].lower()]
            labels = {"emotion": emotion, "speaker": speaker, "sex": "female", "age": SPEAKERS[speaker], "word": word}
            # A common copy holds every file twice, in nested folders.
            found.setdefault((speaker, word, emotion), Example(path.relative_to(folder).as_posix(), labels, path))
        if not found:
            raise LayoutError(
                f"no files named OAF_{{word}}_{{emotion}}.wav or YAF_{{word}}_{{emotion}}.wav in {folder}"
            )
        words = sorted({word for _, word, _ in found})
        places = {word: index / len(words) for index, word in enumerate(words)}
        splits: dict[str, list[Example]] = {"train": [], "valid": [], "test": []}
        for (_, word, _), example in found.items():
            place = places[word]
            splits["train" if place < _TRAIN else "valid" if place < _VALID else "test"].append(example)
        return splits
