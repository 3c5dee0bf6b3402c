"""Occlusion: take a window away and see how far the score falls (Zeiler & Fergus 2014, section 4.2).

For windows p with masks M_p, baseline b and score f

    x_p = x (1 - M_p) + b M_p,   d_p = f(x) - f(x_p),   A = sum_p d_p M_p / sum_p M_p

as Captum has it: every value gets the mean fall of the windows that cover it. Clips, targets and windows go through one
compiled program, `chunk_size` occluded inputs at a time: memory is bounded, the number of chunks is known beforehand.
All lanes of an objective come from the same forward passes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.attribute import targets
from nd_jax.attribute.attribution import Attribution
from nd_jax.attribute.baselines import NEIGHBOURS, baseline_of
from nd_jax.attribute.spectra import TimeFrequency
from nd_jax.attribute.windows import Grid, grid
from nd_jax.domain import Waveform
from nd_jax.network import Network
from nd_jax.runtime import progress_bar

Way = str | TimeFrequency


def occlusion(
    network: Network,
    x: Any,
    target: targets.Target,
    *,
    window: int | Sequence[int] | None = None,
    stride: int | Sequence[int] | None = None,
    time: Any = None,
    time_stride: float | None = None,
    frequency: Any = None,
    frequency_stride: float | None = None,
    n_fft: int = 512,
    baseline: Any = "silence",
    key: jax.Array | None = None,
    blur: float = 4.0,
    chunk_size: int = 64,
    progress: bool | Callable[[int, int], None] = False,
) -> Attribution:
    """How much the score falls when parts of an input are taken away.

    Args:
      network: any Network that takes one array.
      x: one input or several, (*shape) or (clips, *shape).
      target: a class (its logit), one class for each clip, or an objective; see `targets`.
      window: its size along every axis in steps, Captum's `sliding_window_shapes`; one number is for all axes but the
        channels. Or seconds and Hz:
      stride: of the window, 1 by default.
      time: width of a window in seconds, edges of segments in seconds, or such edges for each clip (`onsets`).
      time_stride: seconds between windows.
      frequency: width of a band in Hz, or edges in Hz (`bands`). Of a waveform the band is taken out of its short-time
        spectrum: x - ISTFT(M STFT(x - baseline)), and the map has its shape, (bins, frames).
      frequency_stride: Hz between bands.
      n_fft: samples of a frame of that spectrum.
      baseline: what stands in the window: "silence", "mean", "band_mean", "noise", "blur", "neighbours", a number, or
        another clip; see `baselines`.
      key: for "noise".
      blur: for "blur", in steps.
      chunk_size: occluded inputs that the network sees at once.
      progress: True for a bar with the time left, or a function of (windows done, in total).

    Returns:
      An `Attribution` whose values have the shape of x. Where no window comes they are 0.

    Raises:
      LayerError, ValueError: whatever does not fit, in one sentence, before anything runs.
    """
    targets.whole("chunk_size", chunk_size)
    values, several = targets.inputs(network, x)
    goal, own = targets.bound(network, target, len(values))
    seen: Any = network.input
    if isinstance(seen, Waveform) and frequency is not None:
        seen = TimeFrequency(seen, n_fft)
    windows = grid(
        seen,
        window=window,
        stride=stride,
        time=time,
        time_stride=time_stride,
        frequency=frequency,
        frequency_stride=frequency_stride,
    )
    if windows.clips not in (1, len(values)):
        raise ValueError(f"there are edges for {windows.clips} clips, and {len(values)} clips")
    instead = baseline_of(network.input, values, baseline, key=key, blur=blur)
    way: Way = seen if seen is not network.input else "values"
    if isinstance(baseline, str) and baseline == NEIGHBOURS:
        if way != "values":
            raise ValueError("baseline 'neighbours' is for values, not for the short-time spectrum of a waveform")
        way = NEIGHBOURS
    falls, scores = sweep(network, goal, values, instead, windows, int(chunk_size), way, progress)
    if own is not None:
        falls = np.take_along_axis(falls, own[:, None, None], axis=1)
        scores = np.take_along_axis(scores, own[:, None], axis=1)
    maps = np.stack([_averaged(windows, fall, clip) for clip, fall in enumerate(falls)])
    found = [targets.shaped(each, own, several) for each in (maps, scores, falls)]
    view = seen if isinstance(seen, TimeFrequency) else None
    return Attribution(found[0], found[1], goal.labels, "occlusion", network.input, found[2], windows, view=view)


def sweep(
    network: Network,
    goal: Any,
    x: jax.Array,
    baseline: jax.Array,
    windows: Grid,
    chunk_size: int,
    way: Way = "values",
    progress: bool | Callable[[int, int], None] = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Every window of every clip.

    Args:
      network: as `occlusion`.
      goal: a bound objective.
      x: (clips, *shape).
      baseline: (clips, *shape).
      windows: what is taken away.
      chunk_size: occluded inputs at once.
      way: how: "values" are replaced, "neighbours" drawn on, or a window of a short-time spectrum taken out.
      progress: as `occlusion`.

    Returns:
      (clips, lanes, windows) how far the score falls, and (clips, lanes) the scores, both float64.
    """
    clips, count = len(x), len(windows)
    places = [windows.places(clip) for clip in range(clips)]
    starts, ends = (np.concatenate([place[side] for place in places]) for side in (0, 1))
    clip = np.repeat(np.arange(clips, dtype=np.int32), count)
    arrays = jax.tree.map(jnp.asarray, goal.arrays)
    given: Any = (x, baseline)
    if isinstance(way, TimeFrequency):
        given = (x, jax.jit(way.spectrum)(x - baseline))
    whole = np.zeros((clips, len(windows.axes)), np.int32)
    # Clips as they are go through the same program as occluded ones: a window without steps takes nothing away.
    starts, ends = np.concatenate([whole, starts]), np.concatenate([whole, ends])
    clip = np.concatenate([np.arange(clips, dtype=np.int32), clip])
    size = min(chunk_size, len(clip))
    found = []
    with progress_bar(len(clip), "window", progress) as advance:
        for first in range(0, len(clip), size):
            rows = np.minimum(np.arange(first, first + size), len(clip) - 1)
            part = _chunk(network, goal.spec, arrays, *given, clip[rows], starts[rows], ends[rows], way)
            found.append(part)
            if len(found) > 1:
                # One chunk is in flight while the one before is waited for.
                found[-2] = np.asarray(found[-2])
            advance(min(size, len(clip) - first))
    scores = np.concatenate([np.asarray(part, np.float64) for part in found])[: len(clip)]
    plain = scores[:clips]
    if not np.all(np.isfinite(scores)):
        raise ValueError("the network gives scores that are not finite numbers for some of the occluded inputs")
    falls = plain[:, None] - scores[clips:].reshape(clips, count, -1)
    empty = np.any(ends[clips:] <= starts[clips:], axis=1).reshape(clips, count)
    return np.moveaxis(np.where(empty[..., None], 0.0, falls), 2, 1), plain


@functools.partial(jax.jit, static_argnames=("spec", "way"))
def _chunk(
    network: Network,
    spec: Any,
    arrays: Any,
    x: jax.Array,
    other: jax.Array,
    clip: jax.Array,
    starts: jax.Array,
    ends: jax.Array,
    way: Way,
) -> jax.Array:
    """Scores (chunk, lanes) of clips without a window each; `other` is the baseline, or the spectrum to take from."""

    def one(clip: jax.Array, start: jax.Array, end: jax.Array) -> jax.Array:
        mask = covered(other.shape[1:], start, end)
        if isinstance(way, TimeFrequency):
            return x[clip] - way.sound(jnp.where(mask, other[clip], 0.0))
        instead = neighbours(x[clip], other[clip], start, end) if way == NEIGHBOURS else other[clip]
        return jnp.where(mask, instead, x[clip])

    return targets.scores(network, spec, arrays, jax.vmap(one)(clip, starts, ends))


def covered(shape: tuple[int, ...], start: jax.Array, end: jax.Array) -> jax.Array:
    """The mask of a window, at the rank of `shape`: True where every axis is in its interval."""
    mask = jnp.ones((1,) * len(shape), bool)
    for axis, size in enumerate(shape):
        order = jnp.arange(size).reshape((1,) * axis + (-1,) + (1,) * (len(shape) - axis - 1))
        mask = mask & (order >= start[axis]) & (order < end[axis])
    return mask


def neighbours(x: jax.Array, otherwise: jax.Array, start: jax.Array, end: jax.Array) -> jax.Array:
    """Straight lines across a window between what stands next to it, the mean over the axes that it does not fill.

    At an end of an axis the one neighbour that there is goes on; where a window fills all axes stands `otherwise`.
    """
    total, count = jnp.zeros_like(x), jnp.zeros(())
    for axis, size in enumerate(x.shape):
        before, after = start[axis] - 1, end[axis]
        has_before, has_after = before >= 0, after < size
        left = jnp.take(x, jnp.maximum(before, 0), axis=axis)
        right = jnp.take(x, jnp.minimum(after, size - 1), axis=axis)
        left, right = jnp.where(has_before, left, right), jnp.where(has_after, right, left)
        order = jnp.arange(size).reshape((1,) * axis + (-1,) + (1,) * (x.ndim - axis - 1))
        share = jnp.clip((order - before) / (after - before), 0.0, 1.0)
        line = (1.0 - share) * jnp.expand_dims(left, axis) + share * jnp.expand_dims(right, axis)
        usable = has_before | has_after
        total, count = total + jnp.where(usable, line, 0.0), count + usable
    return jnp.where(count > 0, total / jnp.maximum(count, 1.0), otherwise)


def _averaged(windows: Grid, falls: np.ndarray, clip: int) -> np.ndarray:
    """(lanes, windows) -> (lanes, *shape): the mean over the windows that cover a value."""
    cover = windows.coverage(clip)
    return windows.spread(falls, clip) / np.maximum(cover, 1)
