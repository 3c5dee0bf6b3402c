"""Class-conditional GANs of all families, and what the rest of the package makes of a label."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import domain, networks, taps
from nd_jax.domain import Image, Label, Latent, Parts, Units
from nd_jax.network import Network
from nd_jax.networks import conditional

NAMES = ("low", "middle", "high")
LATENT = 5
GENERATORS = {
    "dcgan_generator": {"hidden": 2},
    "mel_dcgan_generator": {"start": [2, 3], "widths": [6, 4]},
    "wavegan_generator": {"samples": 64, "layers": 2, "dim": 2, "batch_norm": True},
}
DISCRIMINATORS = {
    "dcgan_discriminator": ({"hidden": 2, "sigmoid": False}, (28, 28, 1)),
    "mel_dcgan_discriminator": ({"widths": [4, 6]}, (8, 12, 1)),
    "wavegan_discriminator": ({"dim": 2, "layers": 2}, (64, 1)),
}
EVERY_GENERATOR = [(name, way) for name in GENERATORS for way in conditional.GENERATOR]


def _generator(name, way, classes=3):
    return networks.build(name, {**GENERATORS[name], "latent": LATENT, "classes": classes, "conditioning": way})


def _discriminator(name, way, classes=3, **others):
    config, shape = DISCRIMINATORS[name]
    return networks.build(name, {**config, "classes": classes, "conditioning": way, **others}), shape


@pytest.fixture(scope="module")
def made(invented):
    """A function of a family and its conditioning: generator, variables, and a batch for it."""

    def make(name, way):
        module = _generator(name, way)
        z = np.random.default_rng(1).standard_normal((4, LATENT)).astype(np.float32)
        given = {"z": z, "label": np.array([0, 1, 2, 1], np.int32)}
        return module, invented(module, given), given

    return make


@pytest.mark.parametrize(("name", "way"), EVERY_GENERATOR)
def test_a_generator_makes_what_it_is_asked_for(name, way, made):
    module, variables, given = made(name, way)
    run = jax.jit(lambda given: module.apply(variables, given))
    # One latent for all, so that only the label can tell the examples apart.
    z = np.tile(given["z"][:1], (4, 1))
    x = run({"z": z, "label": given["label"]})
    chex.assert_trees_all_close(x[1], x[3], rtol=1e-6)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert float(jnp.abs(x[one] - x[other]).max()) > 1e-3
    # Two labels in one batch are what either is alone.
    mixed = run({"z": given["z"], "label": given["label"]})
    for index in range(4):
        alone = run({"z": given["z"], "label": np.full(4, given["label"][index])})
        chex.assert_trees_all_close(mixed[index], alone[index], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", GENERATORS)
def test_without_classes_nothing_is_conditional(name):
    plain = networks.build(name, {**GENERATORS[name], "latent": LATENT})
    assert plain.classes == 0
    wanted = jax.eval_shape(lambda: plain.init(jax.random.key(0), jnp.zeros((1, LATENT))))
    given = {"z": jnp.zeros((1, LATENT)), "label": jnp.zeros(1, int)}
    for way in conditional.GENERATOR:
        tree = jax.eval_shape(lambda way=way: _generator(name, way).init(jax.random.key(0), given))
        assert set(tree["params"]) == set(wanted["params"])
        assert sum(map(_size, jax.tree.leaves(tree))) > sum(map(_size, jax.tree.leaves(wanted)))


def _size(leaf):
    return leaf.size


def test_class_norm_has_the_statistics_of_all_and_a_scale_of_each(getkey):
    x = 3 + 2 * jax.random.normal(getkey(), (6, 5, 4))
    label = jnp.array([0, 1, 2, 2, 1, 0])
    layer = conditional.ClassNorm(3)
    untrained = layer.init(getkey(), x, label)
    parts = {part: jax.random.normal(getkey(), (3, 4)) for part in ("scale", "bias")}
    variables = {**untrained, "params": parts}
    found, state = layer.apply(variables, x, label, train=True, mutable=["batch_stats"])
    centre, spread = x.mean(axis=(0, 1)), x.std(axis=(0, 1))
    standard = (x - centre.reshape(1, 1, 4)) / spread.reshape(1, 1, 4)
    for index, number in enumerate(label):
        scale, bias = (variables["params"][part][number].reshape(1, 4) for part in ("scale", "bias"))
        chex.assert_trees_all_close(found[index], standard[index] * scale + bias, atol=1e-4)
    chex.assert_trees_all_close(state["batch_stats"]["standard"]["mean"], 0.1 * centre, rtol=1e-5)
    chex.assert_trees_all_close(layer.apply(untrained, x, label), x / jnp.sqrt(1 + 1e-5), rtol=1e-5)


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_projection_adds_the_embedding_of_the_class(name, getkey, invented):
    module, shape = _discriminator(name, "projection")
    x = jax.random.uniform(getkey(), (4, *shape))
    x = jnp.concatenate([x[:2], x[:2]])
    given = {"x": x, "label": jnp.array([0, 1, 2, 1])}
    variables = invented(module, given)
    capture = {"capture_intermediates": True, "mutable": ["intermediates"]}
    scores, state = jax.jit(lambda given: module.apply(variables, given, **capture))(given)
    layers = state["intermediates"]
    assert scores.shape == (4, 1)
    chex.assert_trees_all_close(scores[1], scores[3], rtol=1e-5)
    assert abs(float(scores[0, 0] - scores[2, 0])) > 1e-3
    features = layers["pool" if "pool" in layers else "relu2"]["__call__"][0].reshape(4, -1)
    embedding = variables["params"]["projection"]["embedding"][given["label"]]
    plain = layers["score" if "score" in layers else "dense"]["__call__"][0]
    chex.assert_trees_all_close(scores, plain + (embedding * features).sum(axis=1, keepdims=True), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_auxiliary_names_the_class(name, getkey, invented):
    module, shape = _discriminator(name, "auxiliary")
    x = jax.random.uniform(getkey(), (2, *shape))
    variables = invented(module, x)
    output = jax.jit(module.apply)(variables, x)
    assert {part: values.shape for part, values in output.items()} == {"score": (2, 1), "label": (2, 3)}
    network = Network(module, variables, input=_like(shape), labels={"label": NAMES, "score": ("real",)})
    assert network.output == Parts({"label": Units(3), "score": Units(1)})
    sigmoid = networks.build("dcgan_discriminator", {"hidden": 2, "classes": 3, "conditioning": "auxiliary"})
    if name == "dcgan_discriminator":
        chex.assert_trees_all_close(sigmoid.apply(variables, x)["score"], jax.nn.sigmoid(output["score"]), rtol=1e-5)


def _like(shape):
    return Image(shape) if len(shape) == 3 else domain.Waveform(shape[0], 8000)


# --- a conditional generator is a network -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asked(made):
    """A conditional generator as a Network."""
    module, variables, _ = made("mel_dcgan_generator", "batch_norm")
    given = Parts({"z": Latent(LATENT), "label": Label(NAMES)})
    return Network(module, variables, input=given, output=Image((8, 12, 1)), apply_kwargs={"train": False})


def test_it_is_called_read_saved_and_loaded(asked, tmp_path, getkey):
    given = {"z": jax.random.normal(getkey(), (3, LATENT)), "label": np.array([2, 0, 2])}
    assert taps.layers(asked)["norm1"] == (2, 3, 6)
    read = taps.read(asked, given, ["relu1", "sigmoid"])
    chex.assert_trees_all_equal(read["sigmoid"], asked(given))
    asked.save(tmp_path / "asked")
    loaded = nd.load(tmp_path / "asked")
    assert loaded.input == asked.input and loaded.input["label"].names == NAMES
    chex.assert_trees_all_equal(loaded(given), asked(given))
    jitted = jax.jit(lambda label: asked({"z": given["z"], "label": label}))(given["label"])
    chex.assert_trees_all_close(jitted, asked(given), rtol=1e-5)


def test_it_is_visualized_for_a_chosen_class(asked, getkey):
    objective, key = nd.objectives.channel("relu2", [1]), getkey()
    found = {}
    for index in (None, 2):
        free = nd.parameterizations
        way = {} if index is None else {"parameterization": free.parts(z=free.latent(), label=free.chosen(index))}
        result = nd.visualize_batch(asked, objective, key=key, steps=3, progress=False, **way)
        found[index] = result
        assert result.inputs["label"].dtype == np.int32
        assert result.inputs["label"].tolist() == [index or 0]
        activation = taps.read(asked, result.inputs, ["relu2"])["relu2"][..., 1].mean()
        assert float(activation) == pytest.approx(float(result.scores[0]), rel=1e-3, abs=1e-5)
    assert not np.array_equal(found[None].inputs["z"], found[2].inputs["z"])


def test_only_a_class_is_chosen(asked):
    chosen = nd.parameterizations.chosen
    with pytest.raises(ValueError, match="label 3 is out of range"):
        chosen(3).init(jax.random.key(0), Label(NAMES))
    with pytest.raises(ValueError, match="is for a class, not for a domain 'latent'"):
        chosen(0).init(jax.random.key(0), Latent(3))
    with pytest.raises(ValueError, match="chosen by its number, got 'low'"):
        chosen("low")


def test_a_label_is_a_domain():
    label = Label(["low", "high"])
    assert (label.shape, label.low, label.high, label.dtype) == ((), 0.0, 1.0, np.int32)
    assert domain.from_dict(label.to_dict()) == label
    assert label.silence().dtype == jnp.int32 and label.picture(0) is None
    label.check(1)
    label.check([0, 1, 1])
    both = Parts({"z": Latent(3), "label": label})
    assert both.abstract(2) == {
        "z": jax.ShapeDtypeStruct((2, 3), np.float32),
        "label": jax.ShapeDtypeStruct((2,), np.int32),
    }
    for wrong, message in (
        (2, "label 2 is out of range: 2 classes are numbered 0 ... 1"),
        (-1, "label -1"),
        (0.5, "whole"),
    ):
        with pytest.raises(ValueError, match=message):
            label.check(wrong)
    with pytest.raises(ValueError, match="1 or more classes"):
        Label(())


@pytest.mark.parametrize(
    ("label", "z", "message"),
    [
        ([0, 1], (3, LATENT), "label"),
        ([0, 1, 3], (3, LATENT), "label 3 is out of range: 3 classes are numbered 0 ... 2"),
        ([0.0, 1.0, 2.0], (3, LATENT), "labels are whole numbers, one an example, not float32 of shape \\(3,\\)"),
        ([0, 1, 2], (3, LATENT + 1), "input 'z' has shape \\(3, 6\\), but this network takes \\(batch, 5\\)"),
        ([[0], [1], [2]], (3, LATENT), "input 'label' has shape \\(3, 1\\)"),
    ],
)
def test_wrong_inputs_of_the_network_give_one_sentence(asked, label, z, message):
    with pytest.raises(ValueError, match=message):
        asked({"z": jnp.zeros(z), "label": jnp.asarray(label)})


def _try(module, given):
    jax.eval_shape(lambda: module.init(jax.random.key(0), given))


@pytest.mark.parametrize("name", GENERATORS)
def test_wrong_inputs_of_a_generator_give_one_sentence(name):
    module, z = _generator(name, "concat"), jnp.zeros((2, LATENT))
    for given, message in (
        (z, f'{name} with 3 classes takes {{"z", "label"}}, got'),
        ({"z": z}, "got a dict with the keys \\['z'\\]"),
        ({"z": z, "label": jnp.zeros(2)}, "one whole number as label for each of 2 examples, got float32"),
        ({"z": z, "label": jnp.zeros(3, int)}, "each of 2 examples, got int32 of shape \\(3,\\)"),
        ({"z": z[:, 1:], "label": jnp.zeros(2, int)}, f"{name} takes latents of shape \\(batch, 5\\), got \\(2, 4\\)"),
    ):
        with pytest.raises(ValueError, match=message):
            _try(module, given)
    with pytest.raises(ValueError, match=f"{name} takes z alone here, not a dict"):
        _try(module.clone(classes=0), {"z": z, "label": jnp.zeros(2, int)})
    with pytest.raises(ValueError, match="is 'concat' or 'batch_norm', not 'projection'"):
        _try(module.clone(conditioning="projection"), z)
    with pytest.raises(ValueError, match=f"classes of {name} must be 0 or at least 2, got 1"):
        _try(module.clone(classes=1), z)


def test_a_wavegan_without_norms_has_no_class_norms():
    module = networks.build(
        "wavegan_generator", {"samples": 64, "layers": 2, "classes": 3, "conditioning": "batch_norm"}
    )
    with pytest.raises(ValueError, match="needs batch_norm=True"):
        _try(module, {"z": jnp.zeros((2, 100)), "label": jnp.zeros(2, int)})


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminators_with_minibatch_deviation_see_the_batch(name, getkey, invented):
    module, shape = _discriminator(name, "projection", classes=0, deviation=True)
    x = jax.random.uniform(getkey(), (4, *shape))
    variables = invented(module, x)
    run = jax.jit(module.apply)
    among_others, among_itself = run(variables, x), run(variables, jnp.tile(x[:1], (4, *(1,) * len(shape))))
    assert abs(float(among_others[0, 0] - among_itself[0, 0])) > 1e-4
