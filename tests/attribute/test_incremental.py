"""Recomputing what a window reaches gives what whole forward passes give, on networks of every kind."""

from __future__ import annotations

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax.attribute import sweep
from nd_jax.attribute.incremental import planned
from nd_jax.attribute.reach import span
from nd_jax.attribute.rules import groups, slid
from nd_jax.attribute.targets import bound
from nd_jax.domain import Image, Waveform
from nd_jax.networks.conv import Conv, ConvTranspose
from nd_jax.networks.layers import Mean, MinibatchDeviation, Pool, norm
from nd_jax.networks.pooling import AdaptiveAveragePool, MaxPool

IMAGE = Image((17, 14, 2), -1.0, 1.0)


class Branches(nn.Module):
    """Many small networks side by side: each has a logit of its own, so that one that is wrong shows."""

    @nn.compact
    def __call__(self, x):
        found = {
            "strided": Mean((1, 2))(nn.relu(Conv(3, (5, 4), (2, 3), name="c0")(x))),
            "valid, flattened": nn.relu(Pool(2, "average")(Conv(2, (3, 3), padding="VALID", name="c1")(x))),
            "normalised, residual": self.residual(x),
            "pooled twice": MaxPool(3, 2, 1, True)(Pool(2)(Conv(2, (3, 3), name="c3")(x))),
            "flax's poolings": self.poolings(x),
            "groups, dilated": nn.Conv(4, (3, 3), kernel_dilation=(2, 1), feature_group_count=2, name="c5")(x),
            "adaptive": AdaptiveAveragePool((4, 5))(jnp.tanh(Conv(2, (3, 1), (2, 1), name="c6")(x))),
            "transposed axes": jnp.swapaxes(Conv(2, (1, 3), name="c7")(x), 1, 2).max(axis=2),
            "concatenated": self.concatenated(x),
            "upwards": ConvTranspose(2, (3, 3), (2, 2), name="c9")(Conv(2, (3, 3), (2, 2), name="c8")(x)),
            "places": nn.relu(Conv(2, (3, 3), name="c10")(x) * jnp.linspace(-1, 1, 476).reshape(1, 17, 14, 2)),
            "minimum, cumulated": jnp.cumsum(Conv(2, (3, 3), name="c11")(x), axis=1).min(axis=1),
            "normed over all": nn.LayerNorm(reduction_axes=(1, 2, 3), name="norm")(Conv(2, (3, 3), name="c12")(x)),
        }
        flat = {name: jnp.reshape(y, (y.shape[0], -1)) for name, y in found.items()}
        logits = [nn.Dense(1, name=f"out{place}")(y) for place, y in enumerate(flat.values())]
        return jnp.concatenate(logits, axis=-1)

    def residual(self, x):
        x = nn.relu(norm("n1", False)(Conv(3, (3, 3), name="c2", use_bias=False)(x)))
        y = norm("n2", False)(Conv(3, (3, 3), name="c2b", use_bias=False)(x))
        y = nn.relu(x + y)
        return jnp.concatenate([y.mean(axis=2), y.max(axis=2)], axis=-1)

    def poolings(self, x):
        y = Conv(3, (2, 2), padding="SAME", name="c4")(x)
        y = nn.max_pool(nn.avg_pool(y, (3, 2), (2, 2), "SAME", count_include_pad=False), (2, 2), (1, 1), "VALID")
        return y[:, 1:-1:2, ::-1]

    def concatenated(self, x):
        y = jnp.pad(x, ((0, 0), (1, 0), (0, 2), (0, 0)), constant_values=0.5)[:, :-1, :-2]
        y = jnp.concatenate([jnp.where(x > 0, x, 0.1 * x), y, jnp.ones_like(x)], axis=-1)
        return nn.relu(Conv(2, (3, 3), name="c13")(y))


class Head(nn.Module):
    """Layers in a row, then all of it into a logit."""

    layers: tuple

    @nn.compact
    def __call__(self, x):
        for layer in self.layers:
            x = layer.copy(name=None)(x) if isinstance(layer, nn.Module) else layer(x)
        return nn.Dense(2, name="out")(x.reshape(x.shape[0], -1))


def drawn(module, domain, seed=0):
    """A network of random weights, running statistics and biases too."""
    shapes = jax.eval_shape(module.init, jax.random.key(seed), jnp.zeros((1, *domain.shape)))
    generator = np.random.default_rng(seed)

    def draw(path, leaf):
        values = 0.3 * generator.standard_normal(leaf.shape) + 0.05
        return np.asarray(np.abs(values) + 0.1 if "var" in jax.tree_util.keystr(path) else values, np.float32)

    return nd.Network(module, jax.tree_util.tree_map_with_path(draw, shapes), domain)


def clips(domain, count, seed=1):
    shape = (count, *domain.shape)
    return np.random.default_rng(seed).uniform(-0.9, 0.9, shape).astype(np.float32)


def both(network, x, target, **options):
    """Maps, falls and scores by parts, and by whole passes."""
    found = [
        nd.attribute.occlusion(network, x, target, recompute=way, chunk_size=8, **options) for way in (True, False)
    ]
    return [(each.values, each.drops, each.scores) for each in found]


@pytest.fixture
def quickly_compiled():
    """A large program that runs once."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def test_maps_are_those_of_whole_passes(quickly_compiled):
    network, x = drawn(Branches(), IMAGE), clips(IMAGE, 2)
    parts, whole = both(network, x, nd.objectives.logit(range(13)), window=(4, 3, 2), stride=(4, 2, 2), baseline=0.3)
    chex.assert_trees_all_close(parts, whole, atol=1e-5, rtol=1e-5)
    assert np.all(np.abs(whole[1]).max(axis=(0, 2)) > 1e-3), "a branch that nothing reaches says nothing"


LOCAL = (
    Conv(3, (3, 3), padding="VALID"),
    nn.relu,
    Pool(2),
    Conv(3, (3, 3), (2, 1)),
    nn.relu,
    lambda x: x.max(axis=(1, 2)),
)


@pytest.mark.parametrize(
    ("windows", "boxed"),
    [
        ({"window": (5, 14, 2), "stride": (3, 14, 2), "baseline": "neighbours"}, True),
        ({"window": (16, 13, 2), "stride": (1, 1, 1), "baseline": "blur"}, False),
    ],
)
def test_bands_and_windows_larger_than_a_layer(windows, boxed):
    network, x = drawn(Head(LOCAL), IMAGE), clips(IMAGE, 3)
    parts, whole = both(network, x, [0, 1, 0], **windows)
    chex.assert_trees_all_close(parts, whole, atol=1e-5, rtol=1e-5)
    shapes = {"window": windows["window"], "stride": windows["stride"]}
    gain = sweep.chosen(job(network, x, **shapes), True).gain
    assert (gain > 1.3) is boxed


def test_samples_in_segments_and_bands():
    domain = Waveform(400, 4000)
    layers = (Conv(4, (9,), (4,)), nn.relu, Conv(3, (5,), (2,), padding="VALID"), nn.relu, lambda x: x.mean(axis=1))
    network, x = drawn(Head(layers), domain), clips(domain, 2)
    segments = [[0.0, 0.01, 0.013, 0.1], [0.0, 0.05, 0.06, 0.1]]
    for windows in ({"time": segments}, {"time": 0.02, "frequency": [0, 500, 2000], "n_fft": 64, "baseline": 0.1}):
        parts, whole = both(network, x, 1, **windows)
        chex.assert_trees_all_close(parts, whole, atol=1e-5, rtol=1e-5)
    assert sweep.chosen(job(network, x, time=0.01), True).gain > 2


def job(network, x, target=0, **windows):
    goal, _ = bound(network, target, len(x))
    other = jnp.zeros_like(x)
    return sweep.Job(network, goal, jnp.asarray(x), other, nd.attribute.grid(network.input, **windows), "values")


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.MultiHeadDotProductAttention(1)(x.reshape(x.shape[0], -1, x.shape[-1]))


class Recurrence(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.RNN(nn.GRUCell(2))(x.reshape(x.shape[0], -1, x.shape[-1]))


@pytest.mark.parametrize(
    "layers",
    [
        (Attention(),),
        (Recurrence(),),
        (nn.LayerNorm(reduction_axes=(1, 2, 3)), Conv(8, (3, 3))),
        (nn.Dense(3), jnp.fft.rfft, jnp.abs),
    ],
    ids=["attention", "recurrence", "norm", "spectrum"],
)
def test_what_is_not_local_runs_whole(layers, monkeypatch):
    monkeypatch.setattr(sweep, "_WORTH", 0.0)
    network, x = drawn(Head(layers), IMAGE), clips(IMAGE, 1)
    windows = {"window": (3, 3, 2), "stride": (3, 3, 2)}
    assert sweep.chosen(job(network, x, **windows), None) is None
    assert sweep.chosen(job(drawn(Head(LOCAL), IMAGE), x, **windows), None) is not None


def test_it_is_chosen_where_it_is_less_work():
    network = nd.load("esc10")
    x = clips(network.input, 3)
    small = job(network, x, window=(4, 4, 1), stride=(2, 2, 1))
    plan = sweep.chosen(small, None)
    assert plan is not None and plan.gain > 8
    assert sweep.chosen(small, False) is None
    # A few windows are not worth another program; windows of everything reach everything.
    assert sweep.chosen(job(network, x, window=(16, 32, 1), stride=(16, 32, 1)), None) is None
    assert sweep.chosen(job(network, x, window=(63, 127, 1)), None) is None
    again = sweep.chosen(job(network, x[:1], window=(4, 4, 1), stride=(2, 2, 1)), True)
    assert again.program == plan.program, "other clips of the same windows would compile again"


def test_others_in_a_batch_are_found_out(monkeypatch):
    """Of a network that looks at the whole batch, parts of one example say something else."""
    monkeypatch.setattr(sweep, "_WORTH", 0.0)
    module = Head((Conv(2, (3, 3)), nn.relu, MinibatchDeviation()))
    network, x = drawn(module, IMAGE), clips(IMAGE, 2)
    windows = {"window": (4, 4, 2), "stride": (4, 4, 2), "chunk_size": 8}
    with pytest.raises(ValueError, match="take recompute=False"):
        nd.attribute.occlusion(network, x, 0, recompute=True, **windows)
    told = []
    found = nd.attribute.occlusion(network, x, 0, progress=lambda *now: told.append(now), **windows)
    whole = nd.attribute.occlusion(network, x, 0, recompute=False, **windows)
    chex.assert_trees_all_equal(found.values, whole.values)
    assert told[-1] == (42, 42)
    with pytest.raises(ValueError, match="recompute is True, False or None"):
        nd.attribute.occlusion(network, x, 0, recompute="yes", **windows)


def test_where_a_sliding_window_reads_a_box():
    generator = np.random.default_rng(0)
    for _ in range(200):
        length, size, stride, dilation = generator.integers(8, 30), *generator.integers(1, 5, 3)
        low, high = generator.integers(0, size, 2)
        count = (length + low + high - (size - 1) * dilation - 1) // stride + 1
        starts = generator.integers(0, length - 4, 6)
        part = span(0, starts, starts + generator.integers(1, 5, 6), length)
        if count < 1 or part is None:
            continue
        reads = np.arange(count)[:, None] * stride - low + np.arange(size)[None] * dilation
        found = slid(part, size, stride, dilation, low, count)
        touched = [np.any((reads >= a) & (reads < b), axis=1) for a, b in zip(part.low, part.high, strict=True)]
        if found is None:
            continue
        extent = []
        for place, rows in enumerate(touched):
            where = np.flatnonzero(rows)
            extent.append(np.ptp(where) + 1 if len(where) else 1)
            assert np.all((where >= found.start[place]) & (where < found.start[place] + found.size))
        assert np.all(found.start >= 0) and np.all(found.start + found.size <= count)
        if dilation == 1 and stride <= size:
            assert found.size == max(extent)


def test_axes_of_a_reshape_that_belong_together():
    assert groups((2, 6, 5), (12, 5)) == [([0, 1], [0]), ([2], [1])]
    assert groups((1, 8, 3), (1, 4, 2, 3)) == [([0], [0]), ([1], [1, 2]), ([2], [3])]
    assert groups((4, 1, 6), (2, 12)) == [([0, 1, 2], [0, 1])]


def test_a_plan_of_an_early_layer_stops_there():
    network = drawn(Head(LOCAL), IMAGE)
    goal, _ = bound(network, nd.objectives.channel("Conv_0", 1), 1)
    early = planned(network, goal.spec, (span(0, np.arange(4), np.arange(4) + 2, 17), None, None))
    late = planned(network, bound(network, 0, 1)[0].spec, (span(0, np.arange(4), np.arange(4) + 2, 17), None, None))
    assert early.whole < late.whole
    assert len(early.program.steps) < len(late.program.steps)


def test_chunks_fit_into_memory(monkeypatch):
    asked = []

    def needed(size):
        asked.append(size)
        return 100 * size

    monkeypatch.setattr(sweep, "_room", lambda most: 10_000)
    # The guess is right; it is far off either way; there is less to do; the caller has a wish.
    assert sweep._size(None, 1000, 100, needed) == 96
    assert asked == [96]
    assert sweep._size(None, 1000, 1, needed) == 96
    assert sweep._size(None, 1000, 10_000, needed) == 96
    assert sweep._size(None, 20, 100, needed) == 20
    assert sweep._size(None, 3, 100, needed) == 8
    assert sweep._size(7, 1000, 100, needed) == 7
    assert sweep._size(7, 3, 100, needed) == 3


def test_clips_that_are_stored_one_after_the_other(monkeypatch):
    network, x = drawn(Head(LOCAL), IMAGE), clips(IMAGE, 5)
    windows = {"window": (5, 5, 2), "stride": (4, 4, 2)}
    whole = nd.attribute.occlusion(network, x, 1, recompute=False, **windows)
    plan = sweep.chosen(job(network, x, 1, **windows), True)
    monkeypatch.setattr(sweep, "_room", lambda most: 8 * plan.kept)
    parts = nd.attribute.occlusion(network, x, 1, recompute=True, **windows)
    chex.assert_trees_all_close(parts.values, whole.values, atol=1e-5, rtol=1e-5)


class Aside(nn.Module):
    """A layer that does not see the input, and whole numbers on the way."""

    @nn.compact
    def __call__(self, x):
        aside = nn.Dense(3, name="aside")(jnp.ones((x.shape[0], 4)))
        steps = jnp.round(8 * Conv(2, (3, 3), name="conv")(x)).astype(jnp.int32)
        y = jnp.concatenate([steps.max(axis=2), steps.sum(axis=2)], axis=-1).astype(jnp.float32)
        return nn.Dense(1, name="out")(y.reshape(y.shape[0], -1)) + aside[:, :1]


def test_whole_numbers_and_layers_that_see_nothing():
    network, x = drawn(Aside(), IMAGE), clips(IMAGE, 1)
    target = nd.objectives.channel("aside", [0, 1]) + nd.objectives.channel("output", 0)
    parts, whole = both(network, x, target, window=(4, 4, 2), stride=(4, 4, 2))
    chex.assert_trees_all_close(parts, whole, atol=1e-5, rtol=1e-5)
    assert np.abs(whole[1]).max() > 1e-3
