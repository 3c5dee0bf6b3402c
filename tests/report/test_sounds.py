"""Sounds of a page: batched inversion, one loudness, silence that stays silence, WAV files, pitch and brightness."""

from __future__ import annotations

import io
import threading

import chex
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from nd_jax import audio
from nd_jax.domain import Image, Parts, Sound, Waveform
from nd_jax.report import sounds


def tone(frequency, seconds=0.5, rate=8000, level=0.1, harmonics=1):
    time = np.arange(int(seconds * rate)) / rate
    wave = sum(np.sin(2 * np.pi * frequency * k * time) / k for k in range(1, harmonics + 1))
    return Sound((level * wave).astype(np.float32), rate)


def test_batched_inversion_equals_one_by_one(domain, waves):
    inputs = np.asarray(domain.from_wave(waves[:5]))
    batched = list(sounds.sounds(domain, inputs, chunk_size=2))
    assert len(batched) == 5
    for one, x in zip(batched, inputs, strict=True):
        chex.assert_trees_all_close(one.wave, domain.sound(x).wave, atol=1e-4)
        assert one.sample_rate == 8000


def test_sounds_come_in_order_and_a_reader_that_stops_ends_the_work(domain, waves):
    inputs = np.asarray(domain.from_wave(waves[np.arange(40) % 11]))
    made = sounds.sounds(domain, inputs, chunk_size=1)
    first = [next(made).wave for _ in range(3)]
    made.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sounds")]
    for wave, x in zip(first, inputs[:3], strict=True):
        chex.assert_trees_all_close(wave, domain.sound(x).wave, atol=1e-4)
    assert list(sounds.sounds(domain, inputs[:0])) == []


def test_waveforms_play_as_they_are_and_images_do_not():
    heard = list(sounds.sounds(Waveform(100, 8000), np.full((2, 100, 1), 0.5, np.float32)))
    chex.assert_trees_all_close(heard[1].wave, np.full(100, 0.5, np.float32))
    assert sounds.sounds(Image((4, 4, 1)), np.zeros((2, 4, 4, 1))) is None
    parts = Parts({"picture": Image((4, 4, 1)), "wave": Waveform(100, 8000)})
    both = {"picture": np.zeros((2, 4, 4, 1)), "wave": np.zeros((2, 100, 1))}
    assert len(list(sounds.sounds(parts, both))) == 2


def test_quiet_and_loud_sounds_come_out_equally_loud_with_the_gain_stated():
    quiet, loud = (sounds.at_playback_level(tone(500, level=level)) for level in (0.01, 0.5))
    for one in (quiet, loud):
        assert audio.loudness(one.sound.wave, 8000) == pytest.approx(sounds.LOUDNESS, abs=0.3)
        assert np.abs(one.sound.wave).max() < 1
        assert one.limited_db < 0.5
    assert quiet.gain_db - loud.gain_db == pytest.approx(20 * np.log10(50), abs=0.1)


def test_the_limiter_says_what_it_did():
    wave = np.zeros(8000, np.float32)
    wave[::400] = 0.9
    played = sounds.at_playback_level(Sound(wave, 8000))
    assert np.abs(played.sound.wave).max() <= 0.9
    expected = 20 * np.log10(0.9) + played.gain_db - 20 * np.log10(np.abs(played.sound.wave).max())
    assert played.limited_db == pytest.approx(expected, abs=1e-3)
    assert played.limited_db > 0.1


@pytest.mark.parametrize("level", [0.0, 1e-4, np.nan])
def test_silence_is_called_silent_and_never_amplified(level):
    noise = np.random.default_rng(0).uniform(-1, 1, 4000).astype(np.float32) * np.float32(level)
    played = sounds.at_playback_level(Sound(noise, 8000))
    assert played.silent
    assert played.gain_db == 0
    assert np.abs(played.sound.wave).max() <= 1e-3


def test_the_picture_of_silence_plays_as_silence(domain):
    heard = list(sounds.sounds(domain, np.asarray(domain.silence())[None]))
    assert sounds.at_playback_level(heard[0]).silent


def test_wav_files_read_back(tmp_path):
    sound = tone(440)
    content = sounds.encode_wav(sound)
    wave, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    assert rate == 8000
    chex.assert_trees_all_close(wave, sound.wave, atol=1 / 32767)
    clipped, _ = soundfile.read(io.BytesIO(sounds.encode_wav(Sound(np.array([2.0, -2.0, np.nan]), 8000))))
    chex.assert_trees_all_close(clipped, np.array([1.0, -1.0, 0.0]), atol=1e-4)


@pytest.mark.parametrize("frequency", [82.4, 220.0, 440.0, 1046.5])
@pytest.mark.parametrize("harmonics", [1, 3])
def test_pitch_of_tones(frequency, harmonics):
    assert sounds.pitch(tone(frequency, harmonics=harmonics)) == pytest.approx(frequency, rel=0.01)


def test_noise_silence_and_short_clicks_have_no_pitch():
    noise = np.random.default_rng(0).normal(size=4000).astype(np.float32) * 0.1
    assert sounds.pitch(Sound(noise, 8000)) is None
    assert sounds.pitch(Sound(np.zeros(4000, np.float32), 8000)) is None
    assert sounds.pitch(Sound(np.ones(8, np.float32), 8000)) is None


def test_brightness_is_the_spectral_centroid():
    assert sounds.brightness(tone(1000)) == pytest.approx(1000, rel=0.01)
    both = Sound(tone(500).wave + tone(1500).wave, 8000)
    assert sounds.brightness(both) == pytest.approx(1000, rel=0.02)
    assert sounds.brightness(Sound(np.zeros(100, np.float32), 8000)) is None
    assert jnp.isfinite(sounds.brightness(tone(100)))
