"""Objectives beyond single units: formulas of their sources in numpy, slopes at zero, labels, saving, mistakes."""

import dataclasses
import json

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax.visualize import objectives

SHAPE = (6, 5, 1)


class Linear(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), name="conv")(x)
        return nn.Dense(3, name="head")(x.mean(axis=(1, 2)))


class Softmaxed(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.softmax(nn.Dense(3, name="head")(x.reshape(x.shape[0], -1)))


def made(module):
    variables = module.init(jax.random.key(0), jnp.zeros((1, *SHAPE)))
    return nd.Network(module, variables, input=nd.domain.Image(SHAPE), labels=["dog", "cat", "cow"])


@pytest.fixture(scope="module")
def network():
    nd.networks.register("test_objectives_more_linear", Linear)
    return made(Linear())


@pytest.fixture(scope="module")
def x():
    return np.asarray(jax.random.uniform(jax.random.key(3), SHAPE))


@pytest.fixture(scope="module")
def conv(network, x):
    return np.asarray(nd.taps.read(network, x[None], ["conv"])["conv"][0])


@pytest.fixture(scope="module")
def other(network):
    return np.asarray(jax.random.uniform(jax.random.key(4), SHAPE))


def read_by(bound, network, inputs):
    return nd.taps.read(network, inputs, objectives.layers_of(bound.spec))


def values(network, objective, x):
    """(lanes,) for one input."""
    bound = objective.bind(network)
    one = {name: array[0] for name, array in read_by(bound, network, x[None]).items()}
    return jax.vmap(lambda arrays: objectives.evaluate(bound.spec, arrays, one))(
        jax.tree.map(jnp.asarray, bound.arrays)
    )


def loudest(read):
    return read["conv"].max() - read["head"][0]


def away(read, centre):
    return -jnp.sum(jnp.square(read["head"] - centre))


def every_kind(network, conv):
    """One of each kind, on two inputs a lane where it compares them."""
    o = nd.objectives
    vector = np.array([1.0, -2.0, 0.5, 1.0])
    return {
        "neuron": o.neuron("conv", [1]),
        "channel": o.channel("conv", [1], power=3),
        "layer": o.layer("conv", power=1, absolute=True),
        "joint": o.joint("conv", [[0, 2], [1]], reduce="min"),
        "logit": o.logit(["cat"]),
        "probability": o.probability(["cat"]),
        "class_margin": o.class_margin(["cat"], of="sigmoid"),
        "direction": o.direction("conv", vector, cosine_power=2.5),
        "cosine": o.cosine("conv", vector, position=(1, 2)),
        "match": o.match("conv", activations=conv),
        "caricature": o.caricature("conv", activations=conv, cosine_power=0.5),
        "diversity": o.diversity("conv"),
        "alignment": o.alignment("conv"),
        "custom": o.custom(loudest, ["conv", "head"], label="loudest"),
    }


def cosines(a, b):
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def test_layer(network, x, conv):
    o = nd.objectives
    for objective, expected in [
        (o.layer("conv", power=1), conv.mean()),
        (o.layer("conv", power=1, absolute=True), np.abs(conv).mean()),
        (o.layer("conv"), (conv**2).mean()),
        (o.layer("conv", power=3, absolute=True), np.mean(np.abs(conv) ** 3)),
    ]:
        chex.assert_trees_all_close(values(network, objective, x), np.array([expected], np.float32), atol=1e-6)
    assert (conv < 0).any(), "else the absolute value is nothing"


def test_joint(network, x, conv):
    o, mean = nd.objectives, conv.mean(axis=(0, 1))
    groups, weights = [[0, 3], [2], [1, 0, 3]], [[1, 2], [-1], [0.5, 1, 1]]
    expected = np.array([mean[0] + 2 * mean[3], -mean[2], mean[1] / 2 + mean[0] + mean[3]])
    chex.assert_trees_all_close(values(network, o.joint("conv", groups, weights=weights), x), expected, atol=1e-6)
    averaged = values(network, o.joint("conv", groups, weights=weights, reduce="mean"), x)
    chex.assert_trees_all_close(averaged, expected / np.array([2, 1, 3]), atol=1e-6)
    least = values(network, o.joint("conv", groups, reduce="min"), x)
    chex.assert_trees_all_close(least, np.array([min(mean[g]) for g in ([0, 3], [2], [0, 1, 3])]), atol=1e-6)
    one = o.joint("conv", [0, 3], at="middle")
    chex.assert_trees_all_close(values(network, one, x), np.array([conv[3, 2, 0] + conv[3, 2, 3]]), atol=1e-6)
    assert o.joint("conv", groups, weights=weights).bind(network).labels == (
        "conv:sum(0, 2*3)",
        "conv:sum(-1*2)",
        "conv:sum(0.5*1, 0, 3)",
    )
    assert one.bind(network).labels == ("conv:sum(0, 3)@middle",)
    assert one.bind(network).units.tolist() == [-1]
    named = o.joint("output", ["dog", "cow"]).bind(network)
    chex.assert_trees_all_equal(named.arrays[0]["units"], np.array([[0, 2]], np.int32))


def test_class_margin_is_the_loss_of_activation_maximisation_with_a_prior(network, x):
    """source: L = -s_t + lambda_u / (K - 1) sum_{k != t} s_k; the latent's part is `penalties.latent_length`."""
    s = np.asarray(network(x[None])[0], np.float64)
    soft = np.exp(s) / np.exp(s).sum()

    def loss(s, target, factor):
        total = -s[target]
        for k in range(3):
            if k != target:
                total += factor * s[k] / 2
        return total

    for of, read in {"logit": s, "probability": soft, "sigmoid": 1 / (1 + np.exp(-s))}.items():
        for factor in (1.0, 0.0, 2.5):
            expected = np.array([-loss(read, target, factor) for target in range(3)], np.float32)
            found = values(network, nd.objectives.class_margin(of=of, others=factor), x)
            chex.assert_trees_all_close(found, expected, atol=1e-5)
    labels = nd.objectives.class_margin(["cow"], others=2, of="probability").bind(network).labels
    assert labels == ("probability of output:2 - 2 * mean of the others",)


def test_a_softmax_is_not_applied_twice(x):
    network = made(Softmaxed())
    out = network(x[None])[0]
    chex.assert_trees_all_close(values(network, nd.objectives.probability(), x), out, atol=1e-7)
    twice = values(network, nd.objectives.probability(outputs="logits"), x)
    assert np.abs(np.asarray(twice - out)).max() > 0.01
    margin = values(network, nd.objectives.class_margin([0], of="probability"), x)
    chex.assert_trees_all_close(margin, out[:1] - (out[1] + out[2]) / 2, atol=1e-6)


def test_directions_as_lucid_has_them(network, x, conv):
    """`_dot_cossim` and `direction_cossim` of lucid.optvis.objectives, without their epsilon, v of length one."""
    v = np.array([1.0, -2.0, 0.5, 1.0])
    unit = v / np.linalg.norm(v)
    dots, angles = conv @ unit, cosines(conv, np.broadcast_to(v, conv.shape))
    o = nd.objectives
    for power in (0, 1, 2.5):
        expected = np.mean(dots * np.maximum(0.1, angles) ** power)
        found = values(network, o.direction("conv", v, cosine_power=power), x)
        chex.assert_trees_all_close(found, np.array([expected], np.float32), atol=1e-5)
        there = dots[1, 2] * np.maximum(0.1, angles[1, 2]) ** power
        found = values(network, o.direction("conv", v, cosine_power=power, position=(1, 2)), x)
        chex.assert_trees_all_close(found, np.array([there], np.float32), atol=1e-5)
    chex.assert_trees_all_close(values(network, o.cosine("conv", v), x), np.array([angles.mean()]), atol=1e-5)
    at = values(network, o.cosine("conv", v, position=(1, 2)), x)
    chex.assert_trees_all_close(at, np.array([angles[1, 2]]), atol=1e-5)
    every = [o.direction("conv", v, cosine_power=p, position=q) for p in (0, 2) for q in (None, (1, 2))]
    labels = {objective.bind(network).labels[0] for objective in [*every, o.cosine("conv", v)]}
    assert len(labels) == 5, "another direction objective is another identity"


def test_match_and_caricature(network, x, conv, other):
    o = nd.objectives
    target = np.asarray(nd.taps.read(network, other[None], ["conv"])["conv"][0], np.float64)
    expected = np.array([-((conv - target) ** 2).sum() / (target**2).sum(), 0.0], np.float32)
    both = o.match("conv", np.stack([other, x])).bind(network)
    chex.assert_trees_all_close(values(network, both, x), expected, atol=1e-5)
    given = o.match("conv", activations=target)
    chex.assert_trees_all_close(values(network, given, x), expected[:1], atol=1e-5)
    assert given.bind(network).labels == both.labels[:1], "the same target by another way is the same lane"
    two = values(network, o.match("conv", other) + o.match("head", other), x)
    chex.assert_trees_all_close(two, expected[:1] + values(network, o.match("head", other), x), atol=1e-5)
    scaled = target / np.sqrt((target**2).sum(-1).mean())
    for power in (0, 1, 4):
        wanted = np.mean((conv * scaled).sum(-1) * np.maximum(0.1, cosines(conv, target)) ** power)
        found = values(network, o.caricature("conv", other, cosine_power=power), x)
        chex.assert_trees_all_close(found, np.array([wanted], np.float32), atol=1e-5)


def lucid_diversity(activations):
    flat = activations.reshape(len(activations), -1, activations.shape[-1])
    grams = np.einsum("npc,npd->ncd", flat, flat)
    grams = grams / np.linalg.norm(grams.reshape(len(grams), -1), axis=1)[:, None, None]
    n = len(grams)
    return sum(sum((grams[i] * grams[j]).sum() for j in range(n) if j != i) for i in range(n)) / n


def lucid_alignment(activations, decay):
    total = 0.0
    for d in (1, 2, 3, 4):
        for i in range(len(activations) - d):
            total += np.mean((activations[i] - activations[i + d]) ** 2) / decay**d
    return total


@pytest.mark.parametrize("count", [2, 3, 7])
def test_diversity_and_alignment_as_lucid_has_them(network, count):
    inputs = np.asarray(jax.random.uniform(jax.random.key(5), (count, *SHAPE)))

    def found(objective):
        bound = objective.bind(network).select(0)
        arrays = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), bound.arrays)
        return jax.jit(objectives.evaluate_inputs, static_argnums=0)(
            bound.spec, arrays, read_by(bound, network, inputs)
        )

    read = np.asarray(nd.taps.read(network, inputs, "conv")["conv"], np.float64)
    diverse, aligned = found(nd.objectives.diversity("conv")), found(nd.objectives.alignment("conv", decay=3))
    chex.assert_shape([diverse, aligned], (count,))
    np.testing.assert_allclose(-np.mean(diverse), lucid_diversity(read), rtol=1e-4)
    np.testing.assert_allclose(-np.sum(aligned) / 2, lucid_alignment(read, 3), rtol=1e-4)
    path = nd.objectives.interpolate(
        nd.objectives.channel("conv", 0), nd.objectives.channel("conv", 2), count, together=True
    )
    t = np.linspace(0, 1, count)
    pooled = read.mean(axis=(1, 2))
    chex.assert_trees_all_close(
        found(path), np.asarray((1 - t) * pooled[:, 0] + t * pooled[:, 2], np.float32), atol=1e-5
    )


def test_interpolation(network, x, conv):
    o, mean = nd.objectives, conv.mean(axis=(0, 1))
    between = o.interpolate(o.channel("conv", [0, 1]), 2 * o.channel("conv", 3), 3)
    expected = [(1 - t) * mean[unit] + t * 2 * mean[3] for unit in (0, 1) for t in (0, 0.5, 1)]
    chex.assert_trees_all_close(values(network, between, x), np.array(expected, np.float32), atol=1e-6)
    labels = between.bind(network).labels
    assert labels[:3] == ("conv:0", "0.5 * conv:0 + conv:3", "2 * conv:3")
    corners = [o.channel("conv", 0), o.logit("cat"), o.joint("conv", [1, 2]), o.channel("conv", 3)]
    lattice = o.grid(corners, (2, 3))
    ends = np.array([float(values(network, corner, x)[0]) for corner in corners])
    wanted = [
        (1 - r) * (1 - c) * ends[0] + (1 - r) * c * ends[1] + r * (1 - c) * ends[2] + r * c * ends[3]
        for r in (0, 1)
        for c in (0, 0.5, 1)
    ]
    chex.assert_trees_all_close(values(network, lattice, x), np.array(wanted, np.float32), atol=1e-5)
    assert lattice.bind(network).labels[1] == "0.5 * conv:0 + 0.5 * output:1"
    path = o.interpolate(o.channel("conv", 0), o.channel("conv", 3), 3, together=True)
    assert path.bind(network).labels == ("[1 0.5 0] * conv:0 + [0 0.5 1] * conv:3",)


def test_custom(network, x, conv):
    head = np.asarray(nd.taps.read(network, x[None], "head")["head"][0])
    o = nd.objectives
    mine = o.custom(loudest, ["conv", "head"], label="loudest")
    total = values(network, 2 * mine - o.logit("cat"), x)
    expected = 2 * (conv.max() - head[0]) - network(x[None])[0, 1]
    chex.assert_trees_all_close(total, np.asarray(expected)[None], atol=1e-5)
    assert (2 * mine).bind(network).labels == ("2 * loudest",)
    centres = np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
    lanes = o.custom(away, "head", label="near", arrays={"centre": centres})
    chex.assert_trees_all_close(values(network, lanes, x), -np.square(head - centres).sum(-1), atol=1e-5)
    labels = lanes.bind(network).labels
    assert len(set(labels)) == 2
    assert all(label.startswith("near ") for label in labels)
    assert o.custom(away, "head", label=["a", "b"], arrays={"centre": centres}).bind(network).labels == ("a", "b")


def test_slopes_are_finite_and_lanes_do_not_meet(network, conv):
    """At zero, on a target and elsewhere; a lane in a batch has the value that it has alone."""
    zero = {"conv": jnp.zeros((2, 6, 5, 4)), "head": jnp.zeros((2, 3)), "output": jnp.zeros((2, 3))}
    there = {**zero, "conv": jnp.stack([conv, conv])}
    random = {name: jax.random.normal(jax.random.key(7), value.shape) for name, value in zero.items()}
    assert set(every_kind(network, conv)) == set(objectives.KINDS), "each kind is tried here"
    for name, objective in every_kind(network, conv).items():
        bound = objective.bind(network)

        @jax.jit
        def slope(arrays, read, bound=bound):
            return jax.value_and_grad(lambda r: objectives.evaluate_inputs(bound.spec, arrays, r).sum())(read)

        arrays = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), bound.arrays)
        for read in (zero, there, random, jax.tree.map(lambda leaf: 1e-12 * leaf, random)):
            for leaf in jax.tree.leaves(slope(arrays, read)):
                assert np.all(np.isfinite(leaf)), name
        batch = jax.vmap(slope, in_axes=(0, None))(jax.tree.map(lambda a: jnp.stack([a] * 3), arrays), random)
        alone = slope(arrays, random)
        chex.assert_trees_all_close(jax.tree.map(lambda leaf: leaf[1], batch), alone, atol=1e-5)


def test_every_kind_is_kept(network, conv):
    for name, objective in every_kind(network, conv).items():
        bound = objective.bind(network)
        described = json.loads(json.dumps(bound.to_dict()))
        again = objectives.Bound.from_dict(described, bound.arrays, bound.units)
        if name != "custom":
            assert again.spec == bound.spec
            again.bind(network)
            continue
        with pytest.raises(ValueError, match=r"a function of your own, .*test_objectives_more.loudest, .* put it back"):
            again.bind(network)
        with pytest.raises(ValueError, match="no function .*away' is missing here"):
            again.with_functions(away)
        assert again.with_functions(loudest).spec == bound.spec
        assert json.loads(json.dumps(again.to_dict())) == described


def run(network, objective, steps=30, **changes):
    settings = {"key": jax.random.key(0), "steps": steps, "transforms": (), "progress": False, "snapshots": 2}
    return nd.visualize_batch(network, objective, **{**settings, **changes})


def test_a_function_of_your_own_runs_and_is_saved(network, tmp_path):
    centres = np.array([[0.0, 0.0, 0.0], [0.3, -0.2, 0.1]])
    objective = nd.objectives.custom(away, "head", label="near", arrays={"centre": centres})
    result = run(network, objective, steps=5, restarts=0)
    again = nd.Visualization.load(result.save(tmp_path / "own"))
    chex.assert_trees_all_equal(again.inputs, result.inputs)
    with pytest.raises(ValueError, match="a function of your own"):
        again.rerun(0)
    whole = dataclasses.replace(again, objective=again.objective.with_functions(away))
    chex.assert_trees_all_equal(whole.rerun(1, progress=False).inputs[0], result.inputs[1])


@pytest.mark.parametrize("name", ["joint", "layer", "class_margin", "cosine", "match", "caricature", "grid", "custom"])
def test_scores_rise(network, conv, name):
    o = nd.objectives
    kinds = every_kind(network, conv)
    corners = [o.channel("conv", unit) for unit in range(4)]
    objective = o.grid(corners, (2, 2)) if name == "grid" else kinds[name]
    result = run(network, objective, restarts=0)
    assert np.all(result.history[-1] > result.history[0]), result.history
    assert result.status == ("ok",) * len(result)


def test_inversion_comes_near(network, other):
    result = run(
        network,
        nd.objectives.match("conv", other),
        steps=200,
        parameterization=nd.parameterizations.pixels(),
        restarts=0,
    )
    assert result.scores[0] > -0.01
    before = np.square(np.asarray(network.input.silence()) - other).mean()
    assert np.square(result.inputs[0] - other).mean() < 0.1 * before


def test_a_lane_with_a_target_is_the_same_alone(network, other, x):
    together = run(network, nd.objectives.caricature("conv", np.stack([x, other])), steps=10)
    alone = run(network, nd.objectives.caricature("conv", other), steps=10)
    chex.assert_trees_all_equal(alone.inputs[0], together.inputs[1])


def test_inputs_of_a_lane_are_held_against_each_other(network, tmp_path):
    o = nd.objectives
    plain, pushed = (
        run(network, o.layer("conv") + weight * o.diversity("conv"), inputs_per_lane=3, steps=20) for weight in (0, 5)
    )

    def alike(result):
        read = np.asarray(nd.taps.read(network, result.inputs[0], "conv")["conv"], np.float64)
        return lucid_diversity(read)

    assert alike(pushed) < alike(plain)
    path = o.interpolate(o.channel("conv", 0), o.channel("conv", 3), 3, together=True)
    loose, tight = (run(network, path + w * o.alignment("conv"), inputs_per_lane=3, steps=20) for w in (0.01, 30))
    apart = [np.square(np.diff(result.inputs[0], axis=0)).mean() for result in (loose, tight)]
    assert apart[1] < apart[0]
    again = nd.Visualization.load(tight.save(tmp_path / "path"))
    chex.assert_trees_all_equal(again.rerun(0, progress=False).inputs, tight.inputs)
    with pytest.raises(ValueError, match="a path of 3 inputs a lane: give inputs_per_lane=3"):
        run(network, path, inputs_per_lane=2)
    with pytest.raises(ValueError, match="compares the inputs of a lane: give inputs_per_lane=2 or more"):
        run(network, o.diversity("conv"))


NAN = np.full((6, 5, 4), np.nan)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda o: o.layer("conv", absolute=2), "absolute must be True or False, got 2"),
        (lambda o: o.joint("conv", [[0, 4]]), "layer 'conv' has units 0 to 3, got unit 4"),
        (lambda o: o.joint("conv", [[0, 0]]), "names each unit once"),
        (lambda o: o.joint("conv", []), "no units of layer 'conv'"),
        (lambda o: o.joint("conv", [[0], []]), "no units of layer 'conv'"),
        (lambda o: o.joint("conv", [[0, 1]], weights=[[1.0]]), r"arranged as the units \[2\] a lane"),
        (lambda o: o.joint("conv", [0, 1], weights=[1.0, np.nan]), "finite"),
        (lambda o: o.joint("conv", [0], reduce="max"), "unknown reduce 'max'"),
        (lambda o: o.joint("conv", [0], at="start"), "'middle' or a position, got 'start'"),
        (lambda o: o.joint("conv", [0], at=(9, 9)), r"has positions \(6, 5\)"),
        (lambda o: o.class_margin(others=-1), "at least 0, got -1"),
        (lambda o: o.class_margin(of="softmx"), "unknown reading 'softmx'"),
        (lambda o: o.class_margin("hen"), "no unit 'hen'"),
        (lambda o: o.probability(outputs="logit"), "did you mean 'logits'"),
        (lambda o: o.cosine("conv", np.zeros(4)), "length zero"),
        (lambda o: o.cosine("conv", np.ones(3)), "has 4 numbers, got 3"),
        (lambda o: o.match("conv"), "one of the two"),
        (lambda o: o.match("conv", np.zeros(SHAPE), activations=NAN), "one of the two"),
        (lambda o: o.match("conv", activations=NAN), "must be finite"),
        (lambda o: o.match("conv", activations=np.zeros((6, 5, 4))), "target 0 leaves layer 'conv' at zero"),
        (lambda o: o.caricature("conv", activations=np.ones(4)), r"have the shape \(6, 5, 4\), or"),
        (lambda o: o.match("conv", np.ones((4, 4, 1))), "shape"),
        (lambda o: o.caricature("conv", np.ones(SHAPE), cosine_power=-1), "cosine_power must be 0 or more"),
        (lambda o: o.alignment("conv", decay=0), "decay must be a number of at least 1"),
        (lambda o: o.diversity("cnv"), "did you mean 'conv'"),
        (lambda o: o.interpolate(o.channel("conv", 0), o.channel("conv", 1), 1), "2 or more points, got 1"),
        (lambda o: o.interpolate(o.channel("conv"), o.channel("conv", 1), 3), "say which units of 'conv'"),
        (lambda o: o.interpolate(o.channel("conv", [0, 1]), o.channel("conv", [0, 1, 2]), 3), r"\[2, 3\] lanes"),
        (lambda o: o.interpolate(o.match("conv", np.ones(SHAPE)), o.logit(0), 3), "cannot be a match"),
        (lambda o: o.grid([o.logit(0)] * 3, (2, 2)), "a grid has 4 corners, got 3"),
        (lambda o: o.grid([o.logit(0)] * 4, (1, 2)), "2 or more rows and columns"),
        (lambda o: o.custom(3, "conv", label="x"), "takes a function of activations, got 3"),
        (lambda o: o.custom(loudest, [], label="x"), "names of the layers"),
        (lambda o: o.custom(loudest, "conv", label=""), "takes a label"),
        (lambda o: o.custom(lambda read: read["conv"], "conv", label="x"), r"one number, and gives an array of shape"),
        (lambda o: o.custom(away, "head", label="x", arrays={"centre": 1.0}), "leading axis of lanes"),
    ],
)
def test_mistakes_give_one_sentence(network, make, message):
    with pytest.raises(ValueError, match=message):
        make(nd.objectives).bind(network)
