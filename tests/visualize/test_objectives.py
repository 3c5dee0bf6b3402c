"""Objectives: values by hand, arithmetic, labels, and names checked before anything compiles."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax.visualize import objectives


class Small(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), name="conv")(x)
        return nn.Dense(3, name="head")(x.mean(axis=(1, 2)))


class TwoHeads(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = x.mean(axis=(1, 2))
        return {"pitch": nn.Dense(3, name="pitch")(x), "family": nn.Dense(2, name="family")(x)}


@pytest.fixture(scope="module")
def network():
    variables = Small().init(jax.random.key(0), jnp.zeros((1, 6, 5, 1)))
    return nd.Network(Small(), variables, input=nd.domain.Image((6, 5, 1)), labels=["dog", "cat", "cow"])


def values(network, objective, x):
    bound = objective.bind(network)
    names = list(dict.fromkeys(layer for _, layer, _ in bound.spec))
    read = nd.taps.read(network, x[None], names)
    one = {name: array[0] for name, array in read.items()}
    return jax.vmap(lambda arrays: objectives.evaluate(bound.spec, arrays, one))(
        jax.tree.map(jnp.asarray, bound.arrays)
    )


@pytest.fixture
def x(getkey):
    return jax.random.normal(getkey(), (6, 5, 1))


def test_values_by_hand(network, x):
    conv = nd.taps.read(network, x[None], ["conv"])["conv"][0]
    logits = network(x[None])[0]
    cases = [
        (nd.objectives.channel("conv"), conv.mean(axis=(0, 1))),
        (nd.objectives.channel("conv", [2, 0]), conv.mean(axis=(0, 1))[jnp.array([2, 0])]),
        (nd.objectives.channel("conv", 1, power=2), jnp.square(conv).mean(axis=(0, 1))[1:2]),
        (nd.objectives.neuron("conv"), conv[3, 2]),
        (nd.objectives.neuron("conv", [1, 3], (0, 4)), conv[0, 4][jnp.array([1, 3])]),
        (nd.objectives.layer("conv"), jnp.mean(conv**2)[None]),
        (nd.objectives.layer("conv", power=1), jnp.mean(conv)[None]),
        (nd.objectives.logit(), logits),
        (nd.objectives.logit(["cow", "dog"]), logits[jnp.array([2, 0])]),
        (nd.objectives.probability("cat"), jax.nn.softmax(logits)[1:2]),
    ]
    for objective, expected in cases:
        chex.assert_trees_all_close(values(network, objective, x), expected, atol=1e-5)


def test_direction(network, x, getkey):
    conv = np.asarray(nd.taps.read(network, x[None], ["conv"])["conv"][0]).reshape(-1, 4)
    vectors = np.asarray(jax.random.normal(getkey(), (2, 4)))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    dots = conv @ unit.T
    chex.assert_trees_all_close(
        values(network, nd.objectives.direction("conv", vectors), x), dots.mean(axis=0), atol=1e-5
    )
    cosine = np.maximum(dots / np.linalg.norm(conv, axis=1, keepdims=True), 0.1)
    powered = values(network, nd.objectives.direction("conv", vectors, cosine_power=2), x)
    chex.assert_trees_all_close(powered, (dots * cosine**2).mean(axis=0), atol=1e-5)


def test_arithmetic(network, x):
    a, b = nd.objectives.channel("conv", [0, 1]), nd.objectives.logit("dog")
    both = values(network, 2 * a - b * 0.5, x)
    chex.assert_trees_all_close(both, 2 * values(network, a, x) - 0.5 * values(network, b, x), atol=1e-5)
    chex.assert_trees_all_close(values(network, -a, x), -values(network, a, x))
    chex.assert_trees_all_close(values(network, sum([a, a]) / 2, x), values(network, a, x), atol=1e-6)
    assert (a - b).bind(network).units.tolist() == [-1, -1], "a sum is no unit"
    assert a.terms[0].weight == 1, "arithmetic leaves its operands alone"
    assert (2 * a - 0.5 * b).bind(network).labels == (
        "2 * conv:0 + -0.5 * output:0",
        "2 * conv:1 + -0.5 * output:0",
    )


def test_labels_are_identities(network):
    assert nd.objectives.logit("cow").bind(network).labels == nd.objectives.logit(2).bind(network).labels
    assert nd.objectives.channel("conv", [3]).bind(network).labels == ("conv:3",)
    assert nd.objectives.channel("conv").bind(network).labels[3] == "conv:3"
    different = {
        nd.objectives.channel("conv", 1).bind(network).labels[0],
        nd.objectives.channel("conv", 1, power=2).bind(network).labels[0],
        nd.objectives.neuron("conv", 1).bind(network).labels[0],
        nd.objectives.neuron("conv", 1, (0, 0)).bind(network).labels[0],
        nd.objectives.direction("conv", [1, 0, 0, 0]).bind(network).labels[0],
        nd.objectives.direction("conv", [1, 0, 0, 1]).bind(network).labels[0],
        (2 * nd.objectives.channel("conv", 1)).bind(network).labels[0],
        nd.objectives.probability(1).bind(network).labels[0],
        nd.objectives.logit(1).bind(network).labels[0],
    }
    assert len(different) == 9


def test_other_units_and_weights_share_one_program(network):
    first, second = (
        nd.objectives.channel("conv", [0]).bind(network),
        (3 * nd.objectives.channel("conv", [2])).bind(network),
    )
    assert first.spec == second.spec


def test_outputs_with_several_parts(x):
    variables = TwoHeads().init(jax.random.key(0), jnp.zeros((1, 6, 5, 1)))
    labels = {"pitch": ["C", "D", "E"], "family": ["bass", "reed"]}
    network = nd.Network(TwoHeads(), variables, input=nd.domain.Image((6, 5, 1)), labels=labels)
    out = network(x[None])
    chex.assert_trees_all_close(
        values(network, nd.objectives.logit("reed", part="family"), x), out["family"][0, 1:], atol=1e-6
    )
    assert nd.objectives.channel("pitch", ["D"]).bind(network).units.tolist() == [1]
    with pytest.raises(ValueError, match=r"several outputs: say which by part=, one of 'family', 'pitch'"):
        nd.objectives.logit(0).bind(network)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nd.objectives.channel("cnv"), "did you mean 'conv'"),
        (lambda: nd.objectives.channel("conv", 4), "layer 'conv' has units 0 to 3, got unit 4"),
        (lambda: nd.objectives.channel("conv", [-1]), "got unit -1"),
        (lambda: nd.objectives.channel("conv", []), "no units of layer 'conv' were given"),
        (lambda: nd.objectives.channel("conv", [0.5]), "whole numbers or label names, got 0.5"),
        (lambda: nd.objectives.channel("conv", 1.5), "whole numbers or label names, got 1.5"),
        (lambda: nd.objectives.channel("conv", "dog"), "the units of 'conv' have no names; give whole numbers, 0 to 3"),
        (lambda: nd.objectives.channel(3), "a layer is given by its name, got 3"),
        (lambda: nd.objectives.channel("conv", 0, power=0), "power must be 1, 2, 3 or 4"),
        (lambda: nd.objectives.logit("dgo"), "no unit 'dgo' in 'output'; did you mean 'dog'"),
        (lambda: nd.objectives.neuron("conv", 0, (6, 0)), r"has positions \(6, 5\)"),
        (lambda: nd.objectives.neuron("conv", 0, (0,)), r"has positions \(6, 5\)"),
        (lambda: nd.objectives.neuron("conv", 0, (1.5, 2)), r"a position is a whole number an axis, got \(1.5, 2\)"),
        (lambda: nd.objectives.direction("conv", [1.0, 2.0]), "has 4 numbers, got 2"),
        (lambda: nd.objectives.direction("conv", [0.0] * 4), "length zero"),
        (lambda: nd.objectives.direction("conv", [np.nan] * 4), "finite"),
        (lambda: nd.objectives.channel("conv", [0, 1, 2]) + nd.objectives.logit([0, 1]), r"\[3, 2\] lanes"),
        (lambda: nd.objectives.channel("conv") * np.inf, "one finite number"),
    ],
)
def test_mistakes_give_one_sentence(network, make, message):
    with pytest.raises(ValueError, match=message):
        make().bind(network)
