"""Loudness: how loud a sound is to a listener, and the same loudness for all sounds of a page."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

# ITU-R BS.1770-5, section 1: gating blocks of 400 ms with 75 % overlap, gates at -70 LUFS and 10 LU below the mean.
_BLOCK_SECONDS = 0.4
_OVERLAP = 4
_ABSOLUTE_GATE = -70.0
_RELATIVE_GATE = -10.0
_OFFSET = -0.691
_FADE_SECONDS = 0.005
_LIMITER_SECONDS = 0.005


class Levelled(NamedTuple):
    """A sound made ready to be played.

    Attributes:
      wave: (samples,) float32.
      gain_db: the gain that was applied, before limiter and fades; 0 for silence.
    """

    wave: np.ndarray
    gain_db: float

    @property
    def silent(self) -> bool:
        """Whether there is nothing to hear."""
        return not self.wave.any()


def k_weighting(sample_rate: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """The two filters of ITU-R BS.1770, a high shelf and a high pass, as (b, a) for any sample rate.

    The bilinear designs that reproduce the standard's 48 kHz coefficients: shelf 1681.97 Hz, 3.99984 dB, Q 0.70718;
    high pass 38.1355 Hz, Q 0.50033 (De Man 2018, "Evaluation of
    implementations of the EBU R128 loudness measurement").
    """
    centre = np.tan(np.pi * min(1681.974450955533, 0.49 * sample_rate) / sample_rate)
    quality, high = 0.7071752369554196, 10.0 ** (3.999843853973347 / 20.0)
    band = high**0.4996667741545416
    norm = 1.0 + centre / quality + centre**2
    shelf = (
        np.array(
            [
                high + band * centre / quality + centre**2,
                2 * (centre**2 - high),
                high - band * centre / quality + centre**2,
            ]
        )
        / norm,
        np.array([1.0, 2 * (centre**2 - 1) / norm, (1.0 - centre / quality + centre**2) / norm]),
    )
    centre = np.tan(np.pi * min(38.13547087602444, 0.49 * sample_rate) / sample_rate)
    quality = 0.5003270373238773
    norm = 1.0 + centre / quality + centre**2
    high_pass = (
        np.array([1.0, -2.0, 1.0]),
        np.array([1.0, 2 * (centre**2 - 1) / norm, (1.0 - centre / quality + centre**2) / norm]),
    )
    return [shelf, high_pass]


def loudness(wave: Any, sample_rate: int) -> float:
    """Integrated loudness of a mono sound in LUFS (ITU-R BS.1770-5); -inf when all of it is below -70 LUFS.

    A sound shorter than 400 ms counts as one block.

    Args:
      wave: (samples,), full scale 1.
      sample_rate: in Hz.
    """
    from scipy.signal import lfilter

    samples = np.asarray(wave, np.float64)
    if samples.ndim != 1 or not len(samples):
        raise ValueError(f"loudness takes one sound of shape (samples,), not {samples.shape}")
    if not np.isfinite(samples).all():
        raise ValueError("the sound has samples that are NaN or infinite")
    for numerator, denominator in k_weighting(sample_rate):
        samples = lfilter(numerator, denominator, samples)
    size = min(max(round(_BLOCK_SECONDS * sample_rate), 1), len(samples))
    hop = max(size // _OVERLAP, 1)
    total = np.concatenate([np.zeros(1), np.cumsum(samples**2)])
    starts = np.arange(0, len(samples) - size + 1, hop)
    powers = (total[starts + size] - total[starts]) / size
    with np.errstate(divide="ignore"):
        powers = powers[_OFFSET + 10 * np.log10(np.maximum(powers, 0.0)) > _ABSOLUTE_GATE]
        if not len(powers):
            return -np.inf
        gate = 10 * np.log10(powers.mean()) + _RELATIVE_GATE
        kept = powers[10 * np.log10(powers) > gate]
    return float(_OFFSET + 10 * np.log10(kept.mean()))


def limit_peaks(wave: np.ndarray, sample_rate: int, limit_db: float = -1.0) -> np.ndarray:
    """Look-ahead peak limiter: no sample above `limit_db` dBFS, quieter passages untouched.

    The needed gain is held (moving minimum over 5 ms) and then smoothed by a moving mean of the same length: the mean
    of values that are each low enough for the sample in the middle is low enough for it.
    """
    from scipy.ndimage import minimum_filter1d, uniform_filter1d

    ceiling = 10.0 ** (limit_db / 20.0)
    magnitude = np.abs(wave)
    if magnitude.max(initial=0.0) <= ceiling:
        return wave
    gain = np.where(magnitude > ceiling, ceiling / np.maximum(magnitude, ceiling), 1.0)
    size = 2 * max(round(_LIMITER_SECONDS * sample_rate / 2), 1) + 1
    held = minimum_filter1d(gain, size, mode="nearest")
    return wave * np.minimum(uniform_filter1d(held, size, mode="nearest"), gain)


def fade(wave: np.ndarray, sample_rate: int, seconds: float = _FADE_SECONDS) -> np.ndarray:
    """Raised-cosine fades at both ends, so that nothing clicks: (samples,) -> (samples,)."""
    length = min(round(seconds * sample_rate), len(wave) // 2)
    ramp = 0.5 - 0.5 * np.cos(np.pi * np.arange(length) / max(length, 1))
    envelope = np.ones(len(wave))
    envelope[:length] = ramp
    envelope[len(wave) - length :] = ramp[::-1]
    return wave * envelope


def normalize_loudness(wave: Any, sample_rate: int, target_db: float = -23.0, limit_db: float = -1.0) -> Levelled:
    """Brings a sound to a loudness, limits its peaks and fades its ends in 5 ms.

    Args:
      wave: (samples,), full scale 1.
      sample_rate: in Hz.
      target_db: loudness to reach, in LUFS (ITU-R BS.1770-5).
      limit_db: highest peak, in dBFS; a sound that needs the limiter ends up below the target.

    Returns:
      `(wave, gain_db)`, a `Levelled` with the flag `.silent`: a sound below -70 LUFS stays silence, exact zeros with
      gain 0, and never becomes amplified noise.

    Raises:
      ValueError: another shape, no samples, or NaN or infinite samples.
    """
    samples = np.asarray(wave, np.float64)
    level = loudness(samples, sample_rate)
    if level == -np.inf:
        return Levelled(np.zeros(len(samples), np.float32), 0.0)
    gain_db = target_db - level
    samples = limit_peaks(samples * 10.0 ** (gain_db / 20.0), sample_rate, limit_db)
    return Levelled(fade(samples, sample_rate).astype(np.float32), float(gain_db))
