"""GoogLeNet beside torchvision's own numbers, its layers, and that a layer costs nothing of what comes after it."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seeded_weights

import nd_jax as nd
from nd_jax import networks, taps
from nd_jax.networks.googlenet import BLOCKS, GoogLeNet
from nd_jax.networks.importers import torchvision

# A sixteenth of the width, so that a test compiles and runs in a moment.
THIN = tuple(tuple(max(1, width // 16) for width in widths) for widths in BLOCKS)


@pytest.fixture(scope="module")
def reference(shared):
    folder = shared / "reference" / "googlenet"
    return np.load(folder / "forward.npz"), dict(seeded_weights.seeded(folder / "state_dict.json", 611))


def test_every_recorded_number_of_torchvision(reference):
    recorded, state = reference
    assert seeded_weights.check(recorded, state) > 50
    module, variables = torchvision.googlenet(state, transform_input=False, mean=(), std=())
    assert module == GoogLeNet()
    x = recorded["x"].transpose(0, 2, 3, 1)
    network = nd.Network(module, variables, input=nd.domain.Image((64, 64, 3)), apply_kwargs={"train": False})
    names = {key.partition("/")[2] for key in recorded.files if key.startswith(("act/", "act_mean/"))}
    names = sorted(name for name in names if name in taps.layers(network))
    found = taps.read(network, x, [*names, "output"])
    errors = seeded_weights.compare(recorded, found)
    assert len({key.partition("/")[2] for key in errors}) == 17
    scale = np.abs(recorded["logits"]).max()
    chex.assert_trees_all_close(found["output"] / scale, recorded["logits"] / scale, atol=1e-4)

    # The same through the normalisation that a picture goes through, and torchvision's own change of it.
    pictures = (x * np.float32([0.229, 0.224, 0.225])) + np.float32([0.485, 0.456, 0.406])
    module, variables = torchvision.googlenet(state)
    assert module.transform_input
    logits = jax.jit(module.apply)(variables, pictures)
    scale = np.abs(recorded["logits_transform_input"]).max()
    chex.assert_trees_all_close(logits / scale, recorded["logits_transform_input"] / scale, atol=1e-4)


def _thin(invented, **more):
    module = GoogLeNet(stem=(4, 4, 6), blocks=THIN, classes=5, **more)
    return module, invented(module, jnp.zeros((1, 64, 64, 3)))


def test_sizes(invented, getkey):
    shapes = jax.eval_shape(lambda: GoogLeNet().init(jax.random.key(0), jnp.zeros((1, 64, 64, 3))))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == 6_624_904
    module, variables = _thin(invented, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), transform_input=True)
    network = nd.Network(module, variables, input=nd.domain.Image((224, 224, 3)))
    layers = taps.layers(network)
    assert list(layers)[:2] == ["normalise", "transform_input"]
    assert [layers[name][0] for name in ("conv1", "maxpool1", "maxpool2", "maxpool3", "maxpool4")] == [
        *(112, 56, 28, 14, 7)
    ]
    assert layers["inception3a"] == (28, 28, 4 + 8 + 2 + 2) and layers["inception5b"][:2] == (7, 7)
    for name in ("branch1/conv", "branch2/0/relu", "branch3/1/bn", "branch4/0", "branch4/1"):
        assert f"inception4c/{name}" in layers
    assert layers["avgpool"] == layers["inception5b"][-1:] and layers["fc"] == (5,)
    assert networks.build("googlenet", networks.config_of(module)) == module
    with pytest.raises(ValueError, match="9 blocks of 6 widths"):
        jax.eval_shape(GoogLeNet(blocks=((1, 2),)).init, getkey(), jnp.zeros((1, 64, 64, 3)))
    with pytest.raises(ValueError, match="3 channels needs as many means"):
        jax.eval_shape(GoogLeNet(mean=(0.5,), std=(0.5,)).init, getkey(), jnp.zeros((1, 64, 64, 3)))


def test_training_mode_has_dropout_and_moves_the_statistics(invented, getkey):
    module, variables = _thin(invented)
    x = jax.random.uniform(getkey(), (2, 64, 64, 3))
    train = jax.jit(lambda key: module.apply(variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": key}))
    (one, moved), (two, _) = train(getkey()), train(getkey())
    assert float(jnp.abs(one - two).max()) > 0
    before = variables["batch_stats"]["conv1"]["bn"]["mean"]
    assert float(jnp.abs(moved["batch_stats"]["conv1"]["bn"]["mean"] - before).max()) > 0


def test_a_layer_costs_nothing_of_what_comes_after_it(invented):
    """No operation of a later layer is left in the compiled gradient of a unit."""
    module, variables = _thin(invented)
    network = nd.Network(module, variables, input=nd.domain.Image((40, 40, 3)))

    def climb(x):
        return jnp.sum(taps.forward(network, x, ("conv2",))[1]["conv2"][..., 0])

    program = jax.jit(jax.grad(climb)).lower(jax.ShapeDtypeStruct((1, 40, 40, 3), jnp.float32)).compile().as_text()
    assert "conv2" in program and "maxpool1" in program
    assert "conv3" not in program and "inception" not in program
