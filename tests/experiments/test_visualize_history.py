"""A training's history as the atlas's command line reads it."""

from __future__ import annotations

import dataclasses
import pathlib

import chex
import flax.linen as nn
import jax
import numpy as np
import pytest

import nd_jax as nd
from nd_jax.domain import Image
from nd_jax.experiments import visualize, visualize_cards, visualize_history
from nd_jax.networks.lenet import LeNet


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(the last network, the history folder) of a training of three moments, none of which took place."""
    folder = tmp_path_factory.mktemp("run") / "history"
    module, domain = LeNet(features=(4, 6), hidden=(12, 6)), Image((28, 28, 1))
    networks = []
    for step in (0, 5, 40):
        variables = module.init(jax.random.key(step), np.zeros((1, 28, 28, 1), np.float32))
        networks.append(nd.Network(module, jax.device_get(variables), input=domain, apply_kwargs={"train": False}))
        networks[-1].save(folder / f"{step:08d}" / ("discriminator" if step == 5 else ""))
    return networks[-1], folder


def test_moments_are_found_by_their_steps(run, tmp_path):
    _, folder = run
    assert [step for step, _ in visualize_history.history_of(folder)] == [0, 5, 40]
    with pytest.raises(ValueError, match="--training.history 8"):
        visualize_history.history_of(tmp_path)
    with pytest.raises(ValueError, match="does not hold two or more moments"):
        visualize._check(visualize.Settings(history=pathlib.Path("nowhere")))


def test_each_moment_is_looked_into_as_the_last_and_kept(run, tmp_path, capsys):
    network, folder = run
    result = nd.visualize_batch(
        network, nd.objectives.channel("dense2", range(3)), key=jax.random.key(4), steps=2, snapshots=1, progress=False
    )
    natural = {"inputs": np.random.default_rng(0).uniform(size=(20, 28, 28, 1)).astype(np.float32)}
    found = visualize_history.course(network, [result], natural, folder, 2, tmp_path)
    assert [moment.step for moment in found] == [0, 40], "the first and the last of three"
    assert found[0].tuning is None, "images have no tones"
    again = found[1].results[0]
    assert again.labels == result.labels
    chex.assert_trees_all_close(again.inputs, result.inputs, atol=1e-5)
    before = (tmp_path / "00000040" / "dense2" / "manifest.json").stat().st_mtime_ns
    visualize_history.course(network, [result], natural, folder, 2, tmp_path)
    assert (tmp_path / "00000040" / "dense2" / "manifest.json").stat().st_mtime_ns == before


def test_other_networks_are_refused(run):
    network, folder = run

    class Other(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            return nn.Dense(2, name="out")(x.mean(axis=(1, 2)))

    variables = Other().init(jax.random.key(0), np.zeros((1, 28, 28, 1), np.float32))
    other = nd.Network(Other(), variables, input=Image((28, 28, 1)))
    with pytest.raises(ValueError, match="no network with the inputs and layers"):
        visualize_history._network(other, folder / "00000000")
    found = visualize_history._network(network, folder / "00000005")
    assert found.input == network.input, "the discriminator of a GAN"


def test_cards_are_kept_while_they_fit(run, tmp_path):
    network, _ = run
    result = nd.visualize_batch(
        network, nd.objectives.channel("dense2", range(3)), key=jax.random.key(4), steps=0, snapshots=0, progress=False
    )
    natural = {"inputs": np.random.default_rng(0).uniform(size=(20, 28, 28, 1)).astype(np.float32)}
    assert visualize_cards.Judge(network, None, "quick", 0).card(result, tmp_path, None) is None
    assert visualize_cards.Judge(network, natural, "none", 0).card(result, tmp_path, None) is None
    judge = visualize_cards.Judge(network, natural, "quick", 0)
    first = judge.card(result, tmp_path, None)
    assert judge._kept(result, tmp_path / "trust") is not None
    chex.assert_trees_all_equal(judge.card(result, tmp_path, None).ratio, first.ratio)
    moved = dataclasses.replace(result, scores=result.scores + 1)
    assert judge._kept(moved, tmp_path / "trust") is None, "another result"
    full = visualize_cards.Judge(network, natural, "full", 0)
    assert full._kept(result, tmp_path / "trust") is None, "starts were not compared"
