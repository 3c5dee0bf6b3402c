"""Similarity functions beside AND's and CLIP-Dissect's own, their guards, and independence of chunks."""

from __future__ import annotations

import chex
import jax
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

import nd_jax as nd
from nd_jax.dissect import functions, strongest

NAMES = tuple(functions.FUNCTIONS)


@pytest.fixture(scope="module")
def made():
    """60 clips, 7 units, 5 concepts; units 4 to 6 are rectified, so that many of their activations are equal."""
    generator = np.random.default_rng(5)
    activations = generator.normal(size=(60, 7)).astype(np.float32)
    activations[:, 4:] = np.maximum(activations[:, 4:], 0)
    return activations, generator.dirichlet(np.ones(5), 60).astype(np.float32)


def sorted_ranks(values):
    return np.argsort(np.argsort(values, kind="stable"), kind="stable")


def slow_reorder(activations, concepts, share=0.2):
    """Rank reorder by the words of its definition."""
    count = int(len(activations) * share)
    found = np.empty((activations.shape[1], concepts.shape[1]))
    for unit, u in enumerate(activations.T.astype(float)):
        best = np.argsort(-u, kind="stable")[:count]
        t = u[best]
        baseline = np.mean(np.abs(t[:, None] - t) ** 3)
        for concept, v in enumerate(concepts.T.astype(float)):
            reordered = np.sort(t)[sorted_ranks(v[best])]
            error = np.mean(np.abs(t - reordered) ** 3)
            found[unit, concept] = -error / baseline / np.sqrt(v[best].mean())
    return found


@pytest.mark.parametrize("case", ["case0", "case1"])
def test_the_published_numbers(shared, case):
    with np.load(shared / "reference" / "and_similarity" / "similarity.npz") as file:
        found = {name.removeprefix(f"{case}/"): file[name] for name in file.files if name.startswith(case)}
    activations, concepts = found["target_feats"], found["clip_feats"]

    def ours(name, **parameters):
        return nd.dissect.similarity(activations, concepts, name, **parameters)

    chex.assert_trees_all_close(ours("cosine"), found["cos_similarity"], atol=5e-7)
    chex.assert_trees_all_close(ours("cosine_cubed"), found["cos_similarity_cubed"], atol=5e-7)
    information = {
        "wpmi": ours("wpmi"),
        "wpmi_k10_a5_lam1": ours("wpmi", top_k=10, a=5, lam=1),
        "soft_wpmi": ours("soft_wpmi"),
        "soft_wpmi_k20_a2_lam0.6": ours("soft_wpmi", top_k=20, a=2, lam=0.6),
        "soft_wpmi_k20_pstart1_pend0.9": ours("soft_wpmi", top_k=20, p_start=1, p_end=0.9),
    }
    for name, values in information.items():
        chex.assert_trees_all_close(values, found[name], atol=2e-4, rtol=2e-6)
    reordered = {
        "rank_reorder_and_p3_top0.2_scale0.5": ("rank_reorder_and", {"top_fraction": 0.2, "order": "argsort"}),
        "rank_reorder_clip_dissect_p3_top0.2_scale0.5": ("rank_reorder_clip_dissect", {"top_fraction": 0.2}),
        "rank_reorder_and_p2_top0.1_scale0.25": (
            "rank_reorder_and_p2",
            {"top_fraction": 0.1, "p": 2, "scale_p": 0.25, "order": "argsort"},
        ),
    }
    for name, (orders, parameters) in reordered.items():
        values = ours("rank_reorder", permutations=found[f"{orders}_permutations"], **parameters)
        finite = np.isfinite(found[name])
        chex.assert_trees_all_close(values[finite], found[name][finite], rtol=5e-6)
        assert np.all(values[~finite] == -np.inf)
    row = ours("cosine")[:1]
    for kind, name in {
        "max": "max_sim",
        "max_minus_second": "max_minus_sec",
        "max_minus_others": "max_minus_other",
    }.items():
        chex.assert_trees_all_close(nd.dissect.confidence(row, kind)[0], found[name], atol=1e-6)


def test_information_by_its_definition(made):
    activations, concepts = made
    best = np.argsort(-activations, axis=0, kind="stable")[:10]
    likelihood = np.log(np.exp(log_softmax(3.0 * concepts.astype(float), axis=1)) + 1e-7)[best].sum(axis=0)
    prior = logsumexp(likelihood, axis=0) - np.log(activations.shape[1])
    ours = nd.dissect.similarity(activations, concepts, "wpmi", top_k=10, a=3, lam=0.5)
    chex.assert_trees_all_close(ours, (likelihood - 0.5 * prior).astype(np.float32), rtol=1e-5)


@pytest.mark.parametrize("rounded", [False, True])
def test_rank_reorder_by_its_definition(made, rounded):
    """With equal scores among the clips, and without."""
    activations, concepts = made
    concepts = np.round(concepts, 1) + 0.01 if rounded else concepts
    ours = nd.dissect.similarity(activations, concepts, "rank_reorder", top_fraction=0.2)
    chex.assert_trees_all_close(ours, slow_reorder(activations, concepts).astype(np.float32), rtol=1e-4)


def test_a_perfect_order_has_no_error_and_drawn_orders_come_near_the_mean_over_all(made):
    activations, concepts = made
    both = np.column_stack([np.exp(activations[:, 0]), concepts[:, 0]])
    exact = nd.dissect.similarity(activations, both, "rank_reorder", top_fraction=0.2)
    assert exact[0, 0] == 0 and exact[0, 1] < -0.1
    many = functions.RankReorder(top_fraction=0.2, permutations=2000)
    drawn = nd.dissect.similarity(activations, both, many, key=jax.random.key(1))
    chex.assert_trees_all_close(drawn, exact, rtol=0.08)


def test_chunks_do_not_matter(made):
    activations, concepts = made
    key = jax.random.key(3)
    whole = nd.dissect.similarity(activations, concepts, "all", key=key)
    told = []
    parts = nd.dissect.similarity(
        activations, concepts, "all", key=key, chunk_size=2, progress=lambda done, total: told.append(done)
    )
    assert set(whole) == set(NAMES) and told[-1] == 7
    chex.assert_trees_all_close(parts, whole, rtol=1e-5, atol=1e-6)
    alone = nd.dissect.similarity(activations, concepts, "soft_wpmi")
    chex.assert_trees_all_close(alone, whole["soft_wpmi"])


class Strict:
    """Columns of an array that, as a TensorStore does, refuses slices beyond its end."""

    def __init__(self, values):
        self.values, self.shape = values, values.shape

    def __getitem__(self, place):
        assert place[1].stop <= self.shape[1]
        return self.values[place]


@pytest.mark.parametrize("units", [1, 3, 7])
def test_nothing_is_asked_for_beyond_the_last_unit(made, units):
    activations, concepts = made
    part = activations[:, :units]
    chex.assert_trees_all_equal(*(nd.dissect.similarity(each, concepts) for each in (Strict(part), part)))


def test_where_top_clips_are_found_on_the_device(made, monkeypatch):
    """As on a GPU: the same clips, also of units with many equal activations."""
    activations, concepts = made
    on_host = nd.dissect.similarity(activations, concepts, "wpmi", top_k=40)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    chex.assert_trees_all_close(nd.dissect.similarity(activations, concepts, "wpmi", top_k=40), on_host, rtol=1e-6)


def test_where_the_published_code_has_nan_or_zeros(made):
    activations, concepts = made
    strange = np.zeros((60, 4), np.float32)
    strange[:, 1], strange[:, 2], strange[:, 3] = 1e6 / 3, 1e25 * activations[:, 0], 1e-25 * activations[:, 0]
    found = nd.dissect.similarity(strange, np.column_stack([concepts, np.zeros(60), -concepts[:, 0]]), "all")
    for name, values in found.items():
        assert not np.isnan(values).any(), name
        assert np.isfinite(values[:, :5]).all(), name
    assert not found["cosine"][0].any() and not found["cosine_cubed"][:2].any()
    expected = nd.dissect.similarity(activations[:, :1], concepts, "cosine")[0]
    chex.assert_trees_all_close(found["cosine"][2:, :5], np.stack([expected, expected]), atol=1e-6)
    chex.assert_trees_all_close(
        found["cosine_cubed"][2:3, :5], nd.dissect.similarity(activations[:, :1], concepts, "cosine_cubed"), atol=1e-6
    )
    assert np.all(found["rank_reorder"][:, 5:] == -np.inf)


def test_a_single_unit_is_told_apart_by_soft_wpmi(made):
    """With its prior, which is its own likelihood, every score would be zero."""
    activations, concepts = made
    for name, lam in (("soft_wpmi", 1), ("wpmi", 1), ("wpmi", 0.6)):
        alone = nd.dissect.similarity(activations[:, :1], concepts, name, lam=lam)
        without = nd.dissect.similarity(activations[:, :1], concepts, name, lam=0)
        assert np.ptp(alone) > 0.1
        assert np.array_equal(np.argsort(alone), np.argsort(without))


def test_few_clips(made):
    """5 clips, of which 5 % are none, and fewer than the top 28 and 100."""
    activations, concepts = made
    for clips in (1, 2, 5):
        found = nd.dissect.similarity(activations[:clips], concepts[:clips], "all")
        assert all(np.isfinite(values).all() for values in found.values())
    assert np.ptp(found["rank_reorder"], axis=1).min() > 0


def test_other_kinds_of_numbers(made):
    activations, concepts = made
    reference = nd.dissect.similarity(activations.astype(np.float16).astype(np.float32), concepts, "cosine_cubed")
    for values in (activations.astype(np.float16), jax.numpy.asarray(activations, np.float16)):
        chex.assert_trees_all_close(nd.dissect.similarity(values, concepts), reference)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"function": "cosin"}, "did you mean 'cosine'"),
        ({"function": "wpmi", "topk": 3}, "no parameter 'topk'; did you mean 'top_k'"),
        ({"function": "wpmi", "top_k": 0}, "top_k must be a whole number above 0"),
        ({"function": ["wpmi", "cosine"], "lam": 1}, "parameters with one name"),
        ({"function": ["wpmi", "wpmi"]}, "twice"),
        ({"function": []}, "no similarity function"),
        ({"function": "soft_wpmi", "p_start": 1.5}, "between 0 and 1"),
        ({"function": "rank_reorder", "top_fraction": 0}, "above 0 and at most 1"),
        ({"function": "rank_reorder", "permutations": np.zeros((7, 5, 3), int)}, "each of 0 to 2 once"),
        ({"function": "rank_reorder", "permutations": np.zeros((7, 5, 4), int)}, r"must be \(7, m, 3\)"),
        ({"function": "cosine", "key": jax.random.key(0)}, "for rank_reorder"),
        ({"activations": np.zeros((59, 7))}, "59 clips in activations, 60 in concepts"),
        ({"activations": np.zeros((60, 0))}, "at least one of each"),
        ({"activations": np.zeros(60)}, r"must be \(clips, units\)"),
        ({"activations": np.full((60, 2), np.nan)}, "unit 0 has nan"),
        ({"concepts": np.full((60, 2), np.inf)}, "clip 0 has inf of concept 0"),
        ({"chunk_size": 0}, "chunk_size must be 1 or more"),
    ],
)
def test_one_sentence(made, change, message):
    arguments = {"activations": made[0], "concepts": made[1], **change}
    with pytest.raises(ValueError, match=message):
        nd.dissect.similarity(**arguments)


@pytest.mark.parametrize(("rows", "width", "count"), [(3, 1, 1), (70, 100, 7), (5, 64, 64), (2, 300, 120)])
def test_the_strongest_in_order(rows, width, count):
    generator = np.random.default_rng(width)
    values = generator.normal(size=(rows, width)).astype(np.float32)
    values[::2] = np.round(values[::2])
    values[values == 0] = np.where(generator.random(np.sum(values == 0)) < 0.5, 0.0, -0.0)
    expected = np.argsort(-values, axis=1, kind="stable")[:, :count]
    chex.assert_trees_all_equal(strongest.strongest(values, count), expected.astype(np.int32))


def test_the_strongest_says_what_it_takes():
    with pytest.raises(ValueError, match="strongest 4"):
        strongest.strongest(np.zeros((2, 3), np.float32), 4)


def test_confidence_weighted_by_how_alike_concepts_are():
    scores = np.array([[0.5, 0.3, -0.2]], np.float32)
    alike = np.array([[1, 0.5, 0.1], [0.5, 1, 0], [0.1, 0, 1]])
    chex.assert_trees_all_close(
        nd.dissect.confidence(scores, "max_minus_alike", alike), np.float32([0.5 - 0.15 + 0.02]), rtol=1e-6
    )
    for arguments, message in (
        ((scores[:, :1],), "two concepts"),
        ((scores, "best"), "kind must be"),
        ((scores, "max_minus_alike"), "alike must be"),
    ):
        with pytest.raises(ValueError, match=message):
            nd.dissect.confidence(*arguments)
