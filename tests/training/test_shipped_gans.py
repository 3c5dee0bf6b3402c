"""The shipped generators are as good as their cards say, and good enough."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import generators, metrics, storage
from nd_jax.experiments.judge_gan import SEED, Judge
from nd_jax.training.cards import GAN_FIELDS, SHEET

_CARDS = {name: json.loads((folder / "network.json").read_text())["card"] for name, folder in storage.shipped().items()}
_GENERATORS = sorted(name for name, card in _CARDS.items() if "samples" in card and f"{name}_discriminator" in _CARDS)


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
    takes = discriminator.input["x"] if isinstance(given, dict) else discriminator.input
    shown = jax.vmap(nd.domain.converter(generator.output, takes))(made)
    scores = discriminator({"x": shown, "label": given["label"]} if isinstance(given, dict) else shown)
    assert np.shape(scores) == (2, 1) and np.all(np.isfinite(scores))


def test_judge_says_again_what_the_card_says(shipped):
    name, folder = shipped
    generator, card = nd.load(folder), _CARDS[name]["samples"]
    judge = Judge.load(card["judge"], generator.output)
    given = generators.inputs(generator, SEED, 1000)
    heard = judge.hear(generators.make(generator, given))
    stated = card["rows"]["generated"]
    assert stated["n"] == 1000
    assert abs(metrics.confident_share(heard.probabilities)["value"] - stated["confident"]["value"]) <= 0.01
    assert abs(metrics.inception_score(heard.probabilities) / stated["inception_score"] - 1) <= 0.02
    for digit, share in metrics.class_shares(heard.probabilities, judge.network.labels).items():
        assert abs(share["value"] - stated["classes"][digit]["value"]) <= 0.01
    if "asked" in stated:
        right = np.mean(heard.probabilities.argmax(axis=1) == given["label"])
        assert abs(right - stated["asked"]["value"]) <= 0.01


def test_goals_are_met(shipped):
    name, _ = shipped
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
