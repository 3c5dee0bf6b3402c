"""Weights of other projects: parity with the forward passes of their authors' code, and clear refusals."""

from __future__ import annotations

import chex
import jax
import numpy as np
import pytest

from nd_jax.networks.importers import lenet, neural_dissection
from nd_jax.networks.importers.torch_zip import WeightsFileError

LAYERS = {0: "conv1", 1: "norm1", 2: "relu1", 4: "conv2", 5: "norm2", 6: "relu2", 9: "dense", 10: "sigmoid"}
DISCRIMINATORS = (
    "DCGAN_mnist-gan-discriminator",
    "WGAN_mnist-wgan-discriminator",
    "WGAN_saved_mnist-wgan-discriminator",
)


def _channels_last(array):
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def _close(ours, reference, atol=1e-5):
    chex.assert_trees_all_close(np.asarray(ours), np.asarray(_channels_last(reference)), rtol=1e-4, atol=atol)


@pytest.mark.parametrize("name", ["dcgan", "wgan"])
def test_discriminator_parity(shared, name):
    folder = shared / "reference" / "neural_dissection_gan"
    module, variables = neural_dissection.discriminator(folder / f"{name}_discriminator.npz")
    x = _channels_last(np.load(folder / "dcgan_forward.npz")["x"])
    reference = np.load(folder / f"{name}_forward.npz")

    def run(x):
        output, state = module.apply(variables, x, capture_intermediates=True)
        return output, {
            layer: calls["__call__"][0] for layer, calls in state["intermediates"].items() if "_" not in layer
        }

    output, layers = jax.jit(run)(x)
    _close(output, reference["output"])
    _close(layers["dense"], reference["logits"])
    _close(layers["conv2"], reference["layer4"])
    for index, layer in LAYERS.items():
        _close(layers[layer][:1], reference[f"sample0_layer{index}"])


def test_small_generator_parity(shared):
    folder = shared / "reference" / "neural_dissection_gan"
    module, variables = neural_dissection.generator(folder / "generator_small_weights.npz")
    reference = np.load(folder / "generator_small_forward.npz")
    assert (module.latent, module.hidden) == (100, 4)
    _close(jax.jit(module.apply)(variables, reference["z"]), reference["out"])
    train = jax.jit(lambda z: module.apply(variables, z, train=True, mutable=["batch_stats"]))
    output, state = train(reference["z"])
    _close(output, reference["out_train_mode"])
    for layer, ours in (("conv_seq.1", "norm1"), ("conv_seq.4", "norm2")):
        _close(state["batch_stats"][ours]["mean"], reference[f"stats_after_train_forward/{layer}.running_mean"])


def _recipe():
    """The full generator's weights, drawn as the reference's README says."""
    rng = np.random.RandomState(1103)
    shapes = [("lin_seq.0", (12544, 100)), ("lin_seq.1", 12544), ("conv_seq.0", (256, 128, 5, 5)), ("conv_seq.1", 128)]
    shapes += [("conv_seq.3", (128, 64, 5, 5)), ("conv_seq.4", 64), ("conv_seq.6", (64, 1, 5, 5))]
    state = {}
    for layer, shape in shapes:
        if isinstance(shape, tuple):
            state[f"{layer}.weight"] = (0.1 if len(shape) == 2 else 0.03) * rng.standard_normal(shape)
            continue
        state[f"{layer}.weight"] = rng.uniform(0.5, 1.5, shape)
        state[f"{layer}.bias"] = 0.2 * rng.standard_normal(shape)
        state[f"{layer}.running_mean"] = 0.2 * rng.standard_normal(shape)
        state[f"{layer}.running_var"] = rng.uniform(0.5, 1.5, shape)
    return {name: array.astype(np.float32) for name, array in state.items()}


def test_full_generator_parity(shared):
    reference = np.load(shared / "reference" / "neural_dissection_gan" / "generator_full_forward.npz")
    state = _recipe()
    chex.assert_trees_all_equal(state["conv_seq.6.weight"].ravel()[:4], reference["check_first4/conv_seq.6.weight"])
    module, variables = neural_dissection.generator(state)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 2_305_472
    _close(jax.jit(module.apply)(variables, reference["z"]), reference["out"])


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_pickles_hold_what_the_npz_holds(shared, name):
    folder = shared / "data" / "weights" / "neural_dissection"
    expected = neural_dissection.read_state(folder / f"{name}.npz")
    state = neural_dissection.read_state(folder / f"{name}.pt")
    assert set(state) == set(expected)
    chex.assert_trees_all_equal({key: np.array(value) for key, value in state.items()}, expected)
    module, variables = neural_dissection.discriminator(folder / f"{name}.pt")
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 208_832
    assert module.hidden == 64


def test_other_key_styles(shared, tmp_path):
    state = dict(np.load(shared / "reference" / "neural_dissection_gan" / "dcgan_discriminator.npz"))
    _, expected = neural_dissection.discriminator(state)
    styles = {
        "slashes": {name.replace(".", "/"): array for name, array in state.items()},
        "prefix": {f"state_dict.module.{name}": array for name, array in state.items()},
    }
    for name, arrays in styles.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
        chex.assert_trees_all_equal(neural_dissection.discriminator(tmp_path / f"{name}.npz")[1], expected)


def test_wrong_weights_are_one_sentence(tmp_path):
    state = _recipe()
    with pytest.raises(WeightsFileError, match="holds no Neural Dissection discriminator"):
        neural_dissection.discriminator(state)
    with pytest.raises(WeightsFileError, match=r"lacks the tensor conv_seq\.1\.bias"):
        neural_dissection.generator({name: array for name, array in state.items() if name != "conv_seq.1.bias"})
    with pytest.raises(WeightsFileError, match=r"conv_seq\.3\.weight has shape \(3, 3\)"):
        neural_dissection.generator(state | {"conv_seq.3.weight": np.zeros((3, 3), np.float32)})
    with pytest.raises(WeightsFileError, match="finite numbers"):
        neural_dissection.generator(state | {"conv_seq.1.bias": np.full(128, np.nan, np.float32)})
    with pytest.raises(WeightsFileError, match="finite numbers"):
        neural_dissection.generator(state | {"conv_seq.1.bias": np.array(["a"] * 128)})
    with pytest.raises(FileNotFoundError, match="no weights file"):
        neural_dissection.discriminator(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(WeightsFileError, match="not a readable"):
        neural_dissection.discriminator(tmp_path / "text.npz")
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    with pytest.raises(WeightsFileError, match="not a readable"):
        neural_dissection.discriminator(tmp_path / "objects.npz")
    np.savez(tmp_path / "other.npz", **{"conv1.weight": np.zeros((1, 1, 3, 3))})
    with pytest.raises(WeightsFileError, match="is no LeNet"):
        lenet.lenet(tmp_path / "other.npz")


def test_command_line(shared, tmp_path, capsys):
    import nd_jax as nd

    folder = shared / "data" / "weights" / "neural_dissection"
    neural_dissection.main([str(folder / f"{DISCRIMINATORS[0]}.pt"), str(tmp_path / "out")])
    assert "no licence" in capsys.readouterr().out
    network = nd.load(tmp_path / "out")
    assert network.card["licence"].startswith("none stated")
    x = np.zeros((2, 28, 28, 1), np.float32)
    expected, variables = neural_dissection.discriminator(folder / f"{DISCRIMINATORS[0]}.npz")
    chex.assert_trees_all_close(network(x), expected.apply(variables, x), rtol=1e-6)
    with pytest.raises(SystemExit):
        neural_dissection.main([str(tmp_path / "none.pt"), str(tmp_path / "out2")])
    assert "no weights file" in capsys.readouterr().err


def _digits(shared):
    path = next(iter(sorted((shared / "data").glob("mnist*/*t10k-images*"))), None)
    if path is None:
        pytest.skip("no MNIST test images in the shared folder")
    import gzip

    raw = gzip.open(path).read() if path.suffix == ".gz" else path.read_bytes()
    labels = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    names = gzip.open(labels).read() if labels.suffix == ".gz" else labels.read_bytes()
    images = np.frombuffer(raw[16:], np.uint8).reshape(-1, 28, 28, 1)
    return images[:500].astype(np.float32), np.frombuffer(names[8:], np.uint8)[:500]


@pytest.mark.parametrize(
    ("file", "scale", "accuracy"),
    [
        ("lenet_mnist_torch.npz", 1 / 255, 0.97),
        ("lenet_mnist_torch.pt", 1 / 255, 0.97),
        ("lenet_mnist_weights.npz", 1, 0.93),
    ],
)
def test_lenets_read_digits(shared, file, scale, accuracy):
    network = lenet.network(shared / "data" / "weights" / "quantus_lenet_mnist" / file)
    images, labels = _digits(shared)
    assert (network.input.low, network.input.high) == (0.0, 255 * scale)
    logits = jax.jit(network)(images * scale)
    assert (np.asarray(logits).argmax(1) == labels).mean() >= accuracy


def test_cifar_lenet(shared):
    folder = shared / "data" / "weights" / "captum_cifar10"
    module, variables = lenet.lenet(folder / "cifar_torchvision.npz")
    x = np.random.default_rng(0).standard_normal((2, 32, 32, 3)).astype(np.float32)
    chex.assert_shape(jax.jit(module.apply)(variables, x), (2, 10))
    # The original is in PyTorch's format from before the zip files.
    again, same = lenet.lenet(folder / "cifar_torchvision.pt")
    assert again == module
    chex.assert_trees_all_equal(same, variables)
