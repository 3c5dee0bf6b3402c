"""WaveGAN: parity with its authors' code, sizes, phase shuffle, derivatives, and the importer."""

from __future__ import annotations

import json

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import networks, taps
from nd_jax.networks import wavegan
from nd_jax.networks.importers import wavegan as importer
from nd_jax.networks.layers import PhaseShuffle, phase_shuffle
from nd_jax.networks.wavegan import Discriminator, Generator, UpConv

SMALL_G = {"samples": 64, "layers": 2, "dim": 2, "latent": 5}
SMALL_D = {"layers": 2, "dim": 2}


@pytest.fixture
def reference(shared):
    """A function that reads one file of the reference vectors."""

    def read(name):
        return np.load(shared / "reference" / "wavegan" / f"{name}.npz")

    return read


@pytest.mark.parametrize("name", ["G_plain", "G_bn", "G_nn"])
def test_generator_is_the_authors(reference, shared, name):
    file = reference(name)
    module, variables = importer.generator(shared / "reference" / "wavegan" / f"{name}.npz")
    assert module == Generator(dim=3, batch_norm=name == "G_bn", upsample="nearest" if name == "G_nn" else "zeros")
    network = importer.network(shared / "reference" / "wavegan" / f"{name}.npz")
    found = taps.read(network, file["z"], [f"conv{index}" for index in range(1, 6)] + ["dense", "tanh"])
    np.testing.assert_allclose(found["tanh"], file["out"], atol=1e-5)
    compared = 0
    for key in file.files:
        if key.startswith("mid/") and key.endswith("BiasAdd"):
            layer = key.split("/")[2]
            ours = "dense" if layer == "z_project" else f"conv{int(layer[-1]) + 1}"
            np.testing.assert_allclose(found[ours][:1], file[key].reshape(found[ours][:1].shape), rtol=1e-4, atol=1e-5)
            compared += 1
    assert compared >= 3


@pytest.mark.parametrize("name", ["D_plain", "D_bn"])
def test_discriminator_is_the_authors(reference, name):
    file = reference(name)
    module, variables = importer.discriminator({key: file[key] for key in file.files})
    assert module == Discriminator(dim=3, batch_norm=name == "D_bn")
    # The authors' discriminator normalises by the batch at all times.
    logits, state = module.clone(shuffle=0).apply(
        variables,
        file["x"][..., None],
        train=True,
        mutable=["batch_stats", "intermediates"],
        capture_intermediates=True,
    )
    np.testing.assert_allclose(logits[:, 0], file["logit"], rtol=1e-4)
    for index in range(5):
        found = state["intermediates"][f"conv{index + 1}"]["__call__"][0]
        np.testing.assert_allclose(found, file[f"mid/D/downconv_{index}/conv1d/BiasAdd"], rtol=1e-4, atol=1e-5)
        if f"mid/D/downconv_{index}/batch_normalization/batchnorm/add_1" in file.files:
            found = state["intermediates"][f"norm{index + 1}"]["__call__"][0]
            wanted = file[f"mid/D/downconv_{index}/batch_normalization/batchnorm/add_1"]
            np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


def test_variables_have_the_original_sizes(shared):
    original = json.loads((shared / "reference" / "wavegan" / "default_variables.json").read_text())
    sizes = sorted(int(np.prod(shape)) for shape in _shapes(original))
    ours = []
    for module, shape in ((Generator(), (100,)), (Discriminator(), (16384, 1))):
        variables = jax.eval_shape(
            lambda module=module, shape=shape: module.init(jax.random.key(0), jnp.zeros((1, *shape)))
        )
        ours += [leaf.size for leaf in jax.tree.leaves(variables["params"])]
    assert sorted(ours) == sizes


def _shapes(tree):
    """Every list of whole numbers in a JSON tree."""
    if isinstance(tree, list) and tree and all(isinstance(item, int) for item in tree):
        return [tree]
    values = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return [shape for value in values for shape in _shapes(value)]


@pytest.mark.parametrize(("samples", "start"), [(16384, 16), (8192, 8), (4096, 4)])
def test_fewer_samples_keep_the_layers(samples, start):
    module = Generator(samples=samples, dim=2, batch_norm=True)
    variables = jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros((1, 100))))
    assert variables["params"]["dense"]["kernel"].shape == (100, start * 32)
    assert {name for name in variables["params"] if name.startswith("conv")} == {
        f"conv{index}" for index in range(1, 6)
    }
    made = jax.eval_shape(module.apply, variables, jnp.zeros((2, 100)))
    assert made.shape == (2, samples, 1)
    judge = Discriminator(dim=2)
    assert jax.eval_shape(lambda: judge.init_with_output(jax.random.key(0), jnp.zeros(made.shape))[0]).shape == (2, 1)


@pytest.mark.parametrize("size", [25, 24, 9, 4])
def test_nearest_is_every_value_four_times_and_a_convolution(size, getkey, invented):
    x = jax.random.normal(getkey(), (2, 6, 3))
    layer = UpConv(2, size, "nearest")
    variables = invented(layer, x)
    numbers = ("NWC", "WIO", "NWC")
    kernel = variables["params"]["kernel"]
    assert kernel.shape == (size, 3, 2)
    expected = jax.lax.conv_general_dilated(jnp.repeat(x, 4, axis=1), kernel, (1,), "SAME", dimension_numbers=numbers)
    bias = variables["params"]["bias"].reshape(1, 1, 2)
    chex.assert_trees_all_close(layer.apply(variables, x), expected + bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [25, 24, 9, 4])
def test_zeros_is_the_gradient_of_a_convolution_of_stride_four(size, getkey, invented):
    x = jax.random.normal(getkey(), (2, 6, 3))
    layer = UpConv(2, size)
    variables = invented(layer, x)
    numbers = ("NWC", "WIO", "NWC")

    def shorten(y):
        kernel = variables["params"]["kernel"].swapaxes(1, 2)
        return jax.lax.conv_general_dilated(y, kernel, (4,), "SAME", dimension_numbers=numbers)

    expected = jax.vjp(shorten, jnp.zeros((2, 24, 2)))[1](x)[0]
    bias = variables["params"]["bias"].reshape(1, 1, 2)
    chex.assert_trees_all_close(layer.apply(variables, x), expected + bias, rtol=1e-4, atol=1e-5)


# --- phase shuffle ----------------------------------------------------------------------------------------------------


def test_phase_shuffle_is_the_authors(reference):
    file = reference("phaseshuffle")
    for shift in range(-2, 3):
        moved = phase_shuffle(jnp.asarray(file["x"]), jnp.full(2, shift), 2)
        chex.assert_trees_all_equal(moved, jnp.asarray(file[f"phase_{shift}"]))


def test_every_example_is_shuffled_by_its_own_shift(getkey):
    x = jax.random.normal(getkey(), (7, 9, 2))
    shifts = jnp.arange(-3, 4)
    together = phase_shuffle(x, shifts, 3)
    for index in range(7):
        chex.assert_trees_all_equal(together[index], phase_shuffle(x[index][None], shifts[index][None], 3)[0])
    chex.assert_trees_all_equal(together[6, 3:], x[6, :-3])
    chex.assert_trees_all_equal(together[3], x[3])


def test_phase_shuffle_in_training_only(getkey):
    layer = PhaseShuffle(2)
    x = jax.random.normal(getkey(), (64, 16, 1))
    chex.assert_trees_all_equal(layer.apply({}, x), x)
    moved = layer.apply({}, x, train=True, rngs={"phase": getkey()})
    candidates = np.stack([phase_shuffle(x, jnp.full(64, shift), 2) for shift in range(-2, 3)])
    same = (candidates == np.asarray(moved)[None]).all(axis=(2, 3))
    assert (same.sum(axis=0) == 1).all()
    shifts = (same.argmax(axis=0) - 2).tolist()
    assert set(shifts) == {-2, -1, 0, 1, 2}
    keys = jax.random.split(getkey(), 4)
    given = jax.vmap(layer.draw)(keys)
    chex.assert_trees_all_equal(layer.apply({}, x[:4], train=True, shifts=given), phase_shuffle(x[:4], given, 2))
    assert given.shape == (4,) and abs(given).max() <= 2
    chex.assert_trees_all_equal(PhaseShuffle(0).apply({}, x, train=True), x)


def test_phase_shuffle_refuses_what_cannot_be_reflected():
    with pytest.raises(ValueError, match="needs a signal of more than 4 steps, not 4"):
        phase_shuffle(jnp.zeros((2, 4, 1)), jnp.zeros(2, int), 4)
    with pytest.raises(ValueError, match="one shift for each of 2 examples"):
        phase_shuffle(jnp.zeros((2, 4, 1)), jnp.zeros((), int), 1)


# --- derivatives ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("upsample", ["zeros", "nearest"])
def test_derivatives_of_both_orders_are_those_of_lax(getkey, monkeypatch, upsample, invented):
    generator, discriminator = Generator(**SMALL_G, upsample=upsample), Discriminator(**SMALL_D)
    z, x = jax.random.normal(getkey(), (3, 5)), jax.random.normal(getkey(), (3, 64, 1))
    params = (invented(generator, z)["params"], invented(discriminator, x, 1)["params"])
    keys = {"phase": getkey()}

    def penalised(params):
        made = generator.apply({"params": params[0]}, z)

        def score(x):
            return jnp.sum(discriminator.apply({"params": params[1]}, x, train=True, rngs=keys))

        slope = jax.grad(score)(0.5 * x + 0.5 * made)
        return score(made) + jnp.sum(jnp.square(slope))

    ours = jax.jit(jax.value_and_grad(penalised))(params)
    monkeypatch.setattr(wavegan, "conv_general_dilated", jax.lax.conv_general_dilated)
    monkeypatch.setattr(wavegan, "Conv", nn.Conv)
    native = jax.jit(jax.value_and_grad(lambda params: penalised(params)))(params)
    chex.assert_trees_all_close(ours, native, rtol=1e-4, atol=1e-5)
    assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(ours[1][0]))


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "shape", "message"),
    [
        (Generator(**SMALL_G), (2, 6), "wavegan_generator takes latents of shape \\(batch, 5\\), got \\(2, 6\\)"),
        (Generator(samples=100, layers=2), (2, 100), "with 2 layers needs a multiple of 16 samples, not 100"),
        (Generator(**SMALL_G, kernel=3), (2, 5), "kernel of wavegan_generator must be at least 4, got 3"),
        (Generator(**SMALL_G, upsample="linear"), (2, 5), "'zeros' or 'nearest', not 'linear'"),
        (Discriminator(**SMALL_D), (2, 60, 1), "wavegan_discriminator with 2 layers needs a multiple of 16 samples"),
        (Discriminator(**SMALL_D), (2, 64), "takes sounds of shape \\(batch, samples, 1\\), got \\(2, 64\\)"),
    ],
)
def test_what_does_not_fit_gives_one_sentence(module, shape, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros(shape)))


def _tensorflow(variables, player):
    """Variables of an untrained network under TensorFlow's names and in its layouts."""
    found = {}
    for layer, leaves in variables["params"].items():
        first = {"G": "z_project", "D": "output"}[player]
        scope = first if layer == "dense" else f"{'up' if player == 'G' else 'down'}conv_{int(layer[4:]) - 1}"
        kind = "dense" if layer == "dense" else "conv2d_transpose" if player == "G" else "conv1d"
        for part, leaf in leaves.items():
            turned = leaf.swapaxes(1, 2)[None] if kind == "conv2d_transpose" and part == "kernel" else leaf
            found[f"{player}/{scope}/{kind}/{part}"] = np.asarray(turned)
    return found


def test_importer_reads_files_and_refuses_others(tmp_path, capsys, invented):
    weights = _tensorflow(invented(Generator(**SMALL_G), jnp.zeros((1, 5))), "G")
    path = tmp_path / "weights.npz"
    np.savez(path, **weights, **{"G/z_project/dense/kernel/Adam": np.zeros(3), "global_step": np.zeros(())})
    importer.main([str(path), str(tmp_path / "out"), "--sample-rate", "8000"])
    assert "(64, 1)" in capsys.readouterr().out
    network = nd.load(tmp_path / "out")
    assert network.module == Generator(**SMALL_G) and network.output.sample_rate == 8000
    chex.assert_trees_all_equal(network.variables["params"], importer.generator(path)[1]["params"])

    judge = _tensorflow(invented(Discriminator(**SMALL_D), jnp.zeros((1, 64, 1))), "D")
    np.savez(path, **judge)
    assert importer.network(path).input.shape == (64, 1)
    with pytest.raises(importer.WeightsFileError, match="hold no variable of a WaveGAN's G"):
        importer.generator(judge)
    del judge["D/output/dense/bias"]
    with pytest.raises(
        importer.WeightsFileError, match=r"\['dense'\]\['bias'\] of this WaveGAN should have shape \(1,\)"
    ):
        importer.discriminator(judge)
    del weights["G/z_project/dense/kernel"]
    with pytest.raises(importer.WeightsFileError, match="z_project/dense/kernel of a WaveGAN is missing"):
        importer.generator(weights)
    path.write_bytes(b"no archive")
    with pytest.raises(importer.WeightsFileError, match="is not a readable .npz file"):
        importer.generator(path)
    with pytest.raises(FileNotFoundError, match="no weights file"):
        importer.generator(tmp_path / "nowhere.npz")


def test_families():
    for module in (Generator(**SMALL_G), Discriminator(**SMALL_D)):
        assert networks.build(networks.family_of(module), networks.config_of(module)) == module
