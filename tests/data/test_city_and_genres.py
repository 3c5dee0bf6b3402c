"""UrbanSound8K and GTZAN, from tiny archives in their own layouts."""

from __future__ import annotations

import importlib.util
import pathlib

import pytest

from nd_jax.data.builders.gtzan import CATEGORIES as GENRES
from nd_jax.data.builders.urbansound8k import CATEGORIES as CITY

_spec = importlib.util.spec_from_file_location("data_layouts", pathlib.Path(__file__).with_name("layouts.py"))
assert _spec and _spec.loader
layouts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(layouts)
labels, load, write_sound, write_table = layouts.labels, layouts.load, layouts.write_sound, layouts.write_table


def city_row(target: int, fold: int) -> dict:
    return {
        "slice_file_name": f"10032-{target}-0-{fold}.wav",
        "fsID": 10032,
        "start": 0.0,
        "end": 0.3,
        "salience": 1 + target % 2,
        "fold": fold,
        "classID": target,
        "class": CITY[target],
    }


def write_city(folder: pathlib.Path, rows: list[dict]) -> None:
    write_table(folder / "metadata/UrbanSound8K.csv", rows)
    for row in rows:
        write_sound(folder / f"audio/fold{row['fold']}" / row["slice_file_name"], row["classID"] + 1)


def test_urbansound8k(manual):
    write_city(manual / "UrbanSound8K", [city_row(target, fold) for target in (0, 3) for fold in (1, 4, 10)])
    train, test = load("urbansound8k", manual), load("urbansound8k", manual, "test")
    assert sorted(labels(train, "category")) == ["air_conditioner"] * 2 + ["dog_bark"] * 2
    assert set(train.features["fold"]) == {1, 4} and set(test.features["fold"]) == {10}
    # The place among the categories is the data set's own classID.
    assert [wave[0] for wave in train.waves] == [index + 1 for index in train.features["category"]]
    assert labels(test, "salience") == ["foreground", "background"] and set(test.features["clip"]) == {10032}
    assert len(load("urbansound8k", manual, "fold1+fold10")) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fold": 11}, "is in fold 11, but there are folds 1 to 10"),
        ({"salience": 3}, "has salience 3"),
        ({"class": "siren"}, "of class 'siren' with classID 3, which do not fit"),
    ],
)
def test_wrong_tables_of_urbansound8k(manual, changes, message):
    write_city(manual, [{**city_row(3, 1), **changes}])
    with pytest.raises(ValueError, match=message):
        load("urbansound8k", manual)


@pytest.mark.parametrize("place", ["genres", "Data/genres_original", "."])
def test_gtzan(manual, place):
    for genre in ("blues", "rock"):
        for number in (0, 9, 10, 99):
            write_sound(manual / place / genre / f"{genre}.{number:05d}.wav", GENRES.index(genre) + 1)
    write_sound(manual / place / "notes.wav", 5)
    train, test = load("gtzan", manual), load("gtzan", manual, "test")
    assert labels(train, "category") == ["blues"] * 3 + ["rock"] * 3
    assert train.features["fold"].tolist() == [1, 1, 2] * 2 and test.features["number"].tolist() == [99, 99]
    assert [wave[0] for wave in train.waves] == [index + 1 for index in train.features["category"]]


def test_wrong_folders(manual):
    write_sound(manual / "notes.wav", 1)
    for name in ("urbansound8k", "gtzan"):
        with pytest.raises(FileNotFoundError, match="no metadata/UrbanSound8K.csv|no files named blues"):
            load(name, manual)
    write_sound(manual / "jazz.00100.wav", 1)
    with pytest.raises(ValueError, match="00000 to 00099"):
        load("gtzan", manual)
    (manual / "jazz.00100.wav").unlink()
    for copy in ("a", "b"):
        write_sound(manual / copy / "jazz.00054.wav", 1)
    with pytest.raises(ValueError, match=r"has jazz\.00054 twice"):
        load("gtzan", manual)
