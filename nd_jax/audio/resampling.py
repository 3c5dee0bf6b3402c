"""Resampling as a differentiable function: what stands between a generator of sound and a network of another rate."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

# The share of the band, below the lower of the two Nyquist frequencies, over which the low-pass falls.
_SLOPE = 0.05
# Zeros at both ends, in samples of the lower rate: a spectrum takes the end of a sound for its beginning.
_EDGE = 64
_MAX_RATIO = 1000


@functools.partial(jax.jit, static_argnums=(1, 2))
def resample_fft(wave: jax.Array, sample_rate: int, new_rate: int) -> jax.Array:
    """Resamples through the spectrum; jittable, batched, differentiable (`resample` is for arrays on the host).

    The spectrum is kept up to 95 % of the lower Nyquist frequency and falls to zero over the last 5 %. Whole
    ratios of any rates are exact; 64 zeros of the lower rate at both ends keep the ends apart.

    Args:
      wave: (..., samples).
      sample_rate: its rate, in Hz.
      new_rate: in Hz.

    Returns:
      (..., ceil(samples * new_rate / sample_rate)) float32.

    Raises:
      ValueError: a rate below 1 Hz, or rates more than a factor of 1000 apart.
    """
    if min(sample_rate, new_rate) < 1 or max(sample_rate, new_rate) > _MAX_RATIO * min(sample_rate, new_rate):
        raise ValueError(f"cannot resample from {sample_rate} Hz to {new_rate} Hz")
    wave = jnp.asarray(wave, jnp.float32)
    if sample_rate == new_rate:
        return wave
    divisor = math.gcd(sample_rate, new_rate)
    up, down = new_rate // divisor, sample_rate // divisor
    samples = wave.shape[-1]
    # Multiples of `down`, so that both ends fall on samples of both rates.
    front = math.ceil(_EDGE * max(1.0, down / up) / down)
    blocks = _smooth(front * 2 + math.ceil(samples / down))
    behind = (blocks - front) * down - samples
    padded = jnp.pad(wave, [(0, 0)] * (wave.ndim - 1) + [(front * down, behind)])
    spectrum = jnp.fft.rfft(padded)
    bins = blocks * up // 2 + 1
    kept = min(bins, spectrum.shape[-1])
    place = np.arange(kept) / (min(up, down) * blocks / 2)
    fall = np.clip((1.0 - place) / _SLOPE, 0.0, 1.0)
    gain = (0.5 - 0.5 * np.cos(np.pi * fall)) * (up / down)
    spectrum = spectrum[..., :kept] * gain.astype(np.float32).reshape((1,) * (wave.ndim - 1) + (-1,))
    spectrum = jnp.pad(spectrum, [(0, 0)] * (wave.ndim - 1) + [(0, bins - kept)])
    result = jnp.fft.irfft(spectrum, n=blocks * up)
    return result[..., front * up : front * up + math.ceil(samples * up / down)]


def _smooth(least: int) -> int:
    """The first number from `least` on without a prime factor above 7: such Fourier transforms are fast."""
    while True:
        rest = least
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return least
        least += 1
