"""Chapter 1: does `visualize_batch` find what the planted units like best, and which of its ideas help?"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from nd_jax.bench import ablation, natural, readings, recipes, scores
from nd_jax.bench.ablation import Outcome, Worth
from nd_jax.bench.chapter import Tell
from nd_jax.bench.planted import FAMILIES, LAYER, Planted, Size, Unit, plant
from nd_jax.bench.recipes import Found, Recipe
from nd_jax.domain import LogMel
from nd_jax.domain.statistics import with_statistics
from nd_jax.visualize import objectives

RATIO, CORRELATION, CENTS, FRAMES, PASSING = 0.95, 0.9, 50.0, 1.0, 0.9
NATURAL_PER_CLASS = 16
SNAPSHOTS = 20
COMPARED = 3


@dataclasses.dataclass(frozen=True)
class Row:
    """One unit of one network, and what was found for it.

    Attributes:
      network: "seed 0, rotated, foreign".
      number: of the unit in its network.
      kind, readout, pool, closed: as planted.
      ratio: score reached over the known constrained maximum, NaN for a dead unit.
      correlation, pitch_cents, onset_frames: see `readings.Reading`; NaN for a dead unit.
      dead, flagged: whether it is dead, and whether it was called so.
      status: what the run said.
      steps_90: step of 90 % of the climb.
      clutter_db: mean level of the frames that the unit does not see, in dB above the floor; NaN where it sees all.
    """

    network: str
    number: int
    kind: str
    readout: str
    pool: str
    closed: bool
    ratio: float
    correlation: float
    pitch_cents: float
    onset_frames: float
    dead: bool
    flagged: bool
    status: str
    steps_90: float
    clutter_db: float

    @property
    def passed(self) -> bool:
        """Whether everything that can be asked of the unit is met: NaN is what cannot."""
        near = not abs(self.pitch_cents) > CENTS and not abs(self.onset_frames) > FRAMES
        return self.ratio >= RATIO and self.correlation >= CORRELATION and near


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """One planted network with what the recipes need to know about it.

    Attributes:
      name: "seed 0, rotated, foreign ReLU".
      planted: the network.
      spread: (units,) standard deviation of each unit, along its direction, on natural sounds.
      layer_spread: the median over the layer's channels of the same.
      key: of the runs.
    """

    name: str
    planted: Planted
    spread: np.ndarray
    layer_spread: float
    key: jax.Array

    def spreads(self, recipe: Recipe) -> np.ndarray:
        """(units,) what a recipe weighs its priors by; a unit that is silent on natural sounds takes the layer's."""
        common = np.full(len(self.planted), self.layer_spread)
        return np.where(self.spread > 1e-3 * self.layer_spread, self.spread, common) if recipe.own_spread else common


def cases(
    keys: Mapping[int, jax.Array], size: Size, sounds: np.ndarray, foreign: Sequence[bool] = (False, True)
) -> list[Case]:
    """Networks of both families, with ReLUs of nd_jax and foreign ones; no two have a template in common."""
    found = []
    for seed, key in keys.items():
        for place, (other, family) in enumerate((other, family) for other in foreign for family in FAMILIES):
            planted = plant(jax.random.fold_in(key, place), family, size=size, foreign=other)
            domain = with_statistics(planted.domain, sounds)
            network = dataclasses.replace(planted.network, input=domain)
            planted = dataclasses.replace(planted, network=network, domain=domain)
            activations = np.asarray(planted.network(sounds))
            along = np.std(activations @ np.stack([unit.direction for unit in planted.units]).T, axis=0)
            name = f"seed {seed}, {family}, {'foreign' if other else 'own'} ReLU"
            common = float(np.median(np.std(activations, axis=0)))
            found.append(Case(name, planted, along, common, jax.random.fold_in(key, 1000 + place)))
    return found


def select(case: Case, chosen: Sequence[int]) -> Case:
    """A case with some of its units, looked for by their directions in both families, so that one program serves."""
    planted = case.planted
    units = tuple(planted.units[index] for index in chosen)
    goal = objectives.direction(LAYER, np.stack([unit.direction for unit in units]))
    return dataclasses.replace(
        case,
        planted=dataclasses.replace(planted, units=units, objective=goal),
        spread=case.spread[np.asarray(chosen, int)],
    )


def measure(case: Case, found: Found) -> list[Row]:
    """One row a unit."""
    domain = case.planted.domain
    climbed = scores.steps_to(found.history, found.moments)
    rows = []
    for place, unit in enumerate(case.planted.units):
        reading = None if unit.dead else readings.read(found.inputs[place], unit, domain)
        rows.append(
            Row(
                network=case.name,
                number=place,
                kind=unit.kind,
                readout=unit.readout,
                pool=unit.pool,
                closed=unit.closed,
                ratio=math.nan if unit.dead else float(found.scores[place]) / unit.maximum,
                correlation=math.nan if reading is None else reading.correlation,
                pitch_cents=math.nan if reading is None else reading.pitch_cents,
                onset_frames=math.nan if reading is None else reading.onset_frames,
                dead=unit.dead,
                flagged=bool(found.dead[place]),
                status=found.status[place],
                steps_90=float(climbed[place]),
                clutter_db=math.nan if reading is None else _clutter(found.inputs[place], unit, reading, domain),
            )
        )
    return rows


def _clutter(found: np.ndarray, unit: Unit, reading: readings.Reading, domain: LogMel) -> float:
    if unit.pool == "mean":
        return math.nan
    frames = unit.concepts[0].best.shape[1]
    first = unit.place if unit.pool == "position" else reading.shift
    free = np.delete(found[..., 0], np.s_[first : first + frames], axis=1)
    return float(np.mean(domain.to_db(free)) - domain.to_db(0.0)) if free.size else math.nan


def look(case: Case, recipe: Recipe, steps: int, probes: Any = None, restarts: int = 0) -> Found:
    """Runs a recipe on a case, with the scores kept often enough to tell how fast it climbs."""
    moments = tuple(sorted({round(steps * (place / SNAPSHOTS) ** 1.5) for place in range(SNAPSHOTS + 1)}))
    return recipe.look(
        case.planted,
        key=case.key,
        steps=steps,
        spread=case.spreads(recipe),
        moments=moments,
        probes=probes,
        restarts=restarts,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """Everything that chapter 1 measured.

    Attributes:
      steps: of the default recipe on all units.
      compared_steps: of the recipes that are compared, and of the controls.
      cases: the networks; found: what the default recipe found on each; rows: one per unit, case by case.
      controls: figures under shuffled targets, by name.
      random_weights: rows against the true optima of pictures found for networks with shuffled weights.
      outcomes: the recipes on the units that answer at the start, the default first; worths: of each idea.
    """

    steps: int
    compared_steps: int
    cases: list[Case]
    found: list[Found]
    rows: list[Row]
    controls: Mapping[str, scores.Control]
    random_weights: list[Row]
    outcomes: list[Outcome]
    worths: list[Worth]


def measure_all(keys: Mapping[int, jax.Array], size: Size, tell: Tell, *, steps: int, quick: bool = False) -> Measured:
    """Runs everything.

    Args:
      keys: by seed.
      size: of the networks.
      tell: takes a line about the progress.
      steps: of the default recipe on all units; recipes are compared at half of it.
      quick: networks with ReLUs of nd_jax only, few sounds and restarts, one recipe beside the default.
    """
    domain = size.domain()
    sounds = natural.inputs(jax.random.key(0x50D), domain, 1 if quick else NATURAL_PER_CLASS)
    chosen = cases(keys, size, sounds, (False,) if quick else (False, True))
    base = recipes.default()
    others = (recipes.lucid(), *recipes.variants(base, domain, sounds))[: 1 if quick else None]
    planned = _MAIN * len(chosen) + len(keys) * len(FAMILIES) * (2 + len(others))
    tick = _clock(planned, tell)

    found, rows = [], []
    for case in chosen:
        found.append(look(case, base, steps, probes=sounds, restarts=4 if quick else 64))
        rows.extend(measure(case, found[-1]))
        tick(f"default recipe: {case.name}", _MAIN)
    own = [case for case in chosen if not case.planted.network.module.foreign]  # type: ignore[attr-defined]
    noise = []
    for case in own:
        live = select(case, [index for index, unit in enumerate(case.planted.units) if not unit.dead])
        shuffled = dataclasses.replace(live, planted=shuffled_weights(live.planted, case.key))
        noise.extend(measure(live, look(shuffled, base, steps // 2)))
        tick(f"control with shuffled weights: {case.name}")
    open_cases = [select(case, answering(case)) for case in own]
    outcomes = []
    for recipe in (base, *others):
        outcomes.append(_outcome(recipe, open_cases, steps // 2, tick))
    return Measured(
        steps=steps,
        compared_steps=steps // 2,
        cases=chosen,
        found=found,
        rows=rows,
        controls=controls(chosen, found),
        random_weights=noise,
        outcomes=outcomes,
        worths=[ablation.worth(outcomes[0], each) for each in outcomes[1:]],
    )


def answering(case: Case, per_kind: int = COMPARED) -> list[int]:
    """The first units of each kind that answer at the usual start: rescue would hide what recipes do to the others."""
    found: dict[str, list[int]] = {}
    for index, unit in enumerate(case.planted.units):
        if not (unit.dead or unit.closed):
            found.setdefault(unit.kind, []).append(index)
    return sorted(index for indices in found.values() for index in indices[:per_kind])


def _outcome(recipe: Recipe, chosen: Sequence[Case], steps: int, tick: Callable[..., None]) -> Outcome:
    rows: list[Row] = []
    curves = []
    moments: tuple[int, ...] = ()
    for case in chosen:
        found = look(case, recipe, steps)
        rows.extend(measure(case, found))
        curves.append(found.history / np.asarray([unit.maximum for unit in case.planted.units]))
        moments = found.moments
        tick(f"{recipe.name}: {case.name}")

    def column(name: str) -> np.ndarray:
        return np.asarray([getattr(row, name) for row in rows])

    return Outcome(
        recipe=recipe,
        passed=column("passed"),
        ratio=column("ratio"),
        correlation=column("correlation"),
        steps_90=column("steps_90"),
        clutter_db=column("clutter_db"),
        curve=np.median(np.concatenate(curves, axis=1), axis=1),
        moments=moments,
    )


def shuffled_weights(planted: Planted, key: jax.Array) -> Planted:
    """The same network with each filter's weights put into random cells: the same numbers, no sound in them."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key), np.uint32))
    kernel = np.asarray(planted.network.variables["params"]["match"]["kernel"])
    params = {**planted.network.variables["params"], "match": {"kernel": rng.permuted(kernel, axis=0)}}
    network = dataclasses.replace(planted.network, variables={**planted.network.variables, "params": params})
    return dataclasses.replace(planted, network=network)


def controls(chosen: Sequence[Case], found: Sequence[Found]) -> dict[str, scores.Control]:
    """Correlation and score ratio against the same with found inputs and targets paired at random.

    Inputs are shuffled among the live units of one network that pool alike.
    """
    likeness, ratios, groups, first = [], [], [], 0
    for case, result in zip(chosen, found, strict=True):
        live = [index for index, unit in enumerate(case.planted.units) if not unit.dead]
        units = [case.planted.units[index] for index in live]
        inputs = result.inputs[live]
        likeness.append(
            np.stack(
                [
                    np.max([readings.aligned(inputs[..., 0], unit, concept)[0] for concept in unit.concepts], axis=0)
                    for unit in units
                ],
                axis=1,
            )
        )
        directions = np.stack([unit.direction / unit.maximum for unit in units])
        ratios.append(np.asarray(case.planted.network(inputs)) @ directions.T)
        labels = {pool: first + place for place, pool in enumerate(("max", "mean", "position"))}
        groups.append(np.asarray([labels[unit.pool] for unit in units]))
        first += len(labels)
    together = np.concatenate(groups)
    return {
        name: scores.shuffled(_blocks(tables), groups=together)
        for name, tables in (("correlation", likeness), ("ratio", ratios))
    }


def _blocks(tables: Sequence[np.ndarray]) -> np.ndarray:
    """Square tables along the diagonal of one; pairs of different networks are never drawn."""
    size = sum(len(table) for table in tables)
    whole = np.full((size, size), math.nan)
    place = 0
    for table in tables:
        whole[place : place + len(table), place : place + len(table)] = table
        place += len(table)
    return whole


_MAIN = 5
"""A run of all units, with rescue, takes as long as so many of those that compare recipes."""


def _clock(planned: int, tell: Tell) -> Callable[..., None]:
    began, done = time.perf_counter(), 0

    def tick(what: str, share: int = 1) -> None:
        nonlocal done
        done += share
        passed = time.perf_counter() - began
        left = passed / done * (planned - done)
        tell(f"[{100 * done / planned:.0f} %, {passed:.0f} s, about {left:.0f} s left] {what}")

    return tick
