"""What stands where something is taken away. Zero is not silence on a log-mel, and silence is not always neutral.

| name          | what it is                                                                                   |
|---------------|----------------------------------------------------------------------------------------------|
| "silence"     | the domain's own: the floor of a log-mel, 0 of a waveform, the middle grey of an image       |
| "mean"        | one number: the mean of the clip, per channel                                                |
| "band_mean"   | the mean of every band of the clip over time (of every pixel column for images: use "mean")  |
| "noise"       | normal noise with the mean and spread of the clip, per band where there are bands            |
| "blur"        | the clip through a Gaussian                                                                  |
| "neighbours"  | in-painting: a straight line between what stands on both sides of a window (`occlusion` only) |
| a number      | that number everywhere                                                                       |
| an array      | another clip, or one for each                                                                |
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.attribute.targets import clip_keys
from nd_jax.domain import Domain
from nd_jax.runtime import nearest

NAMES = ("silence", "mean", "band_mean", "noise", "blur", "neighbours")
NEIGHBOURS = "neighbours"


def baseline_of(
    domain: Domain,
    x: jax.Array,
    baseline: Any,
    *,
    key: jax.Array | None = None,
    blur: float = 4.0,
) -> jax.Array:
    """The baseline of every clip.

    Args:
      domain: of the inputs.
      x: clips, (clips, *domain.shape).
      baseline: a name, a number, or an array (*domain.shape) or (clips, *domain.shape); see the module's table.
      key: for "noise".
      blur: standard deviation of "blur", in steps of every axis but the channels.

    Returns:
      (clips, *domain.shape); of "neighbours" that of "silence", which stands where a window leaves no neighbour.

    Raises:
      ValueError: an unknown name, a shape that does not fit, noise without a key, bands that there are not.
    """
    if isinstance(baseline, str):
        return _named(domain, x, baseline, key, blur)
    if baseline is None:
        raise ValueError(f"a baseline is one of {', '.join(NAMES)}, a number or an array, not None")
    values = jnp.asarray(baseline, jnp.float32)
    if not np.all(np.isfinite(np.asarray(values))):
        raise ValueError("a baseline is made of finite numbers, and some are not")
    if values.shape not in ((), x.shape[1:], x.shape):
        raise ValueError(
            f"a baseline is a name, one number, or an array of shape {x.shape[1:]} or {x.shape}, not {values.shape}"
        )
    return jnp.broadcast_to(values, x.shape)


def _named(domain: Domain, x: jax.Array, name: str, key: jax.Array | None, blur: float) -> jax.Array:
    if name not in NAMES:
        raise ValueError(f"unknown baseline {name!r}; {nearest(name, NAMES)}")
    if name in ("silence", NEIGHBOURS):
        return jnp.broadcast_to(jnp.asarray(domain.silence(), jnp.float32), x.shape)
    names = [axis.name for axis in domain.axes]
    channels = names[-1] == "channel"
    inner = tuple(range(1, x.ndim - 1)) if channels else tuple(range(1, x.ndim))
    if name == "mean":
        return jnp.broadcast_to(jnp.mean(x, axis=inner, keepdims=True), x.shape)
    if name == "blur":
        if not 0 < blur < float("inf"):
            raise ValueError(f"blur is a finite number of steps above 0, got {blur!r}")
        return blurred(x, blur, inner)
    if "time" in names:
        over: tuple[int, ...] = (1 + names.index("time"),)
    elif name == "band_mean":
        raise ValueError(f"baseline 'band_mean' needs a domain with a time axis, and {domain.kind!r} has none")
    else:
        over = inner
    mean = jnp.mean(x, axis=over, keepdims=True)
    if name == "band_mean":
        return jnp.broadcast_to(mean, x.shape)
    if key is None:
        raise ValueError("baseline 'noise' draws numbers: give key=jax.random.key(...)")
    drawn = jax.vmap(lambda each: jax.random.normal(each, x.shape[1:]))(clip_keys(key, x))
    noisy = mean + jnp.std(x, axis=over, keepdims=True) * drawn
    return jnp.clip(noisy, domain.low, domain.high)


def blurred(x: jax.Array, sd: float, axes: tuple[int, ...]) -> jax.Array:
    """x through a Gaussian of standard deviation `sd` steps along some axes; the ends are mirrored."""
    for axis in axes:
        matrix = jnp.asarray(gaussian(x.shape[axis], sd))
        x = jnp.moveaxis(jnp.tensordot(matrix, x, axes=(1, axis), precision="highest"), 0, axis)
    return x


def gaussian(size: int, sd: float) -> np.ndarray:
    """The matrix (size, size) of a Gaussian of standard deviation `sd` steps with mirrored ends; rows add up to 1."""
    places = np.arange(size)
    total = np.zeros((size, size))
    # Images of the signal on both sides, as far as the Gaussian reaches.
    turns = int(np.ceil(4 * sd / size)) + 1
    for turn in range(-turns, turns + 1):
        image = turn * size + (places if turn % 2 == 0 else size - 1 - places)
        total += np.exp(-0.5 * np.square((places[:, None] - image[None]) / sd))
    return (total / total.sum(axis=1, keepdims=True)).astype(np.float32)
