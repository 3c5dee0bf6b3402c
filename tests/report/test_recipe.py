"""The call shown for a lane is Python that asks for the same objective, key and settings."""

from __future__ import annotations

import dataclasses

import chex
import jax
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import objectives, parameterizations
from nd_jax.report import recipe, recipe_objectives
from nd_jax.visualize import manifest

VECTOR = np.linspace(-1, 1, 12)


def lane_of(result, network, asked_for, **changes):
    """A result with one lane of this objective, without running it."""
    bound = asked_for.bind(network)
    lane = {"labels": bound.labels[:1], "layers": bound.layers[:1], "units": np.asarray(bound.units)[:1]}
    return dataclasses.replace(result.select([0]), **({"objective": bound.select([0])} | lane | changes))


@pytest.fixture
def asked(monkeypatch, network):
    """Runs source with a `visualize_batch` that only says what it was asked for."""
    calls = []
    monkeypatch.setattr(nd, "load", lambda path: network, raising=False)
    monkeypatch.setattr(nd, "visualize_batch", lambda *given, **more: calls.append((given, more)), raising=False)

    def run(source, arrays=None):
        monkeypatch.setattr(np, "load", lambda path: arrays)
        exec(source, {"loudest": loudest})
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


def loudest(read, shift):
    """A function of one's own."""
    return read["one"].max() + shift


ONE = objectives.channel("one", [7])
OTHERS = {
    "sum": ONE + 0.3 * objectives.channel("two", [1]),
    "layer": objectives.layer("one", power=1, absolute=True),
    "joint": objectives.joint("one", [[1, 4]], weights=[[1.0, 0.7]], reduce="min", at=(2, 3)),
    "probability": objectives.probability([1], outputs="probabilities"),
    "class_margin": objectives.class_margin([2], others=0.25, of="probability", outputs="logits"),
    "direction": objectives.direction("one", VECTOR, cosine_power=2, position=(1, 1)),
    "cosine": objectives.cosine("one", VECTOR),
    "match": objectives.match("two", activations=np.linspace(0, 1, 6 * 8 * 4).reshape(6, 8, 4)),
    "caricature": objectives.caricature("two", activations=np.ones((6, 8, 4)), cosine_power=1.5),
    "diversity": ONE + 10 * objectives.diversity("one"),
    "alignment": objectives.interpolate(ONE, objectives.channel("one", [2]), 3, together=True)
    + objectives.alignment("two", decay=3),
    "interpolate": objectives.interpolate(ONE, objectives.channel("one", [2]), 3),
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_kind_is_written_out(result, network, asked, name):
    lane = lane_of(result, network, OTHERS[name])
    source = recipe.sources(lane, [0], "somewhere", ["one-7.npz"])[0]
    assert "..." not in source
    arrays = recipe.kept_arrays(lane, 0)
    assert ("numpy.load('one-7.npz')" in source) == bool(arrays)
    again = asked(source, arrays)[0].bind(network)
    assert again.labels == lane.labels, "the label decides the random start"
    assert again.spec == lane.objective.spec
    chex.assert_trees_all_close(again.arrays, lane.objective.arrays, rtol=1e-6)


def test_a_function_of_ones_own_is_left_to_be_filled_in(result, network, asked):
    objective = objectives.custom(loudest, ["one"], label="loudest", arrays={"shift": np.array([0.5, 2.0])})
    lane = lane_of(result, network, objective)
    source = recipe.sources(lane, [0], "somewhere")[0]
    assert "function = ...  # this objective is a function of your own, " in source and ".loudest" in source
    own = source.replace("function = ...", "function = loudest")
    again = asked(own, recipe.kept_arrays(lane, 0))[0].bind(network)
    assert again.labels == lane.labels
    chex.assert_trees_all_close(again.arrays, lane.objective.arrays)


def test_no_kind_is_forgotten():
    assert set(recipe_objectives._WRITERS) == set(objectives.KINDS)


SPECTRUM = np.linspace(0.1, 1, 24).astype(np.float32)


def settings_of(result, network, **changes):
    """A result that says it was made with these settings."""
    stored = {name: manifest.plain(value) for name, value in changes.items()}
    told = {**result.manifest, "settings": {**result.manifest["settings"], **stored}}
    return lane_of(result, network, ONE, manifest=told, carried=manifest.carried(tuple(changes.values())))


@pytest.mark.parametrize(
    "parameterization",
    [
        parameterizations.pixels(start=0.4),
        parameterizations.fourier(fine=False),
        parameterizations.harmonic(),
        parameterizations.mask(np.full((24, 32, 1), 0.5, np.float32), np.zeros((24, 32, 1), np.float32)),
        parameterizations.stretched(),
    ],
    ids=lambda item: type(item).__name__,
)
def test_parameterizations_are_written_out(result, network, asked, parameterization):
    lane = settings_of(result, network, parameterization=parameterization)
    source = recipe.sources(lane, [0], "somewhere")[0]
    assert "..." not in source
    settings = asked(source, recipe.kept_arrays(lane, 0))[1]
    assert manifest.plain(settings["parameterization"]) == manifest.plain(parameterization)


def test_changes_of_a_given_input_begin_there(result, network, asked):
    lane = settings_of(result, network, parameterization=parameterizations.nearby(0.5))
    base = np.full((1, 24, 32, 1), 0.25, np.float32)
    lane = dataclasses.replace(lane, parameters={"base": base, "change": base, "radius": np.array([0.3])})
    start = asked(recipe.sources(lane, [0], "somewhere")[0], recipe.kept_arrays(lane, 0))[1]["start"]
    chex.assert_trees_all_equal(start, {"base": base[0], "change": np.zeros_like(base[0]), "radius": np.float64(0.3)})


def test_a_generator_that_ships_is_loaded_and_another_is_asked_for(result, network, asked, monkeypatch):
    generator = {"network": "dcgan_mnist", "digest": "0123456789abcdef", "input": {"kind": "latent"}}
    own = {"is": "Prior", "generator": generator, "label": None, "sd": 1.0, "project": True, "condition": "none"}
    told = {**result.manifest, "settings": {**result.manifest["settings"], "parameterization": own}}
    source = recipe.sources(lane_of(result, network, ONE, manifest=told), [0], "somewhere")[0]
    assert "generator_012345 = nd.load('checkpoints/dcgan_mnist')" in source
    assert asked(source)[1]["parameterization"].generator is network
    own["generator"] = generator | {"network": "mine\nraise SystemExit"}
    source = recipe.sources(lane_of(result, network, ONE, manifest=told), [0], "somewhere")[0]
    assert "generator_012345 = ...  # your network mine?raise SystemExit" in source


def test_penalties_transforms_and_what_is_not_nd_jax(result, network, asked):
    penalties = (nd.penalties.early(nd.penalties.silence(weight=0.3), rest=0.2), nd.penalties.total_variation(time=0.1))
    transforms = nd.transforms.default(network.input)[:1]
    lane = settings_of(result, network, penalties=penalties, transforms=transforms, polish=0.25)
    settings = asked(recipe.sources(lane, [0], "somewhere")[0])[1]
    assert settings["penalties"] == penalties and settings["transforms"] == tuple(transforms)
    assert settings["polish"] == 0.25
    told = {**result.manifest, "settings": {**result.manifest["settings"], "penalties": [{"is": "custom"}]}}
    source = recipe.sources(lane_of(result, network, ONE, manifest=told), [0], "somewhere")[0]
    assert asked(source)[1]["penalties"] is ...


def test_joined_results_have_the_call_of_their_label(result, network, asked):
    single = lane_of(result, network, ONE, objective=None)
    assert asked(recipe.sources(single, [0], "somewhere")[0])[0].bind(network).labels == ("one:7",)
    several = lane_of(result, network, OTHERS["sum"], objective=None)
    source = recipe.sources(several, [0], "somewhere")[0]
    assert f"# the one labelled {several.labels[0]}" in source
    assert asked(source)[0] is ...


def test_names_cannot_end_a_comment(result, network):
    told = {**result.manifest, "network": {"name": "x\nraise SystemExit\r\u2028", "digest": "y\nz"}}
    source = recipe.sources(lane_of(result, network, objectives.layer("one"), manifest=told, objective=None), [0])[0]
    assert "SystemExit" in source
    assert not any(line.startswith(("raise", "z")) for line in source.splitlines())


def test_other_keys_and_optimizers(result, network, asked):
    objective = objectives.channel("one", [7])
    key = jax.random.fold_in(jax.random.key(1), 2)
    stored = {"impl": str(jax.random.key_impl(key)), "data": np.asarray(jax.random.key_data(key)).tolist()}
    settings = {**result.manifest["settings"], "optimizer": "custom"}
    told = {**result.manifest, "key": stored, "settings": settings}
    source = recipe.sources(lane_of(result, network, objective, manifest=told), [0], "somewhere")[0]
    _, asked_for = asked(source)
    assert (jax.random.key_data(asked_for["key"]) == jax.random.key_data(key)).all()
    assert asked_for["optimizer"] is ...


def test_results_without_a_manifest_still_have_a_call(result, network, asked):
    lane = lane_of(result, network, objectives.channel("one", [7]), manifest={})
    assert asked(recipe.sources(lane, [0], "somewhere")[0])[0].bind(network).labels == ("one:7",)
