"""Tuning by measurement: planted units are found to be what they are, and one that hears nothing says so."""

from __future__ import annotations

import dataclasses

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import audio, dissect
from nd_jax.dissect import tuning_files, tuning_sweep, tuning_unit
from nd_jax.domain import Image, LogMel, Waveform

FRONT = audio.LogMel(sample_rate=8000, n_fft=256, hop_length=64, n_mels=32, f_min=100.0)
DOMAIN = LogMel(FRONT, frames=100)
HOP = 0.008
REACH = 16
BEST, RATE, RIPPLE = 700.0, 8.0, (-8.0, 0.5)
BAND, MODULATED, RIPPLED, LINEAR, DEAF = range(5)
FAST = {"rates": (4.0, 5.6, 8.0, 11.3, 16.0), "ripple_rates": (4.0, 8.0, 16.0), "densities": (0.0, 0.5, 1.0)}


class Units(nn.Module):
    """Energies of pairs of filters where a unit does not hang on phase."""

    @nn.compact
    def __call__(self, y):
        energy = [jnp.sqrt(y[..., pair] ** 2 + y[..., pair + 1] ** 2 + 1e-12) for pair in (1, 3)]
        deaf = jnp.full_like(y[..., 0], 0.3)
        return jnp.stack([nn.relu(y[..., 0] - 0.05), *energy, y[..., 5], deaf], axis=-1)


class Planted(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        padding = ((0, 0), (REACH, REACH))
        y = nn.Conv(6, (32, 2 * REACH + 1), padding=padding, use_bias=False, name="filters")(x)
        y = Units(name="units")(y)
        return nn.Dense(5, use_bias=False, name="head")(y.mean(axis=(1, 2)))


def linear_field(octaves, seconds):
    """Excited by 1 kHz 40 ms ago, inhibited by 500 Hz 80 ms ago."""
    spots = ((1.0, np.log2(1000.0), -0.04), (-0.8, np.log2(500.0), -0.08))
    return sum(
        size * np.exp(-0.5 * (((octaves - octave) / 0.35) ** 2 + ((seconds - second) / 0.022) ** 2))
        for size, octave, second in spots
    )


@pytest.fixture(scope="module")
def network():
    octaves = np.log2(np.asarray(FRONT.centre_frequencies))[:, None]
    time = (np.arange(2 * REACH + 1) - REACH)[None] * HOP
    window = np.exp(-0.5 * (time / 0.05) ** 2)
    turn = 2 * np.pi * (RIPPLE[0] * time + RIPPLE[1] * octaves)
    filters = [
        np.exp(-0.5 * ((octaves - np.log2(BEST)) / 0.2) ** 2) * (time == 0),
        *(
            part * window * np.ones_like(octaves)
            for part in (np.cos(2 * np.pi * RATE * time), np.sin(2 * np.pi * RATE * time))
        ),
        *(part * window for part in (np.cos(turn), np.sin(turn))),
        linear_field(octaves, time),
    ]
    kernel = np.stack([one / np.abs(one).sum() for one in filters], axis=-1)
    kernel[..., 1:5] -= kernel[..., 1:5].mean(axis=(0, 1))
    params = {
        "filters": {"kernel": kernel[:, :, None].astype(np.float32)},
        "head": {"kernel": np.eye(5, dtype=np.float32)},
    }
    return nd.Network(Planted(), {"params": params}, input=DOMAIN)


@pytest.fixture(scope="module")
def bank(network):
    return dissect.sound_bank(
        network, key=jax.random.key(1), levels=(-50.0, -30.0, -10.0), carriers=1, noises=64, **FAST
    )


@pytest.fixture(scope="module")
def found(network, bank):
    return dissect.measured_tuning(network, ["units", "head"], bank=bank, batch_size=32)


def octaves_off(value, truth):
    return abs(np.log2(value / truth))


@pytest.mark.parametrize("layer", ["units", "head"])
def test_a_band_detector_has_its_frequency_and_rises_with_level(found, layer):
    unit = found.unit(layer, BAND)
    assert octaves_off(unit.best_frequency, BEST) < 1 / 6
    assert 0.3 < unit.bandwidth < 1.2 and unit.q == pytest.approx(1 / (2 * np.sinh(unit.bandwidth * np.log(2) / 2)))
    assert unit.level == "rises with level" and -50 <= unit.threshold_db < -10 and unit.dynamic_range_db > 0
    assert str(unit).startswith(("tuned to 6", "tuned to 7")) and "octave wide, rises with level" in str(unit)


def test_modulation_and_ripples_are_told_by_rate_density_and_direction(found):
    for layer in ("units", "head"):
        modulated, rippled = found.unit(layer, MODULATED), found.unit(layer, RIPPLED)
        assert octaves_off(modulated.preferred_rate, RATE) < 0.5 and modulated.best_frequency is None
        rate, density = rippled.ripple
        assert rate < 0 and octaves_off(-rate, -RIPPLE[0]) < 0.2 and density == RIPPLE[1]
        assert f"Hz up, {density:g} cycles per octave" in str(rippled)


def test_following_needs_time_or_phases(found):
    follows = found.layers["units"].am_following[LINEAR, 0]
    assert follows[0] > follows[-1] > 0, "a field of 20 ms is a low-pass filter"
    assert found.unit("units", LINEAR).followed_rate < 8 and found.unit("head", LINEAR).followed_rate is None


def test_the_field_is_the_planted_one_and_predicts(found, bank):
    layer = found.layers["units"]
    assert layer.moving and not found.layers["head"].moving
    truth = linear_field(np.log2(bank.bands)[:, None], layer.times[None])
    chex.assert_shape(layer.strf, (5, len(bank.bands), len(layer.times)))
    assert np.corrcoef(truth.ravel(), layer.strf[LINEAR].ravel())[0, 1] > 0.85
    assert layer.strf_score[LINEAR] > 0.85 > 0.3 > layer.strf_score[MODULATED]
    assert np.all(np.abs(layer.strf_score) <= 1)


def test_a_unit_that_hears_nothing_says_so_without_nan(found):
    for layer in found.layers.values():
        for field in dataclasses.fields(layer):
            assert np.isfinite(getattr(layer, field.name)).all(), field.name
        assert not layer.strf[DEAF].any() and layer.strf_score[DEAF] == 0 and not layer.answers[DEAF]
    for layer in found.layers:
        unit = found.unit(layer, DEAF)
        assert unit == dissect.UnitTuning(answers=False) and str(unit) == "answers to none of the test sounds"


def test_max_pooling_and_batches(network, bank, found):
    few = dataclasses.replace(bank, envelopes=bank.envelopes[:8])
    largest = dissect.measured_tuning(network, ["units"], bank=few, pool="max", batch_size=32).layers["units"]
    means = found.layers["units"]
    assert np.all(largest.tones >= means.tones - 1e-6) and np.any(largest.tones > means.tones + 0.01)
    chex.assert_trees_all_close(largest.am_following, means.am_following, atol=1e-5)


def test_a_sweep_that_was_killed_goes_on_to_the_same_bits(network, bank, found, tmp_path, monkeypatch):
    monkeypatch.setattr(tuning_files, "_EVERY", 0.0)
    kept = tmp_path / "sweep.npz"
    tones = bank.part("noise").start
    for stop in (tones // 2, len(bank) - 1):

        def killed(done, total, stop=stop):
            if done >= stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            dissect.measured_tuning(network, ["units", "head"], bank=bank, batch_size=32, kept=kept, progress=killed)
        assert kept.is_file()
    calls = []
    monkeypatch.setattr(tuning_sweep, "_pooled", lambda *given: calls.append(given))
    again = dissect.measured_tuning(network, ["units", "head"], bank=bank, batch_size=32, kept=kept)
    assert not calls and not kept.exists(), "what was heard is not heard again"
    path = again.save(tmp_path / "tuning.npz")
    loaded = dissect.MeasuredTuning.load(path)
    for layer, one in found.layers.items():
        for field in dataclasses.fields(one):
            for other in (again, loaded):
                np.testing.assert_array_equal(getattr(one, field.name), getattr(other.layers[layer], field.name))
    assert str(loaded.unit("units", BAND)) == str(found.unit("units", BAND))
    path.write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match="was not written by MeasuredTuning.save"):
        dissect.MeasuredTuning.load(path)


def test_the_bank_is_what_it_says(bank, network):
    again = dissect.sound_bank(
        network, key=jax.random.key(1), levels=(-50.0, -30.0, -10.0), carriers=1, noises=64, **FAST
    )
    other = dissect.sound_bank(DOMAIN, key=jax.random.key(2), levels=(-50.0, -30.0, -10.0), carriers=1, noises=64)
    last = [0, len(bank) - 1]
    chex.assert_trees_all_equal(bank.waves(last), again.waves(last))
    assert np.any(bank.waves(last) != other.waves([0, len(other) - 1]))
    assert not bank.waves([0]).any()
    for name, rms in (("flat", 0.1), ("am", 0.1), ("ripples", 0.1), ("noise", 0.1)):
        waves = bank.waves(range(*bank.part(name).indices(len(bank)))[:6])
        assert np.sqrt(np.mean(waves**2)) == pytest.approx(rms / np.sqrt(2), rel=0.25), name
        assert np.abs(waves).max() < 1
    tones = bank.waves(range(*bank.part("tones").indices(len(bank)))).reshape(*bank.shapes["tones"], -1)
    assert np.abs(tones).max(axis=(1, 2)) == pytest.approx(10 ** (bank.levels / 20), rel=0.01)
    heard = np.abs(np.fft.rfft(tones[-1])).argmax(axis=-1) / bank.seconds
    assert np.abs(heard - bank.frequencies).max() <= 0.5 / bank.seconds + 1e-6
    assert np.allclose(bank.rates * bank.seconds, np.round(bank.rates * bank.seconds))


def test_ripples_move_down_at_positive_rates(bank):
    """The spectrogram's correlation with sin(2 pi (rate t + density x)), whose crests fall as t grows."""
    rate, density = 3, 1
    number = bank.part("ripples").start + np.ravel_multi_index((density, rate, 0), bank.shapes["ripples"])
    levels = np.asarray(DOMAIN.from_wave(bank.waves([number])))[0, :, 10:-10, 0]
    octaves = np.log2(np.asarray(FRONT.centre_frequencies) / bank.bands[0])[:, None]
    time = (np.arange(levels.shape[1]) + 10) * HOP
    levels = levels - levels.mean()
    there = {
        sign: abs(
            (
                levels
                * np.exp(2j * np.pi * (sign * bank.ripple_rates[rate] * time + bank.densities[density] * octaves))
            ).sum()
        )
        for sign in (1, -1)
    }
    assert bank.ripple_rates[rate] > 0 and there[1] > 3 * there[-1]


def test_what_does_not_fit_is_one_sentence(network, bank):
    image = nd.Network(Planted(), network.variables, input=Image((32, 100, 1)))
    short = dataclasses.replace(DOMAIN, frames=60)
    for wrong, message in (
        (lambda: dissect.measured_tuning(image, ["units"], bank=bank), "for networks that take sound"),
        (lambda: dissect.measured_tuning(network, ["unitz"], bank=bank), "no layer 'unitz'"),
        (lambda: dissect.measured_tuning(network, [], bank=bank), "at least one layer"),
        (lambda: dissect.measured_tuning(network, ["units"]), "needs a key"),
        (lambda: dissect.measured_tuning(network, ["units"], bank=bank, pool="sum"), "'mean' or 'max'"),
        (
            lambda: dissect.measured_tuning(network, ["units"], bank=dissect.sound_bank(short, key=jax.random.key(0))),
            "the bank's sounds have",
        ),
        (lambda: dissect.sound_bank(DOMAIN, key=jax.random.key(0), levels=(-10.0, -20.0)), "each above the one before"),
        (lambda: dissect.sound_bank(DOMAIN, key=jax.random.key(0), rates=(0.1,)), "goes around once"),
        (lambda: dissect.sound_bank(DOMAIN, key=jax.random.key(0), phases=2), "phases >= 3"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()


def test_a_waveform_network_with_few_steps():
    class Power(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            parts = jnp.square(x.reshape(x.shape[0], 4, -1)).mean(axis=-1)
            return nn.Dense(2, use_bias=False, name="power")(parts)

    kernel = np.array([[1, -1]] * 4, np.float32)
    power = nd.Network(Power(), {"params": {"power": {"kernel": kernel}}}, input=Waveform(2048, 8000))
    bank = dissect.sound_bank(power, key=jax.random.key(0), noises=32, tones_per_octave=2, levels=(-40.0, -10.0))
    found = dissect.measured_tuning(power, ["power"], bank=bank, batch_size=64)
    louder, softer = found.unit("power", 0), found.unit("power", 1)
    assert louder.best_frequency is None and louder.level == "rises with level" and softer.level == "falls with level"
    assert softer.threshold_db is None, "no tone raises it"


def test_the_top_of_a_parabola_and_the_width_of_a_triangle():
    x = np.array([0.0, 1.0, 2.5, 4.0])
    assert tuning_unit.peak(x, -((x - 1.3) ** 2)) == pytest.approx(1.3)
    assert tuning_unit.peak(x, x) == 4.0
    assert tuning_unit._width(np.arange(5.0), np.array([0.0, 0.5, 1.0, 0.5, 0.0])) == pytest.approx(2.0)
