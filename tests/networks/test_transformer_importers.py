"""ASTs of Hugging Face's and BEATs from their own files: every format, what is told, and what cannot work."""

from __future__ import annotations

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_torch_zip import archive, tensor
from test_torchvision import safetensors

import nd_jax as nd
from nd_jax import networks
from nd_jax.networks.importers import ast, beats
from nd_jax.networks.importers.torch_zip import WeightsFileError

CONFIG = {
    **{"model_type": "audio-spectrogram-transformer", "hidden_size": 8, "num_hidden_layers": 1, "hidden_act": "relu"},
    **{"num_attention_heads": 2, "intermediate_size": 6, "patch_size": 8, "frequency_stride": 8, "time_stride": 4},
    **{"max_length": 12, "num_mel_bins": 16, "id2label": {"0": "hum", "1": "hiss", "2": "click"}},
}
_NAMES = {
    "patches": "B.embeddings.patch_embeddings.projection",
    "norm": "B.layernorm",
    "head_norm": "classifier.layernorm",
    "head": "classifier.dense",
    "block1/norm1": "B.encoder.layer.0.layernorm_before",
    "block1/norm2": "B.encoder.layer.0.layernorm_after",
    "block1/attention/query": "B.encoder.layer.0.attention.attention.query",
    "block1/attention/key": "B.encoder.layer.0.attention.attention.key",
    "block1/attention/value": "B.encoder.layer.0.attention.attention.value",
    "block1/attention/output": "B.encoder.layer.0.attention.output.dense",
    "block1/mlp/hidden": "B.encoder.layer.0.intermediate.dense",
    "block1/mlp/output": "B.encoder.layer.0.output.dense",
}


def foreign(variables):
    """Parameters of ours as Hugging Face has them."""
    state = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"]):
        *layer, part = [key.key for key in path]
        layer, array = "/".join(layer), np.asarray(leaf)
        if layer == "tokens":
            name = {"class_token": "cls_token", "positions": "position_embeddings"}.get(part, part)
            state[f"B.embeddings.{name}"] = array[None] if part == "positions" else array[None, None]
            continue
        if part == "kernel":
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        state[f"{_NAMES[layer]}.{'bias' if part == 'bias' else 'weight'}"] = array
    return {name.replace("B.", "audio_spectrogram_transformer."): array for name, array in state.items()}


@pytest.fixture(scope="module")
def tiny(invented):
    module = networks.build(
        "ast",
        {
            **{"classes": 3, "width": 8, "blocks": 1, "heads": 2, "hidden": 6, "patch": [8, 8], "strides": [8, 4]},
            "activation": "relu",
        },
    )
    return module, invented(module, jnp.zeros((1, 16, 12, 1)))


@pytest.fixture
def folder(tiny, tmp_path):
    """A folder that `save_pretrained` could have written."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    safetensors(tmp_path / "model.safetensors", foreign(tiny[1]))
    return tmp_path


def test_a_folder_becomes_a_network(tiny, folder, capsys):
    told = {"mean": -1.5, "std": 2.0, "max_length": 12, "num_mel_bins": 16, "sampling_rate": 8000, "feature_size": 1}
    (folder / "preprocessor_config.json").write_text(json.dumps(told))
    ast.main([str(folder), str(folder / "out"), "--seconds", "0.1"])
    said = capsys.readouterr().out
    assert "1 blocks of 8 x 6, 2 heads, 3 classes" in said and "preprocessor_config.json" in said
    network = nd.load(folder / "out")
    assert network.module == tiny[0] and network.labels == ("hum", "hiss", "click")
    chex.assert_trees_all_equal(network.variables, tiny[1])
    domain = network.input
    assert (domain.mean, domain.std, domain.sample_rate, domain.frames, domain.heard) == (-1.5, 2.0, 8000, 12, 8)
    assert network(jnp.zeros((2, 16, 12, 1))).shape == (2, 3)


def test_other_names_several_files_and_no_head(tiny, folder):
    state = foreign(tiny[1])
    parts = {"one.safetensors": {}, "two.safetensors": {}}
    for index, (name, array) in enumerate(state.items()):
        if not name.startswith("classifier"):
            new = name.replace("audio_spectrogram_transformer.", "").replace("encoder.layer.", "layers.")
            new = new.replace("attention.output.dense", "attention.o_proj").replace("intermediate.dense", "mlp.fc1")
            parts[sorted(parts)[index % 2]][new] = array
    for file, tensors in parts.items():
        safetensors(folder / file, tensors)
    (folder / "model.safetensors").unlink()
    index = {name: file for file, tensors in parts.items() for name in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    network, _ = ast.network(folder)
    assert network.labels == () and network.output.shape == (8,)
    chex.assert_trees_all_equal(network.variables["params"]["block1"], tiny[1]["params"]["block1"])
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../one.safetensors"}}))
    with pytest.raises(WeightsFileError, match="which is not beside it"):
        ast.ast(folder)


def _without(state, name):
    return {key: array for key, array in state.items() if not key.endswith(name)}


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        ({"model_type": "vit"}, None, "describes a 'vit'"),
        ({"hidden_act": "geluu"}, None, "hidden_act 'geluu' is none of gelu,"),
        ({"hidden_size": "8"}, None, "the setting 'hidden_size' is '8', and must be of type int"),
        ({"num_attention_heads": 3}, None, "does not fit together: ast needs a width that its heads divide"),
        ({"num_hidden_layers": 2}, None, "lacks the tensor .*encoder.layer.1.layernorm_before.weight"),
        ({"intermediate_size": 7}, None, r"block1/mlp/hidden/bias of shape \(6,\).*needs \(7,\)"),
        ({"max_length": 16}, None, r"position_embeddings makes tokens/positions of shape \(6, 8\).*\(8, 8\)"),
        ({"id2label": {"0": "hum"}}, None, "id2label has 1 names, and the network 3 classes"),
        ({}, lambda state: _without(state, "cls_token"), "lacks the tensor .*cls_token; did you mean"),
        ({}, lambda state: _without(state, "projection.weight"), "holds no AST"),
        ({}, lambda state: state | {"classifier.dense.bias": np.full(3, np.inf, np.float32)}, "than finite numbers"),
        ({}, lambda state: state | {"classifier.dense.bias": np.zeros(3, np.int64)}, "no floating-point numbers"),
        ({}, lambda state: state | {"classifier.dense.bias": np.zeros((3, 1), np.float32)}, "1 axes are expected"),
    ],
)
def test_an_ast_that_cannot_be_is_one_sentence(tiny, folder, config, change, message):
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    if change is not None:
        safetensors(folder / "model.safetensors", change(foreign(tiny[1])))
    with pytest.raises(WeightsFileError, match=message) as caught:
        ast.network(folder)
    assert "\n" not in str(caught.value)


def test_what_else_is_wrong_with_a_folder(folder, capsys):
    (folder / "preprocessor_config.json").write_text(json.dumps({"max_length": 1024}))
    with pytest.raises(WeightsFileError, match="max_length is 12, and 1024 in preprocessor_config.json"):
        ast.network(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="none of model.safetensors,"):
        ast.network(folder)
    (folder / "config.json").write_text("[1]")
    with pytest.raises(WeightsFileError, match="holds a list and no settings"):
        ast.network(folder)
    with pytest.raises(SystemExit):
        ast.main([str(folder / "missing"), str(folder / "out")])
    assert "no configuration" in capsys.readouterr().err


CFG = {
    **{"input_patch_size": 4, "embed_dim": 6, "encoder_layers": 2, "encoder_embed_dim": 8, "predictor_class": 3},
    **{"encoder_ffn_embed_dim": 10, "encoder_attention_heads": 2, "conv_pos": 4, "conv_pos_groups": 2},
    **{"deep_norm": True, "relative_position_embedding": True, "num_buckets": 8, "max_distance": 9},
    **{"gru_rel_pos": 1, "finetuned_model": True, "encoder_layerdrop": 0.05},
}


def beats_state():
    """Random tensors with BEATs' names; v and g of the weight normalisation differ in norm."""
    draw = np.random.default_rng(0)
    shapes = {"layer_norm": (6,), "post_extract_proj": (8, 6), "encoder.layer_norm": (8,), "predictor": (3, 8)}
    for index in range(2):
        layer = f"encoder.layers.{index}"
        shapes |= {f"{layer}.self_attn.{name}_proj": (8, 8) for name in ("q", "k", "v", "out")}
        shapes |= {f"{layer}.self_attn.grep_linear": (8, 4), f"{layer}.fc1": (10, 8), f"{layer}.fc2": (8, 10)}
        shapes |= {f"{layer}.self_attn_layer_norm": (8,), f"{layer}.final_layer_norm": (8,)}
    state = {f"{name}.weight": draw.normal(size=shape) for name, shape in shapes.items()}
    state |= {f"{name}.bias": draw.normal(size=shape[0]) for name, shape in shapes.items()}
    state["patch_embedding.weight"] = draw.normal(size=(6, 1, 4, 4))
    state |= {
        f"encoder.pos_conv.0.{name}": draw.normal(size=shape)
        for name, shape in {"bias": (8,), "weight_g": (1, 1, 4), "weight_v": (8, 4, 4)}.items()
    }
    table = draw.normal(size=(8, 2))
    for index in range(2):
        attention = f"encoder.layers.{index}.self_attn"
        state |= {
            f"{attention}.grep_a": draw.normal(size=(1, 2, 1, 1)),
            f"{attention}.relative_attention_bias.weight": table,
        }
    return {name: array.astype(np.float32) for name, array in state.items()}


def written(path, state, cfg, **more):
    """The file that the authors' training writes."""
    pieces, storages = {}, {}
    for number, (name, array) in enumerate(state.items()):
        strides = tuple(int(np.prod(array.shape[axis + 1 :])) for axis in range(array.ndim))
        pieces[name] = tensor(str(number), "FloatStorage", array.size, array.shape, strides)
        storages[str(number)] = array
    return archive(path, {"cfg": cfg, "model": pieces, **more}, storages)


def test_a_file_of_the_authors_becomes_a_network(tmp_path, capsys):
    state = beats_state()
    file = written(tmp_path / "beats.pt", state, CFG, label_dict={0: "/m/a", 1: "/m/b", 2: "/m/c"})
    beats.main([str(file), str(tmp_path / "out"), "--seconds", "0.1"])
    assert "2 blocks of 8 x 10, 2 heads, 3 classes" in capsys.readouterr().out
    network = nd.load(tmp_path / "out")
    assert network.labels == ("/m/a", "/m/b", "/m/c") and network.module.gated is True
    assert network.module.block_dropout == 0.05 and network.input.shape == (128, 8, 1)
    params = network.variables["params"]
    patch = state["patch_embedding.weight"]
    np.testing.assert_array_equal(params["patches"]["kernel"][2, 1, 0], patch[:, 0, 1, 2])
    kernel = params["places"]["conv"]["kernel"]
    norms = np.linalg.norm(kernel.reshape(4, -1), axis=1)
    np.testing.assert_allclose(norms, np.abs(state["encoder.pos_conv.0.weight_g"].ravel()), rtol=1e-5)

    # The newer names of a weight normalisation, and its result, are the same kernel.
    stem = "encoder.pos_conv.0"
    new = dict(state) | {
        f"{stem}.parametrizations.weight.original0": state[f"{stem}.weight_g"],
        f"{stem}.parametrizations.weight.original1": state[f"{stem}.weight_v"],
    }
    plain = dict(state) | {f"{stem}.weight": np.asarray(kernel).transpose(2, 1, 0)}
    for other in (new, plain):
        del other[f"{stem}.weight_g"], other[f"{stem}.weight_v"]
        _, found = beats.beats(other, CFG)
        np.testing.assert_allclose(found["params"]["places"]["conv"]["kernel"], kernel, rtol=1e-6)


def test_an_encoder_with_a_linear_layer_on_its_tokens(tmp_path):
    state = _without(beats_state(), ("predictor.weight", "predictor.bias"))
    whole = {f"beats.{name}": array for name, array in state.items()}
    whole |= {"fc.weight": np.ones((2, 8), np.float32), "fc.bias": np.zeros(2, np.float32)}
    np.savez(tmp_path / "tuned.npz", **whole)
    (tmp_path / "config.json").write_text(json.dumps(CFG | {"finetuned_model": False}))
    network, _ = beats.network(tmp_path / "tuned.npz", seconds=0.1, labels=("hum", "hiss"))
    chex.assert_trees_all_equal(network.variables["params"]["head"]["kernel"], np.ones((8, 2), np.float32))
    module, variables = beats.beats(state, CFG, head=(np.zeros((5, 8), np.float32), np.ones(5, np.float32)))
    assert module.classes == 5 and variables["params"]["head"]["bias"].tolist() == [1] * 5
    assert beats.beats(state, CFG | {"finetuned_model": False})[0].classes == 0


@pytest.mark.parametrize(
    ("cfg", "change", "message"),
    [
        ({"input_patch_size": -1}, {}, "does not fit together|makes patches/kernel"),
        ({"encoder_layers": 1}, {}, "has more than the 1 layers of its configuration"),
        ({"encoder_layers": 3}, {}, "lacks the tensor encoder.layers.2"),
        ({"conv_pos_groups": 4}, {}, r"makes places/conv/kernel of shape \(4, 4, 8\).*needs \(4, 2, 8\)"),
        ({"activation_fn": "mish"}, {}, "does not fit together: unknown activation 'mish'"),
        ({"deep_norm": "yes"}, {}, "the setting 'deep_norm' is 'yes', and must be of type bool"),
        (
            {},
            {"encoder.layers.1.self_attn.relative_attention_bias.weight": np.zeros((8, 2), np.float32)},
            "layers.1.self_attn.relative_attention_bias.weight differs from layer 0's",
        ),
        ({}, {"encoder.pos_conv.0.weight_g": np.ones((8, 1, 1), np.float32)}, r"not \(1, 1, 4\)"),
    ],
)
def test_a_beats_that_cannot_be_is_one_sentence(cfg, change, message):
    with pytest.raises(WeightsFileError, match=message) as caught:
        beats.beats(beats_state() | change, CFG | cfg)
    assert "\n" not in str(caught.value)


def test_what_else_is_wrong_with_a_beats(tmp_path):
    np.savez(tmp_path / "other.npz", weight=np.zeros(3))
    with pytest.raises(WeightsFileError, match="says nothing of its settings"):
        beats.network(tmp_path / "other.npz")
    with pytest.raises(WeightsFileError, match="holds no BEATs: it lacks the tensor patch_embedding.weight"):
        beats.network(tmp_path / "other.npz", CFG)
    with pytest.raises(WeightsFileError, match="give its config too"):
        beats.beats({"patch_embedding.weight": np.zeros(3)})
    np.savez(tmp_path / "right.npz", **beats_state())
    with pytest.raises(ValueError, match="2 labels for a network of 3 classes"):
        beats.network(tmp_path / "right.npz", CFG, labels=("a", "b"))
    with pytest.raises(FileNotFoundError, match="no weights file"):
        beats.network(tmp_path / "missing.npz", CFG)
