"""BEATs, a transformer of sound (Chen et al. 2022, arXiv 2212.09058); the defaults are the published base network.

Patches of a log-mel that do not overlap become tokens, in the order of time and within one time of frequency; a
convolution over the tokens tells them their places; transformer blocks follow whose attention knows how far apart two
tokens are. Layers and their output shapes for a (128, 498, 1) input (5 s) and the published sizes:

| layer                    | shape           |                                                                   |
|--------------------------|-----------------|-------------------------------------------------------------------|
| patches                  | (8, 31, 512)    | one token a patch: frequency, time                                |
| patch_norm               | (248, 512)      | the tokens, time-major                                            |
| projection               | (248, 768)      | missing where the patches have the encoder's width already        |
| places                   | (248, 768)      | what is added to a token; places/conv before its GELU             |
| norm                     | (248, 768)      | in front of the blocks, or with `norm_first` behind them          |
| distances                | (12, 248, 248)  | what a head adds for the distance of two tokens, before its gate  |
| block1/attention/query   | (248, 768)      | and key, value                                                    |
| block1/attention/gates   | (12, 248, 8)    | of the distances, for every head and token                        |
| block1/attention/weights | (12, 248, 248)  | what each token attends to: head, from, to                        |
| block1/attention         | (248, 768)      | after the output projection (block1/attention/output too)         |
| block1/norm1             | (248, 768)      | and block1/norm2                                                  |
| block1/mlp/hidden        | (248, 3072)     | before its activation, block1/mlp/gelu                            |
| block1/mlp               | (248, 768)      | before it is added (block1/mlp/output too)                        |
| block1                   | (248, 768)      | block2 ... block12                                                |
| head                     | (248, 527)      | logits of every token                                             |
| pool                     | (527,)          | their mean over the tokens                                        |
"""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.networks.conv import Conv
from nd_jax.networks.transformer import MLP, Activation, Softmax, check_activation, check_heads, dropped

_EPSILON = 1e-5
_GATES = 8


def _norm(name: str) -> nn.LayerNorm:
    return nn.LayerNorm(_EPSILON, use_fast_variance=False, name=name)


def distance_buckets(tokens: int, buckets: int, farthest: int) -> np.ndarray:
    """Which bucket the distance between two tokens falls into: (tokens, tokens) from, to; 0 ... buckets - 1.

    One half of the buckets is for tokens that come later. In each half the first half of the buckets are single
    distances, the others grow in proportion to the distance up to `farthest` (Raffel et al. 2020, T5).

    Raises:
      ValueError: fewer than four buckets, or a `farthest` distance that is one of the single ones.
    """
    half = buckets // 2
    single = half // 2
    if single < 1 or not farthest > single:
        raise ValueError(
            f"beats needs at least 4 buckets and a max_distance above a quarter of them, got {buckets} and {farthest}"
        )
    offset = np.arange(tokens)[None, :] - np.arange(tokens)[:, None]
    distance = np.abs(offset)
    # In float32 and in this order: it decides which bucket a distance on an edge falls into.
    share = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(single)) / np.float32(
        math.log(farthest / single)
    )
    grown = single + (share * np.float32(half - single)).astype(np.int64)
    return half * (offset > 0) + np.where(distance < single, distance, np.minimum(grown, half - 1))


def shorter_mask(mask: jax.Array, steps: int) -> jax.Array:
    """A padding mask, (batch, n), for a coarser clock: (batch, steps), True where all of a step is padding.

    Of n steps the last n % steps are left out; so the original has it, for samples to frames and frames to tokens.

    Raises:
      ValueError: a mask that is shorter than the coarser clock.
    """
    batch, count = mask.shape
    if count < steps:
        raise ValueError(f"a padding mask of {count} steps cannot mask {steps}")
    return mask[:, : count - count % steps].reshape(batch, steps, -1).all(axis=-1)


class Places(nn.Module):
    """A grouped convolution over the tokens and a GELU: what tells a token where it is.

    The original normalises the kernel's weights while it is trained; here the kernel is what comes of it.
    """

    size: int
    groups: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, tokens, width) -> (batch, tokens, width)."""
        pads = [(self.size // 2, (self.size - 1) // 2)]
        conv = Conv(x.shape[-1], (self.size,), padding=pads, feature_group_count=self.groups, name="conv")
        return Activation("gelu", name="gelu")(conv(x))


class Distances(nn.Module):
    """What every head adds to its scores for the distance of two tokens; parameter `embedding` (buckets, heads)."""

    heads: int
    buckets: int
    farthest: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, tokens, width) -> (batch, heads, tokens, tokens), the same for every example."""
        batch, tokens, _ = x.shape
        table = self.param("embedding", nn.initializers.normal(0.02), (self.buckets, self.heads), jnp.float32)
        places = distance_buckets(tokens, self.buckets, self.farthest)
        bias = jnp.transpose(table[places], (2, 0, 1))
        return jnp.broadcast_to(bias[None], (batch, self.heads, tokens, tokens))


class Attention(nn.Module):
    """Multi-head self-attention with distances, which each token and head may turn up or down.

    With `gated`, a head's gate g is made from its query q: two numbers a, b = sigmoid(sums of 4 of `gates`(q)), and
    g = a (b `scale` - 1) + 2.

    Parameters beside those of its dense layers: `scale` (heads,).
    """

    heads: int
    gated: bool
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, x: jax.Array, distances: jax.Array | None, padding: jax.Array | None = None, train: bool = False
    ) -> jax.Array:
        """(batch, tokens, width), (batch, heads, tokens, tokens), (batch, tokens) -> (batch, tokens, width)."""
        batch, tokens, width = x.shape
        depth = width // self.heads

        def split(name: str) -> jax.Array:
            y = nn.Dense(width, name=name)(x).reshape(batch, tokens, self.heads, depth)
            return jnp.transpose(y, (0, 2, 1, 3))

        query, key, value = split("query"), split("key"), split("value")
        scores = jnp.einsum("bhqd,bhkd->bhqk", query * depth**-0.5, key)
        if self.gated:
            # Parameters of the gates exist without distances too, as in the original.
            scale = self.param("scale", nn.initializers.ones_init(), (self.heads,), jnp.float32)
            gates = nn.Dense(_GATES, name="gates")(query).reshape(batch, self.heads, tokens, 2, _GATES // 2)
            first, second = jnp.moveaxis(nn.sigmoid(gates.sum(axis=-1)), -1, 0)
            gate = first * (second * scale[None, :, None] - 1.0) + 2.0
            distances = None if distances is None else gate[..., None] * distances
        if distances is not None:
            scores = scores + distances
        if padding is not None:
            scores = jnp.where(padding[:, None, None, :], jnp.finfo(scores.dtype).min, scores)
        weights = dropped(Softmax(name="weights")(scores), self.dropout, train)
        mixed = jnp.einsum("bhqk,bhkd->bqhd", weights, value).reshape(batch, tokens, width)
        return nn.Dense(width, name="output")(mixed)


class Block(nn.Module):
    """A transformer block: norm1(a x + attention(x)), then norm2(a x + mlp(x)); with `norm_first` a norm comes first.

    Attributes:
      residual: a, what x is multiplied by before it is added.
    """

    heads: int
    hidden: int
    activation: str
    norm_first: bool
    residual: float
    gated: bool
    dropout: float
    attention_dropout: float
    activation_dropout: float

    @nn.compact
    def __call__(
        self, x: jax.Array, distances: jax.Array | None, padding: jax.Array | None = None, train: bool = False
    ) -> jax.Array:
        """(batch, tokens, width), (batch, heads, tokens, tokens), (batch, tokens) -> (batch, tokens, width)."""
        norm1, norm2 = _norm("norm1"), _norm("norm2")
        attention = Attention(self.heads, self.gated, self.attention_dropout, name="attention")
        mlp = MLP(self.hidden, self.activation, self.activation_dropout, name="mlp")
        if self.norm_first:
            x = x + dropped(attention(norm1(x), distances, padding, train), self.dropout, train)
            return x + dropped(mlp(norm2(x), train), self.dropout, train)
        x = norm1(self.residual * x + dropped(attention(x, distances, padding, train), self.dropout, train))
        return norm2(self.residual * x + dropped(mlp(x, train), self.dropout, train))


class Pool(nn.Module):
    """Mean over the tokens that are not padding."""

    def __call__(self, x: jax.Array, padding: jax.Array | None = None) -> jax.Array:
        """(batch, tokens, units), (batch, tokens) -> (batch, units)."""
        if padding is None:
            return x.mean(axis=1)
        kept = jnp.where(padding[..., None], 0.0, x).sum(axis=1)
        return kept / jnp.maximum((~padding).sum(axis=1), 1)[:, None]


class BEATs(nn.Module):
    """Family "beats"; see the module's table.

    Attributes:
      classes: number of logits; 0 for the encoder alone, whose output are the tokens of the last block.
      patch: mel bands and frames of a patch.
      embed: numbers of a patch.
      width: numbers of a token; patches of another width are projected.
      blocks: transformer blocks.
      heads: attention heads of a block; they share the width evenly.
      hidden: units of a block's MLP.
      activation: of the MLP, "glu" or one of `transformer.ACTIVATIONS`.
      patch_bias: whether patches have a bias.
      norm_first: normalise before attention and MLP (and once more at the end), not after.
      deep_norm: what a block adds to is first multiplied by (2 blocks) ** (1 / 4).
      places: tokens that the convolution of the places sees.
      place_groups: its groups.
      distances: whether attention knows the distance of two tokens.
      buckets: that distances fall into.
      farthest: distances from here on are one.
      gated: whether distances are gated.
      dropout, attention_dropout, activation_dropout, input_dropout, head_dropout: rates in training.
      block_dropout: how often an example skips a block in training.
    """

    classes: int = 527
    patch: int = 16
    embed: int = 512
    width: int = 768
    blocks: int = 12
    heads: int = 12
    hidden: int = 3072
    activation: str = "gelu"
    patch_bias: bool = False
    norm_first: bool = False
    deep_norm: bool = True
    places: int = 128
    place_groups: int = 16
    distances: bool = True
    buckets: int = 320
    farthest: int = 800
    gated: bool = True
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    input_dropout: float = 0.0
    head_dropout: float = 0.0
    block_dropout: float = 0.0

    @property
    def dissected_layers(self) -> tuple[str, ...]:
        """The dense layers that Audio Network Dissection labels (Wu et al. 2024), as `taps` names them."""
        blocks = (f"block{index + 1}/mlp/{part}" for index in range(self.blocks) for part in ("hidden", "output"))
        return (*blocks, "head") if self.classes else tuple(blocks)

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False, padding_mask: jax.Array | None = None) -> jax.Array:
        """Logits of a batch of log-mels, or the tokens of the last block.

        Args:
          x: (batch, mel bands, frames, 1), at least as large as a patch; the published weights expect levels as
            `nd_jax.domain.beats()` has them. What is beyond the last whole patch is not seen.
          train: dropout (needs an rng "dropout").
          padding_mask: (batch, n) bool, True where there is padding; n are samples or frames. Padded tokens neither
            count nor are attended to; what comes out for them means nothing.

        Returns:
          (batch, classes), the mean of the logits of all tokens; or (batch, tokens, width) for no classes.

        Raises:
          ValueError: settings that contradict each other, an input smaller than a patch, a mask that is too short.
        """
        self._check(x)
        y = Conv(self.embed, (self.patch,) * 2, (self.patch,) * 2, "VALID", use_bias=self.patch_bias, name="patches")(x)
        tokens = _norm("patch_norm")(jnp.swapaxes(y, 1, 2).reshape(y.shape[0], -1, self.embed))
        if self.embed != self.width:
            tokens = nn.Dense(self.width, name="projection")(tokens)
        padding = None
        if padding_mask is not None:
            padding = shorter_mask(shorter_mask(padding_mask, x.shape[2]), tokens.shape[1])
        tokens = self._encoded(dropped(tokens, self.input_dropout, train), padding, train)
        if not self.classes:
            return tokens
        logits = nn.Dense(self.classes, name="head")(dropped(tokens, self.head_dropout, train))
        return Pool(name="pool")(logits, padding)

    def _encoded(self, x: jax.Array, padding: jax.Array | None, train: bool) -> jax.Array:
        """(batch, tokens, width) -> (batch, tokens, width)."""
        if padding is not None:
            x = jnp.where(padding[..., None], 0.0, x)
        x = x + Places(self.places, self.place_groups, name="places")(x)
        norm = _norm("norm")
        x = dropped(x if self.norm_first else norm(x), self.dropout, train)
        distances = None
        if self.distances:
            distances = Distances(self.heads, self.buckets, self.farthest, name="distances")(x)
        for index in range(self.blocks):
            block = Block(
                self.heads,
                self.hidden,
                self.activation,
                self.norm_first,
                (2.0 * self.blocks) ** 0.25 if self.deep_norm else 1.0,
                self.gated,
                self.dropout,
                self.attention_dropout,
                self.activation_dropout,
                name=f"block{index + 1}",
            )
            y = block(x, distances, padding, train)
            if train and self.block_dropout:
                # Dropout scales what it keeps, and the original does not.
                y = x + (1.0 - self.block_dropout) * dropped(y - x, self.block_dropout, train, axes=(1, 2))
            x = y
        return norm(x) if self.norm_first else x

    def _check(self, x: jax.Array) -> None:
        check_heads("beats", self.width, self.heads)
        check_activation(self.activation, glu=True)
        if self.place_groups < 1 or self.width % self.place_groups or self.places < 1:
            raise ValueError(
                f"beats needs 1 place or more and place_groups that divide the width, got places {self.places}, "
                f"place_groups {self.place_groups} and width {self.width}"
            )
        if self.deep_norm and self.norm_first:
            raise ValueError("deep_norm is for blocks that normalise at the end: it does not go with norm_first")
        if min(x.shape[1:3]) < self.patch:
            raise ValueError(
                f"beats cuts patches of {self.patch} x {self.patch}, more than the input of shape {x.shape} has"
            )
