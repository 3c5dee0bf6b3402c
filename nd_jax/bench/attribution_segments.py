"""The protocol of Bolaños et al. 2025 (arXiv 2506.04391): which segments of 100 ms speak for the class?

Clips hold several sounds, some of them of the class. A method gives every segment a number, the log-odds of the class
being what is explained; a segment of which more than 90 ms lie in a sound of the class is a positive, one of which less
does is left out, all others are negatives; the figure is the area under the ROC, a clip at a time, and its mean.

Their clips are recordings masked in the waveform, their classifiers trained ones, and they explain by surrogates fitted
to the scores of 3,000 clips with random segments masked; the linear one of these is a row here. Here classifiers are
planted ones, so that their looking elsewhere is excluded, and segments are masked in the log-mel spectrogram.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import attribute
from nd_jax.bench import attribution_networks, attribution_scores, attribution_sounds, scores
from nd_jax.bench.attribution_methods import Effort, Method
from nd_jax.bench.attribution_networks import Planted
from nd_jax.bench.attribution_sounds import Clips, Size
from nd_jax.bench.chapter import Tell
from nd_jax.bench.scores import Control
from nd_jax.network import Network

FRAMES = 200
SEGMENT = 10
"""Frames of 10 ms."""
WHOLE = 0.09
"""Seconds of a segment that have to lie in a sound of the class."""
SHARES, RUNS = (0.2, 0.3, 0.4), (1, 3, 5)
"""Of the surrogate: how much is masked, in runs of how many segments."""
NAMES = ("cells", "template", "saturated")
PLAIN, SURROGATE = "segments, one at a time", "segments at random, linear surrogate"
ADDING = ("cells", "saturated")
"""Networks that add up what they hear. A template takes the best match: either of two sounds of a class is enough for
it, and no segment alone is missed."""


class LogOdds(nn.Module):
    """log P / (1 - P) of every class of a classifier with a softmax."""

    inner: nn.Module

    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, ...) -> (batch, classes)."""
        logits = self.inner(x)
        others = jnp.where(jnp.eye(logits.shape[1], dtype=bool)[None], -jnp.inf, logits[:, None])
        return logits - jax.nn.logsumexp(others, axis=-1)


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """One method on one network.

    Attributes:
      network, method: names.
      area: (clips,) area under the ROC.
      chance: the mean area against that of maps paired with other clips' truths.
    """

    network: str
    method: str
    area: np.ndarray
    chance: Control


def measure(
    keys: Mapping[int, jax.Array],
    size: Size,
    tell: Tell,
    *,
    effort: Effort,
    methods: Sequence[Method],
    masks: int = 3000,
    networks: Sequence[str] = NAMES,
) -> tuple[Row, ...]:
    """Every method that knows of time on every network of `NAMES`.

    Args:
      keys: by seed.
      size: of the events; clips are 2 s long.
      tell: takes a line about the progress.
      effort: what methods may spend.
      methods: that are compared.
      masks: clips with random segments masked, for the surrogate.
      networks: which.
    """
    chosen = [method for method in methods if "time" in method.axes]
    found: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = {}
    for seed, key in keys.items():
        rng = np.random.default_rng(np.asarray(jax.random.key_data(jax.random.fold_in(key, 2)), np.uint32))
        given = attribution_sounds.kinds(rng, size)
        clips = several_events(rng, size, given)
        own = [int(number) for number in clips.kinds[:, 0]]
        truth = labels(clips)
        planted = attribution_networks.plant(rng, size, given)
        for name in networks:
            net = log_odds(planted[name], size)
            curves = {
                method.name: segments(method(net, clips.inputs, own, effort, jax.random.fold_in(key, place)))
                for place, method in enumerate(chosen)
            }
            curves[PLAIN] = one_at_a_time(net, clips.inputs, own)
            curves[SURROGATE] = surrogate(net, clips.inputs, own, rng, masks)
            curves["wrong: noise"] = rng.normal(size=truth.shape)
            for method_name, curve in curves.items():
                found.setdefault((name, method_name), []).append((curve, truth))
        tell(f"segments of 100 ms, seed {seed}")
    return tuple(_row(network, method, parts) for (network, method), parts in found.items())


def several_events(rng: np.random.Generator, size: Size, given: Sequence[attribution_sounds.Kind]) -> Clips:
    """`size.clips` clips of 2 s with four sounds, two of them of the class in question; these are the first two."""
    wanted = np.arange(size.clips) % len(given)
    others = (wanted[:, None] + rng.integers(1, len(given), (size.clips, 2))) % len(given)
    events = np.concatenate([wanted[:, None], wanted[:, None], others], axis=1)
    lengths = np.asarray([kind.frames for kind in given])[events]
    onsets = np.zeros(events.shape)
    for clip in range(size.clips):
        order = rng.permutation(events.shape[1])
        spare = FRAMES - lengths[clip].sum() - 4 * (len(order) + 1)
        gaps = np.sort(rng.uniform(0.0, spare, len(order)))
        before = np.cumsum(np.concatenate([[0], lengths[clip][order][:-1]]))
        onsets[clip, order] = gaps + before + 4.0 * (1 + np.arange(len(order)))
    return attribution_sounds.clips(rng, size, given, events, onsets, FRAMES)


def labels(clips: Clips) -> np.ndarray:
    """(n, segments): 1 for a segment of the class, 0 for none, -1 for what is left out."""
    begins = np.arange(FRAMES // SEGMENT) * SEGMENT * 0.01
    own = clips.spans[clips.kinds == clips.kinds[:, :1]].reshape(len(clips.kinds), -1, 2)
    late = np.maximum(begins[None, :, None], own[:, None, :, 0])
    early = np.minimum(begins[None, :, None] + SEGMENT * 0.01, own[:, None, :, 1])
    shared = np.maximum(early - late, 0.0).max(axis=-1)
    return np.where(shared > WHOLE, 1, np.where(shared > 0, -1, 0))


def log_odds(planted: Planted, size: Size) -> Planted:
    """The same network for clips of 2 s, giving log-odds."""
    inner = planted.network
    params = {"params": {"inner": inner.variables["params"]}}
    wrapped = Network(LogOdds(inner.module), params, size.domain(FRAMES), labels=inner.labels)
    return Planted(planted.name, wrapped, f"inner/{planted.layer}")


def segments(maps: np.ndarray) -> np.ndarray:
    """The mean over the cells of every segment: (n, bands, frames) -> (n, segments)."""
    return maps.reshape(len(maps), maps.shape[1], -1, SEGMENT).mean(axis=(1, 3))


def one_at_a_time(planted: Planted, inputs: np.ndarray, own: Sequence[int]) -> np.ndarray:
    """How far the log-odds fall without each segment, (n, segments)."""
    window = (inputs.shape[1], SEGMENT, 1)
    return np.asarray(attribute.occlusion(planted.network, inputs, own, window=window, stride=window).drops)


def surrogate(
    planted: Planted, inputs: np.ndarray, own: Sequence[int], rng: np.random.Generator, masks: int
) -> np.ndarray:
    """Least squares of the log-odds of clips with random segments masked on what is left, (n, segments)."""
    count = inputs.shape[2] // SEGMENT
    kept = np.stack([_mask(rng, count, SHARES[row % 3], RUNS[row // 3 % 3]) for row in range(masks)])
    shown = np.repeat(kept, SEGMENT, axis=1)[:, None, :, None].astype(np.float32)
    silence = np.asarray(planted.network.input.silence(), np.float32)
    design = np.concatenate([kept, np.ones((masks, 1))], axis=1)
    found = []
    for x, number in zip(inputs, own, strict=True):
        answers = [
            np.asarray(planted.network(shown[first : first + 500] * x + (1 - shown[first : first + 500]) * silence))
            for first in range(0, masks, 500)
        ]
        found.append(np.linalg.lstsq(design, np.concatenate(answers)[:, number], rcond=None)[0][:count])
    return np.stack(found)


def _mask(rng: np.random.Generator, count: int, share: float, run: int) -> np.ndarray:
    """(count,) 1 where a segment stays: runs at random places until a share is masked, the last one cut."""
    kept, goal = np.ones(count), int(np.ceil(share * count))
    while kept.sum() > count - goal:
        place = int(rng.integers(count))
        left = goal - int(count - kept.sum())
        kept[place : place + min(run, left)] = 0
    return kept


def _row(network: str, method: str, parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> Row:
    curves, truths = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
    table = np.asarray(
        [[attribution_scores.area_under_roc(curve[t >= 0], t[t >= 0] == 1) for t in truths] for curve in curves]
    )
    return Row(network, method, np.diag(table), scores.shuffled(table, lambda values: float(np.mean(values))))
