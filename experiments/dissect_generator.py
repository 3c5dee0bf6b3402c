"""Opens up a generator: for every hidden unit the latent that drives it most, and what the generator makes of it.

    python experiments/dissect_generator.py                                                # the shipped DCGAN of MNIST
    python experiments/dissect_generator.py --generator checkpoints/conditional_mel_gan
    python experiments/dissect_generator.py --generator my_wavegan --layers conv2 --units 32

"Neural Dissection" announced this ("hidden unit -> latent -> output"), and two questions with it. They are measured
too: is the latent space orthogonal (Gram matrices of the generator's Jacobian), and do noise and dropout on the latent
help, at equal steps? A bar says how long it takes. Expect for dcgan_mnist: all latents at the
usual length (percentile 50), units of `features` at their exact optimum sqrt(d) ||w||; docs/generator_priors.md has all
figures.

OUT/index.html is the page, OUT/figures.json has all numbers, OUT/latents.npz every latent and activation. Finished
layers are kept in OUT/results and not done again.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

import nd_jax as nd
from nd_jax import generators, metrics, taps
from nd_jax.experiments import dissect_generator_page as page
from nd_jax.experiments import dissect_generator_results as results
from nd_jax.network import digest
from nd_jax.runtime import script
from nd_jax.visualize import optimizers
from nd_jax.visualize.result import slug

# Perturbations whose use is measured, by name.
PERTURBATIONS: dict[str, tuple[Any, ...]] = {
    "none": (),
    "noise 0.1": (nd.transforms.latent_noise(0.1),),
    "noise 0.3": (nd.transforms.latent_noise(0.3),),
    "dropout 0.1": (nd.transforms.latent_dropout(0.1),),
    "dropout 0.3": (nd.transforms.latent_dropout(0.3),),
}
# How far latents are moved when it is asked whether what was found holds.
SHAKEN = 0.3
_SHAKES = 16
_BATCH = 64


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is opened up, how far, and where to put what is found."""

    generator: str = "checkpoints/dcgan_mnist"
    """A shipped name, or a folder that Network.save wrote."""
    layers: tuple[str, ...] = ()
    """Layer names; by default every layer with weights of its own but the last."""
    units: int = 64
    """At most so many units of each layer, spread evenly over it."""
    starts: int = 2
    """Latents from which each unit is climbed: do they lead to the same?"""
    steps: int = 192
    """Of each climb."""
    learning_rate: float = 0.05
    """Of Adam."""
    samples: int = 1024
    """Random latents that tell how strongly a unit answers anyway, and for which class."""
    jacobians: int = 32
    """Latents at which the Jacobian is looked at."""
    compared: int = 16
    """Units of each layer on which noise and dropout are measured; 0 for none."""
    shown: int = 24
    """Units of each layer on the page."""
    out: pathlib.Path = pathlib.Path("out/dissect_generator")
    """The folder to write; other files in it stay."""
    seed: int = 0
    """Of everything random."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return script(Settings, run, arguments, __doc__, resumes=True)


def run(settings: Settings) -> pathlib.Path:
    """Does what the settings say; returns the path of index.html."""
    for name, least in {"units": 1, "starts": 1, "steps": 1, "samples": 2, "jacobians": 1, "compared": 0}.items():
        if getattr(settings, name) < least:
            raise ValueError(f"{name} must be {least} or more, got {getattr(settings, name)}")
    generator = nd.load(settings.generator)
    generators.latent_of(generator)
    chosen = _units(generator, settings)

    # What units do on random latents, and for which class.
    usual = natural(generator, list(chosen), settings)

    # Hidden unit -> latent -> output.
    found = {}
    for place, (layer, units) in enumerate(chosen.items(), start=1):
        found[layer] = _layer(generator, layer, units, usual[layer], settings)
        print(f"[{place}/{len(chosen)}] {layer}: {len(units)} units", flush=True)

    # Is the latent space orthogonal?
    given = generators.inputs(generator, settings.seed + 1, settings.jacobians)
    grams = metrics.jacobian_gram(generator, given)
    print("Jacobians: done", flush=True)

    # Do noise and dropout help?
    helped = compare(generator, chosen, usual, settings) if settings.compared else {}
    return page.write(generator, found, usual, grams, helped, settings)


def _units(generator: nd.Network, settings: Settings) -> dict[str, np.ndarray]:
    layers = settings.layers or tuple(taps.weighted_layers(generator))[:-1]
    if not layers:
        raise ValueError("this generator has no hidden layer with weights of its own: name some with --layers")
    found = {}
    for layer in layers:
        count = taps.layer_shape(generator, layer)[-1]
        found[layer] = np.unique(np.linspace(0, count - 1, min(count, settings.units)).round().astype(int))
    return found


def natural(generator: nd.Network, layers: Sequence[str], settings: Settings) -> dict[str, results.Usual]:
    """Activations of all units of some layers, mean over positions, on random latents."""
    given = generators.inputs(generator, settings.seed + 2, settings.samples)
    rows: dict[str, list[np.ndarray]] = {layer: [] for layer in layers}
    for first in range(0, settings.samples, _BATCH):
        part = jax.tree.map(lambda leaf, at=first: leaf[at : at + _BATCH], given)
        for layer, values in taps.read(generator, part, list(layers)).items():
            rows[layer].append(np.asarray(values).reshape(len(values), -1, values.shape[-1]).mean(axis=1))
    labels = given["label"] if isinstance(given, dict) else None
    return {layer: results.Usual.of(np.concatenate(parts), labels) for layer, parts in rows.items()}


def look(
    generator: nd.Network,
    layer: str,
    units: np.ndarray,
    usual: results.Usual,
    settings: Settings,
    *,
    starts: int,
    seed: int,
    **more: Any,
) -> nd.Visualization:
    """Climbs units of a layer over the latent, kept at its usual length; `starts` lanes a unit."""
    names = generators.classes_of(generator)
    latent = nd.parameterizations.latent()
    through: Any = latent
    start = None
    if names:
        through = nd.parameterizations.parts(z=latent, label=nd.parameterizations.chosen(None))
        # Of each unit the class for which it answers most among random samples.
        size = generators.latent_of(generator).size
        z = np.asarray(jax.random.normal(jax.random.key(seed), (len(units) * starts, size)))
        start = {"z": z, "label": {"index": np.repeat(usual.label[units], starts).astype(np.float32)}}
    made = {"transforms": (), **more}
    if names:
        made["transforms"] = tuple(nd.transforms.on_part("z", each) for each in made["transforms"])
    return nd.visualize_batch(
        generator,
        nd.objectives.channel(layer, [int(unit) for unit in units]),
        key=jax.random.key(seed),
        parameterization=through,
        optimizer=optimizers.adam(settings.learning_rate),
        steps=settings.steps,
        replicates=starts,
        start=start,
        snapshots=0,
        restarts=0,
        progress=False,
        **made,
    )


def _layer(
    generator: nd.Network, layer: str, units: np.ndarray, usual: results.Usual, settings: Settings
) -> results.Found:
    decides = [digest(generator), layer, units.tolist(), settings.starts, settings.steps, settings.learning_rate]
    path = settings.out.expanduser() / "results" / f"{slug(layer)}.npz"
    kept = results.Found.read(path, [*decides, settings.seed, settings.samples])
    if kept is not None:
        return kept
    result = look(generator, layer, units, usual, settings, starts=settings.starts, seed=settings.seed)
    found = results.Found.of(result, generator, units, settings.starts)
    found.save(path, [*decides, settings.seed, settings.samples])
    return found


def compare(
    generator: nd.Network, chosen: Mapping[str, np.ndarray], usual: Mapping[str, results.Usual], settings: Settings
) -> dict[str, results.Helped]:
    """Scores reached with each perturbation to the end of the run, at equal steps, and what is left when shaken."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in PERTURBATIONS}
    for layer, units in chosen.items():
        some = units[:: max(1, len(units) // settings.compared)][: settings.compared]
        spread = np.maximum(usual[layer].spread[some], 1e-9)
        mean = usual[layer].mean[some]
        for name, transforms in PERTURBATIONS.items():
            result = look(
                generator,
                layer,
                some,
                usual[layer],
                settings,
                starts=2,
                seed=settings.seed,
                transforms=transforms,
                polish=0.0,
            )
            scores = result.scores.reshape(-1, 2)
            held = _shaken(generator, layer, some, result, settings).reshape(-1, 2)
            z = results.latents_of(result, generator).reshape(len(some), 2, -1)
            agree = np.sum(z[:, 0] * z[:, 1], axis=1) / np.prod(np.linalg.norm(z, axis=2), axis=1)
            # In standard deviations above the mean on random latents, so that layers can stand together.
            best = (scores.max(axis=1) - mean) / spread
            kept = (held.mean(axis=1) - mean) / spread
            found[name].append(np.stack([best, kept, agree]))
        print(f"noise and dropout: {layer}", flush=True)
    return {name: results.Helped(*np.concatenate(parts, axis=1)) for name, parts in found.items()}


def _shaken(
    generator: nd.Network, layer: str, units: np.ndarray, result: nd.Visualization, settings: Settings
) -> np.ndarray:
    """Activations (lanes,) after the latents found were moved by normal noise, the mean over some moves."""
    z = results.latents_of(result, generator)
    draw = np.random.default_rng(settings.seed)
    lanes = np.repeat(units, len(z) // len(units))
    total = np.zeros(len(z))
    label = np.asarray(result.parameters["label"]["index"], np.int32) if isinstance(result.parameters, dict) else None
    for _ in range(_SHAKES):
        moved = (z + SHAKEN * draw.standard_normal(z.shape)).astype(np.float32)
        moved = np.clip(moved, -1, 1) if generators.latent_of(generator).law == "uniform" else moved
        given = moved if label is None else {"z": moved, "label": label}
        values = np.asarray(taps.read(generator, given, [layer])[layer])
        total += values.reshape(len(z), -1, values.shape[-1]).mean(axis=1)[np.arange(len(z)), lanes]
    return total / _SHAKES


if __name__ == "__main__":
    sys.exit(main())
