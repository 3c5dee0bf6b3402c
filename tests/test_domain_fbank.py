"""The domain of AST and BEATs: parity with their front ends, padding, pictures, sound, statistics, searches."""

from __future__ import annotations

import dataclasses
import json

import chex
import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import audio
from nd_jax import domain as domains
from nd_jax.domain.playing import sounds
from nd_jax.visualize import penalties

FRONT_END = audio.Fbank(8000, 24, f_min=100.0)
DOMAIN = domains.Fbank(FRONT_END, 20, mean=-4.0, std=4.0, padding=0.0, heard=16)


def hiss(samples, seed=0):
    return (0.1 * np.random.default_rng(seed).normal(size=samples)).astype(np.float32)


def test_parity_with_asts_front_end(shared):
    vectors = np.load(shared / "reference" / "ast" / "fbank.npz")
    whole, short = domains.ast(), domains.ast(128)
    plain = domains.ast(128, mean=0.0, std=0.5)
    for index in (0, 1):
        wave, head = vectors[f"wave_{index}"], vectors[f"fe0_wave{index}_head"]
        found = np.asarray(whole.features(wave))
        chex.assert_shape(found, (1024, 128))
        chex.assert_trees_all_close(found[: len(head)], head, atol=2e-4)
        np.testing.assert_allclose(found[len(head) :], np.broadcast_to(head[-1], (1024 - len(head), 128)), atol=1e-6)
        assert found.sum(dtype=np.float64) == pytest.approx(float(vectors[f"fe0_wave{index}_sum"]), abs=0.1)
        chex.assert_trees_all_close(short.features(wave), vectors["fe1"][index], atol=2e-4)
        chex.assert_trees_all_close(plain.features(wave), vectors["fe2"][index], atol=2e-3)
        energies = vectors[f"torchaudio_fbank_wave{index}"]
        chex.assert_trees_all_close(plain.transform.log_energies(wave), energies, atol=2e-3)
    heard = short.from_wave(vectors["wave_0"])
    chex.assert_trees_all_close(heard[..., 0].T, vectors["fe1"][0], atol=2e-4)


def test_parity_with_beatss_front_end(shared):
    vectors = np.load(shared / "reference" / "beats" / "forward.npz")
    domain = domains.beats(1.0)
    found = domain.from_wave(vectors["waveform"])
    chex.assert_shape(found, (2, *domain.shape))
    chex.assert_trees_all_close(found[..., 0], vectors["fbank"].transpose(0, 2, 1), atol=2e-3)
    with pytest.raises(ValueError, match="16160 samples or 99 frames, but this network takes 15920 or 98"):
        domain.from_wave(np.zeros(16_160, np.float32))


def test_sounds_of_any_length_are_padded_or_cut():
    assert DOMAIN.samples == FRONT_END.num_samples(16) and DOMAIN.shape == (24, 20, 1)
    wave = hiss(FRONT_END.num_samples(25))
    whole = FRONT_END.log_energies(wave)
    padded = DOMAIN.from_wave(wave[: DOMAIN.samples])
    chex.assert_trees_all_close(padded[:, 16:], jnp.full((24, 4, 1), 0.5))
    chex.assert_trees_all_close(padded[:, :16, 0], (whole[:16].T + 4.0) / 8.0, atol=1e-5)
    chex.assert_trees_all_close(DOMAIN.from_wave(wave)[..., 0], (whole[:20].T + 4.0) / 8.0, atol=1e-5)
    chex.assert_trees_all_close(DOMAIN.silence(), DOMAIN.from_wave(np.zeros(DOMAIN.samples)), atol=1e-5)
    assert float(DOMAIN.silence().min()) == pytest.approx(DOMAIN.low)


def test_what_is_drawn_and_played():
    x = np.asarray(DOMAIN.from_wave(hiss(DOMAIN.samples)))
    picture = DOMAIN.picture(x)
    assert picture.unit == "dB" and picture.values.shape == (24, 20) and picture.high == 6.0
    assert picture.low == max(FRONT_END.floor_db, -94.0)
    assert picture.y.unit == "Hz" and picture.y.values[0] > picture.y.values[-1]
    assert picture.x.values[0] == pytest.approx(0.0125) and np.diff(picture.x.values) == pytest.approx(0.01)
    levels = np.asarray(FRONT_END.forward(hiss(DOMAIN.samples)))
    np.testing.assert_allclose(picture.values[::-1, :16], levels, atol=1e-3)
    sound = DOMAIN.sound(x)
    assert sound.wave.shape == (DOMAIN.samples,) and sound.sample_rate == 8000
    again = np.asarray(DOMAIN.from_wave(sound.wave))[:, 2:14]
    assert np.abs(again - x[:, 2:14]).mean() * 8 * 4.34 < 2.5
    (played,) = sounds(DOMAIN, x[None])
    chex.assert_trees_all_close(played.wave, sound.wave, atol=1e-3)
    chex.assert_trees_all_close(DOMAIN.from_db(DOMAIN.to_db(x)), x, atol=1e-5)
    assert float(DOMAIN.from_db(-500.0)) == pytest.approx(DOMAIN.low)
    assert float(DOMAIN.to_db(DOMAIN.high)) == pytest.approx(6.0)
    at_rest = penalties.silence()(DOMAIN.silence()[:, :16], DOMAIN)
    assert float(at_rest) == pytest.approx(0.0, abs=1e-3)


def test_statistics_are_fractions_of_the_range():
    inputs = np.stack([DOMAIN.from_wave(hiss(FRONT_END.num_samples(20), seed)) for seed in range(4)])
    found = domains.with_statistics(DOMAIN, inputs)
    wanted = (inputs.mean(axis=(0, 2, 3)) - DOMAIN.low) / (DOMAIN.high - DOMAIN.low)
    chex.assert_trees_all_close(found.band_mean, wanted, atol=1e-5)
    assert found.band_root.shape == (24, 24) and found == DOMAIN


def test_it_is_kept_and_converted():
    again = domains.from_dict(json.loads(json.dumps(DOMAIN.to_dict())))
    assert again == DOMAIN and isinstance(again.transform, audio.Fbank)
    wave = domains.Waveform(FRONT_END.num_samples(18), 8000)
    given = hiss(wave.samples)
    made = domains.converter(wave, DOMAIN)(given[:, None])
    middle = given[160 // 2 : 160 // 2 + DOMAIN.samples]
    chex.assert_trees_all_close(made, DOMAIN.from_wave(middle), atol=1e-4)
    louder = dataclasses.replace(DOMAIN, mean=-3.0)
    shifted = domains.converter(DOMAIN, louder)(DOMAIN.from_wave(middle))
    chex.assert_trees_all_close(louder.to_db(shifted), DOMAIN.to_db(DOMAIN.from_wave(middle)), atol=1e-3)
    mel = domains.LogMel(audio.LogMel(8000, 256, 80, 24), 20)
    with pytest.raises(ValueError, match="a 'log_mel' of shape .* cannot become a 'fbank'"):
        domains.converter(mel, DOMAIN)
    for change, message in (
        ({"std": 0.0}, "std above 0"),
        ({"heard": 21}, "of 20 frames 21 cannot be sound"),
        ({"padding": None}, "16 cannot be sound with padding None"),
        ({"ceiling_db": -300.0}, "above the front end's floor"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(DOMAIN, **change)
    with pytest.raises(ValueError, match="needs a 'transform' with the fields of audio.Fbank"):
        domains.from_dict({"kind": "fbank", "transform": {"rate": 1}, "frames": 3})


class Ear(nn.Module):
    """One unit a band: its mean over time."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, name="head")(x[..., 0].mean(axis=2))


def test_units_are_maximised_on_it(getkey, tmp_path):
    module = Ear()
    kernel = np.zeros((24, 3), np.float32)
    kernel[10, 1] = 1.0
    head = {"kernel": kernel, "bias": np.zeros(3, np.float32)}
    network = nd.Network(module, {"params": {"head": head}}, input=DOMAIN)
    objective = nd.objectives.channel("head", [1])
    result = nd.visualize_batch(network, objective, key=getkey(), transforms=(), steps=24, snapshots=2, progress=False)
    found = np.asarray(result.inputs[0])
    assert found.min() >= DOMAIN.low and found.max() <= DOMAIN.high
    assert found[10].mean() > found.mean() + 0.1
    network.save(tmp_path / "network")
    assert nd.load(tmp_path / "network", module=module).input == DOMAIN
