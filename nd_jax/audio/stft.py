"""Short-time Fourier transform and its inverse, with the conventions of librosa 0.11.

A wave is (..., samples); a spectrum is complex64 (..., n_fft // 2 + 1, frames). Every function is jittable,
differentiable and batched over its leading axes. Framing slices and concatenates whole hops instead of gathering
samples: the gradient of a slice is an addition, the gradient of a gather is a scatter, which is slow on CPUs.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.runtime import nearest

_COSINE_WINDOWS = {
    "rectangular": (1.0,),
    "hann": (0.5, 0.5),
    "povey": (0.5, 0.5),
    "hamming": (0.54, 0.46),
    "blackman": (0.42, 0.5, 0.08),
    "blackmanharris": (0.35875, 0.48829, 0.14128, 0.01168),
}
_WINDOW_ALIASES = {"hanning": "hann", "boxcar": "rectangular", "ones": "rectangular"}
WINDOWS = (*_COSINE_WINDOWS, "bartlett")

# Above this many hops per frame, one gather compiles to less than the concatenation does.
_MAX_SLICES = 64
_ROUNDED_ZERO = 1e-14
_TINY = float(np.finfo(np.float32).tiny)


def window(name: str, length: int, *, periodic: bool = True, blackman_coefficient: float = 0.42) -> np.ndarray:
    """A window function as float64.

    Args:
      name: one of `WINDOWS` ("povey" is Kaldi's Hann window to the power 0.85), or "hanning", "boxcar", "ones".
      length: number of samples, at least 1.
      periodic: True for spectral analysis (scipy's `fftbins=True`), False for the symmetric window that Kaldi uses.
      blackman_coefficient: Kaldi's name for the constant term of the Blackman window.

    Returns:
      (length,) float64.

    Raises:
      ValueError: unknown name or a length below 1.
    """
    kind = _WINDOW_ALIASES.get(name, name)
    if kind not in WINDOWS:
        raise ValueError(f"unknown window {name!r}; {nearest(str(name), [*WINDOWS, *_WINDOW_ALIASES])}")
    if length < 1:
        raise ValueError(f"a window has at least 1 sample, not {length}")
    if length == 1:
        return np.ones(1)
    steps = length if periodic else length - 1
    if kind == "bartlett":
        return 1.0 - np.abs(2.0 * np.arange(length) / steps - 1.0)
    terms = _COSINE_WINDOWS[kind]
    if kind == "blackman":
        terms = (blackman_coefficient, 0.5, 0.5 - blackman_coefficient)
    phase = 2.0 * np.pi * np.arange(length) / steps
    values = np.asarray(sum((-1) ** order * term * np.cos(order * phase) for order, term in enumerate(terms)))
    # A zero that is only rounded, as at Blackman's ends, would be divided by in the inverse transform.
    values = np.where(np.abs(values) < _ROUNDED_ZERO, 0.0, values)
    return values**0.85 if kind == "povey" else values


@functools.lru_cache(maxsize=64)
def padded_window(name: str, win_length: int, n_fft: int) -> np.ndarray:
    """The periodic window of `win_length` samples in the middle of `n_fft` zeros: (n_fft,) float32, read-only."""
    if win_length > n_fft:
        raise ValueError(f"win_length {win_length} is longer than n_fft {n_fft}; it must fit into one frame")
    left = (n_fft - win_length) // 2
    padded = np.pad(window(name, win_length), (left, n_fft - win_length - left)).astype(np.float32)
    padded.flags.writeable = False
    return padded


def align_last(vector: Any, ndim: int) -> jax.Array:
    """Gives a vector `ndim` axes, itself the last, so that it multiplies without implicit rank promotion."""
    return jnp.reshape(jnp.asarray(vector), (1,) * (ndim - 1) + (-1,))


def frame(wave: jax.Array, size: int, hop_length: int) -> jax.Array:
    """Cuts a wave into overlapping frames.

    Args:
      wave: (..., samples) with samples >= size.
      size: samples in one frame.
      hop_length: samples from one frame's start to the next.

    Returns:
      (..., frames, size) with frames = 1 + (samples - size) // hop_length.
    """
    samples = wave.shape[-1]
    if samples < size:
        raise ValueError(f"a wave of {samples} samples is shorter than one frame of {size}")
    frames = 1 + (samples - size) // hop_length
    slices = math.ceil(size / hop_length)
    if slices > _MAX_SLICES:
        return wave[..., np.arange(frames)[:, None] * hop_length + np.arange(size)]
    blocks = frames + slices - 1
    wanted = blocks * hop_length
    if wanted > samples:
        wave = jnp.pad(wave, [(0, 0)] * (wave.ndim - 1) + [(0, wanted - samples)])
    hops = wave[..., :wanted].reshape(*wave.shape[:-1], blocks, hop_length)
    if slices == 1:
        return hops[..., :size]
    parts = [hops[..., start : start + frames, :] for start in range(slices)]
    parts[-1] = parts[-1][..., : size - (slices - 1) * hop_length]
    return jnp.concatenate(parts, axis=-1)


def overlap_add(frames: jax.Array, hop_length: int) -> jax.Array:
    """Sums overlapping frames: the transpose of `frame`.

    Args:
      frames: (..., frames, size).
      hop_length: samples from one frame's start to the next.

    Returns:
      (..., size + hop_length * (frames - 1)).
    """
    *batch, count, size = frames.shape
    total = size + hop_length * (count - 1)
    slices = math.ceil(size / hop_length)
    if slices > _MAX_SLICES:
        index = np.arange(count)[:, None] * hop_length + np.arange(size)
        return jnp.zeros((*batch, total), frames.dtype).at[..., index].add(frames)
    no_batch = [(0, 0)] * (frames.ndim - 2)
    frames = jnp.pad(frames, [*no_batch, (0, 0), (0, slices * hop_length - size)])
    hops = sum(
        jnp.pad(
            frames[..., start * hop_length : (start + 1) * hop_length],
            [*no_batch, (start, slices - 1 - start), (0, 0)],
        )
        for start in range(slices)
    )
    wave = jnp.asarray(hops).reshape(*batch, (count + slices - 1) * hop_length)
    if wave.shape[-1] < total:
        wave = jnp.pad(wave, [*no_batch, (0, total - wave.shape[-1])])
    return wave[..., :total]


def _check_sizes(n_fft: int, hop_length: int, win_length: int | None) -> int:
    if n_fft < 1 or hop_length < 1:
        raise ValueError(f"n_fft and hop_length must be at least 1, got {n_fft} and {hop_length}")
    return n_fft if win_length is None else win_length


@functools.partial(jax.jit, static_argnames=("n_fft", "hop_length", "win_length", "window", "center", "pad_mode"))
def stft(
    wave: Any,
    *,
    n_fft: int,
    hop_length: int,
    win_length: int | None = None,
    window: str = "hann",
    center: bool = True,
    pad_mode: str = "constant",
) -> jax.Array:
    """Short-time Fourier transform (librosa.stft; unscaled).

    Args:
      wave: (..., samples).
      n_fft: samples in one frame.
      hop_length: samples from one frame to the next; may exceed n_fft.
      win_length: length of the periodic window, in the middle of the frame; default n_fft.
      window: a name in `WINDOWS`.
      center: pad n_fft // 2 samples at both ends, so that frame t is centred on sample t * hop_length.
      pad_mode: how: a mode of `jnp.pad`, such as "constant" (zeros) or "reflect".

    Returns:
      complex64 (..., n_fft // 2 + 1, frames); frames = 1 + (padded samples - n_fft) // hop_length.

    Raises:
      ValueError: sizes that do not fit, unknown window, or (center=False) a wave shorter than one frame.
    """
    settings = STFT(n_fft, hop_length, win_length, window, center, pad_mode)
    return jnp.swapaxes(analyse(jnp.asarray(wave, jnp.float32), settings), -1, -2)


def analyse(wave: jax.Array, settings: STFT) -> jax.Array:
    """`stft` with time before frequency, as the FFT makes it: (..., samples) -> (..., frames, bins)."""
    n_fft, hop_length = settings.n_fft, settings.hop_length
    win_length = _check_sizes(n_fft, hop_length, settings.win_length)
    if wave.ndim == 0 or wave.shape[-1] == 0:
        raise ValueError(f"a wave has the shape (..., samples) with at least 1 sample, not {wave.shape}")
    if settings.center:
        side = n_fft // 2
        mode = "edge" if settings.pad_mode == "reflect" and wave.shape[-1] == 1 else settings.pad_mode
        wave = jnp.pad(wave, [(0, 0)] * (wave.ndim - 1) + [(side, side)], mode=mode)
    frames = frame(wave, n_fft, hop_length)
    return jnp.fft.rfft(frames * align_last(padded_window(settings.window, win_length, n_fft), frames.ndim))


def spectrum_power(spectrum: jax.Array, exponent: float = 2.0) -> jax.Array:
    """|X| ** exponent of a complex spectrum, with finite gradients where X is 0."""
    squared = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    return squared if exponent == 2.0 else safe_power(squared, exponent / 2)


def safe_power(x: jax.Array, exponent: float) -> jax.Array:
    """x ** exponent for x >= 0, with a gradient of 0 where x is 0."""
    if exponent == 1.0:
        return x
    positive = x > 0
    return jnp.where(positive, jnp.where(positive, x, 1.0) ** exponent, 0.0)


def window_power(
    frames: int, *, n_fft: int, hop_length: int, win_length: int | None = None, window: str = "hann"
) -> np.ndarray:
    """Sum of the squared windows of all frames: (n_fft + hop_length * (frames - 1),) float32."""
    squared = padded_window(window, n_fft if win_length is None else win_length, n_fft).astype(np.float64) ** 2
    total = np.zeros(n_fft + hop_length * (frames - 1))
    for index in range(frames):
        total[index * hop_length : index * hop_length + n_fft] += squared
    return total.astype(np.float32)


@functools.partial(jax.jit, static_argnames=("hop_length", "win_length", "window", "center", "length", "n_fft"))
def istft(
    spectrum: Any,
    *,
    hop_length: int,
    win_length: int | None = None,
    window: str = "hann",
    center: bool = True,
    length: int | None = None,
    n_fft: int | None = None,
) -> jax.Array:
    """Inverse short-time Fourier transform (librosa.istft).

    Windowed overlap-add divided by the sum of squared windows where that is above the smallest normal number: the wave
    whose STFT is nearest to `spectrum` in the least-squares sense (Griffin and Lim 1984, equation 6). An inconsistent
    spectrum is allowed.

    Args:
      spectrum: complex (..., n_fft // 2 + 1, frames).
      hop_length: as in `stft`.
      win_length: as in `stft`.
      window: as in `stft`.
      center: as in `stft`.
      length: samples to return (cut or filled with zeros); default n_fft + hop_length * (frames - 1), less the padding.
      n_fft: needed only for an odd n_fft; default 2 * (bins - 1).

    Returns:
      float32 (..., samples).

    Raises:
      ValueError: sizes that do not fit.
    """
    spectrum = jnp.asarray(spectrum)
    if spectrum.ndim < 2:
        raise ValueError(f"a spectrum has the shape (..., bins, frames), not {spectrum.shape}")
    n_fft = 2 * (spectrum.shape[-2] - 1) if n_fft is None else n_fft
    settings = STFT(n_fft, hop_length, win_length, window, center)
    return synthesise(jnp.swapaxes(spectrum.astype(jnp.complex64), -1, -2), settings, length)


def synthesise(spectrum: jax.Array, settings: STFT, length: int | None = None) -> jax.Array:
    """`istft` with time before frequency: complex (..., frames, bins) -> (..., samples)."""
    n_fft, hop_length = settings.n_fft, settings.hop_length
    win_length = _check_sizes(n_fft, hop_length, settings.win_length)
    count, bins = spectrum.shape[-2:]
    if bins != n_fft // 2 + 1 or count < 1:
        raise ValueError(
            f"a spectrum of n_fft {n_fft} has {n_fft // 2 + 1} bins and 1 or more frames, not {bins, count}"
        )
    frames = jnp.fft.irfft(spectrum, n_fft)
    frames = frames * align_last(padded_window(settings.window, win_length, n_fft), frames.ndim)
    wave = overlap_add(frames, hop_length)
    weight = window_power(count, n_fft=n_fft, hop_length=hop_length, win_length=win_length, window=settings.window)
    wave = wave * align_last(1.0 / np.where(weight > _TINY, weight, 1.0), wave.ndim)
    if settings.center:
        side = n_fft // 2
        wave = wave[..., side:] if length is not None else wave[..., side : wave.shape[-1] - side]
    if length is not None:
        missing = max(length - wave.shape[-1], 0)
        wave = jnp.pad(wave, [(0, 0)] * (wave.ndim - 1) + [(0, missing)])[..., :length]
    return wave


@dataclasses.dataclass(frozen=True)
class STFT:
    """The settings of a short-time Fourier transform, with its two directions; hashable.

    Attributes:
      n_fft, hop_length, win_length, window, center, pad_mode: as in `stft`.
    """

    n_fft: int
    hop_length: int
    win_length: int | None = None
    window: str = "hann"
    center: bool = True
    pad_mode: str = "constant"

    def forward(self, wave: Any) -> jax.Array:
        """(..., samples) -> complex64 (..., bins, frames)."""
        return stft(wave, **dataclasses.asdict(self))

    def inverse(self, spectrum: Any, length: int | None = None) -> jax.Array:
        """Complex (..., bins, frames) -> float32 (..., samples)."""
        return istft(
            spectrum,
            hop_length=self.hop_length,
            win_length=self.win_length,
            window=self.window,
            center=self.center,
            length=length,
            n_fft=self.n_fft,
        )

    def num_frames(self, samples: int) -> int:
        """Frames of a wave of `samples` samples."""
        padded = samples + 2 * (self.n_fft // 2) * self.center
        return 1 + (max(padded, self.n_fft) - self.n_fft) // self.hop_length
