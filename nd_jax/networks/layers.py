"""Tiny named layers shared by the families: what would be an invisible function call becomes a layer with a name."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class Relu(nn.Module):
    """max(x, 0), or leaky with `slope` on the negative side."""

    slope: float = 0.0

    def __call__(self, x: jax.Array) -> jax.Array:
        """Any shape; the shape stays."""
        return nn.leaky_relu(x, self.slope) if self.slope else nn.relu(x)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def redirected_relu(x: jax.Array, slope: float, redirect: jax.Array) -> jax.Array:
    """ReLU whose gradient finds a way where there is none (Lucid, `misc/redirected_relu_grad.py`).

    For an example that would get no gradient at all through this ReLU, the gradient of the output is passed on instead,
    except where it would push an input that is below zero further down.

    Args:
      x: (batch, ...).
      slope: on the negative side.
      redirect: scalar bool; False leaves the gradient as it is.
    """
    return nn.leaky_relu(x, slope) if slope else nn.relu(x)


def _redirected_forward(x: jax.Array, slope: float, redirect: jax.Array) -> tuple[jax.Array, Any]:
    return redirected_relu(x, slope, redirect), (x, redirect)


def _redirected_backward(slope: float, kept: Any, upward: jax.Array) -> tuple[jax.Array, None]:
    x, redirect = kept
    plain = jnp.where(x > 0, upward, slope * upward)
    passed = jnp.any(plain != 0, axis=tuple(range(1, x.ndim)), keepdims=True)
    # Gradients are of a score that is to be climbed: above 0 means that the input should grow.
    other = jnp.where((x < 0) & (upward < 0), 0.0, upward)
    return jnp.where(passed | ~redirect, plain, other), None


redirected_relu.defvjp(_redirected_forward, _redirected_backward)


@contextlib.contextmanager
def redirected_gradients(redirect: jax.Array | None) -> Iterator[None]:
    """While it is open, every `Relu` of a network that is applied has the gradient of `redirected_relu`.

    Args:
      redirect: scalar bool, whether to; None leaves everything as it is.
    """
    if redirect is None:
        yield
        return

    def intercept(call: Callable[..., Any], arguments: Any, options: Any, context: nn.module.InterceptorContext) -> Any:
        if isinstance(context.module, Relu) and context.method_name == "__call__":
            return redirected_relu(arguments[0], context.module.slope, redirect)
        return call(*arguments, **options)

    with nn.intercept_methods(intercept):
        yield


def has_relu(module: nn.Module, *arguments: Any, **options: Any) -> bool:
    """Whether `module.apply(*arguments, **options)` goes through a `Relu`; computes nothing."""
    found = False

    def intercept(call: Callable[..., Any], given: Any, settings: Any, context: nn.module.InterceptorContext) -> Any:
        nonlocal found
        found = found or isinstance(context.module, Relu)
        return call(*given, **settings)

    with nn.intercept_methods(intercept):
        jax.eval_shape(functools.partial(module.apply, **options), *arguments)
    return found


class Sigmoid(nn.Module):
    """Logits to probabilities."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Any shape; the shape stays."""
        return nn.sigmoid(x)


class Tanh(nn.Module):
    """Squashes to -1 ... 1."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Any shape; the shape stays."""
        return jnp.tanh(x)


class Normalise(nn.Module):
    """Takes a mean off every channel and divides by a deviation, so that a network's input stays what a picture shows.

    Attributes:
      mean, std: one number a channel.
    """

    mean: Sequence[float]
    std: Sequence[float]

    def __call__(self, x: jax.Array) -> jax.Array:
        """(..., channels); the shape stays."""
        count = x.shape[-1]
        if (len(self.mean), len(self.std)) != (count, count) or not all(std > 0 for std in self.std):
            raise ValueError(
                f"a normalisation of {count} channels needs as many means and deviations above 0, got mean "
                f"{tuple(self.mean)} and std {tuple(self.std)}"
            )
        across = (1,) * (x.ndim - 1) + (count,)
        mean, std = (jnp.asarray(values, x.dtype).reshape(across) for values in (self.mean, self.std))
        return (x - mean) / std


class Mean(nn.Module):
    """Mean over some axes of a batch (axis 0 is the batch); all that remains is flattened into one unit axis."""

    axes: Sequence[int]

    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, ...) -> (batch, units)."""
        y = x.mean(axis=tuple(self.axes))
        return y.reshape(y.shape[0], -1)


class Pool(nn.Module):
    """Pooling over square windows of `size`, as far apart, without padding; `kind` is "max" or "average"."""

    size: int = 2
    kind: str = "max"

    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, height, width, channels) -> (batch, height // size, width // size, channels)."""
        batch, height, width, channels = x.shape
        rows, columns = height // self.size, width // self.size
        if not rows or not columns:
            raise ValueError(f"pooling by {self.size} leaves nothing of a {height} x {width} picture")
        x = x[:, : rows * self.size, : columns * self.size]
        x = x.reshape(batch, rows, self.size, columns, self.size, channels)
        return x.max(axis=(2, 4)) if self.kind == "max" else x.mean(axis=(2, 4))


def norm(name: str, train: bool, momentum: float = 0.9, epsilon: float = 1e-5) -> nn.BatchNorm:
    """Batch normalisation; as it stands with PyTorch's constants: running mean and variance move by a tenth."""
    return nn.BatchNorm(use_running_average=not train, momentum=momentum, epsilon=epsilon, name=name)


class MinibatchDeviation(nn.Module):
    """One more feature map that says how much the examples of a batch differ (Karras et al. 2018, section 3).

    The standard deviation over the batch of every feature at every place, and of these the mean, put beside the
    features of every example. It is the whole batch's also where that is spread over devices: with `axis_name`, the
    name of a mapped axis, as `flax.linen.BatchNorm` has it. What it adds depends on the other examples, also in eval
    mode; a batch of one has the deviation 0.

    Attributes:
      epsilon: added to the variance, so that equal examples have a slope.
      axis_name: of the devices that share the batch, or None.
      constant_mean: whether the slope of a slope, as a gradient penalty has it, takes the batch's mean for a constant,
        as TensorFlow's `tf.nn.moments` does; the slope itself is the same.
    """

    epsilon: float = 1e-8
    axis_name: str | None = None
    constant_mean: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, frozen: float | None = None) -> jax.Array:
        """(batch, ..., channels) -> (batch, ..., channels + 1); `frozen` is added instead of what the batch gives."""
        if frozen is not None:
            return jnp.concatenate([x, jnp.full((*x.shape[:-1], 1), frozen, x.dtype)], axis=-1)
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        centre = self._mean(wide)
        if self.constant_mean:
            centre = jax.lax.stop_gradient(centre)
        # Around the batch's own mean the squares are small; their difference would drown in what they share.
        variance = self._mean(jnp.square(wide - centre))
        deviation = jnp.mean(jnp.sqrt(variance + self.epsilon)).astype(x.dtype)
        return jnp.concatenate([x, jnp.full((*x.shape[:-1], 1), deviation)], axis=-1)

    def _mean(self, x: jax.Array) -> jax.Array:
        local = jnp.mean(x, axis=0, keepdims=True)
        # Nothing is shared while the parameters are made, outside of any mapped axis.
        return local if self.axis_name is None or self.is_initializing() else jax.lax.pmean(local, self.axis_name)


class PhaseShuffle(nn.Module):
    """Moves every example by a few places in time, in training, so that its phase gives nothing away.

    WaveGAN, Donahue et al. 2019, section 3.3: a shift of -radius ... radius, all equally likely, the same for all
    channels, ends filled by reflection. Here every example draws its own; the authors' code draws one a layer for the
    whole batch.

    In training the shifts are those that the caller gives, or come from the rng "phase".

    Attributes:
      radius: the largest shift.
    """

    radius: int = 2

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False, shifts: jax.Array | None = None) -> jax.Array:
        """(batch, time, channels), optional shifts (batch,) -> the same shape."""
        if not train or not self.radius:
            return x
        if shifts is None:
            shifts = jax.vmap(self.draw)(jax.random.split(self.make_rng("phase"), x.shape[0]))
        return phase_shuffle(x, shifts, self.radius)

    @nn.nowrap
    def draw(self, key: jax.Array) -> jax.Array:
        """One example's shift from that example's key, an int32 scalar."""
        return jax.random.randint(key, (), -self.radius, self.radius + 1)


def phase_shuffle(x: jax.Array, shifts: jax.Array, radius: int) -> jax.Array:
    """Moves every example in time, later for positive shifts, and fills the end that becomes free by reflection.

    Args:
      x: (batch, time, channels).
      shifts: (batch,) whole numbers -radius ... radius.
      radius: the largest shift, less than the length.

    Raises:
      ValueError: a radius that is not less than the length, or another number of shifts than examples.
    """
    batch, length = x.shape[:2]
    if not 0 <= radius < length:
        raise ValueError(f"phase shuffle by up to {radius} needs a signal of more than {radius} steps, not {length}")
    if shifts.shape != (batch,):
        raise ValueError(f"phase shuffle needs one shift for each of {batch} examples, got shape {shifts.shape}")
    # Measured on a CPU, forward and back: a choice among padded slices takes several times as long as this look-up.
    place = jnp.abs(jnp.arange(length)[None] - shifts[:, None])
    place = jnp.where(place < length, place, 2 * (length - 1) - place)
    return jnp.take_along_axis(x, place[:, :, None], axis=1, mode="clip")
