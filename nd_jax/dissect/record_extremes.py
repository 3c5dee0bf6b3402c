"""The clips that a unit answers to most and least, kept while clips come by: in any order, in parts that are merged."""

from __future__ import annotations

import dataclasses

import numpy as np

from nd_jax.dissect.strongest import strongest


@dataclasses.dataclass(frozen=True, eq=False)
class Extremes:
    """Clips at one end of every unit's activations.

    Attributes:
      clips: (units, k) int32, the most extreme first; of equals the one with the smaller number.
      values: (units, k) float32, their activations.
    """

    clips: np.ndarray
    values: np.ndarray


class Running:
    """The `count` most extreme clips of every unit among those added so far.

    The result is the same in whatever order clips are added. Memory is `count` numbers a unit.
    """

    def __init__(self, count: int, *, lowest: bool = False):
        self._count, self._sign = count, np.float32(-1 if lowest else 1)
        self._clips: np.ndarray | None = None
        self._values: np.ndarray | None = None

    def add(self, clips: np.ndarray, values: np.ndarray) -> None:
        """Adds clips (n,), numbers ascending, with their activations (n, units); what is not a number counts least."""
        signed = np.where(np.isnan(values), np.float32(-np.inf), self._sign * values)
        if self._clips is None or self._values is None:
            units = signed.shape[1]
            self._clips, self._values = np.zeros((units, 0), np.int32), np.zeros((units, 0), np.float32)
        if self._values.shape[1] < self._count:
            rows = np.arange(len(self._values))
        else:
            rows = np.flatnonzero(signed.max(axis=0) >= self._values.min(axis=1))
        held = np.concatenate([self._values[rows], signed[:, rows].T], axis=1)
        numbers = np.broadcast_to(np.asarray(clips, np.int32), (len(rows), len(clips)))
        known = np.concatenate([self._clips[rows], numbers], axis=1)
        # What is kept stands in the order of the clips, so that of equals the first is the one with the smaller number.
        if known.size and (np.diff(known, axis=1) < 0).any():
            order = np.argsort(known, axis=1, kind="stable")
            held, known = (np.take_along_axis(each, order, axis=1) for each in (held, known))
        count = min(self._count, held.shape[1])
        if count > self._values.shape[1]:
            shape = (len(self._values), count)
            self._clips, self._values = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
        if not len(rows):
            return
        best = np.sort(strongest(held, count), axis=1)
        self._clips[rows] = np.take_along_axis(known, best, axis=1)
        self._values[rows] = np.take_along_axis(held, best, axis=1)

    def result(self) -> Extremes:
        """What was found, in order."""
        if self._clips is None or self._values is None:
            return Extremes(np.zeros((0, 0), np.int32), np.zeros((0, 0), np.float32))
        order = strongest(self._values, self._values.shape[1])
        clips, values = (np.take_along_axis(each, order, axis=1) for each in (self._clips, self._values))
        return Extremes(clips, self._sign * values)


def merged(parts: list[Extremes], count: int, *, lowest: bool = False) -> Extremes:
    """The extremes of several parts, each of other clips, as if there had been one.

    Args:
      parts: as `Running.result` gave them, of the same units and end.
      count: how many of each unit, as far as there are any.
      lowest: which end they are of.
    """
    clips = np.concatenate([part.clips for part in parts], axis=1)
    values = np.concatenate([part.values for part in parts], axis=1)
    order = np.argsort(clips, axis=1, kind="stable")
    clips, values = (np.take_along_axis(each, order, axis=1) for each in (clips, values))
    best = strongest(-values if lowest else values, min(count, clips.shape[1]))
    return Extremes(np.take_along_axis(clips, best, axis=1), np.take_along_axis(values, best, axis=1))
