"""Any Flax network through the fast convolutions: the same layers, parameters and numbers."""

from __future__ import annotations

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import nd_jax as nd
from nd_jax.networks.fast import fast_convolutions


class Foreign(nn.Module):
    """Someone's network: convolutions of every kind, none of them ours."""

    def setup(self):
        self.again = nn.Conv(4, (3, 3), kernel_dilation=2, name="again")

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.relu(nn.Conv(6, (3, 3), (2, 2), name="first")(x))
        x = nn.relu(nn.Conv(6, (3, 3), feature_group_count=6, name="grouped")(x))
        x = nn.relu(nn.ConvTranspose(4, (4, 4), (2, 2), name="up")(x))
        x = self.again(nn.relu(self.again(x)))
        return nn.Dense(3, name="head")(x.mean(axis=(1, 2)))


def _network(fast, key=0):
    module, domain = Foreign(), nd.domain.Image(shape=(12, 10, 2), low=0.0, high=1.0)
    variables = module.init(jax.random.key(key), jnp.zeros((1, *domain.shape)))
    return nd.Network(module, variables, input=domain, apply_kwargs={"train": False}, fast_convolutions=fast)


def _jaxpr(function, *arguments):
    return str(jax.make_jaxpr(function)(*arguments))


@pytest.mark.parametrize(
    ("rank", "flipped", "padding"),
    [(1, False, "SAME"), (1, True, "explicit"), (2, True, "VALID"), (2, False, "SAME"), (1, True, "CIRCULAR")],
)
def test_transposed_layers(rank, flipped, padding, getkey):
    """Every kernel, stride and dilation of `nn.ConvTranspose`, where kernels may be shorter than strides."""
    x = jax.random.normal(getkey(), (2, 7, 6, 3)[: rank + 1] + (3,))
    for kernel, stride, dilation in ((4, 2, 1), (2, 3, 1), (3, 2, 2)):
        layer = nn.ConvTranspose(
            4,
            (kernel,) * rank,
            (stride,) * rank,
            ((2, 3),) * rank if padding == "explicit" else padding,
            (dilation,) * rank,
            transpose_kernel=flipped,
        )
        variables = layer.init(getkey(), x)

        def run(x, fast, layer=layer, variables=variables):
            with fast_convolutions(fast):
                return layer.apply(variables, x)

        ours, wanted = jax.jit(lambda x, run=run: (run(x, True), run(x, False)))(x)
        chex.assert_trees_all_close(ours, wanted, rtol=0, atol=1e-5 * float(jnp.abs(wanted).max()))
    assert ("nd_conv" in _jaxpr(lambda x: run(x, True), x)) == (padding != "CIRCULAR")


def test_foreign_network(tmp_path, getkey):
    """Reading, editing, saving: only the arithmetic differs, and with the switch off nothing does."""
    plain, fast = _network(False), _network(True)
    x = jax.random.uniform(getkey(), (2, *plain.input.shape))
    assert nd.taps.layers(plain) == nd.taps.layers(fast)
    names = tuple(nd.taps.layers(plain))
    assert {"first", "grouped", "up", "again", "again#2", "head"} <= set(names)
    chex.assert_trees_all_close(nd.taps.read(fast, x, names), nd.taps.read(plain, x, names), rtol=1e-4, atol=1e-5)
    edits = [nd.taps.Ablate("up", units=[1]), nd.taps.Scale("again#2", units=[0], factor=2.0)]
    chex.assert_trees_all_close(nd.taps.edited(fast, edits)(x), nd.taps.edited(plain, edits)(x), rtol=1e-4, atol=1e-5)
    assert not bool(jnp.allclose(nd.taps.edited(fast, edits)(x), fast(x), rtol=1e-4))
    assert "nd_conv" not in _jaxpr(lambda x: plain(x), x)
    # Four of the five calls of a convolution (the grouped one is XLA's own).
    assert _jaxpr(lambda x: fast(x), x).count(" nd_conv") == 4
    fast.save(tmp_path / "fast")
    again = nd.load(tmp_path / "fast", module=Foreign())
    assert again.fast_convolutions
    chex.assert_trees_all_equal(again(x), fast(x))
    plain.save(tmp_path / "plain")
    assert not nd.load(tmp_path / "plain", module=Foreign()).fast_convolutions


def test_parameters_are_made_as_ever(getkey):
    x = jnp.ones((1, 12, 10, 2))
    key = getkey()
    with fast_convolutions():
        found = Foreign().init(key, x)
    chex.assert_trees_all_equal(found, Foreign().init(key, x))


def test_the_switch_is_true_or_false():
    with pytest.raises(ValueError, match="fast_convolutions must be True or False, got 'yes'"):
        _network("yes")


def test_visualized(getkey):
    """The same pictures come out of a run with the switch on."""
    key = getkey()
    runs = [
        nd.visualize_batch(net, nd.objectives.channel("up", range(3)), key=key, steps=4)
        for net in (_network(False), _network(True))
    ]
    chex.assert_trees_all_close(runs[0].inputs, runs[1].inputs, rtol=0, atol=1e-3)
