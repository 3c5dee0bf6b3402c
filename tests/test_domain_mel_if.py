"""The mel-IF domain: what it draws, plays, converts, measures and saves, and searches and pages on top of it."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import audio
from nd_jax import domain as domains
from nd_jax.domain.playing import sounds
from nd_jax.network import Network
from nd_jax.report.sheets import compose
from nd_jax.visualize import objectives, parameterizations, penalties

RATE = 8000
DOMAIN = domains.MelIF(audio.MelIF(RATE, 1800, 256))
MEL = domains.LogMel(audio.LogMel(sample_rate=RATE, n_fft=256, hop_length=128, n_mels=16), frames=12)


def tone(hertz=1000.0, samples=1800, amplitude=0.5):
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(samples) / RATE)).astype(np.float32)


class Judge(nn.Module):
    """Two logits from any input."""

    @nn.compact
    def __call__(self, x):
        x = jnp.tanh(nn.Dense(4, name="hidden")(x.reshape(x.shape[0], -1) / 10))
        return nn.Dense(2, name="logits")(x)


class Maker(nn.Module):
    """A mel-IF from a latent."""

    @nn.compact
    def __call__(self, z):
        levels = nn.Dense(DOMAIN.shape[1], name="levels")(z)
        turns = nn.Dense(DOMAIN.shape[1], name="turns")(z)
        row = jnp.stack([4.0 * jnp.tanh(levels) - 4.0, 0.5 * jnp.tanh(turns)], axis=-1)
        return jnp.broadcast_to(row[:, None], (z.shape[0], *DOMAIN.shape))


def network(module, given, **more):
    return Network(module, module.init(jax.random.key(2), jnp.zeros((1, *given.shape))), input=given, **more)


def test_the_picture_says_when_what_and_how_fast_phases_turn():
    wave = tone()
    wave[:900] = 0
    x = DOMAIN.from_wave(wave)
    chex.assert_shape(x, (32, 128, 2))
    level, turning = DOMAIN.pictures(x)
    chex.assert_shape((level.values, turning.values), (128, 32))
    assert (level.unit, level.low, level.high, turning.unit) == ("dB", -80.0, 0.0, "π/frame")
    row, column = np.unravel_index(np.argmax(level.values), level.values.shape)
    assert level.y.values[row] == pytest.approx(1000, abs=35) and level.y.unit == "Hz"
    assert level.y.values[0] > level.y.values[-1], "row 0 is the top: the highest frequency"
    assert level.x.values[column] > 900 / RATE
    assert level.x.values[1] - level.x.values[0] == pytest.approx(64 / RATE)
    # Half of full scale; a band holds most of the tone's power.
    assert level.values.max() == pytest.approx(-6.0, abs=1.5)
    # 1000 Hz in a hop of 64 samples: 8 whole turns, so that the phase seems to stand.
    assert np.abs(turning.values[row, 24:28]).max() < 0.02


def test_one_picture_shows_both_channels():
    x = np.array(DOMAIN.silence())
    assert DOMAIN.picture(x).values.max() < 0.02
    x[4:8, 40:60, 0] = 6.0
    plain = DOMAIN.picture(x)
    chex.assert_shape(plain.values, (128, 32, 3))
    assert plain.values[128 - 50, 5].max() > 0.5 and plain.values[10, 5].max() < 0.02
    x[..., 1] = 0.5
    assert np.abs(DOMAIN.picture(x).values - plain.values).max() > 0.3, "the hue is the frequency"
    x[..., 1] = 2.5
    other = DOMAIN.picture(x).values
    x[..., 1] = 0.5
    chex.assert_trees_all_close(DOMAIN.picture(x).values, other, atol=1e-6)
    assert np.all(np.isfinite(DOMAIN.picture(np.full(DOMAIN.shape, np.nan)).values))


def test_sound_goes_in_and_comes_out():
    wave = tone(700.0)
    x = DOMAIN.from_wave(wave)
    heard = DOMAIN.sound(x)
    assert (heard.sample_rate, len(heard.wave)) == (RATE, 1800)
    spectrum = np.abs(np.fft.rfft(heard.wave))
    assert np.argmax(spectrum) * RATE / 1800 == pytest.approx(700, abs=5)
    assert np.abs(DOMAIN.sound(DOMAIN.silence()).wave).max() < 2e-3
    assert np.all(np.isfinite(DOMAIN.sound(np.full(DOMAIN.shape, np.nan)).wave))
    many = list(sounds(DOMAIN, np.stack([x, DOMAIN.silence(), x]), chunk_size=2))
    assert len(many) == 3
    chex.assert_trees_all_close(many[2].wave, heard.wave, atol=1e-5)
    with pytest.raises(ValueError, match="sound has 1799 samples"):
        DOMAIN.from_wave(wave[1:])
    with pytest.raises(ValueError, match="sound has 44100 samples a second"):
        DOMAIN.from_wave(wave, sample_rate=44100)


def test_limits_are_where_the_discriminator_clips():
    low, high = DOMAIN.limits
    chex.assert_trees_all_close(low.ravel(), np.asarray([-16.8396, -1.25]), atol=1e-3)
    chex.assert_trees_all_close(high.ravel(), np.asarray([13.4006, 1.25]), atol=1e-3)
    assert (DOMAIN.low, DOMAIN.high) == (pytest.approx(-16.8396, abs=1e-3), pytest.approx(13.4006, abs=1e-3))


def test_it_becomes_what_a_log_mel_network_hears():
    x = DOMAIN.from_wave(tone())
    found = domains.converter(DOMAIN, MEL)(x)
    wanted = domains.converter(domains.Waveform(1800, RATE), MEL)(tone()[:, None])
    chex.assert_shape(found, MEL.shape)
    loud = np.asarray(wanted).max(axis=1)[:, 0] > 0.75
    assert loud.sum() in (1, 2)
    chex.assert_trees_all_close(found[loud, 3:9], wanted[loud, 3:9], atol=0.04)
    slope = jax.grad(lambda one: jnp.sum(domains.converter(DOMAIN, MEL)(one)))(x)
    chex.assert_tree_all_finite(slope)
    assert np.abs(slope).max(axis=(0, 1)).min() > 0
    there = domains.converter(domains.Waveform(900, 4000), DOMAIN)
    chex.assert_shape(there(jnp.zeros((900, 1))), DOMAIN.shape)
    with pytest.raises(ValueError, match="sound of any rate and length"):
        domains.converter(domains.Latent(3), DOMAIN)


def test_statistics_and_a_start_from_them(tmp_path):
    x = jnp.stack([DOMAIN.from_wave(tone(hertz)) for hertz in (300.0, 2000.0)])
    known = domains.with_statistics(DOMAIN, x)
    chex.assert_shape(known.band_mean, (128, 2))
    start = parameterizations.pixels(start="mean", sd=0.0)
    begun = start.apply(start.init(jax.random.key(0), known), known)
    # Bands at the very ends stay a little inside.
    chex.assert_trees_all_close(begun[7], np.mean(x, axis=(0, 1)), atol=0.05)
    judge = network(Judge(), known)
    judge.save(tmp_path / "judge")
    again = nd.load(tmp_path / "judge", module=Judge())
    assert again.input == DOMAIN
    chex.assert_trees_all_equal(again.input.band_mean, known.band_mean)
    with pytest.raises(ValueError, match=r"inputs must have the shape \(n, frames, 128, 2\)"):
        domains.with_statistics(DOMAIN, x[..., :1])
    with pytest.raises(ValueError, match="not finite"):
        domains.with_statistics(DOMAIN, np.full((1, *DOMAIN.shape), np.nan))


@pytest.fixture(scope="module")
def found():
    judge = network(Judge(), DOMAIN)
    return nd.visualize_batch(
        judge, objectives.logit([0, 1]), key=jax.random.key(0), steps=12, restarts=0, snapshots=2, progress=False
    )


def test_a_search_over_inputs_stays_within_the_limits(found):
    low, high = DOMAIN.limits
    assert np.all(found.history[-1] > found.history[0])
    assert np.all(found.inputs >= low) and np.all(found.inputs <= high)


def test_pages_and_sheets_draw_and_play_it(found, tmp_path):
    page = nd.report.atlas(found, tmp_path / "atlas")
    assert "colour is instantaneous frequency" in page.read_text()
    assert len(list((tmp_path / "atlas").rglob("*.wav"))) >= 1
    page = nd.report.players(found.inputs, DOMAIN, tmp_path / "players")
    assert "colour is instantaneous frequency" in page.read_text()
    chex.assert_shape(compose(found.inputs, DOMAIN, titles=["a", "b"]), (None, None, 3))


def test_a_generator_of_mel_if_is_a_prior():
    maker = network(Maker(), domains.Latent(3), output=DOMAIN)
    prior = parameterizations.prior(maker, project=False)
    z = jnp.asarray([0.5, -1.0, 2.0])
    wanted = domains.converter(DOMAIN, MEL)(maker(z[None])[0])
    chex.assert_trees_all_close(prior.apply({"z": z}, MEL), wanted, atol=1e-5)
    slope = jax.grad(lambda one: jnp.mean(prior.apply({"z": one}, MEL)))(z)
    chex.assert_tree_all_finite(slope)
    assert np.all(slope != 0)


def test_silence_and_level_are_counted_in_db():
    quiet, loud = penalties.silence(), DOMAIN.from_wave(tone(amplitude=1.0))
    assert float(quiet(DOMAIN.silence(), DOMAIN)) == 0.0
    # Ten times the amplitude is 20 dB more in every cell that holds the tone.
    ten = DOMAIN.silence().at[..., 0].add(2.0)
    assert float(quiet(ten, DOMAIN)) == pytest.approx(0.5 * 2.0 * 20.0 / np.log(10.0), rel=1e-4)
    slope = jax.grad(lambda x: quiet(x, DOMAIN))(ten)
    assert np.all(np.asarray(slope[..., 0]) > 0) and not np.any(np.asarray(slope[..., 1]))
    tenth = penalties.level_db(DOMAIN.from_wave(tone(amplitude=0.1)), DOMAIN)
    assert float(penalties.level_db(loud, DOMAIN) - tenth) == pytest.approx(20.0, abs=0.1)
    assert np.asarray(jax.jit(DOMAIN.levels)(loud)) == pytest.approx(DOMAIN.level_db(loud), abs=1e-3)
