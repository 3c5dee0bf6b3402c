"""How a 2-D convolution and its two gradients become XLA operations, and which way is taken on a CPU.

A convolution is a bilinear map; with its two gradients it forms a family of three that is closed under differentiation:

    conv(x, w)         = y    (the convolution)
    conv_input(g, w)   = x^   (its gradient with respect to the input: a transposed convolution)
    conv_kernel(x, g)  = w^   (its gradient with respect to the kernel)

Layouts: x, x^ (batch, height, width, in), w, w^ (kernel height, kernel width, in, out), y, g (batch, height', width',
out). `Geometry` carries what the shapes do not say.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Pair = tuple[int, int]
_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Strides, padding ((top, bottom), (left, right)) and dilation of a convolution, its input and kernel size."""

    strides: Pair
    padding: tuple[Pair, Pair]
    dilation: Pair
    input_size: Pair
    kernel_size: Pair

    @property
    def output_size(self) -> Pair:
        """Height and width of the convolution's output."""
        sizes = []
        for size, kernel, stride, (low, high), dilation in zip(
            self.input_size, self.kernel_size, self.strides, self.padding, self.dilation, strict=True
        ):
            sizes.append((size + low + high - (kernel - 1) * dilation - 1) // stride + 1)
        return sizes[0], sizes[1]


# --- native: one XLA convolution ------------------------------------------------------------------------------------


def native(x: jax.Array, w: jax.Array, geometry: Geometry, precision: Any = None) -> jax.Array:
    """The convolution as XLA's own operation."""
    return lax.conv_general_dilated(
        x,
        w,
        geometry.strides,
        geometry.padding,
        rhs_dilation=geometry.dilation,
        dimension_numbers=_DIMENSIONS,
        precision=precision,
    )


def native_input(g: jax.Array, w: jax.Array, geometry: Geometry, precision: Any = None) -> jax.Array:
    """The input gradient as JAX writes it: one XLA convolution with a dilated input."""
    x = jax.ShapeDtypeStruct((g.shape[0], *geometry.input_size, w.shape[2]), g.dtype)
    return jax.linear_transpose(lambda x: native(x, w, geometry, precision), x)(g)[0]


def native_kernel(x: jax.Array, g: jax.Array, geometry: Geometry, precision: Any = None) -> jax.Array:
    """The kernel gradient as JAX writes it: one XLA convolution over the batch."""
    w = jax.ShapeDtypeStruct((*geometry.kernel_size, x.shape[3], g.shape[3]), x.dtype)
    return jax.linear_transpose(lambda w: native(x, w, geometry, precision), w)(g)[0]


# --- patches and matrix products ------------------------------------------------------------------------------------


def _pad(x: jax.Array, padding: tuple[Pair, Pair]) -> jax.Array:
    """Pads (or, where negative, crops) height and width with zeros."""
    if all(amount == 0 for pair in padding for amount in pair):
        return x
    zero = jnp.zeros((), x.dtype)
    return lax.pad(x, zero, ((0, 0, 0), (*padding[0], 0), (*padding[1], 0), (0, 0, 0)))


def _tap(padded: jax.Array, geometry: Geometry, row: int, column: int) -> jax.Array:
    """The pixels that kernel element (row, column) sees: (batch, height', width', in)."""
    top, left = row * geometry.dilation[0], column * geometry.dilation[1]
    height, width = geometry.output_size
    bottom = top + (height - 1) * geometry.strides[0] + 1
    right = left + (width - 1) * geometry.strides[1] + 1
    batch, _, _, channels = padded.shape
    strides = (1, *geometry.strides, 1)
    return lax.slice(padded, (0, top, left, 0), (batch, bottom, right, channels), strides)


def _patches(padded: jax.Array, geometry: Geometry, rows: range) -> jax.Array:
    """Patches of some kernel rows: (batch * height' * width', len(rows) * kernel width * in), behind a barrier.

    Without the barrier XLA fuses the concatenation into the matrix product, which then runs element by element.
    """
    taps = [_tap(padded, geometry, row, column) for row in rows for column in range(geometry.kernel_size[1])]
    joined = lax.concatenate(taps, 3) if len(taps) > 1 else taps[0]
    return lax.optimization_barrier(joined.reshape(-1, joined.shape[-1]))


def patches(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """The convolution as one matrix product of patches with the kernel."""
    columns = _patches(_pad(x, geometry.padding), geometry, range(geometry.kernel_size[0]))
    y = columns @ w.reshape(-1, w.shape[3])
    return y.reshape(x.shape[0], *geometry.output_size, w.shape[3])


def patches_kernel(x: jax.Array, g: jax.Array, geometry: Geometry) -> jax.Array:
    """The kernel gradient as one matrix product of patches with the output gradient."""
    columns = _patches(_pad(x, geometry.padding), geometry, range(geometry.kernel_size[0]))
    return _contract(columns, g).reshape(*geometry.kernel_size, x.shape[3], g.shape[3])


def rows_kernel(x: jax.Array, g: jax.Array, geometry: Geometry) -> jax.Array:
    """The kernel gradient, one matrix product per kernel row: a kernel-height-th of the memory of `patches_kernel`."""
    padded = _pad(x, geometry.padding)
    rows = [_contract(_patches(padded, geometry, range(row, row + 1)), g) for row in range(geometry.kernel_size[0])]
    return jnp.stack(rows).reshape(*geometry.kernel_size, x.shape[3], g.shape[3])


def _contract(columns: jax.Array, g: jax.Array) -> jax.Array:
    return lax.dot_general(columns, g.reshape(-1, g.shape[-1]), (((0,), (0,)), ((), ())))


# --- phases: a strided input gradient as a convolution of stride one -------------------------------------------------


def _phase_kernel(w: jax.Array, strides: Pair) -> jax.Array:
    """(kh, kw, in, out) -> (ceil(kh / sh), ceil(kw / sw), out, sh * sw * in), flipped along its taps."""
    kh, kw, inputs, outputs = w.shape
    sh, sw = strides
    th, tw = -(-kh // sh), -(-kw // sw)
    w = jnp.pad(w, ((0, th * sh - kh), (0, tw * sw - kw), (0, 0), (0, 0)))
    w = w.reshape(th, sh, tw, sw, inputs, outputs)[::-1, :, ::-1]
    return w.transpose(0, 2, 5, 1, 3, 4).reshape(th, tw, outputs, sh * sw * inputs)


def _phase_sizes(geometry: Geometry, axis: int) -> tuple[int, int, int]:
    """First super-pixel needed, number of them, taps of the phase kernel along one axis."""
    stride, low = geometry.strides[axis], geometry.padding[axis][0]
    first = low // stride
    last = (low + geometry.input_size[axis] - 1) // stride
    return first, last - first + 1, -(-geometry.kernel_size[axis] // stride)


def phases_input(
    g: jax.Array, w: jax.Array, geometry: Geometry, convolve: Callable[..., jax.Array] = native
) -> jax.Array:
    """The input gradient as a convolution of stride one that computes all phases of the stride, then depth to space.

    Needs kernel dilation 1 along strided axes. With stride 1 this is the plain convolution with the flipped kernel.
    """
    (row, height, row_taps), (column, width, column_taps) = (_phase_sizes(geometry, axis) for axis in (0, 1))
    dilation = geometry.dilation
    padding = []
    for axis, first, size, taps in ((0, row, height, row_taps), (1, column, width, column_taps)):
        reach = (taps - 1) * dilation[axis]
        padding.append((reach - first, first + size - g.shape[1 + axis]))
    kernel = lax.optimization_barrier(_phase_kernel(w, geometry.strides))
    inner = Geometry((1, 1), (padding[0], padding[1]), dilation, (g.shape[1], g.shape[2]), (row_taps, column_taps))
    y = convolve(g, kernel, inner)
    return _depth_to_space(y, geometry, (row, column), w.shape[2])


def scatter_input(g: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """The input gradient as one matrix product per pixel, then shifted sums over the taps, then depth to space.

    Moves kernel size * in numbers per pixel instead of kernel size * out: right when the input has few channels.
    """
    (row, height, row_taps), (column, width, column_taps) = (_phase_sizes(geometry, axis) for axis in (0, 1))
    kernel = _phase_kernel(w, geometry.strides)
    block = kernel.shape[3]
    weights = lax.optimization_barrier(kernel.transpose(2, 0, 1, 3).reshape(g.shape[3], -1))
    spread = lax.optimization_barrier(g.reshape(-1, g.shape[3]) @ weights)
    spread = spread.reshape(*g.shape[:3], row_taps, column_taps, block)
    total = None
    for down in range(row_taps):
        for right in range(column_taps):
            top = (row_taps - 1 - down) * geometry.dilation[0] - row
            left = (column_taps - 1 - right) * geometry.dilation[1] - column
            padding = ((top, height - top - g.shape[1]), (left, width - left - g.shape[2]))
            term = _pad(spread[:, :, :, down, right, :], padding)
            total = term if total is None else total + term
    assert total is not None
    return _depth_to_space(total, geometry, (row, column), w.shape[2])


def _depth_to_space(y: jax.Array, geometry: Geometry, first: Pair, channels: int) -> jax.Array:
    """Interleaves the phases and cuts the padding off: (batch, *input_size, channels)."""
    batch, height, width, _ = y.shape
    (sh, sw), (rows, columns) = geometry.strides, geometry.input_size
    if (sh, sw) != (1, 1):
        y = y.reshape(batch, height, width, sh, sw, channels).transpose(0, 1, 3, 2, 4, 5)
        y = y.reshape(batch, height * sh, width * sw, channels)
    top, left = geometry.padding[0][0] - first[0] * sh, geometry.padding[1][0] - first[1] * sw
    return y[:, top : top + rows, left : left + columns]


# --- the rule ---------------------------------------------------------------------------------------------------------


def convolve(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """The convolution, by the way that was fastest on a CPU for its shape."""
    return native(x, w, geometry)


def convolve_input(g: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """The input gradient, by the way that was fastest on a CPU for its shape."""
    strided = [stride > 1 for stride in geometry.strides]
    if any(stride and dilation > 1 for stride, dilation in zip(strided, geometry.dilation, strict=True)):
        return native_input(g, w, geometry)
    if any(strided) and w.shape[2] <= w.shape[3]:
        return scatter_input(g, w, geometry)
    return phases_input(g, w, geometry)


def convolve_kernel(x: jax.Array, g: jax.Array, geometry: Geometry) -> jax.Array:
    """The kernel gradient, by the way that was fastest on a CPU for its shape."""
    columns = g.size // g.shape[3] * math.prod(geometry.kernel_size) * x.shape[3]
    return patches_kernel(x, g, geometry) if columns <= _PATCHES_LIMIT else rows_kernel(x, g, geometry)


_PATCHES_LIMIT = 2**22
