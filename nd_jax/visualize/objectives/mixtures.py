"""Objectives between objectives: lanes, or the inputs of a lane, on the way from one to another."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from nd_jax.visualize.objectives.core import Objective, Term, lanes_of


def interpolate(a: Objective, b: Objective, count: int, *, together: bool = False) -> Objective:
    """From a to b: (1 - t) a + t b for `count` values of t from 0 to 1 (Lucid's `channel_interpolate`).

    Args:
      a: an objective whose units are given.
      b: another, of as many lanes, or one.
      count: how many, both ends included, at least 2.
      together: False makes them lanes of their own, those of the first lane of a and b first; True makes them the
        inputs of one lane, for `inputs_per_lane=count`, which `alignment` then keeps alike.

    Raises:
      ValueError: a count below 2, lanes that do not go together, units that are not given.
    """
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 2:
        raise ValueError(f"an interpolation has 2 or more points, got {count!r}")
    t = np.arange(count) / (count - 1)
    if together:
        _lanes([a, b])
        shared = zip((a, b), (1 - t, t), strict=True)
        return Objective(tuple(_shared(term, part) for objective, part in shared for term in objective.terms))
    return _mixed([a, b], np.stack([1 - t, t]))


def grid(corners: Sequence[Objective], shape: tuple[int, int]) -> Objective:
    """Between four objectives: a grid of lanes, row by row, mixed bilinearly.

    Args:
      corners: the objectives at the upper left, upper right, lower left and lower right, of one lane each or of equally
        many (then grid after grid).
      shape: rows and columns, at least 2 each.

    Raises:
      ValueError: not four corners, or a side below 2.
    """
    if len(corners) != 4:
        raise ValueError(f"a grid has 4 corners, got {len(corners)}")
    if len(shape) != 2 or min(shape) < 2:
        raise ValueError(f"a grid has 2 or more rows and columns, got {shape!r}")
    down, right = np.meshgrid(*(np.arange(size) / (size - 1) for size in shape), indexing="ij")
    weights = [(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right]
    return _mixed(corners, np.stack([part.reshape(-1) for part in weights]))


def _mixed(objectives: Sequence[Objective], weights: np.ndarray) -> Objective:
    """For each lane of the objectives one lane a column of weights (objectives, points)."""
    lanes, points = _lanes(objectives), weights.shape[1]
    index = np.repeat(np.arange(lanes), points)
    terms = []
    for objective, row in zip(objectives, weights, strict=True):
        for term in objective.terms:
            spread = _chosen(term, index)
            factor = np.tile(row, lanes).astype(np.float32)
            terms.append(dataclasses.replace(spread, weight=np.broadcast_to(spread.weight, len(index)) * factor))
    return Objective(tuple(terms))


def _shared(term: Term, share: np.ndarray) -> Term:
    if term.share is not None:
        raise ValueError("a path cannot be an end of another path")
    return dataclasses.replace(term, share=share[None].astype(np.float32))


def _lanes(objectives: Sequence[Objective]) -> int:
    terms = [term for objective in objectives for term in objective.terms]
    for term in terms:
        if term.units is None:
            raise ValueError(f"say which units of {term.layer!r}: what lies between all of them is not clear")
        if term.target is not None or term.kind in ("match", "caricature"):
            raise ValueError(f"an end of an interpolation cannot be a {term.kind}: mix its activations instead")
    counts = [lanes_of(term) for term in terms]
    lanes = max(counts)
    if any(count not in (1, lanes) for count in counts):
        raise ValueError(f"the ends of an interpolation have {counts} lanes; give each the same number, or one")
    return lanes


def _chosen(term: Term, index: np.ndarray) -> Term:
    """A term with the given lanes only, where it has more than one."""

    def take(array: np.ndarray) -> np.ndarray:
        return array[index] if len(array) > 1 else array

    units = term.units or ()
    return dataclasses.replace(
        term,
        units=tuple(units[i] for i in index) if len(units) > 1 else units,
        arrays=jax.tree.map(take, dict(term.arrays)),
        options=tuple(
            (name, tuple(value[i] for i in index) if name == "groups" and len(value) > 1 else value)
            for name, value in term.options
        ),
        weight=take(term.weight),
        names=tuple(term.names[i] for i in index) if len(term.names) > 1 else term.names,
    )
