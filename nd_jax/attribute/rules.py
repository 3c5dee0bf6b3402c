"""How primitives move the box of what a window reaches: one rule for each kind, exact at the edges.

A rule gives the step that computes the box of the primitive's output, or None where it knows none: the primitive then
runs on whole values. It notes the box of the output in `planner.boxes`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nd_jax.attribute.flat import POINTWISE, Equation
from nd_jax.attribute.reach import Box, Planner, Shape, Span, Step, Take, span

Rule = Callable[[Planner, int, Equation], Step | None]

# {reduction: its value of nothing}
_MONOIDS = {"reduce_sum": 0.0, "reduce_max": -math.inf, "reduce_min": math.inf}
_POOLINGS = {"reduce_window_sum": 0.0, "reduce_window_max": -math.inf, "reduce_window_min": math.inf}
# {what works along some axes: the parameter that names them}
_ALONG = {
    **dict.fromkeys(("reduce_prod", "reduce_and", "reduce_or", "reduce_xor", "argmax", "argmin"), "axes"),
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"), "axis"),
    "rev": "dimensions",
}


def _pointwise(planner: Planner, number: int, equation: Equation) -> Step | None:
    out = equation.outputs[0]
    shape = planner.shapes[out]
    full = [len(planner.shape_of(value)) == len(shape) for value in equation.inputs]
    known = [value for value, whole in zip(equation.inputs, full, strict=True) if whole and planner.reached(value)]
    box = planner.hull([planner.boxes[value] for value in known] or [(None,) * len(shape)], shape)
    # The others are single numbers: a bound, a choice for all.
    reads = (planner.at_box(v, box) if whole else () for v, whole in zip(equation.inputs, full, strict=True))
    planner.boxes[out] = box
    return Step(number, tuple(reads))


def slid(part: Span, size: int, stride: int, dilation: int, low: int, length: int) -> Span | None:
    """Where the results of a window that slides along an axis read from a box.

    Result o reads the steps o * stride - low + t * dilation, t = 0 ... size - 1.

    Args:
      part: the box along the axis.
      size: steps of the sliding window.
      stride: of it.
      dilation: of it.
      low: steps in front of the first, negative for steps left out.
      length: number of results.
    """
    first = -((-(part.low + low - (size - 1) * dilation)) // stride)
    last = (part.high - 1 + low) // stride
    return span(part.source, first, last + 1, length)


def _sliding(
    planner: Planner,
    number: int,
    equation: Equation,
    axes: Sequence[tuple[int, int, int, int, int, int]],
    padding: Sequence[tuple[int, int]],
    changed: Callable[[Planner, int, list[tuple[int, int]], list[int]], tuple[tuple[str, Any], ...]],
    fill: float,
) -> Step | None:
    """Convolutions and poolings.

    Args:
      planner: the planner.
      number: of the equation.
      equation: its first input slides, all others are constants.
      axes: (axis of the input, of the output, size, stride, dilation of the input, dilation) of each that it slides on.
      padding: of these axes.
      changed: parameters from (planner, input, padding that is left to do, sizes of the box read).
      fill: what stands outside.
    """
    value, out = equation.inputs[0], equation.outputs[0]
    if not planner.reached(value) or any(map(planner.reached, equation.inputs[1:])):
        return None
    reads: list[Take | int | None] = [None] * len(planner.shapes[value])
    box: list[Span | None] = [None] * len(planner.shapes[out])
    left = list(padding)
    sizes = list(planner.shapes[value])
    for place, (axis, onto, size, stride, spread, dilation) in enumerate(axes):
        part = planner.boxes[value][axis]
        if part is None or spread != 1:
            continue
        low = padding[place][0]
        found = slid(part, size, stride, dilation, low, planner.shapes[out][onto])
        if found is None:
            continue
        box[onto] = found
        reach = (found.size - 1) * stride + (size - 1) * dilation + 1
        reads[axis] = planner.take(value, axis, stride * found.start - low, reach)
        left[place] = (0, 0)
        sizes[axis] = reach
    planner.boxes[out] = tuple(box)
    read = planner.read(value, tuple(reads), fill)
    changes = changed(planner, value, left, sizes)
    return Step(number, (read, *(() for _ in equation.inputs[1:])), fill, changes)


def _nd_conv(planner: Planner, number: int, equation: Equation) -> Step | None:
    geometry = equation.params["geometry"]
    axes = [(1 + a, 1 + a, geometry.kernel_size[a], geometry.strides[a], 1, geometry.dilation[a]) for a in (0, 1)]

    def changed(planner: Planner, value: int, left: Any, sizes: Any) -> tuple[tuple[str, Any], ...]:
        smaller = dataclasses.replace(geometry, padding=tuple(left), input_size=(sizes[1], sizes[2]))
        return (("geometry", smaller),)

    return _sliding(planner, number, equation, axes, geometry.padding, changed, 0.0)


def _conv(planner: Planner, number: int, equation: Equation) -> Step | None:
    params = equation.params
    numbers, kernel = params["dimension_numbers"], planner.shape_of(equation.inputs[1])
    if params["batch_group_count"] != 1:
        return None
    spatial = range(len(params["window_strides"]))
    axes = [
        (
            numbers.lhs_spec[2 + a],
            numbers.out_spec[2 + a],
            kernel[numbers.rhs_spec[2 + a]],
            params["window_strides"][a],
            params["lhs_dilation"][a],
            params["rhs_dilation"][a],
        )
        for a in spatial
    ]
    return _sliding(planner, number, equation, axes, params["padding"], _padding, 0.0)


def _padding(planner: Planner, value: int, left: Any, sizes: Any) -> tuple[tuple[str, Any], ...]:
    return (("padding", tuple(left)),)


def _pooling(planner: Planner, number: int, equation: Equation) -> Step | None:
    params = equation.params
    axes = [
        (a, a, size, params["window_strides"][a], params["base_dilation"][a], params["window_dilation"][a])
        for a, size in enumerate(params["window_dimensions"])
    ]
    return _sliding(planner, number, equation, axes, params["padding"], _padding, _POOLINGS[equation.primitive.name])


def _slice(planner: Planner, number: int, equation: Equation) -> Step | None:
    params, value, out = equation.params, equation.inputs[0], equation.outputs[0]
    begin, end = list(params["start_indices"]), list(params["limit_indices"])
    strides = list(params["strides"] or (1,) * len(begin))
    reads: list[Take | int | None] = [None] * len(begin)
    box: list[Span | None] = [None] * len(begin)
    for axis, part in enumerate(planner.boxes[value]):
        if part is None:
            continue
        step, first = strides[axis], begin[axis]
        found = slid(part, 1, step, 1, -first, planner.shapes[out][axis])
        if found is None:
            continue
        box[axis] = found
        reads[axis] = planner.take(value, axis, first + step * found.start, found.size, step)
        begin[axis], end[axis], strides[axis] = 0, found.size, 1
    planner.boxes[out] = tuple(box)
    changes = (("start_indices", tuple(begin)), ("limit_indices", tuple(end)), ("strides", tuple(strides)))
    return Step(number, (planner.read(value, tuple(reads)),), 0.0, changes)


def _pad(planner: Planner, number: int, equation: Equation) -> Step | None:
    value, fill = equation.inputs
    if isinstance(fill, int) or not planner.reached(value):
        return None
    out, config = equation.outputs[0], list(equation.params["padding_config"])
    reads: list[Take | int | None] = [None] * len(config)
    box: list[Span | None] = [None] * len(config)
    for axis, part in enumerate(planner.boxes[value]):
        low, _, interior = config[axis]
        if part is None or interior:
            continue
        found = slid(part, 1, 1, 1, low, planner.shapes[out][axis])
        if found is None:
            continue
        box[axis] = found
        reads[axis] = planner.take(value, axis, found.start - low, found.size)
        config[axis] = (0, 0, 0)
    planner.boxes[out] = tuple(box)
    read = planner.read(value, tuple(reads), float(fill))
    return Step(number, (read, ()), float(fill), (("padding_config", tuple(config)),))


def _broadcast(planner: Planner, number: int, equation: Equation) -> Step | None:
    value, out = equation.inputs[0], equation.outputs[0]
    shape = list(planner.shapes[out])
    box: list[Span | None] = [None] * len(shape)
    for axis, onto in enumerate(equation.params["broadcast_dimensions"]):
        part = planner.boxes[value][axis]
        if part:
            box[onto], shape[onto] = part, part.size
    planner.boxes[out] = tuple(box)
    return Step(number, ((),) * len(equation.inputs), 0.0, (("shape", tuple(shape)),))


def _squeeze(planner: Planner, number: int, equation: Equation) -> Step | None:
    value, out = equation.inputs[0], equation.outputs[0]
    gone = equation.params["dimensions"]
    planner.boxes[out] = tuple(part for axis, part in enumerate(planner.boxes[value]) if axis not in gone)
    return Step(number, ((),))


def _expand(planner: Planner, number: int, equation: Equation) -> Step | None:
    value, out = equation.inputs[0], equation.outputs[0]
    parts = iter(planner.boxes[value])
    new = equation.params["dimensions"]
    planner.boxes[out] = tuple(None if axis in new else next(parts) for axis in range(len(planner.shapes[out])))
    return Step(number, ((),))


def _transpose(planner: Planner, number: int, equation: Equation) -> Step | None:
    value, out = equation.inputs[0], equation.outputs[0]
    planner.boxes[out] = tuple(planner.boxes[value][axis] for axis in equation.params["permutation"])
    return Step(number, ((),))


def _reshape(planner: Planner, number: int, equation: Equation) -> Step | None:
    value, out = equation.inputs[0], equation.outputs[0]
    if equation.params.get("dimensions") is not None:
        return None
    old, new, own = planner.shapes[value], planner.shapes[out], planner.boxes[value]
    reads: list[Take | int | None] = [None] * len(old)
    box: list[Span | None] = [None] * len(new)
    sizes = list(new)
    for before, after in groups(old, new):
        spans = [axis for axis in before if own[axis]]
        onto = next((axis for axis in after if new[axis] > 1), None)
        if len(spans) != 1 or onto is None or any(old[axis] > 1 for axis in before if axis < spans[0]):
            continue
        axis = spans[0]
        part = own[axis]
        assert part is not None
        # A step of the old axis is `inner` numbers, of the new one `wide`.
        inner = math.prod(old[each] for each in before if each > axis)
        wide = math.prod(new[each] for each in after if each > onto)
        if wide % inner == 0:
            many = wide // inner
            found = span(part.source, part.low // many, -(-part.high // many), new[onto])
            if found:
                reads[axis] = planner.take(value, axis, found.start * many, found.size * many)
        elif inner % wide == 0:
            many = inner // wide
            found = Span(part.source, part.low * many, part.high * many, part.start * many, part.size * many)
            reads[axis] = planner.take(value, axis, part.start, part.size)
        else:
            continue
        if found:
            box[onto], sizes[onto] = found, found.size
    planner.boxes[out] = tuple(box)
    read = planner.read(value, tuple(reads))
    return Step(number, (read,) + ((),) * (len(equation.inputs) - 1), 0.0, (("new_sizes", tuple(sizes)),))


def groups(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]]:
    """Neighbouring axes of two shapes of one reshape that hold the same numbers."""
    found, i, j = [], 0, 0
    while i < len(old) and j < len(new):
        before, after, left, right = [i], [j], old[i], new[j]
        while left != right:
            if left < right:
                before.append(before[-1] + 1)
                left *= old[before[-1]]
            else:
                after.append(after[-1] + 1)
                right *= new[after[-1]]
        found.append((before, after))
        i, j = before[-1] + 1, after[-1] + 1
    return found


def _concatenate(planner: Planner, number: int, equation: Equation) -> Step | None:
    out, along = equation.outputs[0], equation.params["dimension"]
    boxes = [planner.boxes[value] for value in equation.inputs if planner.reached(value)]
    free = [tuple(None if axis == along else part for axis, part in enumerate(box)) for box in boxes]
    box = planner.hull(free, planner.shapes[out])
    reads = tuple(planner.at_box(value, box) for value in equation.inputs)
    planner.boxes[out] = box
    return Step(number, reads)


def _dot(planner: Planner, number: int, equation: Equation) -> Step | None:
    contracted, batched = equation.params["dimension_numbers"]
    sides = list(map(planner.reached, equation.inputs))
    if all(sides) or batched[0]:
        return None
    side = sides.index(True)
    value, out = equation.inputs[side], equation.outputs[0]
    kept: Box = tuple(None if axis in contracted[side] else part for axis, part in enumerate(planner.boxes[value]))
    free = [part for axis, part in enumerate(kept) if axis not in contracted[side]]
    others = len(planner.shapes[out]) - len(free)
    planner.boxes[out] = (*free, *(None,) * others) if side == 0 else (*(None,) * others, *free)
    read = planner.at_box(value, kept)
    return Step(number, (read, ()) if side == 0 else ((), read))


def _reduce(planner: Planner, number: int, equation: Equation) -> Step | None:
    """A reduction: along the axes of the box, what lies before and behind it is known beforehand."""
    value, out, axes = equation.inputs[0], equation.outputs[0], equation.params["axes"]
    for axis in axes:
        if planner.boxes[value][axis]:
            value = planner.fold(value, axis, equation.primitive.name)
    planner.boxes[out] = tuple(part for axis, part in enumerate(planner.boxes[value]) if axis not in axes)
    return Step(number, ((),), inputs=(value,))


def _along(planner: Planner, number: int, equation: Equation) -> Step | None:
    """What needs the whole of some axes."""
    if len(equation.inputs) != 1:
        return None
    name, value, out = equation.primitive.name, equation.inputs[0], equation.outputs[0]
    axes = np.atleast_1d(equation.params[_ALONG[name]])
    box = tuple(None if axis in axes else part for axis, part in enumerate(planner.boxes[value]))
    read = planner.at_box(value, box)
    gone = len(planner.shapes[out]) < len(box)
    planner.boxes[out] = tuple(part for axis, part in enumerate(box) if not gone or axis not in axes)
    return Step(number, (read,))


RULES: dict[str, Rule] = {
    **dict.fromkeys(POINTWISE, _pointwise),
    **dict.fromkeys(_MONOIDS, _reduce),
    **dict.fromkeys(_POOLINGS, _pooling),
    **dict.fromkeys(_ALONG, _along),
    "nd_conv": _nd_conv,
    "conv_general_dilated": _conv,
    "slice": _slice,
    "pad": _pad,
    "broadcast_in_dim": _broadcast,
    "squeeze": _squeeze,
    "expand_dims": _expand,
    "transpose": _transpose,
    "reshape": _reshape,
    "concatenate": _concatenate,
    "dot_general": _dot,
}
