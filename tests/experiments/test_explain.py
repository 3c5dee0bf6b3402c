"""The script that explains a folder of sounds: its page, its figures, its memory, its errors."""

from __future__ import annotations

import json

import chex
import numpy as np
import pytest

import nd_jax as nd
from nd_jax.experiments import explain


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Two sounds that a generator makes, as files, and one that is none."""
    folder = tmp_path_factory.mktemp("recordings")
    maker = nd.load("conditional_mel_gan")
    made = nd.generators.make(maker, nd.generators.inputs(maker, 0, 2, labels=["3", "7"]))
    for name, x in zip("ab", made, strict=True):
        sound = maker.output.sound(x)
        nd.audio.write(folder / f"{name}.wav", sound.wave, sound.sample_rate, peak="scale")
    (folder / "broken.wav").write_bytes(b"no sound")
    return folder


def run(folder, out, *more):
    return explain.main(
        ["--sounds", str(folder), "--out", str(out), "--masks", "16", "--steps", "4", "--bands", "3", *more]
    )


def test_page_figures_and_maps(recordings, tmp_path, capsys, monkeypatch):
    methods = ["occlusion", "mask", "integrated_gradients", "rise", "grad_cam"]
    assert run(recordings, tmp_path, "--methods", *methods) == 0
    told = json.loads((tmp_path / "figures.json").read_text())
    assert [sound["name"] for sound in told["sounds"]] == ["a.wav", "b.wav"]
    assert list(told["methods"]) == methods
    assert all(0 <= row["deletion"]["value"] <= 1 for row in told["methods"].values())
    assert "left out" in capsys.readouterr().err
    page = (tmp_path / "index.html").read_text()
    assert page.count("<audio") == 2 * (1 + 2 * len(methods)) and "extremal mask: the rest" in page
    files = sorted((tmp_path / "maps").glob("*.npz"))
    assert len(files) == 2
    with np.load(files[0]) as stored:
        network = nd.load("spoken_digits")
        assert stored["occlusion/map"].shape == network.input.shape
        chex.assert_trees_all_close(stored["occlusion/kept"] + stored["occlusion/removed"], stored["x"], atol=1e-6)

    # Once more: nothing is done twice; another sound or setting is another file.
    def done_twice(*_, **__):
        raise AssertionError("a map was made again")

    monkeypatch.setattr(explain, "attribution", done_twice)
    assert run(recordings, tmp_path, "--methods", *methods) == 0
    with pytest.raises(AssertionError, match="made again"):
        run(recordings, tmp_path, "--methods", *methods, "--baseline", "mean")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--target", "eleven"], "no unit 'eleven'"),
        (["--network", "mnist"], "is for networks that hear"),
        (["--count", "0"], "count must be 1 or more"),
        (["--sounds", "no_such_folder"], "is not a folder"),
        (["--baseline", "silent", "--methods", "saliency"], "unknown baseline 'silent'"),
        (["--part", "pitch"], "pitch"),
    ],
)
def test_one_sentence(recordings, tmp_path, capsys, more, message):
    assert run(recordings, tmp_path, *more) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: ") and message in said
    assert not (tmp_path / "index.html").exists()
