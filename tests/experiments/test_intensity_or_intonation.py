"""The script that asks which contour a classifier goes by: tables, page, memory, errors."""

from __future__ import annotations

import json

import numpy as np
import pytest

import nd_jax as nd
from nd_jax.experiments import intensity_or_intonation as script


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Two digits that a generator says, as recordings of the data set's test split."""
    folder = tmp_path_factory.mktemp("digits") / "recordings"
    folder.mkdir()
    maker = nd.load("conditional_mel_gan")
    made = nd.generators.make(maker, nd.generators.inputs(maker, 0, 2, labels=["3", "7"]))
    for name, x in zip(("3_ada_0", "7_ada_0"), made, strict=True):
        sound = maker.output.sound(x)
        nd.audio.write(folder / f"{name}.wav", sound.wave, sound.sample_rate, peak="scale")
    return folder.parent


def run(digits, out, *more):
    given = ["--data-dir", str(digits), "--prepared-dir", str(out / "prepared"), "--data-set", "spoken_digits"]
    return script.main([*given, "--out", str(out), "--cells", "2", "--steps", "2", "--sounds", "1", *more])


def test_tables_and_page(digits, tmp_path, monkeypatch):
    assert run(digits, tmp_path) == 0
    told = json.loads((tmp_path / "figures.json").read_text())
    rows = told["rows"]
    assert rows[-1]["class"] == "all" and rows[-1]["sounds"] == len(rows) - 1 >= 1
    assert set(rows[0]["recognised"]) == {"again", "intonation", "intensity", "both"}
    assert rows[-1]["recognised"]["again"]["of"] == rows[-1]["sounds"]
    page = (tmp_path / "index.html").read_text()
    assert page.count("<audio") == 7 * (len(rows) - 1) and "with a flat f0" in page
    with np.load(next((tmp_path / "sounds").glob("*.npz"))) as stored:
        assert stored["intonation/mask"].shape == (2,) and 0 <= float(stored["s2/kept"]) <= 1.01

    def asked_twice(*_, **__):
        raise AssertionError("a recording was asked again")

    monkeypatch.setattr(nd.attribute, "speech", asked_twice)
    assert run(digits, tmp_path) == 0
    with pytest.raises(AssertionError, match="asked again"):
        run(digits, tmp_path, "--sure", "0.5")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--networks", "mnist"], "networks that hear"),
        (["--networks", "esc10"], "has no feature with the classes dog, rain"),
        (["--sounds", "0"], "sounds must be 1 or more"),
        (["--sure", "2"], "sure is a probability"),
        (["--split", "trian"], "trian"),
    ],
)
def test_one_sentence(digits, tmp_path, capsys, more, message):
    assert run(digits, tmp_path, *more) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: ") and message in said
