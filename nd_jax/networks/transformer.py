"""What the transformers of sound have in common: attention weights, activations and the MLP as layers with names."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from nd_jax.runtime import nearest


def _gelu_tanh(x: jax.Array) -> jax.Array:
    return nn.gelu(x, approximate=True)


# By the names that Hugging Face's and fairseq's configurations have for them.
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": lambda x: nn.gelu(x, approximate=False),
    "gelu_accurate": _gelu_tanh,
    "gelu_fast": _gelu_tanh,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "gelu_tanh": _gelu_tanh,
    "linear": lambda x: x,
    "quick_gelu": lambda x: x * nn.sigmoid(1.702 * x),
    "relu": nn.relu,
    "relu6": nn.relu6,
    "sigmoid": nn.sigmoid,
    "silu": nn.silu,
    "swish": nn.silu,
    "tanh": jnp.tanh,
}


class Softmax(nn.Module):
    """Scores to weights that sum to one over the last axis."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Any shape; the shape stays."""
        return nn.softmax(x)


class Activation(nn.Module):
    """An element-wise function by its name, one of `ACTIVATIONS`; "gelu" is the exact one."""

    function: str = "gelu"

    def __call__(self, x: jax.Array) -> jax.Array:
        """Any shape; the shape stays."""
        return ACTIVATIONS[self.function](x)


class GatedHalf(nn.Module):
    """Swish-gated linear units: the first half of the units times swish of the second half."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """(..., 2 n) -> (..., n)."""
        value, gate = jnp.split(x, 2, axis=-1)
        return value * nn.silu(gate)


class MLP(nn.Module):
    """Dense layer to `hidden` units, an activation, dense layer back.

    Layers: hidden, one that is called like the activation, output. With activation "glu" hidden has twice the units,
    and layer glu gives one half gated by the other.

    Attributes:
      hidden: units between the two layers.
      activation: "glu" or one of `ACTIVATIONS`.
      dropout: rate after the activation, in training.
    """

    hidden: int
    activation: str = "gelu"
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """(batch, tokens, width) -> (batch, tokens, width)."""
        if self.activation == "glu":
            y = GatedHalf(name="glu")(nn.Dense(2 * self.hidden, name="hidden")(x))
        else:
            y = nn.Dense(self.hidden, name="hidden")(x)
            y = Activation(self.activation, name=self.activation)(y)
        return nn.Dense(x.shape[-1], name="output")(dropped(y, self.dropout, train))


def dropped(x: jax.Array, rate: float, train: bool, axes: tuple[int, ...] = ()) -> jax.Array:
    """Dropout in training and nothing at all, not even a layer, in evaluation; call it inside a compact method.

    What is along `axes` is dropped together.
    """
    return nn.Dropout(rate, broadcast_dims=axes, deterministic=False)(x) if train and rate else x


def check_activation(name: str, *, glu: bool = False) -> None:
    """Raises ValueError unless there is such an activation."""
    known = [*ACTIVATIONS, *(["glu"] if glu else [])]
    if name not in known:
        raise ValueError(f"unknown activation {name!r}; {nearest(str(name), known)}")


def check_heads(family: str, width: int, heads: int) -> None:
    """Raises ValueError unless the heads divide the width."""
    if heads < 1 or width % heads:
        raise ValueError(f"{family} needs a width that its heads divide, got width {width} and {heads} heads")
