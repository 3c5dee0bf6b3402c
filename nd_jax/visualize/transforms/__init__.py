"""Random perturbations between a parameterization and the network, so that what is found does not hang on one pixel.

A transform is a hashable frozen dataclass, made by a lower-case function: a pure function of (key, x, domain) for ONE
example, which keeps the shape and the range and is never written back into what is optimized. `check(domain)`
refuses what makes no sense there.

| for                                | transforms                                                                  |
|------------------------------------|-----------------------------------------------------------------------------|
| sound                              | `time_shift`, `gain`, `noise`, `time_mask`, `band_mask`, `blur`             |
| spectrograms of levels only        | `time_stretch`, `bilateral`                                                 |
| images                             | `jitter`, `scale`, `rotate`, `padding`, `blur`, `bilateral`, `brightness`,  |
|                                    | `contrast`, `saturation`, `hue`                                             |
| any one array                      | `noise(sd=...)`                                                             |
| a generator's latent               | `latent_noise`, `latent_dropout`                                            |
| refused on sound unless asked for  | `frequency_shift`, `frequency_flip`, `time_reverse`, `jitter`, `scale`,     |
|                                    | `rotate`                                                                    |
| to put together                    | `compose`, `on_part`, `none`, `default(domain)`                             |
"""

from __future__ import annotations

from nd_jax.domain import Domain, Parts
from nd_jax.visualize.transforms import core as _core
from nd_jax.visualize.transforms.core import Transform, compose, none, on_part
from nd_jax.visualize.transforms.image import (
    brightness,
    contrast,
    hue,
    jitter,
    padding,
    rotate,
    saturation,
    scale,
)
from nd_jax.visualize.transforms.latent import latent_dropout, latent_noise
from nd_jax.visualize.transforms.smooth import bilateral, blur
from nd_jax.visualize.transforms.sound import (
    band_mask,
    frequency_flip,
    frequency_shift,
    gain,
    noise,
    time_mask,
    time_reverse,
    time_shift,
    time_stretch,
)

__all__ = [
    "Transform",
    "band_mask",
    "bilateral",
    "blur",
    "brightness",
    "compose",
    "contrast",
    "default",
    "frequency_flip",
    "frequency_shift",
    "gain",
    "hue",
    "jitter",
    "latent_dropout",
    "latent_noise",
    "noise",
    "none",
    "on_part",
    "padding",
    "rotate",
    "saturation",
    "scale",
    "time_mask",
    "time_reverse",
    "time_shift",
    "time_stretch",
]


def default(domain: Domain) -> tuple[Transform, ...]:
    """The transforms that are physically valid for a domain, as strong as real networks take them for the same sound.

    Sound is shifted by up to 1/32 of its length, made up to 10 % longer or shorter (spectrograms), and up to 1.5 dB
    louder or softer: all three together move the median unit of every layer of the shipped sound networks by less
    than half of its standard deviation over natural sounds and change less than 3 % of their labels
    (`experiments/invariance.py`, docs/priors.md). Images are moved as Lucid moves its pictures of 128 pixels: jittered
    by 1/16 of the side, scaled by up to 10 % and turned by up to 10 degrees. Latents and other numbers are left alone;
    in a `Parts` domain every part has its own.
    """
    if isinstance(domain, Parts):
        return tuple(on_part(name, each) for name, part in domain.parts.items() for each in default(part))
    if domain.kind == "image":
        side = max(1, min(domain.shape[:2]) // 16)
        return (jitter(side), scale(), rotate(10.0)) if min(domain.shape[:2]) > 1 else ()
    if not domain.is_sound:
        return ()
    axis, step = _core.time_axis("time_shift", domain)
    steps = domain.shape[axis]
    moves: tuple[Transform, ...] = (time_shift(max(1, steps // 32) * step),) if steps > 1 else ()
    if _core.is_waveform(domain):
        return (*moves, gain(1.5))
    return (*moves, time_stretch(), gain(1.5)) if _core.has_levels(domain) else moves
