"""The GAN maximiser of Neural Dissection, against the numbers of the source's own code."""

import chex
import jax
import numpy as np
import pytest

import nd_jax as nd
from nd_jax.networks.importers import neural_dissection


@pytest.mark.parametrize("gan", ["dcgan", "wgan"])
@pytest.mark.parametrize("objective", ["channel", "neuron", "layer"])
def test_maximisation_equals_the_source(shared, gan, objective):
    folder = shared / "reference" / "neural_dissection_gan"
    network = neural_dissection.network(folder / f"{gan}_discriminator.npz")
    reference = np.load(folder / f"{gan}_maximise.npz")
    start = np.load(folder / "dcgan_maximise.npz")["start"].reshape(28, 28, 1)
    chosen = {"channel": {"channels": [34]}, "neuron": {"neuron": (0, 0, 0)}, "layer": {"whole_layer": True}}[objective]
    result = nd.visualize.presets.neural_dissection(
        network,
        "conv2",
        key=jax.random.key(0),
        robust=False,
        steps=100,
        snapshots=range(101),
        start=start,
        progress=False,
        **chosen,
    )
    losses = reference[f"{objective}_loss"]
    chex.assert_trees_all_close(-result.history[:, 0], losses.astype(np.float32), rtol=1e-4, atol=1e-10)
    final = reference[f"{objective}_final"].reshape(28, 28, 1)
    chex.assert_trees_all_close(result.inputs[0], final, atol=1e-5)


def test_runs_robustly_without_weights(getkey):
    module = nd.networks.build("dcgan_discriminator", {})
    variables = module.init(getkey(), np.zeros((1, 28, 28, 1), np.float32))
    network = nd.Network(module, variables, input=nd.domain.Image((28, 28, 1), -1.0, 1.0))
    result = nd.visualize.presets.neural_dissection(
        network, "conv2", key=getkey(), channels=[0, 1], steps=20, progress=False
    )
    assert (result.history[-1] > result.history[0]).all()


def invented_vgg(module):
    shapes = jax.eval_shape(module.init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    draw = np.random.default_rng(3)
    return jax.tree.map(lambda leaf: (0.2 * draw.standard_normal(leaf.shape)).astype(np.float32), dict(shapes))


@pytest.mark.parametrize("preset", ["lucid", "neural_dissection_photograph"])
def test_photographs(preset, getkey):
    module = nd.networks.build("vgg", {"stages": [[3, 4], [5]], "hidden": [6], "classes": 4})
    network = nd.Network(module, invented_vgg(module), input=nd.domain.Image((32, 32, 3)))
    run = getattr(nd.visualize.presets, preset)
    result = run(network, "features/5", key=getkey(), channels=[0, 2, 4], steps=50, progress=False, restarts=0)
    assert result.labels == ("features/5:0", "features/5:2", "features/5:4")
    # Each climbs under blur and moves; a lane may be lower without them, all together are not.
    assert result.history[-1].mean() > result.history[0].mean()
    assert result.inputs.min() >= 0 and result.inputs.max() <= 1
    settings = result.manifest["settings"]
    kinds = [move["is"] for move in settings["transforms"]]
    if preset == "lucid":
        assert kinds == ["Padding", "Jitter", "Scale", "Rotate", "Jitter"]
        assert settings["optimizer"] == "adam(0.05)"
        # A third of 96 pixels: a third of Lucid's 12, 8 and 4.
        assert [settings["transforms"][place]["pixels"] for place in (0, 1, 4)] == [4, 3, 1]
    else:
        assert kinds == ["Rotate", "Blur", "Brightness", "Contrast", "Saturation", "Hue", "Jitter"]
        assert settings["optimizer"] == "adam(0.1)"
        assert result.snapshot_steps == (0, 50)
        chex.assert_trees_all_close(result.inputs.min(axis=(1, 2, 3)), np.zeros(3), atol=1e-6)
        chex.assert_trees_all_close(result.inputs.max(axis=(1, 2, 3)), np.ones(3), atol=1e-6)
    assert settings["polish"] == 0.0


def test_a_whole_layer_of_a_photograph_network(getkey):
    module = nd.networks.build("vgg", {"stages": [[3], [4]], "hidden": [6], "classes": 4})
    network = nd.Network(module, invented_vgg(module), input=nd.domain.Image((32, 32, 3)))
    result = nd.visualize.presets.neural_dissection_photograph(
        network, "features", key=getkey(), whole_layer=True, steps=3, snapshots=0, progress=False, restarts=0
    )
    assert len(result) == 1
    pictures = np.asarray(nd.taps.read(network, result.inputs, ["features"])["features"])
    chex.assert_trees_all_close(result.scores[0], pictures.mean(), rtol=1e-4)
