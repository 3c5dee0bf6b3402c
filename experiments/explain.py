"""What in these sounds spoke for what a network says: a folder of sounds in, a page to look at and listen to out.

    python experiments/explain.py --sounds recordings                      # spoken digits, your recordings
    python experiments/explain.py --network checkpoints/esc10 --sounds clips --target dog
    python experiments/explain.py                                          # samples of the shipped generator instead

For every sound and method: where the class comes from, over the spectrogram and along time and frequency; what is
marked and what is left as sound; what the network says to each; how fast its probability falls when the marked is
deleted first, beside a map of noise. The last command, ten sounds and four methods, takes 46 s on 2 idle cores.

A sound that is done is kept in OUT/maps and never done again: run the same command after Ctrl-C or a kill and it goes
on. OUT/index.html is the page, OUT/figures.json has all numbers, OUT/maps/*.npz all maps.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np

import nd_jax as nd
from nd_jax import generators
from nd_jax.experiments import explain_page as page
from nd_jax.network import digest
from nd_jax.report import sheets
from nd_jax.runtime import progress_bar, script
from nd_jax.visualize import classes as by_class

Method = Literal[
    "occlusion", "mask", "integrated_gradients", "smooth_grad", "input_x_gradient", "saliency", "rise", "grad_cam"
]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Which sounds, which network, which methods, and where to put what was found."""

    network: str = "checkpoints/spoken_digits"
    """A network that hears: a shipped name, or a folder that Network.save wrote."""
    sounds: pathlib.Path | None = None
    """A folder of sound files; without, samples of the generator."""
    generator: str = "checkpoints/conditional_mel_gan"
    """Makes the sounds when there is no folder."""
    count: int = 10
    """At most so many sounds."""
    target: str | None = None
    """What is explained, a class by name or number; by default what the network says to each sound."""
    part: str | None = None
    """Which output, for a network with several."""
    methods: tuple[Method, ...] = ("occlusion", "mask", "integrated_gradients", "rise")
    """In this order on the page."""
    time: float = 0.1
    """Width of an occluded window, in seconds; windows overlap by half."""
    bands: int = 10
    """Occluded bands, of equal width on the ERB scale; 1 for windows over time alone."""
    baseline: str = "silence"
    """What stands where something is taken away: silence, mean, band_mean, blur or a number."""
    layer: str = ""
    """Of grad_cam; by default the last layer with positions."""
    share: float = 0.25
    """Of the values of a map that count as marked."""
    area: float = 0.15
    """Of the mask."""
    steps: int = 300
    """Of the mask's optimizer."""
    masks: int = 1000
    """Of RISE."""
    out: pathlib.Path = pathlib.Path("out/explain")
    """The folder to write; other files in it stay."""
    seed: int = 0
    """Of everything random."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return script(Settings, run, arguments, __doc__, resumes=True)


def run(settings: Settings) -> pathlib.Path:
    """Does what the settings say; returns the path of index.html."""
    for name in ("count", "bands", "steps", "masks"):
        if getattr(settings, name) < 1:
            raise ValueError(f"{name} must be 1 or more, got {getattr(settings, name)}")
    if not settings.methods:
        raise ValueError("methods names at least one method")
    network = nd.load(settings.network)
    if settings.target is not None:
        wanted(network, settings)
    if not network.input.is_sound:
        raise ValueError(f"explain.py is for networks that hear, and this one takes a {network.input.kind!r}")
    settings = dataclasses.replace(settings, layer=settings.layer or last_layer_with_positions(network))
    names, x = inputs(network, settings)
    maps = settings.out.expanduser() / "maps"
    maps.mkdir(parents=True, exist_ok=True)
    found = []
    with progress_bar(len(names) * len(settings.methods), "map") as tick:
        for name, each in zip(names, x, strict=True):
            found.append(explained(network, name, each, settings, maps, tick))
    return page.write(network, found, settings)


def explained(
    network: nd.Network, name: str, x: np.ndarray, settings: Settings, folder: pathlib.Path, tick: Any
) -> page.Explained:
    """All maps of one sound, from the disk where they are there."""
    said = by_class.said(network, x[None], settings.part)[0]
    target = int(np.argmax(said)) if settings.target is None else wanted(network, settings)
    path = folder / f"{_identity(network, name, x, target, settings)}.npz"
    if path.is_file():
        with np.load(path) as stored:
            arrays = dict(stored)
        tick(len(settings.methods))
    else:
        arrays = {}
        for method in settings.methods:
            arrays |= {f"{method}/{key}": value for key, value in _one(network, x, target, method, settings).items()}
            tick(1)
        arrays["noise/deletion"] = _noise(network, x, target, settings)
        with sheets.drafted(path) as draft, open(draft, "wb") as file:
            np.savez_compressed(file, x=x, target=target, said=said, **arrays)
    return page.Explained(name, x, target, said, arrays)


def _one(network: nd.Network, x: np.ndarray, target: int, method: Method, settings: Settings) -> dict[str, np.ndarray]:
    """The map of one method, what it marks and leaves, and how well that serves."""
    found = attribution(network, x, target, method, settings)
    baseline = baseline_of(settings)
    kept, removed = nd.attribute.parts(x, found, share=None if method == "mask" else settings.share, baseline=baseline)
    chances = by_class.said(network, np.stack([kept, removed]), settings.part)
    arrays = {
        "map": np.asarray(found.values, np.float32),
        "time": found.along("time"),
        "kept": kept,
        "removed": removed,
        "kept_says": chances[0],
        "removed_says": chances[1],
    }
    if "frequency" in [axis.name for axis in found.axes]:
        arrays["frequency"] = found.along("frequency")
    if found.view is None:
        goal = nd.objectives.probability([target], part=settings.part)
        curves = nd.attribute.insertion_deletion(network, x, found, goal, baseline=baseline)
        arrays |= {"deletion": curves.deletion, "insertion": curves.insertion}
    return arrays


def attribution(
    network: nd.Network, x: np.ndarray, target: int, method: Method, settings: Settings
) -> nd.attribute.Attribution:
    """What one method says of one sound."""
    goal = nd.objectives.logit([target], part=settings.part)
    sure = nd.objectives.probability([target], part=settings.part)
    key, baseline = jax.random.key(settings.seed), baseline_of(settings)
    if method == "occlusion":
        windows: dict[str, Any] = {"time": settings.time, "time_stride": settings.time / 2}
        if settings.bands > 1:
            rate = network.input.sample_rate  # type: ignore[attr-defined]
            windows["frequency"] = nd.attribute.bands("erb", settings.bands, 0.0, rate / 2)
        return nd.attribute.occlusion(network, x, goal, baseline=baseline, **windows)
    if method == "mask":
        return nd.attribute.mask(network, x, sure, areas=settings.area, steps=settings.steps, baseline=baseline)
    if method == "rise":
        return nd.attribute.rise(network, x, sure, key=key, masks=settings.masks, baseline=baseline)
    if method == "integrated_gradients":
        return nd.attribute.integrated_gradients(network, x, goal, baseline=baseline)
    if method == "smooth_grad":
        return nd.attribute.smooth_grad(network, x, goal, key=key)
    if method == "input_x_gradient":
        return nd.attribute.input_x_gradient(network, x, goal, baseline=baseline)
    if method == "grad_cam":
        return nd.attribute.grad_cam(network, x, goal, settings.layer)
    return nd.attribute.saliency(network, x, goal)


def _noise(network: nd.Network, x: np.ndarray, target: int, settings: Settings) -> np.ndarray:
    """The deletion curve of a map of noise, what every method has to beat."""
    drawn = np.random.default_rng(settings.seed).normal(size=x.shape)
    goal = nd.objectives.probability([target], part=settings.part)
    return nd.attribute.insertion_deletion(network, x, drawn, goal, baseline=baseline_of(settings)).deletion


def baseline_of(settings: Settings) -> str | float:
    """The baseline of the command line: a name or a number."""
    try:
        return float(settings.baseline)
    except ValueError:
        return settings.baseline


def wanted(network: nd.Network, settings: Settings) -> int:
    """The class of the command line, by name, or by number where none is called so."""
    name: Any = settings.target
    if name.isdecimal() and name not in by_class.class_names(network, settings.part):
        name = int(name)
    return int(by_class.class_indices(network, [name], settings.part)[0])


def last_layer_with_positions(network: nd.Network) -> str:
    """For Grad-CAM: the last layer with as many axes of positions as the input has, "" when there is none."""
    rank = len(network.input.shape)
    fitting = [name for name, shape in nd.taps.layers(network).items() if len(shape) == rank and shape[0] > 1]
    return fitting[-1] if fitting else ""


def inputs(network: nd.Network, settings: Settings) -> tuple[list[str], np.ndarray]:
    """Names and inputs of the sounds."""
    domain: Any = network.input
    if settings.sounds is None:
        generator = nd.load(settings.generator)
        made = generators.make(generator, generators.inputs(generator, settings.seed, settings.count))
        x = jax.vmap(nd.domain.converter(generator.output, domain))(made)
        return [f"sample {number}" for number in range(settings.count)], np.asarray(x)
    read = nd.audio.read_folder(settings.sounds.expanduser(), domain.sample_rate, length=domain.samples)
    for skipped, why in read.skipped:
        print(f"left out {skipped}: {why}", file=sys.stderr)
    waves = np.stack(read.waves)[: settings.count]
    heard = waves[..., None] if domain.kind == "waveform" else np.asarray(domain.from_wave(waves))
    return [path.name for path in read.paths][: settings.count], heard


def _identity(network: nd.Network, name: str, x: np.ndarray, target: int, settings: Settings) -> str:
    """Everything that decides a sound's maps, as the name of a file."""
    places = ("sounds", "out", "count", "target", "generator", "network")
    deciding = {key: value for key, value in dataclasses.asdict(settings).items() if key not in places}
    told = json.dumps([digest(network), target, deciding], sort_keys=True, default=str)
    mixed = hashlib.sha256(told.encode() + np.ascontiguousarray(x, np.float32).tobytes()).hexdigest()[:16]
    return f"{pathlib.Path(name).stem[:40].replace(' ', '_')}-{mixed}"


if __name__ == "__main__":
    sys.exit(main())
