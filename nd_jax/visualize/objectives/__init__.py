"""Objectives: from a network's activations to one number a lane, to be climbed.

An objective is a batch of lanes, one unit a lane; units are arrays, so that all units of a layer share one compiled
program. Objectives add, subtract and scale, and carry their labels along:

    nd.objectives.channel("block1/conv", range(128))                       # 128 lanes
    nd.objectives.logit(["dog"]) - 0.5 * nd.objectives.logit(["rooster"])  # one lane

Every factory gives sum over terms of weight * value(activations), where a term reads one layer (`custom`: several).
Layer and unit names are checked against the network before anything is compiled (`Objective.bind`). All formulas and
sources: docs/objectives.md.

| file          | objectives                                                          |
|---------------|---------------------------------------------------------------------|
| `units.py`    | neuron, channel, layer, joint, logit, probability, class_margin     |
| `directions.py` | direction, cosine                                                 |
| `targets.py`  | match, caricature                                                   |
| `together.py` | diversity, alignment: between the inputs of a lane                  |
| `mixtures.py` | interpolate, grid                                                   |
| `own.py`      | custom                                                              |

`core.py` adds them up and binds them; `KINDS` there is where a kind says what it does.
"""

from __future__ import annotations

from nd_jax.visualize.objectives.core import (
    KINDS,
    Bound,
    Missing,
    Objective,
    ObjectiveKind,
    Term,
    evaluate,
    evaluate_inputs,
    layers_of,
    may_cancel,
    noise_floor,
)
from nd_jax.visualize.objectives.directions import cosine, direction
from nd_jax.visualize.objectives.mixtures import grid, interpolate
from nd_jax.visualize.objectives.own import custom
from nd_jax.visualize.objectives.places import Units
from nd_jax.visualize.objectives.targets import caricature, match
from nd_jax.visualize.objectives.together import alignment, diversity
from nd_jax.visualize.objectives.units import channel, class_margin, joint, layer, logit, neuron, probability

__all__ = [
    "KINDS",
    "Bound",
    "Missing",
    "Objective",
    "ObjectiveKind",
    "Term",
    "Units",
    "alignment",
    "caricature",
    "channel",
    "class_margin",
    "cosine",
    "custom",
    "direction",
    "diversity",
    "evaluate",
    "evaluate_inputs",
    "grid",
    "interpolate",
    "joint",
    "layer",
    "layers_of",
    "logit",
    "match",
    "may_cancel",
    "neuron",
    "noise_floor",
    "probability",
]
