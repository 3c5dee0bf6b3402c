"""Concepts that are measured, not told: loud, noisy, dark, high-pitched; scores of clips without caption or encoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nd_jax.dissect.acoustic_captions import STEADY_SEMITONES, WORDS, Measures
from nd_jax.dissect.concepts import ConceptSet

ONSETS_PER_SECOND = 2.0
"""From so many on, a sound has many onsets."""

_MEASURED = ("loudness", "noisiness", "brightness", "pitch", "modulation")
_SWINGING = {word: f"{word} swinging" for _, word in WORDS["modulation"] if word}
_MORE = ("steady pitch", "moving pitch", "without a pitch", "without onsets", "many onsets")
_NAMES = (*(_SWINGING.get(word, word) for kind in _MEASURED for _, word in WORDS[kind] if word), *_MORE)

ACOUSTIC_CONCEPTS = ConceptSet("acoustic", _NAMES, tuple(range(len(_NAMES))))
"""The words of `acoustic_captions`, with the same thresholds, and five about pitch and onsets."""


def acoustic_scores(measures: Sequence[Measures]) -> np.ndarray:
    """What clips have of the concepts of `ACOUSTIC_CONCEPTS`.

    Args:
      measures: of each clip, from `measure`.

    Returns:
      (clips, concepts) float32: 1 for what a clip is, else 0. A silent clip is silent and nothing else.

    Raises:
      ValueError: no clips.
    """
    if not measures:
        raise ValueError("there are no measured clips")
    names = {name: place for place, name in enumerate(ACOUSTIC_CONCEPTS.names)}
    scores = np.zeros((len(measures), len(names)), np.float32)
    for row, one in enumerate(measures):
        for name in _said(one):
            scores[row, names[name]] = 1.0
    return scores


def _said(measures: Measures) -> list[str]:
    said = [_word("loudness", measures.loudness)]
    if measures.loudness == -np.inf:
        return said
    for kind in ("noisiness", "brightness", "pitch"):
        value = getattr(measures, kind)
        said += [] if value is None else [_word(kind, value)]
    swing = _word("modulation", measures.modulation_depth)
    said += [_SWINGING[swing]] if swing and measures.modulation_rate is not None else []
    if measures.pitch is None or measures.pitch_range is None:
        said.append("without a pitch")
    else:
        low, high = measures.pitch_range
        said.append("steady pitch" if 12 * np.log2(high / low) <= STEADY_SEMITONES else "moving pitch")
    if not measures.onsets:
        said.append("without onsets")
    elif measures.onsets >= ONSETS_PER_SECOND * measures.duration:
        said.append("many onsets")
    return [word for word in said if word]


def _word(kind: str, value: float) -> str:
    return next((word for bound, word in WORDS[kind] if value < bound), WORDS[kind][-1][1])
