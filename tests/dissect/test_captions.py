"""Captions: tables, whose they are, what is missing."""

from __future__ import annotations

import chex
import numpy as np
import pytest

import nd_jax as nd
from nd_jax.dissect.captions import captions_of, read_captions


class Letters:
    """Counts letters: an encoder that needs nothing."""

    def encode(self, texts):
        return np.array([[text.count(letter) for letter in "ab"] for text in texts])


def write(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.csv", 'filename,caption\nx.wav,a dog\nx.wav,"<i>b</i>, twice"\nx.wav,a dog\ny.wav,rain\nz.wav,\n'),
        ("c.csv", 'caption_1,caption_2,file\na dog,"<i>b</i>,\ttwice",x.wav\nrain,,y.wav\n,,z.wav\n'),
        ("c.json", '{"x.wav": ["a  dog", "<i>b</i>, twice"], "y.wav": "rain", "z.wav": []}'),
        (
            "c.json",
            '[{"path": "x.wav", "captions": ["a dog", "<i>b</i>, twice"]}, {"path": "y.wav", "caption": "rain"},'
            ' {"path": "z.wav", "caption": ""}]',
        ),
    ],
)
def test_tables(tmp_path, name, text):
    expected = {"x.wav": ("a dog", "<i>b</i>, twice"), "y.wav": ("rain",), "z.wav": ()}
    assert read_captions(write(tmp_path, name, text)) == expected


def test_clips_find_their_captions_and_the_others_are_listed():
    table = {"d/one.wav": ("1",), "two.flac": ("2",), "three.wav": ("3",), "e/four.wav": (), "five.wav": ("5",)}
    clips = ("d/one.wav", "f/two.wav", "audio\\three.wav", "four.wav", "six.wav", "e/one.wav")
    found = captions_of(clips, table)
    assert found.texts == (("1",), ("2",), ("3",), (), (), ())
    assert found.rows.tolist() == [0, 1, 2] and found.unused == ("e/four.wav", "five.wav")
    assert found.skipped == {
        "four.wav": "the caption of e/four.wav is empty",
        "six.wav": "no caption",
        "e/one.wav": "no caption",
    }


def test_nobody_gets_the_caption_of_another():
    found = captions_of(
        ["d/a.wav", "e/a.wav", "b.wav", "c.wav"], {"a.wav": ("1",), "d/b.wav": ("2",), "e/b.wav": ("3",), "c": ("4",)}
    )
    assert found.rows.tolist() == [3]
    assert "may be meant for 2 clips" in found.skipped["d/a.wav"] and "e/a.wav" in found.skipped
    assert found.skipped["b.wav"] == "2 entries of the captions may be meant: d/b.wav, e/b.wav"
    # Of several that fit, the exact one.
    found = captions_of(["a.wav", "d/a.wav", "a.flac"], {"a.wav": ("1",), "d/a.wav": ("2",), "a.flac": ("3",)})
    assert found.texts == (("1",), ("2",), ("3",)) and not found.skipped


def test_embeddings_go_with_rows():
    found = captions_of(["x", "y", "z"], {"x": ("aaa", "b"), "z": ("ab",)})
    half = np.sqrt(0.5)
    chex.assert_trees_all_close(found.embed(Letters()), np.array([[0.5, 0.5], [half, half]], np.float32), rtol=1e-6)
    scores = nd.dissect.db_scores(found.embed(Letters()), [[1, 0], [0, 1]])
    chex.assert_trees_all_close(scores, np.full((2, 2), 0.5, np.float32), rtol=1e-5)

    class Short:
        def encode(self, texts):
            return np.ones((1, 2))

    with pytest.raises(ValueError, match=r"the encoder gave \(1, 2\) for 3 texts"):
        found.embed(Short())


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.csv", b"file,caption\na.wav,caf\xe9\n", "not a CSV file in UTF-8"),
        ("c.json", b'{"a.wav": "caf\xe9"}', "not text in UTF-8: byte 14 is 0xe9"),
        ("c.csv", "file,title\na.wav,dog\n", "no column 'caption'; it has file, title"),
        ("c.csv", "title,caption\na.wav,dog\n", "no column 'file'; it has title, caption"),
        ("c.csv", "file,caption\na.wav\n", "line 2: expected 2 fields"),
        ("c.csv", "file,caption\na.wav,\n", "has no captions"),
        ("c.json", "{}", "has no captions"),
        ("c.json", '{"a.wav": 3}', "'a.wav' has 3"),
        ("c.json", '[{"caption": "dog"}]', "None has 'dog'"),
        ("c.json", '["dog"]', "must hold {file: caption"),
        ("c.csv", "file,caption,caption\na.wav,one,two\n", "column 'caption' twice: number them, as in caption_1"),
        ("c.csv", "file,caption\n,a dog\n", "the caption 'a dog' has no file"),
        ("c.json", r'{"a.wav": "\udc15 dog"}', r"half of a character, \\udc15"),
    ],
)
def test_one_sentence(tmp_path, name, text, message):
    with pytest.raises(ValueError, match=message):
        read_captions(write(tmp_path, name, text))


def test_no_table_no_clips_and_none_that_fits(tmp_path):
    with pytest.raises(ValueError, match=r"no file of captions at .*c\.csv"):
        captions_of(["a.wav"], tmp_path / "c.csv")
    with pytest.raises(
        ValueError, match="none of 2 clips has a caption: the caption of a.wav may be meant for 2 clips"
    ):
        captions_of(["a.wav", "a.wav"], {"a.wav": ("b",)})
    with pytest.raises(ValueError, match="none of 1 clips has a caption: it is broken"):
        nd.dissect.Captions(("a.wav",), ((),), {"a.wav": "it is broken"}).embed(Letters())
    with pytest.raises(ValueError, match="no clips"):
        captions_of([], {"a": ("b",)})
    with pytest.raises(ValueError, match=r"none of 1 clips has a caption: they are named like 'a\.wav', .* like 'b'"):
        captions_of(["a.wav"], {"b": ("c",)})
