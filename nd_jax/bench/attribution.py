"""Chapter 2: do maps of attribution lie where a planted network looks?"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from nd_jax.bench import attribution_methods, attribution_networks, attribution_scores, attribution_sounds, scores
from nd_jax.bench.attribution_methods import WRONG, Effort, Method
from nd_jax.bench.attribution_networks import Planted
from nd_jax.bench.attribution_sounds import Clips, Size
from nd_jax.bench.chapter import Tell
from nd_jax.bench.scores import Control

MASS, POINTING, P = 0.95, 0.95, 0.01
"""What a true method reaches at least, occlusion too, and by chance at most."""


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """One method on one network, clip by clip over all seeds.

    Attributes:
      network, method: names.
      axes: what the method can tell apart; boxes are cut down to these.
      mass: (clips,) relevance mass in the box.
      ideal: (clips,) the same of the ideal detector, explained by the same method.
      dilated: (clips,) in the box dilated by half a window.
      rank, pointing: (clips,) see `attribution_scores`.
      seeds: (clips,) of each clip.
      chance: the mean mass against that of the same maps in random places.
    """

    network: str
    method: str
    axes: tuple[str, ...]
    mass: np.ndarray
    ideal: np.ndarray
    dilated: np.ndarray
    rank: np.ndarray
    pointing: np.ndarray
    seeds: np.ndarray
    chance: Control

    @property
    def relative(self) -> np.ndarray:
        """(clips,) mass over that of an ideal detector; 0 where the method finds nothing even there."""
        return np.where(self.ideal > 0, self.mass / np.maximum(self.ideal, 1e-9), 0.0)

    @property
    def true(self) -> bool:
        """Whether the map lies where the network looks: as nearly as asked for, and not by chance."""
        return float(self.relative.mean()) >= MASS and self.chance.p <= P

    @property
    def wrong(self) -> bool:
        """Whether it was spoilt on purpose."""
        return self.method in WRONG


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """What the chapter tells of: one event per clip.

    Attributes:
      size: of the clips.
      effort: what methods spent.
      seeds: of the networks.
      rows: every method on every network.
      clips, maps: of the first seed, {network: {method: (n, bands, frames)}}, for pictures.
    """

    size: Size
    effort: Effort
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    clips: Clips
    maps: Mapping[str, Mapping[str, np.ndarray]]

    @property
    def networks(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(dict.fromkeys(row.network for row in self.rows))


def measure(
    keys: Mapping[int, jax.Array],
    size: Size,
    tell: Tell,
    *,
    effort: Effort,
    methods: Sequence[Method],
    networks: Sequence[str] = attribution_networks.NAMES,
) -> Measured:
    """Runs every method on every network of every seed.

    Args:
      keys: by seed.
      size: of the clips.
      tell: takes a line about the progress.
      effort: what methods may spend.
      methods: that are compared.
      networks: which.
    """
    began = time.perf_counter()
    found: dict[tuple[str, str], list[dict[str, np.ndarray]]] = {}
    first: tuple[Clips, dict[str, dict[str, np.ndarray]]] | None = None
    for number, (seed, key) in enumerate(keys.items()):
        clips, nets = case(key, size)
        maps: dict[str, dict[str, np.ndarray]] = {}
        lanes = list(range(len(clips.inputs)))
        own = list(clips.kinds[:, 0])
        standard = Planted("ideal", attribution_networks.ideal(clips, size), "evidence")
        for place, method in enumerate(methods):
            lane_key = jax.random.fold_in(key, place)
            at_best = method(standard, clips.inputs, lanes, effort, lane_key)
            for name in networks:
                net = nets[name]
                made = {method.name: method(net, clips.inputs, own, effort, lane_key)}
                if method.name == "occlusion":
                    rng = np.random.default_rng(seed)
                    made |= {title: spoil(made["occlusion"], rng) for title, spoil in WRONG.items()}
                for title, values in made.items():
                    maps.setdefault(name, {})[title] = values
                    part = {
                        "maps": values,
                        "ideal": at_best,
                        "boxes": clips.boxes[:, 0],
                        "seed": np.full(len(own), seed),
                    }
                    found.setdefault((name, title), []).append(part)
            done = (number + (place + 1) / len(methods)) / len(keys)
            passed = time.perf_counter() - began
            left = passed / done - passed
            tell(f"[{100 * done:.0f} %, {passed:.0f} s, about {left:.0f} s left] {method.name}, seed {seed}")
        first = first or (clips, maps)
    axes = {method.name: method.axes for method in methods}
    rows = [
        _row(network, title, axes.get(title, attribution_methods.BOTH), parts, size)
        for (network, title), parts in found.items()
    ]
    rows.sort(key=lambda row: (list(networks).index(row.network), row.wrong))
    assert first is not None
    return Measured(size, effort, tuple(keys), tuple(rows), first[0], first[1])


def case(key: jax.Array, size: Size) -> tuple[Clips, dict[str, Planted]]:
    """The clips and the networks of one key."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key), np.uint32))
    given = attribution_sounds.kinds(rng, size)
    nets = attribution_networks.plant(rng, size, given)
    return attribution_sounds.one_event(rng, size, given), nets


def _row(
    network: str, method: str, axes: tuple[str, ...], parts: Sequence[Mapping[str, np.ndarray]], size: Size
) -> Row:
    maps, ideal, boxes, seeds = (
        np.concatenate([part[name] for part in parts]) for name in ("maps", "ideal", "boxes", "seed")
    )
    half = (-(-size.window[0] // 2), -(-size.window[1] // 2))
    seen = np.stack([attribution_scores.along(box, axes) for box in boxes])
    wide = np.stack([attribution_scores.along(attribution_scores.dilated(box, half), axes) for box in boxes])

    def each(score: object, values: np.ndarray, where: np.ndarray) -> np.ndarray:
        return np.asarray([score(*pair) for pair in zip(values, where, strict=True)])  # type: ignore[operator]

    return Row(
        network=network,
        method=method,
        axes=axes,
        mass=each(attribution_scores.mass, maps, seen),
        ideal=each(attribution_scores.mass, ideal, seen),
        dilated=each(attribution_scores.mass, maps, wide),
        rank=each(attribution_scores.rank, maps, seen),
        pointing=each(attribution_scores.pointing, maps, seen),
        seeds=seeds,
        chance=attribution_scores.moved(maps, seen, axes),
    )


def figure(values: np.ndarray) -> scores.Figure:
    """The mean over clips with its bootstrap interval."""
    return scores.bootstrap(values, np.mean)
