"""The shipped networks are as good as their cards say."""

from __future__ import annotations

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import storage
from nd_jax.experiments.configs.esc10 import Esc10
from nd_jax.experiments.configs.esc10_ast import Esc10Ast
from nd_jax.experiments.configs.instrument_notes import LOWEST, InstrumentNotes
from nd_jax.experiments.configs.mnist import Mnist
from nd_jax.experiments.configs.spoken_digits import SpokenDigits
from nd_jax.training import predictor
from nd_jax.training.cards import CARD_FIELDS

_RECIPES = {
    "esc10": Esc10,
    "esc10_ast": Esc10Ast,
    "instrument_notes": InstrumentNotes,
    "mnist": Mnist,
    "notes_judge": functools.partial(InstrumentNotes, held_out_by="instrument"),
    "spoken_digits": SpokenDigits,
}
_DATA = {
    "notes_judge": "notes",
    "instrument_notes": "notes",
    "esc10": "esc10",
    "esc10_ast": "esc10",
    "mnist": "mnist",
    "spoken_digits": "fsdd",
}


@pytest.fixture(scope="module", params=sorted(_RECIPES))
def shipped(request):
    """One shipped network: its name, its folder and the network."""
    folder = storage.shipped()[request.param]
    return request.param, folder, nd.load(folder)


def test_card_is_complete_and_folder_is_small(shipped):
    name, folder, network = shipped
    assert all(network.card.get(field) for field in CARD_FIELDS)
    page = (folder / "README.md").read_text()
    for text in (network.card["command"], network.card["time"], "95 % interval", "**Licence.**", "**Limits.**"):
        assert text in page
    assert "/" not in network.card["command"].split("--data-dir ")[1].split()[0]
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 3_000_000
    assert network.input == _RECIPES[name](folder).domain
    if not network.input.is_sound:
        return
    band_mean = np.asarray(network.input.band_mean)
    assert band_mean.shape == (network.input.shape[0],) and 0 < band_mean.min() <= band_mean.max() < 1


def test_every_shipped_classifier_is_tested_here_and_all_networks_are_small_together():
    cards = {
        name: json.loads((folder / "network.json").read_text())["card"] for name, folder in storage.shipped().items()
    }
    assert {name for name, card in cards.items() if "accuracy" in card} == set(_RECIPES)
    files = (path for folder in storage.shipped().values() for path in folder.rglob("*") if path.is_file())
    assert 0 < sum(path.stat().st_size for path in files) < 60_000_000


def test_held_out_accuracy_is_what_the_card_says(shipped, shared, tmp_path):
    name, _, network = shipped
    experiment = next(_RECIPES[name](shared / "data" / _DATA[name], prepared_dir=tmp_path).experiments())
    assert experiment.module == network.module
    if network.input.is_sound:
        np.testing.assert_allclose(experiment.domain.band_mean, network.input.band_mean, atol=1e-4)
    outputs = predictor(network.module, experiment.task.present)(network.variables, experiment.held_out)
    for measure, found in experiment.measure(experiment.per_recording(outputs)).items():
        stated = network.card["accuracy"][measure]
        assert found["of"] == stated["of"]
        assert abs(found["right"] - stated["right"]) <= 1, measure


def test_goals_are_met():
    notes, digits, sounds, images = (
        nd.load(storage.shipped()[name]).card["accuracy"]
        for name in ("instrument_notes", "spoken_digits", "esc10", "mnist")
    )
    assert images["digit"]["value"] >= 0.992 and images["digit"]["of"] == 10_000
    assert sounds["category"]["of"] == 80
    folds = [sounds["cross_validation"][f"fold {fold}"] for fold in range(1, 6)]
    assert np.isclose(sounds["cross_validation"]["mean"], np.mean(folds), atol=1e-4) and np.mean(folds) >= 0.88
    assert sounds["category"]["value"] == folds[4]
    assert digits["digit"]["value"] >= 0.97 and digits["digit"]["of"] == 300
    assert len(digits["left_out_speakers"]) == 7 and digits["left_out_speakers"]["mean"] >= 0.9
    judge = nd.load(storage.shipped()["notes_judge"]).card["accuracy"]
    assert all(one["pitch_exact"]["value"] >= 0.95 for one in (notes, judge))
    assert all(one["pitch_octave_errors"]["value"] <= 0.02 for one in (notes, judge))


def test_the_judge_of_images_is_sure_of_digits_and_its_features_tell_them_apart(shared, tmp_path):
    network = nd.load(storage.shipped()["mnist"])
    assert sum(np.size(leaf) for leaf in jax.tree.leaves(network.variables)) < 300_000
    test = nd.data.load("mnist", "test[:1000]", manual_dir=shared / "data/mnist", data_dir=tmp_path, progress=False)
    x = test.fixed(network.input.low, network.input.high)
    sure = np.max(np.asarray(jax.nn.softmax(network(x))), axis=-1)
    assert np.mean(sure > 0.9) >= 0.97
    features = np.asarray(nd.taps.read(network, x, ["relu4"])["relu4"])
    means = np.stack([features[test.labels == digit].mean(axis=0) for digit in range(10)])
    nearest = np.argmin(((features[:, None] - means) ** 2).sum(axis=-1), axis=-1)
    assert features.shape == (1000, 64) and np.mean(nearest == test.labels) >= 0.97


def _stack(midi: int, slope: float, decay: float, samples: int, rate: int) -> jax.Array:
    """Partials k of levels k ** -slope, decaying together."""
    frequency = 440 * 2 ** ((midi - 69) / 12)
    partials = np.arange(1, int(0.45 * rate / frequency) + 1)
    time = np.arange(samples) / rate
    wave = sum(k**-slope * np.sin(2 * np.pi * k * frequency * time + k * k) for k in partials[:60])
    wave = wave * np.exp(-time / decay)
    return jnp.asarray(0.2 * wave / np.max(np.abs(wave)), jnp.float32)


def test_harmonic_stacks_are_heard_at_their_pitch():
    network = nd.load(storage.shipped()["instrument_notes"])
    pitches = np.repeat(np.arange(36, 85, 2), 2)
    sounds = [
        _stack(
            int(midi), 0.7 if at % 2 else 1.5, 0.5 if at % 2 else 5.0, network.input.samples, network.input.sample_rate
        )
        for at, midi in enumerate(pitches)
    ]
    heard = np.argmax(network(network.input.from_wave(jnp.stack(sounds)))["pitch"], axis=-1) + LOWEST
    assert np.mean(heard == pitches) >= 0.9
