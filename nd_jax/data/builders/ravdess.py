"""RAVDESS, the speech of it (Livingstone and Russo, PLoS ONE 13(5), 2018): 24 actors, two statements, 8 emotions."""

from __future__ import annotations

import pathlib
import re

from nd_jax.data.builders.base import AudioBuilder, Example, LayoutError, sound_files

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
INTENSITIES = ("normal", "strong")
STATEMENTS = ("kids are talking by the door", "dogs are sitting by the door")
ACTORS = tuple(f"{actor:02d}" for actor in range(1, 25))

_SPEECH = "01"
_FIELDS = ("emotion", "intensity", "statement", "repetition", "actor")
# Modality 03 is sound alone; 01 and 02 are films.
_NAME = re.compile(r"03-(?P<channel>\d\d)-" + "-".join(rf"(?P<{field}>\d\d)" for field in _FIELDS))


def _splits(first: int, last: int) -> str:
    return "+".join(f"actor{actor}" for actor in ACTORS[first - 1 : last])


class RAVDESS(AudioBuilder):
    """Features emotion, speaker, sex, intensity, statement and repetition; the songs (03-02-...) are left out.

    One split an actor (actor01 ... actor24); train, valid and test are aliases for actors 1-20, 21-22 and 23-24, a
    woman and a man each.
    """

    name = "ravdess"
    title = "Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS), speech"
    homepage = "https://zenodo.org/records/1188976"
    licence = "CC BY-NC-SA 4.0"
    instructions = (
        "download Audio_Speech_Actors_01-24.zip from https://zenodo.org/records/1188976 and give the folder that it is "
        "unpacked into (Actor_01 ... Actor_24, files 03-01-EE-II-SS-RR-AA.wav; all files in one folder work too)"
    )
    aliases = {"train": _splits(1, 20), "valid": _splits(21, 22), "test": _splits(23, 24)}
    features = {
        "emotion": EMOTIONS,
        "speaker": ACTORS,
        "sex": ("female", "male"),
        "intensity": INTENSITIES,
        "statement": STATEMENTS,
        "repetition": int,
    }

    def splits(self, folder: pathlib.Path) -> dict[str, list[Example]]:
        splits: dict[str, list[Example]] = {f"actor{actor}": [] for actor in ACTORS}
        seen, songs = set(), 0
        for path in sound_files(folder):
            match = _NAME.fullmatch(path.stem)
            if match is None or path.stem in seen:  # a common copy holds every file twice, in nested folders
                continue
            if match["channel"] != _SPEECH:
                songs += 1
                continue
            seen.add(path.stem)
            labels = _labels(match, path)
            splits[f"actor{labels['speaker']}"].append(Example(path.relative_to(folder).as_posix(), labels, path))
        if not seen:
            found = f"; the {songs} songs there are another part of RAVDESS" if songs else ""
            raise LayoutError(f"no files named 03-01-EE-II-SS-RR-AA.wav in {folder}{found}")
        return splits


def _labels(match: re.Match[str], path: pathlib.Path) -> dict[str, object]:
    def named(field: str, names: tuple[str, ...]) -> str:
        code = int(match[field])
        if not 1 <= code <= len(names):
            raise ValueError(f"{path}: {field} {match[field]} is not one of RAVDESS's, 01 to {len(names):02d}")
        return names[code - 1]

    return {
        "emotion": named("emotion", EMOTIONS),
        "speaker": named("actor", ACTORS),
        "sex": "male" if int(match["actor"]) % 2 else "female",
        "intensity": named("intensity", INTENSITIES),
        "statement": named("statement", STATEMENTS),
        "repetition": int(match["repetition"]),
    }
