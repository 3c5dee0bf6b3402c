"""When a lane has had enough: it has converged, its unit does not answer, or its numbers are no longer finite.

A run has sections, between which what is climbed changes: the transforms end where the polish begins, an early penalty
ends where it says. A lane that has converged in a section goes on to the next at once; in the last one it leaves, and
another lane takes its place (`nd_jax.visualize.pool`). Each lane has a clock of its own, and decides from its own
scores alone: when it leaves, and what it has become by then, does not depend on the lanes around it.

Converged: the mean of the penalised score over a window of steps has not risen above the best window of this section
by more than a share of the lane's climb so far (from its first step), `patience` windows in a row. A window evens out
what the transforms do to single steps, and a share has no unit, so that one number serves all units. A schedule of the
optimizer's own counts the lane's updates: one that lowers the learning rate lowers the gain, and lanes leave.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Why a lane stopped, by the number that the compiled program writes; 0 is a lane that is under way.
RUNNING, STEPS, CONVERGED, SILENT, NOT_FINITE, INTERRUPTED = range(6)
WORDS = ("interrupted", "steps", "converged", "died", "not finite", "interrupted")


@dataclasses.dataclass(frozen=True)
class Converged:
    """See `converged`."""

    tolerance: float = 0.002
    rough: float = 0.1
    window: int = 16
    patience: int = 1
    silence: int = 32

    @property
    def label(self) -> str:
        """A short text for reports."""
        return (
            f"converged: {self.patience} windows of {self.window} steps gain less than {100 * self.tolerance:g} % of "
            f"the climb; died: {self.silence} steps without a gradient"
        )


def converged(
    *, tolerance: float = 0.002, rough: float = 0.1, window: int = 16, patience: int = 1, silence: int = 32
) -> Converged:
    """When lanes stop, for `visualize_batch(stop_when=...)`; docs/speed.md has what it costs and gains.

    Args:
      tolerance: the share of a lane's climb so far that counts as a gain.
      rough: the same before the last section, where the place to climb is chosen and not how high.
      window: steps over which its score is averaged.
      patience: windows in a row without a gain after which it has converged.
      silence: steps in a row without a gradient of the score after which it has died.

    Raises:
      ValueError: a share that is none, or counts below 1.
    """
    for name, share in {"tolerance": tolerance, "rough": rough}.items():
        number = isinstance(share, (int, float, np.number)) and not isinstance(share, bool)
        if not number or not 0 <= share < 1:
            raise ValueError(f"{name} is a share of the climb, 0 or more and below 1, got {share!r}")
    for name, value in {"window": window, "patience": patience, "silence": silence}.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"{name} must be a whole number of 1 or more, got {value!r}")
    return Converged(float(tolerance), float(rough), int(window), int(patience), int(silence))


class Rule(NamedTuple):
    """A `Converged` as arguments of a compiled program, scalars."""

    tolerance: jax.Array
    rough: jax.Array
    window: jax.Array
    patience: jax.Array
    silence: jax.Array


class Pace(NamedTuple):
    """How far one lane is; stacked over a chunk.

    Attributes:
      step: its place in the run, which moves on faster where it has converged.
      done: its updates.
      reason: why it stopped, RUNNING while it has not.
      silent: steps in a row without a gradient.
      first: its first penalised score.
      total, summed: sum and number of the scores of the window.
      best: the best window of this section.
      waited: windows since then.
    """

    step: jax.Array
    done: jax.Array
    reason: jax.Array
    silent: jax.Array
    first: jax.Array
    total: jax.Array
    summed: jax.Array
    best: jax.Array
    waited: jax.Array


def rule(wish: Converged, silence: int | None = None) -> Rule:
    """The arguments; `silence` instead of its own."""
    return Rule(
        jnp.asarray(wish.tolerance, jnp.float32),
        jnp.asarray(wish.rough, jnp.float32),
        jnp.asarray(wish.window, jnp.int32),
        jnp.asarray(wish.patience, jnp.int32),
        jnp.asarray(wish.silence if silence is None else silence, jnp.int32),
    )


def begin(lanes: int) -> Pace:
    """Of lanes that have not begun, (lanes,) each."""
    whole, real = jnp.zeros(lanes, jnp.int32), jnp.zeros(lanes, jnp.float32)
    return Pace(whole, whole, whole, whole, real, real, whole, real - jnp.inf, whole)


def moved_on(
    pace: Pace,
    rule: Rule,
    *,
    value: jax.Array,
    answers: jax.Array,
    finite: jax.Array,
    turns: Sequence[jax.Array],
    total: jax.Array,
) -> Pace:
    """One step later; a lane that has stopped stays as it is.

    Args:
      pace: of one lane.
      rule: when it stops.
      value: the penalised score of this step.
      answers: whether it has a gradient.
      finite: whether the lane's numbers are.
      turns: the steps at which another section begins.
      total: steps of the run.
    """
    first = jnp.where(pace.done == 0, value, pace.first)
    sum_now, count = pace.total + value, pace.summed + 1
    full = count >= rule.window
    mean = sum_now / count
    ahead = total
    for turn in turns:
        ahead = jnp.where(turn > pace.step, jnp.minimum(ahead, turn), ahead)
    least = jnp.where(ahead < total, rule.rough, rule.tolerance) * jnp.abs(mean - first)
    gained = mean - pace.best > least
    waited = jnp.where(full, jnp.where(gained, 0, pace.waited + 1), pace.waited)
    settled = full & (waited >= rule.patience)
    step = jnp.where(settled, ahead, pace.step + 1)
    anew = step == ahead
    silent = jnp.where(answers, 0, pace.silent + 1)
    reason = jnp.where(step >= total, jnp.where(settled, CONVERGED, STEPS), RUNNING)
    reason = jnp.where(silent >= rule.silence, SILENT, reason)
    reason = jnp.where(finite, reason, NOT_FINITE)
    after = Pace(
        step,
        pace.done + 1,
        reason,
        silent,
        first,
        jnp.where(full | anew, 0.0, sum_now),
        jnp.where(full | anew, 0, count),
        jnp.where(anew, -jnp.inf, jnp.where(full, jnp.maximum(pace.best, mean), pace.best)),
        jnp.where(anew, 0, waited),
    )
    going = pace.reason == RUNNING
    return jax.tree.map(lambda new, old: jnp.where(going, new, old).astype(old.dtype), after, pace)
