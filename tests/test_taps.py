"""Layers by name: listing, reading, overwriting, and the shapes of module that make it hard."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd


class Plain(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(4, (3, 3), name="conv")(x)
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        x = nn.relu(x)
        return nn.Dense(3, name="head")(x.mean(axis=(1, 2)))


class Shared(nn.Module):
    def setup(self):
        self.same = nn.Dense(4)
        self.split = Split()

    def __call__(self, x):
        once = self.same(x)
        left, right = self.split(once)
        return self.same(left + right)


class Split(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(4, name="left")(x), nn.Dense(4, name="right")(x)


class Remat(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.remat(nn.Dense)(4, name="first")(x)
        return nn.Dense(2, name="second")(x)


class Recurrent(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.RNN(nn.SimpleCell(features=5), name="rnn")(x)
        return nn.Dense(2, name="head")(x[:, -1])


class Scanned(nn.Module):
    @nn.compact
    def __call__(self, x):
        def body(module, carry, _):
            return nn.Dense(4, name="inner")(carry), None

        loop = nn.scan(body, variable_broadcast="params", split_rngs={"params": False}, length=3)
        x, _ = loop(self, x, None)
        return nn.Dense(2, name="outer")(x)


class CollectedScan(nn.Module):
    """Passes intermediates out of the loop, with the steps in front of the batch."""

    @nn.compact
    def __call__(self, x):
        def body(module, carry, _):
            return nn.Dense(4, name="inner")(carry), None

        settings = {"variable_broadcast": "params", "split_rngs": {"params": False}}
        loop = nn.scan(body, variable_axes={"intermediates": 0}, length=2, **settings)
        x, _ = loop(self, x, None)
        return nn.Dense(2, name="outer")(x)


class Mapped(nn.Module):
    @nn.compact
    def __call__(self, x):
        many = nn.vmap(nn.Dense, variable_axes={"params": 0, "intermediates": 0}, split_rngs={"params": True},
                       in_axes=None, axis_size=2)  # fmt: skip
        return nn.Dense(2, name="outer")(many(4, name="inner")(x).mean(axis=0))


class RematScan(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.remat_scan(nn.Dense, lengths=(2,))(4, name="inner")(x)
        return nn.Dense(2, name="outer")(x)


class TimeDistributed(nn.Module):
    @nn.compact
    def __call__(self, x):
        frames = nn.Dense(4, name="inner")(x.reshape(-1, 2))
        return nn.Dense(2, name="outer")(frames.reshape(len(x), -1))


class Critic(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1, name="score")(x)[:, 0]


class NormedByDefault(nn.Module):
    @nn.compact
    def __call__(self, x, train=True):
        return nn.BatchNorm(use_running_average=not train)(x)


class Heads(nn.Module):
    @nn.compact
    def __call__(self, x):
        return {"a": nn.Dense(2, name="a")(x), "b": nn.Dense(3, name="b")(x)}


class ListField(nn.Module):
    sizes: list

    @nn.compact
    def __call__(self, x):
        for size in self.sizes:
            x = nn.Dense(size)(x)
        return x


def network(module, shape, **settings):
    x = jnp.zeros((1, *shape))
    domain = nd.domain.Image(shape) if len(shape) == 3 else nd.domain.Latent(shape[0])
    if len(shape) == 2:
        domain = nd.domain.Waveform(shape[0], 8000)
    return nd.Network(module, module.init(jax.random.key(0), x), input=domain, **settings)


@pytest.fixture
def plain():
    return network(Plain(), (6, 5, 1), apply_kwargs={"train": False})


def test_layers_in_order_with_shapes(plain):
    assert nd.taps.layers(plain) == {"conv": (6, 5, 4), "norm": (6, 5, 4), "head": (3,)}
    assert list(nd.taps.layers(plain)) == ["conv", "norm", "head"]


def test_read_is_what_the_module_computes(plain, getkey):
    x = jax.random.normal(getkey(), (2, 6, 5, 1))
    read = nd.taps.read(plain, x, ["conv", "head"])
    conv = nn.Conv(4, (3, 3)).apply({"params": plain.variables["params"]["conv"]}, x)
    chex.assert_trees_all_close(read["conv"], conv, atol=1e-6)
    chex.assert_trees_all_close(read["head"], plain(x), atol=1e-6)


def test_read_of_one_name_and_of_the_output(plain):
    x = jnp.ones((1, 6, 5, 1))
    chex.assert_shape(nd.taps.read(plain, x, "conv")["conv"], (1, 6, 5, 4))
    chex.assert_trees_all_close(nd.taps.read(plain, x, ["output"])["output"], plain(x))


def test_wrong_names_fail_with_near_ones(plain):
    with pytest.raises(nd.taps.LayerError, match="no layer 'cnv' in this network; did you mean 'conv'"):
        nd.taps.read(plain, jnp.zeros((1, 6, 5, 1)), ["cnv"])
    with pytest.raises(ValueError, match=r"input has shape \(6, 5, 1\).*x\[None\]"):
        nd.taps.read(plain, jnp.zeros((6, 5, 1)), ["conv"])


def test_reading_early_costs_nothing_of_what_follows(plain):
    def flops(names):
        lowered = jax.jit(lambda net, x: nd.taps.read(net, x, names)).lower(plain, jnp.zeros((1, 6, 5, 1)))
        return lowered.compile().cost_analysis()["flops"]

    alone = jax.jit(lambda p, x: nn.Conv(4, (3, 3)).apply({"params": p}, x))
    expected = alone.lower(plain.variables["params"]["conv"], jnp.zeros((1, 6, 5, 1))).compile().cost_analysis()
    assert flops(["conv"]) == expected["flops"] < flops(["head"])


def test_edit_changes_what_follows(plain, getkey):
    x = jax.random.normal(getkey(), (2, 6, 5, 1))
    out = nd.taps.edit(plain, x, {"norm": lambda a: a.at[..., 1].set(0.0)})
    hidden = nd.taps.read(plain, x, ["norm"])["norm"].at[..., 1].set(0.0)
    head = plain.variables["params"]["head"]
    expected = nn.relu(hidden).mean(axis=(1, 2)) @ head["kernel"] + head["bias"][None]
    chex.assert_trees_all_close(out, expected, atol=1e-5)
    chex.assert_trees_all_close(nd.taps.edit(plain, x, {"conv": lambda a: a}), plain(x), atol=1e-6)


def test_edit_refuses_another_shape_and_the_output(plain):
    x = jnp.zeros((1, 6, 5, 1))
    with pytest.raises(ValueError, match="the edit of layer 'conv' changes its shape"):
        nd.taps.edit(plain, x, {"conv": lambda a: a[..., :2]})
    with pytest.raises(nd.taps.LayerError, match="is the network's output, not a layer"):
        nd.taps.edit(plain, x, {"output": lambda a: a})


@pytest.mark.parametrize(
    ("make", "function"),
    [
        (lambda: nd.taps.Ablate("norm", [1, 3]), lambda a: a.at[..., jnp.array([1, 3])].set(0.0)),
        (lambda: nd.taps.Scale("norm", [0], 2.0), lambda a: a.at[..., 0].multiply(2.0)),
        (lambda: nd.taps.Scale("norm", [0, 1], [2.0, 3.0]), lambda a: a * jnp.array([2.0, 3, 1, 1])[None, None, None]),
        (lambda: nd.taps.Clamp("norm", [2], 0.0, 0.1), lambda a: a.at[..., 2].set(jnp.clip(a[..., 2], 0, 0.1))),
        (lambda: nd.taps.Insert("norm", [2], 0.7), lambda a: a.at[..., 2].set(0.7)),
        (lambda: nd.taps.Ablate("norm"), jnp.zeros_like),
        (lambda: nd.taps.Ablate("norm", range(4)), jnp.zeros_like),
    ],
)
def test_edits_as_data_equal_functions(plain, getkey, make, function):
    x = jax.random.normal(getkey(), (2, 6, 5, 1))
    changed = nd.taps.edited(plain, [make()])
    chex.assert_trees_all_close(changed(x), nd.taps.edit(plain, x, {"norm": function}), atol=1e-6)
    chex.assert_trees_all_close(
        nd.taps.read(changed, x, ["norm"])["norm"], function(nd.taps.read(plain, x, "norm")["norm"]), atol=1e-6
    )


def test_edits_trace_once_and_batch(plain, getkey):
    x = jax.random.normal(getkey(), (2, 6, 5, 1))
    traces = []

    @jax.jit
    def run(net):
        traces.append(1)
        return net(x)

    for unit in range(4):
        run(nd.taps.edited(plain, [nd.taps.Ablate("norm", np.array([unit]))]))
    assert len(traces) == 1
    many = jax.vmap(lambda unit: nd.taps.edited(plain, [nd.taps.Ablate("norm", unit[None])])(x))(jnp.arange(4))
    chex.assert_trees_all_close(many[2], nd.taps.edited(plain, [nd.taps.Ablate("norm", [2])])(x), atol=1e-6)


def test_edits_take_one_or_many_and_say_what_they_want(plain):
    x = jnp.ones((1, 6, 5, 1))
    chex.assert_trees_all_equal(
        nd.taps.edited(plain, nd.taps.Ablate("norm"))(x), nd.taps.edited(plain, [nd.taps.Ablate("norm")])(x)
    )
    for wrong in ([nd.taps.Ablate("norm")], {"norm": jnp.zeros(3)}):
        with pytest.raises(ValueError, match=r"edit takes \{layer name: function\}"):
            nd.taps.edit(plain, x, wrong)


def test_edited_checks_layers_and_units(plain):
    with pytest.raises(nd.taps.LayerError, match="did you mean 'norm'"):
        nd.taps.edited(plain, [nd.taps.Ablate("norn")])
    with pytest.raises(ValueError, match="layer 'norm' has units 0 to 3, got unit 4"):
        nd.taps.edited(plain, [nd.taps.Ablate("norm", [4])])
    with pytest.raises(ValueError, match="must be integers"):
        nd.taps.edited(plain, [nd.taps.Ablate("norm", [0.5])])


def test_shared_modules_and_tuples(getkey):
    net = network(Shared(), (4,))
    shapes = nd.taps.layers(net)
    assert {"same", "same#2", "split[0]", "split[1]", "split/left", "split/right"} == set(shapes)
    x = jax.random.normal(getkey(), (2, 4))
    read = nd.taps.read(net, x, list(shapes))
    chex.assert_trees_all_close(read["same#2"], net(x))
    chex.assert_trees_all_close(read["split[1]"], read["split/right"])
    silent = nd.taps.edit(net, x, {"same": jnp.zeros_like})
    again = nd.taps.edit(net, x, {"same#2": jnp.zeros_like})
    chex.assert_trees_all_close(again, jnp.zeros_like(again))
    assert jnp.any(silent != again) or jnp.all(silent == 0)
    without = nd.taps.edit(net, x, {"split[0]": jnp.zeros_like})
    dense = net.variables["params"]["same"]
    chex.assert_trees_all_close(without, read["split[1]"] @ dense["kernel"] + dense["bias"][None], atol=1e-5)


def test_remat_is_read_and_overwritten(getkey):
    net = network(Remat(), (4,))
    x = jax.random.normal(getkey(), (2, 4))
    assert list(nd.taps.layers(net)) == ["first", "second"]
    hidden = nd.taps.read(net, x, ["first"])["first"]
    second = net.variables["params"]["second"]
    chex.assert_trees_all_close(net(x), hidden @ second["kernel"] + second["bias"][None], atol=1e-6)
    zero = nd.taps.edit(net, x, {"first": jnp.zeros_like})
    chex.assert_trees_all_close(zero, jnp.broadcast_to(second["bias"], zero.shape))
    gradient = jax.grad(lambda v: nd.taps.read(net, v, ["first"])["first"].sum())(x)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("module", "shape", "inside"), [(Recurrent(), (7, 1), "SimpleCell_0"), (Scanned(), (4,), "inner")]
)
def test_layers_inside_loops_are_listed_as_unreadable(module, shape, inside):
    net = network(module, shape)
    assert any(inside in name for name in nd.taps.unreadable(net))
    assert not any(inside in name for name in nd.taps.layers(net))
    hidden = next(name for name in nd.taps.unreadable(net) if inside in name)
    with pytest.raises(nd.taps.LayerError, match="cannot be read: it is called inside nn.scan"):
        nd.taps.read(net, jnp.zeros((1, *shape)), [hidden])
    with pytest.raises(nd.taps.LayerError, match="cannot be read"):
        nd.taps.edit(net, jnp.zeros((1, *shape)), {hidden: jnp.zeros_like})
    assert set(nd.taps.layers(net)) & {"head", "outer"}


@pytest.mark.parametrize("module", [CollectedScan(), Mapped(), RematScan(), TimeDistributed()])
def test_layers_without_a_batch_axis_are_not_readable(module):
    net = network(module, (4,))
    hidden = [name for name in nd.taps.unreadable(net) if "inner" in name]
    assert hidden
    assert list(nd.taps.layers(net)) == ["outer"]
    with pytest.raises(nd.taps.LayerError, match="cannot be read"):
        nd.taps.read(net, jnp.zeros((3, 4)), hidden[:1])


def test_a_single_number_is_one_unit():
    net = network(Critic(), (4,))
    assert nd.taps.units(net, "output") == 1
    result = nd.visualize_batch(net, nd.objectives.logit(0), key=jax.random.key(0), steps=5, progress=False)
    assert result.history[-1] > result.history[0]


def test_a_network_that_does_not_run_is_refused():
    with pytest.raises(ValueError, match=r"NormedByDefault does not run on inputs .*apply_kwargs, such as"):
        network(NormedByDefault(), (4,))
    variables = Critic().init(jax.random.key(0), jnp.zeros((1, 4)))
    with pytest.raises(ValueError, match="Critic does not run on inputs of shape"):
        nd.Network(Critic(), variables, input=nd.domain.Latent(7))


def test_rnn_output_itself_is_readable():
    net = network(Recurrent(), (7, 1))
    chex.assert_shape(nd.taps.read(net, jnp.zeros((2, 7, 1)), ["rnn"])["rnn"], (2, 7, 5))


def test_dict_outputs():
    net = network(Heads(), (4,))
    assert nd.taps.output_shapes(net) == {"output[a]": (2,), "output[b]": (3,)}
    chex.assert_shape(nd.taps.read(net, jnp.zeros((2, 4)), ["output[b]"])["output[b]"], (2, 3))
    assert isinstance(net.output, nd.domain.Parts)


def test_unhashable_module_fields_work():
    net = network(ListField([4, 3]), (4,))
    assert nd.taps.layers(net) == {"Dense_0": (4,), "Dense_1": (3,)}
    chex.assert_shape(net(jnp.zeros((2, 4))), (2, 3))


def test_outputs_name_the_layers_they_are():
    class Heads(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Dense(4, name="body")(x)
            left, right = Split(name="split")(x)
            return {"left": left, "soft": nn.softmax(right), "again": nn.Dense(2, name="again")(right)}

    module = Heads()
    network = nd.Network(module, module.init(jax.random.key(0), jnp.zeros((1, 3))), input=nd.domain.Latent(3))
    found = nd.taps.outputs(network)
    assert found == {"output[again]": "again", "output[left]": "split/left", "output[soft]": ""} or found == {
        "output[again]": "again",
        "output[left]": "split[0]",
        "output[soft]": "",
    }
