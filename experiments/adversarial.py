"""How little it takes to change an image classifier's mind: adversarial examples, and blending into a real picture.

    python experiments/adversarial.py --data-dir MNIST                                 # the shipped MNIST classifier
    python experiments/adversarial.py --network googlenet-1378be20.pth --labels imagenet_classes.txt --images fox.jpg
    python experiments/adversarial.py --network my_network --images a.png b.png --target cat --norm linf

The network is a shipped name, a folder that Network.save wrote, or a PyTorch, numpy or safetensors file of
torchvision's GoogLeNet or VGG or of the CIFAR-10 network of PyTorch's tutorial. For every picture (a) another class is
climbed within a budget, and the smallest budget that flips the answer is found; (b) three things are blended in: the
optimised picture of that class made of free pixels, the same made robustly, and, with --data-dir, a real one of it.

OUT/index.html is the page, OUT/figures.json has all numbers, OUT/adversarial.gif is the way of the last climb.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np

import nd_jax as nd
from nd_jax.experiments.adversarial_page import Found, Pictures, write
from nd_jax.networks.importers import torchvision
from nd_jax.runtime import nearest, require, script
from nd_jax.visualize.adversarial import BUDGETS, probabilities

_FILES = (".pt", ".pth", ".npz", ".safetensors")
# How many pictures of a data set are looked through for examples.
_SEARCHED = 2000


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to look into, which pictures, how far, and where to put what was found."""

    network: str = "checkpoints/mnist"
    """A shipped name, a folder that Network.save wrote, or a .pth, .pt, .npz or .safetensors file of weights."""
    kind: Literal["googlenet", "vgg16", "cifar10"] | None = None
    """Of a file: what it is; by default as its tensors say."""
    labels: pathlib.Path | None = None
    """Of a file: names of its classes, one a line or JSON; by default numbers (and CIFAR-10's own)."""
    size: int | None = None
    """Of a file: height and width of the pictures; by default 224 (32 for CIFAR-10)."""
    images: tuple[pathlib.Path, ...] = ()
    """Pictures of your own: cut to a square around the middle and resized."""
    data_dir: pathlib.Path | None = None
    """The files of a data set whose test examples are the pictures."""
    data_set: Literal["mnist"] = "mnist"
    """How to read data_dir."""
    examples: int = 8
    """Of data_dir: how many, from each class in turn, of those that the network gets right."""
    target: str = "runner-up"
    """The class to climb, by name or number; "runner-up" for the second most likely one of each picture."""
    norm: Literal["l2", "linf"] = "l2"
    """How far is measured: root-mean-square change, or largest change of a pixel."""
    budgets: tuple[float, ...] = BUDGETS
    """What is tried first, shares of the range of the pixels."""
    steps: int = 60
    """Of each climb within a budget."""
    learning_rate: float = 0.1
    """Of its Adam."""
    class_steps: int = 256
    """Of the optimised pictures of classes that are blended in."""
    out: pathlib.Path = pathlib.Path("out/adversarial")
    """The folder to write; other files in it stay."""
    seed: int = 0
    """Of everything random."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return script(Settings, run, arguments, __doc__)


def run(settings: Settings) -> pathlib.Path:
    """Does what the settings say; returns the path of index.html."""
    began = time.perf_counter()
    network = load(settings)
    given = pictures(network, settings)
    key = jax.random.key(settings.seed)
    targets = None if settings.target == "runner-up" else class_number(network, settings.target)

    # (a) The smallest change that flips the answer.
    found = nd.visualize.adversarial(
        network,
        given.inputs,
        targets,
        key=key,
        norm=settings.norm,
        budgets=settings.budgets,
        steps=settings.steps,
        learning_rate=settings.learning_rate,
    )

    # (b) Blending the class in.
    mixed = {}
    for name, others in classes(network, found.targets, settings, key).items():
        every = np.arange(len(given.inputs))
        mixed[name] = (others, nd.visualize.blend(network, given.inputs, others, found.targets), every)
    rows = np.asarray([row for row, target in enumerate(found.targets) if int(target) in given.natural], int)
    if rows.size:
        others = np.stack([given.natural[int(found.targets[row])] for row in rows])
        mixed["a real one"] = (
            others,
            nd.visualize.blend(network, given.inputs[rows], others, found.targets[rows]),
            rows,
        )
    done = Found(network, given, found, mixed, time.perf_counter() - began)
    return write(done, settings)


def load(settings: Settings) -> nd.Network:
    """The network of the settings.

    Raises:
      ValueError, OSError: it cannot be read, or is no image classifier with logits.
    """
    place = pathlib.Path(settings.network).expanduser()
    if place.suffix in _FILES:
        labels = None if settings.labels is None else torchvision.read_labels(settings.labels)
        network = torchvision.network(place, settings.kind, size=settings.size, labels=labels)
    else:
        network = nd.load(settings.network)
    if network.input.kind != "image":
        raise ValueError(f"{settings.network} takes {network.input.kind} inputs and no images")
    return network


def class_number(network: nd.Network, name: str) -> int:
    """The number of a class by its name or number.

    Raises:
      ValueError: no such class.
    """
    if name in network.labels:
        return network.labels.index(name)
    if name.isdecimal() and int(name) < network.output.shape[-1]:
        return int(name)
    raise ValueError(f"no class {name!r}; {nearest(name, network.labels)}")


def pictures(network: nd.Network, settings: Settings) -> Pictures:
    """The pictures of the settings.

    Raises:
      ValueError: none were given, or the network gets no example of the data set right.
      OSError: a file cannot be read.
    """
    if settings.images:
        read = [read_picture(path, network.input) for path in settings.images]
        return Pictures(np.stack(read), [path.stem for path in settings.images], {})
    if settings.data_dir is None:
        raise ValueError("there are no pictures: pass --images FILE ..., or --data-dir with a data set")
    if settings.examples < 1:
        raise ValueError(f"examples must be 1 or more, got {settings.examples}")
    data = nd.data.load(settings.data_set, "test", manual_dir=settings.data_dir)
    data = data.select(np.arange(min(_SEARCHED, len(data))))
    inputs, labels = data.fixed(network.input.low, network.input.high), data.labels
    network.check_batch(inputs)
    right = np.flatnonzero(probabilities(network, inputs).argmax(axis=1) == labels)
    if not right.size:
        raise ValueError(f"{settings.network} gets none of the first {len(labels)} test examples right")
    by_class = {
        int(number): [int(row) for row in right if labels[row] == number] for number in np.unique(labels[right])
    }
    turns = max(map(len, by_class.values()))
    order = [rows[turn] for turn in range(turns) for rows in by_class.values() if turn < len(rows)]
    chosen = order[: settings.examples]
    # The last one of each class is not among the examples, unless the class has no other.
    natural = {number: inputs[rows[-1]] for number, rows in by_class.items()}
    names = [f"{data.names['label'][labels[row]]} (test {row})" for row in chosen]
    return Pictures(inputs[chosen], names, natural)


def read_picture(path: pathlib.Path, domain: Any) -> np.ndarray:
    """A picture file as an input: the largest square around the middle, resized, black `low` and white `high`.

    Raises:
      OSError: no such file, or no picture.
    """
    pillow = require("PIL.Image", "report")
    height, width, channels = domain.shape
    if channels not in (1, 3):
        raise ValueError(f"a picture file has 1 or 3 channels, and this network takes {channels}")
    with pillow.open(path) as file:
        image = file.convert("L" if channels == 1 else "RGB")
    side = min(image.width / width, image.height / height)
    left, top = (image.width - side * width) / 2, (image.height - side * height) / 2
    box = (left, top, left + side * width, top + side * height)
    values = np.asarray(image.resize((width, height), pillow.Resampling.BICUBIC, box=box), np.float32)
    return values.reshape(domain.shape) / np.float32(255) * (domain.high - domain.low) + domain.low


def classes(network: nd.Network, targets: np.ndarray, settings: Settings, key: jax.Array) -> dict[str, np.ndarray]:
    """Optimised pictures of the target of every picture: of free pixels, and made robustly."""
    numbers = np.unique(targets)
    # At middle grey some networks have no gradient at all; in noise they have.
    plain = {"parameterization": nd.parameterizations.pixels(sd=1.0), "transforms": ()}
    ways: dict[str, dict[str, Any]] = {"free pixels": plain, "robust": {}}
    made = {}
    for name, how in ways.items():
        result = nd.visualize_batch(
            network, nd.objectives.logit(numbers), key=key, steps=settings.class_steps, snapshots=0, **how
        )
        made[name] = np.asarray(result.inputs)[np.searchsorted(numbers, targets)]
    return made


if __name__ == "__main__":
    sys.exit(main())
