"""The network that `explain.py` opens, the sounds or pictures it reads, and what of the network is explained."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import nd_jax as nd
from nd_jax import generators
from nd_jax.experiments.adversarial import read_picture
from nd_jax.networks.importers import lenet, neural_dissection, torchvision
from nd_jax.networks.importers.states import read_state
from nd_jax.networks.importers.torch_zip import WeightsFileError
from nd_jax.visualize import classes as by_class

# A sound that is longer than its windows by less has no window more; in seconds.
_SLACK = 0.01
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")


@dataclasses.dataclass(frozen=True, eq=False)
class Aim:
    """What is explained of one input.

    Attributes:
      label: a class, or a unit such as "block2/conv:5".
      number: of the class, or of the unit.
      goal: what occlusion and gradients explain: a logit, or the unit's mean activation.
      sure: what masks and curves are about: a probability, or the same activation.
      is_unit: whether it is a unit of a layer.
    """

    label: str
    number: int
    goal: Any
    sure: Any
    is_unit: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Inputs:
    """What is explained: windows of sounds, or pictures.

    Attributes:
      names: of each; of a window of a longer sound with its place.
      values: (n, *network.input.shape).
      sources: of each the file that it is of.
      notes: of each what was done to make it fit, or "".
    """

    names: list[str]
    values: np.ndarray
    sources: list[str]
    notes: list[str]


def open_network(name: str, kind: str | None, labels: pathlib.Path | None) -> nd.Network:
    """A shipped network, a folder of Network.save, or a file of weights of a kind that is known.

    Raises:
      ValueError, OSError: it cannot be read, or takes neither one sound nor one picture.
    """
    place = pathlib.Path(name).expanduser()
    network = _imported(place, kind, labels) if place.is_file() else nd.load(name)
    if network.input.kind not in ("log_mel", "fbank", "waveform", "image"):
        raise ValueError(
            f"explain.py is for networks that hear or see, and this one takes an input of kind {network.input.kind!r}"
        )
    return network


def _imported(path: pathlib.Path, kind: str | None, labels: pathlib.Path | None) -> nd.Network:
    """The network in a file of weights, by what the file holds.

    Raises:
      ValueError, OSError: unreadable, or of no kind that is known.
    """
    names = None if labels is None else torchvision.read_labels(labels)
    if kind is not None:
        return torchvision.network(path, kind, labels=names)
    state = read_state(path)
    if any(name.endswith("main.0.weight") for name in state):
        return neural_dissection.network(path)
    if lenet.channels_of(state) == 1:
        return lenet.network(path, labels=names)
    try:
        found = torchvision.kind_of(path)
    except WeightsFileError:
        raise ValueError(
            f"{path} holds none of the networks that are known (GoogLeNet, VGG, LeNet of MNIST or CIFAR-10, "
            f"discriminator of Neural Dissection): its tensors are {', '.join(list(state)[:4])}"
        ) from None
    return torchvision.network(path, found, labels=names)


def unit_of(network: nd.Network, text: str) -> tuple[str, int]:
    """A layer and a number from LAYER:NUMBER, such as block2/conv:5.

    Raises:
      LayerError, ValueError: no such layer or unit, or another form.
    """
    layer, colon, number = text.rpartition(":")
    if not colon or not number.isdecimal():
        raise ValueError(f"a unit is LAYER:NUMBER, such as {_example(network)}, not {text!r}")
    count = nd.taps.layer_shape(network, layer)[-1]
    if int(number) >= count:
        raise ValueError(f"layer {layer!r} has units 0 to {count - 1}, and not {number}")
    return layer, int(number)


def _example(network: nd.Network) -> str:
    return f"{next(iter(nd.taps.layers(network)), 'block1/conv')}:0"


def aims(network: nd.Network, target: str | None, part: str | None, unit: str | None) -> Callable[[np.ndarray], Aim]:
    """From the settings, input -> what is explained of it.

    Raises:
      LayerError, ValueError: no such class, output or unit.
    """
    if unit is not None:
        if target is not None or part is not None:
            raise ValueError("a unit is explained in place of a class: leave target and part out")
        layer, number = unit_of(network, unit)
        objective = nd.objectives.channel(layer, [number])
        return lambda x: Aim(unit, number, objective, objective, True)
    names = by_class.class_names(network, part)
    if len(names) == 1:
        raise ValueError("this network has one output and no classes: say what is explained by --unit output:0")
    fixed = None if target is None else class_number(network, target, part)

    def of(x: np.ndarray) -> Aim:
        number = int(np.argmax(by_class.said(network, x[None], part)[0])) if fixed is None else fixed
        goal, sure = (make([number], part=part) for make in (nd.objectives.logit, nd.objectives.probability))
        return Aim(names[number], number, goal, sure, False)

    return of


def class_number(network: nd.Network, name: str, part: str | None) -> int:
    """A class of the command line, by name, or by number where none is called so.

    Raises:
      ValueError: no such class or output.
    """
    given: Any = int(name) if name.isdecimal() and name not in by_class.class_names(network, part) else name
    return int(by_class.class_indices(network, [given], part)[0])


def says(network: nd.Network, x: np.ndarray, aim: Aim, part: str | None) -> np.ndarray:
    """(n, classes) probabilities; of a unit (n, 1) its mean activations."""
    if not aim.is_unit:
        return by_class.said(network, x, part)
    layer, number = unit_of(network, aim.label)
    values = np.asarray(nd.taps.read(network, x, layer)[layer])[..., number]
    return values.reshape(len(values), -1).mean(axis=1, keepdims=True)


def inputs(network: nd.Network, folder: pathlib.Path | None, count: int, generator: str, seed: int) -> Inputs:
    """At most `count` windows of sounds, or pictures, in the order of the files.

    Raises:
      ValueError, OSError: nothing that can be read, or no folder where no generator helps.
    """
    domain: Any = network.input
    if folder is None:
        return _made(network, count, generator, seed)
    place = folder.expanduser()
    if not place.is_dir():
        raise ValueError(f"{place} is not a folder")
    return _sounds(place, domain, count) if domain.is_sound else _pictures(place, domain, count)


def _sounds(folder: pathlib.Path, domain: Any, count: int) -> Inputs:
    """Every sound in windows of the network's length; says on standard error what is left out, and how many are read.

    Raises:
      ValueError, OSError: no sound that can be read and heard.
    """
    read = nd.audio.read_folder(folder, domain.sample_rate)
    for skipped, why in read.skipped:
        print(f"left out {skipped}: {why}", file=sys.stderr)
    waves: list[np.ndarray] = []
    found = Inputs([], np.zeros(0), [], [])
    for path, wave in zip(read.paths, read.waves, strict=True):
        for start in window_starts(len(wave), domain.samples, domain.sample_rate):
            name, note = _place(path, len(wave), start, domain)
            part = wave[start : start + domain.samples]
            if nd.audio.loudness(part, domain.sample_rate) == -np.inf:
                print(f"left out {name}: silent", file=sys.stderr)
                continue
            waves.append(part)
            found.names.append(name)
            found.sources.append(str(path.relative_to(folder)))
            found.notes.append(note)
    if not waves:
        raise ValueError(f"all sounds in {folder} are silent")
    more = f"; {len(waves) - count} more are left out: --count has them" if len(waves) > count else ""
    files, windows = len(set(found.sources[:count])), len(waves[:count])
    print(f"{windows} window{'s' * (windows > 1)} of {files} sound{'s' * (files > 1)}{more}", file=sys.stderr)
    fitted = np.stack([nd.audio.fit(wave, domain.samples) for wave in waves[:count]])
    heard = fitted[..., None] if domain.kind == "waveform" else np.asarray(domain.from_wave(fitted))
    return Inputs(found.names[:count], heard, found.sources[:count], found.notes[:count])


def window_starts(samples: int, length: int, sample_rate: int) -> list[int]:
    """Where windows of a length begin in a sound: one after the other, the last where it ends with the sound."""
    if samples - length < _SLACK * sample_rate:
        return [0]
    return [*range(0, samples - length, length), samples - length]


def _place(path: pathlib.Path, samples: int, start: int, domain: Any) -> tuple[str, str]:
    """The name of a window of a sound, and what was done to make it fit."""
    rate, length = domain.sample_rate, domain.samples
    if samples < length:
        return path.name, f"{samples / rate:.2f} s long, followed by silence up to {length / rate:.2f} s."
    if samples - length < _SLACK * rate:
        missing = 1000 * (samples - length) / rate
        return path.name, f"Without its last {missing:.1f} ms." if missing >= 0.05 else ""
    first, last, whole = start / rate, (start + length) / rate, samples / rate
    return f"{path.stem}, {first:.2f} to {last:.2f} s", f"A window of a sound of {whole:.2f} s."


def _made(network: nd.Network, count: int, name: str, seed: int) -> Inputs:
    generator = nd.load(name)
    if generator.output.kind == "image" != network.input.kind or generator.output.is_sound != network.input.is_sound:
        raise ValueError(
            f"the generator {name} makes {generator.output.kind} and the network takes {network.input.kind}: give a "
            "folder with --sounds"
        )
    made = generators.make(generator, generators.inputs(generator, seed, count))
    x = jax.vmap(nd.domain.converter(generator.output, network.input))(made)
    names = [f"sample {number}" for number in range(count)]
    return Inputs(names, np.asarray(x), names, [""] * count)


def _pictures(folder: pathlib.Path, domain: Any, count: int) -> Inputs:
    """Picture files, and .npy arrays of one picture or several in the network's own values."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (*_PICTURES, ".npy"))
    names: list[str] = []
    sources: list[str] = []
    found: list[np.ndarray] = []
    skipped: list[str] = []
    for path in paths:
        try:
            if path.suffix.lower() == ".npy":
                read = _arrays(path, domain)
            else:
                read = read_picture(path, domain)[None]
        except (OSError, ValueError) as error:
            skipped.append(f"{path}: {error}")
            continue
        names += [path.name if len(read) == 1 else f"{path.name} {number}" for number in range(len(read))]
        sources += [path.name] * len(read)
        found.append(read)
        if len(names) >= count:
            break
    if not found:
        kinds = ", ".join((*_PICTURES, ".npy"))
        why = f"; the first is {skipped[0]}" if skipped else f" ({kinds})"
        raise ValueError(f"{folder} has no pictures that can be read{why}")
    for each in skipped:
        print(f"left out {each}", file=sys.stderr)
    return Inputs(names[:count], np.concatenate(found)[:count], sources[:count], [""] * len(names[:count]))


def _arrays(path: pathlib.Path, domain: Any) -> np.ndarray:
    values = np.load(path, allow_pickle=False)
    if values.shape[-len(domain.shape) :] != domain.shape and domain.shape[-1] == 1:
        values = values[..., None]
    if values.shape != domain.shape and values.shape[1:] != domain.shape:
        raise ValueError(f"an array of pictures has the shape {domain.shape} or (n, *{domain.shape})")
    broken = np.count_nonzero(~np.isfinite(values)) if values.dtype.kind in "fiub" else values.size
    if broken:
        raise ValueError(f"{broken} of its {values.size} values are no finite numbers")
    if not values.size or values.min() < domain.low or values.max() > domain.high:
        raise ValueError(f"values of this network's pictures lie between {domain.low:g} and {domain.high:g}")
    return np.asarray(values, np.float32).reshape(-1, *domain.shape)


def last_layer_with_positions(network: nd.Network) -> str:
    """For Grad-CAM: the last layer with as many axes of positions as the input has.

    Raises:
      ValueError: there is none.
    """
    rank = len(network.input.shape)
    fitting = [name for name, shape in nd.taps.layers(network).items() if len(shape) == rank and shape[0] > 1]
    if not fitting:
        raise ValueError("no layer of this network has positions, so grad_cam has nothing to show: leave it out")
    return fitting[-1]
