"""ESC-10: the ten classes of ESC-50 under CC BY, from a copy of ESC-50 or from a pack with an `esc10.csv`."""

from __future__ import annotations

import pathlib

from nd_jax.data.builders.base import AudioBuilder, Example, LayoutError, find_root, read_table
from nd_jax.data.builders.esc50 import FOLD_ALIASES, by_fold, read_esc50

CATEGORIES = (
    "dog",
    "rain",
    "sea_waves",
    "crying_baby",
    "clock_tick",
    "sneezing",
    "helicopter",
    "chainsaw",
    "rooster",
    "crackling_fire",
)


class ESC10(AudioBuilder):
    """Features category, fold (1-5), clip (Freesound id) and take; splits fold1 ... fold5, test is fold 5."""

    name = "esc10"
    title = "ESC-10"
    homepage = "https://github.com/karolpiczak/ESC-50"
    licence = "CC BY 3.0"
    instructions = (
        "clone or download https://github.com/karolpiczak/ESC-50 and give the folder that holds 'audio' and "
        "'meta/esc50.csv' (only the clips of ESC-10 are read); a folder with 'audio' and an 'esc10.csv' of the columns "
        "filename, fold, category, freesound_id, take works too"
    )
    aliases = FOLD_ALIASES
    features = {"category": CATEGORIES, "fold": int, "clip": int, "take": str}

    def splits(self, folder: pathlib.Path) -> dict[str, list[Example]]:
        root = find_root(folder, "esc10.csv")
        if root is not None:
            rows = read_table(root / "esc10.csv", ("filename", "fold", "category", "freesound_id", "take"))
            return by_fold(({**row, "clip": row["freesound_id"]} for row in rows), root / "audio")
        try:
            rows, audio = read_esc50(folder)
        except LayoutError:
            raise LayoutError(f"neither meta/esc50.csv nor esc10.csv in {folder}") from None
        return by_fold((row for row in rows if row["esc10"].lower() == "true"), audio)
