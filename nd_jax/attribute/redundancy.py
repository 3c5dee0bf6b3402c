"""Is there one reason, or are there several of which each is enough? Windows kept alone, and taken away in pairs.

Where either of two sounds is enough for a class, taking one away changes nothing: plain occlusion shows an empty map.
Two further looks show what it misses. For a score f, an input x, a baseline b and windows i with masks M_i

    single       f(x) - f(x without M_i)
    keep only    f(b with M_i of x) - f(b)
    pair         f(x) - f(x without M_i and M_j)
    everything   f(x) - f(b)

A clip is flagged as redundant where no single window costs a tenth of what everything costs.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.attribute import targets
from nd_jax.attribute.baselines import NEIGHBOURS, baseline_of
from nd_jax.attribute.removal import Way, covered
from nd_jax.attribute.spectra import TimeFrequency
from nd_jax.attribute.sweep import prepared
from nd_jax.attribute.windows import Grid, laid
from nd_jax.network import Network
from nd_jax.runtime import progress_bar

SHARE = 0.1
"""Of what everything costs: a clip without a window that costs so much is flagged."""


@dataclasses.dataclass(frozen=True, eq=False)
class Redundancy:
    """Of one clip or several; of an objective with several lanes with their axis after that of the clips.

    Attributes:
      scores: (...) of the inputs as they are.
      everything: (...) how far the score falls when all is taken away.
      single: (..., windows) how far it falls without each window.
      keep_only: (..., windows) how far it rises over the baseline's with each window alone.
      pairs: (..., pairs, 2) numbers of the windows that were taken away together: of those with the largest
        `keep_only`.
      pair: (..., pairs) how far it falls without both.
      grid: the windows.
      labels: names of the targets.
    """

    scores: np.ndarray
    everything: np.ndarray
    single: np.ndarray
    keep_only: np.ndarray
    pairs: np.ndarray
    pair: np.ndarray
    grid: Grid
    labels: tuple[str, ...]

    @property
    def largest(self) -> np.ndarray:
        """(...) the largest fall without one window, over that without everything; NaN where there is none to share."""
        whole = np.where(self.everything > 0, self.everything, np.nan)
        return self.single.max(axis=-1) / whole

    @property
    def flagged(self) -> np.ndarray:
        """(...) bool: whether no single window costs a tenth of what everything costs.

        Evidence that is spread over many windows does that too: there the single falls add up to about everything,
        where each of several sounds is enough they add up to far less.
        """
        return self.largest < SHARE

    @property
    def best_pair(self) -> np.ndarray:
        """(..., 2) numbers of the two windows that cost most together."""
        place = np.argmax(self.pair, axis=-1)
        return np.take_along_axis(self.pairs, place[..., None, None], axis=-2)[..., 0, :]


def redundancy(
    network: Network,
    x: Any,
    target: targets.Target,
    *,
    window: int | Sequence[int] | None = None,
    stride: int | Sequence[int] | None = None,
    time: Any = None,
    time_stride: float | None = None,
    frequency: Any = None,
    frequency_stride: float | None = None,
    n_fft: int = 512,
    candidates: int = 16,
    baseline: Any = "silence",
    key: jax.Array | None = None,
    chunk_size: int = 64,
    progress: bool | Callable[[int, int], None] = False,
) -> Redundancy:
    """Takes every window away, keeps every window alone, and takes the most telling ones away in pairs.

    Args:
      network: any Network that takes one array.
      x: (*shape) or (clips, *shape).
      target: see `targets`.
      window: as in `occlusion`. Take windows of about the size of what may be enough alone.
      stride: as in `occlusion`.
      time: as in `occlusion`.
      time_stride: as in `occlusion`.
      frequency: as in `occlusion`.
      frequency_stride: as in `occlusion`.
      n_fft: as in `occlusion`.
      candidates: windows that are taken away in pairs, those with the largest keep-only: all their pairs.
      baseline: what stands where something is taken away, see `baselines` (not "neighbours").
      key: for the baseline "noise".
      chunk_size: inputs that the network sees at once.
      progress: True for a bar with the time left, or a function of (inputs done, in total).

    Raises:
      LayerError, ValueError: whatever does not fit, in one sentence, before anything runs.
    """
    size = targets.whole("chunk_size", chunk_size)
    if targets.whole("candidates", candidates) < 2:
        raise ValueError("pairs need at least 2 candidates, got 1")
    if isinstance(baseline, str) and baseline == NEIGHBOURS:
        raise ValueError("baseline 'neighbours' belongs to single windows: it is for occlusion only")
    clips, several = targets.inputs(network, x)
    goal, own = targets.bound(network, target, len(clips))
    windows, seen = laid(
        network.input,
        len(clips),
        n_fft,
        window=window,
        stride=stride,
        time=time,
        time_stride=time_stride,
        frequency=frequency,
        frequency_stride=frequency_stride,
    )
    count = len(windows)
    if count < 2:
        raise ValueError("redundancy needs at least 2 windows, and these settings give 1")
    way: Way = seen if isinstance(seen, TimeFrequency) else "values"
    instead = prepared(clips, baseline_of(network.input, clips, baseline, key=key), way)
    lanes = 1 if own is not None else len(goal)
    chosen = min(int(candidates), count)
    couples = np.stack(np.triu_indices(chosen, 1), axis=-1)
    total = len(clips) * (2 + 2 * count + lanes * len(couples))
    with progress_bar(total, "input", progress) as advance:
        ask = functools.partial(_asked, network, goal, own, clips, instead, windows, way, size, advance)
        # Window -1 is none: as it is, and (kept alone) the baseline.
        each = np.concatenate([[-1], np.arange(count)])
        clip = np.repeat(np.arange(len(clips)), count + 1)
        both = np.tile(np.stack([each, np.full(count + 1, -1)], axis=-1), (len(clips), 1))
        without, alone = (
            np.moveaxis(ask(clip, both, kept).reshape(len(clips), count + 1, lanes), 1, 2) for kept in (False, True)
        )
        plain, nothing = without[..., 0], alone[..., 0]
        keep_only = alone[..., 1:] - nothing[..., None]
        # (clips, lanes, candidates), then their pairs.
        best = np.sort(np.argsort(-keep_only, axis=-1, kind="stable")[..., :chosen], axis=-1)
        pairs = best[..., couples]
        rows = pairs.reshape(-1, 2)
        lane = np.tile(np.repeat(np.arange(lanes), len(couples)), len(clips))
        scored = ask(np.repeat(np.arange(len(clips)), lanes * len(couples)), rows, False)
    together = scored[np.arange(len(rows)), lane].reshape(pairs.shape[:-1])

    def shaped(values: np.ndarray) -> np.ndarray:
        found = values[:, 0] if lanes == 1 else values
        return found if several else found[0]

    return Redundancy(
        scores=shaped(plain),
        everything=shaped(plain - nothing),
        single=shaped(plain[..., None] - without[..., 1:]),
        keep_only=shaped(keep_only),
        pairs=shaped(pairs),
        pair=shaped(plain[..., None] - together),
        grid=windows,
        labels=goal.labels,
    )


def _asked(
    network: Network,
    goal: Any,
    own: np.ndarray | None,
    x: jax.Array,
    other: jax.Array,
    windows: Grid,
    way: Way,
    size: int,
    advance: Callable[[int], None],
    clip: np.ndarray,
    both: np.ndarray,
    kept: bool,
) -> np.ndarray:
    """Scores (n, lanes), float64, of clips (n,) without the windows `both` (n, 2), -1 for none, or with only these."""
    arrays = jax.tree.map(jnp.asarray, goal.arrays)
    places = [windows.places(number if windows.clips > 1 else 0) for number in range(windows.clips)]
    # A window without steps at the end stands for none.
    starts, ends = (np.pad(np.stack([place[side] for place in places]), ((0, 0), (0, 1), (0, 0))) for side in (0, 1))
    row = (clip if windows.clips > 1 else np.zeros_like(clip))[:, None]
    starts, ends = starts[row, both], ends[row, both]
    size = min(size, len(clip))
    found = []
    for first in range(0, len(clip), size):
        part = np.minimum(np.arange(first, first + size), len(clip) - 1)
        shown = _chunk(network, goal.spec, arrays, x, other, clip[part], starts[part], ends[part], kept, way)
        found.append(np.asarray(shown, np.float64))
        advance(min(size, len(clip) - first))
    scores = np.concatenate(found)[: len(clip)]
    targets.finite(scores, "occluded")
    return scores if own is None else np.take_along_axis(scores, own[clip][:, None], axis=1)


@functools.partial(jax.jit, static_argnames=("spec", "way"))
def _chunk(
    network: Network,
    spec: Any,
    arrays: Any,
    x: jax.Array,
    other: jax.Array,
    clip: jax.Array,
    starts: jax.Array,
    ends: jax.Array,
    kept: Any,
    way: Way,
) -> jax.Array:
    """Scores (chunk, lanes); windows are (chunk, 2, axes), `other` is the baseline or the spectrum to take from."""

    def one(clip: jax.Array, start: jax.Array, end: jax.Array) -> jax.Array:
        inside = covered(other.shape[1:], start[0], end[0]) | covered(other.shape[1:], start[1], end[1])
        gone = inside != kept
        if isinstance(way, TimeFrequency):
            return x[clip] - way.sound(jnp.where(gone, other[clip], 0.0))
        return jnp.where(gone, other[clip], x[clip])

    return targets.scores(network, spec, arrays, jax.vmap(one)(clip, starts, ends))
