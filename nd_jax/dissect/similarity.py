"""How alike what a unit does on some clips and what these clips have of a concept: all units, concepts and functions.

One jitted pass gives all functions of a chunk of units. On a CPU as many chunks are under way as there are cores, and
their top clips are found on the host (`strongest`), which XLA takes long for; elsewhere all is in the pass.
"""

from __future__ import annotations

import concurrent.futures
import functools
import math
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.dissect.functions import WPMI, CosineCubed, Function, RankReorder, SoftWPMI, resolved
from nd_jax.dissect.strongest import strongest
from nd_jax.runtime import progress_bar

# Units of a pass, at most: on a CPU few enough for its caches, where top clips are looked for, and enough to be worth a
# call; elsewhere they fill the device.
_CHUNK, _PLAIN_CHUNK, _LARGE_CHUNK = 256, 1024, 4096
# Numbers in the largest intermediate result of a pass, at most.
_ROOM = 1 << 26
_UNROLL = 10
# Beyond these, sums of sixth powers or of squares may leave what a float32 holds.
_LARGE, _SMALL = 1e5, 1e-15


def similarity(
    activations: Any,
    concepts: Any,
    function: Any = "cosine_cubed",
    *,
    key: jax.Array | None = None,
    permutations: Any = None,
    chunk_size: int | None = None,
    progress: bool | Callable[[int, int], None] = False,
    **parameters: Any,
) -> Any:
    """Similarity of every unit to every concept.

    Args:
      activations: (clips, units), numbers of any float type; an array, or what gives arrays when sliced by columns.
      concepts: (clips, concepts), what each clip has of each concept: cosines of embeddings, probabilities.
      function: "cosine", "cosine_cubed", "rank_reorder", "wpmi", "soft_wpmi", or one of the classes of
        `nd_jax.dissect.functions` with its parameters; a list of these; "all".
      key: of the random orders that rank reorder compares with, as the published code does; None compares with the mean
        over all orders. A unit's orders depend on the key and its column alone.
      permutations: the orders themselves, (units, m, n) whole numbers for the n top clips: where in the ascending
        activations each one is taken from.
      chunk_size: units of a pass; None for as many as fit.
      progress: True for a bar over units, or a function of (done, total).
      **parameters: of the function, when it is one name: `top_k=10`, `lam=1.0`, `order="argsort"`.

    Returns:
      (units, concepts) float32, higher is more alike, or {name: array} of several functions. No NaN; what is compared
      where the published code gives NaN, or zero for all, stands with each class.

    Raises:
      ValueError: shapes that do not fit, no clip, unit or concept, numbers that are not finite, unknown functions or
        parameters, in one sentence.
    """
    functions, one = resolved(function, parameters)
    columns, scores = _checked(activations, concepts)
    count, units = columns.shape
    orders = _orders(functions, permutations, key, count, units)
    tables = {name: _TABLES.get(type(each), _cosine_table)(each, scores) for name, each in functions.items()}
    top = max((each.clips(count) for each in functions.values() if hasattr(each, "clips")), default=0)
    chosen = tuple(functions.values())
    on_host = jax.default_backend() == "cpu"
    workers = _cores() if on_host else 1
    # Few units are divided among the cores.
    most = min(_chunk(chosen, count, scores.shape[1]), -(-units // workers))
    size = min(units, most if chunk_size is None else chunk_size)
    if size < 1:
        raise ValueError(f"chunk_size must be 1 or more, got {chunk_size}")

    def run(start: int) -> None:
        stop = min(start + size, units)
        rows, extreme = _rows(columns.values[:, start:stop], start, size)
        best = strongest(rows, top) if on_host and top else None
        drawn = None if orders is None else orders(start, start + size)
        part = _scores(rows, best, tables, drawn, functions=chosen, top=top, extreme=extreme)
        for name, each in part.items():
            found[name][start:stop] = np.asarray(each)[: stop - start]

    found = {name: np.empty((units, scores.shape[1]), np.float32) for name in functions}
    with progress_bar(units, "unit", progress) as tick:
        for start, _ in zip(range(0, units, size), _pool(workers).map(run, range(0, units, size)), strict=True):
            tick(min(size, units - start))
    for name, each in functions.items():
        if isinstance(each, WPMI | SoftWPMI):
            prior = each.lam if units > 1 or each.lam < 1 else 0.0
            found[name] = np.asarray(_without_prior(found[name], prior))
    return next(iter(found.values())) if one else found


class _Columns(NamedTuple):
    """Activations as columns that are read when they are needed."""

    values: Any
    shape: tuple[int, int]


def _checked(activations: Any, concepts: Any) -> tuple[_Columns, np.ndarray]:
    values = activations if hasattr(activations, "shape") else np.asarray(activations)
    scores = np.asarray(concepts)
    for what, each, columns in (("activations", values, "units"), ("concepts", scores, "concepts")):
        if len(each.shape) != 2 or 0 in each.shape:
            raise ValueError(f"{what} must be (clips, {columns}) with at least one of each, got {tuple(each.shape)}")
    if scores.dtype.kind not in "fiub":
        raise ValueError(f"concepts must be numbers, got {scores.dtype}")
    if values.shape[0] != scores.shape[0]:
        raise ValueError(f"{values.shape[0]} clips in activations, {scores.shape[0]} in concepts: give the same clips")
    if not np.isfinite(scores).all():
        broken = np.argwhere(~np.isfinite(scores))[0]
        raise ValueError(
            f"concepts must be finite: clip {broken[0]} has {scores[tuple(broken)]} of concept {broken[1]}"
        )
    return _Columns(values, (int(values.shape[0]), int(values.shape[1]))), scores.astype(np.float64)


def _chunk(functions: tuple[Function, ...], clips: int, concepts: int) -> int:
    """Units of a pass."""
    tops = [each.clips(clips) for each in functions if isinstance(each, RankReorder | SoftWPMI)]
    needed = clips + max(tops, default=0) * concepts
    most = _CHUNK if any(hasattr(each, "clips") for each in functions) else _PLAIN_CHUNK
    return max(1, min(most if jax.default_backend() == "cpu" else _LARGE_CHUNK, _ROOM // needed))


@functools.cache
def _pool(workers: int) -> concurrent.futures.ThreadPoolExecutor:
    """Threads that stay: to start them takes as long as a small chunk does."""
    return concurrent.futures.ThreadPoolExecutor(workers, "similarity")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _rows(block: Any, first: int, size: int) -> tuple[np.ndarray, bool]:
    """(clips, some units) as (size, clips) float32, finite; and whether powers of them leave what a float32 holds.

    What is missing repeats the last unit.
    """
    block = np.asarray(block)
    if block.dtype.kind not in "fiub" and block.dtype.name != "bfloat16":
        raise ValueError(f"activations must be numbers, got {block.dtype}")
    rows = np.empty((size, block.shape[0]), np.float32)
    rows[: block.shape[1]] = block.T
    rows[block.shape[1] :] = rows[block.shape[1] - 1]
    # The largest and the smallest are finite only where all are, and are found without an array of truths.
    largest = np.maximum(rows.max(axis=1), -rows.min(axis=1))
    if not np.isfinite(largest).all():
        unit, clip = np.argwhere(~np.isfinite(rows))[0]
        raise ValueError(f"activations must be finite: unit {first + unit} has {rows[unit, clip]} on clip {clip}")
    return rows, bool(((largest > _LARGE) | ((largest > 0) & (largest < _SMALL))).any())


# --- what of the concepts is the same for all units -----------------------------------------------------------------


def _norm(scores: np.ndarray) -> np.ndarray:
    """Of columns; np.linalg.norm takes many times as long along the first axis."""
    return np.sqrt(np.einsum("ij,ij->j", scores, scores))


def _cosine_table(function: Any, scores: np.ndarray) -> jax.Array:
    norm = _norm(scores)
    return jnp.asarray(scores / np.where(norm > 0, norm, 1), jnp.float32)


def _cubed_table(function: CosineCubed, scores: np.ndarray) -> jax.Array:
    centred = scores - scores.mean(axis=0)
    cubes = centred * centred * centred
    return jnp.asarray(cubes / np.maximum(_norm(cubes), function.min_norm), jnp.float32)


def _shares(function: WPMI | SoftWPMI, scores: np.ndarray) -> np.ndarray:
    """The softmax over concepts of a P, a new array; in place, since fresh memory takes longer than the numbers."""
    shares = function.a * scores
    shares -= shares.max(axis=1, keepdims=True)
    np.exp(shares, out=shares)
    shares /= shares.sum(axis=1, keepdims=True)
    return shares


def _information_table(function: WPMI, scores: np.ndarray) -> jax.Array:
    shares = _shares(function, scores)
    shares += function.min_prob
    return jnp.asarray(np.log(shares, out=shares).astype(np.float32))


def _soft_table(function: SoftWPMI, scores: np.ndarray) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Shares, and p and `min_prob` of each of the top clips: as constants XLA would add them in another order."""
    count = function.clips(len(scores))
    member = function.p_start - np.arange(count) / count * (function.p_start - function.p_end)
    parts = (_shares(function, scores), member, np.full(count, function.min_prob))
    return tuple(jnp.asarray(part, jnp.float32) for part in parts)  # type: ignore[return-value]


def _rank_table(function: RankReorder, scores: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """The scores, and whole numbers in their order.

    Where scores are equal these are int32 and leave room between them for the places of the top clips. Where none are,
    and 16 bits are enough, they are half as long and compared in half the time.
    """
    top, clips = function.clips(len(scores)), len(scores)
    levels = np.stack([np.unique(column, return_inverse=True)[1] for column in scores.T], axis=1)
    if clips <= np.iinfo(np.int16).max and (levels.max(axis=0) == clips - 1).all():
        return jnp.asarray(scores, jnp.float32), jnp.asarray(levels, jnp.int16)
    if clips * top >= 1 << 31:
        raise ValueError(f"rank_reorder of the {top} top clips of {clips} is too large: lower top_fraction")
    return jnp.asarray(scores, jnp.float32), jnp.asarray(levels * top, jnp.int32)


_TABLES: dict[Any, Any] = {
    CosineCubed: _cubed_table,
    WPMI: _information_table,
    SoftWPMI: _soft_table,
    RankReorder: _rank_table,
}


def _orders(
    functions: Mapping[str, Function], permutations: Any, key: jax.Array | None, clips: int, units: int
) -> Callable[[int, int], jax.Array] | None:
    """(first unit, end) -> random orders (units, m, n); indices beyond the last unit repeat it."""
    function = functions.get(RankReorder.name)
    if permutations is None and key is None:
        return None
    if not isinstance(function, RankReorder):
        raise ValueError("key and permutations are for rank_reorder, which is not asked for")
    count, top = function.permutations, function.clips(clips)
    if permutations is None:

        def draw(start: int, stop: int) -> jax.Array:
            return _drawn(key, jnp.arange(start, stop), count=count, top=top)

        return draw
    if key is not None:
        raise ValueError("give rank_reorder a key or the permutations, not both")
    given = np.asarray(permutations)
    if given.ndim != 3 or given.shape[0] != units or given.shape[2] != top or not given.shape[1]:
        raise ValueError(f"permutations must be ({units}, m, {top}), of each unit's {top} top clips, got {given.shape}")
    if not np.array_equal(np.sort(given, axis=-1), np.broadcast_to(np.arange(top), given.shape)):
        raise ValueError(f"permutations must hold each of 0 to {top - 1} once")

    def take(start: int, stop: int) -> jax.Array:
        return jnp.asarray(given[np.minimum(np.arange(start, stop), units - 1)], jnp.int32)

    return take


@functools.partial(jax.jit, static_argnames=("count", "top"))
def _drawn(key: jax.Array, units: jax.Array, *, count: int, top: int) -> jax.Array:
    def one(unit: jax.Array) -> jax.Array:
        keys = jax.random.split(jax.random.fold_in(key, unit), count)
        return jax.vmap(lambda each: jax.random.permutation(each, top))(keys)

    return jax.vmap(one)(units)


# --- the pass --------------------------------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnames=("functions", "top", "extreme"))
def _scores(
    rows: jax.Array, best: Any, tables: Any, orders: Any, *, functions: tuple[Function, ...], top: int, extreme: bool
) -> dict[str, jax.Array]:
    """All functions of a chunk: (units, clips) activations to (units, concepts) each; WPMI without its prior."""
    if top and best is None:
        best = jax.lax.top_k(rows, top)[1]
    found = {}
    for function in functions:
        table = tables[function.name]
        if isinstance(function, RankReorder):
            each = _reordered(function, rows, best[:, : function.clips(rows.shape[1])], table, orders)
        elif isinstance(function, WPMI):
            each = _likelihood(best[:, : function.clips(rows.shape[1])], table)
        elif isinstance(function, SoftWPMI):
            each = _soft_likelihood(function, best[:, : function.clips(rows.shape[1])], *table)
        else:
            each = _cosine(rows, table, function.min_norm if isinstance(function, CosineCubed) else None, extreme)
        found[function.name] = each
    return found


def _cosine(rows: jax.Array, table: jax.Array, min_norm: float | None, extreme: bool) -> jax.Array:
    """Cosines with a table of columns of norm 1; cubed of what differs from the mean where there is a least norm."""
    if min_norm is not None:
        # The mean of equal numbers is rounded, and would leave something of a constant unit.
        differs = rows.max(axis=1, keepdims=True) > rows.min(axis=1, keepdims=True)
        rows = jnp.where(differs, rows - rows.mean(axis=1, keepdims=True), 0)
    scale = jnp.ones((), jnp.float32)
    if extreme:
        # A row is divided by its largest before anything is raised to a power.
        largest = jnp.abs(rows).max(axis=1, keepdims=True)
        scale = jnp.where(largest > 0, largest, 1)
        rows = rows / scale
    rows = rows if min_norm is None else rows * rows * rows
    norm = jnp.sqrt(jnp.sum(rows * rows, axis=1, keepdims=True))
    if min_norm is not None:
        norm = jnp.maximum(norm, min_norm / scale**3)
    products = jnp.matmul(rows, table, precision=jax.lax.Precision.HIGHEST)
    return products / jnp.where(norm > 0, norm, 1)


def _likelihood(best: jax.Array, table: jax.Array) -> jax.Array:
    """Sums of a table's rows (clips, concepts) over each unit's clips (units, k)."""

    def add(place: jax.Array, total: jax.Array) -> jax.Array:
        return total + table[jax.lax.dynamic_index_in_dim(best, place, 1, keepdims=False)]

    zero = jnp.zeros((best.shape[0], table.shape[1]), jnp.float32)
    return jax.lax.fori_loop(0, best.shape[1], add, zero)


def _soft_likelihood(
    function: SoftWPMI, best: jax.Array, shares: jax.Array, weight: jax.Array, floor: jax.Array
) -> jax.Array:
    """Sums of logarithms as logarithms of products of as many factors as a float32 holds."""
    units, count = best.shape
    least = 1 - max(function.p_start, function.p_end) + function.min_prob
    group = int(np.clip(-36 / math.log10(min(least, 0.1)), 1, 8))
    # What fills up the last product is 1.
    more = (0, -count % group)
    held = shares[jnp.pad(best, [(0, 0), more])]
    weight, floor = (jnp.pad(each, more)[None, :, None] for each in (weight, floor))
    # The order of the published code: where p is 1 its rounding is larger than `min_prob`, and seen in the score.
    factors = 1 + weight * (held - 1) + floor
    return jnp.log(factors.reshape(units, -1, group, shares.shape[1]).prod(axis=2)).sum(axis=1)


def _reordered(
    function: RankReorder, rows: jax.Array, best: jax.Array, table: tuple[jax.Array, jax.Array], orders: Any
) -> jax.Array:
    """Rank reorder; ranks are counted, which on a CPU is many times as fast as XLA's sort."""
    scores, levels = table
    count = best.shape[1]
    strongest_first = jnp.take_along_axis(rows, best, axis=1)
    # Times a power of two, which rounds nothing: powers of differences near 1 are neither too large nor too small.
    exponent = jnp.frexp(strongest_first[:, :1] - strongest_first[:, -1:])[1]
    strongest_first = jnp.ldexp(strongest_first, -jnp.clip(exponent, -126, 126))
    ascending = strongest_first[:, ::-1]
    places = levels[best]
    if levels.dtype == jnp.int32:
        # Equal scores rank in the order of the activations, as with a stable sort.
        places = places + jnp.arange(count, dtype=jnp.int32)[None, :, None]

    def below(place: jax.Array, ranks: jax.Array) -> jax.Array:
        return ranks + (jax.lax.dynamic_slice_in_dim(places, place, 1, axis=1) < places).astype(ranks.dtype)

    ranks = jax.lax.fori_loop(0, count, below, jnp.zeros_like(places), unroll=min(_UNROLL, count)).astype(jnp.int32)
    # AND compares t[i] with ascending[order[i]]; with i for the rank of a clip these are the same pairs.
    own, other = (strongest_first, ascending) if function.order == "ranks" else (ascending, strongest_first)
    error = _power(own[:, :, None] - jnp.take_along_axis(other[:, :, None], ranks, axis=1), function.p).mean(axis=1)
    if orders is None:

        def spread(place: jax.Array, total: jax.Array) -> jax.Array:
            return total + _power(jax.lax.dynamic_slice_in_dim(ascending, place, 1, axis=1) - ascending, function.p)

        sums = jax.lax.fori_loop(0, count, spread, jnp.zeros_like(ascending), unroll=min(_UNROLL, count))
        baseline = sums.mean(axis=1) / count
    else:
        shuffled = jnp.take_along_axis(ascending[:, None, :], orders, axis=2)
        baseline = _power(ascending[:, None, :] - shuffled, function.p).mean(axis=(1, 2))
    known = baseline[:, None] > 0
    ratio = jnp.where(known, error / jnp.where(known, baseline[:, None], 1), 1)
    if not function.scale_p:
        return -ratio
    mean = _likelihood(best, scores) / count
    return jnp.where(mean > 0, -ratio / jnp.where(mean > 0, mean, 1) ** function.scale_p, -jnp.inf)


def _power(difference: jax.Array, p: float) -> jax.Array:
    size = jnp.abs(difference)
    return jax.lax.integer_pow(size, int(p)) if p == int(p) and p <= 8 else size**p


@jax.jit
def _without_prior(likelihood: jax.Array, lam: float) -> jax.Array:
    prior = jax.nn.logsumexp(likelihood, axis=0) - jnp.log(jnp.float32(likelihood.shape[0]))
    return likelihood - lam * prior[None]
