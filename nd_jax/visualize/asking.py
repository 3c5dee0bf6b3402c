"""Units of a generator that is asked for a class, climbed once for each of some classes: what a unit likes at each.

A generator of notes that is asked for one pitch shows what a unit does at that pitch. Here every unit has a latent for
each of some pitches, so that the activations reached, over the pitches, are a curve. Each begins at the best of a few
random latents, the same for all units: heard once, they cost little beside the climb, and a climb of few steps from a
random place often ends below what more random places would have found.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import generators, taps
from nd_jax.visualize import checks, objectives, parameterizations
from nd_jax.visualize.batch import lane_keys, visualize_batch
from nd_jax.visualize.parameterizations import latents

if TYPE_CHECKING:
    from nd_jax.network import Network
    from nd_jax.visualize.result import Visualization

CLASSES = 5
"""How many classes are asked for unless they are given: the first, the last and those evenly between."""
CANDIDATES = 32
"""How many random latents are heard at each class for a start unless their number is given."""
MARK = "at_classes"
"""Where the numbers of the classes stand in the manifest of such a result."""
_TRIED = "at_classes_candidates"
# Latents that are made at a time.
_TOGETHER = 8
FIXED = ("parameterization", "inputs_per_lane", "start", "restarts", "replicates")


def at_classes(
    generator: Network,
    objective: objectives.Objective | objectives.Bound,
    classes: int | Sequence[str | int] = CLASSES,
    *,
    key: jax.Array,
    candidates: int = CANDIDATES,
    project: bool = True,
    **settings: Any,
) -> Visualization:
    """Climbs every objective at each of some classes of a generator: one lane a unit, one input of it a class.

    Random latents, drawn by the key, the same for all units, are made at every class; each unit begins at each class
    with the one that has its highest score there. Latents are kept where their law has them
    (`parameterizations.latent`). `report.atlas` shows the best, and the curve.

    Args:
      generator: takes {"z", "label"}.
      objective: a batch of objectives on its layers (`nd_jax.objectives`).
      classes: by name or number; or how many, spread evenly from the first to the last.
      key: a JAX key.
      candidates: how many random latents are heard at each class; 0 for none: all classes of a unit then begin at one
        latent, drawn by the key and the unit's label.
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
    if isinstance(candidates, bool) or not isinstance(candidates, (int, np.integer)) or candidates < 0:
        raise ValueError(f"candidates must be 0 or more, got {candidates!r}")
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
        start=_starts(generator, bound, numbers, key, int(candidates)),
        # Other starts would be asked for other classes.
        restarts=0,
        **settings,
    )
    # From here `rerun` and the page know how the starts were drawn.
    return dataclasses.replace(found, manifest={**found.manifest, MARK: numbers, _TRIED: int(candidates)})


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


def tried(manifest: Mapping[str, Any]) -> int:
    """How many random latents were heard for the starts, from the manifest of a result of `at_classes`."""
    return int(manifest.get(_TRIED, 0))


def _starts(
    generator: Network, bound: objectives.Bound, numbers: Sequence[int], key: jax.Array, count: int
) -> dict[str, Any]:
    """Parameters (units, classes, ...): latents as long as the law's are, and the number of every class."""
    law, units = generators.latent_of(generator), len(bound)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(count))
    if not count:
        keys = lane_keys(key, bound.labels, np.zeros(units))
    z = latents.projected(latents.free(law.draw(keys), law), law)
    free = np.asarray(latents.free(z, law))
    # (units, classes): which latent each begins with.
    best = np.repeat(np.arange(units)[:, None], len(numbers), axis=1)
    if count:
        heard = [_heard(bound, generator, z, number) for number in numbers]
        best = np.stack([np.argmax(np.where(np.isfinite(each), each, -np.inf), axis=1) for each in heard], axis=1)
    index = np.broadcast_to(np.asarray(numbers, np.float32), best.shape)
    if len(numbers) == 1:
        return {"z": free[best[:, 0]], "label": {"index": index[:, 0]}}
    return {"z": free[best], "label": {"index": index}}


def _heard(bound: objectives.Bound, generator: Network, z: jax.Array, number: int) -> np.ndarray:
    """(units, latents) scores at one class, of a few latents at a time: what a large generator makes needs room."""
    arrays = jax.tree.map(jnp.asarray, bound.arrays)
    size = min(_TOGETHER, len(z))
    label = jnp.full(size, number, jnp.int32)
    # Filled up with the first ones, so that one program serves all.
    parts = [(np.arange(first, first + size) % len(z)).astype(int) for first in range(0, len(z), size)]
    scores = [np.asarray(_listen(bound.spec, generator, z[rows], label, arrays)) for rows in parts]
    return np.concatenate(scores, axis=1)[:, : len(z)]


@functools.partial(jax.jit, static_argnums=0)
def _listen(spec: Any, generator: Network, z: jax.Array, label: jax.Array, arrays: Any) -> jax.Array:
    """(units, latents) scores; every latent is made once for all units."""
    read = taps.forward(generator, {"z": z, "label": label}, objectives.layers_of(spec))[1]
    read = {layer: read[layer] for layer in objectives.layers_of(spec)}

    def one(terms: Any) -> jax.Array:
        return jax.vmap(functools.partial(objectives.evaluate, spec, terms))(read)

    return jax.vmap(one)(arrays)
