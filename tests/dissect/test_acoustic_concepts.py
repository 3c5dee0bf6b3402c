"""Measured concepts: what a clip is said to be has the score 1, by the captioner's own thresholds."""

from __future__ import annotations

import chex
import numpy as np
import pytest

from nd_jax.dissect import ACOUSTIC_CONCEPTS, acoustic_scores, measure
from nd_jax.dissect.acoustic_captions import Measures

RATE = 16000
TIME = np.arange(2 * RATE) / RATE


def said(wave):
    row = acoustic_scores([measure(wave.astype(np.float32), RATE)])[0]
    assert set(row.tolist()) <= {0.0, 1.0}
    return {name for name, score in zip(ACOUSTIC_CONCEPTS.names, row, strict=True) if score}


def test_a_tone_noise_a_swinging_sound_and_silence():
    tone = said(0.3 * np.sin(2 * np.pi * 440 * TIME))
    assert {"clear", "middle-pitched", "steady pitch", "dark", "without onsets"} <= tone
    noise = said(0.1 * np.random.default_rng(0).normal(size=len(TIME)))
    assert {"noisy", "bright", "without a pitch"} <= noise and "clear" not in noise
    beating = said(0.3 * (1 + np.sin(2 * np.pi * 4 * TIME)) * np.sin(2 * np.pi * 2000 * TIME))
    assert {"strongly swinging", "high-pitched"} <= beating
    clicks = np.where(np.arange(len(TIME)) % 4000 < 400, 0.5 * np.sin(2 * np.pi * 700 * TIME), 0)
    assert "many onsets" in said(clicks)
    assert said(np.zeros_like(TIME)) == {"silent"}


def test_every_level_has_one_word():
    measured = [Measures(1.0, float(level), brightness=500.0, noisiness=0.05) for level in range(-80, 0, 3)]
    names = ACOUSTIC_CONCEPTS.names
    loud = [names.index(name) for name in ("silent", "very quiet", "quiet", "moderately loud", "loud", "very loud")]
    scores = acoustic_scores(measured)
    chex.assert_shape(scores, (len(measured), len(names)))
    assert (scores[:, loud].sum(axis=1) == 1).all() and (np.diff(scores[:, loud].argmax(axis=1)) >= 0).all()
    with pytest.raises(ValueError, match="no measured clips"):
        acoustic_scores([])
