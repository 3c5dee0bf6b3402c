"""How a window is taken away: values are replaced, drawn on from their neighbours, or taken out of a spectrum."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from nd_jax.attribute.baselines import NEIGHBOURS
from nd_jax.attribute.reach import Span, span
from nd_jax.attribute.spectra import TimeFrequency
from nd_jax.attribute.windows import Grid, Intervals

# "values", "neighbours", or the spectrum that a window is a part of.
Way = str | TimeFrequency


def occluded(x: jax.Array, other: jax.Array, start: jax.Array, end: jax.Array, way: Way) -> jax.Array:
    """One clip without a window.

    Args:
      x: (*shape).
      other: the baseline, (*shape), or the spectrum to take from.
      start: (axes,) of the window.
      end: (axes,); nowhere more than the start for no window at all.
      way: how.
    """
    mask = covered(other.shape, start, end)
    if isinstance(way, TimeFrequency):
        return x - way.sound(jnp.where(mask, other, 0.0))
    return jnp.where(mask, neighbours(x, other, start, end) if way == NEIGHBOURS else other, x)


def occluded_box(
    x: jax.Array,
    other: jax.Array,
    clip: jax.Array,
    start: jax.Array,
    end: jax.Array,
    way: Way,
    begin: jax.Array,
    sizes: tuple[int, ...],
) -> jax.Array:
    """What a box of one clip holds without a window.

    Args:
      x: (clips, *shape).
      other: as `occluded`, (clips, ...).
      clip: which one.
      start: of the window.
      end: of it.
      way: how.
      begin: (axes,) of the box.
      sizes: of the box, one for each axis.
    """
    if way != "values":
        return lax.dynamic_slice(occluded(x[clip], other[clip], start, end, way), begin, sizes)
    own, instead = (lax.dynamic_slice(array, (clip, *begin), (1, *sizes))[0] for array in (x, other))
    return jnp.where(covered(sizes, start - begin, end - begin), instead, own)


def spans(windows: Grid, way: Way, shape: tuple[int, ...]) -> tuple[Span | None, ...]:
    """Which steps of an input windows change, along each of its axes; their intervals are those of the grid."""
    if isinstance(way, TimeFrequency):
        # A cell of frame t changes the samples of its frame, which is centred on t * hop.
        frames = windows.axes[1]
        low, high = frames.starts * way.hop - way.n_fft // 2, (frames.ends - 1) * way.hop + way.n_fft // 2
        return span(1, low.reshape(-1), high.reshape(-1), shape[0]), *(None,) * (len(shape) - 1)
    return tuple(_span(number, axis) for number, axis in enumerate(windows.axes))


def _span(number: int, axis: Intervals) -> Span | None:
    return span(number, axis.starts.reshape(-1), axis.ends.reshape(-1), axis.size)


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
