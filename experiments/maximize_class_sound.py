"""What a generator made on the way of `maximize_class.py`, as it sounds: more than what its classifier reads of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import numpy as np

import nd_jax as nd
from nd_jax.domain import LogMel, Sound
from nd_jax.domain.playing import sounds

MADE_OF = "Sounds are what the generator itself made; pictures are what the classifier reads of them."

# By snapshot and shown lane; {} where pictures are made into sound.
Heard = Mapping[tuple[int, int], Sound]


def has_own(network: nd.Network, generator: nd.Network) -> bool:
    """Whether a generator makes a sound of its own (samples, a mel-IF) that its classifier does not read as it is."""
    made = generator.output
    return made.is_sound and not isinstance(made, LogMel) and made.to_dict() != network.input.to_dict()


def own(
    generator: nd.Network, free: Mapping[str, np.ndarray], wanted: Sequence[tuple[int, int]], condition: str, keep: bool
) -> Heard:
    """The sounds at some snapshots of some lanes.

    Args:
      generator: the prior.
      free: {"z", "label"}, (snapshots, lanes, ...), what was free; a label of no numbers where there are no classes.
      wanted: (snapshot, lane) of each.
      condition: of `maximize_classes`.
      keep: whether latents were kept at their usual length.
    """
    label = {"none": None, "free": "free"}.get(condition, "held")
    prior = nd.parameterizations.prior(generator, label=label, project=keep)
    rows = tuple(np.asarray(wanted).T)
    given = {name: values[rows] for name, values in free.items() if name == "z" or label}
    apply = jax.jit(lambda through, one: jax.lax.map(lambda each: through.apply(each, generator.output), one))
    made = np.asarray(apply(prior, given))
    return dict(zip(wanted, sounds(generator.output, made) or (), strict=True))
