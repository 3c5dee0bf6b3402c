"""The one convolution of all networks: native on accelerators, on a CPU the fastest way for each shape.

`conv_general_dilated` is a drop-in for `jax.lax.conv_general_dilated` behind `flax.linen.Conv`; `Conv` is that layer
with the door preset and `ConvTranspose` its transposed counterpart with PyTorch's meaning of padding.

On a CPU three primitives (the convolution and its two gradients, see `lowering`) stand in for XLA's convolution. Each
is the derivative of the others, so any order and mode of differentiation stays inside the family; vmap folds lanes into
the batch first; and only when the program is compiled, with all shapes known, is the way of computing chosen.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.extend.core
import jax.numpy as jnp
from jax import lax
from jax.interpreters import ad, batching, mlir

from nd_jax.networks import geometry as xla
from nd_jax.networks import lowering
from nd_jax.networks.geometry import Geometry, Pair


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    **rest: Any,
) -> jax.Array:
    """`jax.lax.conv_general_dilated`, same arguments and result; faster on a CPU where XLA's own operation is slow.

    Channels-last 1-D and 2-D convolutions of float32 are done by the primitives of this module when JAX's default
    backend is the CPU; so are transposed ones (input dilation, stride 1). Everything else (groups, other layouts and
    types, accelerators, explicit sharding) is XLA's own operation. A `precision` above the default keeps to ways that
    form every product and sum it directly.
    """
    native = functools.partial(
        lax.conv_general_dilated,
        lhs,
        rhs,
        window_strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        dimension_numbers,
        feature_group_count,
        batch_group_count,
        precision,
        preferred_element_type,
        **rest,
    )
    plain = feature_group_count == 1 and batch_group_count == 1 and not any(rest.values())
    plain = plain and preferred_element_type in (None, jnp.float32) and _ours(lhs, rhs)
    if not plain or lhs.ndim not in (3, 4) or 0 in (*lhs.shape, *rhs.shape):
        return native()
    if not _channels_last(lhs, rhs, dimension_numbers):
        return native()
    spatial = lhs.ndim - 2
    ones = (1,) * spatial
    strides, dilation = tuple(window_strides), tuple(rhs_dilation or ones)
    spread = tuple(lhs_dilation or ones)
    if len(strides) != spatial or len(dilation) != spatial or lhs.shape[-1] != rhs.shape[-2]:
        return native()
    if isinstance(padding, str):
        if max(spread) > 1:
            return native()
        reach = [(size - 1) * step + 1 for size, step in zip(rhs.shape[:spatial], dilation, strict=True)]
        padding = lax.padtype_to_pads(lhs.shape[1:-1], reach, strides, padding)
    pads = tuple((int(low), int(high)) for low, high in padding)
    try:
        precision = _precision(precision)
    except (TypeError, ValueError):
        return native()
    if max(spread) == 1:
        primitive = conv_p
        geometry = Geometry(
            _pair(strides, 1), _pair(pads, (0, 0)), _pair(dilation, 1), _pair(lhs.shape[1:-1], 1), _pair(rhs.shape, 1)
        )
    elif max(strides) == 1:
        primitive = conv_input_p
        geometry = _transposed(
            _pair(spread, 1), _pair(pads, (0, 0)), _pair(dilation, 1), _pair(lhs.shape[1:-1], 1), _pair(rhs.shape, 1)
        )
        rhs = jnp.flip(rhs, tuple(range(spatial))).swapaxes(-1, -2)
    else:
        return native()
    sizes = (*geometry.input_size, *geometry.output_size)
    if min(min(pair) for pair in geometry.padding) < 0 or min(sizes) < 1:
        return native()
    if spatial == 2:
        return primitive.bind(lhs, rhs, geometry=geometry, precision=precision)
    return primitive.bind(lhs[:, None], rhs[None], geometry=geometry, precision=precision)[:, 0]


def _precision(precision: Any) -> Any:
    """None, a `lax.Precision` or a pair of them; ValueError for what only `lax` knows (algorithms of products)."""
    if precision is None:
        precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    if isinstance(precision, (tuple, list)):
        return tuple(lax.Precision(one) for one in precision)
    return None if precision is None else lax.Precision(precision)


def _transposed(spread: Pair, pads: tuple[Pair, Pair], dilation: Pair, size: Pair, kernel: Pair) -> Geometry:
    """The convolution whose input gradient is the convolution of a picture with `spread - 1` zeros between pixels."""
    padding, full = [], []
    for axis in (0, 1):
        reach = (kernel[axis] - 1) * dilation[axis]
        low, high = pads[axis]
        full.append((size[axis] - 1) * spread[axis] + 1 + low + high - reach)
        # Pixels at the end that no window of the convolution reaches: fewer than a stride, or it had more windows.
        beyond = max(high - reach, 0)
        padding.append((reach - low, reach - high + beyond if beyond < spread[axis] else -1))
    return Geometry(spread, (padding[0], padding[1]), dilation, (full[0], full[1]), kernel)


def _pair(values: Sequence[Any], filler: Any) -> tuple[Any, Any]:
    return (values[0], values[1]) if len(values) in (2, 4) else (filler, values[0])


def _ours(*operands: jax.Array) -> bool:
    """Whether the primitives of this module take these operands: CPU, float32, no explicit sharding or varying axes."""
    if jax.default_backend() != "cpu" or any(operand.dtype != jnp.float32 for operand in operands):
        return False
    types = [jax.typeof(operand) for operand in operands]
    if any(getattr(kind, "vma", None) for kind in types):
        return False
    return all(getattr(getattr(kind, "sharding", None), "mesh", None) is None or _auto(kind) for kind in types)


def _auto(kind: Any) -> bool:
    mesh = kind.sharding.mesh
    return mesh.empty or jax.sharding.AxisType.Explicit not in mesh.axis_types


def _channels_last(lhs: jax.Array, rhs: jax.Array, dimension_numbers: Any) -> bool:
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    last = lhs.ndim - 1
    spatial = tuple(range(1, last))
    wanted = ((0, last, *spatial), (last, last - 1, *range(last - 1)), (0, last, *spatial))
    return (tuple(numbers.lhs_spec), tuple(numbers.rhs_spec), tuple(numbers.out_spec)) == wanted


# --- the three primitives ---------------------------------------------------------------------------------------------


def _primitive(name: str, native: Callable[..., jax.Array], cpu: Callable[..., jax.Array]) -> Any:
    primitive = jax.extend.core.Primitive(name)

    @functools.cache
    def compiled(geometry: Geometry, precision: Any) -> Callable[..., jax.Array]:
        return jax.jit(functools.partial(primitive.bind, geometry=geometry, precision=precision))

    def evaluate(a: jax.Array, b: jax.Array, *, geometry: Geometry, precision: Any) -> jax.Array:
        if jax.config.jax_disable_jit:  # type: ignore[attr-defined]
            return native(a, b, geometry, precision)
        return compiled(geometry, precision)(a, b)

    def on_cpu(a: jax.Array, b: jax.Array, *, geometry: Geometry, precision: Any) -> jax.Array:
        return (native if 0 in (*a.shape, *b.shape) else cpu)(a, b, geometry, precision)

    def elsewhere(a: jax.Array, b: jax.Array, *, geometry: Geometry, precision: Any) -> jax.Array:
        return native(a, b, geometry, precision)

    primitive.def_impl(evaluate)
    mlir.register_lowering(primitive, mlir.lower_fun(elsewhere, multiple_results=False))
    mlir.register_lowering(primitive, mlir.lower_fun(on_cpu, multiple_results=False), platform="cpu")
    return primitive


conv_p = _primitive("nd_conv", xla.native, lowering.convolve)
conv_input_p = _primitive("nd_conv_input", xla.native_input, lowering.convolve_input)
conv_kernel_p = _primitive("nd_conv_kernel", xla.native_kernel, lowering.convolve_kernel)


@conv_p.def_abstract_eval
def _conv_shape(x: Any, w: Any, *, geometry: Geometry, precision: Any) -> Any:
    return jax.core.ShapedArray((x.shape[0], *geometry.output_size, w.shape[3]), x.dtype)


@conv_input_p.def_abstract_eval
def _conv_input_shape(g: Any, w: Any, *, geometry: Geometry, precision: Any) -> Any:
    return jax.core.ShapedArray((g.shape[0], *geometry.input_size, w.shape[2]), g.dtype)


@conv_kernel_p.def_abstract_eval
def _conv_kernel_shape(x: Any, g: Any, *, geometry: Geometry, precision: Any) -> Any:
    return jax.core.ShapedArray((*geometry.kernel_size, x.shape[3], g.shape[3]), x.dtype)


ad.defbilinear(
    conv_p,
    lambda g, x, w, **settings: conv_input_p.bind(g, w, **settings),
    lambda g, x, w, **settings: conv_kernel_p.bind(x, g, **settings),
)
ad.defbilinear(
    conv_input_p,
    lambda x, g, w, **settings: conv_p.bind(x, w, **settings),
    lambda x, g, w, **settings: conv_kernel_p.bind(x, g, **settings),
)
ad.defbilinear(
    conv_kernel_p,
    lambda w, x, g, **settings: conv_input_p.bind(g, w, **settings),
    lambda w, x, g, **settings: conv_p.bind(x, w, **settings),
)


def _batching(primitive: Any, first: tuple[int, int], second: tuple[int, int]) -> None:
    """Registers vmap: lanes in one operand are folded into (operand axis, result axis); lanes in both run in a loop.

    The loop is measured: XLA's own answer, a grouped convolution, takes two to six times as long, and products with a
    lane axis are no faster either.
    """

    def folded(operands: list[Any], which: int, axis: int, places: tuple[int, int], settings: Any) -> tuple[Any, int]:
        into, out = places
        array = jnp.moveaxis(operands[which], axis, into)
        lanes, each = array.shape[into : into + 2]
        operands[which] = array.reshape(*array.shape[:into], lanes * each, *array.shape[into + 2 :])
        result = primitive.bind(*operands, **settings)
        return result.reshape(*result.shape[:out], lanes, each, *result.shape[out + 1 :]), out

    def rule(operands: Any, axes: Any, **settings: Any) -> tuple[jax.Array, int]:
        (a, b), (a_axis, b_axis) = operands, axes
        if b_axis is None:
            return folded([a, b], 0, a_axis, first, settings)
        if a_axis is None:
            return folded([a, b], 1, b_axis, second, settings)
        a, b = jnp.moveaxis(a, a_axis, 0), jnp.moveaxis(b, b_axis, 0)
        return lax.map(lambda pair: primitive.bind(*pair, **settings), (a, b)), 0

    batching.primitive_batchers[primitive] = rule


_batching(conv_p, (0, 0), (3, 3))
_batching(conv_input_p, (0, 0), (2, 3))
_batching(conv_kernel_p, (3, 2), (3, 3))


# --- layers -----------------------------------------------------------------------------------------------------------


class Conv(nn.Conv):
    """`flax.linen.Conv` computed by this module; parameters `kernel` (..., in, out) and `bias` (out,) are the same."""

    conv_general_dilated: Any = conv_general_dilated


class ConvTranspose(nn.Module):
    """Transposed 2-D convolution with the meaning of `torch.nn.ConvTranspose2d`.

    It is the input gradient of a convolution with the same stride and padding: input pixel i adds its value times the
    kernel to output pixels i * stride - padding ... i * stride - padding + kernel - 1 (the kernel is not flipped), so
    output size = (input - 1) * stride - 2 * padding + kernel + output_padding.

    Attributes:
      features: number of output channels.
      kernel_size: (height, width).
      strides: (height, width).
      padding: rows and columns cut off at both sides of the output.
      output_padding: rows and columns added at the bottom and right, less than the stride.
      use_bias: whether a bias per output channel is added.

    Parameters: `kernel` (height, width, in, out), `bias` (out,).
    """

    features: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    output_padding: tuple[int, int] = (0, 0)
    use_bias: bool = True
    kernel_init: Any = nn.initializers.lecun_normal()
    bias_init: Any = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, height, width, in) -> (batch, height', width', features)."""
        if x.ndim != 4:
            raise ValueError(f"ConvTranspose takes (batch, height, width, channels), got shape {x.shape}")
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, x.shape[3], self.features), jnp.float32)
        y = conv_transpose(x, kernel, self.strides, self.padding, self.output_padding)
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,), jnp.float32)
            y = y + bias[None, None, None, :]
        return y


def conv_transpose(
    x: jax.Array,
    kernel: jax.Array,
    strides: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    output_padding: tuple[int, int] = (0, 0),
) -> jax.Array:
    """Transposed convolution, see `ConvTranspose`: (batch, height, width, in), (kh, kw, in, out) -> (batch, ..., out).

    Raises:
      ValueError: an output padding that is not less than the stride, or an output without pixels.
    """
    size = []
    for axis in (0, 1):
        if not 0 <= output_padding[axis] < max(strides[axis], 1) or padding[axis] < 0:
            raise ValueError(
                f"output_padding must be 0 ... stride - 1 and padding at least 0, got output_padding {output_padding}, "
                f"padding {padding} and strides {strides}"
            )
        full = (x.shape[1 + axis] - 1) * strides[axis] + kernel.shape[axis] + output_padding[axis]
        size.append(full - 2 * padding[axis])
    if min(size) < 1:
        raise ValueError(f"a transposed convolution of {x.shape[1:3]} with padding {padding} leaves no pixels")
    geometry = Geometry(
        (strides[0], strides[1]),
        ((padding[0], padding[0]), (padding[1], padding[1])),
        (1, 1),
        (size[0], size[1]),
        (kernel.shape[0], kernel.shape[1]),
    )
    kernel = kernel.transpose(0, 1, 3, 2)
    if not _ours(x, kernel):
        return xla.native_input(x, kernel, geometry)
    return conv_input_p.bind(x, kernel, geometry=geometry, precision=None)
