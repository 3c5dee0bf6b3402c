"""Blurs that suit both sound (along time only) and images (both axes)."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

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
        return x


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
        offsets = tuple(offset for offset in itertools.product(*spans) if any(offset))
        tone = self.tone * (domain.high - domain.low) if math.isfinite(domain.high - domain.low) else self.tone
        return jnp.moveaxis(_bilateral(jnp.moveaxis(x, -1, 0), offsets, sigma, tone), 0, -1)


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
    before = min(reach, size)
    after = min(_fast_length(size + 2 * before) - size - before, size)
    padded = jnp.pad(x, ((before, after), (0, 0)), mode="symmetric")
    frequency = np.fft.rfftfreq(padded.shape[0]).astype(np.float32)
    transfer = jnp.exp(-2.0 * jnp.square(np.pi * frequency * sigma))
    smooth = jnp.fft.irfft(jnp.fft.rfft(padded, axis=0) * transfer[:, None], n=padded.shape[0], axis=0)
    return smooth[before : before + size]


def _fast_length(least: int) -> int:
    """The smallest number from `least` on without prime factors above 5, where Fourier transforms are fast."""
    length = least
    while True:
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 1


# ---- Bilateral filter ------------------------------------------------------------------------------------------------


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _bilateral(x: jax.Array, offsets: tuple[tuple[int, ...], ...], sigma: float, tone: float) -> jax.Array:
    """Weighted mean over x (channels, *grid) shifted by `offsets`; near and alike neighbours count most.

    Source: Tomasi and Manduchi 1998, equations 4 to 6, with Gaussian weights and the Euclidean difference of channels.
    Neighbours outside x do not count.
    """
    return _bilateral_sums(x, offsets, sigma, tone)[0]


def _bilateral_sums(
    x: jax.Array, offsets: tuple[tuple[int, ...], ...], sigma: float, tone: float
) -> tuple[jax.Array, jax.Array]:
    """The filtered x and the sums of weights (1, *grid)."""
    shifted = _shifter(offsets)

    def add(sums: tuple[jax.Array, jax.Array], step: tuple[jax.Array, jax.Array]) -> Any:
        total, weights = sums
        offset, nearness = step
        difference = shifted(x, offset) - x
        weight = nearness * shifted(jnp.ones_like(weights), offset) * _likeness(difference, tone)
        return (total + weight * difference, weights + weight), None

    start = jnp.zeros_like(x), jnp.ones((1, *x.shape[1:]), jnp.float32)
    # A loop, since XLA would fuse a sum written out into every shifted read of it (30 times slower on a CPU).
    (total, weights), _ = jax.lax.scan(add, start, _steps(offsets, sigma))
    return x + total / weights, weights


def _bilateral_forward(x: jax.Array, offsets: Any, sigma: float, tone: float) -> tuple[jax.Array, Any]:
    smooth, weights = _bilateral_sums(x, offsets, sigma, tone)
    return smooth, (x, smooth, weights)


def _bilateral_backward(offsets: Any, sigma: float, tone: float, kept: Any, cotangent: jax.Array) -> tuple[jax.Array]:
    """The gradient by hand, one pass over the offsets: weights are symmetric, so it needs no scatter."""
    x, smooth, weights = kept
    shifted = _shifter(offsets)
    share = cotangent / weights

    def add(total: jax.Array, step: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        offset, nearness = step
        other, other_share = shifted(x, offset), shifted(share, offset)
        difference = other - x
        pull = other_share * (x - shifted(smooth, offset)) + share * (other - smooth)
        both = jnp.sum(pull, axis=0, keepdims=True) / tone**2
        weight = nearness * shifted(jnp.ones_like(weights), offset) * _likeness(difference, tone)
        return total + weight * (other_share + difference * both), None

    return (jax.lax.scan(add, share, _steps(offsets, sigma))[0],)


_bilateral.defvjp(_bilateral_forward, _bilateral_backward)


def _likeness(difference: jax.Array, tone: float) -> jax.Array:
    return jnp.exp(-0.5 / tone**2 * jnp.sum(jnp.square(difference), axis=0, keepdims=True))


def _steps(offsets: tuple[tuple[int, ...], ...], sigma: float) -> tuple[jax.Array, jax.Array]:
    """The offsets (n, axes) and the weight of the nearness of each (n,)."""
    steps = np.asarray(offsets, np.int32)
    nearness = np.exp(-0.5 * np.sum(np.square(steps), axis=1) / sigma**2)
    return jnp.asarray(steps), jnp.asarray(nearness, jnp.float32)


def _shifter(offsets: tuple[tuple[int, ...], ...]) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """A function that reads an array (channels, *grid) at every place plus an offset, zero outside."""
    most = np.max(np.abs(np.asarray(offsets, np.int32)), axis=0)

    def shifted(array: jax.Array, offset: jax.Array) -> jax.Array:
        padded = jnp.pad(array, [(0, 0), *((int(reach), int(reach)) for reach in most)])
        starts = [offset[axis] + int(reach) for axis, reach in enumerate(most)]
        return jax.lax.dynamic_slice(padded, [jnp.zeros((), jnp.int32), *starts], array.shape)

    return shifted
