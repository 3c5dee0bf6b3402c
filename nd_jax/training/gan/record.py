"""What a GAN's training remembers on the host and on disk: where it is, its log, checkpoints, snapshots."""

from __future__ import annotations

import contextlib
import json
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from nd_jax.runtime import require
from nd_jax.training import hosts, metrics_files
from nd_jax.training.checkpoints import CheckpointError, Checkpoints
from nd_jax.training.run import TrainingError, same_settings

Tree = Any
Line = dict[str, Any]


class Window:
    """The metrics of the steps since the last line of the log, fetched together so that the host rarely waits.

    Args:
      start: the step after which it begins.
      columns: {name: one value a step} of steps that are done already, in a run that goes on in the middle of a line.
    """

    def __init__(self, start: int, columns: Mapping[str, Sequence[float]] | None = None):
        self.start = start
        self.columns = {name: np.asarray(values, np.float64) for name, values in (columns or {}).items()}
        self.waiting: list[Tree] = []

    def add(self, metrics: Tree) -> None:
        """Takes the metrics of one call, still on the devices: scalars, or (steps,) of several steps."""
        self.waiting.append(metrics)

    def fetch(self, kept: int | None) -> dict[str, np.ndarray]:
        """Fetches everything.

        Args:
          kept: the step of the last checkpoint, for the message.

        Returns:
          {name: one value a step}.

        Raises:
          TrainingError: a value is not finite, or replicas differ; names the first such step.
        """
        for metrics in jax.device_get(self.waiting):
            for name, values in metrics.items():
                before = self.columns.get(name, np.zeros(0))
                self.columns[name] = np.concatenate([before, np.ravel(values).astype(np.float64)])
        self.waiting = []
        spread = self.columns.get("spread", np.zeros(1))
        if np.any(spread):
            raise TrainingError(f"the devices hold different parameters after step {self._first(spread != 0)}")
        bad = {
            name: self._first(~np.isfinite(values))
            for name, values in self.columns.items()
            if not np.all(np.isfinite(values))
        }
        if bad:
            step = min(bad.values())
            names = " and ".join(name.replace("_", " ") for name in sorted(bad) if bad[name] == step)
            last = "there is no checkpoint yet" if kept is None else f"the checkpoint of step {kept} is kept"
            raise TrainingError(
                f"{names} became NaN or infinite at step {step}; {last}: go on from it with a lower learning rate or a "
                "gradient penalty, or look at the data of that step"
            )
        return self.columns

    def means(self, kept: int | None) -> dict[str, float]:
        """{name: mean over the steps}; otherwise as `fetch`."""
        return {name: float(np.mean(values)) for name, values in self.fetch(kept).items() if name != "spread"}

    def _first(self, wrong: np.ndarray) -> int:
        return self.start + 1 + int(np.argmax(wrong))


class Record:
    """A run in memory and in its folder; use it as a context.

    Args:
      folder: where; None keeps nothing on disk.
      settings: what must be the same for a run to go on, plain values by name.
      shapes: of a fresh state, as `jax.eval_shape` gives them.
      tensorboard: whether the log is also written for TensorBoard.

    Raises:
      ValueError: the folder holds a run with other settings.
      CheckpointError: the folder cannot be written, or its checkpoint is of another network or damaged.
      MissingExtraError: `tensorboard` without tensorboardX.
    """

    def __init__(self, folder: Any, settings: Mapping[str, Any], shapes: Tree, tensorboard: bool = False):
        self.settings = json.loads(json.dumps(settings, default=str))  # as they come back from a checkpoint
        self.state: Tree | None = None
        self.done = 0
        self.seconds = 0.0
        self.lines: list[Line] = []
        self.window = Window(0)
        self.tensorboard = tensorboard
        self.clock = time.perf_counter()
        self.folder = None if folder is None else pathlib.Path(folder).expanduser()
        if tensorboard and hosts.leads():
            require("tensorboardX", "tensorboard")
        self.checkpoints = None if self.folder is None else Checkpoints(self.folder / "checkpoints")
        if self.checkpoints is None:
            return
        found = self.checkpoints.restore(shapes)
        if found is not None:
            same_settings(self.folder, found.notes["settings"], self.settings)
            self.state, self.done, begun = found.arrays, found.step, found.notes.get("window", {})
            self.seconds, self.lines = found.notes["seconds"], found.notes["log"]
            self.window = Window(self.done - len(next(iter(begun.values()), [])), begun)
            # A run may have ended between a checkpoint and its log. Where nothing can be written the next save says so.
            with contextlib.suppress(CheckpointError):
                self._write()

    def __enter__(self) -> Record:
        return self

    def __exit__(self, *_: object) -> None:
        if self.checkpoints is not None:
            self.checkpoints.close()

    @property
    def saved(self) -> int | None:
        """The step of the last checkpoint on disk, or None."""
        return None if self.checkpoints is None else self.checkpoints.latest

    def add(self, step: int, figures: Mapping[str, float], examples: int) -> Line:
        """Takes in one line of the log.

        Args:
          step: of its end.
          figures: by name.
          examples: real examples seen since the line before.
        """
        passed = self._tick()
        speed = examples / max(passed, 1e-9)
        line: Line = {"step": step, "seconds": round(self.seconds, 3), "examples_per_second": round(speed, 3)}
        self.lines.append(line | dict(figures))
        self.window = Window(step)
        return self.lines[-1]

    def save(self, step: int, state: Tree) -> None:
        """Writes checkpoint and log, when there is a folder; also in the middle of a line.

        Raises:
          TrainingError: what is in the window is not finite, so the state is not worth keeping.
        """
        self.done = step
        if self.checkpoints is None:
            return
        begun = {name: values.tolist() for name, values in self.window.fetch(self.saved).items()}
        self._tick()
        notes = {"settings": self.settings, "seconds": self.seconds, "log": self.lines, "window": begun}
        self.checkpoints.save(step, state, notes)
        self._write()

    def _tick(self) -> float:
        """Seconds since the last time that this was asked."""
        now = time.perf_counter()
        passed, self.clock = now - self.clock, now
        self.seconds += passed
        return passed

    def _write(self) -> None:
        """Writes the log."""
        hosts.led(lambda: metrics_files.write(self.folder, self.lines, tensorboard=self.tensorboard), CheckpointError)
