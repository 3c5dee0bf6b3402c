"""Two cues of which each is enough: does anything see them, and is a clip flagged when it should be?"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np

from nd_jax import attribute
from nd_jax.attribute import Redundancy
from nd_jax.bench import attribution_networks, attribution_scores, attribution_sounds
from nd_jax.bench.attribution_methods import Effort, methods
from nd_jax.bench.attribution_networks import Planted
from nd_jax.bench.attribution_sounds import Clips, Size
from nd_jax.bench.chapter import Tell

RULES = ("either", "both", "one")


@dataclasses.dataclass(frozen=True, eq=False)
class Cues:
    """One rule on clips with two events.

    Attributes:
      rule: "either" cue is enough, "both" are needed, or only "one" counts.
      largest: (clips,) the largest fall without one window over that without everything.
      flagged: (clips,) bool.
      named: (clips,) bool, whether the best pair of windows covers at least half of each cue.
      alone: (clips,) the smaller, over the two cues, of what the best window on it scores alone, over everything.
      occlusion: (clips,) relevance mass of plain occlusion with small windows in the two boxes; 0 for an empty map.
    """

    rule: str
    largest: np.ndarray
    flagged: np.ndarray
    named: np.ndarray
    alone: np.ndarray
    occlusion: np.ndarray


def measure(keys: Mapping[int, jax.Array], size: Size, tell: Tell, *, effort: Effort) -> tuple[Cues, ...]:
    """Every rule on the clips of every seed.

    Args:
      keys: by seed.
      size: of the clips.
      tell: takes a line about the progress.
      effort: what occlusion may spend.
    """
    plain = methods()[0]
    parts: dict[str, list[dict[str, np.ndarray]]] = {rule: [] for rule in RULES}
    for seed, key in keys.items():
        rng = np.random.default_rng(np.asarray(jax.random.key_data(jax.random.fold_in(key, 1)), np.uint32))
        given = attribution_sounds.kinds(rng, size)
        clips = attribution_sounds.two_events(rng, size, given)
        for rule in RULES:
            network = attribution_networks.cues(rng, size, given, rule)
            window, stride = windows(size)
            found = attribute.redundancy(network, clips.inputs, 0, window=window, stride=stride)
            small = plain(Planted(rule, network, "cells/evidence"), clips.inputs, [0] * len(clips.inputs), effort, key)
            masses = [attribution_scores.mass(*pair) for pair in zip(small, clips.boxes.max(axis=1), strict=True)]
            parts[rule].append({**_told(found, clips), "occlusion": np.asarray(masses)})
        tell(f"two cues, seed {seed}")
    return tuple(
        Cues(rule, **{name: np.concatenate([part[name] for part in each]) for name in each[0]})
        for rule, each in parts.items()
    )


def windows(size: Size) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Window and stride: as long as the longest event, a third of that apart, half of the bands high."""
    longest, half = size.event_frames[1], size.bands // 2
    return (half, longest, 1), (half, longest // 3, 1)


def _told(found: Redundancy, clips: Clips) -> dict[str, np.ndarray]:
    starts, ends = found.grid.places()
    inside = np.zeros((len(starts), *clips.boxes.shape[2:]), bool)
    for row, (start, end) in enumerate(zip(starts, ends, strict=True)):
        inside[row, start[0] : end[0], start[1] : end[1]] = True
    # (clips, windows, events): how much of an event a window covers.
    shares = np.einsum("wbf,cebf->cwe", inside.astype(float), clips.boxes.astype(float))
    shares = shares / clips.boxes.sum(axis=(2, 3))[:, None]
    pairs = np.take_along_axis(shares, found.best_pair[..., None], axis=1)
    alone = [np.where(shares[..., event] >= 0.5, found.keep_only, 0.0).max(axis=1) for event in range(2)]
    return {
        "largest": found.largest,
        "flagged": found.flagged,
        "named": np.all(pairs.max(axis=1) >= 0.5, axis=1),
        "alone": np.minimum(*alone) / found.everything,
    }
