"""`experiments/visualize.py` on a generator: latents of its units at several classes, on a page, resumable."""

from __future__ import annotations

import json

import numpy as np
import pytest
from generator_networks import classifier, generator

import nd_jax as nd
from nd_jax.experiments import visualize, visualize_generator

FAST = ("--layers", "conv2", "--units", "2", "--steps", "3", "--clips", "8", "--snapshots", "2")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(folder of the generator, folder of the page, what was printed)."""
    folder = tmp_path_factory.mktemp("generator")
    return generator(folder), folder / "out"


def test_a_page_of_a_generator_and_the_same_command_again(made, capsys, monkeypatch):
    folder, out = made
    arguments = ["--network", folder, *FAST, "--out", str(out)]
    assert visualize.main(arguments) == 0
    assert "8 random latents in place of natural inputs" in capsys.readouterr().out
    result = nd.Visualization.load(out / "results" / "conv2")
    np.testing.assert_array_equal(result.inputs["label"], [[0, 1, 2]] * 2)
    assert np.linalg.norm(result.inputs["z"][0, 0]) == pytest.approx(np.sqrt(5), rel=1e-4)
    index = json.loads((out / "index.html").read_text().split('id="index">')[1].split("</script>")[0])
    assert index["made"] == "class" and index["layers"][0]["units"] == 2 and index["natural"] == {"count": 8}

    def never(*_, **__):
        raise AssertionError("a finished layer is not done again")

    monkeypatch.setattr(visualize_generator, "look", never)
    assert visualize.main([*arguments, "--resume"]) == 0
    assert "kept from an earlier run" in capsys.readouterr().out
    with pytest.raises(AssertionError, match="not done again"):
        visualize.main([*arguments, "--resume", "--classes", "mid"])


def test_what_a_generator_cannot_have_is_one_sentence(made, tmp_path, capsys):
    folder, out = made
    mute = classifier(tmp_path)
    for more, words in (
        (["--classes", "H4"], "no class 'H4'"),
        (["--classes", "low", "low"], "'low' is asked for twice"),
        (["--data-dir", "x"], "data_dir is not for a generator: its natural inputs are random latents"),
        (["--history", str(tmp_path)], "history"),
        (["--network", mute, "--classes", "low"], "this network is none"),
    ):
        assert visualize.main(["--network", folder, "--out", str(tmp_path / "no"), *more]) == 1
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1, error
    assert not (tmp_path / "no").exists()
