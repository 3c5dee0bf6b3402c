"""Class-based maximisation with a GAN prior: the source's loss step by step, conditions, pairs, what was reached."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import audio, domain
from nd_jax.network import Network
from nd_jax.networks import mel_dcgan
from nd_jax.visualize import classes, maximize_classes, optimizers

KEY = jax.random.key(4)
MEL = domain.LogMel(audio.LogMel(sample_rate=8000, n_fft=64, hop_length=32, n_mels=8), frames=12)
NAMES = ("low", "mid", "high")


class Judge(nn.Module):
    """Three logits from any input."""

    @nn.compact
    def __call__(self, x):
        x = jnp.tanh(nn.Dense(6, name="hidden")(x.reshape(x.shape[0], -1)))
        return nn.Dense(3, name="logits")(x)


def invented(module, given, seed):
    shapes = jax.eval_shape(module.init, jax.random.key(0), given)
    draw = np.random.default_rng(seed)

    def one(path, leaf):
        if path[0].key == "batch_stats":
            return np.full(leaf.shape, float(path[-1].key == "var"), np.float32)
        return (0.4 * draw.standard_normal(leaf.shape) + float(path[-1].key == "scale")).astype(np.float32)

    return jax.tree_util.tree_map_with_path(one, dict(shapes))


def judge(labels=NAMES):
    module = Judge()
    return Network(module, invented(module, jnp.zeros((1, *MEL.shape)), 1), input=MEL, labels=labels)


def mel_gan(names=(), law="normal"):
    module = mel_dcgan.Generator(latent=5, start=(2, 3), widths=(6, 4), classes=len(names))
    given = {"z": jnp.zeros((1, 5)), "label": jnp.zeros(1, int)} if names else jnp.zeros((1, 5))
    z = domain.Latent(5, law)
    taken = domain.Parts({"z": z, "label": domain.Label(names)}) if names else z
    return Network(module, invented(module, given, 0), input=taken, output=MEL)


def run(generator, units=None, **more):
    settings = {"key": KEY, "seeds": 3, "steps": 6, "progress": False, **more}
    return maximize_classes(judge(), generator, units, **settings)


@pytest.fixture(scope="module")
def found():
    return run(mel_gan(), steps=28, project=False)


def test_every_step_is_that_of_the_source(found):
    """The loss, the optimizer and the schedule written down once more, for one class and seed."""
    network, generator, target = judge(), mel_gan(), 1

    def loss(z):
        scores = network(generator(z[None]))[0]
        others = (scores.sum() - scores[target]) / 2
        return -scores[target] + others + 100.0 * jnp.sum(z**2) / (8 * 12)

    slope = jax.jit(jax.grad(loss))
    z = np.asarray(jax.random.normal(jax.random.fold_in(KEY, 2), (5,)), np.float64)
    start, mean, square = z, np.zeros(5), np.zeros(5)
    for step in range(28):
        gradient = np.asarray(slope(jnp.asarray(z, jnp.float32)), np.float64)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        z = z - 0.01 * 0.99**step * (mean / (1 - 0.9)) / (np.sqrt(square / (1 - 0.999)) + 1e-8)
    lane = 2 * 3 + target
    assert (found.replicates[lane], found.labels[lane]) == (2, "output:1 - mean of the others")
    chex.assert_trees_all_close(found.parameters["z"][lane], z.astype(np.float32), atol=2e-5)
    chex.assert_trees_all_close(found.snapshots[0, lane], np.asarray(generator(start[None].astype(np.float32))[0]))
    assert found.snapshot_steps == (0, 1, 2, 4, 6, 10, 16, 27)


def test_the_schedule_is_that_of_the_source():
    assert classes.schedule(301) == (0, 1, 2, 4, 6, 10, 16, 27, 44, 71, 115, 186, 300)
    assert classes.schedule(40) == (0, 1, 2, 4, 6, 10, 16, 27, 40)
    made = optimizers.class_adam(0.02)
    assert optimizers.from_name(optimizers.name_of(made)) is made


def test_lanes_are_pairs_and_the_same_in_any_company(found):
    assert found.replicates.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    for seed in range(3):
        chex.assert_trees_all_equal(*found.snapshots[0, 3 * seed : 3 * seed + 3])
    alone = run(mel_gan(), ["high"], seeds=[1], steps=28, project=False)
    chex.assert_trees_all_equal(alone.parameters["z"][0], found.parameters["z"][5])


def test_latents_stay_where_training_had_them_unless_they_are_freed():
    """At their usual length, or inside the cube of a uniform law; a price on the length frees them."""
    kept = run(mel_gan())
    z = np.asarray(kept.parameters["z"])
    usual = z * np.sqrt(5) / np.linalg.norm(z, axis=1, keepdims=True)
    chex.assert_trees_all_close(mel_gan()(usual), kept.inputs, atol=1e-4)
    percentile = kept.norm_percentile()
    assert 50 < percentile.min() and np.ptp(percentile) < 1e-3
    uniform = run(mel_gan(law="uniform"))
    inside = np.asarray(jax.scipy.special.erf(uniform.parameters["z"] / np.sqrt(2)))
    assert np.abs(inside).max() < 1
    chex.assert_trees_all_close(mel_gan()(inside), uniform.inputs, atol=1e-4)
    assert np.all(uniform.norm_percentile() < 100) and np.ptp(uniform.norm_percentile()) > 1
    for more in ({"project": False}, {"l2": 100.0}, {"l1": 0.0}):
        free = run(mel_gan(), **more)
        chex.assert_trees_all_close(mel_gan()(free.parameters["z"]), free.inputs, atol=1e-4)
        assert np.ptp(free.norm_percentile()) > 1
        assert "100" in str(free.manifest["settings"]["penalties"])
    with pytest.raises(ValueError, match="kept where its law is has no price on its length, got l2 1.0 and l1 None"):
        run(mel_gan(), project=True, l2=1.0)


def test_conditions():
    generator = mel_gan(("high", "low", "other", "mid"))
    held = {name: run(generator, condition=name, seeds=range(4), l2=0.0) for name in ("target", "another")}
    target, another = (held[name].parameters["label"].argmax(axis=1) for name in ("target", "another"))
    assert target.tolist() == [1, 3, 0] * 4
    assert not np.any(another == target)
    assert set(another[0::3]) == {0, 2, 3}, "every other class in turn"
    free = run(generator, condition="free", seeds=range(4), l2=0.0)
    assert not np.allclose(free.parameters["label"], free.parameters["label"][:1])
    for result in (*held.values(), free):
        chex.assert_trees_all_equal(result.parameters["z"].shape, (12, 5))
        assert np.all(result.scores > result.history[0])


@pytest.mark.parametrize(
    ("generator", "more", "words"),
    [
        (mel_gan(), {"condition": "target"}, "has no classes: take 'none'"),
        (mel_gan(NAMES), {"condition": "none"}, "one of 3 classes: take 'target', 'another' or 'free'"),
        (mel_gan(NAMES), {"condition": "targt"}, "unknown condition 'targt'; did you mean 'target'"),
        (mel_gan(("low", "hgh")), {}, "cannot be asked for 'mid', .*take condition 'free'"),
        (mel_gan(), {"seeds": 0}, "seeds must be a number above 0"),
        (mel_gan(), {"seeds": True}, "seeds must be a number above 0"),
        (mel_gan(), {"seeds": [1.5]}, "seeds must be a number above 0, or numbers of 0 or more"),
        (mel_gan(), {"units": ["lo"]}, "no unit 'lo' in 'output'; did you mean 'low'"),
    ],
)
def test_senseless_runs_end_in_one_sentence(generator, more, words):
    with pytest.raises(ValueError, match=words):
        run(generator, **more)


def test_what_was_reached():
    chances = np.asarray([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.0, 0.0, 1.0]])
    told = classes.reached(chances, [0, 1, 1, 2])
    assert (told.share["right"], told.share["of"]) == (3, 4)
    assert told.probability == pytest.approx((0.7 + 0.8 + 0.3 + 1.0) / 4)
    assert 0.3 <= told.low < told.probability < told.high <= 1.0
    x = np.random.default_rng(0).uniform(0, 1, (70, *MEL.shape)).astype(np.float32)
    said = classes.said(judge(), x)
    chex.assert_trees_all_close(said, np.asarray(jax.nn.softmax(judge()(x))), atol=1e-6)
    with pytest.raises(ValueError, match="4 rows of probabilities for 3"):
        classes.reached(chances, [0, 1, 1])


def test_shipped_networks_reach_the_class():
    """The MNIST GAN has no class to ask for: what it draws first is any digit, what is climbed is the one wanted."""
    network, generator = nd.load("mnist"), nd.load("dcgan_mnist")
    settings = {"steps": 80, "snapshots": [0, 80], "project": True, "learning_rate": 0.05, "progress": False}
    found = maximize_classes(network, generator, [3, 8], key=KEY, seeds=4, **settings)
    before, after = (
        classes.reached(classes.said(network, found.snapshots[place]), np.tile([3, 8], 4)) for place in (0, 1)
    )
    assert after.share["value"] >= before.share["value"] + 0.5
    assert after.probability > before.probability + 0.4
    assert np.all(found.history[1] > found.history[0])


def test_a_shipped_conditional_generator_is_asked():
    network, generator = nd.load("spoken_digits"), nd.load("conditional_mel_gan")
    found = maximize_classes(
        network, generator, ["7"], key=KEY, seeds=4, condition="target", steps=2, snapshots=[0, 2], progress=False
    )
    assert classes.reached(classes.said(network, found.snapshots[0]), [7] * 4).share["value"] >= 0.75
    assert np.all(found.parameters["label"].argmax(axis=1) == 7)
