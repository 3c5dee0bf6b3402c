"""Captions by measurement: synthetic sounds whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from nd_jax import audio
from nd_jax.dissect.acoustic_captions import WORDS, Measures, acoustic_captions, describe, measure

RATE = 16000
TIME = np.arange(2 * RATE) / RATE


def tone(hertz, level=0.2, time=TIME):
    return level * np.sin(2 * np.pi * hertz * time)


def noise(level=0.1, samples=2 * RATE):
    return level * np.random.default_rng(0).normal(size=samples)


def harmonics(hertz, count=8):
    return sum(0.2 / (part + 1) * np.sin(2 * np.pi * hertz * (part + 1) * TIME) for part in range(count))


@pytest.mark.parametrize("hertz", [60.0, 110.0, 440.0, 997.0, 2500.0])
def test_pitch_of_tones(hertz):
    found = measure(tone(hertz), RATE)
    assert found.pitch == pytest.approx(hertz, rel=0.003)
    assert found.brightness == pytest.approx(hertz, rel=0.15, abs=40) and found.noisiness < 0.01
    assert (found.onsets, found.modulation_depth < 0.05) == (0, True)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_a_sound_at_any_rate(rate):
    found = measure(tone(330, time=np.arange(rate) / rate), rate)
    assert found.pitch == pytest.approx(330, rel=0.003) and found.duration == 1
    # A sine of amplitude 0.2 has -17 dBFS of power; K-weighting adds little at 330 Hz and its offset is -0.691.
    assert found.loudness == pytest.approx(20 * np.log10(0.2) - 3.01 - 0.69, abs=0.5)


def test_pitch_of_harmonics_is_their_fundamental():
    found = measure(harmonics(150), RATE)
    assert found.pitch == pytest.approx(150, rel=0.003) and found.brightness > 200
    missing = harmonics(200) - tone(200)
    assert measure(missing, RATE).pitch == pytest.approx(200, rel=0.003)


def test_dark_and_low_passed_noise_is_noise_and_a_low_voice_is_not():
    spectrum = np.fft.rfft(noise())
    frequency = np.fft.rfftfreq(len(TIME), 1 / RATE)
    brown = np.fft.irfft(spectrum / np.maximum(frequency, 30) * 300)
    low = np.fft.irfft(spectrum * (frequency < 2000))
    for wave in (brown, low):
        assert measure(wave, RATE).noisiness > 0.35
    assert measure(harmonics(100), RATE).noisiness < 0.02


def test_a_moving_pitch():
    sweep = 0.2 * np.sin(2 * np.pi * (300 * TIME + 75 * TIME**2))  # 300 to 600 Hz
    low, high = measure(sweep, RATE).pitch_range
    assert low == pytest.approx(375, rel=0.05) and high == pytest.approx(525, rel=0.05)
    assert "with a moving pitch between" in describe(measure(sweep, RATE))


def test_noise_has_no_pitch_and_its_own_flatness_and_centroid():
    found = measure(noise(), RATE)
    # The periodogram of white noise is exponential: its geometric mean is exp(-0.5772) of its mean.
    assert found.noisiness == pytest.approx(np.exp(-0.5772), abs=0.03)
    assert found.brightness == pytest.approx(4000, rel=0.03)
    assert (found.pitch, found.onsets) == (None, 0) and found.modulation_depth < 0.1
    assert describe(found).endswith("sound of 2 s, with no clear pitch, without onsets")


@pytest.mark.parametrize(("rate", "depth"), [(2.0, 0.3), (4.0, 0.8), (20.0, 0.5)])
def test_modulation(rate, depth):
    found = measure(tone(1000) * (1 + depth * np.sin(2 * np.pi * rate * TIME)) / 2, RATE)
    assert found.modulation_rate == pytest.approx(rate, rel=0.04)
    assert found.modulation_depth == pytest.approx(depth, rel=0.05)


@pytest.mark.parametrize("carrier", [tone(700), noise()])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_onsets(carrier, count):
    starts = 0.1 + np.arange(count) * 1.8 / count
    wave = np.zeros(len(TIME))
    for start in starts:
        since = TIME - start
        wave += np.where(since >= 0, carrier * np.exp(-12 * np.maximum(since, 0)), 0)
    assert measure(wave, RATE).onsets == count


def test_silence_short_sounds_and_a_constant():
    assert describe(measure(np.zeros(RATE), RATE)) == "silence of 1 s"
    assert measure(np.zeros(RATE), RATE) == Measures(1.0, -np.inf)
    short = measure(tone(1000)[:80], RATE)
    assert short.duration == 0.005 and short.modulation_rate is None and describe(short)
    assert describe(measure(np.full(RATE, 0.5), RATE))
    one = measure(np.ones(1), RATE)
    assert describe(one)


def test_what_is_said():
    told = Measures(5.0, -20.0, None, None, 700.0, 0.4, 4.0, 0.6, 15)
    assert describe(told) == (
        "a loud, noisy, dark sound of 5 s, with no clear pitch, swinging strongly about 4 times a second, "
        "with about 3 onsets a second"
    )
    told = Measures(0.5, -40.0, 440.0, (438.0, 442.0), 1500.0, 0.05, None, 0.0, 1)
    assert describe(told) == (
        "a quiet, middle-pitched sound of 0.5 s, with a steady pitch near 440 Hz (A4), with 1 onset"
    )


def test_every_threshold_parts_two_words():
    for words in WORDS.values():
        bounds = [bound for bound, _ in words]
        assert bounds == sorted(set(bounds)) and bounds[-1] == np.inf
    for place, (bound, word) in enumerate(WORDS["loudness"][1:-1], start=1):
        # The bound itself belongs to the louder word.
        assert describe(Measures(1.0, np.nextafter(bound, -np.inf))).startswith(f"a {word} sound")
        assert describe(Measures(1.0, bound)).startswith(f"a {WORDS['loudness'][place + 1][1]} sound")


def test_many_sounds(tmp_path):
    waves = [tone(440), noise()]
    found = acoustic_captions(waves, RATE)
    assert found.clips == ("clip 0", "clip 1") and found.rows.tolist() == [0, 1]
    assert "(A4)" in found.texts[0][0] and "noisy" in found.texts[1][0]
    assert acoustic_captions(waves, RATE) == found
    audio.write(tmp_path / "a.wav", tone(440).astype(np.float32), RATE)
    (tmp_path / "b.wav").write_bytes(b"no sound")
    files = acoustic_captions([tmp_path / "a.wav", tmp_path / "b.wav"])
    assert files.texts == (found.texts[0], ()) and list(files.skipped) == [str(tmp_path / "b.wav")]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: measure(np.zeros((2, 2)), RATE), r"one sound of shape \(samples,\)"),
        (lambda: measure(np.zeros(0), RATE), r"one sound of shape \(samples,\)"),
        (lambda: measure(np.full(9, np.nan), RATE), "NaN or infinite"),
        (lambda: measure(np.zeros(9), 1000), "2,000 Hz or more"),
        (lambda: acoustic_captions([], RATE), "no sounds to describe"),
        (lambda: acoustic_captions(["a.wav"], RATE), "files alone, or waves with their sample_rate"),
        (lambda: acoustic_captions([np.zeros(9)]), "files alone, or waves with their sample_rate"),
        (lambda: acoustic_captions([np.zeros(9)], RATE, names=["a", "b"]), "2 names for 1 sounds"),
        (lambda: acoustic_captions([np.zeros(9), np.full(9, np.inf)], RATE), "clip 1: the sound has samples"),
    ],
)
def test_one_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()
