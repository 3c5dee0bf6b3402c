"""Invariance: movement of units and labels under transforms whose effect is known."""

import dataclasses
import json

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import domain as domains
from nd_jax import transforms
from nd_jax.audio.mel import LogMel

BANDS, FRAMES = 10, 12
MEL = domains.LogMel(LogMel(sample_rate=8000, n_fft=256, hop_length=128, n_mels=BANDS), frames=FRAMES)
KEY = jax.random.key(3)


class Halves(nn.Module):
    """Unit 0: lower half of the bands; unit 1: upper half; unit 2: always the same. The label is the louder half."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, name="units")(x.reshape(len(x), -1))


def halves(domain, axis=0):
    grid = np.zeros((*domain.shape, 3), np.float32)
    first = np.arange(domain.shape[axis]) < domain.shape[axis] // 2
    along = first.reshape([-1 if place == axis else 1 for place in range(len(domain.shape))])
    grid[..., 0], grid[..., 1] = np.where(along, 1.0, 0.0), np.where(along, 0.0, 1.0)
    kernel = grid.reshape(-1, 3) / grid[..., 0].sum()
    variables = {"params": {"units": {"kernel": jnp.asarray(kernel), "bias": jnp.asarray([0.0, 0.0, -9.0])}}}
    return nd.Network(Halves(), variables, input=domain, labels=("low", "high", "never"))


def inputs(domain, count=60):
    """Halves of independent levels, far from both ends of the range."""
    levels = np.random.default_rng(0).uniform(0.35, 0.65, (count, 2, 1, 1))
    return np.broadcast_to(levels.repeat(domain.shape[0] // 2, axis=1), (count, *domain.shape)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Own:
    """A transform of a user's own: louder by 0.1, or upside down in value."""

    negative: bool = False

    def check(self, domain):
        pass

    def __call__(self, key, x, domain):
        return 1.0 - x if self.negative else x + 0.1


@pytest.fixture(scope="module")
def network():
    return halves(MEL)


def test_nothing_moves_nothing(network):
    found = nd.visualize.invariance(network, inputs(MEL), transforms.none(), key=KEY)
    chex.assert_trees_all_close(found.movement["units"][:2], np.zeros(2), atol=1e-12)
    chex.assert_trees_all_close(found.rank_correlation["units"][:2], np.ones(2), atol=1e-12)
    assert found.labels_changed == {"output": 0.0}
    assert found.layers == ("units",) and found.sounds == 60 and found.draws == 4


def test_gain_moves_by_its_decibels(network):
    """A change uniform in -6 ... 6 dB of an 80 dB range, in standard deviations of the halves' levels."""
    x = inputs(MEL)
    found = nd.visualize.invariance(network, x, transforms.gain(6.0), key=KEY, draws=64)
    expected = 6.0 / 80.0 / np.sqrt(3.0) / x[:, [0, -1], 0, 0].std(axis=0)
    chex.assert_trees_all_close(found.movement["units"][:2], expected, rtol=0.04)
    assert np.abs(found.shift["units"][:2]).max() < 0.1
    assert found.labels_changed["output"] == 0.0  # both halves move together


def test_one_way_upside_down_and_a_unit_that_never_changes(network):
    x = inputs(MEL)
    louder, upside_down, flipped = nd.visualize.invariance(
        network, x, [Own(), Own(negative=True), transforms.frequency_flip(1.0, allow_on_sound=True)], key=KEY, draws=2
    )
    spread = x[:, [0, -1], 0, 0].std(axis=0)
    chex.assert_trees_all_close(louder.movement["units"][:2], 0.1 / spread, rtol=1e-4)
    chex.assert_trees_all_close(louder.shift["units"][:2], 0.1 / spread, rtol=1e-4)
    chex.assert_trees_all_close(louder.rank_correlation["units"][:2], np.ones(2), atol=1e-6)
    chex.assert_trees_all_close(upside_down.rank_correlation["units"][:2], -np.ones(2), atol=1e-6)
    assert upside_down.labels_changed["output"] == flipped.labels_changed["output"] == 1.0
    # Two independent halves change places: sqrt(2) standard deviations.
    chex.assert_trees_all_close(flipped.movement["units"][:2], np.full(2, np.sqrt(2.0)), rtol=0.15)
    assert louder.worst_labels_changed == 0.0
    for found in (louder, upside_down, flipped):
        assert np.isnan(found.movement["units"][2]) and np.isnan(found.rank_correlation["units"][2])
        assert found.worst_movement == pytest.approx(np.median(found.movement["units"][:2]))
    described = json.loads(json.dumps(louder.to_dict(), allow_nan=False))
    assert described["movement"]["units"][2] is None
    assert "labels changed: output 100.0 %" in str(flipped) and "units" in flipped.table()


def test_batches_draws_and_company_change_nothing(network):
    x = inputs(MEL, 23)
    moves = [transforms.gain(3.0), transforms.time_shift(0.05)]
    together = nd.visualize.invariance(network, x, moves, key=KEY, draws=2)
    alone = nd.visualize.invariance(network, x, moves[1], key=KEY, draws=2, batch_size=5)
    chex.assert_trees_all_close(together[1].movement, alone.movement, rtol=1e-4)
    assert together[1].labels_changed == alone.labels_changed
    other = nd.visualize.invariance(network, x, moves[1], key=jax.random.key(4), draws=2)
    assert np.abs(other.movement["units"][:2] - alone.movement["units"][:2]).max() > 1e-3


def test_sounds_as_waves(network):
    waves = np.random.default_rng(1).normal(size=(6, MEL.samples)).astype(np.float32) * 0.1
    waves *= np.linspace(0.2, 1.0, 6)[:, None]
    by_wave = nd.visualize.invariance(network, waves, transforms.gain(3.0), key=KEY)
    by_input = nd.visualize.invariance(network, MEL.from_wave(waves), transforms.gain(3.0), key=KEY)
    chex.assert_trees_all_close(by_wave.movement, by_input.movement, rtol=1e-5)

    domain = domains.Waveform(samples=400, sample_rate=8000)
    raw = halves(domain)
    found = [
        nd.visualize.invariance(raw, given, transforms.time_shift(0.01), key=KEY)
        for given in (waves[:, :400], waves[:, :400, None])
    ]
    chex.assert_trees_all_equal(found[0].movement, found[1].movement)
    assert found[0].worst_movement > 0.05


def test_images_and_layers_by_name():
    domain = domains.Image((8, 8, 3))
    network = halves(domain)
    x = np.random.default_rng(2).uniform(size=(9, 8, 8, 3))
    found = nd.visualize.invariance(
        network, x, transforms.jitter(2), key=KEY, layers=["units", "output"], progress=False
    )
    chex.assert_trees_all_close(found.movement["units"], found.movement["output"])
    assert 0 < found.worst_movement < 3


def test_parts():
    class Both(nn.Module):
        @nn.compact
        def __call__(self, x):
            return {"a": nn.Dense(2, name="one")(x["z"]), "b": nn.Dense(1, name="two")(x["y"])}

    domain = domains.Parts({"z": domains.Latent(3), "y": domains.Latent(2)})
    x = {"z": np.random.default_rng(1).normal(size=(8, 3)), "y": np.random.default_rng(2).normal(size=(8, 2))}
    variables = Both().init(jax.random.key(0), x)
    network = nd.Network(Both(), variables, input=domain)
    found = nd.visualize.invariance(network, x, transforms.on_part("z", transforms.noise(sd=0.5)), key=KEY)
    assert found.movement["one"].min() > 0.05
    chex.assert_trees_all_close(found.movement["two"], np.zeros(1), atol=1e-9)
    assert set(found.labels_changed) == {"a"}


@pytest.mark.parametrize(
    ("given", "settings", "message"),
    [
        (np.zeros((5, 3, 3, 1)), {}, r"takes \(n, 10, 12, 1\) or sounds \(n, 1408\)"),
        (np.zeros((2, BANDS, FRAMES, 1)), {}, "3 or more inputs, got 2"),
        (np.array(["a"] * 4), {}, "an array of inputs"),
        (np.zeros((4, BANDS, FRAMES, 1)), {"draws": 0}, "draws must be a whole number"),
        (np.zeros((4, BANDS, FRAMES, 1)), {"key": 0}, "key must be a JAX key"),
        (np.zeros((4, BANDS, FRAMES, 1)), {"transform": 3}, "transform must come from"),
        (np.zeros((4, BANDS, FRAMES, 1)), {"transform": transforms.jitter(1)}, "jitter"),
        (np.zeros((4, BANDS, FRAMES, 1)), {"layers": ["unit"]}, "did you mean 'units'"),
    ],
)
def test_refusals(network, given, settings, message):
    settings = {"transform": transforms.gain(1.0), "key": KEY} | settings
    with pytest.raises(ValueError, match=message):
        nd.visualize.invariance(network, given, **settings)


@pytest.mark.parametrize(("name", "folder"), [("instrument_notes", "notes"), ("spoken_digits", "fsdd")])
def test_the_defaults_are_no_stronger_than_real_networks_take(shared, name, folder):
    """48 real sounds: the default transforms together stay within the limits of docs/priors.md."""
    import soundfile

    network = nd.load(name)
    files = sorted((shared / "data" / folder / "audio").iterdir())
    waves = np.zeros((48, network.input.samples), np.float32)
    for row, path in zip(waves, files[:: len(files) // 48], strict=False):
        sound, rate = soundfile.read(path, dtype="float32")
        assert rate == network.input.sample_rate
        first = max(0, len(row) - len(sound)) // 2
        row[first : first + len(sound)] = sound[: len(row)]
    together = transforms.compose(*transforms.default(network.input))
    louder = transforms.gain(12.0)
    found, control = nd.visualize.invariance(network, waves, [together, louder], key=KEY)
    assert 0.1 < found.worst_movement < 0.5 and found.worst_labels_changed < 0.03
    assert control.worst_movement > 0.5
