"""The active set: a chunk whose lanes leave when they have converged or died, and make room for the next.

Shapes stay as they are, so that nothing is compiled again. A lane decides on the device, from its own scores alone,
and stands still from that step on; the host only looks every few steps which lanes have, fetches them and lets others
in. What a lane becomes therefore does not depend on who its neighbours were or when it was looked at.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from nd_jax.visualize import leaving, program

if TYPE_CHECKING:
    from nd_jax.visualize.run import Piece, Run

# Steps after which the host looks who has left: a lane stands still for half as many on average.
_LOOK = 8


class Pool:
    """The lanes of one run in an active set; `run` makes one for each set of lanes that it is asked for."""

    def __init__(
        self,
        run: Run,
        index: np.ndarray,
        plan: program.Plan,
        start: Any,
        silence: int | None,
        tick: Callable[[int], None],
    ):
        assert run.stop_when is not None
        self._run, self._index, self._plan, self._start, self._tick = run, index, plan, start, tick
        self._rule = leaving.rule(run.stop_when, silence)
        self._moments = tuple(step for step in run.moments)
        self._slots = np.full(run.size, -1)
        self._age = np.zeros(run.size, int)
        self._next = 0
        self._state: Any = None
        self._operands: Any = None
        self._waiting: list[tuple[int, int, Any]] = []
        self._found: dict[int, tuple[Any, np.ndarray]] = {}
        count = len(index)
        self._parameters: Any = None
        self._ends = np.zeros((count, 5), int)

    def piece(self, asked_to_stop: threading.Event) -> Piece:
        """Runs all lanes; after Ctrl-C those that had begun, as far as they were.

        Raises:
          KeyboardInterrupt: Ctrl-C before there was anything, or where a state had just been given away.
        """
        began = time.perf_counter()
        try:
            self._let_in()
            while (self._slots >= 0).any():
                self._advance(asked_to_stop)
                self._see_off()
                self._let_in()
        except KeyboardInterrupt:
            if self._state is None or any(leaf.is_deleted() for leaf in jax.tree.leaves(self._state)):
                # It came between the donation of the old state and the arrival of the new one.
                raise
            self._run.interrupted = True
            self._see_off(everybody=True)
        self._evaluate(0)
        self._run.loop_seconds += time.perf_counter() - began
        return self._joined()

    def _let_in(self) -> None:
        """Fills free places with the lanes that are next."""
        run = self._run
        free = np.flatnonzero(self._slots < 0)[: len(self._index) - self._next]
        if not len(free):
            return
        new = np.arange(self._next, self._next + len(free))
        self._next += len(free)
        self._slots[free], self._age[free] = new, 0
        # A place that nobody is left for repeats a lane that has been in, and stands still.
        filled = self._index[np.where(self._slots >= 0, self._slots, 0)]
        self._operands = run.operands(filled)
        _, keys, goal = self._operands
        if self._start is None:
            fresh = run.programs.initialise(self._plan, run.placed_network, keys)
        else:
            rows = np.where(self._slots >= 0, self._slots, 0)
            fresh = run.programs.resume(self._plan, run.place(jax.tree.map(lambda leaf: leaf[rows], self._start)))
        if self._state is None:
            self._state = fresh
        else:
            chosen = np.zeros(run.size, bool)
            chosen[free] = True
            self._state = run.programs.enter(self._plan, self._state, fresh, run.place(chosen))
        if 0 in self._moments:
            self._park(free, 0)

    def _advance(self, asked_to_stop: threading.Event) -> None:
        """Steps up to where the host has to look, a snapshot is due, or the last step of a lane."""
        from nd_jax.visualize import run as running

        run, busy = self._run, self._slots >= 0
        _, keys, goal = self._operands
        until = max(_LOOK, running.steps_per_call(1 << 30))
        dues = np.asarray([step for step in self._moments if step < run.steps] + [run.steps])
        gaps = dues[None, :] - self._age[busy][:, None]
        left = min(until, int(np.min(np.where(gaps > 0, gaps, until))))
        before = None
        clock = run.clock(0)._replace(rule=self._rule)
        while left:
            count = running.steps_per_call(left)
            self._state, beat = run.programs.advance(
                self._plan, count, run.placed_network, self._state, goal, keys, clock
            )
            self._age[busy] += count
            left -= count
            run.wait(before if before is not None and left else beat)
            before = beat
            self._tick(count * int(busy.sum()))
            if asked_to_stop.is_set():
                raise KeyboardInterrupt
        for step in dues[:-1]:
            self._park(np.flatnonzero(busy & (self._age == step)), int(step))

    def _see_off(self, everybody: bool = False) -> None:
        """Fetches the lanes that have stopped, and frees their places."""
        run, pace = self._run, self._state.pace
        reasons = np.asarray(pace.reason)
        gone = np.flatnonzero((self._slots >= 0) & (everybody | (reasons != leaving.RUNNING)))
        if not len(gone):
            return
        state, done = self._state, np.asarray(pace.done)
        told = np.stack([np.asarray(part) for part in (state.failed, state.moved, state.stuck, done, reasons)], axis=1)
        self._ends[self._slots[gone]] = told[gone]
        # What a lane did not need counts as done, and what it stood still for does not.
        self._tick(int(np.sum(run.steps - self._age[gone])) if not everybody else 0)
        self._park(gone, run.steps + 1)
        self._slots[gone] = -1

    def _park(self, places: np.ndarray, step: int) -> None:
        """Keeps the parameters of lanes until there are enough for one evaluation."""
        if not len(places):
            return
        values = jax.device_get(self._state.parameters)
        for place in places:
            # A copy: the state is given away at the next step.
            row = jax.tree.map(lambda leaf, place=place: np.array(leaf[place]), values)
            self._waiting.append((int(self._slots[place]), step, row))
        self._evaluate(self._run.size)

    def _evaluate(self, least: int) -> None:
        """Inputs and scores of what is parked, while there are at least so many (or any, with 0)."""
        run = self._run
        while self._waiting and len(self._waiting) >= least:
            part, self._waiting = self._waiting[: run.size], self._waiting[run.size :]
            rows = np.asarray([lane for lane, _, _ in part])
            values = jax.tree.map(lambda *leaves: np.stack(leaves), *(each for _, _, each in part))
            goal = run.operands(self._index[rows])[2]
            inputs, scores = jax.device_get(
                run.programs.evaluate(run.plan, run.placed_network, run.place(values), goal)
            )
            for place, (lane, step, each) in enumerate(part):
                self._keep(step, lane, jax.tree.map(lambda leaf, at=place: leaf[at], inputs), scores[place])
                if step > run.steps:
                    self._parameters = _written(self._parameters, lane, each, len(self._index))

    def _keep(self, step: int, lane: int, inputs: Any, score: Any) -> None:
        count = len(self._index)
        had = self._found.get(step, (None, None))
        self._found[step] = (_written(had[0], lane, inputs, count), _written(had[1], lane, score, count))

    def _joined(self) -> Piece:
        """What became of the lanes, as one piece."""
        from nd_jax.visualize.run import Piece

        run, count = self._run, self._next
        last = self._found[run.steps + 1]
        failed, moved, stuck, done, reason = self._ends[:count].T
        reason = np.where(reason == leaving.RUNNING, leaving.INTERRUPTED, reason)
        kept = []
        for step in self._moments:
            # A lane that had left by then stays as it was.
            after = done < step
            inputs, scores = self._found.get(step, last)
            inputs = jax.tree.map(
                lambda old, new, after=after: _where(after, new[:count], old[:count]), inputs, last[0]
            )
            kept.append((step, inputs, _where(after, last[1][:count], scores[:count]), None))
        inputs, parameters, scores = jax.tree.map(lambda leaf: leaf[:count], (last[0], self._parameters, last[1]))
        moved = moved.astype(bool)
        return Piece(
            self._index[:count], inputs, parameters, scores, failed, moved, stuck, moved, done, tuple(kept), reason
        )


def _written(target: Any, lane: int, value: Any, count: int) -> Any:
    """A tree of arrays (count, ...) with the row of a lane written; None is one that is still to be made."""
    if target is None:
        target = jax.tree.map(lambda leaf: np.zeros((count, *np.shape(leaf)), np.asarray(leaf).dtype), value)

    def write(into: np.ndarray, leaf: Any) -> np.ndarray:
        into[lane] = leaf
        return into

    return jax.tree.map(write, target, value)


def _where(chosen: np.ndarray, new: np.ndarray, old: np.ndarray) -> np.ndarray:
    return np.where(chosen.reshape(-1, *[1] * (old.ndim - 1)), new, old)
