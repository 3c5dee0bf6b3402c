"""Sounds for a page: brought to one loudness, measured, and written as WAV."""

from __future__ import annotations

import dataclasses
import io
import math
import wave as wave_file

import numpy as np

from nd_jax.domain import Sound
from nd_jax.domain.playing import sounds

__all__ = ["LOUDNESS", "SILENT_DBFS", "Played", "at_playback_level", "brightness", "encode_wav", "pitch", "sounds"]

SILENT_DBFS = -60.0
LOUDNESS = -20.0
_FINER = 4


@dataclasses.dataclass(frozen=True)
class Played:
    """A sound at playback level.

    Attributes:
      sound: what is played; at the level of the network when `silent`.
      gain_db: what was added to the whole sound, in dB.
      limited_db: by how much the limiter holds the highest peak down, in dB, >= 0.
      silent: no sample above -60 dBFS: the sound is called silent and never amplified.
    """

    sound: Sound
    gain_db: float
    limited_db: float
    silent: bool


def at_playback_level(sound: Sound) -> Played:
    """Brings a sound to the page's loudness with a peak limiter and fades; silence stays silence.

    A sound without a sample above -60 dBFS, or below -70 LUFS, is silent: amplified, it would be the noise of its own
    phase recovery.
    """
    from nd_jax.audio import normalize_loudness

    wave = np.nan_to_num(np.asarray(sound.wave, np.float32))
    peak = float(np.max(np.abs(wave), initial=0.0))
    if peak < 10 ** (SILENT_DBFS / 20):
        return Played(Sound(wave, sound.sample_rate), 0.0, 0.0, True)
    levelled = normalize_loudness(wave, sound.sample_rate, target_db=LOUDNESS)
    reached = max(float(np.max(np.abs(levelled.wave), initial=0.0)), 1e-9)
    limited = max(20 * math.log10(peak / reached) + levelled.gain_db, 0.0)
    return Played(Sound(levelled.wave, sound.sample_rate), levelled.gain_db, limited, levelled.silent)


def encode_wav(sound: Sound) -> bytes:
    """A sound as a mono 16-bit WAV file; samples beyond full scale are clipped."""
    samples = np.round(np.clip(np.nan_to_num(sound.wave), -1.0, 1.0) * 32767.0).astype("<i2")
    buffer = io.BytesIO()
    with wave_file.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(int(sound.sample_rate))
        file.writeframes(samples.tobytes())
    return buffer.getvalue()


def pitch(sound: Sound, *, low: float = 40.0, high: float = 4000.0, clarity: float = 0.8) -> float | None:
    """The pitch of a whole sound in Hz, or None where it has no clear one.

    The first high peak of the normalised square difference function (McLeod and Wyvill 2005, "A smarter way to find
    pitch") on a grid four times as fine as the samples, with parabolic interpolation; its height must reach `clarity`.
    """
    wave = np.nan_to_num(np.asarray(sound.wave, np.float64))
    wave = wave - wave.mean() if wave.size else wave
    longest = min(int(sound.sample_rate / low), wave.size // 2) * _FINER
    shortest = max(int(sound.sample_rate / high * _FINER), 2)
    if longest <= shortest + 2 or np.max(np.abs(wave)) < 10 ** (SILENT_DBFS / 20):
        return None
    size = 1 << (2 * wave.size - 1).bit_length()
    correlation = _FINER * np.fft.irfft(np.abs(np.fft.rfft(wave, size)) ** 2, size * _FINER)[: longest + 1]
    energy = np.concatenate([[0.0], np.cumsum(wave**2)])
    lags = np.arange(longest + 1) / _FINER
    places = np.arange(wave.size + 1)
    norm = np.interp(wave.size - lags, places, energy) + energy[-1] - np.interp(lags, places, energy)
    likeness = 2 * correlation / np.maximum(norm, 1e-12)
    start = int(np.argmax(likeness < 0))
    if likeness[start] >= 0:
        return None
    inner = likeness[1:-1]
    is_peak = (inner >= likeness[:-2]) & (inner > likeness[2:]) & (inner > 0)
    peaks = np.flatnonzero(is_peak) + 1
    peaks = peaks[peaks >= max(start, shortest)]
    if not peaks.size or likeness[peaks].max() < clarity:
        return None
    lag = int(peaks[np.argmax(likeness[peaks] >= 0.93 * likeness[peaks].max())])
    before, here, after = likeness[lag - 1 : lag + 2]
    bend = before - 2 * here + after
    return float(sound.sample_rate * _FINER / (lag + (0.5 * (before - after) / bend if bend else 0.0)))


def midi(hertz: float) -> float:
    """A pitch as a MIDI number; 69 is 440 Hz."""
    return 69.0 + 12.0 * math.log2(hertz / 440.0)


def brightness(sound: Sound) -> float | None:
    """The spectral centroid of a whole sound, weighted by power, in Hz; None for digital silence."""
    wave = np.nan_to_num(np.asarray(sound.wave, np.float64))
    spectrum = np.abs(np.fft.rfft(wave)) ** 2
    total = float(spectrum.sum())
    if total <= 0:
        return None
    return float((np.fft.rfftfreq(wave.size, 1 / sound.sample_rate) * spectrum).sum() / total)
