"""Draws what was measured while several GANs were trained, over the real examples that they had seen.

    python experiments/compare_gans.py --runs runs/dcgan_mnist runs/wgan_mnist --out gans.png

A run is a folder of experiments/train_gan.py that was started with --watch. Prints the figures too.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import nd_jax as nd
from nd_jax.report.curves import curves
from nd_jax.runtime import script

_FIGURES = ("confident", "inception_score", "rarest_class", "kernel_distance")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Which runs."""

    runs: tuple[pathlib.Path, ...]
    """Folders of finished trainings."""
    out: pathlib.Path = pathlib.Path("gans.png")
    """The picture."""
    by: str = "epochs"
    """What the axis counts: "epochs" (real examples seen, in numbers of the training set) or "minutes"."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return script(Settings, run, arguments, __doc__, tell=None)


def run(settings: Settings) -> list[dict[str, Any]]:
    """Draws the picture and prints a table; returns the points, {"step": place on the axis, "figure/run": value}."""
    if settings.by not in ("epochs", "minutes"):
        raise ValueError(f'by must be "epochs" or "minutes", not {settings.by!r}')
    points: list[dict[str, Any]] = []
    for folder in settings.runs:
        points += _points(folder, settings.by)
    curves(points, settings.out, x=settings.by)
    heads = ["run", settings.by, *(name.replace("_", " ") for name in _FIGURES), "D(x) - D(G(z))"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for point in points:
        name = next(key for key in point if "/" in key).partition("/")[2]
        values = [point[f"{figure}/{name}"] for figure in (*_FIGURES, "score_gap")]
        print(f"| {name} | {point['step']:.2f} | " + " | ".join(f"{value:.3g}" for value in values) + " |")
    print(settings.out)
    return points


def _points(folder: pathlib.Path, by: str) -> list[dict[str, Any]]:
    """The lines of one run's log that have figures of a judge."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if all(name in line for name in _FIGURES)]
    if not lines:
        raise ValueError(f"{folder} has no figures of its samples over training: it was not trained with --watch")
    card = nd.load(folder / "generator").card
    training, known = card["training"], card["samples"]["settings"]["train"]
    per_step = training.get("batch_size", 64) * (1 if training.get("same_batch") else training.get("critic_steps", 1))
    name = str(card["name"])
    return [
        {
            "step": line["step"] * per_step / known if by == "epochs" else line["seconds"] / 60,
            **{f"{figure}/{name}": line[figure] for figure in _FIGURES},
            f"score_gap/{name}": line["real_score"] - line["fake_score"],
        }
        for line in lines
    ]


if __name__ == "__main__":
    raise SystemExit(main())
