"""RISE: random masks, weighted by what the network says of the input behind them (Petsiuk et al. 2018)."""

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
from nd_jax.network import Network
from nd_jax.runtime import progress_bar

KEEPS = (0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9)
_PILOT = 64


def rise(
    network: Network,
    x: Any,
    target: targets.Target,
    *,
    key: jax.Array,
    masks: int = 4000,
    cells: int | Sequence[int] = 7,
    keep: float | None = None,
    baseline: Any = "silence",
    chunk_size: int = 64,
    progress: bool | Callable[[int, int], None] = False,
) -> Attribution:
    """The mean of random masks M, each weighted by the score of what it lets through: 1 / (N p) sum_i f(x_i) M_i.

    x_i = x M_i + baseline (1 - M_i). A mask is a coarse grid of zeros and ones, 1 with probability p, shifted at
    random and interpolated bilinearly (section 3.2). A logit may be negative and its level is arbitrary; what matters
    is how it varies, so the scores' mean is taken off first: every value is then the covariance of the score with its
    being shown, over p. The original's map differs from this one by a constant.

    Args:
      network: any Network that takes one array.
      x: (*shape) or (clips, *shape).
      target: see `targets`.
      key: of the masks; they are the same for all clips.
      masks: how many, N.
      cells: of the coarse grid, along every axis but the channels, or one number for all.
      keep: p; None takes of `KEEPS` the one with the largest spread of scores over 64 masks (the mean over clips of
        the standard deviation of the first lane): masks that hide all or nothing tell nothing.
      baseline: what stands where a mask is 0, see `baselines` (not "neighbours").
      chunk_size: masked inputs at once.
      progress: True for a bar with the time left, or a function of (inputs done, in total).

    Returns:
      An `Attribution`; its method names the p that was taken.

    Raises:
      LayerError, ValueError: whatever does not fit, in one sentence.
    """
    for name, value in (("masks", masks), ("chunk_size", chunk_size)):
        targets.whole(name, value)
    if keep is not None and not 0 < keep < 1:
        raise ValueError(f"keep is a probability between 0 and 1, got {keep!r}")
    if isinstance(baseline, str) and baseline == NEIGHBOURS:
        raise ValueError("baseline 'neighbours' belongs to windows: it is for occlusion only")
    clips, several = targets.inputs(network, x)
    goal, own = targets.bound(network, target, len(clips))
    channels = network.input.axes[-1].name == "channel"
    inner = clips.shape[1:-1] if channels else clips.shape[1:]
    coarse = _cells(cells, inner)
    instead = baseline_of(network.input, clips, baseline, key=jax.random.fold_in(key, 1))
    run = functools.partial(
        _scored, network, goal, clips, instead, jax.random.fold_in(key, 0), inner, coarse, int(chunk_size)
    )
    own_lane = np.zeros(len(clips), int) if own is None else own
    if keep is None:
        spreads = []
        for share in KEEPS:
            scores, _, _ = run(share, min(_PILOT, int(masks)), False)
            spreads.append(np.mean(np.std(scores[np.arange(len(clips)), :, own_lane], axis=1)))
        keep = KEEPS[int(np.argmax(spreads))]
    scores, weighted, mean_mask = run(keep, int(masks), progress)
    targets.finite(scores, "masked")
    # sum (f - mean f) M / (N p)
    maps = (weighted - np.mean(scores, axis=1).reshape(*weighted.shape[:2], *(1,) * len(inner)) * mean_mask) / keep
    if channels:
        maps = np.broadcast_to(maps[..., None], (*maps.shape, clips.shape[-1]))
    arrays = jax.tree.map(jnp.asarray, goal.arrays)
    plain = np.asarray(targets.scored(network, goal.spec, arrays, clips))
    if own is not None:
        maps = np.take_along_axis(maps, own.reshape(-1, *(1,) * (maps.ndim - 1)), axis=1)
        plain = np.take_along_axis(plain, own[:, None], axis=1)
    found = [targets.shaped(each, own, several) for each in (maps, plain)]
    return Attribution(found[0], found[1], goal.labels, f"RISE, p = {keep:g}", network.input)


def _cells(given: int | Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    sizes = targets.per_axis(given, shape)
    if any(size > steps for size, steps in zip(sizes, shape, strict=True)):
        raise ValueError(f"cells are at most the steps {tuple(shape)} along every axis, got {given!r}")
    return sizes


def random_mask(key: jax.Array, shape: tuple[int, ...], cells: tuple[int, ...], keep: float | jax.Array) -> jax.Array:
    """One mask, (*shape) in 0 ... 1, as section 3.2 has it."""
    drawn, moved = jax.random.split(key)
    coarse = (jax.random.uniform(drawn, tuple(size + 1 for size in cells)) < keep).astype(jnp.float32)
    steps = tuple(-(-size // count) for size, count in zip(shape, cells, strict=True))
    large = tuple((count + 1) * step for count, step in zip(cells, steps, strict=True))
    mask = jax.image.resize(coarse, large, "linear")
    begin = [jax.random.randint(jax.random.fold_in(moved, axis), (), 0, step) for axis, step in enumerate(steps)]
    return jax.lax.dynamic_slice(mask, begin, shape)


def _scored(
    network: Network,
    goal: Any,
    x: jax.Array,
    baseline: jax.Array,
    key: jax.Array,
    inner: tuple[int, ...],
    cells: tuple[int, ...],
    chunk_size: int,
    keep: float,
    count: int,
    progress: bool | Callable[[int, int], None],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores (clips, masks, lanes), the mean of score times mask (clips, lanes, *inner), the mean mask (*inner)."""
    arrays = jax.tree.map(jnp.asarray, goal.arrays)
    size = min(chunk_size, count)
    scores: list[list[np.ndarray]] = [[] for _ in x]
    weighted: Any = 0.0
    mean_mask: Any = 0.0
    with progress_bar(len(x) * count, "mask", progress) as advance:
        for first in range(0, count, size):
            numbers = jnp.arange(first, first + size)
            real = np.arange(first, first + size) < count
            masks = _masks(key, numbers, jnp.asarray(real, jnp.float32), inner, cells, keep)
            parts = []
            for clip in range(len(x)):
                score, part = _through(network, goal.spec, arrays, x[clip], baseline[clip], *masks)
                scores[clip].append(np.asarray(score, np.float64)[real])
                parts.append(np.asarray(part, np.float64))
                advance(int(real.sum()))
            weighted = weighted + np.stack(parts)
            mean_mask = mean_mask + np.asarray(jnp.sum(masks[0] * masks[1][(...,) + (None,) * len(inner)], axis=0))
    return np.stack([np.concatenate(rows) for rows in scores]), weighted / count, mean_mask / count


@functools.partial(jax.jit, static_argnames=("shape", "cells"))
def _masks(
    key: jax.Array, numbers: jax.Array, real: jax.Array, shape: tuple[int, ...], cells: tuple[int, ...], keep: float
) -> tuple[jax.Array, jax.Array]:
    """Masks (chunk, *shape), and which of them count."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
    return jax.vmap(lambda each: random_mask(each, shape, cells, keep))(keys), real


@functools.partial(jax.jit, static_argnames="spec")
def _through(
    network: Network, spec: Any, arrays: Any, x: jax.Array, baseline: jax.Array, masks: jax.Array, real: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Scores (chunk, lanes) of x behind masks, and (lanes, *inner) the sum of score times mask."""
    shown = masks.reshape(*masks.shape, *(1,) * (x.ndim + 1 - masks.ndim))
    scores = targets.scores(network, spec, arrays, shown * x[None] + (1.0 - shown) * baseline[None])
    return scores, jnp.tensordot((scores * real[:, None]).T, masks, axes=1, precision="highest")
