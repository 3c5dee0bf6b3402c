"""The Audio Spectrogram Transformer: published size, parity with Hugging Face's, layers, and maximising its units."""

from __future__ import annotations

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import networks

TINY = {"classes": 3, "width": 16, "blocks": 2, "heads": 4, "hidden": 24, "patch": [8, 8], "strides": [8, 4]}


def test_the_published_base_network():
    module = networks.build("ast", {})
    x = jax.ShapeDtypeStruct((2, 128, 1024, 1), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), x)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == 86_594_063
    assert variables["params"]["tokens"]["positions"].shape == (1214, 768)
    assert jax.eval_shape(module.apply, variables, x).shape == (2, 527)
    assert networks.build(networks.family_of(module), networks.config_of(module)) == module


def safetensors(path):
    """{name: array} of a float32 safetensors file: a length, a JSON header with offsets, then the numbers."""
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header, body = json.loads(raw[8 : 8 + size]), raw[8 + size :]
    header.pop("__metadata__", None)
    assert {item["dtype"] for item in header.values()} == {"F32"}
    return {
        name: np.frombuffer(body[slice(*item["data_offsets"])], np.float32).reshape(item["shape"])
        for name, item in header.items()
    }


def translated(weights, blocks):
    """The parameters of family "ast" from a checkpoint with Hugging Face's names."""
    body = "audio_spectrogram_transformer."

    def dense(name):
        return {"kernel": weights[name + ".weight"].T, "bias": weights[name + ".bias"]}

    def norm(name):
        return {"scale": weights[name + ".weight"], "bias": weights[name + ".bias"]}

    patches = body + "embeddings.patch_embeddings.projection"
    params = {
        "patches": {"kernel": weights[patches + ".weight"].transpose(2, 3, 1, 0), "bias": weights[patches + ".bias"]},
        "tokens": {
            "class_token": weights[body + "embeddings.cls_token"][0, 0],
            "distillation_token": weights[body + "embeddings.distillation_token"][0, 0],
            "positions": weights[body + "embeddings.position_embeddings"][0],
        },
        "norm": norm(body + "layernorm"),
        "head_norm": norm("classifier.layernorm"),
        "head": dense("classifier.dense"),
    }
    for index in range(blocks):
        layer = f"{body}encoder.layer.{index}."
        attention = {name: dense(f"{layer}attention.attention.{name}") for name in ("query", "key", "value")}
        params[f"block{index + 1}"] = {
            "norm1": norm(layer + "layernorm_before"),
            "attention": {**attention, "output": dense(layer + "attention.output.dense")},
            "norm2": norm(layer + "layernorm_after"),
            "mlp": {"hidden": dense(layer + "intermediate.dense"), "output": dense(layer + "output.dense")},
        }
    return {"params": params}


def test_parity_with_hugging_face(shared):
    folder = shared / "reference" / "ast"
    config = json.loads((folder / "config.json").read_text())
    vectors = np.load(folder / "forward.npz")
    blocks = config["num_hidden_layers"]
    module = networks.build(
        "ast",
        {
            "classes": len(config["id2label"]),
            "width": config["hidden_size"],
            "blocks": blocks,
            "heads": config["num_attention_heads"],
            "hidden": config["intermediate_size"],
            "patch": [config["patch_size"]] * 2,
            "strides": [config["frequency_stride"], config["time_stride"]],
        },
    )
    variables = translated(safetensors(folder / "model.safetensors"), blocks)
    x = vectors["x"].transpose(0, 2, 1)[..., None]
    chex.assert_trees_all_equal_shapes(variables, jax.eval_shape(module.init, jax.random.key(0), x))
    network = nd.Network(module, variables, input=nd.domain.Image((128, 128, 1), -3.0, 3.0))
    wanted = {"tokens": "hidden_states_0", "norm": "last_hidden_state", "pool": "pooler_output", "head": "logits"}
    wanted |= {f"block{index + 1}": f"hidden_states_{index + 1}" for index in range(blocks)}
    first = {"block1/attention/weights": "attention_0", "head_norm": "module/classifier.layernorm"}
    for index in range(blocks):
        peer = f"module/audio_spectrogram_transformer.layers.{index}"
        first[f"block{index + 1}/attention"] = f"{peer}.attention.o_proj"
        first[f"block{index + 1}/mlp/hidden"] = f"{peer}.mlp.fc1"
        first[f"block{index + 1}/mlp"] = f"{peer}.mlp.fc2"
    found = nd.taps.read(network, x, [*wanted, *first])
    for layer, name in wanted.items():
        chex.assert_trees_all_close(found[layer], vectors[name], atol=1e-4)
    for layer, name in first.items():
        chex.assert_trees_all_close(found[layer][:1], vectors[name], atol=1e-4)


def test_layers_and_maximising_them(getkey):
    module = networks.build("ast", TINY)
    variables = module.init(getkey(), jnp.zeros((1, 16, 20, 1)))
    network = nd.Network(module, variables, input=nd.domain.Image((16, 20, 1), -1.0, 1.0))
    layers = nd.taps.layers(network)
    assert layers["patches"] == (2, 4, 16)
    assert layers["tokens"] == layers["block2"] == layers["block1/attention"] == layers["norm"] == (10, 16)
    assert layers["block1/mlp/hidden"] == layers["block1/mlp/gelu"] == (10, 24)
    assert layers["block2/attention/weights"] == (4, 10, 10)
    assert (layers["pool"], layers["head"]) == ((16,), (3,))
    for layer, units in {"block1/mlp/hidden": range(8), "head": range(3)}.items():
        objective = nd.objectives.channel(layer, units)
        result = nd.visualize_batch(
            network, objective, key=getkey(), transforms=(), steps=20, snapshots=2, progress=False
        )
        assert (result.history[-1] > result.history[0]).all()


@pytest.mark.parametrize(
    ("change", "shape", "message"),
    [
        ({"heads": 3}, (16, 20, 1), "width that its heads divide, got width 16 and 3 heads"),
        ({}, (7, 20, 1), r"patches of \(8, 8\), more than the input"),
    ],
)
def test_says_what_is_wrong(change, shape, message):
    module = networks.build("ast", {**TINY, **change})
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *shape)))
