"""How natural inputs vary: mel bands that go together, and how fast each axis changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.domain import Domain
from nd_jax.visualize.parameterizations import core

# Above this the mel scales are logarithmic: neighbouring bands are the same musical interval apart.
_LOGARITHMIC_HZ = 1000.0


def band_root(domain: Domain) -> Any:
    """The domain's band root, (bands, bands).

    Raises:
      ValueError: a domain without one.
    """
    root = getattr(domain, "band_root", None)
    if root is None:
        raise ValueError(
            f"bands='covariance' needs a LogMel domain with a band_root, and this {domain.kind!r} domain has none: "
            "nd_jax.domain.with_statistics(domain, inputs) makes it"
        )
    if np.shape(root) != (domain.shape[0],) * 2:
        raise ValueError(f"band_root has shape {np.shape(root)}, but the domain has {domain.shape[0]} bands")
    return jnp.asarray(root, jnp.float32)


def correlate_bands(components: jax.Array, root: jax.Array) -> jax.Array:
    """Decorrelated components (..., bands, frames) to bands that go together as in natural sound: root @ components."""
    return jnp.einsum("bk,...kt->...bt", root, components, precision="highest")


def decorrelate_bands(values: jax.Array, root: jax.Array) -> jax.Array:
    """The inverse of `correlate_bands`, any (..., bands, frames)."""
    return jnp.linalg.solve(root, values)


# ---- Axes ------------------------------------------------------------------------------------------------------------


def axis_scale(domain: Domain, *, seconds: float, octaves: float) -> tuple[float, float]:
    """The `axis_scale` of `fourier` by which a change over `seconds` is as smooth as one over `octaves`.

    Octaves are counted where a mel scale is logarithmic, above 1 kHz; below, its bands lie closer than the number says.

    Args:
      domain: one with a frequency and a time axis.
      seconds: a stretch of time.
      octaves: the stretch of frequency that counts as much.

    Returns:
      (factor on frequency, factor on time), with a product of 1, so that the size of the whole hardly changes.

    Raises:
      ValueError: no such axes, or lengths that are not above 0.
    """
    if not (seconds > 0 and octaves > 0):
        raise ValueError(f"seconds and octaves must be above 0, got {seconds!r} and {octaves!r}")
    per_band, per_frame = _steps(domain)
    return _product_one(octaves / per_band, seconds / per_frame)


@dataclasses.dataclass(frozen=True)
class NaturalScale:
    """How fast natural inputs change along their two axes; see `natural_scale`.

    Attributes:
      axis_scale: for `fourier(axis_scale=...)`.
      decay: for `fourier(decay=...)`.
      explained: the share of the variance of the log power spectrum that the two numbers explain, at most 1.
    """

    axis_scale: tuple[float, float]
    decay: float
    explained: float

    def octaves_per_second(self, domain: Domain) -> float:
        """The interval, in octaves, over which natural inputs change as much as over a second."""
        per_band, per_frame = _steps(domain)
        rows, columns = self.axis_scale
        return per_band / per_frame * rows / columns


def natural_scale(domain: Domain, inputs: Any) -> NaturalScale:
    """Fits amplitude = |(rows * a, columns * b)| ** -decay to the spectrum of natural inputs.

    The spectrum is that of the log-odds of the values (x clipped to 0.02 ... 0.98), since that is where `fourier` is
    linear, minus their mean over the inputs, under a Hann window; the frequencies 0 and 1 of both axes, which the
    window smears, are left out, and all others count the same.

    Args:
      domain: of two axes and one channel, at least 8 steps each.
      inputs: natural inputs, (n, *domain.shape).

    Raises:
      ValueError: another kind of domain, or inputs that do not fit.
    """
    shape = core.array_shape("natural_scale", domain)
    if len(shape) != 3 or shape[-1] != 1 or min(shape[:2]) < 8 or not core.is_bounded(domain):
        raise ValueError(f"natural_scale needs a domain of shape (8 or more, 8 or more, 1), not {shape}")
    if np.ndim(inputs) != 4 or np.shape(inputs)[1:] != shape:
        raise ValueError(f"inputs must have the shape (n, {', '.join(map(str, shape))}), got {np.shape(inputs)}")
    fraction = (np.asarray(inputs, np.float64)[..., 0] - domain.low) / (domain.high - domain.low)
    clipped = np.clip(fraction, 0.02, 0.98)
    odds = np.log(clipped / (1.0 - clipped))
    window = np.outer(np.hanning(shape[0]), np.hanning(shape[1]))
    power = np.mean(np.abs(np.fft.fft2((odds - odds.mean(axis=0)) * window)) ** 2, axis=0)
    a, b = np.meshgrid(*(np.abs(np.fft.fftfreq(size)) for size in shape[:2]), indexing="ij")
    kept = (a > 1.5 / shape[0]) & (b > 1.5 / shape[1])
    if not power[kept].min() > 0:
        raise ValueError("the inputs never change, so they have no natural scale")
    target = np.log(power[kept])
    fits = []
    for ratio in np.exp(np.linspace(-3.0, 3.0, 121)):
        line = np.log((ratio * a[kept]) ** 2 + b[kept] ** 2)
        slope, offset = np.polyfit(line, target, 1)
        fits.append((np.mean((slope * line + offset - target) ** 2), ratio, -slope))
    error, ratio, decay = min(fits)
    return NaturalScale(_product_one(ratio, 1.0), float(decay), float(1.0 - error / target.var()))


def _steps(domain: Domain) -> tuple[float, float]:
    """Octaves per band and seconds per frame."""
    axes: Sequence[Any] = domain.axes
    if len(axes) != 3 or [axis.name for axis in axes[:2]] != ["frequency", "time"] or min(domain.shape[:2]) < 2:
        raise ValueError(f"this needs a domain with a frequency and a time axis, not {domain.kind!r}")
    centres, times = np.asarray(axes[0].values), np.asarray(axes[1].values)
    upper = centres[centres >= _LOGARITHMIC_HZ]
    upper = upper if len(upper) > 1 else centres[-2:]
    return float(np.median(np.diff(np.log2(upper)))), float(times[1] - times[0])


def _product_one(rows: float, columns: float) -> tuple[float, float]:
    middle = np.sqrt(rows * columns)
    return float(rows / middle), float(columns / middle)
