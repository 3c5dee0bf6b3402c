"""Images and spectrograms through their weighted spectrum: Lucid's Fourier parameterization, for any grid."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.domain import Domain
from nd_jax.visualize.parameterizations import core, natural

BANDS = ("fourier", "covariance")
RULES = ("exact", "lucid", "lucent")
# Square root of the colour correlation of ImageNet (Lucid, optvis/param/color.py); columns mix decorrelated channels.
COLOUR_CORRELATION_SVD_SQRT = np.asarray([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]], np.float32)
COLOUR_MATRIX = COLOUR_CORRELATION_SVD_SQRT / np.max(np.linalg.norm(COLOUR_CORRELATION_SVD_SQRT, axis=0))
_COLOUR_INVERSE = np.linalg.inv(COLOUR_MATRIX.astype(np.float64)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Fourier:
    """See `fourier`."""

    name: ClassVar[str] = "fourier"

    decay: float = 1.0
    sd: float = 0.01
    axis_scale: tuple[float, ...] | None = None
    bounds: str = "sigmoid"
    start: core.Start = None
    decorrelate: bool = True
    bands: str = "fourier"
    fine: bool = False

    @property
    def polishes(self) -> bool:
        """Whether something else moves while a run is polished, see `hold`."""
        return self.fine

    def hold(self, gradient: Any, polishing: jax.Array) -> Any:
        """Keeps `fine` still until the polish, and the spectrum from then on."""
        if not self.fine:
            return gradient
        return {
            "spectrum": jnp.where(polishing, 0.0, gradient["spectrum"]),
            "fine": jnp.where(polishing, gradient["fine"], 0.0),
        }

    def init(self, key: jax.Array, domain: Domain) -> Any:
        grid, channels = self._grid(domain)
        spectrum = self.sd * jax.random.normal(key, (channels, *spectrum_shape(grid)))
        return {"spectrum": spectrum, "fine": jnp.zeros(domain.shape)} if self.fine else spectrum

    def apply(self, parameters: Any, domain: Domain) -> jax.Array:
        grid, _ = self._grid(domain)
        spectrum = parameters["spectrum"] if self.fine else parameters
        values = fourier_image(spectrum, grid, decay=self.decay, axis_scale=self.axis_scale)
        if self.bands == "covariance":
            values = natural.correlate_bands(self._gain(domain) * values, natural.band_root(domain))[..., None]
        else:
            values = jnp.moveaxis(values, 0, -1)
        if self._mixes_colours(domain):
            values = correlate_colours(values)
        if self.fine:
            values = values + parameters["fine"]
        return core.bounded(values, domain, self.bounds, self.start)

    def invert(self, x: Any, domain: Domain) -> Any:
        grid, _ = self._grid(domain)
        values = core.unbounded(core.one_example(self.name, x, domain), domain, self.bounds, self.start)
        if self._mixes_colours(domain):
            values = decorrelate_colours(values)
        if self.bands == "covariance":
            values = natural.decorrelate_bands(values[..., 0], natural.band_root(domain)) / self._gain(domain)
        else:
            values = jnp.moveaxis(values, -1, 0)
        spectrum = fourier_spectrum(values, grid, decay=self.decay, axis_scale=self.axis_scale)
        return {"spectrum": spectrum, "fine": jnp.zeros(domain.shape)} if self.fine else spectrum

    def _mixes_colours(self, domain: Domain) -> bool:
        return self.decorrelate and domain.kind == "image" and domain.shape[-1] == 3

    def _gain(self, domain: Domain) -> float:
        """Gives a white spectrum the variance that it has without statistics, so that `sd` and steps mean the same."""
        usual, along_time = (_variance(grid, self.decay) for grid in (domain.shape[:2], domain.shape[1:2]))
        return math.sqrt(usual / along_time)

    def _grid(self, domain: Domain) -> tuple[tuple[int, ...], int]:
        """The grid that is transformed, and how many spectra there are."""
        shape = core.array_shape(self.name, domain)
        if self.bands == "covariance":
            natural.band_root(domain)
            return shape[1:2], shape[0]
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
    start: core.Start = None,
    decorrelate: bool = True,
    bands: str = "fourier",
    fine: bool = False,
) -> Fourier:
    """The spectrum of the input is free, divided by frequency, so that large structure moves as easily as fine detail.

    Source: Lucid, `optvis/param/spatial.py: fft_image` and `color.py`; here for any grid (one or two axes, any sizes,
    any number of channels). Parameters: (channels, rows, columns // 2 + 1, 2), or (channels, length // 2 + 1, 2),
    float32; the last axis is real and imaginary part.

    Args:
      decay: power of the frequency that the spectrum is divided by; 0 is white, 1 is Lucid's.
      sd: standard deviation of the spectrum at the start.
      axis_scale: factor on the frequency per axis (rows, columns), or one number. A larger factor makes that axis
        smoother: (1, 2) on a spectrogram treats a change in time as twice as fast. `axis_scale(domain, seconds=...,
        octaves=...)` gives it in physical units, `natural_scale(domain, inputs)` measures it on natural inputs.
      bounds: "sigmoid", "tanh", "clip" or "none", see `pixels`.
      start: where to begin, as a fraction of the range, one per channel, or "mean"; see the module's text.
      decorrelate: mix the channels of 3-channel images by Lucid's colour matrix, so that they are free independently.
      bands: "fourier", or "covariance" on a `LogMel` domain with a `band_root`: frequency is then along time only, and
        the components are mixed into bands that go together as in natural sound (`nd_jax.domain.with_statistics`).
        Parameters: (bands, frames // 2 + 1, 2), the most frequent direction first.
      fine: add a free value a cell, which begins at zero and moves in the polish of a run only, instead of the
        spectrum: large structure is found first, single cells last. Default for spectrograms in `visualize_batch`,
        where it brings planted units to their optimum (docs/truth_bench.md). Parameters: {"spectrum": as above,
        "fine": domain.shape}.

    Raises:
      ValueError: a bad argument, in one sentence.
    """
    if core.choice("bands", bands, BANDS) == "covariance" and axis_scale is not None:
        raise ValueError("bands='covariance' has one axis of frequency, time, so that axis_scale has no meaning")
    return Fourier(
        core.not_negative("decay", decay),
        core.not_negative("sd", sd),
        _checked_scale(axis_scale),
        core.choice("bounds", bounds, core.BOUNDS),
        core.checked_start(start, bounds),
        bool(decorrelate),
        bands,
        bool(fine),
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
    core.choice("rule", rule, RULES)
    grid = tuple(grid)
    expected = spectrum_shape(grid, rule)
    if spectrum.shape[-len(expected) :] != expected:
        raise ValueError(f"a grid of {grid} needs a spectrum of (..., {expected}), got {spectrum.shape}")
    scale = _weights(grid, decay, rule, axis_scale)
    width = grid[-1]
    if rule == "lucid":
        width = 2 * (expected[-2] - 1)
        scale = scale * math.sqrt(grid[-1] / width)
    elif rule == "lucent":
        spectrum = spectrum[..., : width // 2 + 1, :]
        scale = scale[..., : width // 2 + 1]
    return inverse_real_fft(spectrum, scale, len(grid), width)[..., : grid[-1]]


def fourier_spectrum(
    values: jax.Array, grid: Sequence[int], *, decay: float = 1.0, axis_scale: Sequence[float] | None = None
) -> jax.Array:
    """The inverse of `fourier_image` (its "exact" rule): (..., *grid) to (..., *spectrum_shape(grid)), float32.

    Of the spectra that give the same values it is the smallest: zero where a real array has no imaginary part.
    """
    grid = tuple(grid)
    if values.shape[-len(grid) :] != grid:
        raise ValueError(f"a spectrum of the grid {grid} is made from values (..., {grid}), got {values.shape}")
    return real_fft(values, _weights(grid, decay, "exact", axis_scale), len(grid))


def _weights(grid: tuple[int, ...], decay: float, rule: str, axis_scale: Sequence[float] | None) -> np.ndarray:
    return 0.25 / np.maximum(frequencies(grid, rule, axis_scale), 1.0 / max(grid)) ** decay


def _variance(grid: tuple[int, ...], decay: float) -> float:
    """Mean variance of the values of `fourier_image` for a spectrum of independent numbers of variance 1."""
    power = np.square(_weights(grid, decay, "exact", None))
    # A bin stands for itself and its mirror image, real and imaginary part; those of the first and (on an even width)
    # the last column mirror each other, and half of their numbers is dropped.
    count = np.full(power.shape[-1], 4.0)
    count[0] = 1.0
    if grid[-1] % 2 == 0:
        count[-1] = 1.0
    return float(np.sum(power * count) / np.prod(grid))


def real_fft(values: jax.Array, scale: np.ndarray, axes: int) -> jax.Array:
    """Orthonormal real FFT over the last `axes` axes, divided by scale: the inverse of `inverse_real_fft`."""
    bins = jnp.fft.rfftn(values, axes=tuple(range(-axes, 0)), norm="ortho")
    scale = np.asarray(scale, np.float32).reshape((1,) * (values.ndim - axes) + scale.shape)
    return jnp.stack([jnp.real(bins) / scale, jnp.imag(bins) / scale], axis=-1)


def inverse_real_fft(spectrum: jax.Array, scale: np.ndarray, axes: int, width: int) -> jax.Array:
    """Orthonormal inverse real FFT over the last `axes` axes of spectrum (..., bins, 2) * scale (*bins).

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


def decorrelate_colours(colours: jax.Array) -> jax.Array:
    """The inverse of `correlate_colours`, any (..., 3)."""
    return jnp.einsum("...r,cr->...c", colours, jnp.asarray(_COLOUR_INVERSE), precision="highest")


def _checked_scale(axis_scale: float | Sequence[float] | None) -> tuple[float, ...] | None:
    if axis_scale is None:
        return None
    values = tuple(float(value) for value in np.ravel(np.asarray(axis_scale)))
    if not values or not all(math.isfinite(value) and value > 0 for value in values):
        raise ValueError(f"axis_scale must be positive numbers, one per axis, got {axis_scale!r}")
    return values
