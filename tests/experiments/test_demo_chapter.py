"""The demo's chapter on a generator fits the network that ships: its layers, 64 channels, pitches."""

from __future__ import annotations

import pathlib
import re

import nd_jax as nd
from nd_jax.experiments import visualize, visualize_generator
from nd_jax.notes import pitch_classes
from nd_jax.runtime import command_line

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def test_the_chapter_fits_the_network():
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    network = re.search(r"visualize\.py (--network \S+) \$\(GANSYNTH\)", text)
    chapter = re.search(r"^GANSYNTH := (.*)$", text, re.MULTILINE)
    assert network and chapter
    settings = command_line(visualize.Settings, [*network[1].split(), *chapter[1].split()], "")
    found = nd.load(REPOSITORY / settings.network)
    visualize_generator.check(found, settings)
    planned = {layer: nd.taps.layer_shape(found, layer)[-1] for layer in settings.layers}
    assert sum(min(count, settings.units) for count in planned.values()) >= 64
    assert len(visualize_generator.classes_of(found, settings)) == 5 and len(pitch_classes(found)) >= 37
    assert settings.out != visualize.Settings().out, "the first atlas of the demo stays"
