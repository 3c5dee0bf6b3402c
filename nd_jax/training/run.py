"""What a training remembers on the host: metrics on their way from the devices, the best so far, its folder."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from nd_jax.training.checkpoints import CheckpointError, Checkpoints

Tree = Any


class TrainingError(RuntimeError):
    """A training cannot go on: the loss is not finite, or the replicas differ; the message names the step."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """What `train` gives back.

    Attributes:
      variables: of the best evaluation, or of the last step when there was nothing to evaluate on (numpy), as
        `module.apply` takes them.
      score: their validation score, 0 ... 1, or None.
      step: the step after which they were reached.
      steps_done: where training ended; fewer than `Settings.steps` after an early stop.
      seconds: time it took, over all interruptions.
      log: one dict per evaluation.
    """

    variables: Tree
    score: float | None
    step: int
    steps_done: int
    seconds: float
    log: list[dict[str, Any]]


def same_settings(folder: Any, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuses to go on with a run under other settings than those it was started with.

    Raises:
      ValueError: names the first that differs.
    """
    for name, value in now.items():
        if before.get(name) != value:
            raise ValueError(
                f"{folder} holds a run with {name} = {before.get(name)}, and {name} is {value} now; "
                "use the same settings to go on, or another folder"
            )


class Window:
    """The metrics between two evaluations, fetched late so that the host does not wait at every step."""

    def __init__(self, start: int):
        self.start = self.end = start
        self.waiting: list[Tree] = []
        self.fetched: list[Tree] = []

    def add(self, metrics: Tree, steps: int) -> None:
        """Takes the metrics of one call, still on the devices."""
        self.waiting.append(metrics)
        self.end += steps

    def check(self) -> dict[str, str]:
        """Fetches what waits, stops on what is not finite, and returns the latest loss for the bar."""
        first = self.start + len(self.fetched)
        for metrics in jax.device_get(self.waiting):
            columns, structure = jax.tree.flatten(jax.tree.map(np.ravel, metrics))
            self.fetched += [jax.tree.unflatten(structure, row) for row in zip(*columns, strict=True)]
        self.waiting = []
        for step, metrics in enumerate(self.fetched[first - self.start :], start=first + 1):
            for name in ("loss", "gradient_norm"):
                if not math.isfinite(metrics[name]):
                    raise TrainingError(
                        f"{name.replace('_', ' ')} is {metrics[name]} at step {step}; the last checkpoint is from "
                        "before it: try a lower learning rate, or look at the data of that step"
                    )
            if metrics.get("spread", 0):
                raise TrainingError(f"the devices hold different parameters after step {step}")
        return {"loss": f"{self.fetched[-1]['loss']:.3f}"}

    def means(self) -> dict[str, Any]:
        """The mean loss and accuracies of the window."""
        loss = float(np.mean([metrics["loss"] for metrics in self.fetched]))
        heads = self.fetched[0]["accuracy"]
        return {
            "loss": loss,
            "train": {head: float(np.mean([metrics["accuracy"][head] for metrics in self.fetched])) for head in heads},
        }


class Run:
    """What a run remembers between evaluations, in memory and in its folder."""

    def __init__(self, folder: Any, settings: Mapping[str, Any], patience: int, state: Tree):
        self.settings = json.loads(json.dumps(settings, default=str))  # as they come back from a checkpoint
        self.patience = patience
        self.state = state
        self.best = jax.device_get({"params": state["params"], **state["collections"]})
        self.notes: dict[str, Any] = {"done": 0, "score": -1.0, "step": 0, "waited": 0, "seconds": 0.0, "log": []}
        self.clock = time.perf_counter()
        self.folder = None if folder is None else pathlib.Path(folder).expanduser()
        self.checkpoints = None if self.folder is None else Checkpoints(self.folder / "checkpoints")
        if self.checkpoints is not None:
            self._restore()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        if self.checkpoints is not None:
            self.checkpoints.close()

    @property
    def done(self) -> int:
        """Steps done up to the last evaluation."""
        return int(self.notes["done"])

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return bool(self.patience) and self.notes["waited"] >= self.patience

    def evaluated(
        self, step: int, window: Window, right: dict[str, float] | None, weights: Mapping[str, float], variables: Tree
    ) -> None:
        """Takes in one evaluation: the score, the best variables so far, one line of the log."""
        score = None if right is None else sum(weights[head] * right[head] for head in right) / sum(weights.values())
        better = score is not None and score > self.notes["score"]
        if score is None or score >= self.notes["score"]:  # of equally good ones the latest: it was trained for longer
            self.best = jax.device_get(variables)
            self.notes |= {"score": -1.0 if score is None else score, "step": step}
        self.notes["waited"] = 0 if better else self.notes["waited"] + 1
        now = time.perf_counter()
        self.notes["seconds"] += now - self.clock
        self.clock = now
        self.notes["done"] = step
        self.notes["log"].append({"step": step, **window.means(), "validation": right, "score": score})

    def save(self, state: Tree) -> None:
        """Writes checkpoint and log, when there is a folder."""
        if self.checkpoints is None or self.folder is None:
            return
        arrays = {"state": state, "best": self.best}
        self.checkpoints.save(self.done, arrays, {"settings": self.settings, **self.notes})
        self._write_log(self.folder)

    def result(self) -> Trained:
        """The best variables, and how they came about."""
        notes = self.notes
        score = None if notes["score"] < 0 else notes["score"]
        return Trained(self.best, score, notes["step"], notes["done"], notes["seconds"], notes["log"])

    def _restore(self) -> None:
        assert self.checkpoints is not None and self.folder is not None
        found = self.checkpoints.restore({"state": self.state, "best": self.best})
        if found is None:
            return
        same_settings(self.folder, found.notes.pop("settings"), self.settings)
        self.state, self.best, self.notes = found.arrays["state"], found.arrays["best"], found.notes
        self._write_log(self.folder)

    def _write_log(self, folder: pathlib.Path) -> None:
        draft = folder / "metrics.jsonl.draft"
        try:
            draft.write_text("".join(json.dumps(line) + "\n" for line in self.notes["log"]))
            draft.replace(folder / "metrics.jsonl")
        except OSError as error:
            raise CheckpointError(
                f"the log of step {self.done} cannot be written to {folder}: {error.strerror}"
            ) from error
