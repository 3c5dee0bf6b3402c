"""Emotional speech for GANs: the source's features and split, ours beside them, and what both refuse."""

from __future__ import annotations

import dataclasses
import functools

import chex
import jax
import numpy as np
import pytest

from nd_jax.data import Clips, load
from nd_jax.experiments.configs import emotional_speech as speech
from nd_jax.networks import mel_dcgan
from nd_jax.training.gan import task


def clips(waves, rate=speech.SAMPLE_RATE, emotions=("anger",)) -> Clips:
    features = {"emotion": np.arange(len(waves)) % len(emotions)}
    return Clips(waves, rate, features, {"emotion": tuple(emotions)})


@pytest.fixture(scope="module")
def voices():
    """A short sound with silent ends, and one longer than 3 s, int16."""
    rng = np.random.default_rng(0)
    sounds = []
    for seconds in (0.8, 3.4):
        time = np.arange(int(seconds * speech.SAMPLE_RATE)) / speech.SAMPLE_RATE
        wave = 0.3 * np.sin(2 * np.pi * 220 * time) * (1.5 + np.sin(7 * time)) + 0.01 * rng.normal(size=len(time))
        sounds.append(np.round(8000 * wave).astype(np.int16))
    ends = np.round(2 * rng.normal(size=6000)).astype(np.int16)
    return [np.concatenate([ends, sounds[0], ends]), sounds[1]]


def test_silent_ends_are_cut_where_librosa_cuts_them():
    wave = np.zeros(10000, np.float32)
    wave[3000:7000] = 0.5
    # Frames of 256 every 128, centred. A frame is silent at RMS 25 dB down: at less than one sample in 316 of it, so
    # that the first one with a sample of sound is frame 23 (samples 2816 to 3072) and the last is 55 (6912 to 7168).
    cut = speech.trimmed(wave)
    chex.assert_trees_all_equal(cut, wave[23 * 128 : 56 * 128])
    chex.assert_trees_all_equal(speech.trimmed(np.zeros(1000, np.int16)), np.zeros(1000, np.int16))


def source_level(wave) -> np.ndarray:
    """The source's features in plain NumPy, straight from their description."""
    sound = speech.trimmed(wave) / 32768.0
    if len(sound) < 66150:
        sound = 2 * (sound - sound.min()) / (sound.max() - sound.min()) - 1
        missing = 66150 - len(sound)
        sound = np.pad(sound, (missing // 2, missing - missing // 2))
    sound = np.pad(sound, 512, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(sound, 1024)[::256]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    magnitude = np.abs(np.fft.rfft(frames * window))
    mel = lambda hertz: hertz * 3 / 200 if hertz < 1000 else 15 + 27 * np.log(hertz / 1000) / np.log(6.4)  # noqa: E731
    back = lambda value: value * 200 / 3 if value < 15 else 1000 * 6.4 ** ((value - 15) / 27)  # noqa: E731
    edges = [back(value) for value in np.linspace(mel(0), mel(8000), 82)]
    hertz = np.arange(513) * 22050 / 1024
    bands = []
    for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
        triangle = np.minimum((hertz - low) / (middle - low), (high - hertz) / (high - middle))
        bands.append(magnitude @ (np.maximum(triangle, 0) * 2 / (high - low)))
    return np.log(np.maximum(bands, 1e-5))


def test_source_features_are_those_of_its_description(voices, getkey):
    found = speech.source_arrays(clips(voices))
    assert found["frames"].tolist() == [259, 1 + len(speech.trimmed(voices[1])) // 256]
    for level, length, wave in zip(found["level"], found["frames"], voices, strict=True):
        expected = source_level(wave)
        assert expected.shape == (80, length)
        loud = expected > -10  # float32 rounding moves what lies at the floor
        chex.assert_trees_all_close(level[:, :length][loud], expected[loud], atol=2e-3)
        assert level.min() >= np.log(1e-5) - 1e-4
    crop = jax.jit(jax.vmap(speech.source_example, in_axes=(0, None)))
    one = {name: values[0] for name, values in found.items()}
    parts = np.asarray(crop(jax.random.split(getkey(), 5), one))
    chex.assert_shape(parts, (5, 80, 160, 1))
    assert np.all(parts.min(axis=(1, 2, 3)) == 0) and np.all(parts.max(axis=(1, 2, 3)) == 1)
    starts = {int(np.argmax(part.sum(axis=(0, 2)) > 1)) for part in parts}
    assert len(starts) > 1  # not always the same part


def test_source_values_can_be_played(voices):
    domain = speech.source_domain()
    assert domain.shape == (80, 160, 1)
    wave = speech.trimmed(voices[1])[: domain.samples] / np.float32(32768)
    level = source_level(np.concatenate([voices[1], voices[1]]))[:, : speech.FRAMES]
    expected = (level + 11.422722816467285) / (0.6957301956581059 + 11.422722816467285)
    inner = slice(3, -3)  # the ends are mirrored there and silent here
    chex.assert_trees_all_close(
        np.asarray(domain.from_wave(wave))[:, inner, 0], np.clip(expected, 0, 1)[:, inner].astype(np.float32), atol=2e-3
    )


def test_our_features_are_levels_on_one_scale(voices, getkey):
    domain = speech.domain()
    quiet = [voices[0], (voices[0] // 4).astype(np.int16)]
    found = speech.arrays(clips([*quiet, voices[1]]), domain)
    assert found["level"].shape[2] == found["frames"].max() >= 160
    # One peak for all: a quarter of the amplitude is the same picture, but for 16-bit rounding.
    loud = found["level"][0] > -50
    assert np.abs(found["level"][0] - found["level"][1])[loud].max() < 0.5
    wave = speech.trimmed(voices[1]) / 32768.0
    wave = (0.9 * wave / np.abs(wave).max()).astype(np.float32)
    expected = np.asarray(domain.transform.forward(wave), np.float16)
    chex.assert_trees_all_close(found["level"][2][:, : expected.shape[1]], expected, atol=0.1)
    one = {name: values[0] for name, values in found.items()}
    see = jax.jit(jax.vmap(functools.partial(speech.example, domain=domain), in_axes=(0, None)))
    parts = np.asarray(see(jax.random.split(getkey(), 8), one))
    chex.assert_shape(parts, (8, *domain.shape))
    assert 0 <= parts.min() and parts.max() <= 1
    frames = int(one["frames"])
    for part in parts:  # the short sound is whole, in silence
        sounding = np.flatnonzero(part.max(axis=(0, 2)) > 0)
        assert sounding[-1] - sounding[0] < frames
    middle = speech.middles(found, domain)
    chex.assert_shape(middle, (3, *domain.shape))
    sounding = np.flatnonzero(middle[0].max(axis=(0, 2)) > 0)
    assert abs(sounding[0] - (159 - sounding[-1])) <= 1
    first = (int(found["frames"][2]) - 160) // 2
    chex.assert_trees_all_close(
        domain.to_db(middle[2, ..., 0]), np.maximum(found["level"][2][:, first : first + 160], -100), atol=0.1
    )


def test_what_cannot_be_heard_is_one_sentence(voices):
    for make in (speech.source_arrays, lambda given: speech.arrays(given, speech.domain())):
        with pytest.raises(ValueError, match="have 16000 Hz; load them with sample_rate=22050"):
            make(clips(voices, 16000))
        with pytest.raises(ValueError, match="there are no recordings to learn from"):
            make(clips([]))


def test_the_split_of_the_source_has_its_numbers():
    words = [f"word{number:03d}" for number in range(199)] + ["bite"]
    names = {"neutral": "neutral", "happiness": "happy", "sadness": "sad", "anger": "angry"}
    tess = [
        (f"{speaker}_{emotion}/{speaker}_{word}_{names[emotion]}.wav", speaker, emotion)
        for speaker in ("YAF", "OAF")
        for emotion in names
        for word in reversed(words)
    ]
    wrong = tess.index(("OAF_neutral/OAF_bite_neutral.wav", "OAF", "neutral"))
    tess[wrong] = ("OAF_neutral/OA_bite_neutral.wav", "OAF", "neutral")
    files, speakers, emotions = zip(*tess, strict=True)
    part = speech.tess_part(files, speakers, emotions)
    assert np.bincount(part).tolist() == [1280, 160, 160]
    place = dict(zip(files, part.tolist(), strict=True))
    assert place["OAF_neutral/OA_bite_neutral.wav"] == speech.TEST  # sorted last in the source
    assert place["YAF_neutral/YAF_bite_neutral.wav"] == speech.TRAIN
    assert [place[f"OAF_sadness/OAF_word{number:03d}_sad.wav"] for number in (158, 159, 178, 179)] == [0, 1, 1, 2]


def test_the_corpus_of_the_source_is_both_data_sets_in_four_classes():
    names = ("anger", "disgust", "happiness", "neutral", "sadness")
    rows = [(speaker, word, name) for speaker in range(2) for word in range(200) for name in range(len(names))]
    silence = [np.zeros(1, np.int16)]
    tess = Clips(
        silence * len(rows),
        22050,
        {"emotion": np.asarray([row[2] for row in rows]), "speaker": np.asarray([row[0] for row in rows])},
        {"emotion": names, "speaker": ("OAF", "YAF")},
        tuple(f"{'OY'[speaker]}AF_w{word:03d}_{names[name]}.wav" for speaker, word, name in rows),
    )
    # Two statements, twice each; two intensities, but for neutral.
    names = ("neutral", "calm", "happy", "sad", "angry", "fearful")
    rows = [(actor, name) for actor in range(24) for name in range(6) for _ in range(8 if name else 4)]
    ravdess = Clips(
        silence * len(rows),
        22050,
        {"emotion": np.asarray([row[1] for row in rows]), "speaker": np.asarray([row[0] for row in rows])},
        {"emotion": names, "speaker": tuple(f"{actor:02d}" for actor in range(1, 25))},
        tuple(f"{actor}-{index}.wav" for index, (actor, _) in enumerate(rows)),
    )
    label = speech.four(ravdess)
    assert np.bincount(label + 1).tolist() == [192, 288, 192, 192, 192]  # others; neutral with calm, happy, sad, angry

    corpus, part = speech.source_corpus(tess, ravdess)
    assert np.bincount(part).tolist() == [2000, 232, 232]
    assert len(corpus) == 2464 and corpus.names == {"emotion": speech.EMOTIONS}
    assert np.bincount(corpus.features["emotion"]).tolist() == [400 + 288, 592, 592, 592]
    for file, emotion, which in zip(corpus.files[:1600], corpus.features["emotion"], part, strict=False):
        _, word, name = file.removesuffix(".wav").split("_")
        assert speech.EMOTIONS[emotion][:3] == name[:3]
        assert which == (int(word[1:]) >= 160) + (int(word[1:]) >= 180)
    for file, which in zip(corpus.files[1600:], part[1600:], strict=True):
        assert which == (int(file.split("-")[0]) >= 20) + (int(file.split("-")[0]) >= 22)
    with pytest.raises(ValueError, match="TESS is at 22050 Hz and RAVDESS at 48000 Hz; load both with one sample_rate"):
        speech.source_corpus(tess, dataclasses.replace(ravdess, sample_rate=48000))


def test_both_ways_fit_the_mel_gan_of_the_source(voices):
    players = mel_dcgan.Generator(), mel_dcgan.Discriminator()
    ours, domain = speech.arrays(clips(voices), speech.domain()), speech.domain()
    task.check(
        task.GanTask(ours, lambda key, recording: speech.example(key, recording, domain), domain, latent=512), *players
    )
    source = speech.source_arrays(clips(voices))
    task.check(task.GanTask(source, speech.source_example, speech.source_domain(), latent=512), *players)


def test_recordings_become_features(shared, tmp_path):
    found = load(
        "emodb",
        "speaker10",
        manual_dir=shared / "data/emodb",
        data_dir=tmp_path,
        sample_rate=speech.SAMPLE_RATE,
        progress=False,
    )
    label = speech.four(found)
    assert set(label.tolist()) == {-1, 0, 1, 2, 3}
    some = found.select(np.arange(6))
    source, ours = speech.source_arrays(some), speech.arrays(some, speech.domain())
    assert source["frames"].tolist() == [259] * 6
    assert np.all(ours["frames"] <= 174) and np.all(ours["frames"] > 60)
    middle = speech.middles(ours, speech.domain())
    assert middle.std() > 0.05 and 0.3 < middle.mean() < 0.8
