"""One unit of a layer at the price of one unit.

A lane that climbs a single channel of a convolution or dense layer needs none of the layer's other outputs. Where such
a layer is the last that an objective reads, only its unit is computed, forward and backward: with F channels about F
times less work in the layer (a convolution with stride s: F / s ** 2 times less; nothing is gained on few channels).

A convolution of one channel is a matrix product of its taps with every position of the input, then a sum of shifted
pictures. The kernels of the lanes differ, so each lane has its own product: what a lane gives does not depend on the
lanes around it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import tracers
from jax import lax

from nd_jax import taps
from nd_jax.networks import conv

if TYPE_CHECKING:
    from nd_jax.network import Network

_KINDS = ("channel", "neuron")
# How many times less work it must be. A tap's picture is written, moved and added up whatever the number of input
# channels, which costs about as much as so many channels (measured on a CPU: one channel in, 24 out, stride 2, is four
# times faster as a whole layer; 24 in, 48 out, stride 2, is faster alone).
_LEAST_GAIN = 4
_MOVING = 16


def forward(
    spec: Any, terms: Sequence[Mapping[str, jax.Array]], network: Network, x: Any
) -> tuple[dict[str, jax.Array], tuple[dict[str, jax.Array], ...]] | None:
    """The activations that one lane's objective reads, with its own unit alone, and its terms for them.

    Traceable; `spec` and `terms` as in `objectives.evaluate`, x a batch.

    Returns:
      {layer: (batch, ..., 1)} and terms whose unit is 0; or None where the whole layer is needed: several terms, other
      objectives, layers that are neither a plain `nn.Conv` nor `nn.Dense`, that are edited, called twice, inside a
      lifted transformation, or too small to gain.
    """
    if len(spec) != 1 or spec[0][0] not in _KINDS:
        return None
    layer = spec[0][1]
    known = taps.layers(network)
    edited = (item[0] if isinstance(item, tuple) else item.layer for item in network.edits)
    if layer not in known or f"{layer}#2" in known or layer in edited:
        return None
    if known[layer][-1] < _LEAST_GAIN or math.prod(known[layer][:-1]) == 1:
        return None
    outside = tracers.current_trace()
    unit = terms[0]["unit"]

    def intercept(call: Any, arguments: Any, options: Any, context: nn.module.InterceptorContext) -> Any:
        if context.method_name != "__call__" or "/".join(context.module.path) != layer:
            return call(*arguments, **options)
        plain = len(arguments) == 1 and not options and tracers.current_trace() == outside
        raise _Reached(_unit_of(context.module, arguments[0], unit) if plain else None)

    try:
        with nn.intercept_methods(intercept):
            taps.forward(network, x, (layer,))
    except _Reached as reached:
        if reached.activation is None:
            return None
        return {layer: reached.activation}, ({**terms[0], "unit": jnp.zeros_like(unit)},)
    return None


class _Reached(Exception):
    """Ends the forward pass at the layer: nothing that follows is needed."""

    def __init__(self, activation: jax.Array | None):
        super().__init__()
        self.activation = activation


def _unit_of(module: nn.Module, x: jax.Array, unit: jax.Array) -> jax.Array | None:
    """(batch, ..., 1) of a layer, or None where it is of another kind than those below."""
    if type(module) not in (nn.Dense, nn.Conv, conv.Conv) or x.dtype != jnp.float32:
        return None
    assert module.scope is not None
    kernel = module.scope.get_variable("params", "kernel")
    bias = module.scope.get_variable("params", "bias") if module.use_bias else None  # type: ignore[attr-defined]
    dtype = module.dtype or jnp.float32  # type: ignore[attr-defined]
    if kernel.dtype != jnp.float32 or dtype != jnp.float32:
        return None
    chosen = jnp.take(kernel, unit, axis=-1)
    if isinstance(module, nn.Dense):
        if module.dot_general is not None or module.dot_general_cls is not None:
            return None
        y = jnp.dot(x, chosen, precision=module.precision)
    else:
        assert isinstance(module, nn.Conv)
        geometry = _geometry(module, x)
        if geometry is None:
            return None
        y = convolve_one(x, chosen, *geometry, precision=module.precision)
    return (y if bias is None else y + jnp.take(bias, unit))[..., None]


def _geometry(module: nn.Conv, x: jax.Array) -> tuple[Any, Any, Any] | None:
    """Strides, padding and dilation of a convolution; None for one that is more than that, or gains nothing."""
    size = module.kernel_size if isinstance(module.kernel_size, Sequence) else (module.kernel_size,)
    count = len(size)

    def spread(value: Any) -> tuple[int, ...]:
        return (1 if value is None else value,) * count if value is None or isinstance(value, int) else tuple(value)

    strides, dilation = spread(module.strides), spread(module.kernel_dilation)
    plain = module.feature_group_count == 1 and module.mask is None and max(spread(module.input_dilation)) == 1
    plain = plain and module.conv_general_dilated in (None, conv.conv_general_dilated)
    plain = plain and module.conv_general_dilated_cls is None
    channels = x.shape[-1]
    gain = module.features * channels / (math.prod(strides) * (channels + _MOVING))
    if not plain or x.ndim != count + 2 or gain < _LEAST_GAIN:
        return None
    padding = module.padding
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID"):
            return None
        reach = [(taps_ - 1) * step + 1 for taps_, step in zip(size, dilation, strict=True)]
        pairs = lax.padtype_to_pads(x.shape[1:-1], reach, strides, padding)
    elif isinstance(padding, int):
        pairs = [(padding, padding)] * count
    else:
        pairs = [(item, item) if isinstance(item, int) else (item[0], item[1]) for item in padding]
    return strides, pairs, dilation


def convolve_one(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    precision: Any = None,
) -> jax.Array:
    """A convolution with one output channel.

    Args:
      x: (batch, *size, in).
      kernel: (*taps, in).
      strides: one for each axis of `size`.
      padding: (before, after) for each axis.
      dilation: of the kernel, one for each axis.
      precision: of the matrix product.

    Returns:
      (batch, *output size).
    """
    channels, size, shape = x.shape[-1], x.shape[1:-1], kernel.shape[:-1]
    flat = kernel.reshape(-1, channels)
    product = lax.dot_general(flat, x.reshape(-1, channels), (((1,), (1,)), ((), ())), precision=precision)
    # Taps in front: their gradients are joined by one concatenation instead of being added up.
    parts = lax.split(product.reshape(len(flat), *x.shape[:-1]), [1] * len(flat))
    total = None
    for part, tap in zip(parts, _places(shape), strict=True):
        edges, sampled = [(0, 0, 0)], [1]
        for place, step, stride, (low, high), count, length in zip(
            tap, dilation, strides, padding, shape, size, strict=True
        ):
            outputs = (length + low + high - (count - 1) * step - 1) // stride + 1
            first = place * step - low
            edges.append((-first, first + (outputs - 1) * stride + 1 - length, 0))
            sampled.append(stride)
        moved = lax.pad(part[0], jnp.zeros((), part.dtype), edges)
        moved = lax.slice(moved, (0,) * moved.ndim, moved.shape, sampled)
        total = moved if total is None else total + moved
    assert total is not None
    return total


def _places(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """All positions of a kernel in row-major order."""
    places: list[tuple[int, ...]] = [()]
    for count in shape:
        places = [(*place, index) for place in places for index in range(count)]
    return places
