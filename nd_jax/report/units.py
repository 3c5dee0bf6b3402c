"""The files of a unit on the page: its picture, sound, arrays and snapshots, and what is read off them.

A lane whose unit is dead has no picture and no sound: what stands in its input is where the search began. A lane of
several inputs shows the one with the highest score first; the others follow.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from nd_jax.domain import Picture, Sound
from nd_jax.report import pictures, recipe
from nd_jax.report.generated import Drawn
from nd_jax.report.natural import played
from nd_jax.report.page import Page, fingerprint
from nd_jax.report.sounds import Played, at_playback_level, brightness, encode_wav, pitch, sounds
from nd_jax.report.trust import Cards, Name

if TYPE_CHECKING:
    from nd_jax.visualize.result import Visualization

DEAD, OWN = "dead", "own"
_THUMB = (96, 128)
_SILENT = {"silent": True, "seconds": 0, "gain": 0, "limited": 0}
# Lanes for which a generator makes what is drawn, at a time.
_TOGETHER = 8


@dataclasses.dataclass(frozen=True)
class Lane:
    """One lane of a run and where its files go.

    Attributes:
      run: the run.
      place: of the lane in it.
      stem: the path of its files, without their endings.
    """

    run: Visualization
    place: int
    stem: str

    @property
    def name(self) -> Name:
        """What the lane is called among trust cards."""
        return self.run.layers[self.place], self.run.labels[self.place], int(self.run.replicates[self.place])

    @property
    def dead(self) -> bool:
        """Whether the unit did not answer, so that there is nothing to see or hear."""
        return self.run.status[self.place].startswith(DEAD)

    @functools.cached_property
    def order(self) -> list[int]:
        """The lane's inputs, the highest score first."""
        scores = np.atleast_1d(np.asarray(self.run.scores[self.place], np.float64))
        return [int(place) for place in np.argsort(-np.where(np.isfinite(scores), scores, -np.inf), kind="stable")]

    @property
    def several(self) -> bool:
        """Whether the lane made several inputs together."""
        return np.ndim(self.run.scores) == 2

    def score(self, rank: int = 0) -> float | None:
        """The score of the input at a rank."""
        return _finite(np.atleast_1d(self.run.scores[self.place])[self.order[rank]])

    def example(self, rank: int = 0) -> Any:
        """The input at a rank."""
        return at(self.run.inputs, (self.place, self.order[rank]) if self.several else self.place)

    def snapshot(self, step: int) -> Any:
        """What the first input was at a snapshot."""
        where = (step, self.place, self.order[0]) if self.several else (step, self.place)
        return at(self.run.snapshots, where)

    def history(self) -> np.ndarray:
        """(snapshots,) scores of the first input."""
        history = np.asarray(self.run.history)[:, self.place]
        return history[:, self.order[0]] if self.several else history

    def fingerprint(self, common: str) -> str:
        """A name for everything that the lane's files show."""
        leaves = jax.tree.leaves((at(self.run.inputs, self.place), at(self.run.scores, self.place)))
        steps = jax.tree.leaves(at(self.run.snapshots, (slice(None), self.place)))
        began = self.run.starts[self.place] if self.run.starts else OWN
        words = (began, self.run.labels[self.place], self.run.status[self.place], self.run.steps_done[self.place])
        return fingerprint(common, *leaves, *steps, np.asarray(self.run.history)[:, self.place], *words)


@dataclasses.dataclass(frozen=True, eq=False)
class _View:
    """What is drawn and played of a lane.

    Attributes:
      drawn: its inputs, or what a generator makes of them, by rank.
      steps: likewise its first input at the snapshots.
      sounds: of `drawn`; None where nothing is heard.
    """

    drawn: list[Any]
    steps: list[Any]
    sounds: list[Sound] | None


def at(tree: Any, index: Any) -> Any:
    """The part of every leaf of a tree at an index, as numpy arrays."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], tree)


class Files:
    """Writes the files of some lanes of one run, or keeps those of an earlier page.

    Args:
      page: where they go.
      run: the run.
      cards: trust cards, whose sounds are not made again.
    """

    def __init__(self, page: Page, run: Visualization, cards: Cards):
        self.page, self.run, self.cards = page, run, cards
        self.manifest = json.dumps(dict(run.manifest), default=str)
        self.percentiles = run.norm_percentile()
        self.shown = Drawn(run)

    def of(self, lanes: Sequence[Lane]) -> Iterator[dict[str, Any]]:
        """What is known about each lane: its `row` in the grid and its `entry` in the details."""
        arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(self.run.domain.arrays())]
        common = fingerprint(self.run.domain.to_dict(), *arrays, self.manifest, self.run.snapshot_steps)
        names = [lane.fingerprint(common) for lane in lanes]
        kept = [self.page.recall(name, lane.stem) for name, lane in zip(names, lanes, strict=True)]
        fresh = [lane for lane, about in zip(lanes, kept, strict=True) if about is None and not lane.dead]
        views = self._views(fresh) if self.shown.generator is None else self._made(fresh)
        for lane, name, about in zip(lanes, names, kept, strict=True):
            if about is None:
                about = self._dead(lane) if lane.dead else self._alive(lane, next(views))
                self.page.remember(name, lane.stem, about.pop("endings"), about)
            yield about

    def _views(self, lanes: Sequence[Lane]) -> Iterator[_View]:
        """Inputs that are drawn as they are; their sounds are made in the background."""
        made = self._sounds(lanes)
        for lane in lanes:
            yield _View(
                [lane.example(rank) for rank in range(len(lane.order))],
                [lane.snapshot(step) for step in range(len(self.run.snapshot_steps))],
                None if made is None else [next(made) for _ in lane.order],
            )

    def _made(self, lanes: Sequence[Lane]) -> Iterator[_View]:
        """What a generator makes of inputs, of some lanes at a time: they would fill the memory."""
        for first in range(0, len(lanes), _TOGETHER):
            group = lanes[first : first + _TOGETHER]
            given = [lane.example(rank) for lane in group for rank in range(len(lane.order))]
            moments = range(len(self.run.snapshot_steps))
            before = [lane.snapshot(step) for lane in group for step in moments]
            made = self.shown.made(jax.tree.map(lambda *leaves: np.stack(leaves), *given, *before))
            heard = sounds(self.shown.domain, at(made, slice(len(given))))
            place, step = 0, len(given)
            for lane in group:
                drawn = [at(made, place + rank) for rank in range(len(lane.order))]
                steps = [at(made, step + moment) for moment in moments]
                yield _View(drawn, steps, None if heard is None else [next(heard) for _ in drawn])
                place, step = place + len(drawn), step + len(steps)

    def _sounds(self, lanes: Sequence[Lane]) -> Iterator[Sound] | None:
        """The sounds of all inputs of some lanes, one after the other."""
        known = [None if lane.several else self.cards.wave(lane.name) for lane in lanes]
        if lanes and all(sound is not None for sound in known):
            return iter([sound for sound in known if sound is not None])
        inputs = [lane.example(rank) for lane in lanes for rank in range(len(lane.order))]
        return sounds(self.run.domain, jax.tree.map(lambda *leaves: np.stack(leaves), *inputs)) if inputs else None

    def _steps(self, lane: Lane) -> dict[str, Any]:
        """How many steps a lane had, and why no more, where it could have had more."""
        why = self.run.stopped[lane.place] if self.run.stopped else "steps"
        return {"steps": int(self.run.steps_done[lane.place]), **({} if why == "steps" else {"stopped": why})}

    def _dead(self, lane: Lane) -> dict[str, Any]:
        size = self.page.add(f"{lane.stem}.npz", self._arrays(lane, None))
        row = {"score": lane.score(), "pitch": None, "bright": None, "look": None, **_SILENT}
        entry = {**self._steps(lane), "history": self._history(lane), "files": {"npz": size}}
        return {"row": row, "entry": entry, "sounds": False, "thumb": False, "endings": [".npz"]}

    def _alive(self, lane: Lane, view: _View) -> dict[str, Any]:
        rows: list[dict[str, Any]] = []
        endings: list[str] = []
        for rank, drawn in enumerate(view.drawn):
            picture = self.shown.domain.picture(drawn)
            assert picture is not None
            ready = None if view.sounds is None else at_playback_level(view.sounds[rank])
            suffix = f".{rank + 1}" if rank else ""
            rows.append(self._shown(lane, rank, suffix, picture, ready, endings))
        first = rows[0]
        began = self.run.starts[lane.place] if self.run.starts else OWN
        entry = {
            **self._steps(lane),
            **({} if began == OWN else {"start": began}),
            **self._latent(lane),
            **self._asked(lane, rows),
            "history": self._history(lane),
            "files": first.pop("files"),
        }
        if len(rows) > 1:
            entry["others"] = [{**row, "rank": rank} for rank, row in enumerate(rows) if rank]
        if view.steps:
            strip = [self.shown.domain.picture(step) for step in view.steps]
            small = [pictures.indexed(pictures.shrink(one, *_THUMB)) for one in strip if one is not None]
            self.page.add(f"{lane.stem}.strip.png", pictures.encode_png(np.concatenate(small)))
            endings.append(".strip.png")
            entry["strip"] = {"steps": entry["history"][0], "scores": entry["history"][1]}
        has = {"sounds": view.sounds is not None, "thumb": ".thumb.png" in endings}
        return {"row": first, "entry": entry, **has, "endings": endings}

    def _shown(
        self, lane: Lane, rank: int, suffix: str, picture: Picture, ready: Played | None, endings: list[str]
    ) -> dict[str, Any]:
        """Writes what shows one input; the first has more than the others."""
        files: dict[str, int] = {}

        def add(ending: str, content: bytes) -> None:
            files[ending] = self.page.add(f"{lane.stem}{suffix}.{ending}", content)
            endings.append(f"{suffix}.{ending}")

        if ready is not None and not ready.silent:
            add("wav", encode_wav(ready.sound))
        if not rank:
            add("npz", self._arrays(lane, picture))
        add("png", pictures.png(picture))
        about = played(ready) if ready is not None else dict(_SILENT)
        heard = None if ready is None or ready.silent else _rounded(pitch(ready.sound))
        if rank:
            return {"score": lane.score(rank), "pitch": heard, "files": files, **about}
        small = pictures.shrink(picture, *_THUMB)
        if small is not picture:
            self.page.add(f"{lane.stem}.thumb.png", pictures.png(small))
            endings.append(".thumb.png")
        return {
            "score": lane.score(),
            "pitch": heard,
            "bright": _rounded(_brightness(picture, ready)),
            "look": base64.b64encode(look(picture)).decode("ascii"),
            "files": files,
            **about,
        }

    def _latent(self, lane: Lane) -> dict[str, Any]:
        """How usual a generator's latent is by its length; nothing where there is none."""
        if self.percentiles is None:
            return {}
        percentile = round(float(np.atleast_1d(self.percentiles[lane.place])[lane.order[0]]), 1)
        return {"latent": percentile, **self.shown.latent(lane.example())}

    def _asked(self, lane: Lane, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What a generator was asked for and what came of it, a row a class; nothing of a generator without classes."""
        asked = [self.shown.asked(lane.example(rank)) for rank in range(len(rows))]
        if not all(asked):
            return {}
        ranked = sorted(range(len(rows)), key=lambda rank: int(lane.example(rank)["label"]))
        found = [
            {**asked[rank], "rank": rank, **{name: rows[rank][name] for name in ("score", "pitch")}} for rank in ranked
        ]
        return {"asked": asked[0]["name"], "classes": found}

    def _history(self, lane: Lane) -> list[list[Any]]:
        return [list(self.run.snapshot_steps), [_finite(value) for value in lane.history()]]

    def _arrays(self, lane: Lane, picture: Picture | None) -> bytes:
        """The npz of one unit: input or inputs, score, history, axes, what its source reads, the manifest as text."""
        run, example = self.run, at(self.run.inputs, lane.place)
        named = example if isinstance(example, Mapping) else {}
        arrays: dict[str, Any] = {f"input/{part}": value for part, value in named.items()} or {"input": example}
        if picture is not None:
            axes = {"picture_x": picture.x, "picture_y": picture.y}
            arrays |= {name: np.asarray(axis.values, np.float64) for name, axis in axes.items()}
        arrays |= recipe.kept_arrays(run, lane.place)
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            **arrays,
            label=np.array(run.labels[lane.place]),
            score=np.asarray(run.scores[lane.place], np.float32),
            history=np.asarray(run.history, np.float32)[:, lane.place],
            snapshot_steps=np.asarray(run.snapshot_steps, np.int32),
            status=np.array(run.status[lane.place]),
            manifest=np.array(self.manifest),
        )
        return buffer.getvalue()


def look(picture: Picture) -> bytes:
    """24 numbers (0 ... 255) that say what a picture looks like, for sorting by similarity.

    A spectrogram: mean level of 12 bands and their variation over time, which do not depend on when a sound happens. An
    image: 4 x 6 block means.
    """
    if np.ndim(picture.values) == 3:
        levels = pictures.pixels(picture).mean(axis=-1)
    else:
        levels = pictures.levels(picture).astype(np.float32)
    if picture.x.unit == "px":
        return _blocks(_blocks(levels, 4).T, 6).round().astype(np.uint8).tobytes()
    bands = _blocks(levels, 12)
    return (
        np.concatenate([bands.mean(axis=1), np.minimum(2 * bands.std(axis=1), 255)]).round().astype(np.uint8).tobytes()
    )


def _blocks(values: np.ndarray, count: int) -> np.ndarray:
    """Means of `count` blocks of rows (the nearest row where there are fewer): (rows, columns) -> (count, columns)."""
    edges = np.linspace(0, len(values), count + 1)
    return np.stack(
        [
            values[int(low) : max(int(np.ceil(high)), int(low) + 1)].mean(axis=0)
            for low, high in zip(edges[:-1], edges[1:], strict=True)
        ]
    )


def _brightness(picture: Picture, ready: Played | None) -> float | None:
    if ready is not None:
        return None if ready.silent else brightness(ready.sound)
    return float(np.nan_to_num(picture.values).mean()) if picture.x.unit == "px" else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
