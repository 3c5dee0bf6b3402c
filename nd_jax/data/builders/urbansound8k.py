"""UrbanSound8K (Salamon, Jacoby and Bello, ACM MM 2014): 8,732 city sounds of at most 4 s, 10 classes, 10 folds."""

from __future__ import annotations

import pathlib

from nd_jax.data.builders.base import AudioBuilder, Example, LayoutError, find_root, number, read_table

# In the order of the data set's own classID.
CATEGORIES = (
    "air_conditioner",
    "car_horn",
    "children_playing",
    "dog_bark",
    "drilling",
    "engine_idling",
    "gun_shot",
    "jackhammer",
    "siren",
    "street_music",
)
FOLDS = range(1, 11)

_TABLE = "metadata/UrbanSound8K.csv"


class UrbanSound8K(AudioBuilder):
    """Features category, fold (1-10), clip (Freesound id) and salience; splits fold1 ... fold10, test is fold 10.

    Clips cut from one recording lie in one fold, so folds are never to be shuffled.
    """

    name = "urbansound8k"
    title = "UrbanSound8K"
    homepage = "https://urbansounddataset.weebly.com/urbansound8k.html"
    licence = "CC BY-NC 3.0"
    instructions = (
        "download UrbanSound8K.tar.gz from https://zenodo.org/records/1203745 and give the folder that it is unpacked "
        "into (it holds 'audio' with fold1 ... fold10 and 'metadata/UrbanSound8K.csv')"
    )
    aliases = {"train": "+".join(f"fold{fold}" for fold in FOLDS[:-1]), "test": "fold10"}
    features = {"category": CATEGORIES, "fold": int, "clip": int, "salience": ("foreground", "background")}

    def splits(self, folder: pathlib.Path) -> dict[str, list[Example]]:
        root = find_root(folder, _TABLE)
        if root is None:
            raise LayoutError(f"no {_TABLE} in {folder}")
        table = root / _TABLE
        splits: dict[str, list[Example]] = {f"fold{fold}": [] for fold in FOLDS}
        for row in read_table(table, ("slice_file_name", "fsID", "salience", "fold", "classID", "class")):
            file, fold, salience = row["slice_file_name"], number(row, "fold", table), number(row, "salience", table)
            if fold not in FOLDS:
                raise ValueError(f"{table}: {file} is in fold {fold}, but there are folds 1 to 10")
            if salience not in (1, 2):
                raise ValueError(f"{table}: {file} has salience {salience}, which is 1 (foreground) or 2 (background)")
            target = number(row, "classID", table)
            if row["class"] not in CATEGORIES or CATEGORIES.index(row["class"]) != target:
                raise ValueError(
                    f"{table}: {file} is of class {row['class']!r} with classID {target}, which do not fit"
                )
            labels = {
                "category": row["class"],
                "fold": fold,
                "clip": number(row, "fsID", table),
                "salience": ("foreground", "background")[salience - 1],
            }
            name = f"fold{fold}/{file}"
            splits[f"fold{fold}"].append(Example(name, labels, root / "audio" / name))
        return splits
