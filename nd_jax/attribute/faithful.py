"""Is an attribution true? Insertion and deletion, and what is left when only the marked part is kept."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.attribute import targets
from nd_jax.attribute.attribution import Attribution
from nd_jax.attribute.baselines import NEIGHBOURS, baseline_of
from nd_jax.network import Network
from nd_jax.visualize import objectives


@dataclasses.dataclass(frozen=True, eq=False)
class Curves:
    """Scores while values are taken away, or put back, in the order of an attribution.

    Attributes:
      share: (steps + 1,) of the places that are done, 0 ... 1.
      deletion: (clips, steps + 1) or (steps + 1,) scores from the whole input to the baseline.
      insertion: likewise from the baseline to the whole input.
      deletion_area: (clips,) or () area below, trapezoids over equal steps: small is good.
      insertion_area: likewise: large is good.
    """

    share: np.ndarray
    deletion: np.ndarray
    insertion: np.ndarray
    deletion_area: np.ndarray
    insertion_area: np.ndarray


def insertion_deletion(
    network: Network,
    x: Any,
    attribution: Any,
    target: targets.Target,
    *,
    step: int | None = None,
    baseline: Any = "silence",
    key: jax.Array | None = None,
    of: str = "probability",
    chunk_size: int = 64,
) -> Curves:
    """The score while places are deleted, most important first, and while they are inserted (Petsiuk et al. 2018).

    A place is one point of all axes but the channels, which come and go together; its attribution is the sum over
    channels. `CausalMetric` of the authors' code, with the same trapezoids.

    Args:
      network: any Network that takes one array.
      x: (*shape) or (clips, *shape).
      attribution: an `Attribution` or an array, of x's shape or without the channels.
      target: a class, one class for each clip, or an objective of one lane.
      step: places at a time; None for 100 steps.
      baseline: what stands where something is deleted, see `baselines` (not "neighbours").
      key: of the baseline "noise".
      of: what is read of a class: "probability" or "logit".
      chunk_size: inputs that the network sees at once.

    Raises:
      LayerError, ValueError: whatever does not fit, in one sentence.
    """
    clips, several = targets.inputs(network, x)
    goal, own = _goal(network, target, len(clips), of)
    targets.whole("chunk_size", chunk_size)
    instead = _without(network, clips, baseline, key)
    order, places = _order(network, attribution, clips)
    step = max(1, math.ceil(places / 100)) if step is None else step
    if isinstance(step, bool) or not isinstance(step, (int, np.integer)) or not 1 <= step <= places:
        raise ValueError(f"step is a whole number from 1 to the {places} places of an input, got {step!r}")
    count = math.ceil(places / int(step))
    rank = np.argsort(order, axis=1)
    done = np.minimum(np.arange(count + 1) * int(step), places)
    arrays = jax.tree.map(jnp.asarray, goal.arrays)
    lanes = np.zeros(len(clips), int) if own is None else own
    curves = np.zeros((2, len(clips), count + 1))
    for clip in range(len(clips)):
        for first in range(0, count + 1, chunk_size):
            part = np.minimum(np.arange(first, first + min(chunk_size, count + 1)), count)
            found = _changed(network, goal.spec, arrays, clips[clip], instead[clip], rank[clip], done[part])
            kept = part[: max(0, count + 1 - first)]
            curves[:, clip, kept] = np.asarray(found, np.float64)[:, : len(kept), lanes[clip]]
    targets.finite(curves, "changed")
    areas = (np.sum(curves, axis=-1) - curves[..., 0] / 2 - curves[..., -1] / 2) / count
    pick: Any = slice(None) if several else 0
    return Curves(done / places, curves[0][pick], curves[1][pick], areas[0][pick], areas[1][pick])


@dataclasses.dataclass(frozen=True)
class Faithfulness:
    """How a network that only gets the marked part, or all but it, answers; means over clips.

    Attributes:
      average_increase: percent of clips whose class becomes more probable when only the marked part is kept (AI).
      average_drop: percent by which the probability falls on average, rises counted as 0 (AD).
      average_gain: percent by which it rises, of what is left to 1, falls counted as 0 (AG).
      faithfulness: by how much the probability falls when the marked part is taken out (FF).
      fidelity: share of clips whose most probable class stays when only the marked part is kept (Fid-In).
    """

    average_increase: float
    average_drop: float
    average_gain: float
    faithfulness: float
    fidelity: float


def faithfulness(
    network: Network,
    x: Any,
    mask: Any,
    target: targets.Target | None = None,
    *,
    part: str | None = None,
    baseline: Any = "silence",
    key: jax.Array | None = None,
) -> Faithfulness:
    """AI, AD, AG, FF and Fid-In of masks (Chattopadhay et al. 2018; Zhang et al. 2024; Paissan et al. 2024, eqs. 5-9).

    Args:
      network: a classifier that takes one array.
      x: (*shape) or (clips, *shape).
      mask: of x's shape, or without the channels: 1 is kept, 0 replaced; `mask_of` makes one from an attribution.
      target: class of all clips or of each; None for the most probable one.
      part: which output, for a network with several.
      baseline: what stands where the mask is 0, see `baselines` (not "neighbours").
      key: of the baseline "noise".

    Raises:
      ValueError: masks outside 0 ... 1 or of another shape, or whatever else does not fit.
    """
    clips, _ = targets.inputs(network, x)
    shown = _placed(network, mask, clips)
    if shown.min() < 0 or shown.max() > 1:
        raise ValueError(f"a mask lies between 0 and 1, and this one from {shown.min():g} to {shown.max():g}")
    instead = _without(network, clips, baseline, key)
    goal = objectives.probability(part=part).bind(network)
    arrays = jax.tree.map(jnp.asarray, goal.arrays)
    shown_part = jnp.asarray(shown)

    def ask(x: jax.Array) -> np.ndarray:
        scores = np.asarray(targets.scored(network, goal.spec, arrays, x), np.float64)
        targets.finite(scores, "masked")
        return scores

    whole = ask(clips)
    kept = ask(shown_part * clips + (1 - shown_part) * instead)
    rest = ask((1 - shown_part) * clips + shown_part * instead)
    if target is None:
        classes = np.argmax(whole, axis=1)
    else:
        if isinstance(target, objectives.Objective):
            raise ValueError("faithfulness takes classes, by number or label, not an objective")
        numbers = objectives.probability(target, part=part).bind(network).units
        if len(numbers) not in (1, len(clips)):
            raise ValueError(f"{len(numbers)} classes are given for {len(clips)} clips: give one, or one for each")
        classes = np.broadcast_to(numbers, len(clips))
    each = np.arange(len(clips))
    before, after, without = (values[each, classes] for values in (whole, kept, rest))
    return Faithfulness(
        100.0 * float(np.mean(after > before)),
        100.0 * float(np.mean(np.maximum(before - after, 0) / np.maximum(before, 1e-12))),
        100.0 * float(np.mean(np.maximum(after - before, 0) / np.maximum(1 - before, 1e-12))),
        float(np.mean(before - without)),
        float(np.mean(np.argmax(whole, axis=1) == np.argmax(kept, axis=1))),
    )


def mask_of(attribution: Any, *, share: float | None = None) -> np.ndarray:
    """A mask in 0 ... 1 from an attribution: its positive part over its largest value, clip by clip.

    Args:
      attribution: an `Attribution` of one clip or several, of one target.
      share: instead 1 for this share of the values, the largest, as far as they are positive, and 0 for all others:
        what speaks against the target is not marked.

    Raises:
      ValueError: a share outside 0 ... 1, or several lanes.
    """
    if not isinstance(attribution, Attribution):
        raise ValueError("mask_of takes an Attribution")
    values, rank = np.asarray(attribution.values), len(attribution.axes)
    if values.ndim > rank + 1 or attribution.scores.ndim != values.ndim - rank:
        raise ValueError(f"mask_of takes an attribution of one target, and this has the shape {values.shape}")
    flat = values.reshape(-1, math.prod(values.shape[values.ndim - rank :]))
    if share is None:
        positive = np.maximum(flat, 0)
        found = positive / np.maximum(positive.max(axis=1, keepdims=True), 1e-12)
    else:
        if not 0 < share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, got {share!r}")
        count = max(1, round(share * flat.shape[1]))
        rank_of = np.argsort(np.argsort(-flat, axis=1, kind="stable"), axis=1, kind="stable")
        found = ((rank_of < count) & (flat > 0)).astype(np.float32)
    return found.reshape(values.shape).astype(np.float32)


@functools.partial(jax.jit, static_argnames="spec")
def _changed(
    network: Network, spec: Any, arrays: Any, x: jax.Array, baseline: jax.Array, rank: jax.Array, done: jax.Array
) -> jax.Array:
    """Scores (2, chunk, lanes) of one clip with the first places deleted, and with only these inserted."""
    inner = rank.shape[0]
    first = rank[None] < done[:, None]
    flat, other = (values.reshape(inner, -1) for values in (x, baseline))
    deleted = jnp.where(first[..., None], other[None], flat[None])
    inserted = jnp.where(first[..., None], flat[None], other[None])
    both = jnp.concatenate([deleted, inserted]).reshape(-1, *x.shape)
    scores = targets.scores(network, spec, arrays, both)
    return scores.reshape(2, len(done), -1)


def _goal(network: Network, target: targets.Target, clips: int, of: str) -> tuple[Any, np.ndarray | None]:
    if of not in ("probability", "logit"):
        raise ValueError(f"of is 'probability' or 'logit', not {of!r}")
    goal, own = targets.bound(network, target, clips)
    if of == "probability" and not isinstance(target, objectives.Objective):
        goal = objectives.probability(goal.units).bind(network)
    if own is None and len(goal) != 1:
        raise ValueError(f"these curves are of one target, and the objective has {len(goal)} lanes")
    return goal, own


def _without(network: Network, clips: jax.Array, baseline: Any, key: jax.Array | None) -> jax.Array:
    if isinstance(baseline, str) and baseline == NEIGHBOURS:
        raise ValueError("baseline 'neighbours' belongs to windows: it is for occlusion only")
    return baseline_of(network.input, clips, baseline, key=key)


def _placed(network: Network, given: Any, clips: jax.Array) -> np.ndarray:
    """A map at the rank of the clips, (clips, *shape) or (clips, *inner, 1)."""
    if isinstance(given, Attribution) and given.view is not None:
        raise ValueError("this map is of a waveform's short-time spectrum, and what is asked here takes one of samples")
    values = np.asarray(given, np.float64)
    shape = clips.shape[1:]
    channels = network.input.axes[-1].name == "channel"
    if channels and values.shape in (shape[:-1], (len(clips), *shape[:-1])):
        values = values[..., None]
    if values.ndim == len(shape):
        values = values[None]
    if values.shape[1:-1] != shape[:-1] or values.shape[-1] not in (shape[-1], 1) or len(values) != len(clips):
        raise ValueError(f"a map for inputs of shape {clips.shape} has that shape, not {np.shape(given)}")
    if not np.all(np.isfinite(values)):
        raise ValueError("a map of what matters is made of finite numbers, and some are not")
    return values


def _order(network: Network, attribution: Any, clips: jax.Array) -> tuple[np.ndarray, int]:
    """(clips, places) with the most important place first."""
    values = _placed(network, attribution, clips)
    if network.input.axes[-1].name == "channel":
        values = np.sum(values, axis=-1)
    flat = values.reshape(len(clips), -1)
    return np.flip(np.argsort(flat, axis=1, kind="stable"), axis=1), flat.shape[1]
