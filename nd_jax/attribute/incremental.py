"""Occlusion that recomputes only what a window can reach, spliced into what the whole input gave.

The idea of incremental inference is Krypton's (Nakandala, Kumar & Papakonstantinou, SIGMOD 2019): the activations of
the input as it is are kept, and for each window only a box of every layer is computed anew, its surroundings taken from
what was kept. `reach` says how large the boxes are, this module runs them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from nd_jax.attribute import targets
from nd_jax.attribute.flat import Flat, flatten
from nd_jax.attribute.reach import Access, Place, Plan, Planner, Program, Span, Step, Take
from nd_jax.attribute.rules import RULES
from nd_jax.network import Network
from nd_jax.visualize import objectives

_CUMULATIVE: dict[str, Any] = {"reduce_sum": lax.cumsum, "reduce_max": lax.cummax, "reduce_min": lax.cummin}
_TOGETHER: dict[str, Any] = {"reduce_sum": jnp.add, "reduce_max": jnp.maximum, "reduce_min": jnp.minimum}
_REDUCED: dict[str, Any] = {"reduce_sum": jnp.sum, "reduce_max": jnp.max, "reduce_min": jnp.min}


def planned(network: Network, spec: Any, spans: Sequence[Span | None]) -> Plan:
    """How windows are followed through a network; computes nothing.

    Args:
      network: any Network that takes one array.
      spec: of the objective.
      spans: the intervals of the input that windows change, for each of its axes.
    """
    return Planner(flatten(network, spec), (None, *spans)).plan(RULES)


@functools.partial(jax.jit, static_argnames=("spec", "program"))
def store(network: Network, spec: Any, x: jax.Array, program: Program) -> dict[Any, jax.Array]:
    """What the steps of a program read of clips as they are.

    Args:
      network: as `planned`.
      spec: likewise.
      x: (clips, *shape).
      program: of the plan.

    Returns:
      {(value, fill): (clips, *its shape, surrounded)} and, for every fold, {(value, -1 or 1): (clips, ..., size + 1)}:
      what lies before, or behind, every place.
    """
    flat = flatten(network, spec)
    constants = _constants(flat, network)

    def one(clip: jax.Array) -> dict[Any, jax.Array]:
        known: dict[int, Any] = {**constants, flat.example: clip[None]}
        for number in sorted(flat.reached):
            equation = flat.equations[number]
            known.update(zip(equation.outputs, equation.run(_inputs(equation.inputs, known)), strict=True))
        found: dict[Any, jax.Array] = {}
        for step in program.steps:
            if step.fold:
                name, axis = step.fold
                value = known[step.inputs[0]]
                known[step.outputs[0]] = _REDUCED[name](value, axis=axis, keepdims=True)
                for side in (-1, 1):
                    found[step.outputs[0], side] = _beside(value, name, axis, side)
        for value, fill, pads in program.stored:
            array = known[value]
            edges = [(low, high, 0) for low, high in pads]
            found[value, fill] = lax.pad(array, jnp.asarray(fill, array.dtype), edges)
        return found

    return jax.vmap(one)(x)


def _beside(value: jax.Array, name: str, axis: int, side: int) -> jax.Array:
    """Of every place 0 ... size of an axis, the reduction of what lies before it (side -1) or from it on (1)."""
    shape = (*value.shape[:axis], 1, *value.shape[axis + 1 :])
    nothing = jnp.full(shape, _nothing(name, value.dtype), value.dtype)
    running = _CUMULATIVE[name](value, axis=axis, reverse=side > 0)
    return jnp.concatenate([nothing, running] if side < 0 else [running, nothing], axis=axis)


def _nothing(name: str, dtype: Any) -> Any:
    """What a reduction of no numbers gives."""
    if name == "reduce_sum":
        return 0
    sign = -1 if name == "reduce_max" else 1
    if jnp.issubdtype(dtype, jnp.floating):
        return sign * jnp.inf
    return jnp.iinfo(dtype).min if sign < 0 else jnp.iinfo(dtype).max


def changed(
    network: Network,
    spec: Any,
    arrays: Any,
    stored: dict[Any, jax.Array],
    first: jax.Array,
    clip: jax.Array,
    starts: jax.Array,
    program: Program,
) -> jax.Array:
    """Scores of clips whose values in a box are others; traceable.

    Args:
      network: as `planned`.
      spec: likewise.
      arrays: of the objective.
      stored: of the clips.
      first: (windows, *sizes of the box), the values there.
      clip: (windows,) which clip each belongs to.
      starts: (windows, columns) where boxes begin.
      program: of the plan.

    Returns:
      (windows, lanes).
    """
    flat = flatten(network, spec)
    boxes = dict(program.boxes)
    known: dict[int, Any] = _constants(flat, network)
    lanes: dict[int, jax.Array] = {flat.example: first[:, None]}

    def read(value: Any, access: Access, fill: float) -> tuple[Any, int | None]:
        """An input, and the axis of the windows or None."""
        if not isinstance(value, int) or value not in lanes:
            array = known[value] if isinstance(value, int) else value
            return _constant(array, access, starts)
        if not access:
            return lanes[value], 0
        pads = next((pads for number, given, pads in program.stored if (number, given) == (value, fill)), ())
        return _spliced(lanes[value], boxes[value], access, stored.get((value, fill)), pads, clip, starts), 0

    for step in program.steps:
        if step.fold:
            lanes[step.outputs[0]] = _folded(step, lanes, stored, clip, starts)
            continue
        equation = flat.equations[step.equation]
        inputs = step.inputs or equation.inputs
        pairs = [
            read(value, access, step.fill if place == 0 else 0.0)
            for place, (value, access) in enumerate(zip(inputs, step.reads, strict=True))
        ]
        run = functools.partial(equation.run, **dict(step.changes))
        found = jax.vmap(lambda *given, run=run: run(given), [axis for _, axis in pairs])(*(each for each, _ in pairs))
        lanes.update(zip(equation.outputs, found, strict=True))
    results = []
    for value, access in zip(flat.results, program.results, strict=True):
        # A layer that does not depend on the input is the same for all windows.
        result, lanes_axis = read(value, access, 0.0)
        results.append(jnp.broadcast_to(result, (len(clip), *result.shape)) if lanes_axis is None else result)
        results[-1] = results[-1][:, 0]
    return targets.evaluated(spec, arrays, dict(zip(objectives.layers_of(spec), results, strict=True)))


def _constants(flat: Flat, network: Network) -> dict[int, Any]:
    """The values that do not depend on the input."""
    known: dict[int, Any] = dict(zip(flat.weights, jax.tree.leaves(network), strict=True))
    for number, equation in enumerate(flat.equations):
        if number not in flat.reached:
            known.update(zip(equation.outputs, equation.run(_inputs(equation.inputs, known)), strict=True))
    return known


def _inputs(values: Sequence[Any], known: dict[int, Any]) -> list[Any]:
    return [known[value] if isinstance(value, int) else value for value in values]


def _constant(array: Any, access: Access, starts: jax.Array) -> tuple[Any, int | None]:
    if not access:
        return array, None
    for axis, given in enumerate(access):
        if isinstance(given, int):
            array = lax.slice_in_dim(array, 0, given, axis=axis)
    if not any(isinstance(given, Take) for given in access):
        return array, None
    return region(jnp.asarray(array)[None], access, ((0, 0),) * len(access), None, starts), 0


def region(
    array: jax.Array, access: Access, pads: Sequence[tuple[int, int]], clip: jax.Array | None, starts: jax.Array
) -> jax.Array:
    """What an access reads of (clips, *shape), surrounded by `pads`: (windows, *lengths)."""
    begins, sizes, strides = [], [], []
    zero = jnp.zeros(len(starts), jnp.int32)
    for axis, given in enumerate(access):
        low, high = pads[axis] if pads else (0, 0)
        whole = array.shape[1 + axis]
        if isinstance(given, Take):
            begins.append(starts[:, given.table] + low)
            sizes.append((given.length - 1) * given.step + 1)
            strides.append(given.step)
        else:
            begins.append(zero + low)
            sizes.append(whole - low - high)
            strides.append(1)
    which = zero if clip is None else clip

    def one(which: jax.Array, *begin: jax.Array) -> jax.Array:
        return lax.dynamic_slice(array, (which, *begin), (1, *sizes))[0]

    found = jax.vmap(one)(which, *begins)
    return lax.slice(found, (0,) * found.ndim, found.shape, (1, *strides))


def _spliced(
    lane: jax.Array,
    box: Place,
    access: Access,
    stored: jax.Array | None,
    pads: Sequence[tuple[int, int]],
    clip: jax.Array,
    starts: jax.Array,
) -> jax.Array:
    """(windows, *lengths) of a value: its box where that is read, what was stored elsewhere."""
    mask: jax.Array | None = None
    moved = lane
    for axis, (own, given) in enumerate(zip(box, access, strict=True)):
        if own is None:
            continue
        begin, size = starts[:, own[0]], own[1]
        if isinstance(given, Take):
            length, step = given.length, given.step
            first = starts[:, given.table] - begin
        else:
            assert stored is not None
            length, step = stored.shape[1 + axis] - sum(pads[axis]), 1
            first = -begin
        places = first[:, None] + step * jnp.arange(length)[None]
        shape = [len(starts)] + [1] * (lane.ndim - 1)
        shape[1 + axis] = length
        inside = isinstance(given, Take) and given.inside
        if not inside:
            here = ((places >= 0) & (places < size)).reshape(shape)
            mask = here if mask is None else mask & here
        if isinstance(given, Take) and given.offset is not None and inside:
            moved = lax.slice_in_dim(moved, given.offset, given.offset + (length - 1) * step + 1, step, 1 + axis)
        else:
            moved = jnp.take_along_axis(moved, jnp.clip(places, 0, size - 1).reshape(shape), axis=1 + axis)
    if mask is None:
        return moved
    assert stored is not None
    return jnp.where(mask, moved, region(stored, access, pads, clip, starts))


def _folded(
    step: Step, lanes: dict[int, jax.Array], stored: dict[Any, jax.Array], clip: jax.Array, starts: jax.Array
) -> jax.Array:
    """A reduction along an axis of a box together with what lies before and behind it."""
    assert step.fold
    name, axis = step.fold
    found = _REDUCED[name](lanes[step.inputs[0]], axis=1 + axis, keepdims=True)
    for side, access in zip((-1, 1), step.reads, strict=True):
        beside = region(stored[step.outputs[0], side], access, (), clip, starts)
        found = _TOGETHER[name](found, beside)
    return found
