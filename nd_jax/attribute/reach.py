"""Which values of a network a window can reach, told from the program of its forward pass.

`plan` follows, primitive by primitive, the box of values that depend on what stands in a window: a convolution widens
it, a stride thins it out, a dense layer over a flattened map lets it reach everything. Nothing is told from what a
layer is called. A primitive that is not known here is taken to reach everything, so that a plan is never wrong, only
sometimes useless: attention, a norm over the whole input or a recurrence leave no box, and `Plan.gain` says so.

The places of windows are known before anything is compiled. Where a box begins is worked out for every interval of the
grid beforehand, so that one program with boxes of fixed sizes serves all windows, those at the edges too.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nd_jax.attribute.flat import POINTWISE, Equation, Flat

Shape = tuple[int, ...]

# What a number that is fetched or written costs beside a multiplication in a product (measured: docs/attribution.md).
MOVE = 8.0


@dataclasses.dataclass(frozen=True, eq=False)
class Span:
    """Where a box lies along one axis, for every interval of the grid along the axis of the input it comes from.

    Attributes:
      source: axis of the grid.
      low: (intervals,) first step that the interval reaches.
      high: likewise, the step after the last.
      start: likewise, where the box begins; it never leaves the axis.
      size: steps of the box.
    """

    source: int
    low: np.ndarray
    high: np.ndarray
    start: np.ndarray
    size: int


Box = tuple[Span | None, ...]


def span(source: int, low: Any, high: Any, length: int) -> Span | None:
    """The narrowest box of one size around intervals of an axis; None where that is the whole axis."""
    low = np.clip(low, 0, length)
    high = np.clip(high, low, length)
    size = max(int(np.max(high - low, initial=0)), 1)
    if size >= length:
        return None
    return Span(source, low, high, np.clip(low, 0, length - size), size)


@dataclasses.dataclass(frozen=True)
class Take:
    """What a step reads along one axis of a value: `length` steps, `step` apart, from column `table` of the starts.

    Attributes:
      table: where the first begins; it may lie before the beginning of the axis.
      length: how many.
      step: how far apart.
      inside: whether all of them lie in the value's box, for all windows.
      outside: how many at most lie before and behind the axis, for some window.
      offset: of the first from the beginning of the box where it is the same for all windows, else None.
    """

    table: int
    length: int
    step: int
    inside: bool
    outside: tuple[int, int]
    offset: int | None


# For every axis: None is all of it, a number so many steps from anywhere, of a constant that is the same all along it.
Access = tuple[Take | int | None, ...]
Place = tuple[tuple[int, int] | None, ...]


@dataclasses.dataclass(frozen=True)
class Step:
    """One primitive on boxes.

    Attributes:
      equation: its number in the flat program; -1 for a fold.
      reads: for every input how it is read; () takes it as it is.
      fill: what stands outside of the first input.
      changes: parameters of the primitive that differ from those of the whole program.
      fold: of a fold (the input reduced along an axis that stays, with one step): reduction and axis.
      inputs, outputs: numbers of values, of a fold.
    """

    equation: int
    reads: tuple[Access, ...]
    fill: float = 0.0
    changes: tuple[tuple[str, Any], ...] = ()
    fold: tuple[str, int] | None = None
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Program:
    """What is compiled: two grids with the same program run without compiling again.

    Attributes:
      first: the box of the input, (column of the starts, size) or None for each axis.
      steps: in order.
      boxes: of every value that has one, (value, likewise).
      stored: values of the clips as they are that steps read from: (value, what surrounds it, how much of that).
      results: how the results are read.
    """

    first: Place
    steps: tuple[Step, ...]
    boxes: tuple[tuple[int, Place], ...]
    stored: tuple[tuple[int, float, tuple[tuple[int, int], ...]], ...]
    results: tuple[Access, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """How windows are followed through a network.

    Attributes:
      program: what is compiled.
      tables: (axis of the grid, (intervals,) starts), one for each column.
      cost: of one window, in multiplications.
      whole: of the whole network, likewise.
      moved: numbers that one window's boxes hold, which bounds the memory that it takes.
      kept: numbers that are stored for a clip.
    """

    program: Program
    tables: tuple[tuple[int, np.ndarray], ...]
    cost: float
    whole: float
    moved: int
    kept: int

    @property
    def gain(self) -> float:
        """How many times less work than the whole network it is."""
        return self.whole / self.cost


class Planner:
    """What the rules share: boxes of values, columns of starts, and what reading costs.

    Attributes:
      shapes: of every value, those of folds behind those of the flat program.
      boxes: of every value that depends on the input.
    """

    def __init__(self, flat: Flat, first: Box):
        self.shapes = list(flat.shapes)
        self.boxes: dict[int, Box] = {flat.example: first}
        self._flat = flat
        self._same: dict[int, set[int]] = {}
        self._tables: list[tuple[int, np.ndarray]] = []
        self._columns: dict[tuple[int, bytes], int] = {}
        self._steps: list[Step] = []
        self._stored: dict[tuple[int, float], list[list[int]]] = {}
        self._cost = self._whole = 0.0
        self._moved = self._folded = 0

    def plan(self, rules: Mapping[str, Any]) -> Plan:
        """Follows the box through all equations."""
        flat = self._flat
        first = tuple(map(self._place, self.boxes[flat.example]))
        for number, equation in enumerate(flat.equations):
            if number not in flat.reached:
                self._note_same(equation)
                continue
            products = self._products(equation)
            wrote = sum(math.prod(self.shapes[value]) for value in equation.outputs)
            self._whole += products + MOVE * wrote
            rule = rules.get(equation.primitive.name)
            step = rule(self, number, equation) if rule else None
            if step is None:
                step = Step(number, tuple(self.everything(value) for value in equation.inputs))
                self.boxes.update({value: (None,) * len(self.shapes[value]) for value in equation.outputs})
            self._steps.append(step)
            boxed = sum(math.prod(self.sizes(value)) for value in equation.outputs)
            self._cost += products * boxed / max(wrote, 1) + MOVE * boxed
            self._moved += boxed
        results = tuple(self.everything(value) for value in flat.results)
        boxes = tuple((value, tuple(map(self._place, box))) for value, box in self.boxes.items())
        stored = tuple((*key, tuple((low, high) for low, high in pads)) for key, pads in self._stored.items())
        program = Program(first, tuple(self._steps), boxes, stored, results)
        kept = sum(
            math.prod(length + low + high for length, (low, high) in zip(self.shapes[value], pads, strict=True))
            for value, _, pads in stored
        )
        return Plan(program, tuple(self._tables), self._cost, self._whole, self._moved, kept + self._folded)

    def _place(self, part: Span | None) -> tuple[int, int] | None:
        return None if part is None else (self.column(part.source, part.start), part.size)

    def column(self, source: int, start: np.ndarray) -> int:
        """The number of a column of the starts; equal ones are one."""
        start = np.asarray(start, np.int32)
        key = (source, start.tobytes())
        if key not in self._columns:
            self._columns[key] = len(self._tables)
            self._tables.append((source, start))
        return self._columns[key]

    def reached(self, value: Any) -> bool:
        """Whether an input of an equation depends on the network's input."""
        return isinstance(value, int) and value in self.boxes

    def shape_of(self, value: Any) -> Shape:
        """Of an input of an equation."""
        return self.shapes[value] if isinstance(value, int) else np.shape(value)

    def sizes(self, value: int) -> Shape:
        """The shape of a value's box."""
        return tuple(
            part.size if part else length for part, length in zip(self.boxes[value], self.shapes[value], strict=True)
        )

    def hull(self, boxes: Sequence[Box], shape: Shape) -> Box:
        """The box around boxes."""
        found: list[Span | None] = []
        for parts, length in zip(zip(*boxes, strict=True), shape, strict=True):
            spans = [part for part in parts if part]
            if len(spans) < len(parts) or len({part.source for part in spans}) > 1:
                found.append(None)
            elif len(spans) == 1:
                found.append(spans[0])
            else:
                low = np.min([part.low for part in spans], axis=0)
                high = np.max([part.high for part in spans], axis=0)
                found.append(span(spans[0].source, low, high, length))
        return tuple(found)

    # --- how values are read ------------------------------------------------------------------------------------------

    def take(self, value: int, axis: int, start: np.ndarray, length: int, step: int = 1) -> Take:
        """Steps of an axis that has a box, from `start` on for each interval."""
        own = self.boxes[value][axis]
        assert own is not None
        last = start + (length - 1) * step
        inside = bool(np.all((start >= own.start) & (last < own.start + own.size)))
        before = max(0, -int(np.min(start)))
        behind = max(0, int(np.max(last)) + 1 - self.shapes[value][axis])
        offsets = np.unique(start - own.start)
        offset = int(offsets[0]) if len(offsets) == 1 else None
        return Take(self.column(own.source, start), length, step, inside, (before, behind), offset)

    def read(self, value: int, access: Access, fill: float = 0.0) -> Access:
        """Notes what an access costs and needs; () where it is the box itself."""
        pairs = list(zip(self.boxes[value], access, strict=True))
        if all(
            not own or (isinstance(a, Take) and (a.offset, a.length, a.step) == (0, own.size, 1)) for own, a in pairs
        ):
            return ()
        if not all(not own or (isinstance(a, Take) and a.inside) for own, a in pairs):
            pads = self._stored.setdefault((value, fill), [[0, 0] for _ in pairs])
            for pad, given in zip(pads, access, strict=True):
                if isinstance(given, Take):
                    pad[:] = max(pad[0], given.outside[0]), max(pad[1], given.outside[1])
        count = 1
        for given, length in zip(access, self.shapes[value], strict=True):
            count *= given.length if isinstance(given, Take) else length
        self._cost += MOVE * count
        self._moved += count
        return access

    def at_box(self, value: Any, box: Box) -> Access:
        """An input of an equation at a box of its shape, which holds its own if it has one."""
        if not self.reached(value):
            return self._constant(value, box)
        access: list[Take | int | None] = []
        for axis, (own, part) in enumerate(zip(self.boxes[value], box, strict=True)):
            access.append(self.take(value, axis, part.start, part.size) if own and part else None)
        return self.read(value, tuple(access))

    def everything(self, value: Any) -> Access:
        """An input of an equation on the whole of its axes."""
        return self.at_box(value, (None,) * len(self.shapes[value])) if self.reached(value) else ()

    def fold(self, value: int, axis: int, monoid: str) -> int:
        """A reduction along an axis of the box: the axis stays, with one step.

        What lies before and behind the box is known beforehand for every place.
        """
        own = self.boxes[value][axis]
        assert own is not None
        sides = []
        for start in (own.start, own.start + own.size):
            access: list[Take | int | None] = []
            for place, part in enumerate(self.boxes[value]):
                begin, size = (start, 1) if place == axis else (part.start, part.size) if part else (None, 0)
                source = part.source if part else 0
                taken = None if begin is None else Take(self.column(source, begin), size, 1, False, (0, 0), None)
                access.append(taken)
            sides.append(tuple(access))
        shape = list(self.shapes[value])
        self._folded += 2 * math.prod(shape) * (shape[axis] + 1) // shape[axis]
        shape[axis] = 1
        number = len(self.shapes)
        self.shapes.append(tuple(shape))
        self.boxes[number] = tuple(None if place == axis else part for place, part in enumerate(self.boxes[value]))
        self._steps.append(Step(-1, tuple(sides), fold=(monoid, axis), inputs=(value,), outputs=(number,)))
        self._cost += 2 * MOVE * math.prod(self.sizes(number))
        return number

    def _constant(self, value: Any, box: Box) -> Access:
        """What does not depend on the input, at a box; an axis of one step stays, it is spread out later."""
        shape, same = self.shape_of(value), self._same_along(value)
        access: list[Take | int | None] = []
        for axis, part in enumerate(box):
            if part is None or shape[axis] == 1:
                access.append(None)
            elif axis in same:
                access.append(part.size)
            else:
                access.append(Take(self.column(part.source, part.start), part.size, 1, False, (0, 0), None))
        return tuple(access) if any(given is not None for given in access) else ()

    def _same_along(self, value: Any) -> set[int]:
        """Along which axes a constant is the same everywhere."""
        single = {axis for axis, length in enumerate(self.shape_of(value)) if length == 1}
        return single | (self._same.get(value, set()) if isinstance(value, int) else set())

    def _note_same(self, equation: Equation) -> None:
        out = equation.outputs[0]
        axes: set[int] = set()
        if equation.primitive.name == "broadcast_in_dim":
            kept = set(range(len(self.shape_of(equation.inputs[0])))) - self._same_along(equation.inputs[0])
            mapped = enumerate(equation.params["broadcast_dimensions"])
            axes = set(range(len(self.shapes[out]))) - {onto for axis, onto in mapped if axis in kept}
        elif equation.primitive.name in POINTWISE:
            axes = set(range(len(self.shapes[out])))
            for value in equation.inputs:
                if self.shape_of(value):
                    axes &= self._same_along(value)
        self._same[out] = axes

    def _products(self, equation: Equation) -> float:
        """Multiplications of a primitive on whole values."""
        name, params = equation.primitive.name, equation.params
        if name not in ("nd_conv", "conv_general_dilated", "dot_general"):
            return 0.0
        left, right = map(self.shape_of, equation.inputs[:2])
        outputs = math.prod(self.shapes[equation.outputs[0]])
        if name == "dot_general":
            return outputs * math.prod(left[axis] for axis in params["dimension_numbers"][0][0])
        last = -1 if name == "nd_conv" else params["dimension_numbers"].rhs_spec[0]
        return outputs * math.prod(right) / right[last]
