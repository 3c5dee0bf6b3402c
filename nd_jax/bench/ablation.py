"""What each idea of the default recipe is worth, on the same units at equal steps, and the verdict that follows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from nd_jax.bench import scores
from nd_jax.bench.recipes import Recipe
from nd_jax.bench.scores import Figure

VERDICTS = ("pays", "neutral", "harms")
LEAST_TRUTH, LEAST_SPEED = 0.005, 0.05
"""Differences smaller than these are neutral however certain they are."""


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """What a recipe reached, unit by unit; all recipes have the same units in the same order.

    Attributes:
      recipe: which.
      passed: (units,) whether everything asked of a unit is met.
      ratio, correlation: (units,) score over known maximum, correlation with the true optimum.
      steps_90: (units,) step of 90 % of the climb, NaN where there was none.
      clutter_db: (units,) level of the frames that a unit does not see, NaN where it sees all.
      curve: (moments,) median over units of the score over the known maximum; moments: their steps.
    """

    recipe: Recipe
    passed: np.ndarray
    ratio: np.ndarray
    correlation: np.ndarray
    steps_90: np.ndarray
    clutter_db: np.ndarray
    curve: np.ndarray
    moments: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Worth:
    """What one idea is worth: the recipe with it against the recipe without, paired by unit.

    Attributes:
      idea: in words.
      recipe: the variant in which it is changed.
      in_default: whether the default has it.
      passing: difference of the share of units passing, with minus without.
      truth: mean difference of the smaller of score ratio and correlation.
      speed: median of the ratio of steps to 90 %, with over without: below 1 is faster.
      clutter_db: median difference of the level of what does not matter.
      verdict: one of `VERDICTS`.
    """

    idea: str
    recipe: str
    in_default: bool
    passing: Figure
    truth: Figure
    speed: Figure
    clutter_db: Figure
    verdict: str


def worth(base: Outcome, variant: Outcome) -> Worth:
    """Compares the default with the recipe in which one idea is changed."""
    on, off = (variant, base) if variant.recipe.adds else (base, variant)
    passing = scores.bootstrap(on.passed.astype(float) - off.passed, np.mean)
    truth = scores.bootstrap(np.minimum(on.ratio, on.correlation) - np.minimum(off.ratio, off.correlation), np.mean)
    log_ratio = scores.bootstrap(np.log(np.maximum(on.steps_90, 1.0) / np.maximum(off.steps_90, 1.0)))
    speed = Figure(math.exp(log_ratio.value), math.exp(log_ratio.low), math.exp(log_ratio.high), log_ratio.count)
    clutter = scores.bootstrap(on.clutter_db - off.clutter_db)
    return Worth(
        variant.recipe.idea,
        variant.recipe.name,
        not variant.recipe.adds,
        passing,
        truth,
        speed,
        clutter,
        verdict(passing, truth, speed),
    )


def verdict(passing: Figure, truth: Figure, speed: Figure) -> str:
    """Truth first, speed second, by intervals that leave out no difference.

    An idea pays when more units pass with it, or, no fewer passing, when what is found is nearer to the truth; it harms
    when it is the other way round. When neither interval leaves out zero, the faster climb decides. Differences of
    less than LEAST_TRUTH and LEAST_SPEED do not count.
    """
    for figure, least in ((passing, 0.0), (truth, LEAST_TRUTH)):
        if figure.low > 0 and figure.value >= least:
            return "pays"
        if figure.high < 0 and figure.value <= -least:
            return "harms"
    if speed.high < 1 and speed.value <= 1 - LEAST_SPEED:
        return "pays"
    return "harms" if speed.low > 1 and speed.value >= 1 + LEAST_SPEED else "neutral"


def plain(outcomes: Sequence[Outcome]) -> list[Mapping[str, object]]:
    """The outcomes' figures, ready for JSON."""
    return [
        {
            "recipe": each.recipe.name,
            "idea": each.recipe.idea,
            "passing": dataclasses.asdict(scores.share(each.passed)),
            "ratio": dataclasses.asdict(scores.bootstrap(each.ratio)),
            "correlation": dataclasses.asdict(scores.bootstrap(each.correlation)),
            "steps_90": dataclasses.asdict(scores.bootstrap(each.steps_90)),
            "clutter_db": dataclasses.asdict(scores.bootstrap(each.clutter_db)),
            "curve": [round(float(value), 5) for value in each.curve],
            "moments": list(each.moments),
        }
        for each in outcomes
    ]
