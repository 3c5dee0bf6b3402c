"""The Audio Spectrogram Transformer: published size, parity with Hugging Face's, layers, and maximising its units."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import networks
from nd_jax.networks.importers import ast

TINY = {"classes": 3, "width": 16, "blocks": 2, "heads": 4, "hidden": 24, "patch": [8, 8], "strides": [8, 4]}


def test_the_published_base_network():
    module = networks.build("ast", {})
    x = jax.ShapeDtypeStruct((2, 128, 1024, 1), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), x)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == 86_594_063
    assert variables["params"]["tokens"]["positions"].shape == (1214, 768)
    assert jax.eval_shape(module.apply, variables, x).shape == (2, 527)
    assert networks.build(networks.family_of(module), networks.config_of(module)) == module
    assert len(module.dissected_layers) == 37 and module.dissected_layers[-2:] == ("block12/mlp/output", "head")


def test_parity_with_hugging_face(shared):
    folder = shared / "reference" / "ast"
    vectors = np.load(folder / "forward.npz")
    network, report = ast.network(folder)
    assert network.labels == tuple(f"LABEL_{index}" for index in range(7))
    assert "3 blocks of 64 x 128, 4 heads, 7 classes" in report[0] and "59 tensors of 59" in report[1]
    blocks, x = network.module.blocks, vectors["x"].transpose(0, 2, 1)[..., None]
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


def test_what_a_dissection_labels_by_default(invented):
    module = networks.build("ast", TINY)
    network = nd.Network(module, invented(module, jnp.zeros((1, 16, 20, 1))), input=nd.domain.Image((16, 20, 1)))
    blocks = [f"block{index}/{part}" for index in (1, 2) for part in ("attention/output", "mlp/hidden", "mlp/output")]
    assert nd.taps.dissected_layers(network) == (*blocks, "head")
    assert set(nd.taps.dissected_layers(network)) < set(nd.taps.weighted_layers(network))
    small = networks.build("lenet", {})
    other = nd.Network(small, invented(small, jnp.zeros((1, 28, 28, 1))), input=nd.domain.Image((28, 28, 1)))
    assert nd.taps.dissected_layers(other) == ("conv1", "conv2", "dense1", "dense2", "dense3")


def test_settings_of_a_foreign_configuration_change_what_they_say(invented):
    x = np.random.default_rng(0).normal(size=(2, 16, 20, 1)).astype(np.float32)
    plain = networks.build("ast", TINY | {"blocks": 1, "classes": 0, "activation": "relu", "qkv_bias": False})
    variables = invented(plain, x[:1])
    assert "bias" not in variables["params"]["block1"]["attention"]["key"]
    found = jax.jit(plain.apply)(variables, x)
    chex.assert_shape(found, (2, 16))
    # A large epsilon leaves nothing of the tokens but the last bias.
    flat = jax.jit(plain.clone(epsilon=1e12).apply)(variables, x)
    bias = np.broadcast_to(variables["params"]["norm"]["bias"], flat.shape)
    chex.assert_trees_all_close(flat, bias, atol=1e-4)
    assert abs(found - flat).max() > 0.1


@pytest.mark.parametrize(
    ("change", "shape", "message"),
    [
        ({"heads": 3}, (16, 20, 1), "width that its heads divide, got width 16 and 3 heads"),
        ({"activation": "gelu_nwe"}, (16, 20, 1), "unknown activation 'gelu_nwe'; .*'gelu_new'"),
        ({}, (7, 20, 1), r"patches of \(8, 8\), more than the input"),
    ],
)
def test_says_what_is_wrong(change, shape, message):
    module = networks.build("ast", {**TINY, **change})
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *shape)))
