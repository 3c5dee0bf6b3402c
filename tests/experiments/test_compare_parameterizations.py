"""experiments/compare_parameterizations.py: what its columns mean, and one short run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import domain as domains
from nd_jax.audio import LogMel
from nd_jax.experiments import compare_parameterizations as compare

MEL = domains.LogMel(LogMel(sample_rate=8000, n_fft=256, hop_length=128, n_mels=16), frames=16)


def test_columns_on_climbs_that_are_known():
    """Three units, five readings: one climb reaches 10 linearly, the other at once, a third only half of it."""
    line = np.repeat(np.linspace(0.0, 10.0, 5)[:, None], 3, axis=1)
    jump = np.where(np.arange(5)[:, None] > 0, 10.0, 0.0) * np.ones((1, 3))
    rows = {row["parameterization"]: row for row in compare.summary({"a": line, "b": jump, "c": line / 2}, every=7)}
    assert (rows["a"]["final"], rows["a"]["climb"]) == (10.0, 1.0)
    assert (rows["a"]["steps_to_own"], rows["a"]["steps_to_first"]) == (28.0, 28.0)
    assert (rows["b"]["steps_to_own"], rows["b"]["steps_to_first"]) == (7.0, 7.0)
    assert rows["c"]["climb"] == pytest.approx(0.5)
    assert (rows["c"]["steps_to_own"], rows["c"]["steps_to_first"]) == (28.0, np.inf)


def test_a_short_run(tmp_path, monkeypatch, capsys):
    module = nd.networks.build("audio_cnn", {"heads": [["a", 3]], "features": [4, 4], "kernels": [[3, 3]] * 2,
                                             "strides": [[2, 2]] * 2})  # fmt: skip
    variables = module.init(jax.random.key(0), jnp.zeros((1, *MEL.shape)))
    folder = nd.Network(module, variables, input=MEL, apply_kwargs={"train": False}).save(tmp_path / "tiny")
    every = compare.candidates
    chosen = ("fourier", "fourier, bands by covariance")
    monkeypatch.setattr(compare, "candidates", lambda scale: {name: every(scale)[name] for name in chosen})
    found = compare.run(
        compare.Settings(network=str(folder), layers=("block2/conv",), units=2, steps=4, every=2, clips=12)
    )
    assert [row["parameterization"] for row in found] == list(chosen)
    assert all(np.isfinite(row["final"]) for row in found)
    printed = capsys.readouterr().out
    assert "octaves a second" in printed and "of the first climb" in printed


def test_a_network_that_does_not_hear_is_refused(tmp_path, capsys):
    module = nd.networks.build("lenet", {})
    image = domains.Image((28, 28, 1))
    network = nd.Network(module, module.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1))), input=image)
    assert compare.main(["--network", str(network.save(tmp_path / "seen"))]) == 1
    assert "not of 'image'" in capsys.readouterr().err
