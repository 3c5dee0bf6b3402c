"""What occlusion means where the answer is known, on sound, and what it refuses."""

from __future__ import annotations

import attribution_problem
import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax.attribute.baselines import gaussian
from nd_jax.attribute.removal import neighbours
from nd_jax.domain import Image, Latent, LogMel, Parts, Waveform
from nd_jax.taps import LayerError

MEL = LogMel(nd.audio.LogMel(sample_rate=8000, n_fft=256, hop_length=80, n_mels=16, floor_db=-60.0), frames=20)


class Linear(nn.Module):
    classes: int = 2

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.classes, name="out")(x.reshape(len(x), -1))


def linear(domain, seed=0, classes=2):
    module = Linear(classes)
    return nd.Network(module, module.init(jax.random.key(seed), jnp.zeros((1, *domain.shape))), domain)


def clips(domain, count, seed=0):
    shape = (count, *domain.shape)
    return np.random.default_rng(seed).uniform(0.1, 0.9, shape).astype(np.float32)


def test_of_a_linear_network_it_is_weights_times_input():
    domain = Image((6, 5, 1), 0.0, 1.0)
    network, x = linear(domain), clips(domain, 2)
    weights = np.asarray(network.variables["params"]["out"]["kernel"]).reshape(*domain.shape, 2)
    found = nd.attribute.occlusion(network, x, 1, window=1, baseline=0.0)
    chex.assert_trees_all_close(found.values, x * weights[..., 1], atol=1e-5)
    assert found.shape == x.shape
    assert np.asarray(found).shape == x.shape
    # All at once is all of the score but the bias.
    whole = nd.attribute.occlusion(network, x[0], 1, window=(6, 5, 1), baseline=0.0)
    chex.assert_trees_all_close(whole.drops, (x[0] * weights[..., 1]).sum()[None], rtol=1e-4)
    assert whole.shape == domain.shape
    assert whole.scores.shape == ()


def test_a_network_that_does_not_look_gives_nothing():
    domain = Image((6, 5, 1), 0.0, 1.0)
    network = linear(domain)
    blind = nd.Network(network.module, jax.tree.map(jnp.zeros_like, network.variables), domain)
    found = nd.attribute.occlusion(blind, clips(domain, 1), 0, window=2, baseline=0.0)
    chex.assert_trees_all_equal(found.values, np.zeros((1, 6, 5, 1), np.float32))


def test_chunks_and_other_clips_change_nothing():
    network = attribution_problem.tiny()
    x = clips(network.input, 3)
    calls = []
    options = {"window": 4, "stride": 2, "baseline": "noise", "key": jax.random.key(3)}
    together = nd.attribute.occlusion(
        network, x, [0, 1, 2], chunk_size=7, progress=lambda *now: calls.append(now), **options
    )
    alone = nd.attribute.occlusion(network, x[1], 1, chunk_size=1000, **options)
    chex.assert_trees_all_close(together.values[1], alone.values, atol=1e-6)
    assert calls[-1] == (3 * 20 + 3, 3 * 20 + 3)
    assert together.labels == ("output:0", "output:1", "output:2")
    assert together.drops.shape == (3, 20)


def test_units_and_layers_are_targets():
    network = attribution_problem.tiny()
    x = clips(network.input, 2)
    target = nd.objectives.channel("conv2", [0, 3])
    found = nd.attribute.occlusion(network, x, target, window=4, stride=4, baseline="mean")
    assert found.shape == (2, 2, *network.input.shape)
    assert found.labels == ("conv2:0", "conv2:3")
    read = np.asarray(nd.taps.read(network, x, "conv2")["conv2"]).mean(axis=(1, 2))[:, [0, 3]]
    chex.assert_trees_all_close(found.scores, read, rtol=1e-4, atol=1e-6)
    assert found.along("row").shape == (2, 2, 12)


def test_seconds_and_bands_find_what_was_planted():
    network = linear(MEL, classes=1)
    weights = np.zeros((*MEL.shape, 1), np.float32)
    weights[3:6, 8:12] = 1.0
    planted = {"params": {"out": {"kernel": weights.reshape(-1, 1), "bias": np.zeros(1, np.float32)}}}
    network = nd.Network(network.module, planted, MEL)
    x = clips(MEL, 1)[0]
    in_time = nd.attribute.occlusion(network, x, 0, time=0.04)
    assert np.argmax(in_time.drops) == 2
    chex.assert_trees_all_close(in_time.drops[[0, 1, 3, 4]], np.zeros(4, np.float32), atol=1e-5)
    edges = np.asarray([0.0, MEL.axes[0].values[3], MEL.axes[0].values[6], 4000.0]) - 1e-3
    in_bands = nd.attribute.occlusion(network, x, 0, frequency=np.maximum(edges, 0))
    chex.assert_trees_all_close(in_bands.drops, np.array([0, x[3:6, 8:12].sum(), 0], np.float32), atol=1e-4)
    # Silence is the floor of a log-mel.
    silent = nd.attribute.occlusion(network, np.zeros(MEL.shape, np.float32), 0, time=0.04)
    chex.assert_trees_all_equal(silent.values, np.zeros(MEL.shape, np.float32))


def test_samples_in_segments_of_each_clips_own():
    domain = Waveform(800, 8000)
    network, x = linear(domain), clips(domain, 2)
    found = nd.attribute.occlusion(network, x, 0, time=[[0.0, 0.02, 0.1], [0.0, 0.05, 0.06, 0.1]])
    weights = np.asarray(network.variables["params"]["out"]["kernel"])[:, 0]
    parts = (x[..., 0] * weights)[0]
    expected = np.array([parts[:160].sum(), parts[160:].sum(), 0.0])
    chex.assert_trees_all_close(found.drops[0], expected.astype(np.float32), atol=1e-4)
    chex.assert_trees_all_close(found.values[0, :160, 0], np.full(160, expected[0], np.float32), atol=1e-4)


def test_baselines():
    x = jnp.asarray(clips(MEL, 2))
    of = nd.attribute.baseline_of
    chex.assert_trees_all_equal(of(MEL, x, "silence"), jnp.zeros_like(x))
    chex.assert_trees_all_close(of(MEL, x, "mean")[1], jnp.full(MEL.shape, jnp.mean(x[1])), rtol=1e-5)
    band = of(MEL, x, "band_mean")
    chex.assert_trees_all_close(band[:, :, 5], jnp.mean(x, axis=2), rtol=1e-5)
    noise = of(MEL, x, "noise", key=jax.random.key(0))
    assert float(jnp.min(noise)) >= 0.0
    chex.assert_trees_all_equal(noise[1], of(MEL, x[1:], "noise", key=jax.random.key(0))[0])
    chex.assert_trees_all_close(jnp.mean(noise, axis=2), jnp.mean(x, axis=2), atol=0.25)
    chex.assert_trees_all_equal(of(MEL, x, x[0])[1], x[0])
    matrix = gaussian(20, 3.0)
    chex.assert_trees_all_close(matrix.sum(axis=1), np.ones(20), rtol=1e-5)
    chex.assert_trees_all_close(of(MEL, x, "blur", blur=1e-2), x, rtol=1e-5)
    flat = of(MEL, x, "blur", blur=200.0)
    chex.assert_trees_all_close(flat, of(MEL, x, "mean"), atol=0.01)


def test_neighbours_go_straight_across():
    x = jnp.asarray(np.add.outer(2.0 * np.arange(6), np.arange(8.0))[..., None], jnp.float32)
    for start, end in [((0, 2, 0), (6, 5, 1)), ((1, 3, 0), (4, 6, 1)), ((2, 0, 0), (4, 8, 1))]:
        found = neighbours(x, jnp.zeros_like(x), jnp.asarray(start), jnp.asarray(end))
        inside = tuple(slice(*pair) for pair in zip(start, end, strict=True))
        chex.assert_trees_all_close(found[inside], x[inside], atol=1e-5)
    # At an end the one neighbour goes on; without any stands the baseline.
    edge = neighbours(x, jnp.zeros_like(x), jnp.asarray((0, 6, 0)), jnp.asarray((6, 8, 1)))
    chex.assert_trees_all_close(edge[:, 6:, 0], jnp.repeat(x[:, 5], 2, axis=1))
    nothing = neighbours(x, jnp.full_like(x, 7.0), jnp.asarray((0, 0, 0)), jnp.asarray((6, 8, 1)))
    chex.assert_trees_all_equal(nothing, jnp.full_like(x, 7.0))


class Plain(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2, name="out")(x["z"])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": np.zeros((2, 3))}, ValueError, "input has shape"),
        ({"x": np.full((12, 10, 1), np.nan)}, ValueError, "finite"),
        ({"x": np.zeros((0, 12, 10, 1))}, ValueError, "no clips"),
        ({"target": 3}, ValueError, "units 0 to 2"),
        ({"target": [0, 1]}, ValueError, "2 classes are given for 1 clip:"),
        ({"target": "dog"}, ValueError, "have no names"),
        ({"target": None}, ValueError, "not None"),
        ({"target": nd.objectives.channel("conv3", 0)}, LayerError, "no layer 'conv3'"),
        ({"target": nd.objectives.diversity("conv1")}, ValueError, "diversity compares several inputs"),
        ({"baseline": "silent"}, ValueError, "unknown baseline 'silent'.*silence"),
        ({"baseline": "noise"}, ValueError, "give key="),
        ({"baseline": "band_mean"}, ValueError, "needs a domain with a time axis"),
        ({"baseline": "blur", "blur": 0.0}, ValueError, "blur is a finite number of steps above 0"),
        ({"baseline": np.zeros((3, 3))}, ValueError, "a baseline is a name, one number"),
        ({"baseline": np.nan}, ValueError, "finite"),
        ({"chunk_size": 0}, ValueError, "chunk_size"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(change, error, message, monkeypatch):
    network = attribution_problem.tiny()

    def compiled(*_, **__):
        raise AssertionError("it went on to compile")

    monkeypatch.setattr(nd.attribute.targets, "scores", compiled)
    options = {"x": np.zeros((12, 10, 1)), "target": 0, "window": 3} | change
    with pytest.raises(error, match=message) as caught:
        nd.attribute.occlusion(network, options.pop("x"), options.pop("target"), **options)
    assert len(str(caught.value).splitlines()) == 1


def test_a_network_of_several_inputs_is_refused():
    module = Plain()
    domain = Parts({"z": Latent(3)})
    network = nd.Network(module, module.init(jax.random.key(0), {"z": jnp.zeros((1, 3))}), domain)
    with pytest.raises(ValueError, match="networks that take one array"):
        nd.attribute.occlusion(network, {"z": np.zeros(3)}, 0, window=1)
