"""experiments/tune_settings.py: a short run, its file used by experiments/visualize.py, its curves."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import domain as domains
from nd_jax.audio import LogMel
from nd_jax.experiments import tune_settings, visualize

MEL = domains.LogMel(LogMel(sample_rate=8000, n_fft=256, hop_length=128, n_mels=16), frames=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    config = {"heads": [["a", 3]], "features": [4, 4], "kernels": [[3, 3]] * 2, "strides": [[2, 2]] * 2}
    module = nd.networks.build("audio_cnn", config)
    variables = module.init(jax.random.key(0), jnp.zeros((1, *MEL.shape)))
    network = nd.Network(module, variables, input=MEL, apply_kwargs={"train": False})
    return network.save(tmp_path_factory.mktemp("network") / "tiny")


def test_a_short_run_and_a_visualization_with_what_it_chose(folder, tmp_path, capsys):
    out = tmp_path / "settings"
    arguments = ["--network", str(folder), "--units", "4", "--steps", "3", "--clips", "24", "--out", str(out)]
    assert tune_settings.main(arguments) == 0
    told = capsys.readouterr().out
    assert "a: 3 units are too few" in told
    assert "| block1/conv |" in told
    assert (out / "curves.png").stat().st_size > 10_000
    settings = nd.tuning.load(out / "settings.json")
    assert list(settings.layers) == ["block1/conv", "block2/conv"]
    found = settings.layers["block1/conv"]
    assert found.knobs == ("silence", "transforms")
    assert found.strengths.shape == (15, 2)
    assert all(np.isfinite(numbers).all() for numbers in (found.tuning, found.held_out, found.score))
    given = ["--network", str(folder), "--layers", "block1/conv", "--steps", "3", "--clips", "8", "--trust", "none"]
    given += ["--out", str(tmp_path / "atlas"), "--tuned", str(out / "settings.json"), "--until-converged"]
    assert visualize.main(given) == 0
    result = nd.Visualization.load(tmp_path / "atlas" / "results" / "block1-conv")
    np.testing.assert_array_equal(result.strengths[0], np.asarray(found.row, np.float32))
    assert result.manifest["settings"]["stop_when"]["is"] == "Converged"
    capsys.readouterr()
    assert visualize.main([*given, "--resume"]) == 0
    assert "kept from an earlier run" in capsys.readouterr().out
    changed = json.loads((out / "settings.json").read_text())
    changed["layers"][0]["row"][0] += 0.5
    (out / "settings.json").write_text(json.dumps(changed))
    assert visualize.main([*given, "--resume"]) == 0
    assert "kept from an earlier run" not in capsys.readouterr().out


def test_curves_have_axes(tmp_path):
    strengths = np.array([[0.0, 1.0], [0.0, 0.5], [1.0, 1.0], [1.0, 0.5]])
    tuned = nd.tuning.Tuned(
        layer="conv",
        knobs=("silence", "transforms"),
        strengths=strengths,
        chosen=2,
        tuning=np.array([0.4, 0.5, 0.1, 0.2]),
        held_out=np.array([0.5, 0.6, 0.2, 0.1]),
        score=np.ones(4),
        units=((0, 1), (2, 3)),
        settings={},
        row=(1.0, 1.0),
        scale=1.0,
    )
    figure = pytest.importorskip("matplotlib.figure").Figure()
    axis = figure.subplots()
    tune_settings._curve(axis, tuned, 0, "silence")
    assert axis.get_ylabel() == "kernel distance"
    assert axis.get_xlabel().startswith("silence: strength")
    assert [list(line.get_ydata()) for line in axis.lines[:2]] == [[0.4, 0.1], [0.5, 0.2]]
    assert "| conv | 1 | 1 | 0.200 | 0.500 | 0.100 | 1.00 | 1.00 |" in tune_settings.table([tuned])


def test_mistakes_give_one_sentence(folder, capsys):
    assert tune_settings.main(["--network", str(folder), "--units", "2"]) == 1
    assert "4 units and 1 step or more are needed, got 2 and 256" in capsys.readouterr().err
    assert tune_settings.main(["--network", str(folder), "--layers", "blok1/conv"]) == 1
    assert "did you mean" in capsys.readouterr().err
