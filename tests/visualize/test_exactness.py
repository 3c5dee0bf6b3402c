"""The same lane comes out bit for bit the same: alone, in 8, in 100, reordered, in any chunk."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax.networks.conv import Conv
from nd_jax.visualize import memory

LANES = 100


class Convolutions(nn.Module):
    @nn.compact
    def __call__(self, x):
        for index, features in enumerate((16, 32, 128)):
            x = nn.relu(Conv(features, (3, 3), (2, 2), name=f"conv{index}")(x))
        return nn.Dense(10, name="head")(x.mean(axis=(1, 2)))


class Perceptron(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = x.reshape(x.shape[0], -1)
        for index in range(3):
            x = nn.relu(nn.Dense(256, name=f"dense{index}")(x))
        return nn.Dense(10, name="head")(x)


class Transformer(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(96, name="embed")(x[..., 0])
        for index in range(2):
            y = nn.LayerNorm(name=f"norm{index}")(x)
            x = x + nn.MultiHeadDotProductAttention(4, name=f"attention{index}")(y)
            y = nn.gelu(nn.Dense(256, name=f"hidden{index}")(nn.LayerNorm(name=f"between{index}")(x)))
            x = x + nn.Dense(96, name=f"mlp{index}")(y)
        return nn.Dense(10, name="head")(x.mean(axis=1))


class MinibatchStatistics(nn.Module):
    """Appends the spread over the batch, as progressive GANs do: an example's output depends on its batch."""

    @nn.compact
    def __call__(self, x):
        x = nn.tanh(Conv(12, (3, 3), name="conv")(x))
        spread = jnp.sqrt(x.var(axis=0) + 1e-8).mean()
        x = jnp.concatenate([x, jnp.broadcast_to(spread, (*x.shape[:-1], 1))], axis=-1)
        return nn.Dense(8, name="head")(x.reshape(x.shape[0], -1))


NETWORKS = {
    "convolutions": (Convolutions(), (32, 24, 1), "conv2"),
    "dense": (Perceptron(), (16, 16, 1), "dense2"),
    "attention": (Transformer(), (32, 24, 1), "hidden1"),
}


def make(module, shape):
    variables = module.init(jax.random.key(0), jnp.zeros((1, *shape)))
    return nd.Network(module, variables, input=nd.domain.Image(shape=shape))


def run(network, layer, units, **settings):
    defaults = {"key": jax.random.key(1), "steps": 50, "progress": False, "snapshots": 0}
    return nd.visualize_batch(network, nd.objectives.channel(layer, units), **{**defaults, **settings})


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_lane_is_the_same_bit_for_bit(kind):
    module, shape, layer = NETWORKS[kind]
    network = make(module, shape)
    # 104 lanes in one program: far more rows in every matrix product than a lane alone has.
    whole = run(network, layer, range(LANES), chunk_size=LANES)
    assert whole.manifest["chunk_size"] == memory.rounded(LANES)
    assert (whole.scores > run(network, layer, range(LANES), chunk_size=LANES, steps=0).scores).mean() > 0.9
    for units, chunk in [([37], None), (range(8), 8), (list(range(20))[::-1], 24)]:
        part = run(network, layer, units, chunk_size=chunk)
        lanes = np.array(units)
        chex.assert_trees_all_equal(part.inputs, whole.inputs[lanes])
        chex.assert_trees_all_equal(part.parameters, jax.tree.map(lambda leaf, at=lanes: leaf[at], whole.parameters))


def test_lanes_are_spread_over_devices():
    if len(jax.devices()) < 2:
        pytest.skip("needs two devices")
    module, shape, layer = NETWORKS["convolutions"]
    network = make(module, shape)
    one = run(network, layer, range(20), steps=20)
    other = run(network, layer, range(20), steps=20, devices=jax.devices()[1:2])
    chex.assert_trees_all_equal(other.inputs, one.inputs)
    both = run(network, layer, range(20), steps=20, devices=jax.devices()[:2])
    assert both.manifest["chunk_size"] == 32
    alone = run(network, layer, [7], steps=20, devices=jax.devices()[:2])
    chex.assert_trees_all_equal(alone.inputs[0], both.inputs[7])
    # XLA gives each of two CPU devices fewer threads, which then add in another order.
    first = run(network, layer, range(20), steps=1, devices=jax.devices()[:2])
    chex.assert_trees_all_close(first.inputs, run(network, layer, range(20), steps=1).inputs, atol=1e-4)
    chex.assert_trees_all_close(both.scores, one.scores, rtol=1e-2)
    with pytest.raises(ValueError, match="devices must be JAX devices"):
        run(network, layer, [0], devices=["cpu"])


def test_every_lane_is_a_batch_of_its_own():
    network = make(MinibatchStatistics(), (8, 8, 1))
    whole = nd.visualize_batch(
        network, nd.objectives.logit(), key=jax.random.key(0), steps=20, progress=False, transforms=()
    )
    for unit in range(8):
        alone = network(whole.inputs[unit : unit + 1])[0, unit]
        chex.assert_trees_all_close(alone, whole.scores[unit], rtol=1e-5)
    together = np.diagonal(network(whole.inputs))
    assert np.abs(together - whole.scores).max() > 1e-3
    pair = nd.visualize_batch(
        network, nd.objectives.logit([3]), key=jax.random.key(0), steps=20, inputs_per_lane=2, progress=False
    )
    chex.assert_trees_all_close(network(pair.inputs[0])[:, 3], pair.scores[0], rtol=1e-5)


class Apart:
    """A coupling: inputs of one lane should differ."""

    weight = 3.0
    couples = True
    label = "apart"

    def check(self, domain):
        pass

    def __call__(self, x, domain):
        assert x.shape[1:] == domain.shape
        flat = x.reshape(x.shape[0], -1)
        return -jnp.mean(jnp.square(flat[:, None] - flat[None]))


def test_inputs_of_one_lane_are_coupled_and_lanes_are_not():
    module, shape, layer = NETWORKS["convolutions"]
    network = make(module, shape)
    copies = run(network, layer, [3, 5], replicates=3, steps=20)
    uncoupled = run(network, layer, [3, 5], inputs_per_lane=3, steps=20)
    chex.assert_shape(uncoupled.inputs, (2, 3, *shape))
    chex.assert_shape(uncoupled.scores, (2, 3))
    chex.assert_trees_all_close(uncoupled.inputs.reshape(6, *shape), copies.inputs, atol=1e-5)
    coupled = run(network, layer, [3, 5, 9], inputs_per_lane=3, steps=20, penalties=[Apart()], snapshots=2)
    chex.assert_shape(coupled.history, (2, 3, 3))

    def spread(inputs):
        return np.square(inputs - inputs.mean(axis=0)).mean()

    assert spread(coupled.inputs[0]) > 2 * spread(uncoupled.inputs[0])
    alone = run(network, layer, [5], inputs_per_lane=3, steps=20, penalties=[Apart()])
    chex.assert_trees_all_equal(alone.inputs[0], coupled.inputs[1])


def test_several_inputs_are_kept_and_run_again(tmp_path):
    nd.networks.register("test_exactness_convolutions", Convolutions)
    module, shape, layer = NETWORKS["convolutions"]
    result = run(make(module, shape), layer, [3, 5], inputs_per_lane=2, steps=5)
    again = nd.Visualization.load(result.save(tmp_path / "pairs"))
    chex.assert_trees_all_equal(again.inputs, result.inputs)
    chex.assert_trees_all_equal(again.rerun(1, progress=False).inputs[0], result.inputs[1])


def test_the_chunk_comes_from_compiled_memory(monkeypatch):
    module, shape, layer = NETWORKS["convolutions"]
    network = make(module, shape)
    free = run(network, layer, range(LANES), steps=2)
    assert free.manifest["memory_bytes"] > 0
    monkeypatch.setattr(memory, "_CPU_BYTES", 2 << 20)
    small = run(network, layer, range(LANES), steps=2)
    assert small.manifest["chunk_size"] < free.manifest["chunk_size"]
    assert small.manifest["memory_bytes"] < 2 * (2 << 20)
    chex.assert_trees_all_equal(small.inputs, free.inputs)


def test_a_chunk_that_does_not_fit_fails_before_it_starts(monkeypatch):
    module, shape, layer = NETWORKS["convolutions"]
    network = make(module, shape)
    needed = run(network, layer, range(LANES), steps=2, chunk_size=LANES).manifest["memory_bytes"]
    monkeypatch.setattr(memory, "available_bytes", lambda device: needed // 2)
    with pytest.raises(ValueError, match=r"104 lanes at once need .* free; chunk_size=\d+ fits") as error:
        run(network, layer, range(LANES), steps=2, chunk_size=LANES, progress=_fail)
    fitting = int(str(error.value).rsplit("chunk_size=")[1].split()[0])
    run(network, layer, range(LANES), steps=2, chunk_size=fitting)
    monkeypatch.setattr(memory, "available_bytes", lambda device: 1000)
    with pytest.raises(ValueError, match="not even the least, 8 lanes, fits"):
        run(network, layer, range(LANES), steps=2, progress=_fail)


def _fail(done, total):
    raise AssertionError("it began")
