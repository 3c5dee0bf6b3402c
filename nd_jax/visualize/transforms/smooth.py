"""Blurs that suit both sound (along time only) and images (both axes)."""

from __future__ import annotations

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.domain import Domain
from nd_jax.visualize.transforms import core


@dataclasses.dataclass(frozen=True)
class Blur:
    """See `blur`."""

    sigma: float
    most: float | None = None

    def check(self, domain: Domain) -> None:
        _smoothed_axes("blur", domain)

    def __call__(self, key: jax.Array, x: jax.Array, domain: Domain) -> jax.Array:
        axes, step = _smoothed_axes("blur", domain)
        largest = self.sigma if self.most is None else self.most
        if largest == 0:
            return x
        sigma = jax.random.uniform(key, (), minval=self.sigma, maxval=largest) / step
        if core.is_waveform(domain):
            return _low_pass(x, sigma, math.ceil(4 * largest / step))
        for axis in axes:
            x = core.interpolate(x, core.blur_matrix(sigma, x.shape[axis]), axis)
        return core.inside(x, domain)


def blur(sigma: float, most: float | None = None) -> Blur:
    """Gaussian blur: along time on sound (a low-pass on a waveform), along both axes on images. The mean is kept.

    Args:
      sigma: standard deviation in seconds (sound) or pixels (images).
      most: when given, the standard deviation is drawn uniformly from sigma ... most.

    Raises:
      ValueError: negative, or `most` below `sigma`; at `check`, a domain with neither time nor image axes.
    """
    core.not_negative("sigma", sigma)
    if most is not None and core.not_negative("most", most) < sigma:
        raise ValueError(f"blur needs sigma <= most, got {sigma!r} and {most!r}")
    return Blur(float(sigma), None if most is None else float(most))


@dataclasses.dataclass(frozen=True)
class Bilateral:
    """See `bilateral`."""

    sigma: float
    tone: float = 0.1

    def check(self, domain: Domain) -> None:
        _smoothed_axes("bilateral", domain)
        if core.is_waveform(domain):
            raise ValueError(
                "bilateral is refused on a waveform, where smoothing by sample value is distortion; use blur, or a "
                "spectrogram domain"
            )

    def __call__(self, key: jax.Array, x: jax.Array, domain: Domain) -> jax.Array:
        self.check(domain)
        axes, step = _smoothed_axes("bilateral", domain)
        sigma = self.sigma / step
        reach = math.ceil(2 * sigma)
        if reach == 0:
            return x
        spans = [range(-reach, reach + 1) if axis in axes else (0,) for axis in range(x.ndim - 1)]
        offsets = [offset for offset in itertools.product(*spans) if any(offset)]
        tone = self.tone * (domain.high - domain.low) if math.isfinite(domain.high - domain.low) else self.tone
        return core.inside(core.bilateral_filter(x, offsets, sigma, tone), domain)


def bilateral(sigma: float, *, tone: float = 0.1) -> Bilateral:
    """Smooths along time (spectrograms) or both axes (images) but keeps edges: unlike values do not mix.

    Source: Tomasi and Manduchi 1998. The window reaches two standard deviations. Deterministic: the key is not used.

    Args:
      sigma: standard deviation in seconds (sound) or pixels (images).
      tone: how unlike values may be, as a fraction of the domain's range (0.1 is 8 dB on a log-mel of 80 dB).

    Raises:
      ValueError: a negative sigma or a tone that is not positive; at `check`, a waveform.
    """
    if not (math.isfinite(tone) and tone > 0):
        raise ValueError(f"tone must be a positive fraction of the range, got {tone!r}")
    return Bilateral(core.not_negative("sigma", sigma), float(tone))


def _smoothed_axes(name: str, domain: Domain) -> tuple[tuple[int, ...], float]:
    """The axes that a blur runs along, and the size of one step in the unit of sigma."""
    if domain.kind == "image":
        return (0, 1), 1.0
    axis, step = core.time_axis(name, domain)
    return (axis,), step


def _low_pass(x: jax.Array, sigma: jax.Array, reach: int) -> jax.Array:
    """Gaussian filter of `sigma` samples along axis 0, by its transfer function; both ends are mirrored."""
    size = x.shape[0]
    reach = min(reach, size)
    padded = jnp.pad(x, ((reach, reach), (0, 0)), mode="symmetric")
    frequency = np.fft.rfftfreq(padded.shape[0]).astype(np.float32)
    transfer = jnp.exp(-2.0 * jnp.square(np.pi * frequency * sigma))
    smooth = jnp.fft.irfft(jnp.fft.rfft(padded, axis=0) * transfer[:, None], n=padded.shape[0], axis=0)
    return jnp.clip(smooth[reach : reach + size], jnp.min(x), jnp.max(x))
