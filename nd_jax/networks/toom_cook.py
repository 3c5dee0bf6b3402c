"""Short convolutions with fewer products: Toom-Cook along one axis (Winograd's minimal filtering).

Along an axis of stride 1, k taps give m outputs from n = m + k - 1 inputs. Done directly that is m k products; through
the values of polynomials at n points it is n (Winograd, "Arithmetic complexity of computations", 1980; Lavin and Gray,
"Fast algorithms for convolutional neural networks", 2016, arXiv:1509.09308):

    y = A^T ((G w) * (B^T d))

Here n = 6 points, 0, 1, -1, 1/2, -2 and infinity: 6 products for 12 with three taps, for 10 with two or five. One axis
only, because the rounding error grows with every axis: about 2e-6 of the largest output, where the second axis would
make it 5e-6 to 1e-5 (measured, 64 to 512 channels). Each of the six products is itself a convolution, with the taps of
the other axis.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from nd_jax.networks import wide_pixels
from nd_jax.networks.geometry import Geometry, native
from nd_jax.networks.kernel_gradient import taps_kernel

_POINTS = (Fraction(0), Fraction(1), Fraction(-1), Fraction(1, 2), Fraction(-2))
_SIZE = len(_POINTS) + 1
_TAPS = (2, 3, 4, 5)
TRANSFORM = 64.0  # what moving one number through a transform costs, in multiply-adds of a matrix product


@functools.cache
def matrices(taps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(A^T (m, 6), G (6, taps), B^T (6, 6)) for m = 7 - taps outputs; exact fractions until the last step."""
    outputs = _SIZE + 1 - taps
    last = [1 if power == outputs - 1 else 0 for power in range(outputs)]
    a = [[point**power for point in _POINTS] + [last[power]] for power in range(outputs)]
    g, b = [], []
    for index, point in enumerate(_POINTS):
        others = _POINTS[:index] + _POINTS[index + 1 :]
        scale = math.prod(point - other for other in others)
        g.append([point**power / scale for power in range(taps)])
        b.append([*_polynomial(others), Fraction(0)])
    g.append([Fraction(int(power == taps - 1)) for power in range(taps)])
    b.append(_polynomial(_POINTS))
    return tuple(np.array(rows, np.float64).astype(np.float32) for rows in (a, g, b))  # type: ignore[return-value]


def _polynomial(roots: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients of the polynomial with these roots, lowest power first."""
    coefficients = [Fraction(1)]
    for root in roots:
        lower = [-root * value for value in coefficients] + [Fraction(0)]
        coefficients = [low + high for low, high in zip(lower, [Fraction(0), *coefficients], strict=True)]
    return coefficients


def best_axis(geometry: Geometry, inputs: int, outputs: int, transform: float = TRANSFORM) -> int | None:
    """The axis along which Toom-Cook pays, None where neither does.

    It pays where the products saved outweigh the passes over input and output that the transforms need: with many
    channels, and with outputs that fill whole tiles. The size of the batch has no say, so that an example is computed
    in the same way in every batch.
    """
    gains = []
    for axis in (0, 1):
        taps, other = geometry.kernel_size[axis], geometry.kernel_size[1 - axis]
        if geometry.strides[axis] != 1 or taps not in _TAPS:
            continue
        kept = _tiles(geometry, axis) * geometry.dilation[axis] * _SIZE
        saved = other * inputs * outputs * (taps * geometry.output_size[axis] - kept)
        gain = saved - transform * (inputs + outputs) * kept
        gains.append((gain / geometry.output_size[axis], axis))
    return max(gains)[1] if gains and max(gains)[0] > 0 else None


def _tiles(geometry: Geometry, axis: int) -> int:
    step = (_SIZE + 1 - geometry.kernel_size[axis]) * geometry.dilation[axis]
    return -(-geometry.output_size[axis] // step)


def _combine(weights: Sequence[float], terms: Sequence[jax.Array]) -> jax.Array:
    """The weighted sum of some arrays, zeros left out."""
    scaled = [
        term if weight == 1 else np.float32(weight) * term
        for weight, term in zip(weights, terms, strict=True)
        if weight
    ]
    return functools.reduce(jnp.add, scaled)


def _tiled(x: jax.Array, low: int, tiles: int, step: int, dilation: int, axis: int) -> jax.Array:
    """Pads or crops an axis to whole tiles and splits it in three: tiles, `step` outputs a tile, `dilation` pixels."""
    config = [(0, 0, 0)] * 4
    config[axis + 1] = (low, tiles * step * dilation - x.shape[axis + 1] - low, 0)
    x = lax.pad(x, jnp.zeros((), x.dtype), config)
    return x.reshape(*x.shape[: axis + 1], tiles, step, dilation, *x.shape[axis + 2 :])


def _picked(x: jax.Array, place: int, tiles: int, axis: int) -> jax.Array:
    """What stands at one place (counted from the first tile's start) of every tile, as one axis again."""
    start, inside = divmod(place, x.shape[axis + 2])
    x = lax.slice_in_dim(x, start, start + tiles, 1, axis + 1)
    x = lax.slice_in_dim(x, inside, inside + 1, 1, axis + 2)
    return x.reshape(*x.shape[: axis + 1], tiles * x.shape[axis + 3], *x.shape[axis + 4 :])


def _inputs(x: jax.Array, geometry: Geometry, axis: int) -> list[jax.Array]:
    """B^T d: six pictures, along the axis as long as there are tiles (times the dilation)."""
    taps, tiles = geometry.kernel_size[axis], _tiles(geometry, axis)
    step = _SIZE + 1 - taps
    low, dilation = geometry.padding[axis][0], geometry.dilation[axis]
    x = lax.optimization_barrier(_tiled(x, low, tiles + (_SIZE - 1) // step, step, dilation, axis))
    parts = [_picked(x, place, tiles, axis) for place in range(_SIZE)]
    return [lax.optimization_barrier(_combine(row, parts)) for row in matrices(taps)[2]]


def _inner(geometry: Geometry, axis: int) -> Geometry:
    """The geometry of each of the six products."""
    size = _tiles(geometry, axis) * geometry.dilation[axis]
    return geometry.along(axis, padding=(0, 0), dilation=1, input_size=size, kernel_size=1)


def convolve(x: jax.Array, w: jax.Array, geometry: Geometry, precision: Any = None) -> jax.Array:
    """The convolution: Toom-Cook where it pays and the usual precision will do, else XLA's own, see `wide_pixels`."""
    axis = None if exact(precision) else best_axis(geometry, w.shape[2], w.shape[3])
    if axis is None:
        return wide_pixels.convolve(x, w, geometry, precision)
    return short_convolve(x, w, geometry, axis, precision)


def exact(precision: Any) -> bool:
    """Whether a precision argument asks for more than the usual: then every product is formed and summed directly."""
    asked = precision if isinstance(precision, tuple) else (precision,)
    return any(getattr(one, "name", None) in ("HIGH", "HIGHEST") for one in asked)


def short_convolve(x: jax.Array, w: jax.Array, geometry: Geometry, axis: int, precision: Any = None) -> jax.Array:
    """The convolution, Toom-Cook along one axis of stride 1."""
    taps, tiles = geometry.kernel_size[axis], _tiles(geometry, axis)
    a, g, _ = matrices(taps)
    kernels = [lax.slice_in_dim(w, k, k + 1, 1, axis) for k in range(taps)]
    products = [
        lax.optimization_barrier(
            native(part, lax.optimization_barrier(_combine(row, kernels)), _inner(geometry, axis), precision)
        )
        for part, row in zip(_inputs(x, geometry, axis), g, strict=True)
    ]
    grouped = [
        y.reshape(*y.shape[: axis + 1], tiles, 1, geometry.dilation[axis], *y.shape[axis + 2 :]) for y in products
    ]
    y = lax.concatenate([_combine(row, grouped) for row in a], axis + 2)
    y = y.reshape(*y.shape[: axis + 1], math.prod(y.shape[axis + 1 : axis + 4]), *y.shape[axis + 4 :])
    return lax.slice_in_dim(y, 0, geometry.output_size[axis], 1, axis + 1)


def short_kernel(x: jax.Array, g: jax.Array, geometry: Geometry, axis: int, precision: Any = None) -> jax.Array:
    """The kernel gradient, Toom-Cook along one axis of stride 1: the transpose of `short_convolve`."""
    taps, tiles = geometry.kernel_size[axis], _tiles(geometry, axis)
    step = _SIZE + 1 - taps
    a, weights, _ = matrices(taps)
    grouped = _tiled(g, 0, tiles, step, geometry.dilation[axis], axis)
    parts = [_picked(grouped, place, tiles, axis) for place in range(step)]
    inner = _inner(geometry, axis)
    products = [
        taps_kernel(part, lax.optimization_barrier(_combine(column, parts)), inner, precision)
        for part, column in zip(_inputs(x, geometry, axis), a.T, strict=True)
    ]
    return lax.concatenate([_combine(column, products) for column in weights.T], axis)
