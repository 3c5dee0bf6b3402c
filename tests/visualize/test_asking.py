"""Units of a generator with classes, climbed at several of them."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import audio, domain, generators
from nd_jax.networks import gansynth
from nd_jax.visualize import at_classes

LAYER = "block2/conv1"
PITCHES = ("C4", "E4", "G4", "B4")


@pytest.fixture(scope="module")
def generator():
    module = gansynth.Generator(latent=6, classes=4, blocks=2, start=(2, 8), fmap_base=16, fmap_max=4)
    variables = module.init(jax.random.key(3), {"z": jnp.zeros((1, 6)), "label": jnp.zeros(1, int)})
    made = domain.MelIF(audio.MelIF(sample_rate=8000, samples=56, n_fft=32, frames=4))
    taken = domain.Parts({"z": domain.Latent(6), "label": domain.Label(PITCHES)})
    return nd.Network(module, variables, input=taken, output=made)


@pytest.fixture(scope="module")
def found(generator):
    objective = nd.objectives.channel(LAYER, range(3))
    return at_classes(generator, objective, ("C4", 2, "B4"), key=jax.random.key(0), steps=20, progress=False)


def channel_means(generator, z, numbers):
    """(latents, classes, channels)."""
    given = [{"z": z, "label": np.full(len(z), number)} for number in numbers]
    return np.stack([nd.taps.read(generator, each, [LAYER])[LAYER].mean(axis=(1, 2)) for each in given], axis=1)


def test_every_class_begins_with_its_best_random_latent_and_goes_its_own_way(generator, found):
    assert found.scores.shape == (3, 3)
    np.testing.assert_array_equal(found.inputs["label"], np.tile([0, 2, 3], (3, 1)))
    begun, ended = found.snapshots["z"][0], found.inputs["z"]
    random = generators.inputs(generator, 0, 32, labels=["C4"])["z"]
    random = random * np.sqrt(6) / np.linalg.norm(random, axis=1, keepdims=True)
    tried = np.unique(begun.reshape(9, 6), axis=0)
    heard = channel_means(generator, tried, [0, 2, 3])
    # What another unit, or another class of it, begins with is no better here.
    assert len(tried) > 1
    chex.assert_trees_all_close(found.history[0], heard.max(axis=0).T[:3], rtol=1e-4)
    # As good as the best of as many others is, give or take what chance makes of 32.
    assert np.all(found.history[0] > np.quantile(channel_means(generator, random, [0, 2, 3])[..., :3], 0.75, axis=0).T)
    assert np.abs(ended[:, 0] - ended[:, 1]).max() > 1e-3
    assert np.all(found.history[-1] > found.history[0])
    chex.assert_trees_all_close(np.linalg.norm(ended, axis=-1), np.full((3, 3), np.sqrt(6), np.float32), rtol=1e-5)
    chex.assert_trees_all_close(found.norm_percentile(), np.full((3, 3), found.norm_percentile()[0, 0]), atol=1e-2)


def test_without_candidates_all_classes_of_a_unit_begin_at_one_latent(generator):
    objective = nd.objectives.channel(LAYER, range(3))
    one = at_classes(generator, objective, 3, key=jax.random.key(0), candidates=0, steps=1, progress=False)
    begun = one.snapshots["z"][0]
    chex.assert_trees_all_close(begun, np.repeat(begun[:, :1], 3, axis=1), atol=1e-6)
    assert np.abs(begun[0, 0] - begun[1, 0]).max() > 0.1, "another unit, another start"
    again = one.rerun([1], progress=False)
    chex.assert_trees_all_close(again.inputs["z"][0], one.inputs["z"][1], atol=1e-5)
    for wrong in (-1, 2.5, True):
        with pytest.raises(ValueError, match="candidates must be 0 or more, got"):
            at_classes(generator, objective, 3, key=jax.random.key(0), candidates=wrong)


def test_scores_are_activations_of_what_was_found(generator, found):
    flat = {"z": found.inputs["z"].reshape(9, 6), "label": found.inputs["label"].reshape(9)}
    values = np.asarray(nd.taps.read(generator, flat, [LAYER])[LAYER]).mean(axis=(1, 2)).reshape(3, 3, -1)
    chex.assert_trees_all_close(np.stack([values[unit, :, unit] for unit in range(3)]), found.scores, rtol=1e-4)


def test_a_unit_comes_out_the_same_alone_again_and_from_disk(generator, found, tmp_path):
    alone = at_classes(
        generator,
        nd.objectives.channel(LAYER, [2]),
        ("C4", 2, "B4"),
        key=jax.random.key(0),
        steps=20,
        progress=False,
    )
    chex.assert_trees_all_close(alone.inputs["z"][0], found.inputs["z"][2], atol=1e-4)
    loaded = nd.Visualization.load(found.save(tmp_path / "found"))
    again = loaded.rerun([2], progress=False)
    chex.assert_trees_all_equal(again.inputs["z"][0], alone.inputs["z"][0])
    assert again.manifest["at_classes"] == [0, 2, 3]


def test_one_class_alone_is_the_middle_one_and_has_no_axis(generator):
    objective = nd.objectives.channel(LAYER, [0])
    one = at_classes(generator, objective, 1, key=jax.random.key(0), steps=2, project=False, progress=False)
    assert one.scores.shape == (1,) and int(one.inputs["label"][0]) == 2
    assert np.linalg.norm(one.inputs["z"][0]) != pytest.approx(np.sqrt(6), abs=1e-6)
    assert one.rerun([0], progress=False).inputs["z"].shape == (1, 6)


def test_plain_visualize_batch_stays_on_the_sphere_too(generator):
    result = nd.visualize_batch(
        generator, nd.objectives.channel(LAYER, [0]), key=jax.random.key(1), steps=3, restarts=0, progress=False
    )
    assert np.linalg.norm(result.inputs["z"][0]) == pytest.approx(np.sqrt(6), rel=1e-5)
    assert result.inputs["label"].tolist() == [0]


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (0, "1 or more"),
        ((), "names or numbers"),
        ("C4", "names or numbers"),
        (("C4", "H4"), "no class 'H4'"),
        ((0, 4), "no class '4'"),
        ((0, -1), "no class '-1'"),
        (("C4", 0), "'C4' is asked for twice"),
    ],
)
def test_classes_that_are_none_are_refused(generator, classes, words):
    with pytest.raises(ValueError, match=words) as caught:
        at_classes(generator, nd.objectives.channel(LAYER, [0]), classes, key=jax.random.key(0), steps=1)
    assert "\n" not in str(caught.value)


def test_what_at_classes_decides_cannot_be_given(generator):
    with pytest.raises(ValueError, match="chooses restarts itself"):
        at_classes(generator, nd.objectives.channel(LAYER, [0]), 2, key=jax.random.key(0), restarts=4)
    with pytest.raises(ValueError, match="objective must come from"):
        at_classes(generator, LAYER, 2, key=jax.random.key(0))


def test_random_samples_are_ranked_by_every_unit(generator):
    kept = nd.dissect.samples(generator, layers=[LAYER], count=21, seed=4, batch_size=8, progress=False)
    given = generators.inputs(generator, 4, 21)
    values = np.asarray(nd.taps.read(generator, given, [LAYER])[LAYER]).mean(axis=(1, 2))
    np.testing.assert_array_equal(kept.clips[LAYER][:, 0], values.argmax(axis=0))
    chex.assert_trees_all_close(kept.activations[LAYER][:, 0], values.max(axis=0), rtol=1e-4)
    made = generators.make(generator, jax.tree.map(lambda leaf: leaf[kept.kept], given))
    chex.assert_trees_all_equal(kept.inputs, made)
    assert kept.names[0] == f"{PITCHES[given['label'][kept.kept[0]]]}, latent {kept.kept[0]}"
    with pytest.raises(ValueError, match="list of layer names"):
        nd.dissect.samples(generator, layers=LAYER)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"z": np.zeros((1, 5), np.float32), "label": np.zeros(1, int)}, r"shape \(1, 5\)"),
        ({"z": np.zeros((1, 6), np.float32), "label": np.full(1, 4)}, "label 4 is out of range: 4 classes"),
        ({"z": np.zeros((1, 6), np.float32)}, "'label'"),
    ],
)
def test_inputs_that_do_not_fit_are_one_sentence(generator, given, words):
    with pytest.raises(ValueError, match=words) as caught:
        generator(given)
    assert "\n" not in str(caught.value)
