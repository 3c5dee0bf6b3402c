"""BEATs: published size, parity with the original, every setting against a forward pass by hand, padding, errors."""

from __future__ import annotations

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import networks
from nd_jax.networks.beats import distance_buckets, shorter_mask
from nd_jax.networks.importers import beats

TINY = {
    **{"classes": 3, "patch": 4, "embed": 6, "width": 8, "blocks": 2, "heads": 2, "hidden": 10, "places": 4},
    **{"place_groups": 2, "buckets": 8, "farthest": 9},
}
SHAPE = (8, 13, 1)


def test_the_published_base_network():
    module = networks.build("beats", {})
    x = jax.ShapeDtypeStruct((2, 128, 498, 1), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), x)
    sizes = {name: sum(leaf.size for leaf in jax.tree.leaves(part)) for name, part in variables["params"].items()}
    assert sum(sizes.values()) - sizes["head"] == 90_311_664
    assert jax.eval_shape(module.apply, variables, x).shape == (2, 527)
    assert networks.build(networks.family_of(module), networks.config_of(module)) == module
    assert len(module.dissected_layers) == 25 and module.dissected_layers[-2:] == ("block12/mlp/output", "head")


def test_parity_with_the_original(shared):
    folder = shared / "reference" / "beats"
    vectors = np.load(folder / "forward.npz")
    network, report = beats.network(folder / "weights.npz", seconds=vectors["waveform"].shape[1] / 16_000)
    assert "3 blocks of 32 x 64, 4 heads, no head" in report[0] and "70 tensors of 70" in report[1]
    x = vectors["fbank"].transpose(0, 2, 1)[..., None]
    wanted = {
        "patch_norm": "patch_layer_norm",
        "projection": "post_extract_proj",
        "places": "pos_conv",
        "norm": "encoder_layer_norm",
    }
    for index in range(3):
        ours, theirs = f"block{index + 1}", f"layer{index}"
        wanted |= {ours: f"{theirs}_out", f"{ours}/attention": f"{theirs}_attn"}
        wanted |= {f"{ours}/mlp/hidden": f"{theirs}_fc1", f"{ours}/mlp/output": f"{theirs}_fc2"}
    found = nd.taps.read(network, x, [*wanted, "patches", "distances", "output"])
    for layer, name in wanted.items():
        chex.assert_trees_all_close(found[layer], vectors[f"nomask/{name}"], atol=5e-5)
    chex.assert_trees_all_close(found["patches"].transpose(0, 3, 2, 1), vectors["nomask/patch_embedding"], atol=5e-5)
    chex.assert_trees_all_close(found["distances"].reshape(8, 48, 48), vectors["nomask/position_bias"], atol=1e-6)
    chex.assert_trees_all_close(found["output"], vectors["output"], atol=5e-5)
    heard = network.input.from_wave(vectors["waveform"])
    chex.assert_trees_all_close(heard, x, atol=2e-3)

    masked, state = jax.jit(
        lambda x, mask: network.module.apply(network.variables, x, padding_mask=mask, capture_intermediates=True)
    )(x, vectors["padding_mask"])
    real = ~vectors["padding_mask_out"]
    assert 0 < real.sum() < real.size
    chex.assert_trees_all_close(masked[real], vectors["output_masked"][real], atol=5e-5)
    for index in range(3):
        (block,) = state["intermediates"][f"block{index + 1}"]["__call__"]
        chex.assert_trees_all_close(block[real], vectors[f"masked/layer{index}_out"][real], atol=5e-5)


def by_hand(p, x, m):
    """The forward pass of one example in float64, one head at a time: (mel bands, frames) -> (classes,)."""

    def dense(name, x, p=p):
        return x @ p[name]["kernel"] + p[name]["bias"]

    def norm(p, x):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * p["scale"] + p["bias"]

    def gelu(x):
        return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    def attention(p, x):
        query, key, value = (dense(name, x, p) for name in ("query", "key", "value"))
        depth, heads = m.width // m.heads, []
        for head in range(m.heads):
            part = slice(head * depth, (head + 1) * depth)
            q = query[:, part]
            scores = q @ key[:, part].T / math.sqrt(depth)
            if m.distances:
                bias = table[distance_buckets(len(x), m.buckets, m.farthest), head]
                if m.gated:
                    a, b = sigmoid(dense("gates", q, p).reshape(-1, 2, 4).sum(-1)).T
                    bias = bias * (a * (b * p["scale"][head] - 1) + 2)[:, None]
                scores = scores + bias
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            heads.append(weights / weights.sum(-1, keepdims=True) @ value[:, part])
        return dense("output", np.concatenate(heads, -1), p)

    def mlp(p, x):
        y = dense("hidden", x, p)
        if m.activation == "glu":
            y = y[:, : m.hidden] * y[:, m.hidden :] * sigmoid(y[:, m.hidden :])
        else:
            y = {"gelu": gelu, "relu": lambda y: np.maximum(y, 0)}[m.activation](y)
        return dense("output", y, p)

    rows, columns = (size // m.patch for size in x.shape)
    cut = x[: rows * m.patch, : columns * m.patch].reshape(rows, m.patch, columns, m.patch)
    patches = np.einsum("fhtw,hwe->tfe", cut, p["patches"]["kernel"][:, :, 0]) + p["patches"].get("bias", 0)
    x = norm(p["patch_norm"], patches.reshape(rows * columns, -1))
    if m.embed != m.width:
        x = dense("projection", x)
    kernel, per = p["places"]["conv"]["kernel"], m.width // m.place_groups
    padded = np.pad(x, [(m.places // 2, (m.places - 1) // 2), (0, 0)])
    places = np.zeros_like(x)
    for group in range(m.place_groups):
        part = slice(group * per, (group + 1) * per)
        for step in range(m.places):
            places[:, part] += padded[step : step + len(x), part] @ kernel[step, :, part]
    x = x + gelu(places + p["places"]["conv"]["bias"])
    table = p["distances"]["embedding"] if m.distances else None
    x = x if m.norm_first else norm(p["norm"], x)
    scale = (2 * m.blocks) ** 0.25 if m.deep_norm else 1.0
    for index in range(m.blocks):
        b = p[f"block{index + 1}"]
        if m.norm_first:
            x = x + attention(b["attention"], norm(b["norm1"], x))
            x = x + mlp(b["mlp"], norm(b["norm2"], x))
        else:
            x = norm(b["norm1"], scale * x + attention(b["attention"], x))
            x = norm(b["norm2"], scale * x + mlp(b["mlp"], x))
    x = norm(p["norm"], x) if m.norm_first else x
    return dense("head", x).mean(0)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"deep_norm": False, "norm_first": True, "activation": "glu", "patch_bias": True},
        {"embed": 8, "places": 5, "place_groups": 4, "gated": False, "activation": "relu"},
        {"distances": False, "deep_norm": False, "heads": 4},
    ],
)
def test_every_setting_by_hand(invented, change):
    module = networks.build("beats", TINY | change)
    x = np.random.default_rng(1).normal(size=(2, *SHAPE)).astype(np.float32)
    variables = invented(module, x[:1])
    found = jax.jit(module.apply)(variables, x)
    exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    wanted = np.stack([by_hand(exact, one[..., 0].astype(np.float64), module) for one in x])
    chex.assert_trees_all_close(found, wanted.astype(np.float32), atol=2e-5)


def test_what_is_padding_changes_nothing_else(invented):
    module = networks.build("beats", TINY | {"blocks": 1})
    x = np.random.default_rng(1).normal(size=(2, 8, 16, 1)).astype(np.float32)
    variables = invented(module, x[:1])
    mask = np.arange(16)[None] >= np.array([[16], [9]])
    tokens = shorter_mask(jnp.asarray(mask), 8)
    np.testing.assert_array_equal(tokens.sum(axis=1), [0, 3])
    run = jax.jit(lambda x, mask: module.apply(variables, x, padding_mask=mask))
    # Tokens are time-major, and the original counts them as if each had frames of its own: the last three are the
    # second row of the last but one patch, and the last patch.
    other = x.copy()
    other[1, :, 12:] = 7.0
    other[1, 4:, 8:12] = 7.0
    masked, plain = run(x, mask), run(x, np.zeros_like(mask))
    chex.assert_trees_all_close(masked[1], run(other, mask)[1], atol=1e-6)
    chex.assert_trees_all_close(masked[0], plain[0], atol=1e-6)
    assert abs(masked[1] - plain[1]).max() > 1e-3


def test_distances_fall_into_buckets():
    found = distance_buckets(60, 16, 40)
    for distance in range(60):
        wanted = distance if distance < 4 else min(4 + int(math.log(distance / 4) / math.log(10) * 4), 7)
        assert found[distance, 0] == wanted and found[0, distance] == (8 + wanted if distance else 0)


@pytest.mark.parametrize(
    ("change", "shape", "message"),
    [
        ({"heads": 3}, SHAPE, "width that its heads divide, got width 8 and 3 heads"),
        ({"place_groups": 3}, SHAPE, "place_groups that divide the width, got places 4, place_groups 3 and width 8"),
        ({"norm_first": True}, SHAPE, "deep_norm is for blocks that normalise at the end"),
        ({"activation": "geluu"}, SHAPE, "unknown activation 'geluu'; .*'gelu'"),
        ({"farthest": 2}, SHAPE, "max_distance above a quarter of them, got 8 and 2"),
        ({}, (8, 3, 1), "patches of 4 x 4, more than the input"),
    ],
)
def test_says_what_is_wrong(change, shape, message):
    module = networks.build("beats", TINY | change)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *shape)))
    with pytest.raises(ValueError, match="mask of 5 steps cannot mask 13"):
        shorter_mask(jnp.zeros((1, 5), bool), 13)


def test_dropout_is_for_training_only(invented, getkey):
    rates = ("dropout", "attention_dropout", "activation_dropout", "input_dropout", "head_dropout", "block_dropout")
    module = networks.build("beats", TINY | dict.fromkeys(rates, 0.5) | {"blocks": 1})
    x = np.random.default_rng(1).normal(size=(2, *SHAPE)).astype(np.float32)
    variables = invented(module, x[:1])
    skipping = networks.build("beats", TINY | {"blocks": 1, "block_dropout": 0.5})
    train = jax.jit(lambda key: skipping.apply(variables, x, train=True, rngs={"dropout": key}))
    assert abs(train(getkey()) - train(getkey())).max() > 1e-3
    plain = networks.build("beats", TINY | {"blocks": 1})
    programs = [str(jax.make_jaxpr(each.apply)(variables, x)) for each in (module, plain)]
    assert programs[0] == programs[1]
