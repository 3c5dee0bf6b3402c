"""Griffin-Lim: a wave from magnitudes alone, with momentum."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from nd_jax.audio.stft import istft, stft

# Below this magnitude a bin has no phase; its direction is taken as 0 so that gradients at silence stay finite.
_NO_PHASE = 1e-30


def _direction(spectrum: jax.Array) -> jax.Array:
    """Each number divided by its magnitude; 0 where there is none, with finite gradients."""
    magnitude = jnp.abs(spectrum)
    return spectrum / jnp.where(magnitude > _NO_PHASE, magnitude, 1.0)


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
    settings: dict[str, Any] = {
        "n_fft": n_fft,
        "hop_length": hop_length,
        "win_length": win_length,
        "window": window,
        "center": center,
    }
    if key is not None:
        init_phase = jax.random.uniform(key, magnitude.shape, maxval=2 * jnp.pi)
    if init_phase is None:
        spectrum = magnitude.astype(jnp.complex64)
    else:
        spectrum = magnitude * jnp.exp(1j * jnp.asarray(init_phase, jnp.float32))

    inertia = jnp.asarray(momentum / (1 + momentum), jnp.float32)
    rebuilt_shape = jax.eval_shape(
        lambda z: stft(istft(z, length=length, **settings), pad_mode=pad_mode, **settings), spectrum
    ).shape
    if rebuilt_shape != spectrum.shape:
        raise ValueError(
            f"length {length} gives {rebuilt_shape[-1]} frames, but the magnitudes have {spectrum.shape[-1]}"
        )

    def improve(carry: tuple[jax.Array, jax.Array], _: None) -> tuple[tuple[jax.Array, jax.Array], None]:
        spectrum, previous = carry
        rebuilt = stft(istft(spectrum, length=length, **settings), pad_mode=pad_mode, **settings)
        return (magnitude * _direction(rebuilt - inertia * previous), rebuilt), None

    (spectrum, _), _ = jax.lax.scan(improve, (spectrum, jnp.zeros_like(spectrum)), None, length=n_iter)
    return istft(spectrum, length=length, **settings)
