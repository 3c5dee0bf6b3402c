"""The call shown for a lane is Python that asks for the same objective, key and settings."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import objectives
from nd_jax.report import recipe

VECTOR = np.linspace(-1, 1, 12)


def lane_of(result, network, objective, **changes):
    """A result with one lane of this objective, without running it."""
    bound = objective.bind(network)
    lane = {"labels": bound.labels[:1], "layers": bound.layers[:1], "units": np.asarray(bound.units)[:1]}
    return dataclasses.replace(result.select([0]), **lane, **changes)


@pytest.fixture
def asked(monkeypatch, network):
    """Runs source with a `visualize_batch` that only says what it was asked for."""
    calls = []
    monkeypatch.setattr(nd, "load", lambda path: network, raising=False)
    monkeypatch.setattr(nd, "visualize_batch", lambda *given, **more: calls.append((given, more)), raising=False)

    def run(source):
        exec(source, {})
        (_, objective), settings = calls.pop()
        return objective, settings

    return run


@pytest.mark.parametrize(
    "objective",
    [
        objectives.channel("one", [7]),
        objectives.channel("one", [3], power=2),
        objectives.neuron("one", [5]),
        objectives.neuron("one", [5], (2, 4)),
        objectives.neuron("one", [0], (0, 1), power=3),
        objectives.logit([2]),
        objectives.probability([1]),
    ],
    ids=str,
)
def test_single_objectives_are_written_out(result, network, asked, objective):
    lane = lane_of(result, network, objective)
    again, settings = asked(recipe.sources(lane, [0], "somewhere")[0])
    assert again.bind(network).labels == lane.labels
    assert again.bind(network).spec == objective.bind(network).spec
    assert set(settings) == {"key", "steps", "snapshots"}
    assert (jax.random.key_data(settings["key"]) == jax.random.key_data(jax.random.key(5))).all()


@pytest.mark.parametrize(
    "objective",
    [
        objectives.channel("one", [7]) + objectives.channel("two", [1]),
        2.5 * objectives.channel("one", [7]),
        objectives.layer("one"),
        objectives.direction("one", VECTOR),
    ],
    ids=["sum", "scaled", "layer", "direction"],
)
def test_other_objectives_are_named_and_left_to_be_filled_in(result, network, asked, objective):
    lane = lane_of(result, network, objective)
    source = recipe.sources(lane, [0], "somewhere")[0]
    assert f"# the one labelled {lane.labels[0]}" in source
    assert asked(source)[0] is ...


def test_names_cannot_end_a_comment(result, network):
    manifest = {**result.manifest, "network": {"name": "x\nraise SystemExit\r\u2028", "digest": "y\nz"}}
    source = recipe.sources(lane_of(result, network, objectives.layer("one"), manifest=manifest), [0])[0]
    assert "SystemExit" in source
    assert not any(line.startswith(("raise", "z")) for line in source.splitlines())


def test_other_keys_and_optimizers(result, network, asked):
    objective = objectives.channel("one", [7])
    key = jax.random.fold_in(jax.random.key(1), 2)
    stored = {"impl": str(jax.random.key_impl(key)), "data": np.asarray(jax.random.key_data(key)).tolist()}
    settings = {**result.manifest["settings"], "optimizer": "custom"}
    manifest = {**result.manifest, "key": stored, "settings": settings}
    source = recipe.sources(lane_of(result, network, objective, manifest=manifest), [0], "somewhere")[0]
    _, asked_for = asked(source)
    assert (jax.random.key_data(asked_for["key"]) == jax.random.key_data(key)).all()
    assert asked_for["optimizer"] is ...


def test_results_without_a_manifest_still_have_a_call(result, network, asked):
    lane = lane_of(result, network, objectives.channel("one", [7]), manifest={})
    assert asked(recipe.sources(lane, [0], "somewhere")[0])[0].bind(network).labels == ("one:7",)
