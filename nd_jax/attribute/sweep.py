"""Every window of every clip, so many at once as memory has room for: with whole forward passes, or what they reach.

Both ways give the same scores. Which one runs is told from the network's own program (`reach`), and before the
recomputation of parts is trusted, some of its scores are compared with those of whole passes.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import taps
from nd_jax.attribute import incremental, targets
from nd_jax.attribute.reach import Plan, Program
from nd_jax.attribute.removal import Way, occluded, occluded_box, spans
from nd_jax.attribute.spectra import TimeFrequency
from nd_jax.attribute.windows import Grid
from nd_jax.network import Network
from nd_jax.runtime import progress_bar
from nd_jax.visualize import memory

# Bytes that a chunk works with on a CPU: larger ones leave its caches and run slower (measured: docs/attribution.md).
_CPU_BYTES = 8 << 20
# Clips whose values are stored at once, and how many bytes that may be on a CPU.
_CLIPS = 16
_CPU_STORED = 256 << 20
# Less work than this many multiplications saved is not worth another program: about the time that it takes to compile.
_WORTH = 5e10
_LEAST_GAIN = 1.5
# Windows that both ways are compared on, and how far apart scores may be, of the largest of them.
_COMPARED = 8
_CLOSE = 1e-5


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """What is swept.

    Attributes:
      network: any Network that takes one array.
      goal: a bound objective.
      x: (clips, *shape).
      other: (clips, ...), the baseline or the spectrum to take from.
      windows: what is taken away.
      way: how.
    """

    network: Network
    goal: Any
    x: jax.Array
    other: jax.Array
    windows: Grid
    way: Way

    @functools.cached_property
    def fixed(self) -> tuple[Any, ...]:
        """What is the same for all windows: network, objective, clips."""
        arrays = jax.tree.map(jnp.asarray, self.goal.arrays)
        return self.network, self.goal.spec, arrays, self.x, self.other

    @functools.cached_property
    def rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Every clip as it is, then without each of its windows.

        Returns:
          (rows,) the clip, (rows, axes) starts, (rows, axes) ends, nothing for a clip as it is, and (rows, axes) which
          interval of each axis of the grid it is, counted through all clips.
        """
        clips, count = len(self.x), len(self.windows)
        zero = np.zeros((1, len(self.windows.axes)), np.int32)
        index = np.stack(np.unravel_index(np.arange(count), self.windows.counts), axis=-1).astype(np.int32)
        index = np.concatenate([index[:1], index])
        own = np.asarray([len(axis) if len(axis.starts) > 1 else 0 for axis in self.windows.axes], np.int32)
        places = [self.windows.places(clip) for clip in range(clips)]
        starts, ends = (
            np.concatenate([np.concatenate([zero, place[side]]) for place in places]).astype(np.int32)
            for side in (0, 1)
        )
        which = np.concatenate([index + own * clip for clip in range(clips)])
        return np.repeat(np.arange(clips, dtype=np.int32), count + 1), starts, ends, which


def sweep(
    job: Job,
    chunk_size: int | None = None,
    recompute: bool | None = None,
    progress: bool | Callable[[int, int], None] = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Every window of every clip.

    Args:
      job: what.
      chunk_size: occluded inputs at once; None for what fits.
      recompute: False for whole forward passes, True for what windows reach; None for what is less work.
      progress: True for a bar, or a function of (done, in total).

    Returns:
      (clips, lanes, windows) how far the score falls, and (clips, lanes) the scores, both float64.

    Raises:
      ValueError: scores that are not finite, or recomputation that is asked for and gives others.
    """
    clips, count = len(job.x), len(job.windows)
    total = clips * (count + 1)
    plan = chosen(job, recompute)
    with progress_bar(total, "window", progress) as advance:
        try:
            parts = _plain(job, chunk_size) if plan is None else _recomputed(job, plan, chunk_size)
            scores = _gathered(parts, advance, None if plan is None else job)
        except _Differs:
            if recompute:
                text = "recomputing parts of this network gives other scores than the whole: take recompute=False"
                raise ValueError(text) from None
            scores = _gathered(_plain(job, chunk_size), advance)
    targets.finite(scores, "occluded")
    scores = scores.reshape(clips, count + 1, -1)
    falls = scores[:, :1] - scores[:, 1:]
    _, starts, ends, _ = job.rows
    empty = np.any(ends <= starts, axis=1).reshape(clips, count + 1)[:, 1:]
    return np.moveaxis(np.where(empty[..., None], 0.0, falls), 2, 1), scores[:, 0]


def chosen(job: Job, recompute: bool | None) -> Plan | None:
    """The plan by which windows are followed through the network, or None for whole forward passes."""
    if recompute is False:
        return None
    shape = tuple(job.network.input.shape)
    found = incremental.planned(job.network, job.goal.spec, spans(job.windows, job.way, shape))
    saved = len(job.x) * len(job.windows) * (found.whole - found.cost)
    return found if recompute or (found.gain >= _LEAST_GAIN and saved >= _WORTH) else None


class _Differs(Exception):
    """The two ways do not give the same."""


def _gathered(parts: Iterable[Any], advance: Callable[[int], None], compared: Job | None = None) -> np.ndarray:
    """The scores of all rows, some of them compared with whole forward passes: of the first chunk, and of all."""
    found: list[Any] = []
    told = 0
    for part in parts:
        found.append(part)
        if len(found) > 1:
            # One chunk is in flight while the one before is waited for.
            found[-2] = np.asarray(found[-2])
        elif compared and not _close(compared, np.asarray(part, np.float64)):
            raise _Differs
        advance(len(part))
        told += len(part)
    scores = np.concatenate([np.asarray(part, np.float64) for part in found])
    if compared and not _close(compared, scores):
        advance(-told)
        raise _Differs
    return scores


def _close(job: Job, scores: np.ndarray) -> bool:
    """Whether some of the scores of the first rows are those of whole forward passes."""
    clip, starts, ends, _ = job.rows
    rows = np.rint(np.linspace(0, len(scores) - 1, _COMPARED)).astype(int)
    whole = np.asarray(_whole(*job.fixed, clip[rows], starts[rows], ends[rows], job.way), np.float64)
    return bool(np.max(np.abs(whole - scores[rows])) <= _CLOSE * max(1.0, float(np.max(np.abs(whole)))))


# --- whole forward passes ---------------------------------------------------------------------------------------------


def _plain(job: Job, wish: int | None) -> Iterator[Any]:
    clip, starts, ends, _ = job.rows

    def given(rows: np.ndarray) -> tuple[Any, ...]:
        return (*job.fixed, clip[rows], starts[rows], ends[rows], job.way)

    elements = sum(math.prod(shape) for shape in (job.network.input.shape, *taps.layers(job.network).values()))
    size = _size(wish, len(clip), elements, lambda size: _bytes(_whole, *given(np.zeros(size, int))))
    for first in range(0, len(clip), size):
        yield _whole(*given(np.minimum(np.arange(first, first + size), len(clip) - 1)))[: len(clip) - first]


@functools.partial(jax.jit, static_argnames=("spec", "way"))
def _whole(
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
    """Scores (chunk, lanes) of clips without a window each."""
    inputs = jax.vmap(lambda clip, start, end: occluded(x[clip], other[clip], start, end, way))(clip, starts, ends)
    return targets.scores(network, spec, arrays, inputs)


# --- what windows reach -----------------------------------------------------------------------------------------------


def _recomputed(job: Job, plan: Plan, wish: int | None) -> Iterator[Any]:
    clips, windows = len(job.x), len(job.windows) + 1
    at_once = min(clips, _CLIPS, max(1, _room(_CPU_STORED) // max(1, 4 * plan.kept)))
    at_once = math.ceil(clips / math.ceil(clips / at_once))
    size = 0
    for first in range(0, clips, at_once):
        # The last clips may be fewer: some of those before fill up, so that the program is the same.
        part = _Part(job, plan, slice(min(first, clips - at_once), min(first, clips - at_once) + at_once))
        row, last = first * windows, min(first + at_once, clips) * windows
        size = size or _size(wish, last - row, 2 * plan.moved, functools.partial(part.needed, row))
        for start in range(row, last, size):
            yield part.scores(np.minimum(np.arange(start, start + size), last - 1))[: last - start]


class _Part:
    """Some clips of a job with what is stored of them."""

    def __init__(self, job: Job, plan: Plan, clips: slice):
        x, other = job.x[clips], job.other[clips]
        self._job, self._plan, self._first = job, plan, clips.start
        stored = incremental.store(job.network, job.goal.spec, x, plan.program)
        self._fixed = (*job.fixed[:3], stored, x, other)

    def scores(self, rows: np.ndarray) -> jax.Array:
        """(rows, lanes)."""
        return _reached(*self._given(rows))

    def needed(self, row: int, size: int) -> int:
        """Bytes that the program of so many rows works with."""
        return _bytes(_reached, *self._given(np.full(size, row)))

    def _given(self, rows: np.ndarray) -> tuple[Any, ...]:
        clip, starts, ends, which = self._job.rows
        places = (clip[rows] - self._first, starts[rows], ends[rows], _begins(self._plan, which[rows]))
        return (*self._fixed, *places, self._plan.program, self._job.way)


@functools.partial(jax.jit, static_argnames=("spec", "program", "way"))
def _reached(
    network: Network,
    spec: Any,
    arrays: Any,
    stored: dict[Any, jax.Array],
    x: jax.Array,
    other: jax.Array,
    clip: jax.Array,
    starts: jax.Array,
    ends: jax.Array,
    begins: jax.Array,
    program: Program,
    way: Way,
) -> jax.Array:
    """Scores (chunk, lanes) of clips without a window each, from the boxes that windows reach."""
    zero = jnp.zeros(len(clip), jnp.int32)
    own = program.first[1:]
    sizes = tuple(length if part is None else part[1] for part, length in zip(own, x.shape[1:], strict=True))
    places = [zero if part is None else begins[:, part[0]] for part in own]

    def one(clip: jax.Array, start: jax.Array, end: jax.Array, begin: jax.Array) -> jax.Array:
        return occluded_box(x, other, clip, start, end, way, begin, sizes)

    first = jax.vmap(one)(clip, starts, ends, jnp.stack(places, axis=-1))
    return incremental.changed(network, spec, arrays, stored, first, clip, begins, program)


def _begins(plan: Plan, which: np.ndarray) -> np.ndarray:
    """(rows, columns) where boxes begin."""
    columns = [starts[which[:, source]] for source, starts in plan.tables]
    return np.stack(columns, axis=-1) if columns else np.zeros((len(which), 0), np.int32)


# --- how many at once -------------------------------------------------------------------------------------------------


def _size(wish: int | None, rows: int, each: int, needed: Callable[[int], int]) -> int:
    """Rows of a chunk: the caller's, or as many as the compiled program has room for.

    Args:
      wish: the caller's, or None.
      rows: how many there are.
      each: about how many bytes one takes; of the numbers that it goes through, a part is alive at once.
      needed: rows of a chunk -> bytes that the compiled program works with; compiles it.
    """
    if wish is not None:
        return min(wish, rows)

    def even(size: float) -> int:
        size = max(memory.LEAST_LANES, int(size) // memory.LEAST_LANES * memory.LEAST_LANES)
        return min(memory.rounded(rows / math.ceil(rows / size)), max(rows, memory.LEAST_LANES))

    room = _room(_CPU_BYTES)
    size = even(room / max(each, 1))
    found = needed(size)
    best = even(room * size / max(found, 1))
    # Twice off costs little; compiling again costs seconds.
    return best if found and (best > 2 * size or found > 2 * room) else size


def _room(most: int) -> int:
    """A quarter of the memory that is free; on a CPU at most so many bytes."""
    device = jax.devices()[0]
    free = memory.available_bytes(device) // 4
    return min(most, free) if device.platform == "cpu" else free


def _bytes(run: Any, *arguments: Any) -> int:
    stats = run.lower(*arguments).compile().memory_analysis()
    return 0 if stats is None else int(stats.temp_size_in_bytes + stats.output_size_in_bytes)


def prepared(x: jax.Array, baseline: jax.Array, way: Way) -> jax.Array:
    """What a window is filled with, or taken from: the baseline, or the spectrum of what differs from it."""
    return jax.jit(way.spectrum)(x - baseline) if isinstance(way, TimeFrequency) else baseline
