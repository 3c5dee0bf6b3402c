"""Training of a GAN, from top to bottom: data, networks, step, checkpoint, loop, watchers.

Any generator, any discriminator, any loss by name. A run that is killed at any moment goes on from its last checkpoint
and ends bit-identical; SIGTERM and Ctrl-C end it after the step, with a checkpoint. On several hosts (`hosts`) the same
call runs in every process, and process 0 writes.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax

from nd_jax import data
from nd_jax.network import Network
from nd_jax.training import hosts, parallel
from nd_jax.training.gan.record import Line, Record
from nd_jax.training.gan.settings import Settings
from nd_jax.training.gan.state import State, initial_state
from nd_jax.training.gan.step import Gan, make_step
from nd_jax.training.gan.task import GanTask, check
from nd_jax.training.moments import snapshot_steps

Tree = Any
Watcher = Callable[[int, Network, Network], Mapping[str, float] | None]


@dataclasses.dataclass(frozen=True)
class TrainedGan:
    """What `train` gives back.

    Attributes:
      generator: its moving average when there is one.
      discriminator: of the last step.
      step: where training ended.
      seconds: time it took, over all interruptions.
      log: one dict per `log_every` steps.
      state: everything that training goes on from, see `initial_state`.
    """

    generator: Network
    discriminator: Network
    step: int
    seconds: float
    log: list[Line]
    state: Tree = dataclasses.field(repr=False, default=None)


def train(
    generator: nn.Module,
    discriminator: nn.Module,
    task: GanTask,
    settings: Settings,
    *,
    folder: Any = None,
    recipe: Mapping[str, Any] | None = None,
    devices: Sequence[jax.Device] | None = None,
    progress: bool = True,
    watchers: Sequence[Watcher] = (),
    tensorboard: bool = False,
    optimizers: tuple[optax.GradientTransformation, optax.GradientTransformation] | None = None,
    rules: Callable[..., Gan] = Gan,
    begin: Callable[[State], State] | None = None,
) -> TrainedGan:
    """Trains a GAN; goes on where an earlier run in the same folder was interrupted.

    Args:
      generator: Flax module, `module(z, train=...)` -> (batch, *domain.shape); of a conditional GAN
        `module({"z": z, "label": y}, train=...)`.
      discriminator: Flax module, `module(x, train=...)` -> scores (batch,) or (batch, 1), logits or a critic's; of a
        conditional GAN `module({"x": x, "label": y}, train=...)`, or, when `task.pairs` is False,
        `module(x, train=...)` -> {"score": scores, "label": (batch, classes)}.
      task: what is learned.
      settings: how.
      folder: gets checkpoints/, metrics.jsonl, metrics.csv and, when asked for, history/STEP/{generator,discriminator}
        and tensorboard/; None keeps nothing on disk.
      recipe: what else must be the same for a run to go on, beside the settings; plain values by name.
      devices: local devices to use, default all; on several hosts the same places on each.
      progress: whether a bar with the remaining time is drawn on stderr.
      watchers: called every `watch_every` steps and at the end with (step, generator, discriminator); figures that
        they return join that line of the log.
      tensorboard: whether the log is also written for TensorBoard (extra `tensorboard`).
      optimizers: (generator's, discriminator's) optax transformations whose updates are multiplied by minus the
        learning rate; default Adam with the settings' betas.
      rules: `Gan` or a subclass of it, called with (generator, discriminator, task, settings, optimizers).
      begin: from the fresh state to the one to begin with, of the same shapes; it is not called when a run goes on.

    Raises:
      TrainingError: a loss, score or gradient is not finite (names the step), or replicas differ.
      CheckpointError: a checkpoint cannot be written, or the one found does not fit.
      Stopped: SIGTERM or SIGINT came (`hosts.stop_on_signals`), and all is saved; only with a folder.
      ValueError: something does not fit together, or the folder holds a run with other settings or more steps.
    """
    # --- data ---------------------------------------------------------------------------------------------------------
    devices = list(devices or jax.local_devices())
    updates = 1 if settings.same_batch else settings.critic_steps
    order = parallel.batches(task.arrays, devices, batch_size=settings.batch_size, seed=settings.seed)
    order()  # refuses arrays and batch sizes that do not fit before anything compiles
    check(task, generator, discriminator)

    # --- networks -----------------------------------------------------------------------------------------------------
    gan = rules(generator, discriminator, task, settings, optimizers)

    def networks(state: Tree, step: int) -> tuple[Network, Network]:
        return gan.finished(step, as_networks(generator, discriminator, task, state))

    # --- step ---------------------------------------------------------------------------------------------------------
    step = make_step(gan)
    one = parallel.data_parallel(step, devices)
    several = parallel.data_parallel(parallel.several(step), devices)
    per_call = settings.steps_per_call or (1 if devices[0].platform == "cpu" else _divisor(settings.log_every))

    # --- checkpoint ---------------------------------------------------------------------------------------------------
    fresh = functools.partial(initial_state, generator, discriminator, task, settings, gan.optimizers)
    # Shapes tell whether a checkpoint fits, before anything compiles.
    record = Record(folder, {**(recipe or {}), **_deciding(settings)}, jax.eval_shape(fresh), tensorboard)
    if record.done > settings.steps:
        raise ValueError(
            f"the run in {folder} has done {record.done} steps, more than the {settings.steps} that are asked for; ask "
            f"for {record.done} or more, or take another folder"
        )
    state = record.state
    if state is None:
        state = fresh() if begin is None else begin(fresh())
    state = parallel.replicate(state, devices)
    snapshots = snapshot_steps(settings.steps, settings.history, settings.log_every)

    # --- loop ---------------------------------------------------------------------------------------------------------
    stream = _placed(order(position=record.done * updates), updates, devices)
    bar = hosts.bar(settings.steps, record.done, progress and hosts.leads())
    stop_on_signals = hosts.stop_on_signals(record.folder is not None)
    with record, bar, data.prefetch(stream) as ready, stop_on_signals as stop_asked:
        at, stop = record.done, False
        if at == 0 and at in snapshots:
            _keep(record, at, networks(state, at))
        while at < settings.steps and not stop:
            start, end = at, min(at - at % settings.log_every + settings.log_every, settings.steps)
            while at < end and not stop:
                size = min(per_call, end - at)
                batches = list(itertools.islice(ready, size))
                if size == 1:
                    state, metrics = one(state, batches[0])
                else:
                    state, metrics = several(state, jax.tree.map(_stack, *batches))
                record.window.add(metrics)
                at += size
                stop = stop_asked()
            if at == end:
                figures = record.window.means(record.saved) | {
                    "generator_lr": float(settings.learning_rate(settings.generator_lr)(at - 1)),
                    "discriminator_lr": float(settings.learning_rate(settings.discriminator_lr)(at - 1)),
                }
                if at in snapshots:
                    _keep(record, at, networks(state, at))
                if watchers and (at == settings.steps or (settings.watch_every and at % settings.watch_every == 0)):
                    figures |= hosts.led(functools.partial(_watched, watchers, at, networks(state, at)))
                line = record.add(at, figures, (at - start) * settings.batch_size)
                bar.set_postfix_str(_said(line), refresh=False)
            bar.update(at - start)
            if stop or at % settings.save_every == 0 or at == settings.steps:
                record.save(at, state)
    if stop:
        raise hosts.Stopped(f"stopped by a signal after step {at}, saved in {folder}: the same command goes on from it")
    made, judge = networks(state, record.done)
    return TrainedGan(made, judge, record.done, record.seconds, record.lines, jax.device_get(state))


def _divisor(count: int, most: int = 10) -> int:
    """The largest divisor of a number of steps up to `most`: calls of one size, so one program."""
    return next(size for size in range(min(count, most), 0, -1) if count % size == 0)


def as_networks(generator: nn.Module, discriminator: nn.Module, task: GanTask, state: Tree) -> tuple[Network, Network]:
    """Generator (its moving average when there is one) and discriminator of a state, on the host."""
    averaged = state["average"] or {name: state["generator"][name] for name in ("params", "collections")}

    def variables(player: Tree) -> Tree:
        return jax.device_get({"params": player["params"], **player["collections"]})

    eval_mode = {"train": False}
    names = {"label": task.labels} if task.conditional and not task.pairs else ()
    given, judged = task.discriminator_input, variables(state["discriminator"])
    return (
        Network(generator, variables(averaged), task.generator_input, task.domain, apply_kwargs=eval_mode),
        Network(discriminator, judged, given, labels=names, apply_kwargs=eval_mode),
    )


def _deciding(settings: Settings) -> dict[str, Any]:
    """The settings on which the result depends; the others may change from one part of a run to the next."""
    free = ["steps_per_call", "log_every", "save_every", "watch_every", "history", "check_replicas"]
    if settings.schedule in ("constant", "exponential"):
        free.append("steps")  # so that a run can be made longer
    return {name: value for name, value in dataclasses.asdict(settings).items() if name not in free}


def _placed(stream: Iterator[Tree], updates: int, devices: Sequence[jax.Device]) -> Iterator[Tree]:
    """Stacks the batches of one step, (devices, updates, batch, ...), and puts them on the devices ahead of use."""
    while True:
        parts = list(itertools.islice(stream, updates))
        yield parallel.place(jax.tree.map(_stack, *parts), devices)


def _stack(*leaves: Any) -> Any:
    if isinstance(leaves[0], jax.Array):
        return jax.numpy.stack(leaves, axis=1)
    return np.stack(leaves, axis=1)


def _watched(watchers: Sequence[Watcher], step: int, networks: tuple[Network, Network]) -> dict[str, Any]:
    """The figures of all watchers."""
    figures: dict[str, Any] = {}
    for watcher in watchers:
        found = watcher(step, *networks) or {}
        figures |= {name: np.asarray(value).tolist() for name, value in found.items()}
    return figures


def _keep(record: Record, step: int, networks: tuple[Network, Network]) -> None:
    """Writes both networks of a step into history/, in place of what a killed run left there."""
    if record.folder is None:
        return
    place = record.folder / "history" / f"{step:08d}"

    def write() -> None:
        shutil.rmtree(place, ignore_errors=True)
        for name, network in zip(("generator", "discriminator"), networks, strict=True):
            network.save(place / name, overwrite=True)

    hosts.led(write)


def _said(line: Line) -> str:
    """The numbers beside the bar."""
    return (
        f"D {line['discriminator_loss']:.3f}, G {line['generator_loss']:.3f}, D(x) {line['real_score']:.2f}, "
        f"D(G(z)) {line['fake_score']:.2f}, {line['examples_per_second']:.0f} examples/s"
    )
