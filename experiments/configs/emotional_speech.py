"""Emotional speech as a GAN is shown it: features, splits and classes of "Activation Maximization with a Prior".

Two ways from recordings to 80 bands x 160 frames (1.85 s at 22,050 Hz):

  `arrays`, `example`                 ours: log-mels in dBFS between a fixed floor and full scale, so that what is loud,
                                      quiet or silent stays so; every value can be played
  `source_arrays`, `source_example`   the source's: Tacotron's natural-log mels, each crop stretched to 0 ... 1 by its
                                      own minimum and maximum, so that levels of two examples cannot be compared

and the source's experiment: `four` classes, `tess_part` and `ravdess_part`, and `source_corpus` for its 2,000 / 232 /
232 recordings.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.audio import LogMel, mel_spectrogram
from nd_jax.data.arrays import Clips, as_float
from nd_jax.domain import LogMel as LogMelDomain
from nd_jax.training import augment

SAMPLE_RATE, N_FFT, HOP, BANDS, FRAMES = 22050, 1024, 256, 80, 160

EMOTIONS = ("neutral", "happy", "sad", "angry")
TRAIN, VALID, TEST = 0, 1, 2

_CLASS = {
    "neutral": "neutral",
    "calm": "neutral",
    "happy": "happy",
    "happiness": "happy",
    "sad": "sad",
    "sadness": "sad",
    "angry": "angry",
    "anger": "angry",
}
_SMALLEST = 1e-5
_SOURCE_SECONDS = 3
# The natural logs that the source's 0 and 1 stand for when a sample is made into sound.
_SOURCE_RANGE = (-11.422722816467285, 0.6957301956581059)


# --- what a GAN of it makes -------------------------------------------------------------------------------------------


def domain(floor_db: float = -100.0) -> LogMelDomain:
    """Ours: 80 bands up to 8 kHz, 160 frames, 0 ... 1 is floor_db ... 0 dBFS."""
    front_end = LogMel(SAMPLE_RATE, N_FFT, HOP, BANDS, f_max=8000.0, scale="slaney", floor_db=floor_db)
    return LogMelDomain(front_end, frames=FRAMES)


def source_domain() -> LogMelDomain:
    """The source's: the same bands as magnitudes under filters of unit area; 0 ... 1 is what its vocoder is given."""
    front_end = LogMel(SAMPLE_RATE, N_FFT, HOP, BANDS, f_max=8000.0, scale="slaney", norm="slaney", power=1.0)
    decibels = 20.0 / math.log(10.0)
    low, high = (decibels * (level + math.log(front_end.gain)) for level in _SOURCE_RANGE)
    return LogMelDomain(dataclasses.replace(front_end, floor_db=low), frames=FRAMES, ceiling_db=high)


# --- recordings -> arrays ---------------------------------------------------------------------------------------------


def trimmed(wave: np.ndarray, top_db: float = 25.0, frame: int = 256, hop: int = 128) -> np.ndarray:
    """A recording without the silence before and after it (librosa.effects.trim): (samples,) -> (at most samples,).

    Args:
      wave: (samples,), int16 or float.
      top_db: frames whose RMS is so far below the loudest frame's are silence.
      frame: length of a frame, in samples; frames are centred, with zeros around the recording.
      hop: from frame to frame, in samples.
    """
    padded = np.pad(as_float(wave), frame // 2).astype(np.float64)
    frames = np.lib.stride_tricks.sliding_window_view(padded, frame)[::hop]
    level = np.sqrt(np.mean(frames**2, axis=1))
    loud = np.flatnonzero(20 * np.log10(np.maximum(level, 1e-5) / max(level.max(), 1e-5)) > -top_db)
    return wave[loud[0] * hop : (loud[-1] + 1) * hop]


def arrays(clips: Clips, domain: LogMelDomain, peak: float = 0.9) -> dict[str, np.ndarray]:
    """Log-mels of whole recordings, trimmed and brought to one peak.

    Args:
      clips: n sounds at the domain's sample rate.
      domain: what the levels are for.
      peak: 1 is full scale.

    Returns:
      {"level": (n, bands, longest) float16, dBFS, "frames": (n,) int32, how many of them are sound}.
    """
    waves = [as_float(trimmed(wave)) for wave in _heard(clips)]
    waves = [wave * (peak / max(float(np.max(np.abs(wave))), 1e-4)) for wave in waves]
    frames = np.asarray([domain.transform.num_frames(len(wave)) for wave in waves], np.int32)
    longest = max(domain.samples, *map(len, waves))
    forward = jax.jit(lambda part: jnp.float16(domain.transform.forward(part)))
    level = _in_batches(forward, [np.pad(wave, (0, longest - len(wave))) for wave in waves])
    return {"level": level[:, :, : max(int(frames.max()), domain.frames)], "frames": frames}


def example(key: jax.Array, recording: Mapping[str, jax.Array], domain: LogMelDomain) -> jax.Array:
    """What the discriminator sees of one recording of `arrays`: a random part, (bands, frames, 1) in 0 ... 1."""
    floor = domain.transform.floor_db
    levels = augment.crop(recording["level"], recording["frames"], key=key, frames=domain.frames, fill=floor)
    return domain.from_db(levels.astype(jnp.float32))[..., None]


def middles(recordings: Mapping[str, np.ndarray], domain: LogMelDomain) -> np.ndarray:
    """The middle of every recording of `arrays`, nothing random: (n, bands, frames, 1) float32 in 0 ... 1."""
    found = np.full((len(recordings["frames"]), *domain.shape[:2]), domain.transform.floor_db, np.float32)
    for row, level, length in zip(found, recordings["level"], recordings["frames"].tolist(), strict=True):
        kept = min(length, domain.frames)
        first, start = (length - kept) // 2, (domain.frames - kept) // 2
        row[:, start : start + kept] = level[:, first : first + kept]
    return np.asarray(domain.from_db(found))[..., None]


def source_arrays(clips: Clips) -> dict[str, np.ndarray]:
    """Natural-log mels of whole recordings, as the source makes them.

    Silence at the ends is cut off; what is shorter than 3 s is stretched to -1 ... 1 by its minimum and maximum and
    stands between zeros. Magnitudes of a Hann window of 1,024, hop 256, the ends mirrored, 80 Slaney bands of unit area
    from 0 to 8,000 Hz, log(max(x, 1e-5)).

    Args:
      clips: n sounds at 22,050 Hz.

    Returns:
      {"level": (n, 80, longest) float32, "frames": (n,) int32, 259 at least}.
    """
    shortest = _SOURCE_SECONDS * SAMPLE_RATE
    waves = []
    for wave in _heard(clips):
        sound = as_float(trimmed(wave))
        if len(sound) < shortest:
            missing = shortest - len(sound)
            sound = np.pad(2 * _unit_range(sound) - 1, (missing // 2, missing - missing // 2))
        waves.append(np.pad(sound, N_FFT // 2, mode="reflect"))
    frames = np.asarray([1 + (len(wave) - N_FFT) // HOP for wave in waves], np.int32)
    longest = max(map(len, waves))
    options: dict[str, Any] = {"sample_rate": SAMPLE_RATE, "n_fft": N_FFT, "hop_length": HOP, "n_mels": BANDS}
    options |= {"f_max": 8000.0, "center": False, "power": 1.0}
    forward = jax.jit(lambda part: jnp.log(jnp.maximum(mel_spectrogram(part, **options), _SMALLEST)))
    level = _in_batches(forward, [np.pad(wave, (0, longest - len(wave))) for wave in waves])
    return {"level": level[:, :, : int(frames.max())], "frames": frames}


def source_example(key: jax.Array, recording: Mapping[str, jax.Array]) -> jax.Array:
    """A random part of one recording of `source_arrays`, stretched to 0 ... 1: (80, 160, 1)."""
    start = jax.random.randint(key, (), 0, recording["frames"] - FRAMES + 1)
    return _unit_range(jax.lax.dynamic_slice_in_dim(recording["level"], start, FRAMES, axis=1))[..., None]


def _unit_range(values: Any) -> Any:
    """Stretched so that the smallest value is 0 and the largest 1; all 0 when they are the same."""
    low = values.min()
    size = values.max() - low
    return (values - low) / (size + (size == 0))


def _heard(clips: Clips) -> Sequence[np.ndarray]:
    if not len(clips):
        raise ValueError("there are no recordings to learn from")
    if clips.sample_rate != SAMPLE_RATE:
        raise ValueError(
            f"these recordings have {clips.sample_rate} Hz; load them with sample_rate={SAMPLE_RATE}, which the mel "
            "bands are for"
        )
    return clips.waves


def _in_batches(forward: Any, waves: Sequence[np.ndarray], size: int = 32) -> np.ndarray:
    parts = []
    for start in range(0, len(waves), size):
        part = np.stack(waves[start : start + size]).astype(np.float32)
        parts.append(np.asarray(forward(np.pad(part, ((0, size - len(part)), (0, 0)))))[: len(part)])
    return np.concatenate(parts)


# --- the source's experiment ------------------------------------------------------------------------------------------


def four(clips: Clips) -> np.ndarray:
    """The four classes of the source, (n,) int32: an index of `EMOTIONS`, calm is neutral; -1 for any other emotion."""
    known = np.asarray(
        [EMOTIONS.index(_CLASS[name]) if name in _CLASS else -1 for name in clips.names["emotion"]], np.int32
    )
    return known[clips.features["emotion"]]


def tess_part(files: Sequence[str], speakers: Sequence[Any], emotions: Sequence[Any]) -> np.ndarray:
    """The source's split of TESS: files sorted for every speaker and emotion, [:160], [160:180] and the rest.

    By file name, as the source does: the one misnamed file (OA_bite_neutral.wav) comes last among its own, so the parts
    of the older speaker's neutral sounds are shifted by a word.

    Args:
      files: n file names; what stands before the last "/" is not looked at.
      speakers: n, of each file.
      emotions: n, of each file.

    Returns:
      (n,) int32: 0 = train, 1 = validation, 2 = test.
    """
    groups: dict[tuple[Any, Any], list[int]] = {}
    for index, group in enumerate(zip(speakers, emotions, strict=True)):
        groups.setdefault(group, []).append(index)
    part = np.zeros(len(files), np.int32)
    for rows in groups.values():
        for rank, row in enumerate(sorted(rows, key=lambda index: files[index].rsplit("/", 1)[-1])):
            part[row] = TRAIN if rank < 160 else VALID if rank < 180 else TEST
    return part


def ravdess_part(actors: Sequence[Any]) -> np.ndarray:
    """The source's split of RAVDESS: actors 1-20, 21-22, 23-24; (n,) actors -> (n,) int32, 0 = train, 1, 2 = test."""
    number = np.asarray([int(actor) for actor in actors], np.int32)
    return ((number > 20).astype(np.int32) + (number > 22)).astype(np.int32)


def source_corpus(tess: Clips, ravdess: Clips) -> tuple[Clips, np.ndarray]:
    """The recordings of the source's experiment, and its split.

    The source's GAN is trained on all of them, also on those that its classifiers are tested on; to measure a GAN,
    train it on part 0.

    Args:
      tess: the data set "tess", split "all".
      ravdess: the data set "ravdess", split "all", at the same sample rate.

    Returns:
      TESS, then RAVDESS, of the four classes, with the one feature "emotion" that indexes `EMOTIONS`; and (n,) int32:
      0 = train, 1 = validation, 2 = test.

    Raises:
      ValueError: two sample rates.
    """
    if tess.sample_rate != ravdess.sample_rate:
        raise ValueError(
            f"TESS is at {tess.sample_rate} Hz and RAVDESS at {ravdess.sample_rate} Hz; load both with one sample_rate"
        )
    part = [
        tess_part(tess.files, tess.features["speaker"].tolist(), tess.features["emotion"].tolist()),
        ravdess_part([ravdess.names["speaker"][speaker] for speaker in ravdess.features["speaker"]]),
    ]
    emotion = [four(tess), four(ravdess)]
    chosen = [np.flatnonzero(classes >= 0) for classes in emotion]
    waves = [clips.waves[row] for clips, rows in zip((tess, ravdess), chosen, strict=True) for row in rows]
    files = [clips.files[row] for clips, rows in zip((tess, ravdess), chosen, strict=True) for row in rows]
    labels = np.concatenate([classes[rows] for classes, rows in zip(emotion, chosen, strict=True)])
    corpus = Clips(waves, tess.sample_rate, {"emotion": labels}, {"emotion": EMOTIONS}, tuple(files))
    return corpus, np.concatenate([each[rows] for each, rows in zip(part, chosen, strict=True)])
