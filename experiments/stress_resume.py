"""Kills a training again and again and compares what comes out, bit by bit, with a training that nothing disturbed.

    python experiments/stress_resume.py

Twenty SIGKILLs at random moments (while it starts, between steps, while a checkpoint is written), then one run to the
end. Compared are parameters, optimizer, moving average and batch statistics of the last checkpoint, the snapshots of
history/, and the log without its times. Prints a table; the exit status is 1 when anything differs. Takes about five
minutes on two CPU cores, nearly all of it for starting Python twenty times.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

import nd_jax as nd
from nd_jax.domain import Units
from nd_jax.runtime import command_line, enable_compilation_cache
from nd_jax.training import gan
from nd_jax.training.checkpoints import Checkpoints
from nd_jax.training.gan.state import initial_state

MOMENTS = ("starting", "training", "training", "writing")


@dataclasses.dataclass(frozen=True)
class Stress:
    """How often and when.

    Attributes:
      kills: number of SIGKILLs.
      seed: of the moments.
      steps: of the training.
      child: used by the script itself: trains in this folder and ends.
    """

    kills: int = 20
    seed: int = 0
    steps: int = 1500
    child: pathlib.Path | None = None


class Maker(nn.Module):
    """A latent to a point of the plane, through batch statistics."""

    @nn.compact
    def __call__(self, z: jax.Array, train: bool = False) -> jax.Array:
        x = nn.Dense(32, use_bias=False, name="hidden")(z)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x))
        return nn.Dense(2, name="point")(x)


class Judge(nn.Module):
    """A point to a score, through dropout."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = nn.leaky_relu(nn.Dense(32, name="hidden")(x), 0.2)
        x = nn.Dropout(0.2, deterministic=not train, name="dropout")(x)
        return nn.Dense(1, name="score")(x)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    stress = command_line(Stress, arguments, __doc__)
    enable_compilation_cache()
    if stress.child is not None:
        train(stress, stress.child)
        return 0
    with tempfile.TemporaryDirectory(prefix="nd_jax-stress-") as scratch:
        calm, killed = pathlib.Path(scratch) / "calm", pathlib.Path(scratch) / "killed"
        train(stress, calm)
        print(f"{'kill':>4} | {'moment':8} | {'after':>7} | {'checkpoint':>10} | half-written | log lines")
        for count in range(stress.kills):
            print(_kill(stress, killed, count), flush=True)
        train(stress, killed)
        wrong = differences(stress, calm, killed)
    print("\n".join(wrong) or f"after {stress.kills} kills all of it is bit-identical to the undisturbed training")
    return 1 if wrong else 0


def train(stress: Stress, folder: pathlib.Path) -> None:
    """A GAN that learns points of the unit circle; goes on where it was."""
    gan.train(Maker(), Judge(), _task(), _settings(stress), folder=folder, progress=False)


def differences(stress: Stress, one: pathlib.Path, other: pathlib.Path) -> list[str]:
    """What is not the same in two folders, one line each."""
    wrong = []
    states = [_state(stress, folder) for folder in (one, other)]
    leaves = [jax.tree_util.tree_leaves_with_path(state) for state in states]
    for (path, value), (_, also) in zip(*leaves, strict=True):
        if value.dtype != also.dtype or value.tobytes() != also.tobytes():
            wrong.append(f"differs: state{jax.tree_util.keystr(path)}")
    logs = [_log(folder / "metrics.jsonl") for folder in (one, other)]
    wrong += [
        f"differs: the log at line {at}" for at, pair in enumerate(zip(*logs, strict=False)) if pair[0] != pair[1]
    ]
    if len(logs[0]) != len(logs[1]):
        wrong.append(f"differs: the log has {len(logs[0])} and {len(logs[1])} lines")
    kept = [sorted(path.relative_to(folder) for path in folder.glob("history/*/*")) for folder in (one, other)]
    if kept[0] != kept[1]:
        wrong.append(f"differs: history holds {kept[0]} and {kept[1]}")
    for path in set(kept[0]) & set(kept[1]):
        module = Maker() if path.name == "generator" else Judge()
        pair = [jax.tree.leaves(nd.load(folder / path, module=module).variables) for folder in (one, other)]
        if any(np.asarray(value).tobytes() != np.asarray(also).tobytes() for value, also in zip(*pair, strict=True)):
            wrong.append(f"differs: {path}")
    return wrong


def _kill(stress: Stress, folder: pathlib.Path, count: int) -> str:
    """Starts a training, kills it at a random moment, and says in one row where that was."""
    rng = random.Random(f"{stress.seed} {count}")
    moment = rng.choice(MOMENTS)
    before = _newest(folder)
    start = time.perf_counter()
    command = [sys.executable, __file__, "--child", str(folder), "--steps", str(stress.steps)]
    with subprocess.Popen(command) as running:
        if moment == "starting":
            time.sleep(rng.uniform(0.5, 8.0))
        else:
            while running.poll() is None and _newest(folder) == before:
                time.sleep(0.002)
            time.sleep(rng.uniform(0.0, 1.0))
            while moment == "writing" and running.poll() is None and not _half_written(folder):
                pass
        running.kill()
    after, half = time.perf_counter() - start, _half_written(folder)
    lines = len(_log(folder / "metrics.jsonl"))
    return f"{count + 1:4} | {moment:8} | {after:5.1f} s | {_newest(folder):10} | {'yes' if half else '':12} | {lines}"


def _half_written(folder: pathlib.Path) -> bool:
    return any("tmp" in path.name for path in (folder / "checkpoints").glob("*"))


def _newest(folder: pathlib.Path) -> int:
    return max((int(path.name) for path in (folder / "checkpoints").glob("*") if path.name.isdigit()), default=0)


def _state(stress: Stress, folder: pathlib.Path) -> Any:
    settings = _settings(stress)
    with Checkpoints(folder / "checkpoints") as checkpoints:
        found = checkpoints.restore(initial_state(Maker(), Judge(), _task(), settings))
    if found is None or found.step != settings.steps:
        raise SystemExit(f"error: {folder} has no checkpoint of step {settings.steps}")
    return found.arrays


def _log(path: pathlib.Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: line[name] for name in line if name not in ("seconds", "examples_per_second")} for line in lines]


def _task() -> gan.GanTask:
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 200)
    points = np.stack([np.cos(angle), np.sin(angle)], axis=-1).astype(np.float32)

    def prepare(key: jax.Array, example: Any) -> jax.Array:
        return example["point"] + 0.02 * jax.random.normal(key, example["point"].shape)

    return gan.GanTask({"point": points}, prepare, Units(2), 4)


def _settings(stress: Stress) -> gan.Settings:
    return gan.Settings(
        steps=stress.steps,
        batch_size=16,
        loss="wasserstein",
        penalty="gradient_penalty",
        critic_steps=2,
        schedule="cosine",
        ema=0.99,
        log_every=5,
        save_every=10,
        history=12,
    )


if __name__ == "__main__":
    sys.exit(main())
