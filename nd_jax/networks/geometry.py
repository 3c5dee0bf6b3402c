"""The shapes of a 2-D convolution and its two gradients, and the three as XLA's own operations.

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
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Pair = tuple[int, int]
DIMENSIONS = ("NHWC", "HWIO", "NHWC")


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

    @property
    def is_product(self) -> bool:
        """Whether the convolution is a matrix product with every pixel: one tap, stride 1, no padding."""
        return self.kernel_size == (1, 1) and self.strides == (1, 1) and self.padding == ((0, 0), (0, 0))

    def along(self, axis: int, **changes: Any) -> Geometry:
        """The geometry with some fields changed along one axis: `along(1, strides=1, kernel_size=3)`."""
        fields = {}
        for name, value in changes.items():
            pair = list(getattr(self, name))
            pair[axis] = value
            fields[name] = tuple(pair)
        return dataclasses.replace(self, **fields)


def native(x: jax.Array, w: jax.Array, geometry: Geometry, precision: Any = None) -> jax.Array:
    """The convolution as XLA's own operation."""
    padding = geometry.padding
    if math.prod(geometry.kernel_size) > math.prod(geometry.input_size):
        # XLA would let picture and kernel change places, and has nothing but a plain loop for what comes of that.
        x, padding = lax.optimization_barrier(pad(x, padding)), ((0, 0), (0, 0))
    return lax.conv_general_dilated(
        x,
        w,
        geometry.strides,
        padding,
        rhs_dilation=geometry.dilation,
        dimension_numbers=DIMENSIONS,
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


def pad(x: jax.Array, padding: tuple[Pair, Pair]) -> jax.Array:
    """Pads (or, where negative, crops) height and width with zeros."""
    if all(amount == 0 for pair in padding for amount in pair):
        return x
    zero = jnp.zeros((), x.dtype)
    return lax.pad(x, zero, ((0, 0, 0), (*padding[0], 0), (*padding[1], 0), (0, 0, 0)))
