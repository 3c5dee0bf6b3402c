"""The Audio Spectrogram Transformer (Gong, Chung and Glass 2021, arXiv 2104.01778), 86,594,063 parameters.

Overlapping patches of a log-mel become tokens; a class and a distillation token stand in front; learned positions are
added; pre-norm transformer blocks follow; the logits are read from the mean of the two tokens in front. Layers and
their output shapes for a (128, 1024, 1) input, 12 x 101 patches and the published sizes:

| layer                    | shape           |                                                               |
|--------------------------|-----------------|---------------------------------------------------------------|
| patches                  | (12, 101, 768)  | one token a patch: frequency, time                            |
| tokens                   | (1214, 768)     | class, distillation, patches (frequency-major), positions added |
| block1/attention/query   | (1214, 768)     | and key, value                                                |
| block1/attention/weights | (12, 1214, 1214) | what each token attends to: head, from, to                   |
| block1/attention         | (1214, 768)     | after the output projection (block1/attention/output too)     |
| block1/mlp/hidden        | (1214, 3072)    | before its GELU, block1/mlp/gelu                              |
| block1/mlp               | (1214, 768)     | before it is added (block1/mlp/output too)                    |
| block1                   | (1214, 768)     | and block1/norm1, block1/norm2; block2 ... block12            |
| norm                     | (1214, 768)     | the last normalisation of the tokens                          |
| pool                     | (768,)          | mean of the two tokens in front, then head_norm               |
| head                     | (527,)          | logits                                                        |

Parameters have the names of their layers. A kernel of the Hugging Face checkpoints needs its axes reordered (the
convolution OIHW -> HWIO, dense layers (out, in) -> (in, out)) and nothing else: their pictures are frequency by time
too.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from nd_jax.networks.conv import Conv
from nd_jax.networks.transformer import MLP, Softmax, check_activation, check_heads, dropped


class Tokens(nn.Module):
    """Puts the class and the distillation token in front of the patches and adds the positions.

    Parameters: `class_token`, `distillation_token` (width,), `positions` (2 + patches, width).
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, rows, columns, width) -> (batch, 2 + rows * columns, width)."""
        batch, rows, columns, width = x.shape
        small = nn.initializers.normal(0.02)
        front = [self.param(f"{name}_token", small, (width,), jnp.float32) for name in ("class", "distillation")]
        positions = self.param("positions", small, (2 + rows * columns, width), jnp.float32)
        first = jnp.broadcast_to(jnp.stack(front)[None], (batch, 2, width))
        return jnp.concatenate([first, x.reshape(batch, rows * columns, width)], axis=1) + positions[None]


class Attention(nn.Module):
    """Multi-head self-attention: softmax(query key' / sqrt(depth)) value, heads side by side, then a projection."""

    heads: int
    qkv_bias: bool = True
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """(batch, tokens, width) -> (batch, tokens, width)."""
        batch, tokens, width = x.shape
        depth = width // self.heads

        def split(name: str) -> jax.Array:
            return nn.Dense(width, use_bias=self.qkv_bias, name=name)(x).reshape(batch, tokens, self.heads, depth)

        query, key, value = split("query"), split("key"), split("value")
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) * depth**-0.5
        weights = dropped(Softmax(name="weights")(scores), self.dropout, train)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value)
        return nn.Dense(width, name="output")(mixed.reshape(batch, tokens, width))


class Block(nn.Module):
    """A pre-norm transformer block: x + attention(norm1(x)), then x + mlp(norm2(x))."""

    heads: int
    hidden: int
    activation: str = "gelu"
    qkv_bias: bool = True
    epsilon: float = 1e-12
    dropout: float = 0.0
    attention_dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """(batch, tokens, width) -> (batch, tokens, width)."""
        attention = Attention(self.heads, self.qkv_bias, self.attention_dropout, name="attention")
        mlp = MLP(self.hidden, self.activation, name="mlp")
        x = x + dropped(attention(_norm(self.epsilon, "norm1")(x), train), self.dropout, train)
        return x + dropped(mlp(_norm(self.epsilon, "norm2")(x), train), self.dropout, train)


def _norm(epsilon: float, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon, use_fast_variance=False, name=name)


class Pool(nn.Module):
    """Mean of the class and the distillation token."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, tokens, width) -> (batch, width)."""
        return x[:, :2].mean(axis=1)


class AST(nn.Module):
    """Family "ast"; see the module's table. The defaults are the published base network for AudioSet.

    Attributes:
      classes: number of logits; 0 for the encoder alone, whose output is the mean of the two tokens in front.
      width: numbers of a token.
      blocks: transformer blocks.
      heads: attention heads of a block; they share the width evenly.
      hidden: units of a block's MLP.
      patch: (mel bands, frames) of a patch.
      strides: (mel bands, frames) from one patch to the next.
      activation: of the MLP, one of `transformer.ACTIVATIONS`.
      qkv_bias: whether query, key and value have a bias.
      epsilon: of every normalisation.
      dropout, attention_dropout: rates in training.
      block_dropout: how often an example skips the last block in training (Huang et al. 2016); those before it are
        skipped less often.
    """

    classes: int = 527
    width: int = 768
    blocks: int = 12
    heads: int = 12
    hidden: int = 3072
    patch: tuple[int, int] = (16, 16)
    strides: tuple[int, int] = (10, 10)
    activation: str = "gelu"
    qkv_bias: bool = True
    epsilon: float = 1e-12
    dropout: float = 0.0
    attention_dropout: float = 0.0
    block_dropout: float = 0.0

    @property
    def dissected_layers(self) -> tuple[str, ...]:
        """The dense layers that Audio Network Dissection labels (Wu et al. 2024), as `taps` names them."""
        parts = ("attention/output", "mlp/hidden", "mlp/output")
        blocks = tuple(f"block{index + 1}/{part}" for index in range(self.blocks) for part in parts)
        return (*blocks, "head") if self.classes else blocks

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits of a batch of log-mels.

        The number of patches, and with it the shape of the positions, follows from the size of the input.

        Args:
          x: (batch, mel bands, frames, 1), at least as large as a patch; the published weights expect natural-log
            filter-bank levels, (level + 4.2677393) / (2 * 4.5689974), of 128 bands and 1,024 frames, as
            `nd_jax.domain.ast()` has them.
          train: dropout, which needs an rng "dropout".

        Returns:
          (batch, classes), or (batch, width) for no classes.

        Raises:
          ValueError: heads do not divide the width, an unknown activation, or an input smaller than a patch.
        """
        check_heads("ast", self.width, self.heads)
        check_activation(self.activation)
        if x.shape[1] < self.patch[0] or x.shape[2] < self.patch[1]:
            raise ValueError(f"ast cuts patches of {self.patch}, more than the input of shape {x.shape} has")
        x = Conv(self.width, self.patch, self.strides, padding="VALID", name="patches")(x)
        x = dropped(Tokens(name="tokens")(x), self.dropout, train)
        for index in range(self.blocks):
            block = Block(
                self.heads,
                self.hidden,
                self.activation,
                self.qkv_bias,
                self.epsilon,
                self.dropout,
                self.attention_dropout,
                name=f"block{index + 1}",
            )
            rate = self.block_dropout * (index + 1) / self.blocks
            x = x + dropped(block(x, train) - x, rate, train, axes=(1, 2)) if train and rate else block(x, train)
        x = Pool(name="pool")(_norm(self.epsilon, "norm")(x))
        if not self.classes:
            return x
        return nn.Dense(self.classes, name="head")(_norm(self.epsilon, "head_norm")(x))
