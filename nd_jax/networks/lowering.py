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


# --- the kernel gradient --------------------------------------------------------------------------------------------


def swapped_kernel(x: jax.Array, g: jax.Array, geometry: Geometry) -> jax.Array:
    """The kernel gradient as a convolution over the batch, in XLA's own layout.

    It is what `native_kernel` comes to after XLA's layout passes. Those do not reach into the body of a loop, where the
    naive code is 50 to 500 times slower; written out and kept apart by barriers, the loop runs at full speed.
    """
    pictures = lax.optimization_barrier(x.transpose(3, 1, 2, 0))
    kernel = lax.optimization_barrier(g.transpose(1, 2, 0, 3))
    padding = []
    for axis in (0, 1):
        low = geometry.padding[axis][0]
        reach = (geometry.output_size[axis] - 1) * geometry.strides[axis] + 1
        needed = reach + (geometry.kernel_size[axis] - 1) * geometry.dilation[axis]
        padding.append((low, needed - geometry.input_size[axis] - low))
    y = lax.conv_general_dilated(
        pictures, kernel, geometry.dilation, padding, rhs_dilation=geometry.strides, dimension_numbers=_DIMENSIONS
    )
    return y.transpose(1, 2, 0, 3)


def _pad(x: jax.Array, padding: tuple[Pair, Pair]) -> jax.Array:
    """Pads (or, where negative, crops) height and width with zeros."""
    if all(amount == 0 for pair in padding for amount in pair):
        return x
    zero = jnp.zeros((), x.dtype)
    return lax.pad(x, zero, ((0, 0, 0), (*padding[0], 0), (*padding[1], 0), (0, 0, 0)))


# --- phases: a strided input gradient as convolutions of stride one --------------------------------------------------


def _phase_sizes(geometry: Geometry, axis: int) -> tuple[int, int]:
    """First super-pixel (stride input pixels) needed along one axis, and the number of them."""
    stride, low = geometry.strides[axis], geometry.padding[axis][0]
    first = low // stride
    return first, (low + geometry.input_size[axis] - 1) // stride - first + 1


def _phase_kernel(w: jax.Array, strides: Pair) -> jax.Array:
    """(kh, kw, in, out) -> (ceil(kh / sh), ceil(kw / sw), out, sh * sw * in), zero-filled, flipped along its taps."""
    kh, kw, inputs, outputs = w.shape
    sh, sw = strides
    th, tw = -(-kh // sh), -(-kw // sw)
    w = jnp.pad(w, ((0, th * sh - kh), (0, tw * sw - kw), (0, 0), (0, 0)))
    w = w.reshape(th, sh, tw, sw, inputs, outputs)[::-1, :, ::-1]
    return w.transpose(0, 2, 5, 1, 3, 4).reshape(th, tw, outputs, sh * sw * inputs)


def _gather(g: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """Stride-one convolution of the output gradient over all super-pixels with a flipped phase kernel."""
    padding = []
    for axis in (0, 1):
        first, size = _phase_sizes(geometry, axis)
        padding.append(((kernel.shape[axis] - 1) * geometry.dilation[axis] - first, first + size - g.shape[1 + axis]))
    inner = Geometry(
        (1, 1),
        (padding[0], padding[1]),
        geometry.dilation,
        (g.shape[1], g.shape[2]),
        (kernel.shape[0], kernel.shape[1]),
    )
    return native(g, lax.optimization_barrier(kernel), inner)


def phases_input(g: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """The input gradient as one convolution of stride one that computes all phases of the stride, then depth to space.

    With stride 1 this is the plain convolution with the flipped kernel. A kernel that the stride does not divide is
    filled with zeros: wasted work. All ways of this section need kernel dilation 1 along strided axes.
    """
    return _depth_to_space(_gather(g, _phase_kernel(w, geometry.strides), geometry), geometry, w.shape[2])


def split_input(g: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """As `phases_input` with a convolution for each phase: no zeros are multiplied."""

    def phase(row: int, column: int) -> jax.Array | None:
        kernel = w[row :: geometry.strides[0], column :: geometry.strides[1]]
        return _gather(g, kernel[::-1, ::-1].transpose(0, 1, 3, 2), geometry) if kernel.size else None

    return _interleave(phase, g, w, geometry)


def overlap_input(g: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """The input gradient as one matrix product per pixel of g, then shifted sums over the taps of each phase.

    Multiplies only real pixels, where the other ways multiply the padding too: right for small pictures.
    """
    kh, kw, inputs, outputs = w.shape
    weights = lax.optimization_barrier(w.transpose(3, 0, 1, 2).reshape(outputs, -1))
    spread = lax.optimization_barrier(g.reshape(-1, outputs) @ weights).reshape(*g.shape[:3], kh, kw, inputs)
    (down, right), (sh, sw) = geometry.dilation, geometry.strides

    def phase(row: int, column: int) -> jax.Array | None:
        taps = [(i, j) for i in range(row, kh, sh) for j in range(column, kw, sw)]
        return _shifted_sum([(spread[:, :, :, i, j], i // sh * down, j // sw * right) for i, j in taps], geometry)

    return _interleave(phase, g, w, geometry)


def scatter_input(g: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """As `overlap_input` with all phases in one shifted sum: right when the input has few channels."""
    kernel = _phase_kernel(w, geometry.strides)[::-1, ::-1]
    rows, columns, outputs, block = kernel.shape
    weights = lax.optimization_barrier(kernel.transpose(2, 0, 1, 3).reshape(outputs, -1))
    spread = lax.optimization_barrier(g.reshape(-1, outputs) @ weights).reshape(*g.shape[:3], rows, columns, block)
    down, right = geometry.dilation
    taps = [(spread[:, :, :, i, j], i * down, j * right) for i in range(rows) for j in range(columns)]
    total = _shifted_sum(taps, geometry)
    assert total is not None
    return _depth_to_space(total, geometry, w.shape[2])


def _shifted_sum(terms: list[tuple[jax.Array, int, int]], geometry: Geometry) -> jax.Array | None:
    """Sum of pictures over all super-pixels, each moved down and right; None of no pictures."""
    (row, height), (column, width) = (_phase_sizes(geometry, axis) for axis in (0, 1))
    total = None
    for term, down, right in terms:
        top, left = down - row, right - column
        moved = _pad(term, ((top, height - top - term.shape[1]), (left, width - left - term.shape[2])))
        total = moved if total is None else total + moved
    return total


def _interleave(
    phase: Callable[[int, int], jax.Array | None], g: jax.Array, w: jax.Array, geometry: Geometry
) -> jax.Array:
    """Puts the phases (each over all super-pixels; None where the kernel has no tap) next to each other."""
    (_, height), (_, width) = (_phase_sizes(geometry, axis) for axis in (0, 1))
    size = (g.shape[0], height, width, w.shape[2])
    phases = [phase(row, column) for row in range(geometry.strides[0]) for column in range(geometry.strides[1])]
    joined = lax.concatenate([jnp.zeros(size, g.dtype) if part is None else part for part in phases], 3)
    return _depth_to_space(joined, geometry, w.shape[2])


def _depth_to_space(y: jax.Array, geometry: Geometry, channels: int) -> jax.Array:
    """Super-pixels (batch, rows, columns, phases * channels) to (batch, *input_size, channels), padding cut off."""
    batch, height, width, _ = y.shape
    (sh, sw), (rows, columns) = geometry.strides, geometry.input_size
    if (sh, sw) != (1, 1):
        y = y.reshape(batch, height, width, sh, sw, channels).transpose(0, 1, 3, 2, 4, 5)
        y = y.reshape(batch, height * sh, width * sw, channels)
    top, left = geometry.padding[0][0] % sh, geometry.padding[1][0] % sw
    return y[:, top : top + rows, left : left + columns]


# --- the rule -------------------------------------------------------------------------------------------------------
#
# Measured: milliseconds of CPU time on a 2-core machine (both cores added), jax 0.10.2, in a plain program / in a scan.
#
# Input gradient (batch, height x width x in -> out, kernel, stride; "over" = overlap_input, "scat" = scatter_input):
#
#                                            native      phases      split       over        scat
#   128, 28x28x1   -> 64,  5x5 valid, 2    2.2/4.2     9.1/9.3     9.1/8.6     1.7/6.0     2.7/2.5
#   128, 12x12x64  -> 128, 5x5 valid, 2    249/39       29/28       23/23       13/14       19/26
#    32, 128x64x1  -> 24,  3x3, 2          2.4/8.2     1.7/1.2     3.8/4.9     1.3/4.1     1.1/2.0
#    32, 64x32x24  -> 48,  3x3, 2           18/113     7.8/6.4     7.4/5.4     6.8/8.5      10/24
#    32, 32x16x48  -> 96,  3x3, 2          4.9/11      6.9/5.8     4.6/4.0     5.3/6.2     8.1/9.4
#    32, 16x8x96   -> 128, 3x3, 2          3.3/8.0     5.1/4.4     2.9/2.5     2.9/3.0     5.1/5.2
#     8, 40x80x64  -> 128, 4x4, 2           28/76       20/20       22/23       24/25       34/25
#    64, 14x14x64  -> 128, 5x5, 2           16/59       23/21       15/14       17/21       24/37
#
# Kernel gradient, native / swapped in a plain program / swapped in a scan: 12/13/17, 11/11/12, 8.7/6.9/7.6,
# 3.1/3.3/3.5, 26/27/25 (rows 2, 4, 5, 6, 7); native in a scan took 200 to 1900 for rows 2, 4, 5 and 6. Forward, native
# is best or equal for all of these, in a scan too; patches times a matrix took 1.0 to 2.5 times as long.


def convolve(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """The convolution, by the way that was fastest on a CPU for its shape."""
    return native(x, w, geometry)


def convolve_input(g: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """The input gradient, by the way that was fastest on a CPU for its shape."""
    strides, dilation = geometry.strides, geometry.dilation
    if any(stride > 1 and step > 1 for stride, step in zip(strides, dilation, strict=True)):
        return native_input(g, w, geometry)
    if w.shape[2] <= 4:
        return scatter_input(g, w, geometry)
    if all(kernel % stride == 0 for kernel, stride in zip(geometry.kernel_size, strides, strict=True)):
        return phases_input(g, w, geometry)
    pixels = math.prod(_phase_sizes(geometry, axis)[1] for axis in (0, 1))
    if pixels > 1.5 * math.prod(geometry.output_size):
        return overlap_input(g, w, geometry)
    return split_input(g, w, geometry)


def convolve_kernel(x: jax.Array, g: jax.Array, geometry: Geometry) -> jax.Array:
    """The kernel gradient, by the way that was fastest on a CPU for its shape."""
    return swapped_kernel(x, g, geometry)
