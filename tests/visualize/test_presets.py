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
