"""The log of a training as one picture: losses, the discriminator's scores, gradients, and what watchers measured."""

from __future__ import annotations

import itertools
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nd_jax.report.sheets import drafted
from nd_jax.runtime import require

# Title, name of the y axis, whether it is logarithmic, and {key of the log: what the legend says}.
_PANELS = (
    ("Losses", "loss", False, {"discriminator_loss": "discriminator", "generator_loss": "generator", "loss": "loss"}),
    (
        "What the discriminator says",
        "score",
        False,
        {
            "real_score": "D(x), real",
            "fake_score": "D(G(z)), generated",
            "fake_score_after": "D(G(z)), after D's update",
        },
    ),
    (
        "Gradients",
        "norm",
        True,
        {"discriminator_gradient": "discriminator", "generator_gradient": "generator", "gradient_norm": "gradient"},
    ),
    ("Penalty", "penalty", False, {"penalty": "penalty"}),
    (
        "Learning rates",
        "learning rate",
        False,
        {"discriminator_lr": "discriminator", "generator_lr": "generator", "learning_rate": "learning rate"},
    ),
)
_APART = {"step", "seconds", "examples_per_second"}
# Wong 2011, "Points of view: Color blindness": told apart by everybody, and by their dashes too.
_LINES = (("#0072b2", "-"), ("#d55e00", "--"), ("#009e73", "-."), ("#cc79a7", ":"))


def curves(log: Sequence[Mapping[str, Any]], path: Any, *, title: str = "", x: str = "step") -> pathlib.Path:
    """Draws the log of a training over its steps.

    Losses, D(x) and D(G(z)), gradient norms (on a logarithmic axis), penalty and learning rates have a panel each where
    the log has them; every other number (a watcher's figure, "judge/inception" or nested dicts) has one of its own, or
    shares it with those of the same name before the last "/".

    Args:
      log: lines such as `gan.train` gives, each with a "step"; figures may be missing from some.
      path: the PNG file; it is replaced in one step.
      title: a line above everything.
      x: what a step is, for the axis.

    Returns:
      The path.

    Raises:
      ValueError: nothing to draw.
      MissingExtraError: matplotlib is not installed.
    """
    from nd_jax.training.metrics_files import flattened

    lines = [flattened(line) for line in log]
    panels = _panels(lines)
    if not panels:
        raise ValueError("the log has no figures to draw: its lines need a 'step' and numbers")
    require("matplotlib", "report")
    figures = require("matplotlib.figure", "report")
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = figures.Figure(figsize=(4.6 * columns, 3.1 * rows + (0.35 if title else 0)), dpi=110, layout="constrained")
    if title:
        figure.suptitle(title, fontsize=12)
    axes = np.ravel(figure.subplots(rows, columns, squeeze=False))
    for one, panel in itertools.zip_longest(axes, panels):
        if panel is None:
            one.set_axis_off()
        else:
            _draw(one, lines, panel, x)
    with drafted(path) as draft:
        figure.savefig(draft, format="png")
    return pathlib.Path(path)


def _panels(lines: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, bool, dict[str, str]]]:
    present = [
        name for name in dict.fromkeys(itertools.chain(*lines)) if any(_number(line.get(name)) for line in lines)
    ]
    if "step" not in present:
        return []
    found = []
    for head, axis, logarithmic, members in _PANELS:
        shown = {key: words for key, words in members.items() if key in present}
        if shown:
            found.append((head, axis, logarithmic, shown))
    known = _APART.union(*(members for *_, members in _PANELS))
    others: dict[str, dict[str, str]] = {}
    for name in present:
        if name not in known:
            group, _, last = name.rpartition("/")
            others.setdefault(group or name, {})[name] = _words(last)
    for group, members in others.items():
        shared = len(members) > 1
        found.append(
            (
                _words(group),
                _words(group.rpartition("/")[2]) if shared else next(iter(members.values())),
                False,
                members,
            )
        )
    return found


def _draw(axes: Any, lines: Sequence[Mapping[str, Any]], panel: tuple[str, str, bool, dict[str, str]], x: str) -> None:
    head, name, logarithmic, members = panel
    for number, (key, words) in enumerate(members.items()):
        points = [(line["step"], line[key]) for line in lines if _number(line.get("step")) and _number(line.get(key))]
        steps, values = zip(*points, strict=True)
        colour, dashes = _LINES[number % len(_LINES)]
        marker = "o" if len(points) <= 30 else ""
        axes.plot(steps, values, dashes, color=colour, label=words, linewidth=1.4, marker=marker, markersize=3)
        logarithmic = logarithmic and min(values) > 0
    if logarithmic:
        axes.set_yscale("log")
    elif name != "loss":
        drawn = np.concatenate([line.get_ydata() for line in axes.lines])
        if drawn.min() >= 0:
            # From zero, or the smallest change looks like an event.
            axes.set_ylim(0, 1.08 * drawn.max() or 1)
    axes.set_xlim(0, 1.03 * max(line["step"] for line in lines if _number(line.get("step"))))
    axes.set_title(head[:1].upper() + head[1:], fontsize=11, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(name)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if len(members) > 1:
        axes.legend(frameon=False, fontsize=9)


def _words(name: str) -> str:
    return name.replace("_", " ").replace("/", ", ")


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
