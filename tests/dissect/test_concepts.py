"""Sets of concepts: those that come along, and files of one's own."""

from __future__ import annotations

import pytest

from nd_jax.dissect.closed_set import last_layer
from nd_jax.dissect.concepts import CONCEPT_SETS, ConceptSet, concept_set


def write(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_sets_of_the_data_sets():
    assert {name: len(found) for name, found in CONCEPT_SETS.items()} == {"esc50": 50, "urbansound8k": 10, "gtzan": 10}
    esc50 = concept_set("esc50")
    assert (esc50.names[11], esc50.texts[11], esc50.ids[11]) == ("sea_waves", "sea waves", 11)
    assert "engine_idling" in CONCEPT_SETS["urbansound8k"].names and CONCEPT_SETS["gtzan"].names[0] == "blues"
    assert CONCEPT_SETS["gtzan"].ids == tuple(range(10))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mine.txt", "\ufeffglass <b>breaking</b>\r\n\nsea_waves\r\n"),
        ("mine.json", '["glass <b>breaking</b>", "sea_waves"]'),
        ("mine.csv", "name\nglass <b>breaking</b>\nsea_waves\n"),
    ],
)
def test_files_of_names(tmp_path, name, text):
    found = concept_set(write(tmp_path, name, text))
    assert (found.names, found.ids) == (("glass <b>breaking</b>", "sea_waves"), (0, 1))
    assert last_layer([[1, 0]], found.names, ["glass <b>breaking</b>"]).top1 == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '{"dog": 7, "rain": 3}'),
        ("a.json", '{"7": "dog", "3": "rain"}'),
        ("a.json", '[{"name": "dog", "id": 7}, {"id": "3", "name": "rain"}]'),
        ("a.csv", "target,category\n7,dog\n3,rain\n"),
    ],
)
def test_files_with_ids(tmp_path, name, text):
    found = concept_set(str(write(tmp_path, name, text)))
    assert (found.names, found.ids) == (("dog", "rain"), (7, 3))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "dog\nrain\ndog\n", r"a\.txt: concept 3, 'dog', is concept 1 already"),
        ("a.txt", "sea_waves\nrain\nSea  Waves\n", r"concept 3, 'Sea  Waves', is the same as concept 1, 'sea_waves'"),
        ("a.txt", "\n \n", r"a\.txt: the set of concepts is empty"),
        ("a.json", "[]", "the set of concepts is empty"),
        ("a.json", "{}", "the set of concepts is empty"),
        ("a.csv", "name\n", "the set of concepts is empty"),
        ("a.csv", "", "has no column 'name'; it has no header"),
        ("a.txt", b"dog\ncaf\xe9\n", r"a\.txt is not text in UTF-8: byte 7 is 0xe9"),
        ("a.csv", b"name\ncaf\xe9\n", r"a\.csv is not a CSV file in UTF-8"),
        ("a.json", b'["caf\xe9"]', "not text in UTF-8"),
        ("a.json", "[", "is not JSON"),
        ("a.json", "3", "must hold a list of names"),
        ("a.json", '["dog", 3]', "must hold a list of names"),
        ("a.json", '{"dog": 1, "dog": 2}', "has 'dog' twice"),
        ("a.json", '{"dog": 1, "rain": 1}', "concept 2, 'rain', has the id of concept 1, 'dog'"),
        ("a.json", '{"dog": 1.5}', "ids must be whole numbers, got 1.5"),
        ("a.json", '[{"name": "dog", "id": 1}, {"name": "rain"}]', "1 of 2 concepts have no id"),
        ("a.csv", "id,name\none,dog\n", "ids must be whole numbers, got 'one'"),
        ("a.csv", "title\ndog\n", "has no column 'name'; it has title"),
        ("a.csv", "name,id,name\ndog,1,rain\n", "has the column 'name' twice: number them"),
        ("a.csv", 'name\n"dog\nrain"\n', r"concept 1, 'dog\\nrain', has a line break"),
        ("a.txt", "dog\0\nrain\n", r"concept 1, 'dog\\x00', has a line break or another control character"),
        ("a.txt", "rain\n __\n", "concept 2 of 2 has no name"),
        ("a.json", r'["dog", "caf\ud83d"]', r"a\.json has half of a character, \\ud83d, which is no text"),
    ],
)
def test_one_sentence(tmp_path, name, text, message):
    with pytest.raises(ValueError, match=message):
        concept_set(write(tmp_path, name, text))


def test_characters_in_two_halves_are_characters(tmp_path):
    assert concept_set(write(tmp_path, "a.json", r'["\ud83d\udc15", "d\u00f6g"]')).names == ("\N{DOG}", "dög")


def test_no_such_set():
    with pytest.raises(ValueError, match="'esc51' is neither a file nor a set of concepts; did you mean 'esc50'"):
        concept_set("esc51")
    with pytest.raises(ValueError, match="mine: 1 ids for 2 concepts"):
        ConceptSet("mine", ("dog", "rain"), (0,))
