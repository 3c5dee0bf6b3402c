"""The convolution of all networks against XLA's own: values, derivatives, every way of computing it."""

from __future__ import annotations

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from nd_jax.networks import conv, geometry, kernel_gradient, phases, toom_cook

SHAPES = {
    # input (batch, height, width, in), kernel (height, width, in, out), strides, padding, kernel dilation, input spread
    "3x3 stride 2, one channel": ((2, 10, 9, 1), (3, 3, 1, 6), (2, 2), "SAME", (1, 1), (1, 1)),
    "5x5 stride 2 valid": ((2, 12, 12, 6), (5, 5, 6, 7), (2, 2), "VALID", (1, 1), (1, 1)),
    "more padding than kernel": ((2, 5, 6, 5), (2, 2, 5, 6), (2, 2), ((3, 4), (5, 3)), (1, 1), (1, 1)),
    "1x1": ((2, 5, 4, 5), (1, 1, 5, 6), (1, 1), "VALID", (1, 1), (1, 1)),
    "patches": ((2, 9, 12, 3), (4, 4, 3, 6), (3, 3), "VALID", (1, 1), (1, 1)),
    "wide": ((2, 9, 7, 72), (3, 3, 72, 72), (1, 1), "SAME", (1, 1), (1, 1)),
    "wide, dilated, strided across": ((2, 8, 11, 72), (5, 3, 72, 72), (2, 1), "SAME", (2, 2), (1, 1)),
    "wide, stride 2": ((2, 6, 6, 160), (4, 4, 160, 24), (2, 2), ((1, 1), (1, 1)), (1, 1), (1, 1)),
    "last pixels unseen": ((2, 10, 12, 5), (3, 3, 5, 6), (4, 4), "VALID", (1, 1), (1, 1)),
    "transposed": ((2, 4, 5, 6), (5, 5, 6, 3), (1, 1), ((2, 3), (2, 3)), (1, 1), (2, 2)),
    "1-D of a waveform": ((2, 64, 1), (25, 1, 6), (4,), ((11, 10),), (1,), (1,)),
    "WaveGAN's critic": ((2, 32, 5), (25, 5, 6), (4,), "SAME", (1,), (1,)),
    "WaveGAN's generator": ((2, 8, 6), (25, 6, 5), (1,), ((13, 14),), (1,), (4,)),
    "WaveGAN's last layer": ((2, 8, 6), (25, 6, 1), (1,), ((13, 14),), (1,), (4,)),
    "5x10 from one pixel": ((2, 1, 1, 6), (5, 10, 6, 7), (1, 1), ((4, 4), (9, 9)), (1, 1), (1, 1)),
    "1-D dilated far": ((2, 20, 5), (2, 5, 6), (1,), ((16, 0),), (16,), (1,)),
}


def _random_case(seed):
    """A convolution of any geometry: 1-D or 2-D, strided, dilated, padded, plain or transposed, any kernel size."""
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 3))
    transposed = rng.random() < 0.3
    draw = lambda low, high: tuple(int(value) for value in rng.integers(low, high, rank))  # noqa: E731
    kernel, dilation, steps = draw(1, 7), draw(1, 4), draw(1, 5)
    inputs, outputs = (int(value) for value in rng.choice((1, 2, 4, 5, 9), 2))
    reach = [(size - 1) * step + 1 for size, step in zip(kernel, dilation, strict=True)]
    padding = tuple(zip(draw(0, 5), draw(0, 5), strict=True))
    if not transposed and rng.random() < 0.6:
        padding = str(rng.choice(("SAME", "VALID")))
    size = [max(edge + extra, 1) for edge, extra in zip(reach, draw(-3 if padding != "VALID" else 0, 9), strict=True)]
    one = (1,) * rank
    shape = (int(rng.integers(1, 4)), *size, inputs)
    strides, spread = (one, steps) if transposed else (steps, one)
    return shape, (*kernel, inputs, outputs), strides, padding, dilation, spread


CASES = {**SHAPES, **{f"random {seed}": _random_case(seed) for seed in range(20)}}
NUMBERS = {3: ("NWC", "WIO", "NWC"), 4: ("NHWC", "HWIO", "NHWC")}


def _operands(case):
    shape, kernel, strides, padding, dilation, spread = case
    rng = np.random.default_rng(7)
    x = jnp.asarray(rng.standard_normal(shape), jnp.float32)
    # Outputs of about one: the sine below would make rounding errors of large ones large in its derivative.
    w = jnp.asarray(rng.standard_normal(kernel) / max(np.prod(kernel[:-1]), 1) ** 0.5, jnp.float32)

    def with_door(door):
        return lambda x, w: door(x, w, strides, padding, spread, dilation, NUMBERS[len(shape)])

    return x, w, with_door(conv.conv_general_dilated), with_door(lax.conv_general_dilated)


def _assert_close(ours, native, tolerance=1e-5):
    def check(a, b):
        chex.assert_equal_shape([a, b])
        chex.assert_trees_all_close(a, b, rtol=0, atol=tolerance * max(float(jnp.abs(b).max(initial=0)), 1e-30))

    jax.tree.map(check, ours, native)


def _first(f, x, w):
    """Value, both gradients, and batch-one lanes: the gradient of one example as a batch of one, vmapped."""

    def loss(x, w):
        y = f(x, w)
        return jnp.sin(y).sum(), y

    lanes = jax.vmap(jax.grad(lambda one: jnp.sin(f(one[None], w)).sum()))(x)
    return jax.value_and_grad(loss, (0, 1), has_aux=True)(x, w)[0][1], jax.grad(loss, (0, 1), has_aux=True)(x, w), lanes


def _second(f, x, w):
    """A gradient penalty: the kernel's gradient of the norm of the input gradient, and forward over reverse."""

    def penalty(x, w):
        return jnp.sqrt(1e-6 + jnp.square(jax.grad(lambda x: jnp.sin(f(x, w)).sum())(x)).sum())

    forward = jax.jvp(jax.grad(lambda x, w: jnp.sin(f(x, w)).sum(), (0, 1)), (x, w), (w.mean() + x, 0.5 * w))[1]
    return jax.grad(penalty, (0, 1))(x, w), forward


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_equal_to_native(case):
    """Values, first and second derivatives, at the top level and in a loop."""
    x, w, ours, native = _operands(case)

    @jax.jit
    def run(x, w):
        looped = lax.scan(lambda x, _: (x, _first(ours, x, w)), x, None, length=2)[1]
        native_first = _first(native, x, w)
        plain = (jax.tree.map(lambda leaf: leaf[1], looped), native_first)
        return plain, (ours(x, w), native_first[0]), [_second(f, x, w) for f in (ours, native)]

    first, value, second = run(x, w)
    _assert_close(*first)
    _assert_close(*value)
    _assert_close(*second, 1e-4)


def _geometry(case):
    shape, kernel, strides, padding, dilation, _ = case
    if isinstance(padding, str):
        reach = [(size - 1) * step + 1 for size, step in zip(kernel, dilation, strict=False)]
        padding = lax.padtype_to_pads(shape[1:3], reach, strides, padding)
    return geometry.Geometry(strides, tuple(padding), dilation, shape[1:3], kernel[:2])


INPUT_WAYS = (phases.joint_input, phases.split_input, phases.overlap_input, phases.scatter_input)


@pytest.mark.parametrize(
    "case",
    [
        ((2, 9, 8, 5), (3, 4, 5, 6), (2, 3), ((2, 0), (0, 3)), (1, 1), (1, 1)),
        ((2, 11, 12, 5), (3, 5, 5, 6), (1, 1), "SAME", (2, 3), (1, 1)),
        ((2, 13, 12, 5), (2, 4, 5, 6), (4, 1), "SAME", (6, 1), (1, 1)),
        ((2, 5, 6, 5), (2, 2, 5, 6), (1, 2), ((3, 4), (5, 3)), (1, 1), (1, 1)),
    ],
)
def test_every_way(case):
    """Each way gives the same numbers, also for the shapes that the rule gives to another."""
    x, w, _, _ = _operands(case)
    shapes = _geometry(case)
    short = [axis for axis in (0, 1) if shapes.strides[axis] == 1 and 2 <= shapes.kernel_size[axis] <= 5]

    @jax.jit
    def run(x, w):
        g = jnp.cos(geometry.native(x, w, shapes))
        ways = [way for way in INPUT_WAYS if phases.can_join(shapes) or way in (INPUT_WAYS[1], INPUT_WAYS[2])]
        return [
            ([geometry.native_input(g, w, shapes)], [way(g, w, shapes) for way in ways]),
            (
                [geometry.native_kernel(x, g, shapes)],
                [
                    kernel_gradient.taps_kernel(x, g, shapes),
                    kernel_gradient.swapped_kernel(x, g, shapes),
                    *[toom_cook.short_kernel(x, g, shapes, axis) for axis in short],
                ],
            ),
            ([geometry.native(x, w, shapes)], [toom_cook.short_convolve(x, w, shapes, axis) for axis in short]),
        ]

    for (native,), results in run(x, w):
        for result in results:
            _assert_close(result, native)


def test_a_lane_is_the_same_among_any_number():
    """Bitwise: value and input gradient of an example in 8, 16 and 104 lanes, for every way that the rule takes."""
    for name in ("wide", "wide, stride 2", "1x1", "5x5 stride 2 valid", "3x3 stride 2, one channel", "1-D dilated far"):
        shape, *_ = CASES[name]
        _, w, ours, _ = _operands(CASES[name])
        x = jnp.asarray(np.random.default_rng(3).standard_normal((104, 1, *shape[1:])), jnp.float32)
        run = jax.jit(
            jax.vmap(lambda x, w=w, ours=ours: (ours(x, w), jax.grad(lambda x: jnp.sin(ours(x, w)).sum())(x)))
        )
        every = run(x)
        for lanes in (8, 16):
            chex.assert_trees_all_equal(run(x[:lanes]), jax.tree.map(lambda leaf, lanes=lanes: leaf[:lanes], every))


def test_precision_asks_for_every_product():
    """A precision above the default keeps to one plain convolution where the default takes six small ones."""
    x, w = jnp.ones((2, 9, 7, 72)), jnp.ones((3, 3, 72, 72))

    def convolutions(precision):
        door = functools.partial(
            conv.conv_general_dilated, window_strides=(1, 1), padding="SAME", dimension_numbers=NUMBERS[4]
        )
        text = jax.jit(lambda x, w: door(x, w, precision=precision)).lower(x, w).as_text()
        return text.count("stablehlo.convolution")

    assert [convolutions(precision) for precision in (None, "default", "highest", lax.Precision.HIGH)] == [6, 6, 1, 1]
    with jax.default_matmul_precision("float32"):
        assert convolutions(None) == 1


@pytest.mark.parametrize(
    ("shape", "kernel"),
    [
        ((0, 9, 9, 4), (3, 3, 4, 5)),
        ((2, 9, 9, 0), (3, 3, 0, 5)),
        ((2, 9, 9, 4), (3, 3, 4, 0)),
        ((2, 3, 9, 4), (4, 2, 4, 5)),
    ],
)
def test_nothing_to_convolve(shape, kernel):
    """No examples, no channels, a kernel larger than its input: the empty or zero results of XLA's own."""
    x, w, ours, native = _operands((shape, kernel, (1, 1), "VALID", (1, 1), (1, 1)))
    _assert_close(_first(ours, x, w), _first(native, x, w))
    lanes = jax.vmap(jax.grad(lambda x: ours(x[None], w).sum()))(jnp.zeros((0, *shape[1:])))
    chex.assert_shape(lanes, (0, *shape[1:]))


def test_what_is_unusual_is_native():
    """Groups, stride with input dilation, other layouts and types: the same program as XLA's own."""
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.standard_normal((1, 6, 6, 4)), jnp.float32)
    w = jnp.asarray(rng.standard_normal((3, 3, 4, 4)), jnp.float32)
    numbers = ("NHWC", "HWIO", "NHWC")
    calls = [
        (x, w[:, :, :1], (1, 1), "SAME", {"feature_group_count": 4, "dimension_numbers": numbers}),
        (x, w, (2, 1), ((1, 1), (1, 1)), {"lhs_dilation": (2, 2), "dimension_numbers": numbers}),
        (x, w, (1, 1), ((4, 1), (1, 1)), {"lhs_dilation": (2, 2), "dimension_numbers": numbers}),
        (x.astype(jnp.bfloat16), w.astype(jnp.bfloat16), (1, 1), "SAME", {"dimension_numbers": numbers}),
        (x.transpose(0, 3, 1, 2), w.transpose(3, 2, 0, 1), (2, 2), "SAME", {}),
        (x, w, (1, 1), ((-1, 0), (1, 2)), {"dimension_numbers": numbers}),
    ]
    for lhs, rhs, strides, padding, settings in calls:
        assert "nd_conv" not in str(
            jax.make_jaxpr(lambda a, b: conv.conv_general_dilated(a, b, strides, padding, **settings))(lhs, rhs)  # noqa: B023
        )
        ours = conv.conv_general_dilated(lhs, rhs, strides, padding, **settings)
        chex.assert_trees_all_equal(ours, lax.conv_general_dilated(lhs, rhs, strides, padding, **settings))


def test_lanes_in_any_operand():
    """vmap over inputs, over kernels and over both, of the convolution and of its gradients."""
    rng = np.random.default_rng(2)
    x = jnp.asarray(rng.standard_normal((3, 2, 7, 6, 2)), jnp.float32)
    w = jnp.asarray(rng.standard_normal((3, 3, 3, 2, 4)), jnp.float32)

    def gradients(door):
        def one(x, w):
            y = lambda x, w: door(x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))  # noqa: E731
            return y(x, w), jax.grad(lambda x, w: jnp.sin(y(x, w)).sum(), (0, 1))(x, w)

        return one

    @jax.jit
    def run(x, w):
        results = []
        for door in (conv.conv_general_dilated, lax.conv_general_dilated):
            one = gradients(door)
            both = jax.vmap(one)(x, w)
            last = jax.vmap(one, (4, None))(jnp.moveaxis(x, 0, 4), w[0])
            kernels = jax.vmap(one, (None, 2))(x[0], jnp.moveaxis(w, 0, 2))
            results.append((both, last, kernels))
        return results

    _assert_close(*run(x, w))


def test_inside_scan_remat_and_without_jit():
    rng = np.random.default_rng(3)
    x = jnp.asarray(rng.standard_normal((2, 8, 8, 3)), jnp.float32)
    w = jnp.asarray(rng.standard_normal((3, 3, 3, 3)), jnp.float32)

    def steps(door, looped):
        def step(x, _):
            loss = jax.checkpoint(
                lambda x: jnp.sin(door(x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))).sum()
            )
            return x - 0.1 * jax.grad(loss)(x), None

        if looped:
            return jax.jit(lambda x: lax.scan(step, x, None, length=3)[0])(x)
        with jax.disable_jit():
            return step(step(step(x, None)[0], None)[0], None)[0]

    native = steps(lax.conv_general_dilated, True)
    _assert_close(steps(conv.conv_general_dilated, True), native)
    _assert_close(steps(conv.conv_general_dilated, False), native)


def test_layer_has_the_parameters_of_flax(getkey):
    x = jnp.ones((2, 9, 9, 3))
    key = getkey()
    for settings in ({"features": 4, "kernel_size": (3, 3), "strides": (2, 2)}, {"features": 2, "kernel_size": (5,)}):
        ours, theirs = conv.Conv(**settings), nn.Conv(**settings)
        variables = ours.init(key, x)
        chex.assert_trees_all_equal(variables, theirs.init(key, x))
        _assert_close(ours.apply(variables, x), theirs.apply(variables, x))
    chex.assert_shape(ours.apply(variables, x[0, 0]), (9, 2))


def _scatter(x, kernel, strides, padding, output_padding):
    """The definition, pixel by pixel: every input pixel adds its value times the kernel to the output."""
    batch, height, width, _ = x.shape
    kh, kw, _, features = kernel.shape
    full = np.zeros((batch, (height - 1) * strides[0] + kh + 9, (width - 1) * strides[1] + kw + 9, features))
    for i in range(height):
        for j in range(width):
            part = np.einsum("nc,hwco->nhwo", x[:, i, j], kernel)
            full[:, i * strides[0] : i * strides[0] + kh, j * strides[1] : j * strides[1] + kw] += part
    sizes = [
        (size - 1) * stride - 2 * pad + k + extra
        for size, stride, pad, k, extra in zip((height, width), strides, padding, (kh, kw), output_padding, strict=True)
    ]
    return full[:, padding[0] : padding[0] + sizes[0], padding[1] : padding[1] + sizes[1]]


@pytest.mark.parametrize(
    ("kernel", "strides", "padding", "output_padding", "channels"),
    [
        ((5, 5), (1, 1), (2, 2), (0, 0), 3),
        ((5, 5), (2, 2), (2, 2), (1, 1), 3),
        ((5, 5), (2, 2), (2, 2), (1, 1), 1),
        ((4, 4), (2, 2), (1, 1), (0, 0), 3),
        ((3, 2), (2, 3), (0, 1), (1, 2), 5),
        ((2, 2), (3, 3), (0, 0), (0, 0), 3),
        ((5, 10), (1, 1), (0, 0), (0, 0), 3),
        ((25, 1), (4, 1), (11, 0), (1, 0), 3),
        ((4, 4), (2, 2), (1, 1), (0, 0), 1),
    ],
)
def test_transposed_convolution_is_its_definition(kernel, strides, padding, output_padding, channels, getkey):
    layer = conv.ConvTranspose(channels, kernel, strides, padding, output_padding)
    x = jax.random.normal(getkey(), (2, 4, 3, 6))
    variables = layer.init(getkey(), x)
    variables["params"]["bias"] = jnp.arange(channels) * 1.0
    chex.assert_shape(variables["params"]["kernel"], (*kernel, 6, channels))
    y, gradient = jax.jit(
        lambda x: (layer.apply(variables, x), jax.grad(lambda x: layer.apply(variables, x).sum())(x))
    )(x)
    expected = _scatter(np.asarray(x), np.asarray(variables["params"]["kernel"]), strides, padding, output_padding)
    chex.assert_trees_all_close(y, (expected + np.arange(channels)).astype(np.float32), rtol=1e-4, atol=1e-5)
    chex.assert_equal_shape([x, gradient])


def test_transposed_convolution_says_what_is_wrong():
    x, kernel = jnp.ones((1, 3, 3, 2)), jnp.ones((3, 3, 2, 2))
    with pytest.raises(ValueError, match="output_padding must be 0 ... stride - 1"):
        conv.conv_transpose(x, kernel, (2, 2), (1, 1), (2, 2))
    with pytest.raises(ValueError, match="leaves no pixels"):
        conv.conv_transpose(x, kernel, (1, 1), (4, 4))
    with pytest.raises(ValueError, match="batch, height, width, channels"):
        conv.ConvTranspose(2, (3, 3)).init(jax.random.key(0), x[0])


def test_pmap_averages_gradients():
    """The primitives under pmap with replicated weights, as in training."""
    x = jax.random.normal(jax.random.key(0), (2, 2, 8, 8, 1))
    w = jax.random.normal(jax.random.key(1), (3, 3, 1, 4))

    def loss(w, x):
        return jnp.sin(
            conv.conv_general_dilated(x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        ).mean()

    step = jax.pmap(lambda w, x: lax.pmean(jax.grad(loss)(w, x), "d"), "d", in_axes=(None, 0), out_axes=None)
    _assert_close(step(w, x), jax.jit(jax.grad(loss))(w, x.reshape(4, 8, 8, 1)))
