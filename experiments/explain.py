"""What in these sounds or pictures spoke for what a network says: a folder in, a page to look at and listen to out.

    python experiments/explain.py --sounds recordings                      # spoken digits, your recordings
    python experiments/explain.py --network checkpoints/esc10 --sounds clips --target dog
    python experiments/explain.py --sounds recordings --units block2/relu  # and where every unit of a layer is active
    python experiments/explain.py --sounds recordings --unit block2/relu:5 # what drives one unit, in place of a class
    python experiments/explain.py --network checkpoints/mnist --pictures digits
    python experiments/explain.py --network cifar_torchvision.pt --pictures photographs
    python experiments/explain.py                                          # samples of the shipped generator instead

For every sound and method: where the class comes from, over the spectrogram and along time and frequency; what is
marked and what is left as sound; what the network says to each; how fast its probability falls when the marked is
deleted first, beside a map of noise. The last command, ten sounds and four methods, takes 46 s on 2 idle cores.

A sound that is longer than what the network hears at once is cut into windows, the last of which ends with it, and each
is explained on its own (silent ones are left out); a shorter one is followed by silence.

A sound that is done is kept in OUT/maps and never done again: run the same command after Ctrl-C or a kill and it goes
on. OUT/index.html is the page, OUT/units/N/index.html that of the units of sound N, OUT/figures.json has all numbers,
OUT/maps/*.npz all maps (docs/attribution.md says what is in them).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import nd_jax as nd
from nd_jax.attribute import receptive
from nd_jax.experiments import explain_page as page
from nd_jax.experiments import explain_units as units
from nd_jax.experiments.explain_inputs import Aim, aims, inputs, last_layer_with_positions, open_network, says
from nd_jax.network import digest
from nd_jax.report import sheets
from nd_jax.runtime import progress_bar, script

Method = Literal[
    "occlusion", "mask", "integrated_gradients", "smooth_grad", "input_x_gradient", "saliency", "rise", "grad_cam"
]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Which sounds or pictures, which network, which methods, and where to put what was found."""

    network: str = "checkpoints/spoken_digits"
    """A network that hears or sees: a shipped name, a folder that Network.save wrote, or a file of weights of
    torchvision's VGG or GoogLeNet, a LeNet of MNIST or CIFAR-10 or a discriminator of Neural Dissection."""
    kind: Literal["googlenet", "vgg16", "cifar10"] | None = None
    """Of a file of weights: what it is; by default as its tensors say."""
    labels: pathlib.Path | None = None
    """Of a file of weights: names of its classes, one a line or JSON."""
    sounds: pathlib.Path | None = None
    """A folder of sound files; without, samples of the generator."""
    pictures: pathlib.Path | None = None
    """A folder of pictures (.png, .jpg, .npy), for a network that sees."""
    generator: str = "checkpoints/conditional_mel_gan"
    """Makes the sounds when there is no folder."""
    count: int = 10
    """At most so many windows of sounds (a sound that is longer than what the network hears at once has several), or
    pictures."""
    target: str | None = None
    """What is explained, a class by name or number; by default what the network says to each sound."""
    part: str | None = None
    """Which output, for a network with several."""
    unit: str | None = None
    """LAYER:NUMBER, a unit that is explained in place of a class."""
    units: str | None = None
    """A layer: where every unit of it is active on each sound, and what it hears, on a page of their own."""
    methods: tuple[Method, ...] = ("occlusion", "mask", "integrated_gradients", "rise")
    """In this order on the page."""
    time: float = 0.1
    """Width of an occluded window, in seconds; windows overlap by half."""
    bands: int = 10
    """Occluded bands, of equal width on the ERB scale; 1 for windows over time alone."""
    low: float = 0.0
    """Lower edge of the bands, in Hz."""
    high: float | None = None
    """Upper edge, in Hz; by default half the sample rate."""
    window: int | None = None
    """Of pictures: side of an occluded square, in pixels; by default a fifth of the smaller side."""
    stride: int | None = None
    """Of pictures: pixels from one square to the next; by default half the side of the square."""
    baseline: str = "silence"
    """What stands where something is taken away: silence (middle grey of pictures), mean, band_mean, blur, or a number
    in the network's own values; of pictures the lowest of them is black, -1 of the shipped mnist."""
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
    network, aim, settings = checked(settings)
    folder = settings.sounds if network.input.is_sound else settings.pictures
    given = inputs(network, folder, settings.count, settings.generator, settings.seed)
    out = settings.out.expanduser()
    (out / "maps").mkdir(parents=True, exist_ok=True)
    found = []
    with progress_bar(len(given.names) * len(settings.methods), "map") as tick:
        for name, each, source, note in zip(given.names, given.values, given.sources, given.notes, strict=True):
            maps = explained(network, name, each, aim(each), settings, out / "maps", tick)
            found.append(dataclasses.replace(maps, source=source, note=note))
    linked = []
    if settings.units is not None:
        with progress_bar(len(found), "page of units") as tick:
            for number, each in enumerate(found):
                linked.append(units.write(network, each, number, settings.units, baseline_of(settings), out))
                tick(1)
    return page.write(network, found, settings, linked)


def checked(settings: Settings) -> tuple[nd.Network, Callable[[np.ndarray], Aim], Settings]:
    """The network and what is explained, once all of the settings are known to fit, before anything runs.

    Raises:
      LayerError, ValueError, OSError: the first thing that does not, in one sentence.
    """
    for name in ("count", "bands", "steps", "masks", "window", "stride"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} must be 1 or more, got {value}")
    if not settings.methods and settings.units is None:
        raise ValueError("methods names at least one method")
    taken = next(
        (place for place in (settings.out, *settings.out.parents) if place.expanduser().exists()), settings.out
    )
    if taken.expanduser().is_file():
        raise ValueError(f"out is a folder, and {taken} is a file")
    network = open_network(settings.network, settings.kind, settings.labels)
    sees = not network.input.is_sound
    if (settings.sounds if sees else settings.pictures) is not None:
        raise ValueError(
            "this network sees: its folder is --pictures" if sees else "this network hears: its folder is --sounds"
        )
    if sees and settings.pictures is None:
        raise ValueError("this network sees: give a folder with --pictures")
    if settings.baseline in ("noise", "neighbours"):
        raise ValueError(f"baseline is silence, mean, band_mean, blur or a number, and not {settings.baseline!r}")
    _belong(network, settings)
    aim = aims(network, settings.target, settings.part, settings.unit)
    nd.attribute.baseline_of(network.input, jnp.zeros((1, *network.input.shape)), baseline_of(settings))
    for name, ends in {"share": (0.0, 1.0), "area": (0.0, 1.0)}.items():
        if not ends[0] < getattr(settings, name) < ends[1]:
            raise ValueError(f"{name} must be between 0 and 1, got {getattr(settings, name)}")
    if "occlusion" in settings.methods:
        nd.attribute.grid(_seen(network, settings), **windows(network, settings))
    if "grad_cam" in settings.methods:
        settings = dataclasses.replace(settings, layer=settings.layer or last_layer_with_positions(network))
        receptive.positions_of(network, settings.layer)
    if settings.units is not None:
        receptive.positions_of(network, settings.units)
    return network, aim, settings


def _belong(network: nd.Network, settings: Settings) -> None:
    """Raises ValueError for settings of sounds with pictures or the other way, and for numbers that do not fit."""
    domain: Any = network.input
    own, others = ("sounds", "pictures") if not domain.is_sound else ("pictures", "sounds")
    foreign = ("time", "bands", "low", "high") if own == "sounds" else ("window", "stride")
    for name in foreign:
        if getattr(settings, name) != getattr(Settings, name):
            raise ValueError(f"{name} is of {own}, and this network takes {others}: leave it out")
    number = baseline_of(settings)
    if isinstance(number, float) and not domain.low <= number <= domain.high:
        raise ValueError(
            f"a baseline lies in the values of this network's inputs, {domain.low:g} to {domain.high:g}, and "
            f"{settings.baseline} does not"
        )
    if domain.is_sound and "occlusion" in settings.methods:
        steps = next((len(axis.values) for axis in _seen(network, settings).axes if axis.name == "frequency"), 1)
        if settings.bands > steps:
            raise ValueError(f"bands must be at most {steps}, the steps of the frequency axis, got {settings.bands}")


def explained(
    network: nd.Network, name: str, x: np.ndarray, aim: Aim, settings: Settings, folder: pathlib.Path, tick: Any
) -> page.Explained:
    """All maps of one sound, from the disk where they are there."""
    said = says(network, x[None], aim, settings.part)[0]
    path = folder / f"{_identity(network, name, x, aim, settings)}.npz"
    if path.is_file():
        with np.load(path) as stored:
            arrays = dict(stored)
        tick(len(settings.methods))
    else:
        arrays = {}
        for method in settings.methods:
            arrays |= {f"{method}/{key}": value for key, value in _one(network, x, aim, method, settings).items()}
            tick(1)
        arrays["noise/deletion"] = _noise(network, x, aim, settings)
        with sheets.drafted(path) as draft, open(draft, "wb") as file:
            np.savez_compressed(file, x=x, target=aim.number, label=aim.label, said=said, **arrays)
    return page.Explained(name, x, aim, said, arrays)


def _one(network: nd.Network, x: np.ndarray, aim: Aim, method: Method, settings: Settings) -> dict[str, np.ndarray]:
    """The map of one method, what it marks and leaves, and how well that serves."""
    found = attribution(network, x, aim, method, settings)
    baseline = baseline_of(settings)
    kept, removed = nd.attribute.parts(x, found, share=None if method == "mask" else settings.share, baseline=baseline)
    chances = says(network, np.stack([kept, removed]), aim, settings.part)
    arrays = {
        "map": np.asarray(found.values, np.float32),
        "method": np.asarray(found.method),
        "score": np.asarray(found.scores, np.float32).reshape(()),
        "kept": kept,
        "removed": removed,
        "kept_says": chances[0],
        "removed_says": chances[1],
    }
    arrays |= {axis.name: found.along(axis.name) for axis in found.axes if axis.name in ("time", "frequency")}
    if found.error is not None:
        arrays |= {"sum": np.sum(found.values, dtype=np.float64), "error": np.asarray(found.error).reshape(())}
    if found.view is None:
        curves = nd.attribute.insertion_deletion(network, x, found, aim.sure, baseline=baseline)
        arrays |= {"deletion": curves.deletion, "insertion": curves.insertion}
    return arrays


def attribution(
    network: nd.Network, x: np.ndarray, aim: Aim, method: Method, settings: Settings
) -> nd.attribute.Attribution:
    """What one method says of one sound."""
    key, baseline = jax.random.key(settings.seed), baseline_of(settings)
    if method == "occlusion":
        return nd.attribute.occlusion(network, x, aim.goal, baseline=baseline, **windows(network, settings))
    if method == "mask":
        return nd.attribute.mask(network, x, aim.sure, areas=settings.area, steps=settings.steps, baseline=baseline)
    if method == "rise":
        return nd.attribute.rise(network, x, aim.sure, key=key, masks=settings.masks, baseline=baseline)
    if method == "integrated_gradients":
        return nd.attribute.integrated_gradients(network, x, aim.goal, baseline=baseline)
    if method == "smooth_grad":
        return nd.attribute.smooth_grad(network, x, aim.goal, key=key)
    if method == "input_x_gradient":
        return nd.attribute.input_x_gradient(network, x, aim.goal, baseline=baseline)
    if method == "grad_cam":
        return nd.attribute.grad_cam(network, x, aim.goal, settings.layer)
    return nd.attribute.saliency(network, x, aim.goal)


def windows(network: nd.Network, settings: Settings) -> dict[str, Any]:
    """What `occlusion` and `grid` are told of the windows."""
    domain: Any = network.input
    if not domain.is_sound:
        side = settings.window or max(1, min(domain.shape[:2]) // 5)
        stride = settings.stride or max(1, side // 2)
        return {"window": (side, side, domain.shape[2]), "stride": (stride, stride, domain.shape[2])}
    found: dict[str, Any] = {"time": settings.time, "time_stride": settings.time / 2}
    if settings.bands > 1:
        high = domain.sample_rate / 2 if settings.high is None else settings.high
        found["frequency"] = nd.attribute.bands("erb", settings.bands, settings.low, high)
    return found


def _seen(network: nd.Network, settings: Settings) -> Any:
    """What the windows of occlusion are laid over."""
    domain: Any = network.input
    return nd.attribute.TimeFrequency(domain) if domain.kind == "waveform" and settings.bands > 1 else domain


def _noise(network: nd.Network, x: np.ndarray, aim: Aim, settings: Settings) -> np.ndarray:
    """The deletion curve of a map of noise, what every method has to beat."""
    drawn = np.random.default_rng(settings.seed).normal(size=x.shape)
    return nd.attribute.insertion_deletion(network, x, drawn, aim.sure, baseline=baseline_of(settings)).deletion


def baseline_of(settings: Settings) -> str | float:
    """The baseline of the command line: a name or a number."""
    try:
        return float(settings.baseline)
    except ValueError:
        return settings.baseline


def _identity(network: nd.Network, name: str, x: np.ndarray, aim: Aim, settings: Settings) -> str:
    """Everything that decides a sound's maps, as the name of a file."""
    places = ("sounds", "pictures", "out", "count", "target", "unit", "units", "generator", "network", "kind", "labels")
    deciding = {key: value for key, value in dataclasses.asdict(settings).items() if key not in places}
    told = json.dumps([digest(network), aim.label, aim.number, deciding], sort_keys=True, default=str)
    mixed = hashlib.sha256(told.encode() + np.ascontiguousarray(x, np.float32).tobytes()).hexdigest()[:16]
    stem = re.sub(r"[^\w.-]+", "_", re.sub(r"[.]\w+$", "", name))
    return f"{stem[:40]}-{mixed}"


if __name__ == "__main__":
    sys.exit(main())
