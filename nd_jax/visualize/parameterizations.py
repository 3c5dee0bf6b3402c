"""What is free during an optimization: parameterizations map parameters to one input of a network.

A parameterization is a hashable frozen dataclass, made by a lower-case function, with two pure methods for ONE example
(`visualize_batch` vmaps them over its lanes):

    init(key, domain) -> parameters, a pytree
    apply(parameters, domain) -> x of shape domain.shape, inside the domain's range

| made by    | parameters                                   | for                                  |
|------------|----------------------------------------------|--------------------------------------|
| `pixels`   | one free value per input value               | every domain                         |
| `fourier`  | a spectrum, low frequencies weighted up      | images, spectrograms, any grid       |
| `waveform` | samples, or their weighted spectrum          | `Waveform`                           |
| `latent`   | standard normal numbers                      | `Latent`, every unbounded domain     |
| `parts`    | a dict, one parameterization per part        | `Parts`                              |

`start` is where the optimization begins, as a fraction of the domain's range (0 = low, 1 = high). It is a constant
added in front of the sigmoid, so the parameters themselves begin near zero. The default is the middle for images (grey)
and waveforms (silence), and 0.2 for log-mel spectrograms: 0.5 there would be -40 dB of noise in every band, while a
start at the floor itself has no sigmoid slope to climb with. 0.2 is -64 dB with the usual floor of -80 dB, and keeps
64 % of the sigmoid's largest slope. `start="mean"` begins at the mean level per band of the training data, where the
domain has it.
"""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.domain import Domain, Parts
from nd_jax.runtime import nearest

BOUNDS = ("sigmoid", "tanh", "clip", "none")
RULES = ("exact", "lucid", "lucent")

# Square root of the colour correlation of ImageNet (Lucid, optvis/param/color.py); columns mix decorrelated channels.
COLOUR_CORRELATION_SVD_SQRT = np.asarray([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]], np.float32)
COLOUR_MATRIX = COLOUR_CORRELATION_SVD_SQRT / np.max(np.linalg.norm(COLOUR_CORRELATION_SVD_SQRT, axis=0))

_START_BY_KIND = {"log_mel": 0.2}

Start = float | tuple[float, ...] | str | None


@runtime_checkable
class Parameterization(Protocol):
    """Hashable; `init` and `apply` are pure functions of their arguments and work on one example."""

    name: ClassVar[str]

    def init(self, key: jax.Array, domain: Domain) -> Any:
        """Returns the free parameters of one example, a pytree."""

    def apply(self, parameters: Any, domain: Domain) -> Any:
        """Returns x of shape `domain.shape`."""


# ---- Free values -----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Pixels:
    """See `pixels`."""

    name: ClassVar[str] = "pixels"

    sd: float = 0.01
    bounds: str = "sigmoid"
    start: Start = None

    def init(self, key: jax.Array, domain: Domain) -> jax.Array:
        _array_shape(self.name, domain)
        return self.sd * jax.random.normal(key, domain.shape)

    def apply(self, parameters: jax.Array, domain: Domain) -> jax.Array:
        return bounded(parameters, domain, self.bounds, self.start)


def pixels(sd: float = 0.01, *, bounds: str = "sigmoid", start: Start = None) -> Pixels:
    """One free value per input value.

    Args:
      sd: standard deviation of the values at the start, before the bounds.
      bounds: how values enter the domain's [low, high]: "sigmoid", "tanh" (the same curve, twice as steep), "clip" (a
        value pushed outside has no gradient until it comes back) or "none" (values as they are, around 0 unless `start`
        is given). Unbounded domains always take values as they are.
      start: where to begin, as a fraction of the range, one per channel, or "mean"; see the module's text.

    Raises:
      ValueError: a bad argument, in one sentence.
    """
    return Pixels(_not_negative("sd", sd), _choice("bounds", bounds, BOUNDS), _checked_start(start, bounds))


# ---- Fourier ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Fourier:
    """See `fourier`."""

    name: ClassVar[str] = "fourier"

    decay: float = 1.0
    sd: float = 0.01
    axis_scale: tuple[float, ...] | None = None
    bounds: str = "sigmoid"
    start: Start = None
    decorrelate: bool = True

    def init(self, key: jax.Array, domain: Domain) -> jax.Array:
        grid, channels = self._grid(domain)
        return self.sd * jax.random.normal(key, (channels, *spectrum_shape(grid)))

    def apply(self, parameters: jax.Array, domain: Domain) -> jax.Array:
        grid, channels = self._grid(domain)
        values = fourier_image(parameters, grid, decay=self.decay, axis_scale=self.axis_scale)
        values = jnp.moveaxis(values, 0, -1)
        if self.decorrelate and domain.kind == "image" and channels == 3:
            values = correlate_colours(values)
        return bounded(values, domain, self.bounds, self.start)

    def _grid(self, domain: Domain) -> tuple[tuple[int, ...], int]:
        shape = _array_shape(self.name, domain)
        if len(shape) not in (2, 3):
            raise ValueError(
                f"fourier needs a domain of shape (length, channels) or (rows, columns, channels), not {shape}; "
                "use parameterizations.latent or pixels"
            )
        grid = shape[:-1]
        if self.axis_scale is not None and len(self.axis_scale) not in (1, len(grid)):
            raise ValueError(f"axis_scale has {len(self.axis_scale)} numbers, but the domain has {len(grid)} axes")
        return grid, shape[-1]


def fourier(
    decay: float = 1.0,
    sd: float = 0.01,
    *,
    axis_scale: float | Sequence[float] | None = None,
    bounds: str = "sigmoid",
    start: Start = None,
    decorrelate: bool = True,
) -> Fourier:
    """The spectrum of the input is free, divided by frequency, so that large structure moves as easily as fine detail.

    Source: Lucid, `optvis/param/spatial.py: fft_image` and `color.py`; here for any grid (one or two axes, any sizes,
    any number of channels). Parameters: (channels, rows, columns // 2 + 1, 2), or (channels, length // 2 + 1, 2),
    float32; the last axis is real and imaginary part.

    Args:
      decay: power of the frequency that the spectrum is divided by; 0 is white, 1 is Lucid's.
      sd: standard deviation of the spectrum at the start.
      axis_scale: factor on the frequency per axis (rows, columns), or one number. A larger factor makes that axis
        smoother: (1, 2) on a spectrogram treats a change in time as twice as fast.
      bounds: "sigmoid", "tanh", "clip" or "none", see `pixels`.
      start: where to begin, as a fraction of the range, one per channel, or "mean"; see the module's text.
      decorrelate: mix the channels of 3-channel images by Lucid's colour matrix, so that they are free independently.

    Raises:
      ValueError: a bad argument, in one sentence.
    """
    return Fourier(
        _not_negative("decay", decay),
        _not_negative("sd", sd),
        _checked_scale(axis_scale),
        _choice("bounds", bounds, BOUNDS),
        _checked_start(start, bounds),
        bool(decorrelate),
    )


def spectrum_shape(grid: Sequence[int], rule: str = "exact") -> tuple[int, ...]:
    """Shape of the spectrum of a real array of shape `grid`, real and imaginary part last; see `fourier_image`."""
    width = grid[-1] // 2 + 1 + (grid[-1] % 2 if rule != "exact" else 0)
    return (*grid[:-1], width, 2)


def frequencies(grid: Sequence[int], rule: str = "exact", axis_scale: Sequence[float] | None = None) -> np.ndarray:
    """Frequency of every bin, cycles per step: Euclidean norm over axes, shape `spectrum_shape(grid, rule)[:-1]`."""
    width = spectrum_shape(grid, rule)[-2]
    axes = [np.fft.fftfreq(size) for size in grid[:-1]] + [np.abs(np.fft.fftfreq(grid[-1]))[:width]]
    factors = np.broadcast_to(np.asarray(1.0 if axis_scale is None else axis_scale, np.float64), (len(grid),))
    squares = [np.square(factor * axis) for factor, axis in zip(factors, axes, strict=True)]
    return np.sqrt(sum(np.meshgrid(*squares, indexing="ij")))


def fourier_image(
    spectrum: jax.Array,
    grid: Sequence[int],
    *,
    decay: float = 1.0,
    rule: str = "exact",
    axis_scale: Sequence[float] | None = None,
) -> jax.Array:
    """A spectrum to a real array, before colours and bounds: Lucid's `fft_image`.

    Equation: irfft(spectrum / max(f, 1 / max(grid)) ** decay) / 4 with an orthonormal transform; f as in `frequencies`.

    Args:
      spectrum: (..., *spectrum_shape(grid, rule)), float32.
      grid: (length,) or (rows, columns).
      decay: power of the frequency.
      rule: what happens to an odd last axis. "exact": the width // 2 + 1 bins that a real array of that width has.
        "lucent": one more column, which is dropped (Lucent under PyTorch). "lucid": one more column, transformed to
        width + 1 columns of which the last is cropped (Lucid under TensorFlow). All agree on even sizes.
      axis_scale: factor on the frequency, per axis.

    Returns:
      (..., *grid) float32.

    Raises:
      ValueError: the spectrum's shape does not belong to the grid, or an unknown rule.
    """
    _choice("rule", rule, RULES)
    grid = tuple(grid)
    expected = spectrum_shape(grid, rule)
    if spectrum.shape[-len(expected) :] != expected:
        raise ValueError(f"a grid of {grid} needs a spectrum of (..., {expected}), got {spectrum.shape}")
    frequency = frequencies(grid, rule, axis_scale)
    scale = 1.0 / np.maximum(frequency, 1.0 / max(grid)) ** decay
    width = grid[-1]
    if rule == "lucid":
        width = 2 * (expected[-2] - 1)
        scale = scale * math.sqrt(grid[-1] / width)
    elif rule == "lucent":
        spectrum = spectrum[..., : width // 2 + 1, :]
        scale = scale[..., : width // 2 + 1]
    return _inverse_real_fft(spectrum, scale / 4.0, len(grid), width)[..., : grid[-1]]


def _inverse_real_fft(spectrum: jax.Array, scale: np.ndarray, axes: int, width: int) -> jax.Array:
    """Orthonormal inverse real FFT over the last `axes` axes of spectrum (..., bins, 2) * scale (..., bins).

    The complex transforms come first and the complex-to-real one is one-dimensional, with the imaginary parts that it
    must ignore set to zero: FFT libraries differ on spectra that are not Hermitian, and free parameters are not.
    """
    scale = np.asarray(scale, np.float32).reshape((1,) * (spectrum.ndim - 1 - scale.ndim) + scale.shape)
    bins = jax.lax.complex(spectrum[..., 0] * scale, spectrum[..., 1] * scale)
    for axis in range(-axes, -1):
        bins = jnp.fft.ifft(bins, axis=axis, norm="ortho")
    has_imaginary = np.ones(bins.shape[-1], np.float32)
    has_imaginary[0] = 0.0
    if width % 2 == 0:
        has_imaginary[-1] = 0.0
    imaginary = jnp.imag(bins) * has_imaginary.reshape((1,) * (bins.ndim - 1) + (-1,))
    return jnp.fft.irfft(jax.lax.complex(jnp.real(bins), imaginary), n=width, axis=-1, norm="ortho")


def correlate_colours(values: jax.Array) -> jax.Array:
    """Decorrelated channels (..., 3) to red, green, blue: values times the transpose of Lucid's normalised matrix."""
    return jnp.einsum("...c,rc->...r", values, jnp.asarray(COLOUR_MATRIX), precision="highest")


# ---- Sound samples ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Samples:
    """See `waveform`."""

    name: ClassVar[str] = "waveform"

    decay: float | None = 0.5
    sd: float = 0.01
    corner: float = 100.0
    bounds: str = "tanh"

    def init(self, key: jax.Array, domain: Domain) -> jax.Array:
        samples = self._samples(domain)
        shape = (samples, 1) if self.decay is None else spectrum_shape((samples,))
        return self.sd * jax.random.normal(key, shape)

    def apply(self, parameters: jax.Array, domain: Domain) -> jax.Array:
        samples = self._samples(domain)
        if self.decay is None:
            return bounded(parameters, domain, self.bounds, None)
        frequency = np.fft.rfftfreq(samples, 1.0 / domain.sample_rate)  # type: ignore[attr-defined]
        scale = 1.0 / np.maximum(frequency, self.corner) ** self.decay
        scale = scale / np.sqrt(np.mean(np.square(scale)))
        values = _inverse_real_fft(parameters, scale / math.sqrt(2.0), 1, samples)
        return bounded(values[:, None], domain, self.bounds, None)

    def _samples(self, domain: Domain) -> int:
        if domain.kind != "waveform":
            raise ValueError(f"parameterizations.waveform is for a Waveform domain, not for {domain.kind!r}")
        return domain.shape[0]


def waveform(decay: float | None = 0.5, sd: float = 0.01, *, corner: float = 100.0, bounds: str = "tanh") -> Samples:
    """Samples of a sound in -1 ... 1, free directly or through their weighted spectrum.

    Parameters: (samples // 2 + 1, 2) real and imaginary parts, or (samples, 1) when `decay` is None. The weights have
    unit mean square, so `sd` is the RMS of the sound at the start (0.01: -40 dB below full scale) whatever the decay.

    Args:
      decay: power of the frequency that the spectrum is divided by: 0.5 is pink (equal energy per octave, like most
        natural sound), 0 white, 1 brown. None frees the samples themselves.
      sd: RMS at the start, in full scale; begins around silence.
      corner: Hz below which the weight stays constant, so that inaudible rumble is not favoured.
      bounds: "tanh" (a smooth limiter), "sigmoid" (half as steep), "clip" or "none".

    Raises:
      ValueError: a bad argument, in one sentence.
    """
    if decay is not None:
        _not_negative("decay", decay)
    if not corner > 0:
        raise ValueError(f"corner must be a positive frequency in Hz, got {corner!r}")
    return Samples(decay, _not_negative("sd", sd), float(corner), _choice("bounds", bounds, BOUNDS))


# ---- Latents and parts -----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Normal:
    """See `latent`."""

    name: ClassVar[str] = "latent"

    sd: float = 1.0

    def init(self, key: jax.Array, domain: Domain) -> jax.Array:
        if _is_bounded(domain):
            raise ValueError(
                f"parameterizations.latent is for an unbounded domain, not for {domain.kind!r} with values "
                f"{domain.low} ... {domain.high}; use parameterizations.pixels"
            )
        return self.sd * jax.random.normal(key, _array_shape(self.name, domain))

    def apply(self, parameters: jax.Array, domain: Domain) -> jax.Array:
        return parameters


def latent(sd: float = 1.0) -> Normal:
    """Free numbers that begin as normal noise of standard deviation `sd` and have no bounds: a generator's latent."""
    return Normal(_not_negative("sd", sd))


@dataclasses.dataclass(frozen=True)
class ByPart:
    """See `parts`."""

    name: ClassVar[str] = "parts"

    items: tuple[tuple[str, Parameterization], ...]

    def init(self, key: jax.Array, domain: Domain) -> dict[str, Any]:
        domains = self._domains(domain)
        return {
            # By name, not by position, so that adding a part leaves the others as they were.
            name: part.init(jax.random.fold_in(key, zlib.crc32(name.encode())), domains[name])
            for name, part in self.items
        }

    def apply(self, parameters: dict[str, Any], domain: Domain) -> dict[str, Any]:
        domains = self._domains(domain)
        return {name: part.apply(parameters[name], domains[name]) for name, part in self.items}

    def _domains(self, domain: Domain) -> dict[str, Domain]:
        if not isinstance(domain, Parts) or set(domain.parts) != {name for name, _ in self.items}:
            given = sorted(domain.parts) if isinstance(domain, Parts) else domain.kind
            raise ValueError(f"parameterization has the parts {sorted(dict(self.items))}, but the domain is {given}")
        return domain.parts


def parts(**by_name: Parameterization) -> ByPart:
    """One parameterization for every part of a `Parts` domain: `parts(z=latent(), pitch=pixels())`."""
    return ByPart(tuple(by_name.items()))


def default(domain: Domain) -> Parameterization:
    """What a domain is optimized through unless asked otherwise.

    Fourier for images and spectrograms, a pink-weighted spectrum for waveforms, a standard normal start for latents and
    other unbounded numbers, a dict of these for `Parts`.
    """
    if isinstance(domain, Parts):
        return ByPart(tuple((name, default(part)) for name, part in domain.parts.items()))
    if domain.kind == "waveform":
        return waveform()
    if not _is_bounded(domain):
        return latent()
    return fourier() if len(domain.shape) in (2, 3) else pixels()


# ---- Bounds and checks -----------------------------------------------------------------------------------------------


def bounded(values: jax.Array, domain: Domain, bounds: str = "sigmoid", start: Start = None) -> jax.Array:
    """Moves free values of shape `domain.shape` into the domain's [low, high]; 0 becomes `start`, see `pixels`.

    An unbounded domain takes the values as they are.
    """
    if not _is_bounded(domain) or (bounds == "none" and start is None):
        return values
    fraction = _start_fraction(domain, start)
    span = domain.high - domain.low
    if bounds == "sigmoid":
        return domain.low + span * jax.nn.sigmoid(values + jnp.log(fraction / (1.0 - fraction)))
    if bounds == "tanh":
        middle = (domain.low + domain.high) / 2
        return middle + span / 2 * jnp.tanh(values + jnp.arctanh(2.0 * fraction - 1.0))
    shifted = values + (domain.low + span * fraction)
    return jnp.clip(shifted, domain.low, domain.high) if bounds == "clip" else shifted


def _is_bounded(domain: Domain) -> bool:
    return math.isfinite(domain.low) and math.isfinite(domain.high)


def _start_fraction(domain: Domain, start: Start) -> jax.Array:
    """The start as a float32 array that broadcasts against `domain.shape` at equal rank."""
    rank = len(domain.shape)
    if start == "mean":
        mean = getattr(domain, "band_mean", None)
        if mean is None:
            raise ValueError(f"start='mean' needs a domain with a band_mean, and this {domain.kind!r} domain has none")
        # Away from the two ends, where the sigmoid is flat.
        return jnp.clip(jnp.asarray(mean, jnp.float32), 0.02, 0.98).reshape((-1,) + (1,) * (rank - 1))
    if start is None:
        start = _START_BY_KIND.get(domain.kind, 0.5)
    fraction = np.asarray(start, np.float32)
    if fraction.ndim and fraction.shape != (domain.shape[-1],):
        raise ValueError(f"start has {fraction.size} numbers, but the domain has {domain.shape[-1]} channels")
    return jnp.asarray(fraction.reshape((1,) * (rank - 1) + (-1,)))


def _checked_start(start: Any, bounds: str) -> Start:
    if start is None or start == "mean":
        return start
    if isinstance(start, str):
        raise ValueError(f"start must be a fraction of the range, one per channel, or 'mean', got {start!r}")
    values = tuple(float(value) for value in np.ravel(np.asarray(start)))
    open_ends = bounds in ("sigmoid", "tanh")
    if not all((0 < value < 1) if open_ends else (0 <= value <= 1) for value in values):
        where = "between" if open_ends else "in"
        raise ValueError(f"start must lie {where} 0 and 1 (a fraction of the domain's range), got {start!r}")
    return values if np.ndim(start) else values[0]


def _checked_scale(axis_scale: float | Sequence[float] | None) -> tuple[float, ...] | None:
    if axis_scale is None:
        return None
    values = tuple(float(value) for value in np.ravel(np.asarray(axis_scale)))
    if not values or not all(math.isfinite(value) and value > 0 for value in values):
        raise ValueError(f"axis_scale must be positive numbers, one per axis, got {axis_scale!r}")
    return values


def _array_shape(name: str, domain: Domain) -> tuple[int, ...]:
    if isinstance(domain, Parts):
        raise ValueError(
            f"parameterizations.{name} is for one array, but the domain has the parts {sorted(domain.parts)}; "
            "use parameterizations.parts"
        )
    return tuple(domain.shape)


def _not_negative(name: str, value: float) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be a number of at least 0, got {value!r}")
    return float(value)


def _choice(name: str, value: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise ValueError(f"unknown {name} {value!r}; {nearest(value, choices)}")
    return value
