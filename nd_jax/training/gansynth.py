"""Training of GANSynth: a progressive GAN whose blocks come one after the other, in stages (Engel et al. 2019).

Stage 0 trains block 1; stage 1 fades block 2 in, stage 2 goes on with it, and so on. Every stage is a training of its
own on the shared loop (`gan.train`), in a folder of its own: it begins with what the last one ended with, but for the
new block and both optimizers, which begin afresh. A run that is killed goes on where it was, to the bit.

The rules are those of magenta/models/gansynth: real pictures have no more detail than generated ones; pitches are asked
for as often as they are played in the data; the discriminator learns pitches of real notes only.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from nd_jax.network import Network
from nd_jax.networks import deviation, gansynth
from nd_jax.runtime import require
from nd_jax.training import gan, hosts, metrics_files
from nd_jax.training.checkpoints import CheckpointError, Checkpoints
from nd_jax.training.gan.loop import Line, Watcher
from nd_jax.training.gan.state import State
from nd_jax.training.gan.step import LABEL

Tree = Any

SETTINGS = gan.Settings(
    batch_size=8,
    loss="wasserstein",
    penalty="gradient_penalty",
    penalty_weight=10.0,
    drift=1e-3,
    class_weight=10.0,
    class_fakes=False,
    generator_lr=8e-4,
    discriminator_lr=8e-4,
    beta1=0.0,
    beta2=0.99,
    ema=0.999,
    ema_warmup=False,
)
"""The official settings; how long and with which batches is said by `Stages`."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """One part of the training.

    Attributes:
      number: from 0; even ones train what there is, odd ones fade a block in.
      blocks: how many there are.
      batch_size: real examples a step.
      steps: how many.
      begun: real examples ("images") that all stages before have seen.
    """

    number: int
    blocks: int
    batch_size: int
    steps: int
    begun: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"stage_{self.number:05d}"


@dataclasses.dataclass(frozen=True)
class Stages:
    """How long everything takes, counted in real examples.

    Attributes:
      stable: examples of every stage with all its blocks.
      fade: and of every stage that fades a block in.
      total: of the whole training; the last stage lasts until then.
      batch_sizes: examples a step while there is 1 block, are 2 blocks ...; the last one stays.
    """

    stable: int = 800_000
    fade: int = 800_000
    total: int = 11_000_000
    batch_sizes: tuple[int, ...] = (8,)

    def __post_init__(self) -> None:
        sizes = (self.stable, self.fade, self.total, *self.batch_sizes)
        if not self.batch_sizes or not all(isinstance(size, int) and size >= 1 for size in sizes):
            raise ValueError(
                f"stages have 1 example or more and batches too, in whole numbers, not stable {self.stable}, fade "
                f"{self.fade}, total {self.total} and batch_sizes {self.batch_sizes}"
            )

    def plan(self, blocks: int) -> list[Stage]:
        """All stages of networks of so many blocks, in order.

        Raises:
          ValueError: `total` is over before the last block is there.
        """
        stages, begun = [], 0
        for number in range(2 * blocks - 1):
            present = (number + 1) // 2 + 1
            end = (number // 2 + 1) * self.stable + (number + 1) // 2 * self.fade
            if number == 2 * blocks - 2:
                if self.total <= begun:
                    raise ValueError(
                        f"the last of {blocks} blocks is there after {begun} examples, and total is {self.total}; take "
                        "more, or shorter stages"
                    )
                end = self.total
            batch_size = self.batch_sizes[min(present, len(self.batch_sizes)) - 1]
            stages.append(Stage(number, present, batch_size, max(1, -(-(end - begun) // batch_size)), begun))
            begun += stages[-1].steps * batch_size
        return stages

    def progress(self, seen: jax.Array | int, blocks: int) -> jax.Array:
        """How far networks of so many blocks have grown after so many examples, a scalar; see `networks.gansynth`."""
        return gansynth.growth(seen, blocks, self.stable, self.fade)


def tensorflow_adam(beta1: float, beta2: float, epsilon: float = 1e-8) -> optax.GradientTransformation:
    """Adam as TensorFlow has it: epsilon is added before the second moment's bias is corrected.

    Source: Kingma & Ba 2015, end of section 2.
    """

    def update(gradients: Tree, state: Any, params: Tree = None) -> tuple[Tree, Any]:
        count = state.count + 1
        first = jax.tree.map(lambda old, new: beta1 * old + (1 - beta1) * new, state.mu, gradients)
        second = jax.tree.map(lambda old, new: beta2 * old + (1 - beta2) * jnp.square(new), state.nu, gradients)
        size = jnp.sqrt(1 - beta2**count) / (1 - beta1**count)
        moves = jax.tree.map(lambda m, v: size * m / (jnp.sqrt(v) + epsilon), first, second)
        return moves, optax.ScaleByAdamState(count, first, second)

    return optax.GradientTransformation(optax.scale_by_adam(beta1, beta2, epsilon).init, update)


class Growing(gan.Gan):
    """The rules of one stage.

    Args:
      players: generator, discriminator, task, settings and optimizers, as of `Gan`.
      stages: all of them.
      stage: this one.
      counts: how often every pitch is asked for, any scale.
    """

    def __init__(self, *players: Any, stages: Stages, stage: Stage, counts: np.ndarray):
        super().__init__(*players)
        self.stages, self.stage = stages, stage
        self.laws = np.log(np.maximum(counts, 1e-30) / np.sum(counts)).astype(np.float32)

    def _progress(self, step: jax.Array | int) -> jax.Array:
        # Where a batch does not divide a stage, its last step must not begin with the next one's block.
        grown = self.stages.progress(self.stage.begun + step * self.stage.batch_size, self.generator.blocks)
        return jnp.minimum(grown, self.stage.blocks - 1.0)

    def at(self, step: jax.Array) -> Growing:
        """The rules of a step: the progress is that of its examples."""
        now = copy.copy(self)
        # A stage that fades nothing in has one progress; what is known to have no share in it is not computed.
        fades = self.stage.number % 2 == 1
        now.given = {"progress": self._progress(step) if fades else self.stage.blocks - 1.0}
        return now

    def asked(self, keys: jax.Array, label: jax.Array | None) -> jax.Array | None:
        """Pitches as often as in the data, whatever the real ones of the step are."""
        if label is None:
            return None
        return jax.vmap(lambda key: jax.random.categorical(jax.random.fold_in(key, LABEL), jnp.asarray(self.laws)))(
            keys
        )

    def real(self, x: jax.Array) -> jax.Array:
        """Real pictures without the detail that no block makes yet."""
        return gansynth.blend(x, self.given["progress"], self.stage.blocks, self.generator.blocks)

    def finished(self, step: int, networks: tuple[Network, Network]) -> tuple[Network, Network]:
        """Both with their progress; the discriminator with its deviation frozen at the mean over real batches."""
        progress = float(self._progress(step))
        maker, judge = (
            dataclasses.replace(network, module=network.module.clone(progress=progress)) for network in networks
        )
        parts = [self._blended(part, jnp.float32(progress)) for part in self.real_batches]
        # Without a progress of its own the module is one program however far it has grown.
        live = judge.module.clone(progress=None)
        module = deviation.frozen(live, judge.variables, parts, progress=jnp.float32(progress))
        return maker, dataclasses.replace(judge, module=module.clone(progress=progress))

    @functools.cached_property
    def _blended(self) -> Callable[[Any, jax.Array], jax.Array]:
        blocks = self.stage.blocks, self.generator.blocks
        return jax.jit(lambda x, progress: gansynth.blend(x, progress, *blocks))


def carried(fresh: State, before: State) -> State:
    """The state that a stage begins with.

    All parameters and averages are those of the last stage; the new block's, and both optimizers, are fresh.
    """

    def kept(new: Tree, old: Tree) -> Tree:
        if not isinstance(new, Mapping):
            return old
        return {name: kept(part, old[name]) if name in old else part for name, part in new.items()}

    state = dict(fresh)
    for player in ("generator", "discriminator"):
        state[player] = fresh[player] | {"params": kept(fresh[player]["params"], before[player]["params"])}
    state["average"] = kept(fresh["average"], before["average"])
    return state


def train(
    generator: gansynth.Generator,
    discriminator: gansynth.Discriminator,
    task: gan.GanTask,
    settings: gan.Settings,
    stages: Stages,
    *,
    counts: Any = None,
    folder: Any = None,
    recipe: Mapping[str, Any] | None = None,
    devices: Sequence[jax.Device] | None = None,
    progress: bool = True,
    watchers: Sequence[Watcher] = (),
    tensorboard: bool = False,
) -> gan.TrainedGan:
    """Trains a GANSynth through all stages; goes on where an earlier run in the same folder was interrupted.

    Args:
      generator: as it will be when it is grown.
      discriminator: likewise, with as many blocks.
      task: what is learned; `gan.GanTask(..., pairs=False)`.
      settings: how; `steps` and `batch_size` are those of `stages`, `history` counts snapshots of every stage.
      stages: how long.
      counts: (classes,) how often every pitch is asked for, any scale; by default as often as in the data.
      folder: gets stage_00000/, ..., each as of `gan.train`, and the log of all, metrics.jsonl and metrics.csv.
      recipe: as of `gan.train`, likewise all that follow.
      devices: local devices, default all.
      progress: whether bars are drawn.
      watchers: called with the number of steps over all stages.
      tensorboard: whether the log is also written for TensorBoard.

    Returns:
      The grown networks; steps, seconds and log over all stages, with "stage", "images" and "progress" in every line.

    Raises:
      ValueError: networks with different sizes, stages or counts that do not fit; otherwise as `gan.train`.
    """
    _check(generator, discriminator, settings)
    if tensorboard and hosts.leads():
        require("tensorboardX", "tensorboard")
    if counts is None:
        label = np.asarray(task.arrays["label"]) if task.conditional else np.zeros(1, np.int64)
        counts = np.bincount(label, minlength=max(len(task.labels), 1)).astype(np.float64)
    else:
        counts = _weights(counts, generator.classes)
    plan = stages.plan(generator.blocks)
    home = None if folder is None else pathlib.Path(folder).expanduser()
    deciding = {name: value for name, value in dataclasses.asdict(stages).items() if name != "total"}
    whole = _Whole(home, stages, generator.blocks, tensorboard)
    trained: gan.TrainedGan | None = None
    for stage, following in itertools.zip_longest(plan, plan[1:]):
        place = None if home is None else home / stage.name
        if home is not None and following is not None and _has_checkpoint(home / following.name):
            whole.add(stage, _log_of(home / stage.name))
            continue
        own = dataclasses.replace(
            settings, steps=stage.steps, batch_size=stage.batch_size, seed=1000 * settings.seed + stage.number
        )
        adam = tensorflow_adam(settings.beta1, settings.beta2)
        trained = gan.train(
            generator.clone(grown=stage.blocks),
            discriminator.clone(grown=stage.blocks),
            task,
            own,
            folder=place,
            recipe={**(recipe or {}), **deciding},
            devices=devices,
            progress=progress,
            watchers=[whole.counting(watcher) for watcher in watchers],
            optimizers=(adam, adam),
            rules=functools.partial(Growing, stages=stages, stage=stage, counts=counts),
            begin=None if trained is None else functools.partial(carried, before=trained.state),
        )
        whole.add(stage, trained.log, trained.seconds)
    assert trained is not None  # the last stage is never passed over
    return dataclasses.replace(trained, step=whole.steps, seconds=whole.seconds, log=whole.lines)


class _Whole:
    """The log of all stages, as if they were one training."""

    def __init__(self, home: pathlib.Path | None, stages: Stages, blocks: int, tensorboard: bool):
        self.home, self.stages, self.blocks, self.tensorboard = home, stages, blocks, tensorboard
        self.steps, self.seconds = 0, 0.0
        self.lines: list[Line] = []

    def counting(self, watcher: Watcher) -> Watcher:
        """The watcher, told the steps of all stages."""
        before = self.steps
        return lambda step, *networks: watcher(before + step, *networks)

    def add(self, stage: Stage, lines: Sequence[Line], seconds: float | None = None) -> None:
        """Takes in the log of a stage that is over, and writes that of all."""
        for line in lines:
            images = stage.begun + line["step"] * stage.batch_size
            grown = min(float(self.stages.progress(images, self.blocks)), stage.blocks - 1.0)
            self.lines.append(
                line
                | {"step": self.steps + line["step"], "seconds": round(self.seconds + line["seconds"], 3)}
                | {"stage": stage.number, "images": images, "progress": round(grown, 6)}
            )
        if seconds is None:
            seconds = lines[-1]["seconds"] if lines else 0.0
        self.steps, self.seconds = self.steps + stage.steps, self.seconds + seconds
        if self.home is not None:
            write = functools.partial(metrics_files.write, self.home, self.lines, tensorboard=self.tensorboard)
            hosts.led(write, CheckpointError)


def _has_checkpoint(place: pathlib.Path) -> bool:
    """Whether a stage has begun, so that the one before it is over."""
    if not hosts.led((place / "checkpoints").is_dir, CheckpointError):
        return False
    with Checkpoints(place / "checkpoints") as checkpoints:
        return checkpoints.latest is not None


def _log_of(place: pathlib.Path) -> list[Line]:
    """The log of a stage that is over."""

    def read() -> list[Line]:
        path = place / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []

    return hosts.led(read, CheckpointError)


def _weights(counts: Any, classes: int) -> np.ndarray:
    """Counts that were given, checked."""
    weights, wanted = np.asarray(counts, np.float64), max(classes, 1)
    if weights.shape != (wanted,) or not np.isfinite(weights).all() or weights.min() < 0 or not weights.any():
        raise ValueError(f"counts are {wanted} numbers of 0 or more, not all of them 0; got {weights.tolist()}")
    return weights


def _check(generator: Any, discriminator: Any, settings: gan.Settings) -> None:
    """Refuses what cannot grow together."""
    if not isinstance(generator, gansynth.Generator) or not isinstance(discriminator, gansynth.Discriminator):
        raise ValueError(
            "stages are for a gansynth_generator and a gansynth_discriminator, not for "
            f"{type(generator).__name__} and {type(discriminator).__name__} of {type(generator).__module__}"
        )
    for name in ("blocks", "start", "classes", "gain", "offset"):
        values = getattr(generator, name), getattr(discriminator, name)
        if values[0] != values[1]:
            raise ValueError(f"the generator has {name} {values[0]} and the discriminator {values[1]}: make them equal")
    if settings.schedule != "constant":
        raise ValueError(f"the learning rate of a GANSynth is constant in all stages, not {settings.schedule!r}")
