"""The convolutions of any Flax linen network through this project's door, without touching its code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from nd_jax.networks.conv import conv_general_dilated


@contextlib.contextmanager
def fast_convolutions(enabled: bool = True) -> Iterator[None]:
    """Inside, every `nn.Conv` and `nn.ConvTranspose` that is traced is computed by `conv.conv_general_dilated`.

    Layers, names, parameters and results (to rounding) stay. What that function leaves to XLA (groups, three
    dimensions, half precision, accelerators) stays XLA's own, and so do layers that bring a convolution of their own,
    transposed ones with a mask or circular padding, and everything in `init`.

    Args:
      enabled: False leaves everything as it is.
    """
    if not enabled:
        yield
        return
    with nn.intercept_methods(_redirect):
        yield


def _redirect(call: Any, arguments: Any, options: Any, context: nn.module.InterceptorContext) -> Any:
    module = context.module
    if context.method_name != "__call__" or module.is_initializing():
        return call(*arguments, **options)
    if isinstance(module, nn.Conv) and module.conv_general_dilated is None and module.conv_general_dilated_cls is None:
        # Modules are frozen for their users; this one, bound for one pass, gets the door that its field is for.
        object.__setattr__(module, "conv_general_dilated", conv_general_dilated)
        try:
            return call(*arguments, **options)
        finally:
            object.__setattr__(module, "conv_general_dilated", None)
    if type(module) is nn.ConvTranspose and not options and _is_plain(module, arguments[0]):
        return _transpose(module, arguments[0])
    return call(*arguments, **options)


def _is_plain(module: Any, x: jax.Array) -> bool:
    padding = module.padding
    known = padding in ("SAME", "VALID") or (
        not isinstance(padding, (str, int)) and all(isinstance(pair, Sequence) for pair in padding)
    )
    return known and module.mask is None and x.ndim == len(_sizes(module.kernel_size, 1)) + 2


def _sizes(value: Any, count: int) -> tuple[int, ...]:
    if value is None:
        return (1,) * count
    return (value,) * count if isinstance(value, int) else tuple(value)


def _transpose(module: Any, x: jax.Array) -> jax.Array:
    """What `nn.ConvTranspose` computes: a convolution of the input with zeros between its pixels."""
    bias = module.get_variable("params", "bias") if module.use_bias else None
    x, kernel, bias = module.promote_dtype(x, module.get_variable("params", "kernel"), bias, dtype=module.dtype)
    spatial = x.ndim - 2
    strides, dilation = _sizes(module.strides, spatial), _sizes(module.kernel_dilation, spatial)
    if isinstance(module.padding, str):
        reach = [(size - 1) * step for size, step in zip(kernel.shape[:spatial], dilation, strict=True)]
        padding = [_around(*sizes, module.padding) for sizes in zip(reach, strides, strict=True)]
    else:
        padding = [(low, high) for low, high in module.padding]
    if module.transpose_kernel:
        kernel = jnp.flip(kernel, tuple(range(spatial))).swapaxes(-1, -2)
    numbers = ("NHWC", "HWIO", "NHWC") if spatial == 2 else ("NWC", "WIO", "NWC") if spatial == 1 else None
    y = conv_general_dilated(
        x,
        kernel,
        (1,) * spatial,
        padding,
        strides,
        dilation,
        numbers or ("NDHWC", "DHWIO", "NDHWC"),
        precision=module.precision,
        preferred_element_type=module.preferred_element_type,
    )
    return y if bias is None else y + bias.reshape((1,) * (y.ndim - 1) + (-1,))


def _around(reach: int, stride: int, padding: str) -> tuple[int, int]:
    """Padding of the spread-out input along one axis, as `jax.lax.conv_transpose` has it; reach is kernel - 1."""
    if padding == "VALID":
        return reach, max(reach, stride - 1)
    total = reach + stride - 1
    low = reach if stride > reach else -(-total // 2)
    return low, total - low
