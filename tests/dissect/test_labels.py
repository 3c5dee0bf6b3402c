"""Labels of all units beside chance: what is there is found, what is not there is not above shuffled clips."""

from __future__ import annotations

import chex
import numpy as np
import pytest

from nd_jax import dissect

NAMES = ("dog", "rain", "bell", "horn")


@pytest.fixture(scope="module")
def planted():
    """120 clips with one concept each; units 0 to 3 answer to one, units 4 to 23 to none, unit 24 is constant."""
    random = np.random.default_rng(0)
    truth = np.arange(120) % 4
    scores = np.where(np.eye(4, dtype=bool)[truth], 0.9, 0.1 / 3).astype(np.float32)
    activations = random.normal(size=(120, 25)).astype(np.float32)
    activations[:, :4] = scores + 0.1 * activations[:, :4]
    activations[:, 24] = 1.0
    return activations, scores


@pytest.fixture(scope="module")
def found(planted):
    return dissect.layer_labels(*planted, NAMES, functions=["cosine_cubed", "wpmi"])


def test_what_is_there_is_named_and_above_every_shuffle(found):
    labels = dissect.Labels(NAMES, {"conv": {"DB": found}})
    assert (labels.source, labels.function) == ("DB", "cosine_cubed")
    for unit, name in enumerate(NAMES):
        label = labels.best("conv", unit)
        assert label.name == name and label.above_chance and label.beaten == 19
        assert label.score == label.others[0][1] + label.margin > label.others[0][1]
        assert labels.agreeing("conv", unit) == (2, 2)
        assert [(source, function) for source, function, _ in labels.every("conv", unit)] == [
            ("DB", "cosine_cubed"),
            ("DB", "wpmi"),
        ]


def test_what_is_not_there_is_seldom_above_chance(found):
    labels = dissect.Labels(NAMES, {"conv": {"DB": found}})
    above = [labels.best("conv", unit).above_chance for unit in range(4, 24)]
    assert sum(above) <= 4, "one in twenty on average"
    assert not labels.best("conv", 24).above_chance, "a constant unit is alike to nothing"


def test_files_keep_everything(found, tmp_path):
    path = found.save(tmp_path / "conv.npz")
    again = dissect.LayerLabels.load(path)
    assert again.found.concepts == NAMES and (again.shuffles, again.clips) == (19, 120)
    chex.assert_trees_all_equal(dict(again.found.similarities), dict(found.found.similarities))
    chex.assert_trees_all_equal(dict(again.found.top), dict(found.found.top))
    chex.assert_trees_all_equal(dict(again.beaten), dict(found.beaten))
    assert list(tmp_path.iterdir()) == [path], "no drafts are left"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="was not written by LayerLabels.save"):
        dissect.LayerLabels.load(path)


def test_what_does_not_fit_is_refused(found, planted):
    with pytest.raises(ValueError, match="shuffles must be 0 or more, got -1"):
        dissect.layer_labels(*planted, NAMES, shuffles=-1)
    with pytest.raises(ValueError, match="other concepts by DB"):
        dissect.Labels(NAMES[:3], {"conv": {"DB": found}})
    with pytest.raises(ValueError, match="no function 'cosine'; .*cosine_cubed"):
        dissect.Labels(NAMES, {"conv": {"DB": found}}, function="cosine")
    with pytest.raises(ValueError, match="no source 'TAB'"):
        dissect.Labels(NAMES, {"conv": {"DB": found}}, source="TAB")
    with pytest.raises(ValueError, match="there are no labels"):
        dissect.Labels(NAMES, {})
    labels = dissect.Labels(NAMES, {"conv": {"DB": found}})
    assert labels.best("other", 0) is None and labels.best("conv", 25) is None and labels.count("other") == 0


def test_one_concept_has_no_margin(planted):
    activations, scores = planted
    one = dissect.layer_labels(activations, scores[:, :1], NAMES[:1], functions="cosine", shuffles=0)
    label = dissect.Labels(NAMES[:1], {"conv": {"DB": one}}).best("conv", 0)
    assert label.margin is None and label.others == () and label.above_chance, "nothing to compare with"
