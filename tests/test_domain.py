"""Domains: shapes, ranges, axes with units, silence, pictures, sounds, and their round trip through plain values."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import domain as domains
from nd_jax.audio import LogMel, MelIF

FRONT_END = LogMel(sample_rate=8000, n_fft=512, hop_length=128, n_mels=40)
MEL = domains.LogMel(FRONT_END, frames=20, band_mean=jnp.full(40, 0.3, jnp.float32))
ALL = [
    MEL,
    domains.Image((6, 5, 3), -1.0, 1.0),
    domains.Image((6, 5, 1)),
    domains.Waveform(4096, 8000),
    domains.MelIF(MelIF(8000, 900, 128, mel_downscale=2), band_mean=jnp.full((32, 2), 0.3, jnp.float32)),
    domains.Latent(7),
    domains.Units(9),
    domains.Parts({"z": domains.Latent(3), "sound": MEL}),
]


@pytest.mark.parametrize("domain", ALL, ids=lambda domain: domain.kind)
def test_round_trip_through_plain_values(domain):
    description = json.loads(json.dumps(domain.to_dict()))
    again = domains.from_dict(description, domain.arrays())
    assert again == domain
    assert hash(again) == hash(domain)
    chex.assert_trees_all_equal(jax.tree.leaves(again), jax.tree.leaves(domain))


@pytest.mark.parametrize("domain", ALL, ids=lambda domain: domain.kind)
def test_silence_is_one_example_in_range(domain):
    silence = domain.silence()
    domain.check(silence)
    if isinstance(domain, domains.Parts):
        return
    chex.assert_shape(silence, domain.shape)
    assert domain.low <= silence.min()
    assert silence.max() <= domain.high
    assert [len(axis.values) for axis in domain.axes] == list(domain.shape)


def test_domains_are_static_except_for_their_arrays():
    traces = []

    @jax.jit
    def run(domain):
        traces.append(1)
        return domain.band_mean.sum()

    assert run(MEL) == pytest.approx(12.0)
    assert run(domains.LogMel(FRONT_END, frames=20, band_mean=jnp.ones(40, jnp.float32))) == pytest.approx(40.0)
    assert len(traces) == 1


def tone(frequency, seconds, rate, level=0.5):
    return level * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate).astype(np.float32)


def test_log_mel_picture_has_true_axes():
    wave = tone(1000.0, 1.0, 8000)[: MEL.samples]
    wave[: MEL.samples // 2] = 0
    picture = MEL.picture(MEL.from_wave(wave))
    chex.assert_shape(picture.values, (40, 20))
    assert (picture.unit, picture.low, picture.high) == ("dB", -80.0, 0.0)
    row, column = np.unravel_index(np.argmax(picture.values), picture.values.shape)
    assert picture.y.values[row] == pytest.approx(1000, rel=0.08)
    assert picture.y.unit == "Hz"
    assert picture.x.values[column] >= 0.14
    assert picture.x.values[-1] == pytest.approx(19 * 128 / 8000)
    assert picture.y.values[0] > picture.y.values[-1], "row 0 is the top: the highest frequency"


def test_log_mel_levels_and_sound():
    wave = tone(1000.0, 1.0, 8000)[: MEL.samples]
    x = MEL.from_wave(wave)
    chex.assert_shape(x, (40, 20, 1))
    # Between two filters a tone reads up to 3 dB less than at the peak of one.
    assert -9.5 < float(MEL.to_db(x).max()) < -5.5
    chex.assert_trees_all_close(MEL.from_db(MEL.to_db(x)), x, atol=1e-6)
    sound = MEL.sound(x)
    assert sound.sample_rate == 8000
    spectrum = np.abs(np.fft.rfft(sound.wave))
    assert np.argmax(spectrum) * 8000 / len(sound.wave) == pytest.approx(1000, abs=20)
    assert np.abs(MEL.sound(MEL.silence()).wave).max() < 1e-3
    with pytest.raises(ValueError, match=r"sound has 100 samples, but 20 frames need \d+; bring it to length"):
        MEL.from_wave(np.zeros(100))


def test_batched_from_wave():
    waves = np.stack([tone(500.0, 1, 8000)[: MEL.samples], tone(900.0, 1, 8000)[: MEL.samples]])
    both = MEL.from_wave(waves)
    chex.assert_shape(both, (2, 40, 20, 1))
    chex.assert_trees_all_close(both[1], MEL.from_wave(waves[1]), atol=1e-5)


def test_waveform_picture_and_sound():
    domain = domains.Waveform(4096, 8000)
    wave = tone(1500.0, 0.512, 8000)
    picture = domain.picture(wave[:, None])
    row, _ = np.unravel_index(np.argmax(picture.values), picture.values.shape)
    assert picture.y.values[row] == pytest.approx(1500, abs=40)
    assert picture.x.values[-1] == pytest.approx(0.512, abs=0.02)
    chex.assert_trees_all_close(domain.sound(wave[:, None]).wave, wave)


def test_image_pictures():
    grey = domains.Image((4, 3, 1), -1.0, 1.0).picture(np.full((4, 3, 1), 0.5))
    chex.assert_shape(grey.values, (4, 3))
    assert (grey.low, grey.high) == (-1.0, 1.0)
    colour = domains.Image((4, 3, 3), -1.0, 1.0).picture(np.zeros((4, 3, 3)))
    chex.assert_trees_all_close(colour.values, np.full((4, 3, 3), 0.5))


def test_parts_choose_what_can_be_seen_and_heard():
    parts = domains.Parts({"z": domains.Latent(3), "sound": MEL})
    x = {"z": np.zeros(3), "sound": np.asarray(MEL.silence())}
    assert parts.picture(x).unit == "dB"
    assert parts.sound(x).sample_rate == 8000
    assert parts.shape == {"z": (3,), "sound": (40, 20, 1)}
    with pytest.raises(KeyError, match="did you mean 'sound'"):
        parts["sond"]
    with pytest.raises(ValueError, match="input must be a dict with the keys"):
        parts.check({"z": np.zeros(3)})


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"kind": "log_mle"}, "unknown domain kind 'log_mle'; did you mean 'log_mel'"),
        ({}, "a dict with a 'kind'"),
        ({"kind": "image", "shpe": [1, 1, 1]}, "domain 'image' has no field 'shpe'; did you mean 'shape'"),
        ({"kind": "log_mel", "transform": {"sample_rate": 1}}, "needs a 'transform'"),
        ({"kind": "mel_if", "transform": {"rate": 1}}, "needs a 'transform' with the fields of audio.MelIF"),
        ({"kind": "parts"}, "needs a dict 'parts'"),
        ({"kind": "image"}, "image"),
    ],
)
def test_bad_descriptions_give_one_sentence(description, message):
    with pytest.raises(ValueError, match=message):
        domains.from_dict(description)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: domains.Image((28, 28)), r"an image's shape is \(height, width, channels\), got \(28, 28\)"),
        (lambda: domains.Image((28, 28, 0)), "channels of a domain 'image' must be a whole number of 1 or more, got 0"),
        (lambda: domains.Image((2, 2, 1), 1.0, 0.0), "low of a domain 'image' must be below high"),
        (lambda: domains.Waveform(-5, 8000), "samples of a domain 'waveform'"),
        (lambda: domains.Waveform(5, 0), "sample_rate of a domain 'waveform'"),
        (lambda: domains.LogMel(FRONT_END, 1.5), "frames of a domain 'log_mel'"),
        (lambda: domains.LogMel(FRONT_END, 4, -90.0), "ceiling_db must be above the front end's floor"),
        (lambda: domains.MelIF(FRONT_END), "transform of a domain 'mel_if' is an audio.MelIF, got LogMel"),
        (lambda: domains.Latent(0), "size of a domain 'latent'"),
    ],
)
def test_senseless_domains_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_check_says_what_would_be_right():
    with pytest.raises(ValueError, match=r"input has shape \(3,\), but this network takes \(40, 20, 1\)"):
        nd.domain.LogMel(FRONT_END, 20).check(np.zeros(3))
