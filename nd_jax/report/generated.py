"""Inputs of a generator on a page: what is drawn and played is what it makes of them, its latent stands beside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from nd_jax import generators
from nd_jax.notes import pitch_classes

if TYPE_CHECKING:
    from nd_jax.domain import Domain, Picture
    from nd_jax.network import Network
    from nd_jax.visualize.result import Visualization

# The lowest pitch that is heard, in MIDI numbers; classes with lower ones are numbers, not pitches.
_LOWEST = 16


class Drawn:
    """How the inputs of a run are drawn and played.

    Args:
      run: of any network.

    Attributes:
      run: likewise.
      generator: the network, where it is a generator whose output has a picture; None where inputs are drawn as they
        are.
      domain: of what is drawn.
      pitches: {class: MIDI number} of a generator whose classes are pitches; else {}.
    """

    def __init__(self, run: Visualization):
        self.run = run
        self.generator = generator_of(run.network)
        self.domain: Domain = run.domain if self.generator is None else self.generator.output
        self.pitches = {} if self.generator is None else pitches(self.generator)

    def made(self, inputs: Any) -> Any:
        """What is drawn of inputs (n, ...): themselves, or what the generator makes of them."""
        return inputs if self.generator is None else generators.make(self.generator, inputs)

    def picture(self, example: Any) -> Picture | None:
        """The picture of one input."""
        if self.generator is None:
            return self.domain.picture(example)
        made = self.made(jax.tree.map(lambda leaf: np.asarray(leaf)[None], example))
        return self.domain.picture(jax.tree.map(lambda leaf: leaf[0], made))

    def latent(self, example: Any) -> dict[str, Any]:
        """The numbers of a generator's latent, for a small picture of it; {} for other inputs."""
        if self.generator is None:
            return {}
        z = np.asarray(example["z"] if isinstance(example, dict) else example, np.float64)
        return {"z": [round(float(value), 2) for value in z]}

    def asked(self, example: Any) -> dict[str, Any]:
        """What a generator was asked for: its name, and its MIDI number where it is a pitch; {} without classes."""
        if self.generator is None or not isinstance(example, dict):
            return {}
        number = int(example["label"])
        return {"name": generators.classes_of(self.generator)[number], "midi": self.pitches.get(number)}


def generator_of(network: Network | None) -> Network | None:
    """The network, if it is a generator of what can be drawn."""
    if network is None:
        return None
    try:
        generators.latent_of(network)
    except ValueError:
        return None
    made = network.output
    return network if made is not None and made.picture(made.silence()) is not None else None


def pitches(generator: Network) -> dict[int, int]:
    """{class: MIDI number} of a generator whose classes are all pitches that can be heard; else {}."""
    try:
        found = {number: midi for midi, number in pitch_classes(generator).items()}
    except ValueError:
        return {}
    return found if min(found.values()) >= _LOWEST else {}
