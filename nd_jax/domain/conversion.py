"""From what one network makes to what another one takes: the differentiable way from a domain to another."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from nd_jax.audio.resampling import resample_fft
from nd_jax.domain.core import Domain
from nd_jax.domain.mel_if import MelIF
from nd_jax.domain.plain import Image, Parts
from nd_jax.domain.sound import LogMel, Waveform

Convert = Callable[[Any], jax.Array]


def converter(source: Domain, target: Domain) -> Convert:
    """A function from one example of `source` to one of `target`; pure, differentiable, vmappable.

    | from              | to       | how                                                                           |
    |-------------------|----------|-------------------------------------------------------------------------------|
    | the same domain   |          | as it is                                                                      |
    | Image             | Image    | of the same shape: the range is mapped linearly                               |
    | Waveform          | Waveform | resampled (`resample_fft`), centred: cut or padded with silence               |
    | Waveform          | LogMel   | the same, then the target's own front end                                     |
    | Waveform          | MelIF    | likewise                                                                      |
    | LogMel            | LogMel   | of the same front end: levels in dB into the other range, centred as above    |
    | MelIF             | sound    | its wave, through its own phases, then as a Waveform                          |
    | has `to_wave(x)`  | sound    | its wave (samples,) at its `sample_rate`, then as a Waveform                  |

    Raises:
      ValueError: no such way, in one sentence that says what would fit.
    """
    if source == target:
        return lambda x: x
    if isinstance(source, Image) and isinstance(target, Image) and source.shape == target.shape:
        factor = (target.high - target.low) / (source.high - source.low)
        return lambda x: target.low + (x - source.low) * factor
    if isinstance(source, LogMel) and isinstance(target, LogMel):
        return _levels(source, target)
    if isinstance(target, (Waveform, LogMel, MelIF)):
        if isinstance(source, Waveform):
            low, span = source.low, source.high - source.low
            return _sound(lambda x: (x[..., 0] - low) * (2.0 / span) - 1.0, source.sample_rate, target)
        if hasattr(source, "to_wave") and hasattr(source, "sample_rate"):
            return _sound(source.to_wave, source.sample_rate, target)
    raise ValueError(f"{_words(source)} cannot become {_words(target)}; what fits is {_fitting(target)}")


def centred(x: jax.Array, size: int, axis: int, fill: Any = 0.0) -> jax.Array:
    """x with `size` steps along an axis: its middle, or x in the middle of `fill`."""
    missing = size - x.shape[axis]
    if missing > 0:
        width = [(missing // 2, missing - missing // 2) if place == axis else (0, 0) for place in range(x.ndim)]
        return jnp.pad(x, width, constant_values=fill)
    first = -missing // 2
    return jax.lax.slice_in_dim(x, first, first + size, axis=axis)


def _sound(wave_of: Callable[[Any], jax.Array], rate: int, target: Waveform | LogMel | MelIF) -> Convert:
    def convert(x: Any) -> jax.Array:
        wave = centred(resample_fft(wave_of(x), int(rate), target.sample_rate), target.samples, 0)
        # The low-pass may overshoot full scale.
        return target.from_wave(jnp.clip(wave, -1.0, 1.0) if isinstance(target, Waveform) else wave)

    return convert


def _levels(source: LogMel, target: LogMel) -> Convert:
    if type(source.transform) is not type(target.transform):
        raise ValueError(f"{_words(source)} cannot become {_words(target)}; what fits is {_fitting(target)}")
    ours, theirs = (dataclasses.asdict(each.transform) for each in (source, target))
    ours["f_max"], theirs["f_max"] = (each.transform.f_max or each.sample_rate / 2 for each in (source, target))
    ours["win_length"], theirs["win_length"] = (
        each.transform.win_length or each.transform.n_fft for each in (source, target)
    )
    for name in ours:
        if name != "floor_db" and ours[name] != theirs[name]:
            raise ValueError(
                f"log-mel spectrograms with {name} {ours[name]!r} cannot become those with {name} {theirs[name]!r}; "
                f"what fits is {_fitting(target)}"
            )
    return lambda x: centred(target.from_db(source.to_db(x)), target.frames, 1)


def _fitting(target: Domain) -> str:
    if isinstance(target, LogMel):
        return "the same front end with any floor, ceiling and number of frames, or sound of any rate and length"
    if isinstance(target, (Waveform, MelIF)):
        return "sound of any rate and length"
    if isinstance(target, Image):
        return f"images of shape {target.shape} in any range"
    return "the same domain"


def _words(domain: Domain) -> str:
    if isinstance(domain, Parts):
        return f"a dict with the parts {sorted(domain.parts)}"
    return f"a {domain.kind!r} of shape {tuple(domain.shape)}"
