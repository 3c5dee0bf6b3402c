"""ESC-50 (Piczak, "ESC: Dataset for Environmental Sound Classification", ACM MM 2015): 50 classes, 5 s, 5 folds."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Mapping

from nd_jax.data.builders.base import AudioBuilder, Example, Feature, LayoutError, find_root, number, read_table

CATEGORIES = tuple(
    """dog rooster pig cow frog cat hen insects sheep crow rain sea_waves crackling_fire crickets chirping_birds
    water_drops wind pouring_water toilet_flush thunderstorm crying_baby sneezing clapping breathing coughing footsteps
    laughing brushing_teeth snoring drinking_sipping door_wood_knock mouse_click keyboard_typing door_wood_creaks
    can_opening washing_machine vacuum_cleaner clock_alarm clock_tick glass_breaking helicopter chainsaw siren car_horn
    engine train church_bells airplane fireworks hand_saw""".split()
)
FOLDS = range(1, 6)
FOLD_ALIASES = {"train": "fold1+fold2+fold3+fold4", "test": "fold5"}


class ESC50(AudioBuilder):
    """Features category, fold (1-5), clip (Freesound id) and take; splits fold1 ... fold5, test is fold 5."""

    name = "esc50"
    title = "ESC-50"
    homepage = "https://github.com/karolpiczak/ESC-50"
    licence = "CC BY-NC 3.0"
    instructions = (
        "clone or download https://github.com/karolpiczak/ESC-50 and give the folder that holds 'audio' and "
        "'meta/esc50.csv'"
    )
    aliases = FOLD_ALIASES
    features: Mapping[str, Feature] = {"category": CATEGORIES, "fold": int, "clip": int, "take": str}

    def splits(self, folder: pathlib.Path) -> dict[str, list[Example]]:
        rows, audio = read_esc50(folder)
        return by_fold(rows, audio)


def read_esc50(folder: pathlib.Path) -> tuple[list[dict[str, str]], pathlib.Path]:
    """The rows of `meta/esc50.csv`, with columns clip and take, and the folder of the sounds."""
    root = find_root(folder, "meta/esc50.csv")
    if root is None:
        raise LayoutError(f"no meta/esc50.csv in {folder}")
    rows = read_table(root / "meta/esc50.csv", ("filename", "fold", "category", "esc10", "src_file", "take"))
    return [{**row, "clip": row["src_file"]} for row in rows], root / "audio"


def by_fold(rows: Iterable[dict[str, str]], audio: pathlib.Path) -> dict[str, list[Example]]:
    """Examples from rows with the columns filename, fold, category, clip and take."""
    splits: dict[str, list[Example]] = {}
    for row in rows:
        fold = number(row, "fold", audio)
        if fold not in FOLDS:
            raise ValueError(f"{row['filename']} is in fold {fold}, but there are folds 1 to 5")
        labels = {"category": row["category"], "fold": fold, "clip": number(row, "clip", audio), "take": row["take"]}
        splits.setdefault(f"fold{fold}", []).append(Example(row["filename"], labels, audio / row["filename"]))
    return dict(sorted(splits.items()))
