"""experiments/sweep.py: one command for all units, which goes on where it was."""

import jax
import jax.numpy as jnp
import pytest

import nd_jax as nd
from nd_jax.audio import LogMel
from nd_jax.experiments import sweep


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    config = {"heads": [["a", 3]], "features": [4, 4], "kernels": [[3, 3]] * 2, "strides": [[2, 2]] * 2}
    module = nd.networks.build("audio_cnn", config)
    domain = nd.domain.LogMel(LogMel(sample_rate=8000, n_fft=256, hop_length=128, n_mels=16), frames=16)
    variables = module.init(jax.random.key(0), jnp.zeros((1, *domain.shape)))
    network = nd.Network(module, variables, input=domain, apply_kwargs={"train": False})
    return str(network.save(tmp_path_factory.mktemp("network") / "tiny"))


def test_it_runs_all_units_and_goes_on(folder, tmp_path, capsys):
    out = str(tmp_path / "sweep")
    given = ["--network", folder, "--steps", "4", "--until-converged", "--out", out]
    assert sweep.main([*given, "--units", "2"]) == 0
    assert "block1/conv: 2 of 2 units, 4 steps each; 2 steps" in capsys.readouterr().out
    assert sweep.main(given) == 0
    told = capsys.readouterr().out
    assert "a: 3 of 3 units" in told
    assert "Sweep(11 of 11 units of 3 layers)" in told
    found = nd.visualize.open_sweep(out)
    assert found.done("block2/conv") == (0, 1, 2, 3)
    # The two that were there are parts of their own: they were not run again.
    assert [len(part) for part in found.parts("block2/conv")] == [2, 2]
    assert sweep.main([*given[:3], "5", *given[4:]]) == 1
    assert "with other settings (steps)" in capsys.readouterr().err
    assert sweep.main([*given[:3], "5", *given[4:], "--units", "1", "--anew"]) == 0
    assert nd.visualize.open_sweep(out).done("a") == (0,)
