"""torchvision's files become Network folders: every format, every kind, and what cannot work is one sentence."""

from __future__ import annotations

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax.networks.googlenet import BLOCKS, GoogLeNet
from nd_jax.networks.importers import torchvision
from nd_jax.networks.importers.states import read_safetensors, read_state
from nd_jax.networks.importers.torch_zip import WeightsFileError
from nd_jax.networks.vgg import VGG

THIN = tuple(tuple(max(1, width // 32) for width in widths) for widths in BLOCKS)


def foreign(variables):
    """Variables of ours as a state dict of PyTorch's: names with dots, OIHW kernels."""
    state = {}
    for collection, tree in variables.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            *layer, part = [key.key for key in path]
            names = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
            array = np.asarray(leaf)
            if part == "kernel":
                array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
            state[".".join([*layer, names.get(part, part)])] = array
            if collection == "batch_stats" and part == "mean":
                state[".".join([*layer, "num_batches_tracked"])] = np.int64(7)
    return state


def safetensors(path, state):
    header, parts, place = {"__metadata__": {"format": "pt"}}, [], 0
    for name, array in state.items():
        kind = {"float32": "F32", "float16": "F16", "int64": "I64"}[str(array.dtype)]
        size = array.nbytes
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [place, place + size]}
        parts.append(np.ascontiguousarray(array).tobytes())
        place += size
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))
    return path


@pytest.fixture(scope="module")
def thin_googlenet(invented):
    module = GoogLeNet(stem=(2, 2, 3), blocks=THIN, classes=4)
    return module, invented(module, jnp.zeros((1, 64, 64, 3)))


@pytest.fixture(scope="module")
def thin_vgg(invented):
    module = VGG(stages=((2,), (3, 2)), pooled=(2, 2), hidden=(5,), classes=4)
    return module, invented(module, jnp.zeros((1, 8, 8, 3)))


def test_googlenet_with_auxiliary_heads_and_a_prefix(thin_googlenet):
    module, variables = thin_googlenet
    state = foreign(variables) | {"aux1.fc1.weight": np.zeros((3, 2)), "aux2.conv.bn.running_mean": np.zeros(3)}
    wrapped = {f"module.{name}": array for name, array in state.items()}
    found, same = torchvision.googlenet(wrapped, transform_input=False, mean=(), std=())
    assert found == module
    chex.assert_trees_all_equal(same, variables)
    published, _ = torchvision.googlenet(state)
    assert published.transform_input and published.mean == (0.485, 0.456, 0.406)


def test_vgg_flattens_in_its_own_order(thin_vgg, getkey):
    module, variables = thin_vgg
    state = foreign(variables)
    rows = state["classifier.0.weight"].reshape(5, 2, 2, 2)  # rows, columns, channels
    state["classifier.0.weight"] = rows.transpose(0, 3, 1, 2).reshape(5, 8)
    found, same = torchvision.vgg(state, mean=(), std=())
    assert found == module
    chex.assert_trees_all_equal(same, variables)


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_command_line(thin_vgg, tmp_path, capsys, ending):
    _, variables = thin_vgg
    state = {
        name: array.astype(np.float16 if "bias" in name else np.float32) for name, array in foreign(variables).items()
    }
    path = tmp_path / f"small.{ending}"
    if ending == "npz":
        np.savez(path, **state)
    else:
        safetensors(path, state)
    (tmp_path / "names.txt").write_text("cat\ndog\n\nkimono\nfox\n")
    torchvision.main(
        ["vgg16", str(path), str(tmp_path / "out"), "--size", "8", "--labels", str(tmp_path / "names.txt")]
    )
    assert "(8, 8, 3) -> (4,)" in capsys.readouterr().out
    network = nd.load(tmp_path / "out")
    assert network.labels == ("cat", "dog", "kimono", "fox")
    assert network.input == nd.domain.Image((8, 8, 3), 0.0, 1.0)
    assert network.module.mean == (0.485, 0.456, 0.406)

    # A picture of ImageNet's mean colour is all zeros behind the first layer, and is drawn in its own colour.
    grey = np.broadcast_to(np.float32([0.485, 0.456, 0.406]), (1, 8, 8, 3))
    chex.assert_trees_all_close(nd.taps.read(network, grey, ["normalise"])["normalise"], np.zeros_like(grey), atol=1e-6)
    chex.assert_trees_all_close(network.input.picture(grey[0]).values, grey[0])


def test_the_kind_is_told_by_the_tensors(thin_googlenet, thin_vgg, tmp_path):
    for name, (_, variables) in {"googlenet": thin_googlenet, "vgg16": thin_vgg}.items():
        np.savez(tmp_path / f"{name}.npz", **foreign(variables))
        assert torchvision.kind_of(tmp_path / f"{name}.npz") == name
    network = torchvision.network(tmp_path / "googlenet.npz", size=40)
    assert network.input.shape == (40, 40, 3)
    assert network.labels == ("0", "1", "2", "3")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(WeightsFileError, match="none of googlenet, vgg16, cifar10: its tensors are a"):
        torchvision.kind_of(tmp_path / "other.npz")


def _changed(state, name, array):
    return state | {name: array}


def test_what_is_wrong_is_one_sentence(thin_googlenet, thin_vgg, tmp_path):
    inception, plain = foreign(thin_googlenet[1]), foreign(thin_vgg[1])
    few = dict(inception)
    del few["inception4b.branch3.1.conv.weight"]
    wrong_shape = inception | {"inception4b.branch3.1.bn.bias": np.zeros(77, np.float32)}
    batch_norm = plain | {"features.1.weight": np.ones(2, np.float32)}
    jump = {name.replace("features.5.", "features.9."): array for name, array in plain.items()}
    cases = [
        (torchvision.googlenet, few, "lacks the tensor inception4b.branch3.1.conv.weight"),
        (torchvision.googlenet, wrong_shape, r"inception4b/branch3/1/bn/bias should have shape .* and has \(77,\)"),
        (
            torchvision.googlenet,
            inception | {"fc.bias": np.full(4, np.nan, np.float32)},
            "fc.bias holds something else",
        ),
        (torchvision.googlenet, inception | {"fc.bias": np.zeros(4, int)}, "fc.bias holds int64"),
        (torchvision.googlenet, inception | {"new.weight": np.zeros((2, 2), np.float32)}, "should have shape None"),
        (torchvision.googlenet, plain, "holds no GoogLeNet"),
        (torchvision.vgg, batch_norm, "VGG with batch norm, which is not supported"),
        (torchvision.vgg, jump, "features.9 follows features.3"),
        (torchvision.vgg, plain | {"classifier.0.weight": np.zeros((5, 10), np.float32)}, "10 numbers, no square of 2"),
        (torchvision.vgg, inception, "holds no VGG"),
    ]
    for importer, state, message in cases:
        with pytest.raises(WeightsFileError, match=message) as error:
            importer(state)
        assert "\n" not in str(error.value)


def test_bad_command_lines(thin_vgg, tmp_path, capsys):
    path = tmp_path / "small.npz"
    np.savez(path, **foreign(thin_vgg[1]))
    (tmp_path / "two.txt").write_text("a\nb\n")
    for arguments, message in [
        (["vgg16", str(tmp_path / "none.pth"), "out"], "no weights file"),
        (
            ["vgg16", str(path), str(tmp_path / "o"), "--labels", str(tmp_path / "two.txt")],
            "2 labels for a network of 4",
        ),
        (["googlenet", str(path), str(tmp_path / "o")], "holds no GoogLeNet"),
        (["cifar10", str(path), str(tmp_path / "o"), "--size", "64"], "32 x 32 pixels, not of 64 x 64"),
        (["resnet", str(path), str(tmp_path / "o")], "invalid choice"),
    ]:
        with pytest.raises(SystemExit):
            torchvision.main(arguments)
        assert message in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_names_of_classes(tmp_path):
    (tmp_path / "a.txt").write_text("tench\ngold fish\n")
    (tmp_path / "b.json").write_text('["tench", "gold fish"]')
    (tmp_path / "c.json").write_text('{"0": ["n01440764", "tench"], "1": ["n01443537", "gold fish"]}')
    for name in ("a.txt", "b.json", "c.json"):
        assert torchvision.read_labels(tmp_path / name) == ("tench", "gold fish")
    (tmp_path / "d.json").write_text('{"0": "a", "2": "b"}')
    with pytest.raises(ValueError, match=r"has the keys '0' \.\.\. '1'"):
        torchvision.read_labels(tmp_path / "d.json")
    (tmp_path / "e.json").write_text("3")
    with pytest.raises(ValueError, match="neither a list of names nor an index"):
        torchvision.read_labels(tmp_path / "e.json")


def test_safetensors(tmp_path):
    state = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float16([1, 2]), "n": np.int64(3)}
    path = safetensors(tmp_path / "a.safetensors", {name: np.asarray(array) for name, array in state.items()})
    found = read_state(path)
    assert set(found) == set(state)
    for name, array in state.items():
        np.testing.assert_array_equal(found[name], array)
    whole = path.read_bytes()
    size = int.from_bytes(whole[:8], "little")
    bad = {
        "empty": b"",
        "short": whole[:20],
        "cut": whole[:-1],
        "large header": (10**15).to_bytes(8, "little") + whole[8:],
        "no json": whole[:8] + b"x" * size + whole[8 + size :],
        "list": (2).to_bytes(8, "little") + b"[]",
        "none": (2).to_bytes(8, "little") + b"{}",
        "type": whole.replace(b'"F32"', b'"F33"'),
        "offsets": whole.replace(b"[0, 24]", b"[0, 23]"),
        "negative": whole.replace(b"[0, 24]", b"[-4, 4]"[:7]),
    }
    for name, data in bad.items():
        (tmp_path / "bad.safetensors").write_bytes(data)
        with pytest.raises(WeightsFileError, match=r"bad\.safetensors"):
            read_safetensors(tmp_path / "bad.safetensors")
            pytest.fail(name)
    with pytest.raises(FileNotFoundError, match="no weights file"):
        read_state(tmp_path / "none.safetensors")


def convolved(x, weight, bias):
    """PyTorch's convolution without padding, in float64 and one place at a time: NCHW, OIHW."""
    size = weight.shape[2]
    out = np.zeros((len(x), len(weight), x.shape[2] - size + 1, x.shape[3] - size + 1))
    for row in range(out.shape[2]):
        for column in range(out.shape[3]):
            patch = x[:, :, row : row + size, column : column + size].reshape(len(x), -1)
            out[:, :, row, column] = patch @ weight.reshape(len(weight), -1).T + bias
    return out


def pooled(x):
    return x.reshape(*x.shape[:2], x.shape[2] // 2, 2, x.shape[3] // 2, 2).max(axis=(3, 5))


def test_the_cifar10_network_beside_plain_arithmetic(shared, tmp_path):
    folder = shared / "data" / "weights" / "captum_cifar10"
    torchvision.main(["cifar10", str(folder / "cifar_torchvision.pt"), str(tmp_path / "cifar10")])
    network = nd.load(tmp_path / "cifar10")
    assert network.labels[:3] == ("airplane", "automobile", "bird") and network.labels[-1] == "truck"
    assert network.input == nd.domain.Image((32, 32, 3), -1.0, 1.0)

    state = np.load(folder / "cifar_torchvision.npz")
    pictures = np.random.default_rng(0).uniform(0, 1, (3, 32, 32, 3)).astype(np.float32)
    y = ((pictures.transpose(0, 3, 1, 2) - 0.5) / 0.5).astype(np.float64)
    for name in ("conv1", "conv2"):
        y = pooled(np.maximum(convolved(y, state[f"{name}.weight"], state[f"{name}.bias"]), 0))
    y = y.reshape(3, -1)
    for name in ("fc1", "fc2", "fc3"):
        y = y @ state[f"{name}.weight"].T + state[f"{name}.bias"]
        y = y if name == "fc3" else np.maximum(y, 0)
    chex.assert_trees_all_close(network(2 * pictures - 1), y.astype(np.float32), rtol=1e-4, atol=1e-4)
    # What is drawn is the picture itself.
    chex.assert_trees_all_close(network.input.picture(2 * pictures[0] - 1).values, pictures[0], atol=1e-6)
