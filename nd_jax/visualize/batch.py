"""The one optimizer: every unit of a layer at once, one unit a `vmap` lane, one compiled program a layer.

How it runs. `visualize_batch` binds the objective to the network (names are checked before anything compiles), cuts the
lanes into chunks of equal size (short ones padded with dummies, so that nothing recompiles and no lane ever runs in
fewer than eight: a matrix product of one row takes another path and drifts), and moves each chunk through jitted steps.
The host (`run`) only counts steps, reports progress and takes snapshots; lanes that did not answer go to `rescue`.

What a lane is. A lane is a batch of one (or of `inputs_per_lane`), with its own parameters, optimizer state and key.
The key is folded from the caller's key, the lane's label and its replicate, never from its position: alone, in 8, in
512 or in another order, a unit comes out the same. The optimizer's init and update are vmapped, so a global-norm clip
stays inside its lane. A lane whose numbers stop being finite is frozen at its last finite state and reported; the
others never notice.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from nd_jax.runtime import progress_bar
from nd_jax.visualize import checks, leaving, manifest, objectives, optimizers, parameterizations, program
from nd_jax.visualize import rescue as rescuing
from nd_jax.visualize.result import Visualization
from nd_jax.visualize.run import Piece, Run
from nd_jax.visualize.transforms import default as transforms_for

if TYPE_CHECKING:
    from nd_jax.network import Network


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
    stop_when: leaving.Converged | None = None,
    polish: float = 0.5,
    snapshots: int | Sequence[int] = 8,
    replicates: int | Sequence[int] = 1,
    inputs_per_lane: int = 1,
    scale: Any = None,
    strengths: Any = None,
    chunk_size: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    start: Any = None,
    probes: Any = None,
    restarts: int = rescuing.STARTS,
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
      steps: updates per lane, the most with `stop_when`.
      stop_when: None for lanes that all run so many steps; or `nd_jax.visualize.converged(...)`: lanes leave when they
        have converged, or their unit does not answer, and others take their places. Each lane decides for itself, so
        that same key, same result still holds. Snapshots of a lane that has left are as it was then.
      polish: the last share of the steps, 0 to 1, is without transforms: they find a robust optimum, and blur it.
      snapshots: how many inputs to keep on the way (first and last included, denser early), or the steps themselves.
      replicates: how often each objective is run, from different starts; or the number of the start for each lane.
      inputs_per_lane: inputs that one lane optimises together, k: the network sees them as one batch, and penalties
        with `couples = True` and objectives such as `diversity` take all k at once. Without these they come out as k
        replicates would.
      scale: factor on the penalties, one number a lane or one for all, such as the spread of each unit's activation on
        natural inputs: a penalty's weight then means the same for every unit.
      strengths: a factor for each of the penalties, then for each of the transforms how often it is applied, 0 to 1;
        one row for all lanes or one a lane. They are arguments of the compiled program, so that lanes with other
        strengths run side by side. None for all of them in full.
      chunk_size: lanes per compiled program on each device, rounded up to a multiple of 8; None picks from the memory
        that the compiled program needs.
      devices: where to run, the lanes spread over them; None for all local accelerators, or the (first) CPU device.
      start: parameters to start from instead of the parameterization's own, with or without a leading axis of lanes.
      probes: natural inputs, (m, *network.input.shape); units that do not answer from their own start are restarted
        from those that excite them most.
      restarts: other starts on which such units are tried, 0 to leave them as they are.
      progress: True for a bar with the time left, False for silence, or a function of (lane-steps done, in total).

    Returns:
      A `Visualization`. After Ctrl-C it holds what was there: the lanes that had begun, at the step they had reached.

    Raises:
      LayerError, ValueError: unknown layers, units or settings, or a chunk that does not fit into memory (with the size
        that does), in one sentence, before anything runs.
    """
    checks.check_settings(key, steps=steps, chunk_size=chunk_size, inputs_per_lane=inputs_per_lane, restarts=restarts)
    checks.check_polish(polish)
    checks.check_stop(stop_when)
    checks.check_kinds(objective, optimizer)
    bound = objective.bind(network)
    bound.check_inputs(inputs_per_lane)
    checks.check_replicates(replicates, len(bound))
    domain = network.input
    if probes is not None:
        checks.check_probes(probes, domain)
    plan = program.Plan(
        bound.spec,
        parameterization if parameterization is not None else parameterizations.default(domain),
        _flat(transforms_for(domain) if transforms is None else transforms),
        _flat(penalties),
        optimizer if optimizer is not None else optimizers.adam(),
        inputs_per_lane,
    )
    checks.check_parts(plan, domain)
    if isinstance(replicates, (int, np.integer)):
        lanes = bound.select(np.repeat(np.arange(len(bound)), replicates))
        copies = np.tile(np.arange(replicates), len(bound))
    else:
        lanes, copies = bound, np.asarray(replicates, int)
    moments = snapshot_steps(steps, snapshots)
    scales = checks.spread_scale(scale, len(lanes))
    factors = checks.spread_strengths(strengths, len(lanes), plan)
    given = None if start is None else checks.spread_start(start, len(lanes), plan, network)
    began = time.perf_counter()
    run = Run(
        network,
        plan,
        lanes,
        _input_keys(key, lanes.labels, copies, inputs_per_lane),
        steps=steps,
        moments=moments,
        polish=polish,
        scale=scales,
        strengths=factors,
        wish=chunk_size,
        devices=devices_of(devices),
        stop_when=stop_when,
    )
    with progress_bar(len(lanes) * steps, "unit-step", progress) as tick:
        found = _Found(run, list(run.pieces(np.arange(len(lanes)), tick, start=given)))
    if restarts:
        found.rescue(probes, restarts, given, progress is True)
    described = manifest.describe(
        network,
        key=key,
        plan=plan,
        steps=steps,
        polish=polish,
        snapshots=moments,
        restarts=restarts,
        run=run,
        ended=found.ended(),
        seconds=time.perf_counter() - began,
    )
    return found.visualization(
        copies, scales, factors, described, manifest.carried((plan.parameterization, plan.penalties))
    )


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


def _input_keys(key: jax.Array, labels: Sequence[str], copies: np.ndarray, inputs: int) -> jax.Array:
    """Keys (lanes,), or (lanes, inputs): input j of replicate r is replicate r * inputs + j of the objective."""
    if inputs == 1:
        return lane_keys(key, labels, copies)
    numbers = (copies[:, None] * inputs + np.arange(inputs)).reshape(-1)
    return lane_keys(key, [label for label in labels for _ in range(inputs)], numbers).reshape(len(labels), inputs)


def devices_of(wish: Sequence[jax.Device] | None) -> tuple[jax.Device, ...]:
    """Where a run with `devices=wish` runs."""
    if wish is not None:
        if not wish or not all(isinstance(device, jax.Device) for device in wish):
            raise ValueError(f"devices must be JAX devices, for example jax.devices(), got {wish!r}")
        return tuple(wish)
    local = jax.local_devices()
    # Several CPU devices are one machine seen twice.
    return tuple(local) if jax.default_backend() != "cpu" else (local[0],)


def _flat(items: Any) -> tuple[Any, ...]:
    if items is None:
        return ()
    if isinstance(items, (list, tuple)):
        return tuple(part for item in items for part in _flat(item))
    return (items,)


class _Found:
    """What came of the lanes of a run, gathered from its pieces."""

    def __init__(self, run: Run, pieces: Sequence[Piece]):
        self.run = run
        taken = [{item[0] for item in piece.kept} for piece in pieces]
        self.moments = tuple(step for step in run.moments if all(step in steps for steps in taken))
        self.dead = np.concatenate([rescuing.find_dead(run, piece) for piece in pieces])
        self.all = _joined([self._common(piece) for piece in pieces])
        self.starts = [rescuing.OWN] * len(self.all.lanes)
        self.tried = ""

    def _common(self, piece: Piece) -> Piece:
        return piece._replace(kept=tuple(item for item in piece.kept if item[0] in self.moments))

    def rescue(self, probes: Any, starts: int, given: Any, progress: bool) -> None:
        """Gives the lanes that did not answer another chance; those that live then take the place of the dead ones."""
        places = np.flatnonzero(self.dead)
        if not len(places) or self.run.interrupted:
            return
        own = None if given is None else jax.tree.map(lambda leaf: leaf[places], given)
        with progress_bar(len(places) * self.run.steps, "unit-step of units that did not answer", progress) as tick:
            found, self.tried = rescuing.rescue(self.run, places, probes, starts, tick, own)
        for piece, names in found:
            for row, (lane, name) in enumerate(zip(piece.lanes, names, strict=True)):
                self.dead[lane], self.starts[lane] = False, name
                _put(self.all, int(lane), self._common(piece), row)

    def visualization(
        self,
        copies: np.ndarray,
        scales: np.ndarray,
        strengths: np.ndarray | None,
        described: dict[str, Any],
        carried: dict[str, Any],
    ) -> Visualization:
        """The result for the caller."""
        run, found = self.run, self.all
        lanes = run.lanes.select(found.lanes)
        history = [scores for _, _, scores, _ in found.kept]
        pictures = [inputs for _, inputs, _, _ in found.kept]
        ways = [free for _, _, _, free in found.kept]
        none = np.zeros((0, *found.scores.shape), np.float32)
        return Visualization(
            network=run.network,
            domain=run.network.input,
            labels=lanes.labels,
            layers=lanes.layers,
            units=lanes.units,
            objective=lanes,
            replicates=copies[found.lanes],
            scale=scales[found.lanes],
            strengths=None if strengths is None else strengths[found.lanes],
            inputs=found.inputs,
            parameters=found.parameters,
            scores=found.scores,
            history=np.stack(history) if history else none,
            snapshots=jax.tree.map(lambda *leaves: np.stack(leaves), *pictures) if pictures else None,
            way=jax.tree.map(lambda *leaves: np.stack(leaves), *ways) if ways else None,
            snapshot_steps=self.moments,
            steps_done=found.done,
            status=self._status(),
            stopped=self._stopped(),
            starts=tuple(self.starts),
            manifest=described,
            carried=carried,
        )

    def ended(self) -> dict[str, int]:
        """How many lanes stopped for which reason, and how many steps they took together."""
        words = self._stopped()
        return {word: words.count(word) for word in sorted(set(words))} | {"steps_done": int(self.all.done.sum())}

    def _stopped(self) -> tuple[str, ...]:
        # Where the top is flat there is no gradient either.
        return tuple(
            leaving.WORDS[leaving.CONVERGED if reason == leaving.SILENT and not dead else int(reason)]
            for reason, dead in zip(self.all.reason, self.dead, strict=True)
        )

    def _status(self) -> tuple[str, ...]:
        words = []
        for failed, dead, done, why in zip(self.all.failed, self.dead, self.all.done, self.all.reason, strict=True):
            if failed >= 0:
                words.append(f"not finite at step {int(failed)}, kept as it was before")
            elif why == leaving.INTERRUPTED:
                words.append(f"interrupted at step {int(done)}")
            elif dead:
                words.append(f"dead: no response from {self.tried or 'its own start'}")
            else:
                words.append("ok")
        return tuple(words)


def _joined(pieces: Sequence[Piece]) -> Piece:
    return jax.tree.map(lambda *leaves: leaves[0] if np.ndim(leaves[0]) == 0 else np.concatenate(leaves), *pieces)


def _put(into: Piece, lane: int, piece: Piece, row: int) -> None:
    def copy(target: Any, source: Any) -> None:
        if np.ndim(target):
            target[lane] = source[row]

    jax.tree.map(copy, into, piece)
