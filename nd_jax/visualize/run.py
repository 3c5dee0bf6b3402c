"""The host's side of a run: chunks of lanes through compiled steps, snapshots, interrupts, time and memory.

A `Run` is one call of `visualize_batch`. `batch` makes it, `rescue` sends lanes through it again.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from nd_jax.visualize import arguments, leaving, memory, objectives, program
from nd_jax.visualize.pool import Pool

if TYPE_CHECKING:
    from nd_jax.network import Network

_STEPS_PER_CALL = 32
# An active set has room for at most this share of the lanes, where it is not one of the least size.
_ROUNDS = 4


class Piece(NamedTuple):
    """What became of some lanes, all arrays with a leading axis of them.

    Attributes:
      lanes: their places in the run.
      inputs, parameters: trees.
      scores: on the inputs, without transforms.
      failed, moved, stuck: as in `program.Lane`.
      early: `moved` after the number of steps that the caller asked about.
      done: steps.
      kept: one (step, inputs, scores, parameters) a snapshot; parameters of a parameterization with `keeps_way`
        only, else None.
      reason: why they stopped, a number of `leaving`.
    """

    lanes: np.ndarray
    inputs: Any
    parameters: Any
    scores: np.ndarray
    failed: np.ndarray
    moved: np.ndarray
    stuck: np.ndarray
    early: np.ndarray
    done: np.ndarray
    kept: tuple[tuple[int, Any, np.ndarray, Any], ...]
    reason: np.ndarray


class Run:
    """One call of `visualize_batch`.

    Attributes:
      network, plan, lanes, keys, steps, moments: what runs; keys are (lanes,), or (lanes, inputs) for several inputs a
        lane.
      stop_when: when lanes leave early, or None.
      placed_network: the network where it runs.
      size: lanes of a chunk, over all devices.
      compile_seconds, waited_seconds, loop_seconds: time compiling, waiting for the device, and in the step loop.
      memory_bytes: what one compiled step needs on each device.
      interrupted: whether Ctrl-C came.
    """

    def __init__(
        self,
        network: Network,
        plan: program.Plan,
        lanes: objectives.Bound,
        keys: jax.Array,
        *,
        steps: int,
        moments: tuple[int, ...],
        polish: float,
        scale: np.ndarray,
        strengths: np.ndarray | None = None,
        wish: int | None,
        devices: Sequence[jax.Device],
        stop_when: leaving.Converged | None = None,
    ):
        self.lanes, self.keys, self.steps, self.moments = lanes, keys, steps, moments
        # Without a step there is nothing to leave early.
        self.stop_when = stop_when if steps else None
        self._goals = program.Goal(lanes.arrays, np.asarray(scale, np.float32), strengths)
        self._total = (jnp.asarray(steps, jnp.int32), jnp.asarray(steps - round(polish * steps), jnp.int32))
        alone = len(devices) == 1 and devices[0] == jax.local_devices()[0]
        mesh = None if alone else Mesh(np.asarray(devices), (program.LANES,))
        self.programs = program.programs(mesh)
        self._split = None if mesh is None else NamedSharding(mesh, PartitionSpec(program.LANES))
        self._whole = None if mesh is None else NamedSharding(mesh, PartitionSpec())
        self.plan = arguments.placed(plan, self._whole)._replace(paced=self.stop_when is not None)
        self.network = network
        self.placed_network = network if mesh is None else jax.device_put(network, self._whole)
        self.compile_seconds = self.waited_seconds = self.loop_seconds = 0.0
        self.memory_bytes = 0
        self.interrupted = False
        self._devices = len(devices)
        share = -(-len(lanes) // self._devices)
        if self.stop_when is not None and wish is None:
            # Who leaves early makes room only where others are waiting.
            share = -(-share // _ROUNDS)
        self.size = self._devices * memory.choose(network, self.plan, share, wish, devices[0], self._needed)

    def _needed(self, lanes: int) -> int:
        """Compiles the step for so many lanes on each device and returns the bytes that it needs there."""
        if not self.steps:
            return 0
        count = lanes * self._devices
        keys = self._shapes(jax.eval_shape(lambda: self.keys[np.zeros(count, int)]))
        goal = self._shapes(
            jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct((count, *leaf.shape[1:]), jax.dtypes.canonicalize_dtype(leaf.dtype)),
                self._goals,
            )
        )
        began = time.perf_counter()
        state = self._shapes(self.programs.initialise.shapes(self.plan, self.placed_network, keys))
        lowered = self.programs.advance.lower(
            self.plan, steps_per_call(self.steps), self.placed_network, state, goal, keys, self.clock(0)
        )
        stats = lowered.compile().memory_analysis()
        self.compile_seconds += time.perf_counter() - began
        if stats is None:
            return 0
        self.memory_bytes = int(
            stats.temp_size_in_bytes
            + stats.argument_size_in_bytes
            + stats.output_size_in_bytes
            - stats.alias_size_in_bytes
        )
        return self.memory_bytes

    def clock(self, step: int) -> program.Clock:
        """The clock of a step."""
        rule = None if self.stop_when is None else leaving.rule(self.stop_when)
        return program.Clock(jnp.asarray(step, jnp.int32), *self._total, rule)

    def _shapes(self, tree: Any) -> Any:
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self._split), tree)

    def pieces(
        self,
        index: np.ndarray,
        tick: Callable[[int], None],
        *,
        plan: program.Plan | None = None,
        start: Any = None,
        early: int = 0,
    ) -> Iterator[Piece]:
        """Runs lanes, a chunk at a time; after Ctrl-C the last piece is that of the chunk that was under way.

        Args:
          index: which lanes.
          tick: told how many lane-steps more are done.
          plan: another plan than the run's own.
          start: parameters to start from, (len(index), ...), instead of the parameterization's own.
          early: a step at which `Piece.early` is taken; lanes that leave early do so by then without a gradient.
        """
        with _one_interrupt_waits() as asked_to_stop:
            if self.stop_when is not None:
                yield Pool(self, index, plan or self.plan, start, early or None, tick).piece(asked_to_stop)
                return
            for first in range(0, len(index), self.size):
                places = np.arange(first, min(first + self.size, len(index)))
                began = None if start is None else jax.tree.map(lambda leaf, at=places: leaf[at], start)
                try:
                    yield self._chunk(index[places], tick, asked_to_stop, plan or self.plan, began, early)
                except KeyboardInterrupt:
                    if first == 0:
                        raise
                    self.interrupted = True
                if self.interrupted:
                    return

    def _chunk(
        self,
        index: np.ndarray,
        tick: Callable[[int], None],
        asked_to_stop: threading.Event,
        plan: program.Plan,
        start: Any,
        early: int,
    ) -> Piece:
        padded, keys, goal = self.operands(index)
        if start is None:
            lane = self.programs.initialise(plan, self.placed_network, keys)
        else:
            lane = self.programs.resume(plan, self.place(start))
        kept: list[tuple[int, Any, Any, Any]] = []
        way = getattr(plan.parameterization, "keeps_way", False)
        done, moved_early = 0, np.zeros(self.size, bool)
        began = time.perf_counter()
        try:
            for stop in sorted({*self.moments, self.steps, min(early, self.steps)}):
                before = None
                while done < stop:
                    count = steps_per_call(stop - done)
                    lane, beat = self.programs.advance(
                        plan, count, self.placed_network, lane, goal, keys, self.clock(done)
                    )
                    done += count
                    # One call ahead of the device: it never waits for the host.
                    self.wait(before if before is not None and done < stop else beat)
                    before = beat
                    tick(count * len(index))
                    if asked_to_stop.is_set():
                        raise KeyboardInterrupt
                if stop == early:
                    moved_early = np.asarray(lane.moved)
                if stop in self.moments:
                    free = jax.device_get(lane.parameters) if way else None
                    kept.append((stop, *self._evaluate(lane.parameters, goal), free))
        except KeyboardInterrupt:
            if any(leaf.is_deleted() for leaf in jax.tree.leaves(lane)):
                # It came between the donation of the old state and the arrival of the new one.
                raise
            self.interrupted = True
        inputs, scores = kept[-1][1:3] if kept and kept[-1][0] == done else self._evaluate(lane.parameters, goal)
        self.loop_seconds += time.perf_counter() - began
        stopped = leaving.STEPS if done == self.steps else leaving.INTERRUPTED
        failed = np.asarray(lane.failed)
        piece = Piece(
            padded,
            inputs,
            jax.device_get(lane.parameters),
            scores,
            failed,
            np.asarray(lane.moved),
            np.asarray(lane.stuck),
            moved_early,
            np.full(self.size, done),
            (),
            np.where(failed >= 0, leaving.NOT_FINITE, stopped),
        )
        short = jax.tree.map(lambda leaf: leaf[: len(index)], piece)
        cut = [
            (step, *jax.tree.map(lambda leaf: leaf[: len(index)], (inputs, scores, free)))
            for step, inputs, scores, free in kept
        ]
        return short._replace(kept=tuple(cut))

    def operands(self, index: np.ndarray) -> tuple[np.ndarray, Any, Any]:
        """A chunk's lanes, keys and goals, of at most `size` lanes. Dummies repeat the first."""
        padded = np.concatenate([index, np.full(self.size - len(index), index[0])])
        goal = jax.tree.map(lambda leaf: jnp.asarray(leaf[padded]), self._goals)
        return padded, self._placed(self.keys[padded]), self._placed(goal)

    def place(self, values: Any) -> Any:
        """A tree (n, ...) of at most `size` rows on the devices, filled up with its first row."""

        def filled(leaf: Any) -> jax.Array:
            leaf = np.asarray(leaf)
            return jnp.asarray(np.concatenate([leaf, np.repeat(leaf[:1], self.size - len(leaf), axis=0)]))

        return self._placed(jax.tree.map(filled, values))

    def _placed(self, tree: Any) -> Any:
        return tree if self._split is None else jax.device_put(tree, self._split)

    def _evaluate(self, parameters: Any, goal: program.Goal) -> Any:
        return jax.device_get(self.programs.evaluate(self.plan, self.placed_network, parameters, goal))

    def wait(self, beat: jax.Array) -> None:
        """Until the device has come so far."""
        began = time.perf_counter()
        jax.block_until_ready(beat)
        self.waited_seconds += time.perf_counter() - began

    def first_scores(self, index: np.ndarray) -> np.ndarray:
        """The scores with which lanes begin, (n,) or (n, inputs)."""
        found = []
        for first in range(0, len(index), self.size):
            part = index[first : first + self.size]
            _, keys, goal = self.operands(part)
            lane = self.programs.initialise(self.plan, self.placed_network, keys)
            found.append(self._evaluate(lane.parameters, goal)[1][: len(part)])
        return np.concatenate(found)

    def respond(self, index: np.ndarray, parameters: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of lanes at parameters (n, ...): scores, whether there is a gradient, whether they are more than rounding."""
        found = []
        for first in range(0, len(index), self.size):
            part = index[first : first + self.size]
            given = self.place(jax.tree.map(lambda leaf, at=slice(first, first + self.size): leaf[at], parameters))
            values = jax.device_get(
                self.programs.respond(self.plan, self.placed_network, given, self.operands(part)[2])
            )
            found.append([value[: len(part)] for value in values])
        scores, answers, loud = (np.concatenate(each) for each in zip(*found, strict=True))
        return scores, answers, loud


def steps_per_call(left: int) -> int:
    """How many steps one call of the compiled program takes, of so many that are left."""
    # XLA:CPU emits naive code for what it cannot rewrite in a loop body, and a dispatch costs little beside a step.
    if jax.default_backend() == "cpu":
        return 1
    return _STEPS_PER_CALL if left >= _STEPS_PER_CALL else 1


@contextlib.contextmanager
def _one_interrupt_waits() -> Iterator[threading.Event]:
    """Turns the first Ctrl-C into an event, so that it cannot land where a state is being given away; the next raises.

    Only where Ctrl-C would raise KeyboardInterrupt anyway: another program's handler is left alone.
    """
    asked = threading.Event()
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield asked
        return

    def ask(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
