"""A voice taken apart and put together again: one contour goes flat, the other stays."""

from __future__ import annotations

import chex
import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax.attribute import intonation
from nd_jax.domain import Image, Waveform

RATE = 8000


@pytest.fixture(scope="module")
def wave():
    """0.8 s of a voice that rises by an octave, from 120 Hz, and falls by 24 dB, between two silences."""
    time = np.arange(round(0.8 * RATE)) / RATE
    phase = 2 * np.pi * 120 * 0.8 / np.log(2) * (2 ** (time / 0.8) - 1)
    tone = sum(np.sin(number * phase) / number for number in range(1, 8))
    quiet = np.zeros(RATE // 10)
    return np.concatenate([quiet, 0.2 * tone * 10 ** (-1.5 * time), quiet]).astype(np.float32)


@pytest.fixture(scope="module")
def voice(wave):
    return nd.attribute.speech(wave, RATE)


def semitones(speech):
    return 12 * np.log2(speech.f0[speech.voiced])


def test_contours(voice):
    inside = (voice.seconds > 0.2) & (voice.seconds < 0.8)
    assert voice.voiced[inside].all() and not voice.voiced[voice.seconds < 0.05].any()
    expected = 120 * 2 ** ((voice.seconds - 0.1) / 0.8)
    chex.assert_trees_all_close(voice.f0[inside], expected[inside], rtol=0.01)
    fall = np.polyfit(voice.seconds[inside], voice.level[inside], 1)[0]
    chex.assert_trees_all_close(fall, -30.0, atol=0.5)
    assert 150 < voice.mean_f0 < 190


def test_a_flat_pitch_at_the_same_loudness(voice):
    flat = nd.attribute.speech(voice.remade(intonation=0.0), RATE)
    assert semitones(voice).std() > 3 and semitones(flat).std() < 0.3
    chex.assert_trees_all_close(flat.mean_f0, voice.mean_f0, rtol=0.02)
    inside = voice.sounding & (voice.seconds > 0.15) & (voice.seconds < 0.85)
    assert np.abs(flat.level - voice.level)[inside].max() < 1.0


def test_a_flat_level_at_the_same_pitch(voice):
    flat = nd.attribute.speech(voice.remade(intensity=0.0), RATE)
    inside = (voice.seconds > 0.15) & (voice.seconds < 0.85)
    assert voice.level[inside].std() > 5 and flat.level[inside].std() < 0.5
    chex.assert_trees_all_close(flat.f0[inside], voice.f0[inside], rtol=0.02)


def test_half_a_mask_and_none(voice, wave):
    same = nd.attribute.speech(voice.remade(), RATE)
    inside = (voice.seconds > 0.15) & (voice.seconds < 0.85)
    chex.assert_trees_all_close(same.f0[inside], voice.f0[inside], rtol=0.02)
    assert np.abs(same.level - voice.level)[inside].max() < 1.0
    early = nd.attribute.speech(voice.remade(intonation=(voice.seconds < 0.5).astype(float)), RATE)
    first, last = inside & (voice.seconds < 0.45), inside & (voice.seconds > 0.55)
    chex.assert_trees_all_close(early.f0[first], voice.f0[first], rtol=0.02)
    chex.assert_trees_all_close(early.f0[last], np.full(last.sum(), voice.mean_f0), rtol=0.03)


def test_what_has_no_voice_has_no_intonation():
    noise = nd.attribute.speech(0.1 * np.random.default_rng(0).normal(size=RATE), RATE)
    assert noise.mean_f0 == 0 and (noise.cells("intonation", 4) == -1).all()
    again = noise.remade(intonation=0.0)
    chex.assert_trees_all_close(again, noise.wave, atol=0.05)


class Falls(nn.Module):
    """Says 1 when the sound is louder before 0.3 s than after 0.7 s."""

    @nn.compact
    def __call__(self, x):
        early, late = (jnp.mean(jnp.square(part), axis=(1, 2)) for part in (x[:, :2400], x[:, 5600:]))
        return jnp.stack([jnp.zeros_like(early), 3.0 * jnp.log((early + 1e-4) / (late + 1e-4))], axis=1)


def test_the_least_of_a_contour(voice):
    network = nd.Network(Falls(), {}, Waveform(RATE, RATE))
    assert intonation.said(network, [voice.wave], RATE)[0, 1] > 0.99
    pitch = nd.attribute.contour_mask(network, voice, 1, "intonation", cells=4)
    assert pitch.kept == 0 and len(pitch.order) == 4 and pitch.used.all()
    loud = nd.attribute.contour_mask(network, voice, 1, "intensity", cells=4)
    # The middle of the sound is not looked at.
    assert loud.mask[1] == loud.mask[2] == 0 and 0.25 <= loud.kept <= 0.5
    assert loud.chances.min() >= 0.9 and len(loud.chances) == 1 + len(loud.order)
    chex.assert_trees_all_close(intonation.said(network, [loud.wave], RATE)[0, 1], loud.chances[-1], atol=1e-5)


def test_one_sentence(voice):
    network = nd.Network(Falls(), {}, Waveform(RATE, RATE))
    with pytest.raises(ValueError, match="unknown contour 'pitch'; .*'intonation'"):
        nd.attribute.contour_mask(network, voice, 1, "pitch")
    for wrong, words in (
        ({"cells": 0}, "cells must be a whole number of at least 1, got 0"),
        ({"cells": 2.5}, "cells must be a whole number of at least 1, got 2.5"),
        ({"sure": 5}, "sure is a probability above 0 and at most 1, got 5"),
        ({"target": 99}, "99"),
        ({"target": -1}, "-1"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            nd.attribute.contour_mask(network, voice, **{"target": 1, "contour": "intensity", **wrong})
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(ValueError, match="has 16000 Hz, and the network takes 8000 Hz"):
        intonation.said(network, [voice.wave], 16000)
    with pytest.raises(ValueError, match="takes an input of kind 'image'"):
        intonation.heard(nd.Network(Falls(), {}, Image((2, 2, 1))), [voice.wave], RATE)
    with pytest.raises(ValueError, match=r"a mask of 0 ... 1, one number or \d+"):
        voice.remade(intonation=2.0)
    with pytest.raises(ValueError, match="mono sound of 0.1 s or more"):
        nd.attribute.speech(np.zeros((2, 8000)), RATE)
    with pytest.raises(ValueError, match="f0 is looked for between"):
        nd.attribute.speech(voice.wave, RATE, low=500, high=100)
