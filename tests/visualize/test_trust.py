"""The trust card on networks small enough to know the answer, and its parts one by one."""

from __future__ import annotations

import dataclasses

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import audio, objectives
from nd_jax.domain import Image, LogMel, Waveform
from nd_jax.visualize import trust
from nd_jax.visualize.trust import agreement, measuring, paths, reading


class Fooled(nn.Module):
    """Pattern detectors and junk detectors; the units of `top` listen to both."""

    @nn.compact
    def __call__(self, x, train=False):
        hidden = nn.relu(nn.Dense(24, name="hidden")(x.reshape(len(x), -1)))
        return nn.Dense(3, name="top")(hidden)


class Bend(nn.Module):
    """One number through a ceiling, through a bump, and as it is."""

    @nn.compact
    def __call__(self, x, train=False):
        mean = jnp.mean(x, axis=(1, 2, 3))
        units = jnp.stack([jax.nn.sigmoid(60 * (mean - 0.5)), 1 - jnp.square(mean - 0.9), mean], axis=-1)
        return nn.Dense(3, use_bias=False, name="out")(units)


def of(network, inputs, layer="top", **changes):
    """A result whose inputs are given, not found."""
    objective = objectives.channel(layer, range(len(inputs)))
    made = nd.visualize_batch(network, objective, key=jax.random.key(0), steps=0, snapshots=0, progress=False)
    return dataclasses.replace(made, inputs=np.asarray(inputs, np.float32), **changes)


def test_an_input_on_another_path_is_told_from_one_on_the_natural_path():
    # Inputs 0 to 11 hold natural patterns, 12 to 15 are never used by nature.
    rng = np.random.default_rng(0)
    hidden, top = np.zeros((16, 24)), np.zeros((24, 3))
    patterns = np.kron(np.eye(3), np.ones((1, 4)))
    for unit in range(3):
        hidden[:12, 5 * unit : 5 * unit + 5] = patterns[unit][:, None] * rng.uniform(0.5, 1, (12, 5))
        top[5 * unit : 5 * unit + 5, unit] = 1
    hidden[12:, 15:] = rng.uniform(0.5, 1, (4, 9))
    top[15:, :] = 20
    params = {
        "hidden": {"kernel": hidden.astype(np.float32), "bias": np.zeros(24, np.float32)},
        "top": {"kernel": top.astype(np.float32), "bias": np.zeros(3, np.float32)},
    }
    network = nd.Network(Fooled(), {"params": params}, input=Image((4, 4, 1)))
    natural = np.zeros((60, 16))
    natural[:, :12] = patterns[np.arange(60) % 3] * rng.uniform(0.3, 0.9, (60, 12))
    natural = natural.reshape(60, 4, 4, 1).astype(np.float32)
    true, fooling = np.zeros((3, 16)), np.zeros((3, 16))
    true[:, :12], fooling[:, 12:] = patterns, 1
    cards = [
        trust.measure(of(network, x.reshape(3, 4, 4, 1)), natural, twin=0, progress=False) for x in (true, fooling)
    ]
    assert np.all(cards[0].ratio >= 1) and np.all(cards[1].ratio > 20), "the fooling input drives the units further"
    assert np.all(cards[0].path > 0.8) and np.all(cards[1].path < 0), "but not as natural inputs do"
    assert cards[0].path_layers == ("hidden",)
    assert np.isnan(cards[0].survives).all(), "an image is not heard"


def test_a_unit_at_its_ceiling_is_told_from_one_at_its_best_and_from_one_that_could_go_on():
    network = nd.Network(Bend(), {"params": {"out": {"kernel": np.eye(3, dtype=np.float32)}}}, input=Image((2, 2, 1)))
    natural = np.random.default_rng(0).uniform(0.2, 0.8, (200, 1, 1, 1)) * np.ones((1, 2, 2, 1))
    inputs = np.stack([np.full((2, 2, 1), value) for value in (0.95, 0.9, 1.0)])
    card = trust.measure(of(network, inputs, "out"), natural.astype(np.float32), twin=0, progress=False)
    assert card.saturated.tolist() == [True, False, False]
    low = trust.measure(of(network, 0 * inputs, "out"), natural.astype(np.float32), twin=0, progress=False)
    assert not low.saturated.any(), "at its floor a unit is at no ceiling"


def test_what_a_sound_has_survives_the_wav_and_what_no_sound_has_does_not(tmp_path):
    front = audio.LogMel(sample_rate=8000, n_fft=256, hop_length=128, n_mels=24, f_min=60.0)
    domain = LogMel(front, frames=32)
    time = np.arange(domain.samples) / domain.sample_rate
    waves = np.stack([0.3 * np.sin(2 * np.pi * pitch * time) for pitch in (300, 700, 1500)]).astype(np.float32)
    tones = np.asarray(domain.from_wave(waves))
    # Every other frame loud: windows that overlap by half know no such thing.
    flicker = np.broadcast_to((np.arange(32) % 2)[None, :, None], domain.shape).astype(np.float32)

    class Likes(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            return nn.Dense(2, use_bias=False, name="top")(x.reshape(len(x), -1))

    kernel = np.stack([tones[0].ravel() - tones[0].mean(), flicker.ravel() - 0.5], axis=1).astype(np.float32)
    network = nd.Network(Likes(), {"params": {"top": {"kernel": kernel}}}, input=domain)
    natural = np.concatenate([tones, 0.5 * tones, np.zeros_like(tones)])
    card = trust.measure(of(network, np.stack([tones[0], flicker])), natural, twin=0, progress=False)
    assert card.survives[0] > 0.9 and card.survives[1] < 0.3, card.survives
    assert card.waves.shape == (2, domain.samples)
    audio.write(tmp_path / "one.wav", card.waves[0], domain.sample_rate)
    read = audio.read(tmp_path / "one.wav", domain.sample_rate)
    chex.assert_trees_all_close(np.asarray(read), measuring.through_wav(card.waves[0]), atol=4e-5)


def test_a_waveform_survives_up_to_rounding_and_clipping():
    class Level(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            return nn.Dense(2, use_bias=False, name="top")(jnp.stack([jnp.abs(x).max((1, 2)), x.mean((1, 2))], axis=1))

    network = nd.Network(
        Level(), {"params": {"top": {"kernel": np.eye(2, dtype=np.float32)}}}, input=Waveform(64, 8000)
    )
    natural = np.random.default_rng(0).uniform(-0.1, 0.1, (20, 64, 1)).astype(np.float32)
    loud = np.sin(np.arange(64) / 3)[None, :, None].repeat(2, 0)
    card = trust.measure(of(network, loud), natural, twin=0, progress=False)
    chex.assert_trees_all_close(card.survives, np.ones(2), atol=1e-3)


def test_ranks_are_spearmans():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    rows = np.maximum(rng.normal(size=(3, 50)), 0).astype(np.float32)  # many ties
    found = np.asarray(paths.ranks(jnp.asarray(rows)))
    expected = spearmanr(rows, axis=1).statistic
    chex.assert_trees_all_close(found @ found.T, expected.astype(np.float32), atol=1e-5)
    chex.assert_trees_all_equal(paths.ranks(jnp.ones((1, 4))), jnp.zeros((1, 4)))


def test_likeness_is_the_mean_over_pairs():
    rng = np.random.default_rng(1)
    natural, made = rng.normal(size=(40, 12)), rng.normal(size=(5, 12))
    top = np.stack([rng.permutation(40)[:8] for _ in range(5)])
    unit = np.asarray(paths.ranks(jnp.asarray(natural, jnp.float32)))
    found = np.asarray(paths.ranks(jnp.asarray(made, jnp.float32)))
    same, other, own = paths.likeness(natural, made, top)
    for lane in range(5):
        mine, rest = unit[top[lane]], unit[np.setdiff1d(np.unique(top), top[lane])]
        pairs = mine @ mine.T
        assert same[lane] == pytest.approx(pairs[~np.eye(8, dtype=bool)].mean(), abs=1e-5)
        assert other[lane] == pytest.approx((mine @ rest.T).mean(), abs=1e-5)
        assert own[lane] == pytest.approx((mine @ found[lane]).mean(), abs=1e-5)


def test_layers_that_cannot_tell_are_left_out():
    same, other = np.array([[0.8, 0.5]]), np.array([[0.2, 0.49]])
    assert paths.scaled(same, other, np.array([[0.5, -3.0]])) == pytest.approx(0.5)
    assert np.isnan(paths.scaled(other, other, other)).all()


def test_agreement_does_not_depend_on_when():
    rng = np.random.default_rng(2)
    natural = rng.normal(size=(20, 16, 6))
    one, two = rng.normal(size=(2, 16, 6)) * 3
    made = np.stack([one, np.roll(one, 5, axis=0), two, np.roll(two, -3, axis=0)])[None]
    found = agreement.agreement(made, natural)[0]
    chex.assert_trees_all_close(np.diag(found), np.ones(4), atol=1e-5)
    assert found[0, 1] == pytest.approx(1, abs=1e-5) and found[2, 3] == pytest.approx(1, abs=1e-5)
    assert abs(found[0, 2]) < 0.4
    assert agreement.preferences(found, np.array([1.0, 2.0, 1.9, 0.9])).tolist() == [0, 0, 1, 1]
    assert agreement.preferences(found, np.array([1.0, 2.0, 0.5, 0.4])).tolist() == [0, 0, -1, -1], "too weak"
    assert agreement.preferences(found, np.array([np.nan, -1.0, np.nan, -2.0])).tolist() == [-1] * 4
    assert agreement.mean_agreement(found, np.array([True, True, False, False])) == pytest.approx(1, abs=1e-5)
    assert np.isnan(agreement.mean_agreement(found, np.array([True, False, False, False])))


def test_a_unit_that_all_starts_drive_up_is_spared():
    natural = np.random.default_rng(0).normal(size=(20, 1, 4))
    made = np.zeros((1, 2, 1, 4))
    made[0, :, 0, 0] = 100
    made[0, 0, 0, 1] = made[0, 1, 0, 2] = 5
    assert agreement.agreement(made, natural)[0, 0, 1] > 0.9
    assert agreement.agreement(made, natural, np.array([[0.0, 1, 1, 1]]))[0, 0, 1] < 0.3


def test_the_twin_has_the_shapes_and_other_numbers():
    module = Fooled()
    domain = Image((4, 4, 1))
    variables = module.init(jax.random.key(3), np.zeros((1, 4, 4, 1)))
    network = nd.Network(module, variables, input=domain)
    twin = trust.random_twin(network, jax.random.key(0))
    chex.assert_trees_all_equal_shapes_and_dtypes(twin.variables, network.variables)
    assert not np.allclose(twin.variables["params"]["top"]["kernel"], variables["params"]["top"]["kernel"])
    chex.assert_trees_all_equal(trust.random_twin(network, jax.random.key(0)).variables, twin.variables)


def test_a_kernel_that_begins_at_zero_is_shuffled():
    class Zeros(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            return nn.Dense(5, kernel_init=nn.initializers.zeros, name="top")(x.reshape(len(x), -1))

    kernel = np.arange(80, dtype=np.float32).reshape(16, 5)
    variables = {"params": {"top": {"kernel": kernel, "bias": np.ones(5, np.float32)}}}
    twin = trust.random_twin(nd.Network(Zeros(), variables, input=Image((4, 4, 1))), jax.random.key(0))
    made = twin.variables["params"]["top"]
    assert sorted(made["kernel"].ravel()) == sorted(kernel.ravel()) and not np.array_equal(made["kernel"], kernel)
    chex.assert_trees_all_equal(np.asarray(made["bias"]), np.zeros(5, np.float32))


def test_large_layers_are_read_a_few_inputs_at_a_time(monkeypatch):
    network = nd.Network(Bend(), {"params": {"out": {"kernel": np.eye(3, dtype=np.float32)}}}, input=Image((2, 2, 1)))
    inputs = np.random.default_rng(0).uniform(0.2, 0.8, (41, 2, 2, 1)).astype(np.float32)
    reader = reading.Reader(objectives.channel("out").bind(network), ["out"])
    assert reading.batch_size(network, ["out"]) == reading.BATCH
    at_once, vectors = reader.heard(network, inputs)
    monkeypatch.setattr(reading, "NUMBERS", 3 * 7)
    assert reading.batch_size(network, ["out"]) == 7
    few, same = reader.heard(network, inputs)
    chex.assert_trees_all_close((few, same), (at_once, vectors), atol=1e-6)
    chex.assert_trees_all_close(reader.own(network, inputs[:3]), np.diagonal(at_once[:3]), atol=1e-6)
    assert at_once.shape == (41, 3) and vectors["out"].shape == (41, 3)


def test_joined_results_and_too_little_nature_are_refused():
    network = nd.Network(Bend(), {"params": {"out": {"kernel": np.eye(3, dtype=np.float32)}}}, input=Image((2, 2, 1)))
    result = of(network, np.zeros((3, 2, 2, 1)), "out")
    natural = np.zeros((1, 2, 2, 1), np.float32)
    with pytest.raises(ValueError, match="two or more"):
        trust.measure(result, natural)
    with pytest.raises(ValueError, match="natural inputs must be finite numbers"):
        trust.measure(result, np.full((4, 2, 2, 1), np.nan, np.float32))
    with pytest.raises(ValueError, match="joined from several objectives"):
        trust.measure(dataclasses.replace(result, objective=None), natural)
    with pytest.raises(ValueError, match="pass network"):
        trust.measure(dataclasses.replace(result, network=None), natural)
    with pytest.raises(ValueError, match="starts must be a whole number of 1 or more, got 0"):
        trust.measure(result, natural, starts=0)
    with pytest.raises(ValueError, match="further_steps must be a whole number of 1 or more, got 0"):
        trust.measure(result, natural, starts=2, further_steps=0)
    with pytest.raises(ValueError, match="was not written by"):
        trust.Trust.load("nowhere")
