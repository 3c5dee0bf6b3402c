"""experiments/invariance.py: strengths that every domain takes, the limit, and a run from a network to a picture."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import domain as domains
from nd_jax.audio import LogMel
from nd_jax.experiments import invariance

MEL = domains.LogMel(LogMel(sample_rate=8000, n_fft=256, hop_length=128, n_mels=20), frames=40)
DOMAINS = [MEL, domains.Waveform(4000, 8000), domains.Image((28, 28, 1), -1.0, 1.0), domains.Image((32, 32, 3))]


@pytest.mark.parametrize("domain", DOMAINS, ids=lambda domain: f"{domain.kind}-{domain.shape[-1]}")
def test_every_strength_is_taken_and_grows(domain):
    swept = invariance.sweeps(domain)
    assert len({sweep.name for sweep in swept}) == len(swept) >= 5
    for sweep in swept:
        assert len(sweep.strengths) >= 3 and list(sweep.strengths) == sorted(sweep.strengths)
        for strength in sweep.strengths:
            sweep.make(strength).check(domain)


def test_what_is_refused_by_default_says_so():
    for sweep in invariance.sweeps(MEL):
        allowed = getattr(sweep.make(sweep.strengths[0]), "allow_on_sound", False)
        assert sweep.valid is not allowed
    assert invariance.sweeps(domains.Latent(3)) == []


def test_the_limit_is_the_last_strength_before_the_first_that_is_too_much():
    def rows(*pairs):
        return [{"strength": 2.0**k, "movement": moved, "labels": labels} for k, (moved, labels) in enumerate(pairs)]

    assert invariance.limit(rows((0.1, 0.0), (0.4, 0.02), (0.6, 0.0), (0.2, 0.0)), 0.5, 0.03) == 2.0
    assert invariance.limit(rows((0.1, 0.0), (0.4, 0.05)), 0.5, 0.03) == 1.0
    assert invariance.limit(rows((0.7, 0.0)), 0.5, 0.03) is None
    assert invariance.limit(rows((0.5, 0.03)), 0.5, 0.03) == 1.0


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    module = nd.networks.build("audio_cnn", {"heads": [["a", 3]], "features": [4, 4], "kernels": [[3, 3]] * 2,
                                             "strides": [[2, 2]] * 2})  # fmt: skip
    variables = module.init(jax.random.key(0), jnp.zeros((1, *MEL.shape)))
    made = nd.Network(module, variables, input=MEL, apply_kwargs={"train": False}, card={"name": "tiny"})
    return made.save(tmp_path_factory.mktemp("network") / "tiny")


def test_from_a_network_to_a_table_and_a_picture(network, tmp_path, monkeypatch, capsys):
    every = invariance.sweeps
    monkeypatch.setattr(invariance, "sweeps", lambda domain: [s for s in every(domain) if s.name in ("gain", "rotate")])
    out = tmp_path / "out"
    status = invariance.main(
        ["--network", str(network), "--clips", "6", "--draws", "2", "--out", str(out), "--most-labels", "1.0"]
    )
    printed = capsys.readouterr().out
    assert status == 0
    report = json.loads((out / "invariance.json").read_text())
    assert set(report["transforms"]) == {"gain", "rotate"} and report["inputs"] == 6
    gain = report["transforms"]["gain"]
    moved = [row["movement"] for row in gain["rows"]]
    assert moved == sorted(moved) and moved[0] > 0
    assert f"gain: up to {gain['largest']:g} dB" in printed
    assert "rotate" in printed and "(refused by default)" in printed
    assert "the defaults together, TimeShift" in printed and report["defaults"]["movement"] > 0
    assert (out / "invariance.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--network", "no_such_network"], "no_such_network"), (["--clips", "2"], "clips must be 3 or more")],
)
def test_a_mistake_is_one_line(arguments, message, capsys, tmp_path):
    assert invariance.main([*arguments, "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_short_recordings_stand_in_the_middle(tmp_path):
    import soundfile

    (tmp_path / "bank").mkdir()
    for index in range(3):
        soundfile.write(tmp_path / "bank" / f"{index}.wav", np.full(1000, 0.5, np.float32), 8000)
    settings = invariance.Settings(data_dir=tmp_path, data_set="audio_folder", clips=3)
    waves = invariance.natural_inputs(MEL, settings)
    for wave in waves:
        heard = np.flatnonzero(wave)
        assert abs((heard[0] + heard[-1]) / 2 - MEL.samples / 2) < 2
