"""Kaldi's filter bank and cepstral features (torchaudio.compliance.kaldi 2.11), as JAX functions.

Waves are taken as they are: Kaldi itself works on 16-bit numbers, which are 2 ** 15 times larger than full scale 1.
Everything works on (..., samples) and gives (..., frames, features), time before features as Kaldi has it.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.audio.mel import dct_matrix, hz_to_mel, mel_to_hz
from nd_jax.audio.stft import align_last, frame, window
from nd_jax.runtime import nearest

KALDI_WINDOWS = ("povey", "hanning", "hamming", "rectangular", "blackman")

_EPSILON = float(np.finfo(np.float32).eps)
_STATIC = (
    "sample_frequency",
    "frame_length",
    "frame_shift",
    "num_mel_bins",
    "low_freq",
    "high_freq",
    "window_type",
    "blackman_coeff",
    "snip_edges",
    "round_to_power_of_two",
    "remove_dc_offset",
    "preemphasis_coefficient",
    "dither",
    "raw_energy",
    "use_energy",
    "energy_floor",
    "htk_compat",
    "use_log_fbank",
    "use_power",
    "subtract_mean",
    "min_duration",
    "vtln_low",
    "vtln_high",
    "vtln_warp",
)


@functools.partial(jax.jit, static_argnames=_STATIC)
def kaldi_fbank(
    wave: Any,
    *,
    sample_frequency: float = 16000.0,
    frame_length: float = 25.0,
    frame_shift: float = 10.0,
    num_mel_bins: int = 23,
    low_freq: float = 20.0,
    high_freq: float = 0.0,
    window_type: str = "povey",
    blackman_coeff: float = 0.42,
    snip_edges: bool = True,
    round_to_power_of_two: bool = True,
    remove_dc_offset: bool = True,
    preemphasis_coefficient: float = 0.97,
    dither: float = 0.0,
    raw_energy: bool = True,
    use_energy: bool = False,
    energy_floor: float = 1.0,
    htk_compat: bool = False,
    use_log_fbank: bool = True,
    use_power: bool = True,
    subtract_mean: bool = False,
    min_duration: float = 0.0,
    vtln_low: float = 100.0,
    vtln_high: float = -500.0,
    vtln_warp: float = 1.0,
    key: jax.Array | None = None,
) -> jax.Array:
    """Log mel filter bank energies as Kaldi computes them (torchaudio.compliance.kaldi.fbank, one channel).

    Args:
      wave: (..., samples).
      sample_frequency: in Hz.
      frame_length: in milliseconds.
      frame_shift: in milliseconds.
      num_mel_bins: bands, at least 4.
      low_freq: lower end of the lowest band, in Hz.
      high_freq: upper end of the highest band, in Hz; 0 or less counts down from half the sample rate.
      window_type: one of `KALDI_WINDOWS` (symmetric).
      blackman_coeff: constant term of the Blackman window.
      snip_edges: only frames that lie wholly within the wave; otherwise samples / shift frames, mirrored at the ends.
      round_to_power_of_two: pad frames with zeros to a power of two.
      remove_dc_offset: subtract each frame's mean.
      preemphasis_coefficient: 0 ... 1.
      dither: standard deviation of noise added to every frame's samples; needs `key`.
      raw_energy: take the energy before pre-emphasis and window.
      use_energy: add the log energy as one more feature, first (last with htk_compat).
      energy_floor: the log energy is at least log(energy_floor); 0 for none.
      htk_compat: put the energy last.
      use_log_fbank: logarithms, of at least float32's epsilon.
      use_power: sum power; otherwise magnitude.
      subtract_mean: subtract each feature's mean over time.
      min_duration: a shorter wave, in seconds, gives no frames.
      vtln_low: lower inflection of the vocal tract length warp, in Hz.
      vtln_high: upper inflection, in Hz; if negative, counted from half the sample rate.
      vtln_warp: warp factor; 1 is none.
      key: randomness of the dither.

    Returns:
      (..., frames, num_mel_bins + use_energy) float32.

    Raises:
      ValueError: settings that contradict each other.
    """
    wave = jnp.asarray(wave, jnp.float32)
    features = num_mel_bins + use_energy
    if wave.shape[-1] < min_duration * sample_frequency:
        return jnp.zeros((*wave.shape[:-1], 0, features))
    size, shift, padded = _frame_sizes(
        wave.shape[-1], sample_frequency, frame_length, frame_shift, round_to_power_of_two
    )
    frames = _kaldi_frames(wave, size, shift, snip_edges)
    if dither != 0.0:
        if key is None:
            raise ValueError("dither needs a key")
        frames = frames + dither * jax.random.normal(key, frames.shape)
    if remove_dc_offset:
        frames = frames - frames.mean(axis=-1, keepdims=True)
    energy = _log_energy(frames, energy_floor)
    if preemphasis_coefficient != 0.0:
        before = jnp.concatenate([frames[..., :1], frames[..., :-1]], axis=-1)
        frames = frames - preemphasis_coefficient * before
    frames = frames * align_last(_kaldi_window(window_type, size, blackman_coeff), frames.ndim)
    if not raw_energy:
        energy = _log_energy(frames, energy_floor)
    spectrum = jnp.fft.rfft(frames, padded)
    magnitude = jnp.square(spectrum.real) + jnp.square(spectrum.imag) if use_power else jnp.abs(spectrum)
    banks = kaldi_mel_banks(num_mel_bins, padded, sample_frequency, low_freq, high_freq, vtln_low, vtln_high, vtln_warp)
    mels = jnp.einsum("...tb,mb->...tm", magnitude, banks)
    if use_log_fbank:
        mels = jnp.log(jnp.maximum(mels, _EPSILON))
    if use_energy:
        parts = [mels, energy[..., None]] if htk_compat else [energy[..., None], mels]
        mels = jnp.concatenate(parts, axis=-1)
    return mels - mels.mean(axis=-2, keepdims=True) if subtract_mean else mels


def kaldi_mfcc(
    wave: Any,
    *,
    num_ceps: int = 13,
    num_mel_bins: int = 23,
    cepstral_lifter: float = 22.0,
    use_energy: bool = False,
    htk_compat: bool = False,
    subtract_mean: bool = False,
    **settings: Any,
) -> jax.Array:
    """Mel-frequency cepstral coefficients as Kaldi computes them (torchaudio.compliance.kaldi.mfcc).

    Args:
      wave: (..., samples).
      num_ceps: coefficients to keep, at most num_mel_bins.
      num_mel_bins: bands.
      cepstral_lifter: length of the sinusoidal lifter; 0 for none.
      use_energy: the log energy takes the place of the first coefficient.
      htk_compat: put the first coefficient (or energy) last; without energy it is multiplied by sqrt(2).
      subtract_mean: subtract each coefficient's mean over time.
      **settings: further arguments of `kaldi_fbank`.

    Returns:
      (..., frames, num_ceps) float32.
    """
    if num_ceps > num_mel_bins:
        raise ValueError(f"num_ceps {num_ceps} is more than num_mel_bins {num_mel_bins}")
    for name in ("use_log_fbank", "use_power"):
        if name in settings:
            raise ValueError(f"{name} is always True for cepstral coefficients")
    mels = kaldi_fbank(wave, num_mel_bins=num_mel_bins, use_energy=use_energy, **settings)
    energy, mels = (mels[..., :1], mels[..., 1:]) if use_energy else (None, mels)
    matrix = dct_matrix(num_ceps, num_mel_bins).astype(np.float64)
    if cepstral_lifter != 0.0:
        order = np.arange(num_ceps)
        matrix = matrix * (1.0 + 0.5 * cepstral_lifter * np.sin(np.pi * order / cepstral_lifter))[:, None]
    ceps = jnp.einsum("...tm,cm->...tc", mels, matrix.astype(np.float32))
    first, rest = ceps[..., :1] if energy is None else energy, ceps[..., 1:]
    if htk_compat:
        ceps = jnp.concatenate([rest, first * math.sqrt(2.0) if energy is None else first], axis=-1)
    else:
        ceps = jnp.concatenate([first, rest], axis=-1)
    return ceps - ceps.mean(axis=-2, keepdims=True) if subtract_mean else ceps


@functools.lru_cache(maxsize=64)
def kaldi_mel_banks(
    num_mel_bins: int,
    n_fft: int,
    sample_frequency: float,
    low_freq: float = 20.0,
    high_freq: float = 0.0,
    vtln_low: float = 100.0,
    vtln_high: float = -500.0,
    vtln_warp: float = 1.0,
) -> np.ndarray:
    """Kaldi's triangles, drawn in mels: (num_mel_bins, n_fft // 2 + 1) float32; the highest bin is always 0.

    Raises:
      ValueError: fewer than 4 bands, or frequencies that are out of order.
    """
    nyquist = 0.5 * sample_frequency
    high_freq = high_freq + nyquist if high_freq <= 0.0 else high_freq
    if num_mel_bins < 4:
        raise ValueError(f"Kaldi's filter bank needs at least 4 bands, not {num_mel_bins}")
    if not 0.0 <= low_freq < high_freq <= nyquist:
        raise ValueError(f"need 0 <= low_freq < high_freq <= {nyquist} Hz, got {low_freq} and {high_freq}")
    edges = np.linspace(hz_to_mel(low_freq, "kaldi"), hz_to_mel(high_freq, "kaldi"), num_mel_bins + 2)
    if vtln_warp != 1.0:
        vtln_high = vtln_high + nyquist if vtln_high < 0.0 else vtln_high
        if not low_freq < vtln_low < high_freq or not 0.0 < vtln_high < high_freq or vtln_low >= vtln_high:
            raise ValueError(
                f"need low_freq < vtln_low < vtln_high < high_freq: {low_freq}, {vtln_low}, {vtln_high}, {high_freq}"
            )
        hertz = mel_to_hz(edges, "kaldi")
        edges = hz_to_mel(_vtln(hertz, low_freq, high_freq, vtln_low, vtln_high, vtln_warp), "kaldi")
    bins = hz_to_mel(sample_frequency / n_fft * np.arange(n_fft // 2), "kaldi")
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    filters = np.maximum(0.0, np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)))
    filters = np.pad(filters, [(0, 0), (0, 1)]).astype(np.float32)
    filters.flags.writeable = False
    return filters


def _vtln(
    hertz: np.ndarray, low_freq: float, high_freq: float, vtln_low: float, vtln_high: float, warp: float
) -> np.ndarray:
    """Piecewise linear warp of frequencies: 1 / warp in the middle, the ends fixed."""
    scale = 1.0 / warp
    low, high = vtln_low * max(1.0, warp), vtln_high * min(1.0, warp)
    if not low_freq < low <= high < high_freq:
        raise ValueError(f"vtln_warp {warp} moves the inflections {vtln_low} and {vtln_high} Hz out of order")
    below = (scale * low - low_freq) / (low - low_freq)
    above = (high_freq - scale * high) / (high_freq - high)
    warped = np.where(hertz < low, low_freq + below * (hertz - low_freq), scale * hertz)
    warped = np.where(hertz >= high, high_freq + above * (hertz - high_freq), warped)
    return np.where((hertz < low_freq) | (hertz > high_freq), hertz, warped)


def _frame_sizes(
    samples: int, rate: float, length_ms: float, shift_ms: float, power_of_two: bool
) -> tuple[int, int, int]:
    # The order of the products is torchaudio's: it decides how 22,050 Hz times 32 ms is rounded.
    size, shift = int(rate * length_ms * 0.001), int(rate * shift_ms * 0.001)
    if not 2 <= size <= samples:
        raise ValueError(f"a frame of {length_ms} ms is {size} samples; it must be 2 ... {samples}, the wave's length")
    if shift < 1:
        raise ValueError(f"a frame shift of {shift_ms} ms is less than one sample at {rate} Hz")
    padded = 1 << (size - 1).bit_length() if power_of_two else size
    if padded % 2:
        raise ValueError(f"a frame of {padded} samples is odd; choose another frame_length or round_to_power_of_two")
    return size, shift, padded


def _kaldi_frames(wave: jax.Array, size: int, shift: int, snip_edges: bool) -> jax.Array:
    """(..., samples) -> (..., frames, size)."""
    if snip_edges:
        return frame(wave, size, shift)
    samples = wave.shape[-1]
    count = (samples + shift // 2) // shift
    if count < 1:
        raise ValueError(f"a wave of {samples} samples is shorter than half a frame shift of {shift}")
    mirrored = jnp.flip(wave, -1)
    left = size // 2 - shift // 2
    start = jnp.concatenate([mirrored[..., samples - left :], wave], axis=-1) if left > 0 else wave[..., -left:]
    extended = jnp.concatenate([start, mirrored], axis=-1)
    return frame(extended[..., : (count - 1) * shift + size], size, shift)


def _kaldi_window(name: str, size: int, blackman_coeff: float) -> np.ndarray:
    if name not in KALDI_WINDOWS:
        raise ValueError(f"unknown Kaldi window {name!r}; {nearest(str(name), KALDI_WINDOWS)}")
    return window(name, size, periodic=False, blackman_coefficient=blackman_coeff).astype(np.float32)


def _log_energy(frames: jax.Array, energy_floor: float) -> jax.Array:
    """(..., frames, size) -> (..., frames)."""
    energy = jnp.log(jnp.maximum(jnp.square(frames).sum(axis=-1), _EPSILON))
    return energy if energy_floor == 0.0 else jnp.maximum(energy, math.log(energy_floor))
