"""Windows kept alone and taken away in pairs, on networks of which it is known what is enough."""

from __future__ import annotations

import chex
import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax.domain import Image, Waveform


class Two(nn.Module):
    """From the means of the two left quarters: either, both, or their sum; the second logit sees the first quarter."""

    rule: str

    @nn.compact
    def __call__(self, x):
        a, b = x[:, :4, :4].mean((1, 2, 3)), x[:, 4:, :4].mean((1, 2, 3))
        found = {"either": jnp.maximum(a, b), "both": jnp.minimum(a, b), "sum": a + b}[self.rule]
        return jnp.stack([found, a], axis=-1)


def network(rule):
    return nd.Network(Two(rule), {}, Image((8, 8, 1), 0.0, 1.0))


X = np.ones((2, 8, 8, 1), np.float32)
X[1] *= 0.5
QUARTERS = {"window": (4, 4, 1), "stride": (4, 4, 1), "baseline": 0.0}


def look(rule, target=0, x=X, **more):
    return nd.attribute.redundancy(network(rule), x, target, **{**QUARTERS, **more})


def test_two_sufficient_cues_are_flagged_and_named():
    found = look("either")
    chex.assert_trees_all_close(found.single, np.zeros((2, 4)))
    chex.assert_trees_all_close(found.keep_only, np.asarray([[1, 0, 1, 0], [0.5, 0, 0.5, 0]]), atol=1e-6)
    chex.assert_trees_all_close(found.everything, np.asarray([1.0, 0.5]), atol=1e-6)
    assert found.flagged.tolist() == [True, True] and found.largest.tolist() == [0.0, 0.0]
    # Windows 0 and 2 are the two on the left.
    assert found.best_pair.tolist() == [[0, 2], [0, 2]] and found.pair.max() == pytest.approx(1.0)


@pytest.mark.parametrize("rule", ["both", "sum"])
def test_cues_that_are_needed_are_not_flagged(rule):
    found = look(rule)
    assert not found.flagged.any() and found.largest.min() >= 0.5 - 1e-6
    alone = found.keep_only[0, 0]
    assert alone == pytest.approx(0.0 if rule == "both" else 1.0)


def test_every_pair_of_the_candidates_is_what_the_network_says():
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(8, 8, 1)).astype(np.float32)
    found = look("sum", x=x, chunk_size=3, candidates=3)
    net = network("sum")
    assert found.pairs.shape == (3, 2) and found.scores.shape == ()
    kept = set(np.argsort(-found.keep_only, kind="stable")[:3].tolist())
    assert set(found.pairs.ravel().tolist()) == kept
    starts, ends = found.grid.places()
    for (one, other), fall in zip(found.pairs, found.pair, strict=True):
        gone = x.copy()
        for window in (one, other):
            gone[tuple(slice(a, b) for a, b in zip(starts[window], ends[window], strict=True))] = 0
        want = float(net(x[None])[0, 0] - net(gone[None])[0, 0])
        assert fall == pytest.approx(want, abs=1e-6)
    single = nd.attribute.occlusion(net, x, 0, **QUARTERS)
    chex.assert_trees_all_close(found.single, single.drops, atol=1e-6)


def test_lanes_and_a_class_for_each_clip():
    both = look("either", nd.objectives.logit([0, 1]))
    assert both.single.shape == (2, 2, 4) and both.flagged.tolist() == [[True, False]] * 2
    own = look("either", [0, 1])
    chex.assert_trees_all_close(own.single, both.single[[0, 1], [0, 1]])
    chex.assert_trees_all_close(own.pair[1].max(), both.pair[1, 1].max())


def test_nothing_to_explain_is_not_redundant():
    found = look("either", x=np.zeros((8, 8, 1), np.float32))
    assert np.isnan(found.largest) and not found.flagged


class Either(nn.Module):
    """The louder of two bands of a waveform: 1 kHz or 3 kHz, each heard in full at a tenth of full scale."""

    @nn.compact
    def __call__(self, x):
        time = jnp.arange(x.shape[1]) / 8000
        heard = []
        for pitch in (1000.0, 3000.0):
            turn = jnp.exp(-2j * jnp.pi * pitch * time)
            heard.append(jnp.minimum(10 * jnp.abs(jnp.mean(x[..., 0] * turn[None], axis=1)), 1.0))
        return jnp.maximum(*heard)[:, None]


def test_bands_of_a_waveform_come_out_of_its_spectrum():
    domain = Waveform(samples=2048, sample_rate=8000)
    net = nd.Network(Either(), {}, domain)
    time = np.arange(2048) / 8000
    wave = (0.3 * np.sin(2 * np.pi * 1000 * time) + 0.3 * np.sin(2 * np.pi * 3000 * time))[:, None].astype(np.float32)
    edges = [0, 500, 1500, 2500, 3500, 4000]
    found = nd.attribute.redundancy(net, wave, 0, frequency=edges, n_fft=256)
    assert found.flagged and found.best_pair.tolist() == [1, 3]
    chex.assert_trees_all_close(found.keep_only[[1, 3]], np.ones(2), atol=1e-3)
    assert found.pair.max() > 0.9 and found.everything > 0.99
    one = nd.attribute.redundancy(net, (wave - 0.3 * np.sin(2 * np.pi * 3000 * time)[:, None]), 0, frequency=edges)
    assert not one.flagged and np.argmax(one.single) == 1


def test_senseless_settings_are_one_sentence():
    for more, words in (
        ({"candidates": 1}, "2 candidates"),
        ({"baseline": "neighbours"}, "single windows"),
        ({"window": (8, 8, 1), "stride": (8, 8, 1)}, "2 windows"),
    ):
        with pytest.raises(ValueError, match=words):
            look("either", **more)
