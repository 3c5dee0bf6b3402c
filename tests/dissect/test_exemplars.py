"""The natural clips at the quantiles of a unit's activation, against a direct computation."""

from __future__ import annotations

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nd_jax import taps
from nd_jax.audio import LogMel as Transform
from nd_jax.dissect import Exemplars, exemplars, record, recorded_exemplars
from nd_jax.domain import Image, LogMel, Waveform
from nd_jax.network import Network

DOMAIN = LogMel(Transform(sample_rate=8000, n_fft=256, hop_length=128, n_mels=16, f_min=60.0), frames=24)


class Net(nn.Module):
    """One convolution with a dead unit, and a head."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.Conv(5, (3, 3), strides=(2, 2), name="conv")(x))
        x = x * jnp.array([1.0, 1.0, 1.0, 1.0, 0.0])[None, None, None]
        x = nn.Dense(5, use_bias=False, kernel_init=lambda *_: jnp.eye(5), name="last")(x)
        return nn.Dense(3, name="head")(x.mean((1, 2)))


@pytest.fixture(scope="module")
def network():
    module = Net()
    variables = module.init(jax.random.key(2), jnp.zeros((1, *DOMAIN.shape)))
    return Network(module, variables, input=DOMAIN)


@pytest.fixture(scope="module")
def waves():
    random = np.random.default_rng(4)
    time = np.arange(DOMAIN.samples) / 8000
    pitches = random.uniform(100, 3500, 41)
    return (random.uniform(0.01, 0.5, (41, 1)) * np.sin(2 * np.pi * pitches[:, None] * time)).astype(np.float32)


def test_the_right_clips_stand_at_every_quantile(network, waves):
    found = exemplars(network, waves, layers=["last", "output"], sample_rate=8000, batch_size=7, progress=False)
    inputs = DOMAIN.from_wave(waves)
    direct = {"last": taps.read(network, inputs, ["last"])["last"].mean((1, 2)), "output": network(inputs)}
    chex.assert_shape(found.clips["last"], (5, 4))
    for layer, values in direct.items():
        values = np.asarray(values)
        for unit in range(values.shape[1]):
            if found.constant[layer][unit]:
                continue
            ranked = np.sort(values[:, unit])[::-1]
            for column, rank in enumerate((0, 1, 2, 10)):
                assert found.ranks[layer][unit, column] == rank
                clip = found.clips[layer][unit, column]
                chex.assert_trees_all_close(found.activations[layer][unit, column], ranked[rank], atol=1e-5)
                chex.assert_trees_all_close(values[clip, unit], ranked[rank], atol=1e-5)
    assert found.count == 41
    assert found.sample_rate == 8000
    assert found.seconds == pytest.approx(DOMAIN.samples / 8000)


def test_curves_are_the_unit_over_time_on_that_clip(network, waves):
    found = exemplars(network, waves, layers=["last", "output"], progress=False)
    values = np.asarray(taps.read(network, DOMAIN.from_wave(waves), ["last"])["last"]).mean(axis=1)
    chex.assert_shape(found.curves["last"], (5, 4, 12))
    for unit in range(5):
        for column in range(4):
            expected = values[found.clips["last"][unit, column], :, unit]
            chex.assert_trees_all_close(found.curves["last"][unit, column], expected, atol=1e-5)
    assert "output" not in found.curves, "an output has no time"
    chex.assert_trees_all_close(found.times("last"), (np.arange(12) + 0.5) / 12 * found.seconds)


def test_dead_units_are_flagged(network, waves):
    found = exemplars(network, waves, layers=["last"], progress=False)
    assert found.constant["last"][4]
    assert not found.constant["last"].all()


def test_kept_clips_are_those_shown_with_their_sounds_and_names(network, waves):
    names = [f"sound {index}" for index in range(41)]
    found = exemplars(network, waves, layers=["last"], names=names, progress=False)
    assert set(found.kept) == set(found.clips["last"].ravel())
    for clip in found.kept:
        position = found.position(int(clip))
        assert found.names[position] == f"sound {clip}"
        chex.assert_trees_all_close(found.waves[position], waves[clip])
        chex.assert_trees_all_close(found.inputs[position], np.asarray(DOMAIN.from_wave(waves[clip])), atol=1e-6)
    with pytest.raises(ValueError, match="not among the"):
        found.position(10_000)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_bank_smaller_than_the_quantiles_shows_every_clip_once(network, waves, count):
    found = exemplars(network, waves[:count], layers=["last"], progress=False)
    for row in found.clips["last"]:
        assert sorted(row[row >= 0]) == list(range(count))
        assert (row[count:] == -1).all()
    assert np.isnan(found.activations["last"][:, count:]).all()


def test_the_batch_size_does_not_matter(network, waves):
    small, large = (exemplars(network, waves, layers=["last"], batch_size=size, progress=False) for size in (4, 100))
    chex.assert_trees_all_equal(small.clips, large.clips)
    chex.assert_trees_all_close(small.curves, large.curves, atol=1e-6)


def test_save_and_load(network, waves, tmp_path):
    found = exemplars(network, waves, layers=["last", "output"], names=["a"] * 41, progress=False)
    read = Exemplars.load(found.save(tmp_path / "bank"))
    for field in ("clips", "ranks", "activations", "curves", "constant", "spread", "kept", "inputs", "waves"):
        chex.assert_trees_all_equal(getattr(read, field), getattr(found, field))
    for field in ("quantiles", "count", "sample_rate", "seconds", "names", "layers"):
        assert getattr(read, field) == getattr(found, field)
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match=r"other.npz was not written by Exemplars.save"):
        Exemplars.load(tmp_path / "other.npz")


def test_inputs_may_be_given_instead_of_sounds():
    domain = Image((8, 8, 1))

    class Small(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            return nn.Conv(3, (3, 3), name="conv")(x).mean((1, 2))

    module = Small()
    network = Network(module, module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1))), input=domain)
    found = exemplars(
        network, inputs=np.random.default_rng(0).uniform(size=(9, 8, 8, 1)), layers=["conv"], progress=False
    )
    assert found.waves is None
    assert not found.curves
    with pytest.raises(ValueError, match="takes no sounds; give inputs="):
        exemplars(network, np.zeros((3, 64)), layers=["conv"], progress=False)


def test_waveform_networks_read_the_sounds_themselves():
    class Small(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            return nn.Conv(3, (9,), strides=(4,), name="conv")(x).mean(1)

    module = Small()
    network = Network(module, module.init(jax.random.key(0), jnp.zeros((1, 64, 1))), input=Waveform(64, 8000))
    found = exemplars(network, np.eye(6, 64, dtype=np.float32), layers=["conv"], progress=False)
    chex.assert_shape(found.curves["conv"], (3, 4, 16))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"waves": None}, "one of the two"),
        ({"waves": np.zeros((3, 10))}, r"takes \(n, \d+\); bring sounds to length"),
        ({"waves": np.zeros((0, 10))}, "is empty"),
        ({"sample_rate": 44100}, "44100 Hz, but the network takes 8000 Hz"),
        ({"names": ["a"]}, "1 names for 41 clips"),
        ({"quantiles": (1.5,)}, "between 0 and 1"),
        ({"layers": "last"}, "a list of layer names"),
        ({"layers": ["lats"]}, "last"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(network, waves, changes, message):
    settings = {"waves": waves, "layers": ["last"], "progress": False, **changes}
    with pytest.raises(ValueError, match=message):
        exemplars(network, settings.pop("waves"), **settings)


def test_those_of_a_record_are_the_same_and_only_what_is_shown_is_read(network, waves, tmp_path):
    whole = exemplars(network, waves, layers=["last", "output"], sample_rate=8000, batch_size=8, progress=False)
    kept = record(network, waves, layers=["last", "output"], folder=tmp_path, pool=("max", "mean"), progress=False)
    asked = []

    def read(clips):
        asked.extend(int(clip) for clip in clips)
        return waves[clips]

    units = {"last": range(5), "output": [0, 2]}
    found = recorded_exemplars(network, kept, read, units=units, pool="mean", batch_size=8, progress=False)
    for name in ("clips", "ranks"):
        chex.assert_trees_all_equal(getattr(found, name)["last"], getattr(whole, name)["last"])
    chex.assert_trees_all_close(found.activations["last"], whole.activations["last"], rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(found.curves["last"], whole.curves["last"], rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_equal(found.clips["output"][[0, 2]], whole.clips["output"][[0, 2]])
    assert (found.clips["output"][1] == -1).all() and np.isnan(found.activations["output"][1]).all()
    assert asked == found.kept.tolist() and len(asked) < len(waves)
    chex.assert_trees_all_equal(found.waves, waves[found.kept])
    assert found.names == tuple(f"clip {clip}" for clip in found.kept) and found.count == 41
    other = Network(network.module, jax.tree.map(lambda leaf: leaf + 1, network.variables), input=DOMAIN)
    with pytest.raises(ValueError, match="a record of another network"):
        recorded_exemplars(other, kept, read, units=units, progress=False)
