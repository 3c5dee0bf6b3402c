"""The mel GAN of the source systems: parameter counts, layers, what its convolutions compute, its options."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nd_jax import domain, networks, taps
from nd_jax.network import Network
from nd_jax.networks.conv import ConvTranspose
from nd_jax.networks.mel_dcgan import Discriminator, FirstConv, Generator

SMALL = {"latent": 5, "start": (2, 3), "widths": (6, 4)}


def _train(module, variables, x):
    return jax.jit(lambda x: module.apply(variables, x, train=True, mutable=["batch_stats"]))(x)


@pytest.mark.parametrize(
    ("name", "shape", "output", "parameters"),
    [
        ("mel_dcgan_generator", (512,), (80, 160, 1), 15_863_619),
        ("mel_dcgan_discriminator", (80, 160, 1), (1,), 2_756_929),
    ],
)
def test_full_size(name, shape, output, parameters):
    module = networks.build(name, {})
    variables = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((2, *shape)))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == parameters
    assert jax.eval_shape(module.apply, variables, jnp.zeros((3, *shape))).shape == (3, *output)
    assert networks.build(networks.family_of(module), networks.config_of(module)) == module


def test_a_start_of_four_makes_the_pictures_of_the_digit_network():
    module = Generator(start=(4, 4))
    variables = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((2, 512)))
    assert jax.eval_shape(module.apply, variables, jnp.zeros((1, 512))).shape == (1, 64, 64, 1)


def test_layers(invented):
    module = Generator(**SMALL)
    generator = Network(
        module, invented(module, jnp.zeros((2, 5))), input=domain.Latent(5), output=domain.Image((8, 12, 1))
    )
    assert taps.layers(generator) == {
        "conv1": (2, 3, 6),
        "norm1": (2, 3, 6),
        "relu1": (2, 3, 6),
        "conv2": (4, 6, 4),
        "norm2": (4, 6, 4),
        "relu2": (4, 6, 4),
        "conv3": (8, 12, 1),
        "norm3": (8, 12, 1),
        "sigmoid": (8, 12, 1),
    }
    module = Discriminator(widths=(4, 6))
    discriminator = Network(module, invented(module, jnp.zeros((2, 8, 12, 1))), input=domain.Image((8, 12, 1)))
    assert taps.layers(discriminator) == {
        "conv1": (4, 6, 4),
        "norm1": (4, 6, 4),
        "relu1": (4, 6, 4),
        "conv2": (2, 3, 6),
        "norm2": (2, 3, 6),
        "relu2": (2, 3, 6),
        "conv3": (2, 3, 1),
        "score": (1,),
    }


def test_the_generator_is_a_chain_of_pytorchs_transposed_convolutions(getkey, invented):
    module = Generator(**SMALL, last_norm=False)
    z = jax.random.normal(getkey(), (3, 5))
    variables = invented(module, z)
    params = variables["params"]

    def norm(x, layer):
        # Running statistics are 0 and 1 before any training.
        return x / np.sqrt(1 + 1e-5) * params[layer]["scale"].reshape(1, 1, 1, -1) + bias(layer)

    def bias(layer):
        return params[layer]["bias"].reshape(1, 1, 1, -1)

    @jax.jit
    def both(z):
        # The first: every number of the latent has a picture of its own.
        x = jnp.einsum("bi,hwio->bhwo", z, params["conv1"]["kernel"]) + bias("conv1")
        x = jax.nn.leaky_relu(norm(x, "norm1"), 0.2)
        for index in (2, 3):
            spread = jnp.zeros((3, 2 * x.shape[1] - 1, 2 * x.shape[2] - 1, x.shape[3])).at[:, ::2, ::2].set(x)
            kernel = params[f"conv{index}"]["kernel"][::-1, ::-1]
            x = jax.lax.conv_general_dilated(
                spread, kernel, (1, 1), ((2, 2), (2, 2)), dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = x + bias(f"conv{index}")
            if index == 2:
                x = jax.nn.leaky_relu(norm(x, "norm2"), 0.2)
        return module.apply(variables, z), jax.nn.sigmoid(x)

    found, expected = both(z)
    chex.assert_trees_all_close(found, expected, atol=1e-5)


def test_the_first_convolution_is_a_transposed_one_of_one_pixel(getkey):
    z = jax.random.normal(getkey(), (3, 5))
    layer, convolution = FirstConv(4, (2, 3)), ConvTranspose(4, (2, 3))
    variables = layer.init(getkey(), z)
    variables["params"]["bias"] = jnp.arange(4.0)
    chex.assert_trees_all_equal_shapes(variables, convolution.init(getkey(), z[:, None, None, :]))
    expected = convolution.apply(variables, z[:, None, None, :])
    chex.assert_trees_all_close(layer.apply(variables, z), expected, rtol=1e-5, atol=1e-6)


def test_the_last_norm_fixes_what_is_made(getkey, invented):
    """In training its batches have the same mean and contrast, whatever the convolution in front of it gives."""
    z = jax.random.normal(getkey(), (16, 5))
    made = {}
    for last in (True, False):
        module = Generator(**SMALL, last_norm=last)
        variables = invented(module, z)
        assert ("norm3" in variables["params"]) == last
        variables["params"]["conv3"]["bias"] = jnp.full((1,), 2.0)
        if last:
            variables["params"]["norm3"] = {"scale": jnp.ones(1), "bias": jnp.zeros(1)}
        made[last] = _train(module, variables, z)[0]
    logits = {last: jnp.log(x / (1 - x)) for last, x in made.items()}
    assert abs(float(logits[True].mean())) < 1e-3
    assert float(logits[True].std()) == pytest.approx(1.0, abs=1e-2)
    assert float(logits[False].mean()) > 1.0


def test_training_moves_the_statistics_of_both(getkey, invented):
    for module, shape in ((Generator(**SMALL), (5,)), (Discriminator(widths=(4, 6)), (8, 12, 1))):
        x = 1 + jax.random.normal(getkey(), (4, *shape))
        variables = invented(module, x)
        after = _train(module, variables, x)[1]["batch_stats"]
        for name, statistics in after.items():
            assert float(jnp.abs(statistics["mean"]).max()) > 0, name


def test_a_critic_has_no_norms(getkey, invented):
    module = Discriminator(widths=(4, 6), batch_norm=False)
    x = jax.random.uniform(getkey(), (3, 8, 12, 1))
    variables = invented(module, x)
    assert set(variables) == {"params"} and set(variables["params"]) == {"conv1", "conv2", "conv3"}
    scores, _ = _train(module, variables, x)
    alone, _ = _train(module, variables, x[:1])
    chex.assert_trees_all_close(scores[:1], alone, rtol=1e-5)


@pytest.mark.parametrize(
    ("module", "x", "message"),
    [
        (Discriminator(widths=(4, 6)), (2, 8, 10, 1), "multiples of 4, got \\(2, 8, 10, 1\\)"),
        (Discriminator(widths=(4, 6)), (8, 12, 1), "takes \\(batch, bands, frames, channels\\)"),
        (Generator(**SMALL), (2, 6), "mel_dcgan_generator takes latents of shape \\(batch, 5\\), got \\(2, 6\\)"),
        (Generator(**SMALL), (5,), "takes latents of shape"),
    ],
)
def test_wrong_shapes_give_one_sentence(module, x, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros(x)))
