"""GTZAN (Tzanetakis and Cook, IEEE Trans. Speech and Audio Processing 10(5), 2002): 1,000 pieces of 30 s, 10 genres."""

from __future__ import annotations

import pathlib
import re

from nd_jax.data.builders.base import AudioBuilder, Example, LayoutError, sound_files

CATEGORIES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
FOLDS = range(1, 11)

_NAME = re.compile(rf"(?P<genre>{'|'.join(CATEGORIES)})\.(?P<number>\d{{5}})")
_A_FOLD = 10


class GTZAN(AudioBuilder):
    """Features category, fold (1-10) and number; splits fold1 ... fold10, test is fold 10.

    The data set has no split of its own. Fold k has the pieces 10 (k - 1) to 10 k - 1 of every genre: pieces of one
    artist have neighbouring numbers as a rule (Sturm 2013, arXiv 1306.1461), and a random split tears them apart.
    """

    name = "gtzan"
    title = "GTZAN genre collection"
    homepage = "http://marsyas.info/downloads/datasets.html"
    licence = "none is stated"
    instructions = (
        "get a copy of GTZAN as WAV files (the original has .au files, which must be converted first) and give the "
        "folder that holds 'genres' or 'genres_original' (files blues/blues.00000.wav ... rock/rock.00099.wav)"
    )
    aliases = {"train": "+".join(f"fold{fold}" for fold in FOLDS[:-1]), "test": "fold10"}
    features = {"category": CATEGORIES, "fold": int, "number": int}

    def splits(self, folder: pathlib.Path) -> dict[str, list[Example]]:
        splits: dict[str, list[Example]] = {f"fold{fold}": [] for fold in FOLDS}
        seen: dict[str, pathlib.Path] = {}
        for path in sound_files(folder):
            match = _NAME.fullmatch(path.stem)
            if match is None:
                continue
            if path.stem in seen:
                raise ValueError(
                    f"{folder} has {path.stem} twice, {seen[path.stem]} and {path}: give the folder of one"
                )
            seen[path.stem] = path
            number = int(match["number"])
            fold = number // _A_FOLD + 1
            if fold not in FOLDS:
                raise ValueError(f"{path}: the pieces of a genre are 00000 to 00099")
            labels = {"category": match["genre"], "fold": fold, "number": number}
            splits[f"fold{fold}"].append(Example(path.relative_to(folder).as_posix(), labels, path))
        if not seen:
            raise LayoutError(f"no files named blues.00000.wav in {folder}")
        return splits
