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
from nd_jax.networks.importers import torchvision
from nd_jax.visualize import classes as by_class

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


def open_network(name: str, kind: str | None, labels: pathlib.Path | None) -> nd.Network:
    """A shipped network, a folder of Network.save, or a file of weights (torchvision's networks).

    Raises:
      ValueError, OSError: it cannot be read, or takes neither one sound nor one picture.
    """
    place = pathlib.Path(name).expanduser()
    if place.is_file():
        names = None if labels is None else torchvision.read_labels(labels)
        network = torchvision.network(place, kind, labels=names)
    else:
        network = nd.load(name)
    if network.input.kind not in ("log_mel", "waveform", "image"):
        raise ValueError(
            f"explain.py is for networks that hear or see, and this one takes an input of kind {network.input.kind!r}"
        )
    return network


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


def inputs(
    network: nd.Network, folder: pathlib.Path | None, count: int, generator: str, seed: int
) -> tuple[list[str], np.ndarray]:
    """Names and inputs, (n, *network.input.shape), of at most `count` sounds or pictures.

    Raises:
      ValueError, OSError: nothing that can be read, or no folder where no generator helps.
    """
    domain: Any = network.input
    if folder is None:
        return _made(network, count, generator, seed)
    place = folder.expanduser()
    if not place.is_dir():
        raise ValueError(f"{place} is not a folder")
    if not domain.is_sound:
        return _pictures(place, domain, count)
    read = nd.audio.read_folder(place, domain.sample_rate, length=domain.samples)
    for skipped, why in read.skipped:
        print(f"left out {skipped}: {why}", file=sys.stderr)
    waves = np.stack(read.waves)[:count]
    heard = waves[..., None] if domain.kind == "waveform" else np.asarray(domain.from_wave(waves))
    return [path.name for path in read.paths][:count], heard


def _made(network: nd.Network, count: int, name: str, seed: int) -> tuple[list[str], np.ndarray]:
    generator = nd.load(name)
    if generator.output.kind == "image" != network.input.kind or generator.output.is_sound != network.input.is_sound:
        raise ValueError(
            f"the generator {name} makes {generator.output.kind} and the network takes {network.input.kind}: give a "
            "folder with --sounds"
        )
    made = generators.make(generator, generators.inputs(generator, seed, count))
    x = jax.vmap(nd.domain.converter(generator.output, network.input))(made)
    return [f"sample {number}" for number in range(count)], np.asarray(x)


def _pictures(folder: pathlib.Path, domain: Any, count: int) -> tuple[list[str], np.ndarray]:
    """Picture files, and .npy arrays of one picture or several in the network's own values."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (*_PICTURES, ".npy"))
    names: list[str] = []
    found: list[np.ndarray] = []
    for path in paths:
        try:
            if path.suffix.lower() == ".npy":
                read = _arrays(path, domain)
            else:
                read = read_picture(path, domain)[None]
        except (OSError, ValueError) as error:
            print(f"left out {path}: {error}", file=sys.stderr)
            continue
        names += [path.name if len(read) == 1 else f"{path.name} {number}" for number in range(len(read))]
        found.append(read)
        if len(names) >= count:
            break
    if not found:
        kinds = ", ".join((*_PICTURES, ".npy"))
        raise ValueError(f"{folder} has no pictures that can be read ({kinds})")
    return names[:count], np.concatenate(found)[:count]


def _arrays(path: pathlib.Path, domain: Any) -> np.ndarray:
    values = np.load(path, allow_pickle=False)
    if values.shape[-len(domain.shape) :] != domain.shape and domain.shape[-1] == 1:
        values = values[..., None]
    if values.shape != domain.shape and values.shape[1:] != domain.shape:
        raise ValueError(f"an array of pictures has the shape {domain.shape} or (n, *{domain.shape})")
    if not np.all(np.isfinite(values)) or values.min() < domain.low or values.max() > domain.high:
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
