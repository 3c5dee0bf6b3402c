"""How much of a map lies where the network looks: relevance mass, rank accuracy, pointing game, area under the ROC.

All on maps of one clip, (bands, frames), and boxes of the same shape. Only what speaks for the target counts: the
positive part. A map without any found nothing, and scores 0.
"""

from __future__ import annotations

import numpy as np

from nd_jax.bench.scores import Control, Figure


def mass(values: np.ndarray, box: np.ndarray) -> float:
    """The share of the positive part inside the box (relevance mass accuracy, Arras et al. 2022, eq. 4)."""
    positive = np.maximum(np.asarray(values, np.float64), 0.0)
    total = positive.sum()
    return float(positive[box].sum() / total) if total > 0 else 0.0


def rank(values: np.ndarray, box: np.ndarray) -> float:
    """The share of the n largest values that lie in the box of n cells (relevance rank accuracy, ibid., eq. 5).

    Of equal values that do not all fit in, each counts by the share that does; values of 0 or less count for nothing.
    """
    flat, inside = np.maximum(np.asarray(values, np.float64), 0.0).ravel(), box.ravel()
    count = int(inside.sum())
    last = np.partition(flat, -count)[-count]
    above, level = flat > last, (flat == last) & (flat > 0)
    room = count - int(above.sum())
    share = room * inside[level].mean() if level.any() else 0.0
    return float((inside[above].sum() + share) / count)


def pointing(values: np.ndarray, box: np.ndarray) -> float:
    """Whether the largest value lies in the box (pointing game, Zhang et al. 2018); of several, the share that does."""
    given = np.asarray(values, np.float64)
    most = given.max()
    return float(box[given == most].mean()) if most > 0 else 0.0


def dilated(box: np.ndarray, by: tuple[int, int]) -> np.ndarray:
    """A box that reaches so many bands and frames further on every side."""
    found = box.copy()
    for axis, steps in enumerate(by):
        for _ in range(steps):
            grown = found.copy()
            for shift in (-1, 1):
                moved = np.roll(found, shift, axis)
                edge = [slice(None)] * 2
                edge[axis] = slice(-1, None) if shift < 0 else slice(0, 1)
                moved[tuple(edge)] = False
                grown |= moved
            found = grown
    return found


def along(box: np.ndarray, axes: tuple[str, ...]) -> np.ndarray:
    """What of a box a map over some axes alone can know: the frames, or the bands, of the event."""
    found = box
    if "frequency" not in axes:
        found = np.broadcast_to(found.any(axis=0, keepdims=True), box.shape)
    if "time" not in axes:
        found = np.broadcast_to(found.any(axis=1, keepdims=True), box.shape)
    return found


def moved(maps: np.ndarray, boxes: np.ndarray, axes: tuple[str, ...], *, seed: int = 0, draws: int = 999) -> Control:
    """Mean relevance mass against that of the same maps moved at random: as smooth, as peaked, in a random place.

    Moving round the ends is a permutation of the cells. All moves of a map are scored at once, by a circular
    correlation with its box.

    Args:
      maps: (n, bands, frames).
      boxes: (n, bands, frames).
      axes: along which maps are moved.
      seed: of the draws.
      draws: how many random placements of all maps.
    """
    rng = np.random.default_rng(seed)
    observed = float(np.mean([mass(*pair) for pair in zip(maps, boxes, strict=True)]))
    drawn = np.zeros(draws)
    for values, box in zip(maps, boxes, strict=True):
        positive = np.maximum(np.asarray(values, np.float64), 0.0)
        total = positive.sum()
        if total <= 0:
            continue
        overlap = np.fft.irfft2(np.conj(np.fft.rfft2(positive)) * np.fft.rfft2(box), box.shape) / total
        steps = [
            rng.integers(size, size=draws) if name in axes else np.zeros(draws, int)
            for name, size in zip(("frequency", "time"), box.shape, strict=True)
        ]
        drawn += overlap[steps[0], steps[1]] / len(maps)
    low, middle, high = np.percentile(drawn, [2.5, 50, 97.5])
    p = (1 + int(np.sum(drawn >= observed - 1e-9))) / (1 + draws)
    return Control(observed, Figure(float(middle), float(low), float(high), len(maps)), p, draws)


def area_under_roc(values: np.ndarray, positive: np.ndarray) -> float:
    """The chance that a positive place scores above a negative one, ties as halves (Mann-Whitney); NaN without both."""
    wanted = np.asarray(positive, bool)
    ours, others = np.asarray(values, np.float64)[wanted], np.asarray(values, np.float64)[~wanted]
    if not ours.size or not others.size:
        return float("nan")
    above = ours[:, None] > others[None]
    equal = ours[:, None] == others[None]
    return float(np.mean(above + 0.5 * equal))
