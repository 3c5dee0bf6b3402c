"""Ways of computing the input gradient of a convolution on a CPU; see `lowering` for which is taken when.

XLA writes it as a convolution of the output gradient with zeros between its pixels (stride - 1 of them), and multiplies
the zeros. All ways here multiply only what is there. The input is cut into super-pixels of one stride; tap i, which
adds to pixel i * dilation of the first window, belongs to phase i * dilation % stride of its super-pixel, and to every
phase belongs a convolution of stride one with the taps of that phase.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from nd_jax.networks.geometry import Geometry, Pair, pad
from nd_jax.networks.toom_cook import convolve


def super_pixels(geometry: Geometry, axis: int) -> tuple[int, int]:
    """First super-pixel (stride input pixels) needed along one axis, and the number of them."""
    stride, low = geometry.strides[axis], geometry.padding[axis][0]
    first = low // stride
    return first, (low + geometry.input_size[axis] - 1) // stride - first + 1


def can_join(geometry: Geometry) -> bool:
    """Whether all phases can be computed by one convolution: no dilation along a strided axis."""
    return all(stride == 1 or step == 1 for stride, step in zip(geometry.strides, geometry.dilation, strict=True))


def _phase_taps(geometry: Geometry, axis: int, phase: int) -> tuple[slice, int, int]:
    """The taps of one phase along one axis, the first one's super-pixel, and the super-pixels from one to the next."""
    stride, dilation = geometry.strides[axis], geometry.dilation[axis]
    common = math.gcd(stride, dilation)
    taps = [tap for tap in range(geometry.kernel_size[axis]) if tap * dilation % stride == phase]
    first = taps[0] if taps else geometry.kernel_size[axis]
    return slice(first, None, stride // common), first * dilation // stride, dilation // common


def _gather(
    g: jax.Array, kernel: jax.Array, shifts: Pair, dilation: Pair, geometry: Geometry, precision: Any
) -> jax.Array:
    """Stride-one convolution of the output gradient over all super-pixels with a flipped phase kernel.

    `shifts` are the super-pixels by which the kernel's first tap moves a pixel, `dilation` those between its taps.
    """
    padding = []
    for axis in (0, 1):
        first, count = super_pixels(geometry, axis)
        reach = (kernel.shape[axis] - 1) * dilation[axis] + shifts[axis]
        padding.append((reach - first, first - shifts[axis] + count - g.shape[1 + axis]))
    around = (padding[0], padding[1])
    if min(min(pair) for pair in around) < 0:
        g, around = pad(g, around), ((0, 0), (0, 0))
    size = (g.shape[1], g.shape[2])
    inner = Geometry((1, 1), around, dilation, size, (kernel.shape[0], kernel.shape[1]))
    return convolve(g, lax.optimization_barrier(kernel), inner, precision)


def _phase_kernel(w: jax.Array, strides: Pair) -> jax.Array:
    """(kh, kw, in, out) -> (ceil(kh / sh), ceil(kw / sw), out, sh * sw * in), zero-filled, flipped along its taps."""
    kh, kw, inputs, outputs = w.shape
    sh, sw = strides
    th, tw = -(-kh // sh), -(-kw // sw)
    w = jnp.pad(w, ((0, th * sh - kh), (0, tw * sw - kw), (0, 0), (0, 0)))
    w = w.reshape(th, sh, tw, sw, inputs, outputs)[::-1, :, ::-1]
    return w.transpose(0, 2, 5, 1, 3, 4).reshape(th, tw, outputs, sh * sw * inputs)


def joint_input(g: jax.Array, w: jax.Array, geometry: Geometry, precision: Any = None) -> jax.Array:
    """The input gradient as one convolution of stride one that computes all phases of the stride, then depth to space.

    With stride 1 this is the plain convolution with the flipped kernel. A kernel that the stride does not divide is
    filled with zeros: wasted work. Needs `can_join`.
    """
    kernel = _phase_kernel(w, geometry.strides)
    y = _gather(g, kernel, (0, 0), geometry.dilation, geometry, precision)
    return _depth_to_space(y, geometry, w.shape[2])


def split_input(g: jax.Array, w: jax.Array, geometry: Geometry, precision: Any = None) -> jax.Array:
    """As `joint_input` with a convolution for each phase: no zeros are multiplied, and any dilation will do."""

    def phase(row: int, column: int) -> jax.Array | None:
        rows, down, row_step = _phase_taps(geometry, 0, row)
        columns, right, column_step = _phase_taps(geometry, 1, column)
        kernel = w[rows, columns]
        if not kernel.size:
            return None
        kernel = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
        return _gather(g, kernel, (down, right), (row_step, column_step), geometry, precision)

    return _interleave(phase, g, w, geometry)


def overlap_input(g: jax.Array, w: jax.Array, geometry: Geometry, precision: Any = None) -> jax.Array:
    """The input gradient as one matrix product per pixel of g, then shifted sums over the taps of each phase.

    Multiplies only real pixels, where the other ways multiply the padding too: right for small pictures.
    """
    kh, kw, inputs, outputs = w.shape
    weights = lax.optimization_barrier(w.transpose(3, 0, 1, 2).reshape(outputs, kh * kw * inputs))
    spread = lax.optimization_barrier(_product(g, weights, precision)).reshape(*g.shape[:3], kh, kw, inputs)
    (down, right), (sh, sw) = geometry.dilation, geometry.strides

    def phase(row: int, column: int) -> jax.Array | None:
        taps = [(i, j) for i in range(kh) for j in range(kw) if (i * down % sh, j * right % sw) == (row, column)]
        return _shifted_sum([(spread[:, :, :, i, j], i * down // sh, j * right // sw) for i, j in taps], geometry)

    return _interleave(phase, g, w, geometry)


def scatter_input(g: jax.Array, w: jax.Array, geometry: Geometry, precision: Any = None) -> jax.Array:
    """As `overlap_input`, all phases in one shifted sum: right when the input has few channels. Needs `can_join`."""
    kernel = _phase_kernel(w, geometry.strides)[::-1, ::-1]
    rows, columns, outputs, block = kernel.shape
    weights = lax.optimization_barrier(kernel.transpose(2, 0, 1, 3).reshape(outputs, rows * columns * block))
    spread = lax.optimization_barrier(_product(g, weights, precision)).reshape(*g.shape[:3], rows, columns, block)
    down, right = geometry.dilation
    taps = [(spread[:, :, :, i, j], i * down, j * right) for i in range(rows) for j in range(columns)]
    total = _shifted_sum(taps, geometry)
    assert total is not None
    return _depth_to_space(total, geometry, w.shape[2])


def _product(g: jax.Array, weights: jax.Array, precision: Any) -> jax.Array:
    return lax.dot(g.reshape(math.prod(g.shape[:3]), g.shape[3]), weights, precision=precision)


def _shifted_sum(terms: list[tuple[jax.Array, int, int]], geometry: Geometry) -> jax.Array | None:
    """Sum of pictures over all super-pixels, each moved down and right; None of no pictures."""
    (row, height), (column, width) = (super_pixels(geometry, axis) for axis in (0, 1))
    total = None
    for term, down, right in terms:
        top, left = down - row, right - column
        moved = pad(term, ((top, height - top - term.shape[1]), (left, width - left - term.shape[2])))
        total = moved if total is None else total + moved
    return total


def _interleave(
    phase: Callable[[int, int], jax.Array | None], g: jax.Array, w: jax.Array, geometry: Geometry
) -> jax.Array:
    """Puts the phases (each over all super-pixels; None where the kernel has no tap) next to each other."""
    (_, height), (_, width) = (super_pixels(geometry, axis) for axis in (0, 1))
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
