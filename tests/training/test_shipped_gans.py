"""The shipped generators are as good as their cards say, and good enough."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import generators, metrics, storage
from nd_jax.domain.playing import sounds
from nd_jax.experiments.judge_gan import SEED, Judge
from nd_jax.experiments.judge_notes import POINTS, VARIETY, midi_numbers, pitch_row
from nd_jax.experiments.judge_notes_table import explained, table
from nd_jax.training.cards import GAN_FIELDS, SHEET

_CARDS = {name: json.loads((folder / "network.json").read_text())["card"] for name, folder in storage.shipped().items()}
_GENERATORS = sorted(name for name, card in _CARDS.items() if "samples" in card and f"{name}_discriminator" in _CARDS)
# Generators of notes are measured by their pitch.
_NOTES = [name for name in _GENERATORS if "notes" in _CARDS[name]["samples"]]
_OTHERS = [name for name in _GENERATORS if name not in _NOTES]


@pytest.fixture(scope="module", params=_GENERATORS)
def shipped(request):
    """The name and folder of one shipped generator."""
    return request.param, storage.shipped()[request.param]


def test_card_and_sheet_are_complete(shipped):
    name, folder = shipped
    for place in (folder, folder.with_name(f"{name}_discriminator")):
        card = json.loads((place / "network.json").read_text())["card"]
        assert all(card.get(field) for field in GAN_FIELDS)
        page = (place / "README.md").read_text()
        for text in (card["command"], card["time"], card["table"], "**Licence.**", "**Limits.**"):
            assert text in page
        assert card["command"].startswith("python experiments/train_gan.py ") and "--data-dir DATA" in card["command"]
        assert not [word for word in card["command"].split() if word.startswith("/")]
        assert sum(path.stat().st_size for path in place.rglob("*") if path.is_file()) < 6_000_000
    assert (folder / SHEET).stat().st_size > 10_000


def test_discriminator_takes_what_the_generator_makes(shipped):
    name, folder = shipped
    generator, discriminator = nd.load(folder), nd.load(folder.with_name(f"{name}_discriminator"))
    given = generators.inputs(generator, SEED, 2)
    made = generators.make(generator, given)
    both = isinstance(discriminator.input, nd.domain.Parts)
    takes = discriminator.input["x"] if both else discriminator.input
    shown = jax.vmap(nd.domain.converter(generator.output, takes))(made)
    scores = discriminator({"x": shown, "label": given["label"]} if both else shown)
    if isinstance(scores, dict):  # with a head that names the class
        assert np.shape(scores["label"]) == (2, len(generators.classes_of(generator)))
        scores = scores["score"]
    assert np.shape(scores) == (2, 1) and np.all(np.isfinite(scores))
    # Every layer of it can be opened up: nothing depends on the other examples of a batch.
    for layer in nd.taps.layers(discriminator):
        assert nd.taps.layer_shape(discriminator, layer)


@pytest.mark.parametrize("name", _OTHERS)
def test_judge_says_again_what_the_card_says(name):
    generator, card = nd.load(storage.shipped()[name]), _CARDS[name]["samples"]
    judge = Judge.load(card["judge"], generator.output)
    given = generators.inputs(generator, SEED, 1000)
    heard = judge.hear(generators.make(generator, given))
    stated = card["rows"]["generated"]
    assert stated["n"] == 1000
    assert abs(metrics.confident_share(heard.probabilities)["value"] - stated["confident"]["value"]) <= 0.01
    assert abs(metrics.inception_score(heard.probabilities) / stated["inception_score"] - 1) <= 0.02
    for digit, share in metrics.class_shares(heard.probabilities, judge.labels).items():
        assert abs(share["value"] - stated["classes"][digit]["value"]) <= 0.01
    if "asked" in stated:
        right = np.mean(heard.probabilities.argmax(axis=1) == given["label"])
        assert abs(right - stated["asked"]["value"]) <= 0.01


@pytest.mark.parametrize("name", _OTHERS)
def test_goals_are_met(name):
    record = _CARDS[name]["samples"]
    made, real = record["rows"]["generated"], record["rows"]["real"]
    assert record["ratios"]["kernel_distance"] <= 0.5
    rarest = min(share["value"] for share in made["classes"].values())
    if record["judge"] == "mnist":
        assert made["confident"]["value"] >= 0.85 and rarest >= 0.04
    else:
        assert made["inception_score"] >= 0.5 * real["inception_score"] and rarest >= 0.03
    if "asked" in made:
        assert made["asked"]["value"] >= 0.8


# --- notes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", _NOTES)
def test_both_judges_of_notes_say_again_what_the_card_says(name):
    """Of the first two notes of every pitch, whose figures the card keeps apart."""
    generator, card = nd.load(storage.shipped()[name]), _CARDS[name]["samples"]
    stated = card["notes"]["first"]
    judge = Judge.load(card["judge"], generator.output)
    given = generators.inputs(generator, SEED, stated["n"])
    made = generators.make(generator, given)
    hertz = metrics.fundamentals([sound.wave for sound in sounds(generator.output, made)], generator.output.sample_rate)
    pitch = midi_numbers(generators.classes_of(generator))[given["label"]]
    row, _ = pitch_row(judge.hear(made), judge.labels, hertz, pitch)
    assert stated["n"] == 2 * len(generators.classes_of(generator)) == row["n"]
    for each in ("classifier", "f0"):
        assert abs(row[each]["right"]["right"] - stated[each]) <= 1, each
    assert row["entropy"] == pytest.approx(stated["entropy"], rel=0.02)


@pytest.mark.parametrize("name", _NOTES)
def test_the_card_of_notes_says_what_was_measured(name):
    card = _CARDS[name]
    samples = card["samples"]
    assert card["table"] == table(samples) and explained(samples) in (storage.shipped()[name] / "README.md").read_text()
    rows, notes = samples["rows"], samples["notes"]
    assert rows["real"]["n"] == rows["generated"]["n"] >= 300 and notes["rows"]["generated"]["n"] >= 1000
    assert notes["rows"]["held_out"]["n"] >= 50 and notes["rows"]["unheard"]["n"] >= 100
    assert rows["real"]["ndb"]["k"] <= 20
    for judge in ("classifier", "f0"):
        made = notes["rows"]["generated"][judge]
        assert sum(made[what]["right"] for what in ("right", "octave_errors", "other", "no_pitch")) == 1000
        assert sum(notes["each"][judge]) == made["right"]["right"]


@pytest.mark.parametrize("name", _NOTES)
def test_notes_have_the_pitch_that_was_asked_for_and_are_no_copies(name):
    samples = _CARDS[name]["samples"]
    notes, goal = samples["notes"], samples["notes"]["bar"]
    reals = [row for row in ("held_out", "unheard") if row in notes["rows"]]
    assert min(notes["rows"][row]["classifier"]["right"]["value"] for row in reals) >= 0.95
    for judge in ("classifier", "f0"):
        best = max(notes["rows"][row][judge]["right"]["value"] for row in reals)
        assert 100 * (best - notes["rows"]["generated"][judge]["right"]["value"]) <= POINTS
    assert goal["pitches"] >= 37 and goal["met"] is True
    assert min(one["ratio"] for one in notes["variety"].values()) >= VARIETY
    assert all(found["generated"]["copies"] == 0 for found in _by_view(notes["copies"]))
    assert samples["ratios"]["kernel_distance"] <= 0.5


def _by_view(copies):
    """{row: {view: figures}} as a row for each view."""
    return [{row: views[view] for row, views in copies.items()} for view in ("features", "levels")]
