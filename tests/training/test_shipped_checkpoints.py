"""The shipped networks are as good as their cards say."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import storage
from nd_jax.experiments.configs.esc10 import Esc10
from nd_jax.experiments.configs.instrument_notes import LOWEST, InstrumentNotes
from nd_jax.experiments.configs.spoken_digits import SpokenDigits
from nd_jax.training import predictor
from nd_jax.training.cards import CARD_FIELDS

_RECIPES = {"esc10": Esc10, "instrument_notes": InstrumentNotes, "spoken_digits": SpokenDigits}
_DATA = {"esc10": "esc10", "instrument_notes": "notes", "spoken_digits": "fsdd"}


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
    band_mean = np.asarray(network.input.band_mean)
    assert band_mean.shape == (network.input.shape[0],) and 0 < band_mean.min() <= band_mean.max() < 1


def test_every_shipped_network_is_tested_here_and_all_are_small_together():
    assert set(storage.shipped()) == set(_RECIPES)
    files = (path for folder in storage.shipped().values() for path in folder.rglob("*") if path.is_file())
    assert 0 < sum(path.stat().st_size for path in files) < 30_000_000


def test_held_out_accuracy_is_what_the_card_says(shipped, shared, tmp_path):
    name, _, network = shipped
    experiment = next(_RECIPES[name](shared / "data" / _DATA[name], prepared_dir=tmp_path).experiments())
    assert experiment.module == network.module
    np.testing.assert_allclose(experiment.domain.band_mean, network.input.band_mean, atol=1e-4)
    outputs = predictor(network.module, experiment.task.present)(network.variables, experiment.held_out)
    for measure, found in experiment.measure(experiment.per_recording(outputs)).items():
        stated = network.card["accuracy"][measure]
        assert found["of"] == stated["of"]
        assert abs(found["right"] - stated["right"]) <= 1, measure


def test_goals_are_met():
    notes, digits, sounds = (
        nd.load(storage.shipped()[name]).card["accuracy"] for name in ("instrument_notes", "spoken_digits", "esc10")
    )
    assert sounds["category"]["of"] == 80
    folds = [sounds["cross_validation"][f"fold {fold}"] for fold in range(1, 6)]
    assert np.isclose(sounds["cross_validation"]["mean"], np.mean(folds), atol=1e-4) and np.mean(folds) >= 0.88
    assert sounds["category"]["value"] == folds[4]
    assert digits["digit"]["value"] >= 0.97 and digits["digit"]["of"] == 300
    assert len(digits["left_out_speakers"]) == 7 and digits["left_out_speakers"]["mean"] >= 0.9
    assert notes["pitch_exact"]["value"] >= 0.95 and notes["pitch_octave_errors"]["value"] <= 0.02


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
