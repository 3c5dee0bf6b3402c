"""Further starts of a result's lanes, and what all starts of a lane have in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from nd_jax import taps
from nd_jax.domain.axes import time_axis
from nd_jax.network import Network
from nd_jax.visualize.result import Visualization
from nd_jax.visualize.trust import agreement as agreeing
from nd_jax.visualize.trust import reading


class Compared(NamedTuple):
    """The fields of `Trust` that come from several starts."""

    agreement: np.ndarray
    seed_scores: np.ndarray
    preference: np.ndarray
    others: Visualization | None


def alone(result: Visualization) -> Compared:
    """What is known without further starts."""
    own = _highest(result.scores)[:, None]
    return Compared(np.full(len(result), np.nan), own, np.full(own.shape, -1), None)


def further(
    network: Network, result: Visualization, starts: int, probes: Any, progress: bool, steps: int | None = None
) -> Visualization:
    """Runs every lane that is not dead `starts` - 1 more times from other starts; in order, lane by lane."""
    index = living(result)
    numbers = [
        number
        for lane in index
        for number in [other for other in range(starts) if other != int(result.replicates[lane])][: starts - 1]
    ]
    again = result.rerun(
        np.repeat(index, starts - 1),
        network=network,
        replicates=np.asarray(numbers, int),
        probes=probes,
        snapshots=0,
        progress=progress,
        **({} if steps is None else {"steps": steps}),
    )
    check_whole(again)
    return dataclasses.replace(again, snapshots=None)


def check_whole(result: Visualization) -> None:
    """Passes Ctrl-C on, which `visualize_batch` answers with what there is: half a card is none."""
    if any(status.startswith("interrupted") for status in result.status):
        raise KeyboardInterrupt


def living(result: Visualization) -> np.ndarray:
    """The lanes that are not dead."""
    return np.flatnonzero([not status.startswith("dead") for status in result.status])


def compared(
    network: Network,
    result: Visualization,
    others: Visualization,
    natural: Any,
    *,
    mean: np.ndarray,
    earlier: Sequence[str],
) -> Compared:
    """Holds all starts of a lane against each other.

    Args:
      network: what was looked into.
      result: the first start of every lane.
      others: what `further` found.
      natural: natural inputs, two or more.
      mean: (lanes,) of the objective on natural inputs.
      earlier: layers before the unit's own.
    """
    index = living(result)
    count = len(others) // max(len(index), 1)
    scores = np.full((len(result), 1 + count), np.nan)
    scores[:, 0] = _highest(result.scores)
    scores[index, 1:] = _highest(others.scores).reshape(len(index), count)
    layer = space(network, result.layers[0], earlier)
    first = reading.maps(network, reading.rows(reading.best(result), index), layer)
    more = reading.maps(network, reading.best(others), layer)
    made = np.concatenate([first[:, None], more.reshape(len(index), count, *more.shape[1:])], axis=1)
    pairs = agreeing.agreement(
        made, reading.maps(network, natural, layer), _spared(network, result, index, layer, made.shape[-1])
    )
    alike, preference = np.full(len(result), np.nan), np.full(scores.shape, -1)
    for row, lane in enumerate(index):
        preference[lane] = agreeing.preferences(pairs[row], scores[lane] - mean[lane])
        alike[lane] = agreeing.mean_agreement(pairs[row], preference[lane] >= 0)
    return Compared(alike, scores, preference, others)


def space(network: Network, layer: str, earlier: Sequence[str]) -> str:
    """Where inputs are held against each other: the last earlier layer with a time axis, else the unit's own."""
    shapes = taps.layers(network)
    timed = [name for name in earlier if time_axis(network.input, shapes[name]) is not None]
    if timed:
        return timed[-1]
    lonely = taps.layer_shape(network, layer)[-1] == 1
    return earlier[-1] if lonely and earlier else layer


def _spared(network: Network, result: Visualization, index: np.ndarray, layer: str, width: int) -> np.ndarray | None:
    """(lanes, numbers) 0 for the numbers of the unit itself, which all starts drive up; None where it is not there."""
    shape = taps.layer_shape(network, layer)
    if layer != result.layers[0] or shape[-1] == 1:
        return None
    # The unit axis is the last, so a place in the flat vector says which unit it belongs to.
    unit = reading.chosen(reading.width(network, shape))[:width] % shape[-1]
    return np.where(unit[None] == np.asarray(result.units)[index][:, None], 0.0, 1.0)


def _highest(scores: Any) -> np.ndarray:
    """(lanes,) the score of each lane's best input; NaN where none is finite."""
    values = np.asarray(scores, np.float64).reshape(len(scores), -1)
    highest = np.max(np.where(np.isfinite(values), values, -np.inf), axis=1)
    return np.where(np.isfinite(highest), highest, np.nan)
