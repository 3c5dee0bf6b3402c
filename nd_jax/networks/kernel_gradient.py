"""Ways of computing the kernel gradient of a convolution on a CPU; see `lowering` for which is taken when."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from nd_jax.networks.geometry import DIMENSIONS, Geometry, pad


def _needed_padding(geometry: Geometry, axis: int) -> tuple[int, int]:
    """Padding that leaves exactly the pixels that some tap meets (negative: pixels that none does)."""
    low = geometry.padding[axis][0]
    reach = (geometry.output_size[axis] - 1) * geometry.strides[axis] + 1
    needed = reach + (geometry.kernel_size[axis] - 1) * geometry.dilation[axis]
    return low, needed - geometry.input_size[axis] - low


def swapped_kernel(x: jax.Array, g: jax.Array, geometry: Geometry, precision: Any = None) -> jax.Array:
    """The kernel gradient as a convolution over the batch, in XLA's own layout.

    It is what `native_kernel` comes to after XLA's layout passes. Those do not reach into the body of a loop, where the
    naive code is 50 to 500 times slower; written out and kept apart by barriers, the loop runs at full speed.
    """
    pictures = lax.optimization_barrier(x.transpose(3, 1, 2, 0))
    kernel = lax.optimization_barrier(g.transpose(1, 2, 0, 3))
    y = lax.conv_general_dilated(
        pictures,
        kernel,
        geometry.dilation,
        (_needed_padding(geometry, 0), _needed_padding(geometry, 1)),
        rhs_dilation=geometry.strides,
        dimension_numbers=DIMENSIONS,
        precision=precision,
    )
    return y.transpose(1, 2, 0, 3)


def taps_kernel(x: jax.Array, g: jax.Array, geometry: Geometry, precision: Any = None) -> jax.Array:
    """The kernel gradient as one matrix product per tap: all pixels that the tap meets, times the output gradient."""
    x = pad(x, (_needed_padding(geometry, 0), _needed_padding(geometry, 1)))
    pixels = x.shape[0] * geometry.output_size[0] * geometry.output_size[1]
    right = g.reshape(pixels, g.shape[3])
    parts = []
    for row in range(geometry.kernel_size[0]):
        rows = _met(x, row, geometry, 0)
        for column in range(geometry.kernel_size[1]):
            left = lax.optimization_barrier(_met(rows, column, geometry, 1)).reshape(pixels, x.shape[3])
            parts.append(lax.dot_general(left, right, (((0,), (0,)), ((), ())), precision=precision))
    return jnp.stack(parts).reshape(*geometry.kernel_size, x.shape[3], g.shape[3])


def _met(x: jax.Array, tap: int, geometry: Geometry, axis: int) -> jax.Array:
    """The pixels of an exactly padded picture that one tap meets along one axis."""
    start, stride = tap * geometry.dilation[axis], geometry.strides[axis]
    return lax.slice_in_dim(x, start, start + (geometry.output_size[axis] - 1) * stride + 1, stride, axis + 1)
