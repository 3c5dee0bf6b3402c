"""What a classifier takes for each class, among the sounds or pictures that a GAN makes.

    python experiments/maximize_class.py                                                    # spoken digits, mel GAN
    python experiments/maximize_class.py --network checkpoints/mnist --generator checkpoints/dcgan_mnist
    python experiments/maximize_class.py --generator my_wavegan --seeds 20 --conditions none

The objective, optimizer and schedule are those of "Activation Maximization with a Prior in Speech Data" (2021), for all
classes and 100 seeds at once (`nd.visualize.maximize_classes`), but that latents keep their usual length; with
--no-project they are free, as in the source. The first command takes about 20 minutes on 2 idle cores (3 conditions x
10 classes x 100 seeds), the second 5. Expect, over all classes, of the second recognised 10 % before and 70 % after
(66 % with --no-project); with --no-project of the first 98 and 100 % where the GAN is asked for the class itself, 0 and
43 % where it is asked for another one, 10 and 99 % for a free mixture (docs/generator_priors.md).

A part of the seeds that is done is kept in OUT/results and never done again: run the same command after Ctrl-C or a
kill, or with more seeds, and it goes on. OUT/index.html is the page, OUT/trajectories the same lanes at every snapshot,
with a slider, OUT/figures.json has all numbers.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence

import jax
import numpy as np

import nd_jax as nd
from nd_jax import generators
from nd_jax.experiments import maximize_class_page as page
from nd_jax.experiments import records
from nd_jax.network import digest
from nd_jax.runtime import script
from nd_jax.visualize import classes as by_class


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is maximised through what, how often, and where to put it."""

    network: str = "checkpoints/spoken_digits"
    """A classifier: a shipped name, or a folder that Network.save wrote."""
    generator: str = "checkpoints/conditional_mel_gan"
    """A generator whose output the classifier can take, or that can be converted (docs/parameterizations.md)."""
    classes: tuple[str, ...] = ()
    """Names or numbers of classes, of pitches MIDI numbers; by default all."""
    part: str | None = None
    """Which output, for a classifier with several."""
    conditions: tuple[str, ...] = ()
    """What a generator with classes is asked for: target, another, free; by default all three, "none" without."""
    seeds: int = 100
    """Starts of each class; the source has 100."""
    shown: int = 3
    """Of each class on the page, the first seeds; their snapshots are kept."""
    together: int = 8
    """Seeds that run, and are saved, together: a kill loses at most these."""
    steps: int = by_class.STEPS
    """Updates; snapshots follow the source's schedule."""
    others: float = 1.0
    """How much the mean of the other classes counts."""
    project: bool = True
    """Keep latents where training had them: at their usual length, or inside -1 ... 1. The source does not: with
    --no-project, or with a price on the length, they are free."""
    l2: float | None = None
    """The price of the squared length of a free latent, over the number of values of the input; 100 in the source and
    where latents are free and nothing is said."""
    l1: float | None = None
    """The price of the sum of its absolute values, likewise; 0 in the source."""
    learning_rate: float = 0.01
    """Of the first step."""
    out: pathlib.Path = pathlib.Path("out/maximize_class")
    """The folder to write; other files in it stay."""
    seed: int = 0
    """Of everything random."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return script(Settings, run, arguments, __doc__, resumes=True)


def run(settings: Settings) -> pathlib.Path:
    """Does what the settings say; returns the path of index.html."""
    for name, least in {"seeds": 1, "shown": 1, "together": 1, "steps": 1}.items():
        if getattr(settings, name) < least:
            raise ValueError(f"{name} must be {least} or more, got {getattr(settings, name)}")
    network, generator = nd.load(settings.network), nd.load(settings.generator)
    names = by_class.class_names(network, settings.part)
    targets = by_class.class_indices(network, generators.named_numbers(names, settings.classes) or None, settings.part)
    asked = settings.conditions or (("target", "another", "free") if generators.classes_of(generator) else ("none",))
    conditions = [by_class.check_condition(network, generator, each, targets, settings.part) for each in asked]
    asked_to = None if settings.project else False
    kept, l2, l1 = by_class.price_of_length(asked_to, settings.l2, settings.l1)
    settings = dataclasses.replace(settings, project=kept, l2=l2, l1=l1)
    _claim(settings, network, generator, targets)

    # The sweep: parts of the seeds, each on disk before the next begins.
    found: dict[str, page.Condition] = {}
    lanes = len(conditions) * settings.seeds * len(targets)
    print(f"{lanes} lanes: {len(conditions)} conditions x {len(targets)} classes x {settings.seeds} seeds", flush=True)
    began, seconds = time.perf_counter(), 0.0
    with nd.runtime.progress_bar(lanes, "lane") as tick:
        for condition in conditions:
            parts = []
            for part in _parts(settings, network, generator, targets, condition):
                parts.append(part)
                tick(len(part.targets))
            found[condition] = page.joined(parts)
            seconds += found[condition].seconds
    print(f"swept in {time.perf_counter() - began:.0f} s, {seconds:.0f} s of optimising in all", flush=True)
    return page.write(network, generator, found, settings)


def _claim(settings: Settings, network: nd.Network, generator: nd.Network, targets: np.ndarray) -> None:
    """Makes the folder this run's own, or finds that it is: what decides a lane must not change within a folder.

    Raises:
      ValueError: it holds another run.
    """
    free = {"network", "generator", "classes", "conditions", "seeds", "out"}
    decides = {
        "network": digest(network),
        "generator": digest(generator),
        "classes": targets.tolist(),
        **{
            field.name: getattr(settings, field.name)
            for field in dataclasses.fields(settings)
            if field.name not in free
        },
    }
    path = settings.out.expanduser() / "results" / "run.json"
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        other = [name for name in decides if before.get(name) != decides[name]]
        if other:
            raise ValueError(
                f"{settings.out} holds a run with another {other[0]} ({before.get(other[0])!r}, not "
                f"{decides[other[0]]!r}): give another --out, or remove {path.parent}"
            )
    nd.report.sheets.replace(path, (json.dumps(decides, indent=1) + "\n").encode())


def _parts(
    settings: Settings, network: nd.Network, generator: nd.Network, targets: np.ndarray, condition: str
) -> Iterator[page.Condition]:
    """Parts of the seeds, from disk where they are there; all parts have one size, so that one program serves."""
    for first in range(0, settings.seeds, settings.together):
        path = settings.out.expanduser() / "results" / condition / f"{first:05d}.npz"
        if path.is_file():
            fields = records.read(page.Condition, path, "its lanes are")
            part = page.Condition(**{**fields, "seconds": float(fields["seconds"])})
        else:
            part = _optimised(settings, network, generator, targets, condition, first)
            records.save(part, path)
        yield part.upto(settings.seeds)


def _optimised(
    settings: Settings,
    network: nd.Network,
    generator: nd.Network,
    targets: np.ndarray,
    condition: str,
    first: int,
) -> page.Condition:
    began = time.perf_counter()
    result = nd.visualize.maximize_classes(
        network,
        generator,
        [int(target) for target in targets],
        key=jax.random.key(settings.seed),
        seeds=range(first, first + settings.together),
        condition=condition,
        part=settings.part,
        others=settings.others,
        **({"project": True} if settings.project else {"project": False, "l2": settings.l2, "l1": settings.l1}),
        learning_rate=settings.learning_rate,
        steps=settings.steps,
        progress=False,
    )
    if any("interrupted" in status for status in result.status):
        raise KeyboardInterrupt
    return page.Condition.of(result, generator, targets, settings, time.perf_counter() - began)


if __name__ == "__main__":
    sys.exit(main())
