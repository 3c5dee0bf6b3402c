"""Generators in `experiments/visualize.py`: their units over latents, at several classes, beside random samples."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any, Protocol

import jax

import nd_jax as nd
from nd_jax import generators
from nd_jax.visualize import asking


class Wanted(Protocol):
    """The settings that matter to a generator; see `experiments/visualize.py`."""

    classes: tuple[str, ...]
    clips: int
    seed: int
    data_dir: pathlib.Path | None
    generator: str | None
    history: pathlib.Path | None
    tuned: pathlib.Path | None


def is_generator(network: nd.Network) -> bool:
    """Whether a network takes a latent."""
    try:
        generators.latent_of(network)
    except ValueError:
        return False
    return True


def check(network: nd.Network, settings: Wanted) -> None:
    """Refuses what a generator cannot have, and classes of what is none, before anything is computed."""
    if not is_generator(network):
        if settings.classes:
            raise ValueError("classes are what a generator is asked for, and this network is none")
        return
    for name, why in {
        "data_dir": "its natural inputs are random latents",
        "generator": "its natural inputs are random latents of its own",
        "history": "a slider over its training is not made",
        "tuned": "nothing regularises a latent but its length",
    }.items():
        if getattr(settings, name) is not None:
            raise ValueError(f"{name} is not for a generator: {why}")
    classes_of(network, settings)


def classes_of(network: nd.Network, settings: Wanted) -> list[int]:
    """The numbers of the classes that are asked for; [] of a generator without classes."""
    if not generators.classes_of(network) and not settings.classes:
        return []
    return asking.class_numbers(network, settings.classes or asking.CLASSES)


def samples(network: nd.Network, layers: Sequence[str], settings: Wanted) -> nd.dissect.Exemplars:
    """Random samples, ranked by every unit."""
    print(f"{settings.clips} random latents in place of natural inputs")
    return nd.dissect.samples(network, layers=layers, count=settings.clips, seed=settings.seed)


def look(network: nd.Network, layer: str, units: range, settings: Wanted, **more: Any) -> nd.Visualization:
    """The latents of units of a layer, for each of the classes that are asked for."""
    objective, key = nd.objectives.channel(layer, units), jax.random.key(settings.seed)
    classes = classes_of(network, settings)
    if not classes:
        return nd.visualize_batch(network, objective, key=key, **more)
    return nd.visualize.at_classes(network, objective, classes, key=key, **more)
