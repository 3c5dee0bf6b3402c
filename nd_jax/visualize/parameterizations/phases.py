"""Magnitudes of data, free phases: MACO for images, and its form for sound."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import pytree
from nd_jax.domain import Domain
from nd_jax.visualize.parameterizations import core
from nd_jax.visualize.parameterizations.spectrum import (
    correlate_colours,
    decorrelate_colours,
    inverse_real_fft,
    spectrum_shape,
)

# Log-odds have no value at the ends of the range, see `nd_jax.domain.with_statistics`.
_END = 0.02
_BATCH = 256


@functools.partial(pytree.register, data_fields=["magnitude"], meta_fields=["bounds", "decorrelate", "spread"])
@dataclasses.dataclass(frozen=True, eq=False)
class Maco:
    """See `maco`."""

    name: ClassVar[str] = "maco"

    magnitude: Any
    bounds: str | None = None
    decorrelate: bool = True
    spread: float = 1.0

    def init(self, key: jax.Array, domain: Domain) -> jax.Array:
        return self.spread * jax.random.uniform(key, self._shape(domain), minval=-np.pi, maxval=np.pi)

    def apply(self, parameters: jax.Array, domain: Domain) -> jax.Array:
        self._shape(domain)
        grid = _grid(domain)
        phase = _mirrored(parameters, grid)
        magnitude = jnp.asarray(self.magnitude, jnp.float32)
        spectrum = jnp.stack([magnitude * jnp.cos(phase), magnitude * jnp.sin(phase)], axis=-1)
        unit = np.ones(spectrum_shape(grid)[:-1])
        values = _from_channels(inverse_real_fft(spectrum, unit, len(grid), grid[-1]), domain)
        if self.decorrelate and _has_colours(domain):
            values = correlate_colours(values)
        bounds, start = _bounds(self.bounds, domain)
        return core.bounded(values, domain, bounds, start)

    def invert(self, x: Any, domain: Domain) -> jax.Array:
        self._shape(domain)
        grid = _grid(domain)
        values = _free_values(core.one_example(self.name, x, domain), domain, self.bounds, self.decorrelate)
        phase = jnp.angle(jnp.fft.rfftn(values, axes=tuple(range(-len(grid), 0))))
        return phase * core.leading(_halves(grid), phase.ndim)

    def _shape(self, domain: Domain) -> tuple[int, ...]:
        core.array_shape(self.name, domain)
        expected = magnitude_shape(domain)
        if tuple(np.shape(self.magnitude)) != expected:
            raise ValueError(
                f"maco: this domain needs a magnitude spectrum of shape {expected}, got "
                f"{tuple(np.shape(self.magnitude))}; magnitude_spectrum(domain, inputs) makes it"
            )
        return expected


def maco(
    given: Any,
    domain: Domain | None = None,
    *,
    bounds: str | None = None,
    decorrelate: bool = True,
    spread: float = 1.0,
) -> Maco:
    """Only phases are free; the magnitude of every frequency is that of natural inputs, exactly, at every step.

    With bounds="clip" that holds before values outside the range are cut.

    x = bound(irfft(r exp(i phase))). Source: Fel et al. 2023, "Unlocking feature visualization for deeper networks with
    MAgnitude Constrained Optimization", equation 4; phases begin uniform. Unlike published code nothing is standardised
    afterwards, so that the constraint holds. Because r is that of the values in front of the bounds (log-odds of the
    range, clipped to its inner 96 %; the values themselves with bounds "none"), x stays in its range as well.

    | domain   | transformed          | r and phases                     |
    |----------|----------------------|----------------------------------|
    | Image    | rows and columns     | (channels, rows, columns//2 + 1) |
    | LogMel   | time, band by band   | (bands, frames//2 + 1)           |
    | Waveform | time                 | (samples//2 + 1,)                |

    On a spectrogram frequency is not stationary, so that the two-dimensional form would mix bands: the modulation
    spectrum of every band is kept instead, its mean level and how fast it changes; what is free is when.

    Nadam with a learning rate of 1 and random crops are the authors' recipe for images; they are `optimizer=` and
    `transforms=` here. `docs/truth_bench.md` says what it is worth on sound.

    Args:
      given: a magnitude spectrum, from `magnitude_spectrum`; or natural inputs, (n, *domain.shape), with `domain`.
      domain: of the natural inputs, when these are given.
      bounds: None for "tanh" on waveforms and "sigmoid" elsewhere, see `pixels`; "none" constrains the values
        themselves and leaves them unbounded.
      decorrelate: mix the channels of 3-channel images by Lucid's colour matrix, as `fourier` does.
      spread: of the phases at the start, 1 for uniform over the circle, 0 for all alike.

    Raises:
      ValueError: a bad argument, in one sentence.
    """
    if bounds is not None:
        core.choice("bounds", bounds, core.BOUNDS)
    if domain is not None:
        given = magnitude_spectrum(domain, given, bounds=bounds, decorrelate=decorrelate)
    values = np.asarray(given, np.float32)
    if not values.ndim or not np.all(np.isfinite(values)):
        raise ValueError(
            "maco takes a magnitude spectrum of finite numbers, or natural inputs with their domain, got an array of "
            f"shape {values.shape}"
        )
    return Maco(values, bounds, bool(decorrelate), core.not_negative("spread", spread))


def magnitude_spectrum(
    domain: Domain, inputs: Any, *, bounds: str | None = None, decorrelate: bool = True
) -> np.ndarray:
    """The mean magnitude spectrum of natural inputs, for `maco`: the mean of |FFT|, orthonormal, over the inputs.

    The constant has no phase, only a sign: that of its mean over the inputs is kept in its entry.

    Args:
      domain: an `Image`, `LogMel` or `Waveform` domain.
      inputs: natural inputs, (n, *domain.shape).
      bounds: of the `maco` that it is for.
      decorrelate: of the `maco` that it is for.

    Returns:
      float32 of `magnitude_shape(domain)`.

    Raises:
      ValueError: another kind of domain, or inputs that do not fit or are not finite.
    """
    shape, grid = core.array_shape("maco", domain), _grid(domain)
    if np.ndim(inputs) != len(shape) + 1 or tuple(np.shape(inputs))[1:] != shape or not len(inputs):
        wanted = ", ".join(map(str, ("n", *shape)))
        raise ValueError(f"natural inputs must have the shape ({wanted}), got {tuple(np.shape(inputs))}")
    total: Any = 0.0
    axes = tuple(range(-len(grid), 0))
    constant: Any = (..., *(0,) * len(grid))
    mean: Any = 0.0
    for first in range(0, len(inputs), _BATCH):
        batch = jnp.asarray(np.asarray(inputs[first : first + _BATCH], np.float32))
        values = jax.vmap(lambda x: _free_values(x, domain, bounds, decorrelate))(batch)
        bins = np.fft.rfftn(np.asarray(values, np.float64), axes=axes, norm="ortho")
        total = total + np.sum(np.abs(bins), axis=0)
        mean = mean + np.sum(bins.real[constant], axis=0)
    found = np.asarray(total / len(inputs))
    if not np.all(np.isfinite(found)):
        raise ValueError("natural inputs hold values that are not finite numbers")
    found[constant] = mean / len(inputs)
    return found.astype(np.float32)


def magnitude_shape(domain: Domain) -> tuple[int, ...]:
    """The shape of the magnitudes (and phases) of a domain; see the table of `maco`."""
    grid = _grid(domain)
    bins = spectrum_shape(grid)[:-1]
    if domain.kind == "waveform":
        return bins
    return (domain.shape[-1] if domain.kind == "image" else domain.shape[0], *bins)


def _grid(domain: Domain) -> tuple[int, ...]:
    if domain.kind == "image":
        return tuple(domain.shape[:2])
    if domain.kind in ("log_mel", "fbank"):
        return tuple(domain.shape[1:2])
    if domain.kind == "waveform":
        return tuple(domain.shape[:1])
    raise ValueError(f"maco is for images, log-mel spectrograms and waveforms, not for {domain.kind!r}")


def _bounds(bounds: str | None, domain: Domain) -> tuple[str, core.Start]:
    chosen = bounds or ("tanh" if domain.kind == "waveform" else "sigmoid")
    return chosen, None if chosen == "none" else 0.5


def _has_colours(domain: Domain) -> bool:
    return domain.kind == "image" and domain.shape[-1] == 3


def _free_values(x: jax.Array, domain: Domain, bounds: str | None, decorrelate: bool) -> jax.Array:
    """One input to the values in front of the bounds, channels first: (..., *grid)."""
    chosen, start = _bounds(bounds, domain)
    if chosen in ("sigmoid", "tanh"):
        span = domain.high - domain.low
        x = jnp.clip(x, domain.low + _END * span, domain.high - _END * span)
    values = core.unbounded(x, domain, chosen, start) if start is not None else x
    if decorrelate and _has_colours(domain):
        values = decorrelate_colours(values)
    return jnp.moveaxis(values, -1, 0) if domain.kind == "image" else values[..., 0]


def _from_channels(values: jax.Array, domain: Domain) -> jax.Array:
    return jnp.moveaxis(values, 0, -1) if domain.kind == "image" else values[..., None]


def _mirrored(phase: jax.Array, grid: tuple[int, ...]) -> jax.Array:
    """Phases of a real array: where the spectrum is its own mirror image, opposite ones differ in sign only."""
    odd = phase
    for axis in range(-len(grid), -1):
        odd = jnp.roll(jnp.flip(odd, axis), 1, axis)
    own = _halves(grid) < 1
    # The constant and the highest frequencies are their own mirror images and have no phase.
    return jnp.where(core.leading(own, phase.ndim), phase - odd, phase)


def _halves(grid: tuple[int, ...]) -> np.ndarray:
    """0.5 for the columns that are their own mirror image, 1 for all others; (*bins)."""
    found = np.ones(spectrum_shape(grid)[:-1], np.float32)
    found[..., 0] = 0.5
    if grid[-1] % 2 == 0:
        found[..., -1] = 0.5
    return found
