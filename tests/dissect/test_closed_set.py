"""Labels from a closed set of concepts, and whether they are true."""

from __future__ import annotations

import chex
import numpy as np
import pytest
from scipy.special import softmax

import nd_jax as nd

NAMES = ("dog", "rain", "church_bells", "siren", "sneezing", "crow")


class Letters:
    """Counts letters: an encoder that needs nothing."""

    def encode(self, texts):
        return np.array([[text.count(chr(97 + letter)) + 0.1 for letter in range(26)] for text in texts])


@pytest.fixture(scope="module")
def planted():
    """80 clips and 6 units, each the noisy presence of one concept; unit 5 hears concept 0 instead of 5."""
    generator = np.random.default_rng(2)
    sounds = generator.normal(size=(80, 6)).astype(np.float32)
    activations = sounds + 0.1 * generator.normal(size=sounds.shape).astype(np.float32)
    activations[:, 5] = activations[:, 0]
    return sounds, activations


def test_scores_of_embeddings():
    generator = np.random.default_rng(0)
    clips, concepts = generator.normal(size=(4, 3)), 5 * generator.normal(size=(2, 3))
    cosines = (clips @ concepts.T) / np.linalg.norm(clips, axis=1)[:, None] / np.linalg.norm(concepts, axis=1)
    chex.assert_trees_all_close(nd.dissect.tab_scores(clips, concepts), cosines.astype(np.float32), rtol=1e-6)
    shares = softmax(100 * cosines, axis=1).astype(np.float32)
    chex.assert_trees_all_close(nd.dissect.db_scores(clips, concepts), shares, atol=1e-6)


def test_labels_by_every_function_and_how_true_they_are(planted):
    sounds, activations = planted
    scores = nd.dissect.db_scores(sounds, np.eye(6), scale=4)
    # The published numbers of top clips are meant for 2,000 clips.
    fewer = [nd.dissect.RankReorder(top_fraction=0.4), nd.dissect.WPMI(top_k=5), nd.dissect.SoftWPMI(top_k=10)]
    some = ["cosine", "cosine_cubed", *fewer]
    found = nd.dissect.closed_set(activations, scores, NAMES, functions=some, top=3)
    assert set(found.top) == set(nd.dissect.FUNCTIONS)
    for function, top in found.top.items():
        chex.assert_shape(top, (6, 3))
        assert found.names(function, 2)[0] == "church_bells"
    figures = found.last_layer(["Dog", "rain", "church bells", "siren", None, "crow"], Letters())
    names = ["dog", "crow"]
    embedded = Letters().encode(names)
    embedded = embedded / np.linalg.norm(embedded, axis=1, keepdims=True)
    for function in nd.dissect.FUNCTIONS:
        assert figures[function].units == 5 and figures[function].top1 == 0.8
    # "Dog" and "church bells" are other texts than the names they stand for, and are encoded as they are written.
    alike = Letters().encode(["dog", "Dog", "church_bells", "church bells"])
    alike = alike / np.linalg.norm(alike, axis=1, keepdims=True)
    expected = (alike[0] @ alike[1] + 1 + alike[2] @ alike[3] + 1 + embedded[0] @ embedded[1]) / 5
    assert figures["cosine"].cosine == pytest.approx(expected)
    assert found.last_layer(NAMES)["wpmi"].cosine is None


def test_top_five_and_ties():
    similarities = np.zeros((2, 6), np.float32)
    similarities[1, 5] = 1
    figures = nd.dissect.last_layer(similarities, NAMES, ["crow", "crow"])
    # Of equals the first five are named, and the sixth is not among them.
    assert (figures.units, figures.top1, figures.top5) == (2, 0.5, 0.5)


def test_labels_that_are_names():
    similarities = np.random.default_rng(0).normal(size=(6, 6)).astype(np.float32)
    best = np.argsort(-similarities, axis=1)
    names = [[NAMES[place] for place in row] for row in best]
    truth = ["Dog", None, "church bells", *NAMES[3:]]
    known = [name or "dog" for name in truth]
    embedded = Letters().encode([*NAMES, *known])
    expected = nd.dissect.last_layer(similarities, NAMES, truth, embedded[:6], embedded[6:])
    found = nd.dissect.last_layer_of_names(names, truth, Letters())
    assert (found.units, found.top1, found.top5) == (5, expected.top1, expected.top5) and len(found.cosines) == 5
    chex.assert_trees_all_close(found.cosines, expected.cosines, rtol=1e-6)
    # Six names, of which five count; and no answer at all.
    last = nd.dissect.last_layer_of_names([NAMES, []], ["crow", "dog"], Letters())
    assert (last.top1, last.top5, last.cosines[1]) == (0, 0, 0)
    assert nd.dissect.last_layer_of_names([["dog"]], ["dog"]).cosine is None


def test_one_function_and_its_options(planted):
    sounds, activations = planted
    one = nd.dissect.closed_set(activations, sounds, NAMES, functions="cosine", chunk_size=4)
    assert list(one.similarities) == ["cosine"] and one.top["cosine"].shape == (6, 5)
    own = nd.dissect.closed_set(activations, sounds, NAMES, functions=nd.dissect.WPMI(top_k=3, lam=0.1))
    assert list(own.top) == ["wpmi"]


def test_an_encoder_is_known_by_what_it_does():
    assert isinstance(Letters(), nd.dissect.TextEncoder) and not isinstance([], nd.dissect.TextEncoder)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nd.dissect.concept_names([]), "set of concepts is empty"),
        (lambda: nd.dissect.concept_names("dog"), "must be a list of names"),
        (lambda: nd.dissect.concept_names(["dog", " "]), "concept 2 of 2 has no name"),
        (lambda: nd.dissect.concept_names(["dog", "rain", "dog "]), "concept 3, 'dog', is concept 1 already"),
        (lambda: nd.dissect.closed_set(np.ones((3, 2)), np.ones((3, 2)), ["dog"]), "1 concepts, but scores of shape"),
        (lambda: nd.dissect.closed_set(np.ones((3, 2)), np.ones((3, 1)), ["dog"], top=0), "top must be 1 or more"),
        (lambda: nd.dissect.tab_scores(np.ones((3, 2)), np.ones((3, 4))), r"must be embeddings \(n, 2\)"),
        (lambda: nd.dissect.tab_scores(np.ones((3, 2)), [[0, 0], [1, 0]]), "concepts: row 0 is zero"),
        (lambda: nd.dissect.last_layer(np.ones((1, 2)), ["a", "b"], ["c"]), "unit 0 stands for 'c'"),
        (lambda: nd.dissect.last_layer(np.ones((1, 2)), ["a", "b"], [None]), "no unit has a known concept"),
        (lambda: nd.dissect.last_layer(np.ones((1, 2)), ["a"], ["a"]), "for 1 units and 1 concepts"),
        (lambda: nd.dissect.last_layer_of_names([["a"]], ["a", "b"]), "1 predictions for 2 units"),
        (lambda: nd.dissect.last_layer_of_names([["a"]], [None]), "no unit has a known concept"),
    ],
)
def test_one_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()
