"""Listening with a network, the whole table, and the watcher of training."""

from __future__ import annotations

import json

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import generators, metrics, taps


class Classifier(nn.Module):
    """Three classes of 4 x 4 pictures, with a layer in space and one without."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.Conv(5, (3, 3), name="conv")(x)
        x = nn.tanh(nn.Dense(6, name="dense")(x.reshape(x.shape[0], -1)))
        return nn.Dense(3, name="head")(x)


class Generator(nn.Module):
    """8 numbers to a picture."""

    @nn.compact
    def __call__(self, z, train: bool = False):
        return jnp.tanh(nn.Dense(16)(z)).reshape(-1, 4, 4, 1)


@pytest.fixture(scope="module")
def judging():
    module = Classifier()
    variables = module.init(jax.random.key(0), jnp.zeros((1, 4, 4, 1)))
    return nd.Network(module, variables, input=nd.domain.Image((4, 4, 1), -1, 1), labels=("a", "b", "c"))


@pytest.fixture(scope="module")
def generating():
    module = Generator()
    variables = module.init(jax.random.key(1), jnp.zeros((1, 8)))
    return nd.Network(module, variables, input=nd.domain.Latent(8), output=nd.domain.Image((4, 4, 1), -1, 1))


def heard(seed, n, classes=(0, 1, 2), spread=0.5, d=4):
    """Examples around one middle a class, heard by a classifier that knows the middles."""
    rng = np.random.default_rng(seed)
    middles = 4 * np.eye(3, d)
    features = middles[rng.choice(classes, n)] + spread * rng.normal(size=(n, d))
    logits = -2 * np.square(features[:, None] - middles[None]).sum(axis=-1)
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    return metrics.Heard(probabilities / probabilities.sum(axis=1, keepdims=True), features)


def test_hear_is_softmax_and_the_layer(judging):
    x = np.random.default_rng(0).uniform(-1, 1, (11, 4, 4, 1)).astype(np.float32)
    found = metrics.hear(judging, x, "dense", batch_size=4)
    assert len(found) == 11 and found.probabilities.dtype == found.features.dtype == np.float64
    chex.assert_trees_all_close(found.probabilities, jax.nn.softmax(judging(x)), atol=1e-6)
    chex.assert_trees_all_close(found.features, taps.read(judging, x, "dense")["dense"], atol=1e-6)
    spatial = metrics.hear(judging, x, "conv").features
    chex.assert_trees_all_close(spatial, taps.read(judging, x, "conv")["conv"].mean(axis=(1, 2)), atol=1e-6)
    chex.assert_trees_all_equal(found[2:5].features, found.features[2:5])


def test_hear_refuses_what_it_cannot_judge(judging, generating):
    x = np.zeros((2, 4, 4, 1), np.float32)
    with pytest.raises(ValueError, match="did you mean 'dense'"):
        metrics.hear(judging, x, "dens")
    with pytest.raises(ValueError, match="input has shape"):
        metrics.hear(judging, x[:, :3], "dense")
    with pytest.raises(ValueError, match="one row of logits"):
        metrics.hear(generating, np.zeros((2, 8), np.float32), "Dense_0")
    with pytest.raises(ValueError, match="x must hold 1 example"):
        metrics.hear(judging, x[:0], "dense")


def test_a_tiny_p_is_not_written_as_zero():
    train = heard(0, 200)
    copies = metrics.Heard(train.probabilities[:100], train.features[:100] + 0.001)
    table = metrics.judge_table(metrics.judge(train, heard(1, 100), copies, jax.random.key(0), permutations=9))
    assert "100.0 % (p < 0.001)" in table and "p 0.000)" not in table


@pytest.fixture(scope="module")
def record():
    asked = np.arange(120) % 3
    made = heard(3, 120, classes=(0, 1), spread=0.7)
    return metrics.judge(
        heard(0, 500),
        heard(1, 200),
        made,
        jax.random.key(0),
        untrained=metrics.Heard(np.full((120, 3), 1 / 3), np.random.default_rng(4).normal(size=(120, 4)) - 3),
        labels=("a", "b", "c"),
        asked=asked,
        permutations=99,
    )


def test_the_record_tells_real_from_poor_from_untrained(record):
    real, made, blank = (record["rows"][name] for name in ("real", "generated", "untrained"))
    assert real["n"] == made["n"] == blank["n"] == 120
    assert abs(real["kernel_distance"]) < 0.01 < made["kernel_distance"] < blank["kernel_distance"]
    assert real["kernel_p"] > 0.05 and made["kernel_p"] == blank["kernel_p"] == 0.01
    assert real["inception_score"] > 2.7 > 2.1 > made["inception_score"] > blank["inception_score"] == pytest.approx(1)
    assert made["smallest_class"]["label"] == "c" and made["classes"]["c"]["value"] == 0
    assert real["ndb"]["different"] < made["ndb"]["different"] and made["coverage"] < real["coverage"]
    assert real["confident"]["value"] > 0.9 and blank["confident"]["value"] == 0
    assert made["asked"]["of"] == 120 and "asked" not in real
    assert made["frechet_infinity"]["value"] > real["frechet_infinity"]["value"]
    assert made["memorisation"]["near_p"] > 0.01 and "memorisation" not in real
    ratio = made["kernel_distance"] / blank["kernel_distance"]
    assert record["ratios"]["kernel_distance"] == pytest.approx(ratio)
    assert record["ratios"]["inception_score"] == made["inception_score"] / real["inception_score"]


def test_the_record_is_json_and_a_table(record):
    again = json.loads(json.dumps(record, allow_nan=False))
    table = metrics.judge_table(again).splitlines()
    assert table == metrics.judge_table(record).splitlines()
    assert table[0] == "|  | real | generated | untrained |" and len({line.count("|") for line in table}) == 1
    text = "\n".join(table)
    for words in ("inception score", "c: 0.0 % (0.0 to 3.1)", "asked class", "MMD²", "N 120, d 4", "NDB", "coverage"):
        assert words in text, words


def test_the_same_key_gives_the_same_record(record):
    sets = heard(0, 300), heard(1, 100), heard(3, 100)
    one, other = (metrics.judge(*sets, jax.random.key(5), permutations=19, reference_limit=150) for _ in range(2))
    assert one == other and one["settings"]["reference"] == 150 and one["settings"]["train"] == 300
    assert list(one["rows"]) == ["real", "generated"] and "kernel_distance" not in one["ratios"]


def test_real_examples_in_the_order_of_their_classes_are_cut_at_random():
    real = heard(1, 240)
    ordered = real[np.argsort(real.probabilities.argmax(axis=1))]
    found = metrics.judge(heard(0, 300), ordered, heard(3, 60), jax.random.key(0), permutations=19)
    assert found["rows"]["real"]["n"] == 60 and found["rows"]["real"]["inception_score"] > 2.7
    assert found["rows"]["real"]["kernel_p"] > 0.05


def test_a_frechet_distance_of_too_few_is_refused_in_the_record():
    sets = [heard(seed, 60, d=20) for seed in (0, 1, 3)]
    found = metrics.judge(*sets, jax.random.key(0), permutations=9)
    assert "100 or more are needed" in found["rows"]["generated"]["frechet_infinity"]["refused"]
    assert "not given" in metrics.judge_table(found)


def test_sets_that_do_not_fit_are_one_sentence():
    sets = heard(0, 60), heard(1, 60), heard(3, 60)
    with pytest.raises(ValueError, match=r"asked must be \(60,\)"):
        metrics.judge(*sets, jax.random.key(0), asked=np.zeros(59, int))
    with pytest.raises(ValueError, match="3 probabilities are given, and 2 features"):
        metrics.Heard(np.eye(3), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="held_out has 5 dimensions, and the set beside it 4"):
        metrics.judge(sets[0], heard(1, 60, d=5), sets[2], jax.random.key(0))
    with pytest.raises(ValueError, match="generated has probabilities of 2 classes, and the set beside it of 3"):
        metrics.judge(*sets[:2], (np.eye(2), np.zeros((2, 4))), jax.random.key(0))
    with pytest.raises(ValueError, match="give the softmax"):
        metrics.judge((np.eye(3) * 9, np.zeros((3, 4))), *sets[1:], jax.random.key(0))


def test_a_watcher_reports_figures_for_the_log(judging, generating):
    x = np.random.default_rng(1).uniform(-1, 1, (60, 4, 4, 1)).astype(np.float32)
    latents = generators.inputs(generating, 0, 40)
    watch = metrics.watcher(judging, "dense", metrics.hear(judging, x, "dense"), latents, to_judge=lambda made: -made)
    found = watch(10, generating, judging)
    assert set(found) == {"kernel_distance", "inception_score", "confident", "rarest_class"}
    assert all(isinstance(value, float) for value in found.values())
    made = metrics.hear(judging, -generators.make(generating, latents), "dense")
    assert found["inception_score"] == pytest.approx(metrics.inception_score(made.probabilities), rel=1e-5)
    assert found == watch(20, generating, judging)


def test_real_examples_are_asked_for_their_class_too():
    train, real, made = heard(0, 200), heard(1, 100), heard(3, 60)
    meant = real.probabilities.argmax(axis=1)
    meant[:10] = (meant[:10] + 1) % 3
    options = {"permutations": 9, "asked": np.arange(60) % 2}
    found = metrics.judge(train, real[:60], made, jax.random.key(0), meant=meant[:60], **options)["rows"]
    assert (found["real"]["asked"]["right"], found["real"]["asked"]["of"]) == (50, 60)
    # Of 100 real ones 60 are drawn, each with its own class.
    drawn = metrics.judge(train, real, made, jax.random.key(0), meant=meant, **options)["rows"]["real"]["asked"]
    assert drawn["of"] == 60 and 50 <= drawn["right"] < 60
    # Class 2 is never asked for, so that it may be rare.
    assert found["generated"]["smallest_class"]["label"] in ("0", "1")
    low, high = found["real"]["intervals"]["inception_score"]
    assert low < found["real"]["inception_score"] < high
    with pytest.raises(ValueError, match=r"meant must be \(100,\)"):
        metrics.judge(train, real, made, jax.random.key(0), meant=meant[:60], **options)
