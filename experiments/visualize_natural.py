"""The natural inputs of `experiments/visualize.py`: recordings, samples of a generator, or procedural sounds."""

from __future__ import annotations

import json
import pathlib
from typing import Any, Protocol

import jax
import numpy as np

import nd_jax as nd
from nd_jax import generators
from nd_jax.storage import shipped


class Wanted(Protocol):
    """The settings that say which natural inputs are wanted; see `experiments/visualize.py`."""

    data_dir: pathlib.Path | None
    generator: str | None
    data_set: Any
    split: str
    clips: int
    seed: int


def natural_sounds(network: nd.Network, settings: Wanted) -> tuple[dict[str, Any] | None, list[str] | None]:
    """Natural inputs as arguments of `dissect.exemplars`, and a name for each."""
    domain = network.input
    if settings.data_dir is None:
        generator = _generator(network, settings.generator)
        if generator is not None:
            return _generated(generator, settings)
        if not domain.is_sound:
            print("no natural inputs: pass --data-dir to see what the units answer to")
            return None, None
        return _procedural(network, domain, settings)
    found = nd.data.load(
        settings.data_set,
        settings.split,
        manual_dir=settings.data_dir,
        sample_rate=getattr(domain, "sample_rate", None),
    )
    chosen = np.random.default_rng(settings.seed).permutation(len(found))[: settings.clips]
    found = found.select(np.sort(chosen))
    print(f"{len(found)} natural inputs from {settings.data_dir}")
    if not domain.is_sound:
        return {"inputs": found.fixed(domain.low, domain.high)}, None
    return {"waves": found.fixed(domain.samples), "sample_rate": domain.sample_rate}, list(found.files) or None


def _generator(network: nd.Network, chosen: str | None) -> nd.Network | None:
    """A generator whose samples are what a network takes; by default the first shipped one, "" for none."""
    if chosen == "":
        return None
    wanted = network.input.to_dict()
    if chosen is not None:
        found = nd.load(chosen)
        generators.latent_of(found)
        if found.output.to_dict() != wanted:
            raise ValueError(
                f"{chosen} makes {found.output.kind} examples of shape {found.output.shape}, and the network takes "
                f"{network.input.kind} of shape {network.input.shape}, or another scale"
            )
        return found
    for folder in shipped().values():
        told = json.loads((folder / "network.json").read_text(encoding="utf-8"))
        made_of = json.dumps(told["input"])
        if told["output"] == json.loads(json.dumps(wanted)) and '"latent"' in made_of:
            return nd.load(folder)
    return None


def _generated(generator: nd.Network, settings: Wanted) -> tuple[dict[str, Any], list[str]]:
    """Samples of a generator in place of recordings, and what each is called."""
    given = generators.inputs(generator, settings.seed, settings.clips)
    name, classes = generator.card.get("name", "generator"), generators.classes_of(generator)
    print(f"{settings.clips} samples of the generator {name} in place of recordings")
    words = [f" {classes[number]}" for number in given["label"]] if classes else [""] * settings.clips
    names = [f"{name}{word} (made, seed {settings.seed}, {index})" for index, word in enumerate(words)]
    return {"inputs": generators.make(generator, given)}, names


def _procedural(network: nd.Network, domain: Any, settings: Wanted) -> tuple[dict[str, Any], list[str]]:
    if any(word in str(network.card.get("task", "")).lower() for word in ("speech", "spoken")):
        print(
            "the natural sounds are procedural tones and noises, which are not speech: pass recordings with --data-dir"
        )
    classes = nd.data.synthetic.CLASSES
    bank = nd.data.synthetic.bank(
        jax.random.key(settings.seed),
        per_class=-(-settings.clips // len(classes)),
        sample_rate=domain.sample_rate,
        seconds=max(domain.samples / domain.sample_rate, 0.5),
    )
    # Every class in turn, so that fewer sounds than classes are still of different classes.
    order = np.argsort(np.arange(len(bank)) % (len(bank) // len(classes)), kind="stable")[: settings.clips]
    waves = nd.audio.fit(bank.waves, domain.samples, policy="pad")[order]
    names = bank.clips().files
    print(f"{len(waves)} procedural sounds of {len(classes)} classes")
    return {"waves": waves, "sample_rate": domain.sample_rate}, [names[index] for index in order]
