"""How a class gets into a generator and what a discriminator makes of it, for all GAN families alike.

Every family has the fields `classes` (0: unconditional, and nothing below is in the network) and `conditioning`.

| player        | conditioning | what happens                                                 | source                |
|---------------|--------------|--------------------------------------------------------------|-----------------------|
| generator     | "concat"     | the latent gets one number a class more, 1 for the one asked | Mirza & Osindero 2014 |
| generator     | "batch_norm" | every batch norm has a scale and a shift for every class     | de Vries et al. 2017  |
| discriminator | "projection" | the score grows by <embedding of the class, features>        | Miyato & Koyama 2018  |
| discriminator | "auxiliary"  | gives {"score": (batch, 1), "label": logits}                 | Odena et al. 2017     |

A conditional generator takes {"z": (batch, latent), "label": (batch,) whole numbers}; a projection discriminator
{"x": (batch, ...), "label": (batch,)}; one with an auxiliary classifier takes x alone. The features are what the
layer of the score reads (of "mel_dcgan": their mean over space).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from nd_jax.networks.layers import norm
from nd_jax.runtime import nearest

GENERATOR = ("concat", "batch_norm")
DISCRIMINATOR = ("projection", "auxiliary")


class ClassNorm(nn.Module):
    """Batch normalisation with a scale and a shift for every class (de Vries et al. 2017, section 3.1).

    Layer `standard` inside it is the normalised input, with statistics over all classes of the batch.

    Attributes:
      classes: how many.
      momentum: of the running statistics.
      epsilon: added to the variance.

    Parameters: `scale` and `bias`, both (classes, channels).
    """

    classes: int
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array, label: jax.Array, train: bool = False) -> jax.Array:
        """(batch, ..., channels), (batch,) -> the shape of x."""
        shape = (self.classes, x.shape[-1])
        scale = self.param("scale", nn.initializers.ones_init(), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), shape, jnp.float32)
        standard = nn.BatchNorm(
            use_running_average=not train,
            momentum=self.momentum,
            epsilon=self.epsilon,
            use_scale=False,
            use_bias=False,
            name="standard",
        )(x)
        each = (x.shape[0], *(1,) * (x.ndim - 2), x.shape[-1])
        return standard * pick(scale, label).reshape(each) + pick(bias, label).reshape(each)


class Projection(nn.Module):
    """The inner product of every example's features with the embedding of its class (Miyato & Koyama 2018, eq. 3).

    Attributes:
      classes: how many.

    Parameters: `embedding` (classes, features).
    """

    classes: int

    @nn.compact
    def __call__(self, features: jax.Array, label: jax.Array) -> jax.Array:
        """(batch, features), (batch,) -> (batch, 1)."""
        start = nn.initializers.variance_scaling(1.0, "fan_out", "normal")
        embedding = self.param("embedding", start, (self.classes, features.shape[-1]), jnp.float32)
        return jnp.sum(pick(embedding, label) * features, axis=-1, keepdims=True)


def pick(table: jax.Array, label: jax.Array) -> jax.Array:
    """The row of every label: (classes, n), (batch,) -> (batch, n); a class that there is not has zeros.

    Labels may be weights of the classes too, (batch, classes). A product, because the slope of a look-up is a scatter.
    """
    return jnp.dot(weights(label, table.shape[0], table.dtype), table, precision=jax.lax.Precision.HIGHEST)


def weights(label: jax.Array, classes: int, dtype: Any) -> jax.Array:
    """(batch, classes): 1 for the class of a whole number, (batch,); weights as they are, (batch, classes)."""
    return label.astype(dtype) if label.ndim == 2 else jax.nn.one_hot(label, classes, dtype=dtype)


Norms = Callable[[str], Callable[[jax.Array], jax.Array]]


def generator_input(
    module: Any, given: Any, train: bool, *, momentum: float = 0.9, epsilon: float = 1e-5
) -> tuple[jax.Array, Norms]:
    """Checks and takes apart what a generator is given; for use inside its `__call__`.

    Args:
      module: the generator, with the fields `latent`, `classes` and `conditioning`.
      given: (batch, latent), or {"z", "label"}.
      train: whether batch norms use the batch's statistics.
      momentum: of their running statistics.
      epsilon: of their variance.

    Returns:
      What the first layer reads (batch, latent or latent + classes), and a function name -> batch normalisation.

    Raises:
      ValueError: something else was given, in one sentence.
    """
    _check_fields(module, GENERATOR)
    z, label = _split(module, given, "z", module.classes > 0)
    if z.ndim != 2 or z.shape[1] != module.latent:
        raise ValueError(f"{_family(module)} takes latents of shape (batch, {module.latent}), got {z.shape}")
    if label is not None and module.conditioning == "batch_norm":
        layer = ClassNorm
        return z, lambda name: lambda x: layer(module.classes, momentum, epsilon, name=name)(x, label, train)
    if label is not None:
        z = jnp.concatenate([z, weights(label, module.classes, z.dtype)], axis=-1)
    return z, lambda name: norm(name, train, momentum, epsilon)


def discriminator_input(module: Any, given: Any) -> tuple[jax.Array, jax.Array | None]:
    """Checks and takes apart what a discriminator is given: examples and, for "projection", their labels.

    Raises:
      ValueError: something else was given, in one sentence.
    """
    _check_fields(module, DISCRIMINATOR)
    return _split(module, given, "x", module.classes > 0 and module.conditioning == "projection")


def judged(module: Any, score: jax.Array, features: jax.Array, label: jax.Array | None) -> Any:
    """The output of a discriminator with classes, from its score (batch, 1) and features (batch, n)."""
    if label is None:
        return {"score": score, "label": nn.Dense(module.classes, name="label")(features)}
    return score + Projection(module.classes, name="projection")(features, label)


def _check_fields(module: Any, choices: tuple[str, ...]) -> None:
    if module.classes < 0 or module.classes == 1:
        raise ValueError(f"classes of {_family(module)} must be 0 or at least 2, got {module.classes}")
    if module.conditioning not in choices:
        raise ValueError(
            f"conditioning of {_family(module)} is {' or '.join(map(repr, choices))}, not {module.conditioning!r}; "
            f"{nearest(module.conditioning, choices)}"
        )


def _split(module: Any, given: Any, name: str, labelled: bool) -> tuple[jax.Array, jax.Array | None]:
    if not labelled:
        if isinstance(given, Mapping):
            raise ValueError(f"{_family(module)} takes {name} alone here, not a dict with the keys {sorted(given)}")
        return jnp.asarray(given), None
    if not isinstance(given, Mapping) or set(given) != {name, "label"}:
        what = f"a dict with the keys {sorted(given)}" if isinstance(given, Mapping) else type(given).__name__
        raise ValueError(f'{_family(module)} with {module.classes} classes takes {{"{name}", "label"}}, got {what}')
    x, label = jnp.asarray(given[name]), jnp.asarray(given["label"])
    mixed = jnp.issubdtype(label.dtype, jnp.floating) and label.shape == (*x.shape[:1], module.classes)
    if not mixed and (not jnp.issubdtype(label.dtype, jnp.integer) or label.shape != x.shape[:1]):
        raise ValueError(
            f"{_family(module)} takes one whole number as label for each of {x.shape[0] if x.ndim else 0} examples, "
            f"got {label.dtype} of shape {label.shape}"
        )
    return x, label


def _family(module: Any) -> str:
    from nd_jax import networks

    try:
        return networks.family_of(module)
    except ValueError:
        return type(module).__name__
