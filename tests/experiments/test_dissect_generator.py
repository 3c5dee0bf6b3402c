"""A generator opened up from one command: the exact optimum where it is known, a page, nothing done twice."""

from __future__ import annotations

import json

import numpy as np
import pytest
from generator_networks import NAMES, generator

import nd_jax as nd
from nd_jax import generators
from nd_jax.experiments import dissect_generator
from nd_jax.experiments import dissect_generator_results as results

FAST = ("--units", "3", "--samples", "64", "--jacobians", "2", "--compared", "2", "--shown", "2", "--starts", "2")


def test_a_generator_without_classes(tmp_path, capsys, monkeypatch):
    folder = generator(tmp_path, ())
    out = tmp_path / "page"
    arguments = ["--generator", folder, "--layers", "features", "conv2", "--steps", "150", *FAST, "--out", str(out)]
    assert dissect_generator.main(arguments) == 0
    told = json.loads((out / "figures.json").read_text())
    # A dense layer right behind the latent: the best latent on the sphere is its weights' own direction.
    assert told["layers"]["features"]["share_of_exact_optimum"] == pytest.approx(1.0, abs=1e-3)
    assert told["layers"]["features"]["agreement"] == pytest.approx(1.0, abs=1e-2)
    assert "share_of_exact_optimum" not in told["layers"]["conv2"]
    stored = np.load(out / "latents.npz")
    np.testing.assert_allclose(np.linalg.norm(stored["features:z"], axis=1), np.sqrt(5), rtol=1e-4)
    kernel = np.asarray(nd.load(folder).variables["params"]["features"]["kernel"])[:, stored["features:units"]]
    cosine = np.sum(stored["features:z"].T * kernel, axis=0) / np.linalg.norm(kernel, axis=0) / np.sqrt(5)
    np.testing.assert_allclose(cosine, 1.0, atol=1e-3)
    assert set(told["perturbations"]) == set(dissect_generator.PERTURBATIONS)
    plain, noisy = (told["perturbations"][name] for name in ("none", "dropout 0.3"))
    assert plain["best"]["difference"] == 0 and noisy["best"]["median"] != plain["best"]["median"]
    assert 0 < told["orthogonality"]["coherence"] < 1 and told["orthogonality"]["size"] == 5
    text = (out / "index.html").read_text()
    assert "features:" in text and "<audio" in text
    for name in [part.split('"')[0] for part in text.split('src="')[1:]]:
        assert (out / name).is_file(), name

    def never(*_, **__):
        raise AssertionError("a finished layer is not done again")

    monkeypatch.setattr(dissect_generator, "look", never)
    assert dissect_generator.main([*arguments, "--compared", "0"]) == 0
    assert "noise and dropout" not in (out / "index.html").read_text()
    capsys.readouterr()


def test_a_generator_with_classes_is_asked_for_the_best(tmp_path):
    folder = generator(tmp_path)
    settings = dissect_generator.Settings(
        generator=folder, layers=("conv2",), units=2, samples=64, jacobians=1, compared=0, steps=3, out=tmp_path / "o"
    )
    dissect_generator.run(settings)
    network = nd.load(folder)
    usual = dissect_generator.natural(network, ["conv2"], settings)["conv2"]
    found = results.Found.of(
        dissect_generator.look(network, "conv2", np.asarray([0, 3]), usual, settings, starts=2, seed=0),
        network,
        np.asarray([0, 3]),
        2,
    )
    assert found.label.tolist() == usual.label[[0, 3]].tolist()
    given = generators.inputs(network, 2, 64)
    values = np.asarray(nd.taps.read(network, given, ["conv2"])["conv2"]).reshape(64, -1, 4).mean(axis=1)
    assert found.label[1] == given["label"][values[:, 3].argmax()]
    read = np.asarray(nd.taps.read(network, {"z": found.z, "label": found.label}, ["conv2"])["conv2"])
    np.testing.assert_allclose(read.reshape(2, -1, 4).mean(axis=1)[[0, 1], [0, 3]], found.scores, rtol=1e-3)
    assert f"asked for class {NAMES[found.label[0]]}" in (tmp_path / "o/index.html").read_text()


def test_senseless_settings_end_in_one_sentence(tmp_path, capsys):
    folder = generator(tmp_path)
    for more, words in (
        (["--units", "0"], "units must be 1 or more"),
        (["--layers", "conv9"], "did you mean"),
        (["--generator", "mnist"], "not a generator"),
    ):
        assert dissect_generator.main(["--generator", folder, "--out", str(tmp_path / "no"), *more]) == 1
        assert words in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
