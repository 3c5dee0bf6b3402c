"""Units of a generator that is asked for a class, climbed once for each of some classes: what a unit likes at each.

A generator of notes that is asked for one pitch shows what a unit does at that pitch. Here every unit has a latent for
each of some pitches, all from the same start, so that the activations reached, over the pitches, are a curve.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from nd_jax import generators
from nd_jax.visualize import checks, objectives, parameterizations
from nd_jax.visualize.batch import lane_keys, visualize_batch
from nd_jax.visualize.parameterizations import latents

if TYPE_CHECKING:
    from nd_jax.network import Network
    from nd_jax.visualize.result import Visualization

CLASSES = 5
"""How many classes are asked for unless they are given: the first, the last and those evenly between."""
MARK = "at_classes"
"""Where the numbers of the classes stand in the manifest of such a result."""
FIXED = ("parameterization", "inputs_per_lane", "start", "restarts", "replicates")


def at_classes(
    generator: Network,
    objective: objectives.Objective | objectives.Bound,
    classes: int | Sequence[str | int] = CLASSES,
    *,
    key: jax.Array,
    project: bool = True,
    **settings: Any,
) -> Visualization:
    """Climbs every objective at each of some classes of a generator: one lane a unit, one input of it a class.

    All classes of a unit begin at the same latent, drawn by the key and the unit's label, and each goes its own way.
    Latents are kept where their law has them (`parameterizations.latent`). `report.atlas` shows the best, and the
    curve.

    Args:
      generator: takes {"z", "label"}.
      objective: a batch of objectives on its layers (`nd_jax.objectives`).
      classes: by name or number; or how many, spread evenly from the first to the last.
      key: a JAX key.
      project: False frees the latents' length.
      **settings: further arguments of `visualize_batch`.

    Returns:
      A Visualization with scores (units, classes) and inputs {"z": (units, classes, size), "label": (units, classes)};
      without the axis of classes where there is one only.

    Raises:
      ValueError: no generator with classes, no such class, one twice, or what `visualize_batch` refuses.
    """
    numbers = class_numbers(generator, classes)
    for name in FIXED:
        if name in settings:
            raise ValueError(f"at_classes chooses {name} itself; use visualize_batch for another")
    checks.check_kinds(objective, None)
    bound = objective.bind(generator)
    found = visualize_batch(
        generator,
        bound,
        key=key,
        parameterization=parameterizations.parts(
            z=parameterizations.latent(project=project), label=parameterizations.chosen(None)
        ),
        inputs_per_lane=len(numbers),
        start=_starts(generator, bound.labels, numbers, key),
        # Other starts would be asked for other classes.
        restarts=0,
        **settings,
    )
    # From here `rerun` and the page know how the starts were drawn.
    return dataclasses.replace(found, manifest={**found.manifest, MARK: numbers})


def class_numbers(generator: Network, classes: int | Sequence[str | int]) -> list[int]:
    """The numbers of the classes that `at_classes` is asked for.

    Raises:
      ValueError: no generator with classes, no such class, or one twice, in one sentence.
    """
    names = generators.classes_of(generator)
    if not names:
        raise ValueError("this generator has no classes to ask for: use visualize_batch")
    if isinstance(classes, (int, np.integer)) and not isinstance(classes, bool):
        if classes < 1:
            raise ValueError(f"classes must be 1 or more, or their names, got {classes}")
        # One alone is in the middle: the ends are what a generator knows least.
        spread = np.linspace(0, len(names) - 1, int(classes)) if classes > 1 else np.asarray([(len(names) - 1) / 2])
        return np.unique(spread.round().astype(int)).tolist()
    if isinstance(classes, (str, bool)) or not list(classes):
        raise ValueError(f"classes are names or numbers of classes, or how many, got {classes!r}")
    found = generators.class_numbers(generator, classes)
    twice = next((number for place, number in enumerate(found) if number in found[:place]), None)
    if twice is not None:
        raise ValueError(f"class {names[twice]!r} is asked for twice")
    return found


def projects(manifest: Mapping[str, Any]) -> bool:
    """Whether latents were kept at their usual length, from the manifest of a result of `at_classes`."""
    items = dict(manifest["settings"]["parameterization"]["items"])
    return bool(items["z"]["project"])


def _starts(generator: Network, labels: Sequence[str], numbers: Sequence[int], key: jax.Array) -> dict[str, Any]:
    """Parameters (units, classes, ...): one latent a unit, so long as the law's are, and the number of every class."""
    law = generators.latent_of(generator)
    z = latents.projected(latents.free(law.draw(lane_keys(key, labels, np.zeros(len(labels)))), law), law)
    free = np.asarray(latents.free(z, law))
    index = np.broadcast_to(np.asarray(numbers, np.float32), (len(labels), len(numbers)))
    if len(numbers) == 1:
        return {"z": free, "label": {"index": index[:, 0]}}
    return {"z": np.repeat(free[:, None], len(numbers), axis=1), "label": {"index": index}}
