"""The one optimizer: every unit of a layer at once, one unit a `vmap` lane, one compiled program a layer.

How it runs. `visualize_batch` binds the objective to the network (names are checked before anything compiles), cuts the
lanes into chunks of equal size (short ones padded with dummies, so that nothing recompiles and no lane ever runs in
fewer than eight: a matrix product of one row takes another path and drifts), and moves each chunk through jitted steps.
The host only counts steps, reports progress and takes snapshots.

What a lane is. A lane is a batch of one, with its own parameters, optimizer state and key. The key is folded from the
caller's key, the lane's label and its replicate, never from its position: alone, in 8, in 512 or in another order, a
unit comes out the same. The optimizer's init and update are vmapped, so a global-norm clip stays inside its lane. A
lane whose numbers stop being finite is frozen at its last finite state and reported; the others never notice.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from nd_jax import taps
from nd_jax.runtime import progress_bar
from nd_jax.visualize import checks, objectives, optimizers, parameterizations, program
from nd_jax.visualize.result import Visualization
from nd_jax.visualize.transforms import default as transforms_for

if TYPE_CHECKING:
    from nd_jax.network import Network

LEAST_LANES = 8
_CHUNK_BYTES = {"cpu": 256 << 20, "accelerator": 8 << 30}
_STEPS_PER_CALL = 32


def visualize_batch(
    network: Network,
    objective: objectives.Objective | objectives.Bound,
    *,
    key: jax.Array,
    parameterization: Any = None,
    transforms: Sequence[Any] | None = None,
    penalties: Sequence[Any] = (),
    optimizer: optax.GradientTransformation | None = None,
    steps: int = 512,
    snapshots: int | Sequence[int] = 8,
    replicates: int | Sequence[int] = 1,
    chunk_size: int | None = None,
    start: Any = None,
    progress: bool | Callable[[int, int], None] = True,
) -> Visualization:
    """Finds the inputs that maximise many objectives at once.

    Args:
      network: what to look into.
      objective: a batch of objectives (`nd_jax.objectives`), one lane each.
      key: a JAX key. Same key, same result, whatever the batch around a lane.
      parameterization: how free numbers become an input; None for the domain's own (Fourier for spectrograms and
        images).
      transforms: perturbations drawn anew at every step; None for those that are physically valid for the domain, ()
        for none.
      penalties: subtracted from the objective, on the unperturbed input.
      optimizer: any Optax transformation, run per lane; None for Adam with learning rate 0.05.
      steps: updates per lane.
      snapshots: how many inputs to keep on the way (first and last included, denser early), or the steps themselves.
      replicates: how often each objective is run, from different starts; or the number of the start for each lane.
      chunk_size: lanes per compiled program, rounded up to a multiple of 8; None picks from the size of the layers.
      start: parameters to start from instead of the parameterization's own, with or without a leading axis of lanes.
      progress: True for a bar with the time left, False for silence, or a function of (lane-steps done, in total).

    Returns:
      A `Visualization`. After Ctrl-C it holds what was there: the lanes that had begun, at the step they had reached.

    Raises:
      LayerError, ValueError: unknown layers, units or settings, in one sentence, before anything is compiled.
    """
    checks.check_settings(key, steps, chunk_size)
    checks.check_kinds(objective, optimizer)
    bound = objective.bind(network)
    checks.check_replicates(replicates, len(bound))
    domain = network.input
    chosen = parameterization if parameterization is not None else parameterizations.default(domain)
    plan = program.Plan(
        bound.spec,
        chosen,
        _flat(transforms_for(domain) if transforms is None else transforms),
        _flat(penalties),
        optimizer if optimizer is not None else optimizers.adam(),
    )
    checks.check_parts(plan, domain)
    if isinstance(replicates, (int, np.integer)):
        lanes = bound.select(np.repeat(np.arange(len(bound)), replicates))
        copies = np.tile(np.arange(replicates), len(bound))
    else:
        lanes, copies = bound, np.asarray(replicates, int)
    keys = lane_keys(key, lanes.labels, copies)
    size = _chunk_size(network, plan, len(lanes), chunk_size)
    moments = snapshot_steps(steps, snapshots)
    run = _Run(network, plan, lanes, keys, start, steps, moments, size)
    began = time.perf_counter()
    with progress_bar(len(lanes) * steps, "unit-step", progress) as tick:
        run.all_chunks(tick)
    return run.result(key=key, seconds=time.perf_counter() - began, replicates=copies)


def lane_keys(key: jax.Array, labels: Sequence[str], replicates: Sequence[int] | np.ndarray) -> jax.Array:
    """One key a lane, (lanes,), from the caller's key, the lane's label and its replicate; never from its position."""
    words = np.array([_words(label) for label in labels], np.uint32).reshape(-1, 2)
    numbers = jnp.asarray(np.asarray(replicates, np.uint32))

    def fold(word: jax.Array, replicate: jax.Array) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(key, word[0]), word[1]), replicate)

    return jax.vmap(fold)(jnp.asarray(words), numbers)


def snapshot_steps(steps: int, snapshots: int | Sequence[int]) -> tuple[int, ...]:
    """The steps after which a snapshot is taken: 0 (the start) to `steps`, denser early; or those given, checked."""
    if isinstance(snapshots, (int, np.integer)):
        if snapshots < 0:
            raise ValueError(f"snapshots must be 0 or more, got {snapshots}")
        if snapshots == 0:
            return ()
        fractions = np.linspace(0, 1, max(int(snapshots), 2))[-int(snapshots) :]
        return tuple(sorted({int(round(steps * fraction**2)) for fraction in fractions}))
    chosen = tuple(sorted({int(step) for step in snapshots}))
    if any(step < 0 or step > steps for step in chosen):
        raise ValueError(f"snapshots are taken at steps 0 to {steps}, got {chosen}")
    return chosen


def _words(label: str) -> tuple[int, int]:
    digest = hashlib.sha256(label.encode()).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


class _Run:
    """One call of `visualize_batch`: the host loop over chunks and steps."""

    def __init__(
        self,
        network: Network,
        plan: program.Plan,
        lanes: objectives.Bound,
        keys: jax.Array,
        start: Any,
        steps: int,
        moments: tuple[int, ...],
        size: int,
    ):
        self.network, self.plan, self.lanes, self.keys = network, plan, lanes, keys
        self.steps, self.moments, self.size = steps, moments, size
        self.start = checks.spread_start(start, len(lanes), plan, network) if start is not None else None
        self.pieces: list[dict[str, Any]] = []
        self.interrupted = False

    def all_chunks(self, tick: Callable[[int], None]) -> None:
        with _one_interrupt_waits() as asked_to_stop:
            self._chunks(tick, asked_to_stop)

    def _chunks(self, tick: Callable[[int], None], asked_to_stop: threading.Event) -> None:
        for first in range(0, len(self.lanes), self.size):
            try:
                self._one_chunk(np.arange(first, min(first + self.size, len(self.lanes))), tick, asked_to_stop)
            except KeyboardInterrupt:
                if not self.pieces:
                    raise
                self.interrupted = True
            if self.interrupted:
                return

    def _one_chunk(self, index: np.ndarray, tick: Callable[[int], None], asked_to_stop: threading.Event) -> None:
        # Dummies repeat the chunk's first lane; they are dropped when the piece is stored.
        padded = np.concatenate([index, np.full(self.size - len(index), index[0])])
        keys = self.keys[padded]
        arrays = jax.tree.map(jnp.asarray, self.lanes.select(padded).arrays)
        if self.start is None:
            lane = program.initialise(self.plan, self.network.input, keys)
        else:
            lane = program.resume(self.plan, jax.tree.map(lambda leaf: jnp.array(leaf[padded]), self.start))
        kept: list[tuple[int, Any, Any]] = []
        done = 0
        try:
            for stop in sorted({*self.moments, self.steps}):
                while done < stop:
                    count = _steps_per_call(stop - done)
                    lane, beat = program.advance(self.plan, self.network, lane, arrays, keys, done, count)
                    done += count
                    jax.block_until_ready(beat)
                    tick(count * len(index))
                    if asked_to_stop.is_set():
                        raise KeyboardInterrupt
                if stop in self.moments:
                    kept.append((stop, *jax.device_get(program.evaluate(self.plan, self.network, lane, arrays))))
        except KeyboardInterrupt:
            if any(leaf.is_deleted() for leaf in jax.tree.leaves(lane)):
                # It came between the donation of the old state and the arrival of the new one.
                raise
            self.interrupted = True
        inputs, scores = jax.device_get(program.evaluate(self.plan, self.network, lane, arrays))
        piece = {
            "lanes": index,
            "inputs": inputs,
            "scores": scores,
            "parameters": jax.device_get(lane.parameters),
            "failed": np.asarray(lane.failed),
            "moved": np.asarray(lane.moved),
            "done": np.full(self.size, done),
            "snapshots": kept,
        }
        self.pieces.append(_cut(piece, len(index)))

    def result(self, *, key: jax.Array, seconds: float, replicates: np.ndarray) -> Visualization:
        index = np.concatenate([piece["lanes"] for piece in self.pieces])
        lanes = self.lanes.select(index)
        gathered = {
            name: _concatenate([piece[name] for piece in self.pieces])
            for name in ("inputs", "scores", "parameters", "failed", "moved", "done")
        }
        common = set.intersection(*({step for step, _, _ in piece["snapshots"]} for piece in self.pieces))
        moments = tuple(step for step in self.moments if step in common)
        chosen = [[item for item in piece["snapshots"] if item[0] in common] for piece in self.pieces]
        pictures = [_concatenate([rows[i][1] for rows in chosen]) for i in range(len(moments))]
        history = [np.concatenate([rows[i][2] for rows in chosen]) for i in range(len(moments))]
        return Visualization(
            network=self.network,
            domain=self.network.input,
            labels=lanes.labels,
            layers=lanes.layers,
            units=lanes.units,
            objective=lanes,
            replicates=replicates[index],
            inputs=gathered["inputs"],
            parameters=gathered["parameters"],
            scores=gathered["scores"],
            history=np.stack(history) if history else np.zeros((0, len(index)), np.float32),
            snapshots=jax.tree.map(lambda *leaves: np.stack(leaves), *pictures) if pictures else None,
            snapshot_steps=moments,
            steps_done=gathered["done"],
            status=_status(gathered, self.steps),
            manifest=_manifest(self, key, seconds),
        )


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


def _steps_per_call(left: int) -> int:
    # XLA:CPU emits naive code for what it cannot rewrite in a loop body, and a dispatch costs little beside a step.
    if jax.default_backend() == "cpu":
        return 1
    return _STEPS_PER_CALL if left >= _STEPS_PER_CALL else 1


def _chunk_size(network: Network, plan: program.Plan, lanes: int, wish: int | None) -> int:
    whole = LEAST_LANES * math.ceil(lanes / LEAST_LANES)
    if wish is not None:
        return min(LEAST_LANES * math.ceil(wish / LEAST_LANES), whole)
    targets = {layer for _, layer, _ in plan.spec}
    elements = sum(int(np.prod(shape)) for shape in jax.tree.leaves(network.input.shape, is_leaf=_is_shape))
    found: set[str] = set()
    for name, shape in taps.layers(network).items():
        elements += int(np.prod(shape))
        found.add(name)
        if targets <= found:
            break
    # Forward value, gradient and the patches of a convolution: about eight numbers for each activation.
    budget = _CHUNK_BYTES["cpu" if jax.default_backend() == "cpu" else "accelerator"]
    fitting = budget // (elements * 4 * 8)
    return min(max(fitting // LEAST_LANES, 1) * LEAST_LANES, whole)


def _is_shape(node: Any) -> bool:
    return isinstance(node, tuple)


def _flat(items: Any) -> tuple[Any, ...]:
    if items is None:
        return ()
    if isinstance(items, (list, tuple)):
        return tuple(part for item in items for part in _flat(item))
    return (items,)


def _cut(piece: dict[str, Any], count: int) -> dict[str, Any]:
    cut = {
        name: jax.tree.map(lambda leaf: leaf[:count], value)
        for name, value in piece.items()
        if name not in ("lanes", "snapshots")
    }
    kept = [
        (step, jax.tree.map(lambda leaf: leaf[:count], x), scores[:count]) for step, x, scores in piece["snapshots"]
    ]
    return {**cut, "lanes": piece["lanes"], "snapshots": kept}


def _concatenate(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *trees)


def _status(gathered: dict[str, Any], steps: int) -> tuple[str, ...]:
    found = []
    for failed, moved, done in zip(gathered["failed"], gathered["moved"], gathered["done"], strict=True):
        if failed >= 0:
            found.append(f"not finite at step {int(failed)}, kept as it was before")
        elif done < steps:
            found.append(f"interrupted at step {int(done)}")
        elif steps and not moved:
            found.append("dead: the gradient was zero at every step")
        else:
            found.append("ok")
    return tuple(found)


def _manifest(run: _Run, key: jax.Array, seconds: float) -> dict[str, Any]:
    from nd_jax.visualize.manifest import describe

    return describe(
        run.network,
        key=key,
        parameterization=run.plan.parameterization,
        transforms=run.plan.transforms,
        penalties=run.plan.penalties,
        optimizer=optimizers.name_of(run.plan.optimizer),
        steps=run.steps,
        snapshots=run.moments,
        chunk_size=run.size,
        seconds=seconds,
    )
