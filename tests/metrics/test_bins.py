"""NDB: parity with the reference, its size under the null, and the k-means beneath it."""

from __future__ import annotations

import json

import chex
import jax
import numpy as np
import pytest

from nd_jax import metrics

SETTINGS = {
    "ndb0": {"significance": 0.05},
    "ndb1": {"significance": 0.01, "whitening": True},
    "ndb2": {"significance": 0.05, "z_threshold": 3.0},
}


@pytest.mark.parametrize("query", ["query", "query2"])
@pytest.mark.parametrize("case", list(SETTINGS))
def test_parity_with_the_reference(shared, case, query):
    arrays = np.load(shared / "reference" / "metrics" / "ndb.npz")
    given = {name.split("/")[1]: arrays[name] for name in arrays.files if name.startswith(case)}
    found = metrics.ndb(given["train"], given[query], centres=given["bin_centers"], **SETTINGS[case])
    assert found.different == given[f"{query}_ndb"]
    assert found.jensen_shannon == pytest.approx(float(given[f"{query}_js"]), abs=1e-9)
    chex.assert_trees_all_equal(found.assignment, given[f"{query}_assignment"])
    chex.assert_trees_all_equal(found.flags, given[f"{query}_different"])
    chex.assert_trees_all_close(found.train, given["bin_proportions"], atol=1e-12)
    chex.assert_trees_all_close(found.samples, given[f"{query}_proportions"], atol=1e-12)


@pytest.mark.parametrize("case", ["ndb0", "ndb1"])
def test_bins_of_our_own_find_the_same_difference(shared, case):
    arrays = np.load(shared / "reference" / "metrics" / "ndb.npz")
    k = len(arrays[f"{case}/bin_centers"])
    train = arrays[f"{case}/train"]
    found = metrics.ndb(train, arrays[f"{case}/query"], k, key=jax.random.key(0), **SETTINGS[case])
    null = metrics.ndb(train, arrays[f"{case}/query2"], k, key=jax.random.key(0), **SETTINGS[case])
    assert found.different >= 3 and null.different <= 1
    assert found.jensen_shannon > 3 * null.jensen_shannon


def clusters(seed, n, weights=(0.25, 0.25, 0.25, 0.25)):
    rng = np.random.default_rng(seed)
    which = rng.choice(len(weights), n, p=weights)
    return 8 * np.eye(len(weights))[which] + rng.normal(size=(n, len(weights))), which


def test_kmeans_finds_clusters_that_are_there():
    x, which = clusters(0, 300, (0.4, 0.3, 0.2, 0.1))
    centres = metrics.kmeans(x, 4, jax.random.key(0))
    expected = np.stack([x[which == number].mean(axis=0) for number in range(4)])
    chex.assert_trees_all_close(centres, expected, atol=1e-10)
    chex.assert_trees_all_equal(centres, metrics.kmeans(x, 4, jax.random.key(0)))


def test_a_lost_cluster_is_one_bin():
    train, _ = clusters(1, 400)
    fair, _ = clusters(2, 400)
    poor, _ = clusters(3, 400, (0.3, 0.35, 0.35, 0.0))
    key = jax.random.key(0)
    assert metrics.ndb(train, fair, 4, key=key).different == 0
    lost = metrics.ndb(train, poor, 4, key=key)
    assert lost.samples.min() == 0 and lost.flags[lost.samples.argmin()] and lost.z[lost.samples.argmin()] > 5
    assert json.loads(json.dumps(lost.to_dict()))["k"] == 4


def test_under_the_null_about_the_significance_of_the_bins_differ():
    rng = np.random.default_rng(4)
    centres = rng.normal(size=(20, 3))
    found = [
        metrics.ndb(rng.normal(size=(600, 3)), rng.normal(size=(600, 3)), centres=centres).different for _ in range(60)
    ]
    assert 0.03 < np.mean(found) / 20 < 0.07


def test_a_set_with_itself_does_not_differ():
    x, _ = clusters(5, 200)
    found = metrics.ndb(x, x, 6, key=jax.random.key(1))
    assert found.different == 0 and found.jensen_shannon == 0


def test_bad_arguments_are_one_sentence():
    x, _ = clusters(6, 50)
    with pytest.raises(ValueError, match="needs a key"):
        metrics.ndb(x, x, 5)
    with pytest.raises(ValueError, match=r"k must be 2 \.\.\. 49"):
        metrics.ndb(x, x, 50, key=jax.random.key(0))
    with pytest.raises(ValueError, match="centres has 3 dimensions"):
        metrics.ndb(x, x, centres=np.zeros((5, 3)))
    with pytest.raises(ValueError, match="only 1 different examples, and 3 clusters"):
        metrics.kmeans(np.ones((9, 2)), 3, jax.random.key(0))
    with pytest.raises(ValueError, match="significance must be between 0 and 1"):
        metrics.ndb(x, x, centres=x[:4], significance=2.0)
