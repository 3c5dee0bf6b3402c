"""GANSynth: notes as pictures of log-mel power and instantaneous frequency (Engel et al. 2019), grown block by block.

A progressive GAN (Karras et al. 2018) as in magenta/models/gansynth, to the same numbers. At the official size
(128 frames, 1024 bands, 2 channels, 61 pitches) the generator has 7,311,246 parameters, the discriminator 6,831,230.
Block b works at start * 2 ** (b - 1) places with f(b) = min(fmap_base / 2 ** (b * fmap_decay), fmap_max) channels.

| generator                  | shape                         |                                                        |
|----------------------------|-------------------------------|--------------------------------------------------------|
| pixel_norm                 | (latent + classes,)           | of [z, one-hot]: a longer z leaves less of the pitch   |
| block1/conv0, relu0, norm0 | (2, 16, f(1))                 | every place has its own weights; then conv1 ... norm1  |
| block2/conv0 ... norm1     | (4, 32, f(2))                 | after doubling rows and columns; and so on             |
| to_rgb1/conv, tanh ...     | (2, 16, 2)                    | the picture as far as block 1 knows it; one a block    |
| blend                      | (128, 1024, 2)                | these, enlarged, in -1 ... 1; then in data units       |

| discriminator              | shape                         |                                                        |
|----------------------------|-------------------------------|--------------------------------------------------------|
| normalise                  | (128, 1024, 2)                | of data units, cut to -1 ... 1                         |
| from_rgb7/conv, relu ...   | (128, 1024, f(7))             | one a block, of the picture made smaller               |
| block7/conv0 ... relu1     | (128, 1024, f(6))             | block7 is their mean over 2 x 2 places; and so on down |
| deviation                  | (2, 16, f(1) + 1)             | how much the examples of the batch differ              |
| block1/conv0 ... relu1     | (1, 1, f(0))                  | what both heads read                                   |
| logits, pitch              | (1,), (classes,)              | score; which pitch it hears                            |

`progress` is how far the network has grown: at b - 1 block b is the last one, between it is faded in. The layers
are in `gansynth_layers`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from nd_jax.audio.mel_if import NORMAL_OFFSET, NORMAL_SCALE
from nd_jax.networks import conditional
from nd_jax.networks.gansynth_layers import (
    Blend,
    DiscriminatorBlock,
    EqualDense,
    FromRgb,
    GeneratorBlock,
    Normalise,
    PixelNorm,
    ToRgb,
    constants,
    enlarge,
    is_nothing,
    shrink,
)
from nd_jax.networks.layers import MinibatchDeviation

# From (log-mel power, instantaneous frequency) to about -0.8 ... 0.8: silence, log(1e-6), is at -0.8.
GAIN = NORMAL_SCALE
OFFSET = NORMAL_OFFSET

Progress = float | jax.Array


# --- growing ----------------------------------------------------------------------------------------------------------


def channels(block: int, fmap_base: float, fmap_decay: float, fmap_max: int) -> int:
    """f(block): the channels of a block's convolutions; f(0) are those that the heads read."""
    return int(min(fmap_base / 2.0 ** (block * fmap_decay), fmap_max))


def growth(seen: Any, blocks: int, stable: int, fade: int) -> jax.Array:
    """The progress of networks of so many blocks after so many examples (section 4 of Karras et al. 2018).

    Args:
      seen: how many examples they were trained on, a scalar.
      blocks: how many there will be.
      stable: examples of every stage with all its blocks.
      fade: examples of every stage that fades a block in.
    """
    count = jnp.minimum(seen, blocks * stable + (blocks - 1) * fade - 1)
    whole, part = jnp.divmod(count, stable + fade)
    return whole + jnp.maximum(0.0, (part - stable).astype(jnp.float32) / fade)


def generator_shares(progress: Progress, blocks: int) -> list[Any]:
    """How much of every block's picture there is, first block first; they add up to 1 while 0 <= progress < blocks."""
    shares = []
    for block in range(1, blocks + 1):
        rising, falling = progress - (block - 2), block - progress
        if isinstance(progress, float):
            shares.append(max(0.0, min(rising, falling)))
        else:
            shares.append(jnp.maximum(0.0, jnp.minimum(rising, falling)))
    return shares


def discriminator_share(progress: Progress, block: int) -> Any:
    """How much block `block` - 1 reads from the picture itself instead of from `block`."""
    if isinstance(progress, float):
        return min(max(block - 1 - progress, 0.0), 1.0)
    return jnp.clip(block - 1 - progress, 0.0, 1.0)


def blend(x: jax.Array, progress: Progress, grown: int, blocks: int) -> jax.Array:
    """Real pictures with as much detail as the generator's have by now, so that detail gives nobody away.

    Args:
      x: (batch, height, width, channels), in any units.
      progress: see the module.
      grown: how many blocks there are.
      blocks: how many there will be.

    Returns:
      The same shape: the sum over blocks of their share times the picture at their resolution.
    """
    total = jnp.zeros_like(x)
    for block, share in enumerate(generator_shares(progress, grown), start=1):
        if not is_nothing(share):
            factor = 2 ** (blocks - block)
            total = total + share * enlarge(shrink(x, factor), factor)
    return total


# --- players ----------------------------------------------------------------------------------------------------------


class Generator(nn.Module):
    """Family "gansynth_generator".

    Attributes:
      latent: size of the latent.
      classes: how many pitches can be asked for: the input is then {"z": latent, "label": class}; 0 for none.
      blocks: of the grown network; a picture has start * 2 ** (blocks - 1) places, from the first step on.
      grown: how many blocks there are by now; 0 for all.
      progress: how far they are faded in, see the module; None for entirely.
      start: (frames, bands) of block 1.
      fmap_base: see `channels`.
      fmap_decay: likewise.
      fmap_max: likewise.
      gain: what the discriminator's normalisation multiplies data with, one number a channel.
      offset: and adds.
      slope: of the leaky ReLUs.
    """

    latent: int = 256
    classes: int = 61
    blocks: int = 7
    grown: int = 0
    progress: float | None = None
    start: tuple[int, int] = (2, 16)
    fmap_base: float = 4096
    fmap_decay: float = 1.0
    fmap_max: int = 256
    gain: tuple[float, ...] = GAIN
    offset: tuple[float, ...] = OFFSET
    slope: float = 0.2

    conditioning: ClassVar[str] = "concat"
    # Pixel norm runs over [z, one-hot]: a longer z leaves less of the class.
    length_weighs: ClassVar[bool] = True

    @nn.compact
    def __call__(self, z: Any, train: bool = False, progress: Progress | None = None) -> jax.Array:
        """(batch, latent), standard normal, with "label" (batch,) -> pictures (batch, frames, bands, channels).

        `progress` comes before that of the attributes.
        """
        grown, progress = _growth("gansynth_generator", self, progress)
        z, _ = conditional.generator_input(self, z, train)
        x = PixelNorm(name="pixel_norm")(z)
        pictures = []
        for block in range(1, grown + 1):
            features = channels(block, self.fmap_base, self.fmap_decay, self.fmap_max)
            x = GeneratorBlock(features, self.start if block == 1 else None, self.slope, name=f"block{block}")(x)
            pictures.append(ToRgb(len(self.gain), name=f"to_rgb{block}")(x))
        x = Blend(name="blend")(pictures, generator_shares(progress, grown), self.blocks)
        gain, offset = constants(self.gain, self.offset)
        return (x - offset) / gain


class Discriminator(nn.Module):
    """Family "gansynth_discriminator"; it gives {"score": (batch, 1), "label": logits (batch, classes)}.

    The layer `deviation` says how much the examples of a batch differ. A single example is a batch that never was in
    training, so who opens the network up gives it the mean over real batches once and for all: `deviation`, see
    `nd_jax.networks.deviation.frozen`.

    Attributes:
      classes: how many pitches it tells apart; with 0 the output is the score alone.
      blocks: see `Generator`.
      grown: likewise.
      progress: likewise.
      deviation: what the layer `deviation` says when it is not trained; None for what the batch at hand gives. Only a
        frozen one is looked into from there on (`taps.layer_shape`).
      start: see `Generator`.
      fmap_base: likewise.
      fmap_decay: likewise.
      fmap_max: likewise.
      gain: what the input is multiplied with, one number a channel.
      offset: and what is added, before it is cut to -1 ... 1.
      slope: of the leaky ReLUs.
    """

    classes: int = 61
    blocks: int = 7
    grown: int = 0
    progress: float | None = None
    deviation: float | None = None
    start: tuple[int, int] = (2, 16)
    fmap_base: float = 4096
    fmap_decay: float = 1.0
    fmap_max: int = 256
    gain: tuple[float, ...] = GAIN
    offset: tuple[float, ...] = OFFSET
    slope: float = 0.2

    conditioning: ClassVar[str] = "auxiliary"

    @property
    def batch_decides_from(self) -> str | None:
        """The first layer that depends on the other examples of a batch; None where its deviation is frozen."""
        return "deviation" if self.deviation is None else None

    def with_deviation(self, value: float | None) -> Discriminator:
        """The same with its deviation frozen at a value, or live: None."""
        return self.clone(deviation=value)

    @nn.compact
    def __call__(self, x: Any, train: bool = False, progress: Progress | None = None) -> Any:
        """(batch, frames, bands, channels) in data units -> {"score", "label"}; `progress` as in `Generator`."""
        grown, progress = _growth("gansynth_discriminator", self, progress)
        x, _ = conditional.discriminator_input(self, x)
        shape = picture_shape(self)
        if x.shape[1:] != shape:
            words = ", ".join(map(str, shape))
            raise ValueError(f"gansynth_discriminator takes pictures of shape (batch, {words}), got {x.shape}")
        given = Normalise(self.gain, self.offset, name="normalise")(x)
        count = [channels(block, self.fmap_base, self.fmap_decay, self.fmap_max) for block in range(self.blocks + 1)]
        read = {
            block: FromRgb(count[block], self.slope, name=f"from_rgb{block}")(shrink(given, 2 ** (self.blocks - block)))
            for block in range(grown, 0, -1)
        }
        x = read[grown]
        for block in range(grown, 1, -1):
            features = (count[block], count[block - 1])
            x = DiscriminatorBlock(features, None, self.slope, name=f"block{block}")(x)
            share = discriminator_share(progress, block)
            if not is_nothing(share):
                x = share * read[block - 1] + (1.0 - share) * x
        x = MinibatchDeviation(1e-6, constant_mean=True, name="deviation")(x, None if train else self.deviation)
        x = DiscriminatorBlock((count[1], count[0]), self.start, self.slope, name="block1")(x)
        x = x.reshape(x.shape[0], -1)
        score = EqualDense(1, name="logits")(x)
        return {"score": score, "label": EqualDense(self.classes, name="pitch")(x)} if self.classes else score


def picture_shape(module: Generator | Discriminator) -> tuple[int, int, int]:
    """(frames, bands, channels) of the pictures of a module's settings."""
    factor = 2 ** (module.blocks - 1)
    return (module.start[0] * factor, module.start[1] * factor, len(module.gain))


def _growth(family: str, module: Any, progress: Progress | None) -> tuple[int, Progress]:
    """(blocks that there are, progress) after a check of all sizes."""
    if module.blocks < 1 or not 0 <= module.grown <= module.blocks:
        raise ValueError(
            f"{family} needs 1 block or more and at most as many grown ones, not blocks {module.blocks} and grown "
            f"{module.grown}"
        )
    if min(module.start) < 1 or len(module.gain) != len(module.offset) or 0.0 in module.gain:
        raise ValueError(
            f"{family} needs a start of 1 or more places each way and one gain, not 0, and offset a channel, got start "
            f"{module.start}, gain {module.gain} and offset {module.offset}"
        )
    if channels(module.blocks, module.fmap_base, module.fmap_decay, module.fmap_max) < 1:
        raise ValueError(
            f"fmap_base {module.fmap_base:g} leaves block {module.blocks} of {family} no channels; take "
            f"{2.0 ** (module.blocks * module.fmap_decay):g} or more"
        )
    grown = module.grown or module.blocks
    if module.progress is not None and not 0.0 <= module.progress <= grown - 1.0:
        raise ValueError(f"progress of {family} with {grown} blocks is 0 to {grown - 1}, not {module.progress}")
    if progress is None:
        progress = float(grown - 1) if module.progress is None else float(module.progress)
    return grown, progress


__all__ = [
    "GAIN",
    "OFFSET",
    "Discriminator",
    "Generator",
    "blend",
    "channels",
    "discriminator_share",
    "enlarge",
    "generator_shares",
    "growth",
    "picture_shape",
    "shrink",
]
