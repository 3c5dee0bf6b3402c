"""Which way a convolution or one of its two gradients is computed on a CPU.

The ways stand in `geometry` (XLA's own), `toom_cook` (fewer products), `phases` (input gradient) and `kernel_gradient`;
docs/convolutions.md has the measurements behind the choice. A choice never looks at the size of the batch, where an
example's own result depends on it: a lane of a vmap is computed in the same way among any number of lanes.
"""

from __future__ import annotations

import math
from typing import Any

import jax
from jax import lax

from nd_jax.networks import toom_cook
from nd_jax.networks.geometry import Geometry
from nd_jax.networks.kernel_gradient import swapped_kernel, taps_kernel
from nd_jax.networks.phases import can_join, joint_input, overlap_input, scatter_input, split_input, super_pixels

_FEW = 4  # channels that do not fill a vector register
_FILLED = 1.2  # taps, zeros among them, over real taps, up to which one large convolution beats several small ones
_WIDE = 128  # 1 / (1 / in + 1 / out) from which copying pixels is cheap beside multiplying them


def convolve(x: jax.Array, w: jax.Array, geometry: Geometry, precision: Any = None) -> jax.Array:
    """The convolution: a matrix product for one tap, Toom-Cook where it pays, else XLA's own."""
    if geometry.is_product:
        return _product(x, w[0, 0], precision)
    return toom_cook.convolve(x, w, geometry, precision)


def convolve_input(g: jax.Array, w: jax.Array, geometry: Geometry, precision: Any = None) -> jax.Array:
    """The input gradient; XLA's own is never as fast on a CPU.

    One tap is a matrix product. With few input channels the sums over taps are cheaper than a convolution. A kernel
    that the stride divides, or nearly so, is one convolution for all phases. Otherwise a convolution for each phase,
    unless so much of the input is border that a product per real pixel is less work.
    """
    if geometry.is_product:
        return _product(g, lax.optimization_barrier(w[0, 0].T), precision)
    joined = can_join(geometry)
    if w.shape[2] <= _FEW:
        return (scatter_input if joined else overlap_input)(g, w, geometry, precision)
    filled = [-(-size // stride) * stride for size, stride in zip(geometry.kernel_size, geometry.strides, strict=True)]
    if joined and math.prod(filled) <= _FILLED * math.prod(geometry.kernel_size):
        return joint_input(g, w, geometry, precision)
    pixels = math.prod(super_pixels(geometry, axis)[1] for axis in (0, 1))
    if pixels > 1.5 * math.prod(geometry.output_size):
        return overlap_input(g, w, geometry, precision)
    return split_input(g, w, geometry, precision)


def convolve_kernel(x: jax.Array, g: jax.Array, geometry: Geometry, precision: Any = None) -> jax.Array:
    """The kernel gradient: Toom-Cook where it pays, products per tap for one tap or many channels, else swapped."""
    inputs, outputs = x.shape[3], g.shape[3]
    # Both operands are transformed, and their product is one with a transpose: dearer than in the convolution.
    limit = 1.5 * toom_cook.TRANSFORM
    axis = None if toom_cook.exact(precision) else toom_cook.best_axis(geometry, inputs, outputs, limit)
    if axis is not None:
        return toom_cook.short_kernel(x, g, geometry, axis, precision)
    if math.prod(geometry.kernel_size) == 1 or inputs * outputs >= _WIDE * (inputs + outputs):
        return taps_kernel(x, g, geometry, precision)
    return swapped_kernel(x, g, geometry, precision)


def _product(x: jax.Array, w: jax.Array, precision: Any) -> jax.Array:
    """(batch, height, width, in) times (in, out) at every pixel."""
    y = lax.dot(x.reshape(math.prod(x.shape[:3]), x.shape[3]), w, precision=precision)
    return y.reshape(*x.shape[:3], w.shape[1])
