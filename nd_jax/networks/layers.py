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


def norm(name: str, train: bool) -> nn.BatchNorm:
    """Batch normalisation with PyTorch's constants: running mean and variance move by a tenth, epsilon 1e-5."""
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, name=name)
