"""Griffin-Lim: a wave from magnitudes, or from mel bands, alone.

The loops keep time before frequency, as the FFT makes it: on CPUs the two transposes a round would cost as much as the
transforms. Magnitudes and phases are worked out in real arithmetic and a filter bank is multiplied block by block, as
its triangles lie along a diagonal: XLA's complex division and the dense products together cost as much as the FFTs.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.audio.banded import banded_product
from nd_jax.audio.stft import STFT, analyse, safe_power, spectrum_power, synthesise

# Below this magnitude, whose square float32 still holds, a bin has no phase; its direction is taken as 0 so that
# gradients at silence stay finite.
_NO_PHASE = 1e-18
# Updates of the spectrum that `mel_griffin_lim` starts from; more of them change nothing that can be measured.
_START_UPDATES = 4
# A band is raised by at most this factor a round, and one quieter than this (-150 dB) counts as that loud.
_MAX_RATIO = 100.0
_TINY_BAND = 1e-15
# Rows of a filter bank that are multiplied at once.
_BLOCK = 16


@functools.partial(
    jax.jit, static_argnames=("n_iter", "hop_length", "win_length", "window", "center", "pad_mode", "length", "n_fft")
)
def griffin_lim(
    magnitude: Any,
    *,
    n_iter: int = 32,
    momentum: Any = 0.99,
    hop_length: int,
    win_length: int | None = None,
    window: str = "hann",
    center: bool = True,
    pad_mode: str = "constant",
    length: int | None = None,
    n_fft: int | None = None,
    key: jax.Array | None = None,
    init_phase: Any = None,
) -> jax.Array:
    """Finds a wave whose STFT has nearly the given magnitudes (librosa.griffinlim).

    Griffin and Lim 1984, with the momentum of Perraudin, Balazs and Sondergaard 2013 ("A fast Griffin-Lim algorithm"):
    each round takes the STFT of the inverse, subtracts momentum / (1 + momentum) times the previous round's, and keeps
    only the phase.

    Args:
      magnitude: (..., n_fft // 2 + 1, frames), not negative.
      n_iter: rounds.
      momentum: 0 (the classic algorithm) to just under 1.
      hop_length: as in `stft`.
      win_length: as in `stft`.
      window: as in `stft`.
      center: as in `stft`.
      pad_mode: as in `stft`.
      length: samples to return; it must give as many frames as `magnitude` has. Default: as in `istft`.
      n_fft: needed only for an odd n_fft.
      key: draws the first phase evenly from 0 ... 2 pi.
      init_phase: (..., bins, frames) radians, the first phase instead. With neither, it is 0 everywhere.

    Returns:
      float32 (..., samples).

    Raises:
      ValueError: key and init_phase together, or a length that gives another number of frames.
    """
    magnitude = jnp.asarray(magnitude, jnp.float32)
    if magnitude.ndim < 2:
        raise ValueError(f"magnitudes have the shape (..., bins, frames), not {magnitude.shape}")
    if key is not None and init_phase is not None:
        raise ValueError("give griffin_lim a key or an init_phase, not both")
    n_fft = 2 * (magnitude.shape[-2] - 1) if n_fft is None else n_fft
    settings = STFT(n_fft, hop_length, win_length, window, center, pad_mode)
    if key is not None:
        init_phase = jax.random.uniform(key, magnitude.shape, maxval=2 * jnp.pi)
    magnitude = jnp.swapaxes(magnitude, -1, -2)
    spectrum = magnitude.astype(jnp.complex64)
    if init_phase is not None:
        spectrum = magnitude * jnp.exp(1j * jnp.swapaxes(jnp.asarray(init_phase, jnp.float32), -1, -2))
    _check_length(spectrum, settings, length)
    inertia = jnp.asarray(momentum / (1 + momentum), jnp.float32)

    def improve(carry: tuple[jax.Array, jax.Array], _: None) -> tuple[tuple[jax.Array, jax.Array], None]:
        spectrum, previous = carry
        rebuilt = analyse(synthesise(spectrum, settings, length), settings)
        return (_with_magnitude(magnitude, rebuilt, inertia, previous), rebuilt), None

    (spectrum, _), _ = jax.lax.scan(improve, (spectrum, jnp.zeros_like(spectrum)), None, length=n_iter)
    return synthesise(spectrum, settings, length)


def mel_griffin_lim(
    bands: Any,
    filters: np.ndarray,
    *,
    gain: float = 1.0,
    power: float = 2.0,
    n_iter: int = 32,
    momentum: Any = 0.99,
    n_fft: int,
    hop_length: int,
    win_length: int | None = None,
    length: int | None = None,
    key: jax.Array,
) -> jax.Array:
    """Finds a wave whose mel bands are nearly the given ones.

    Griffin-Lim with momentum in which the magnitudes are free within a band: every round takes the rebuilt magnitudes,
    which are those of a real sound, and multiplies them by what brings each band back to its level (one step of
    `mel_to_linear`). With magnitudes fixed beforehand, a smooth spectrum that no sound has, the log-mel error is twice
    as large after as many rounds (see `LogMel.inverse`).

    Args:
      bands: (..., n_mels, frames), not negative: filters @ |gain * STFT| ** power.
      filters: (n_mels, n_fft // 2 + 1).
      gain: of the STFT.
      power: of the magnitudes that are summed.
      n_iter: rounds.
      momentum: as in `griffin_lim`.
      n_fft: as in `stft`.
      hop_length: as in `stft`.
      win_length: as in `stft`; the window is Hann, the frames are centred.
      length: as in `griffin_lim`.
      key: draws the first phase.

    Returns:
      float32 (..., samples), exactly 0 where all bands are 0.
    """
    bands = jnp.asarray(bands, jnp.float32)
    settings = STFT(n_fft, hop_length, win_length)
    down, up = banded_product(filters, _BLOCK), banded_product(_spread(filters), _BLOCK)
    magnitude = safe_power(jnp.swapaxes(mel_to_linear(bands, filters, _START_UPDATES), -1, -2), 1 / power) / gain
    bands = jnp.swapaxes(bands, -1, -2)
    spectrum = magnitude * jnp.exp(2j * jnp.pi * jax.random.uniform(key, magnitude.shape))
    _check_length(spectrum, settings, length)
    inertia = jnp.asarray(momentum / (1 + momentum), jnp.float32)

    def improve(carry: tuple[jax.Array, jax.Array], _: None) -> tuple[tuple[jax.Array, jax.Array], None]:
        spectrum, previous = carry
        rebuilt = analyse(synthesise(spectrum, settings, length), settings)
        squared = spectrum_power(rebuilt)
        now = gain**power * down(safe_power(squared, power / 2))
        ratio = jnp.minimum(bands / jnp.maximum(now, _TINY_BAND), _MAX_RATIO)
        magnitude = safe_power(squared, 0.5) * safe_power(up(ratio), 1 / power)
        return (_with_magnitude(magnitude, rebuilt, inertia, previous), rebuilt), None

    (spectrum, _), _ = jax.lax.scan(improve, (spectrum, jnp.zeros_like(spectrum)), None, length=n_iter)
    return synthesise(spectrum, settings, length)


def mel_to_linear(bands: Any, filters: np.ndarray, n_iter: int = 16) -> jax.Array:
    """Non-negative spectra whose mel bands are nearly the given ones.

    Multiplicative updates for the Kullback-Leibler divergence (Lee and Seung 2001; Richardson-Lucy), which weigh
    every band by ratio and so in dB, from the interpolated density of the bands.

    Args:
      bands: (..., n_mels, frames), not negative.
      filters: (n_mels, bins).
      n_iter: updates.

    Returns:
      (..., bins, frames), exactly 0 where the bands are 0 and where no filter reaches.
    """
    bands = jnp.swapaxes(jnp.asarray(bands, jnp.float32), -1, -2)
    back = _spread(filters)
    widths = filters.sum(axis=1)[None, :]
    density = np.divide(back, widths, out=np.zeros_like(back), where=widths > 0)
    down, up = banded_product(filters, _BLOCK), banded_product(back, _BLOCK)

    def update(spectrum: jax.Array, _: None) -> tuple[jax.Array, None]:
        now = down(spectrum)
        ratio = jnp.where(now > 0, bands / jnp.where(now > 0, now, 1.0), 0.0)
        return spectrum * up(ratio), None

    return jnp.swapaxes(jax.lax.scan(update, banded_product(density, _BLOCK)(bands), None, length=n_iter)[0], -1, -2)


def _spread(filters: np.ndarray) -> np.ndarray:
    """(bins, n_mels): what every bin takes of each band, summing to 1 (0 where no filter reaches)."""
    cover = filters.sum(axis=0)[:, None]
    return np.divide(filters.T, cover, out=np.zeros_like(filters.T), where=cover > 0)


def _with_magnitude(magnitude: jax.Array, rebuilt: jax.Array, inertia: jax.Array, previous: jax.Array) -> jax.Array:
    """The given magnitudes with the phases of `rebuilt - inertia * previous`; 0 where there is no phase."""
    real, imaginary = rebuilt.real - inertia * previous.real, rebuilt.imag - inertia * previous.imag
    squared = jnp.square(real) + jnp.square(imaginary)
    has_phase = squared > _NO_PHASE**2
    scale = jnp.where(has_phase, magnitude * jax.lax.rsqrt(jnp.where(has_phase, squared, 1.0)), 0.0)
    return jax.lax.complex(scale * real, scale * imaginary)


def _check_length(spectrum: jax.Array, settings: STFT, length: int | None) -> None:
    def again(z: jax.Array) -> jax.Array:
        return analyse(synthesise(z, settings, length), settings)

    frames = jax.eval_shape(again, spectrum).shape[-2]
    if frames != spectrum.shape[-2]:
        raise ValueError(f"length {length} gives {frames} frames, but the magnitudes have {spectrum.shape[-2]}")
