"""Handwritten digits: the two GANs of "Neural Dissection", repaired, and as their source has them.

    python experiments/train_gan.py dcgan-mnist --data-dir MNIST --out runs/dcgan_mnist
    python experiments/train_gan.py wgan-mnist --data-dir MNIST --out runs/wgan_mnist
    python experiments/train_gan.py dcgan-mnist-source --data-dir MNIST --out runs/dcgan_mnist_source
    python experiments/train_gan.py wgan-mnist-source --data-dir MNIST --out runs/wgan_mnist_source

MNIST is a folder with the four idx files. On 2 CPU cores that did other work too the first took 51 minutes and the
second 24; the source's take days there. Of 1,000 samples the judge is sure of 86.8 % and 85.3 % (of real images of
98.5 %), every digit makes up more than 8 %: see the model cards of the shipped networks.
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any, ClassVar

from nd_jax import data
from nd_jax.domain import Image
from nd_jax.experiments.configs import describe, pixels
from nd_jax.experiments.configs.gans import GanExperiment, GanRecipe, check_batch
from nd_jax.networks.dcgan import Discriminator, Generator
from nd_jax.training import gan

_LATENT = 100


@dataclasses.dataclass(frozen=True)
class DcganMnist(GanRecipe):
    """A DCGAN: binary cross-entropy, batch normalisation in the discriminator; smaller than its source."""

    out: pathlib.Path = pathlib.Path("runs/dcgan_mnist")
    """Where networks, measures, samples and checkpoints go; the same folder again goes on with an interrupted run."""
    judge: str = "checkpoints/mnist"
    """The classifier that samples are measured by: a network's folder or the name of a shipped one; "" for none."""
    hidden: int = 32
    """Channels next to the image, twice and four times as many further in; the source has 64."""
    critic_hidden: int = 64
    """Channels of the discriminator's first convolution, twice as many of the second."""
    features: int = 256
    """Units of a dense layer after the latent and of one before the discriminator's score; 0, as in the source, for
    none."""
    dropout: float = 0.0
    """Rate in the discriminator; the source has 0.3."""
    images: int = 60000
    """At most so many of the training images."""
    training: gan.Settings = gan.Settings(
        steps=9000,
        batch_size=64,
        loss="non_saturating",
        reuse_fakes=True,
        generator_lr=8e-4,
        discriminator_lr=2e-4,
        beta1=0.5,
        beta2=0.999,
        schedule="linear",
        ema=0.998,
        log_every=50,
        save_every=250,
        watch_every=500,
        history=12,
    )

    family: ClassVar[str] = "dcgan_mnist"
    critic: ClassVar[dict[str, Any]] = {"sigmoid": False, "whole": True}
    told: ClassVar[str] = (
        "DCGAN of Neural Dissection with half its channels in the generator and one more dense layer in both networks: "
        "non-saturating loss; a discriminator with batch norm, without dropout"
    )

    @property
    def domain(self) -> Image:
        """What is made: 28 x 28 pixels, black is -1 and white is 1."""
        return Image((28, 28, 1), -1.0, 1.0)

    def experiment(self) -> GanExperiment:
        """The training on the official training images; the official test images are the real ones to compare with."""
        domain = self.domain
        train, test = (
            data.load("mnist", split, manual_dir=self.data_dir, data_dir=self.prepared_dir)
            for split in ("train", "test")
        )
        arrays = {"image": train.images[: self.images]}
        check_batch(len(arrays["image"]), self.training)
        return GanExperiment(
            title=f"{len(arrays['image'])} images of handwritten digits",
            generator=Generator(latent=_LATENT, hidden=self.hidden, features=self.features),
            discriminator=Discriminator(
                hidden=self.critic_hidden, dropout=self.dropout, features=self.features, **self.critic
            ),
            task=gan.GanTask(arrays, lambda key, example: pixels(example["image"], domain), domain, _LATENT),
            held_out={"image": test.images},
            card={
                "name": self.family,
                "task": "Makes images of handwritten digits from a latent of 100 normal numbers.",
                "intended_use": "a small image GAN to open up: what its units make, what its discriminator looks at",
                "limits": "28 x 28 pixels, no choice of the digit; a few samples are no digit; figures are those of "
                "our own small classifier, which calls everything a digit",
                "data": f"MNIST: {len(arrays['image']):,} training images; the {len(test):,} test images only to "
                "measure by",
                "source": "http://yann.lecun.com/exdb/mnist",
                "licence": "CC BY-SA 3.0 (Yann LeCun, Corinna Cortes, Christopher J. C. Burges)",
                "split": "official",
                "front_end": describe(domain),
                "network": self.told,
            },
        )


@dataclasses.dataclass(frozen=True)
class DcganMnistSource(DcganMnist):
    """The DCGAN exactly as its source trained it: 48,000 images, batch 256, Adam 1e-4 with betas 0.9 and 0.999."""

    out: pathlib.Path = pathlib.Path("runs/dcgan_mnist_source")
    """Where networks, measures, samples and checkpoints go; the same folder again goes on with an interrupted run."""
    hidden: int = 64
    """Channels next to the image."""
    features: int = 0
    """Units of a dense layer after the latent and of one before the discriminator's score."""
    dropout: float = 0.3
    """Rate in the discriminator."""
    images: int = 48000
    """At most so many of the training images."""
    training: gan.Settings = gan.Settings(
        steps=200 * 187,
        batch_size=256,
        loss="non_saturating",
        reuse_fakes=True,
        generator_lr=1e-4,
        discriminator_lr=1e-4,
        beta1=0.9,
        beta2=0.999,
        ema=0.0,
        log_every=37,
        save_every=185,
        watch_every=1850,
        history=12,
    )

    family: ClassVar[str] = "dcgan_mnist_source"
    critic: ClassVar[dict[str, Any]] = {"sigmoid": False}
    told: ClassVar[str] = "DCGAN of Neural Dissection as it was: 200 epochs of 187 batches of 256"


@dataclasses.dataclass(frozen=True)
class WganMnist(DcganMnist):
    """A Wasserstein GAN with gradient penalty and a critic as the method wants it: no sigmoid, no batch norm."""

    out: pathlib.Path = pathlib.Path("runs/wgan_mnist")
    """Where networks, measures, samples and checkpoints go; the same folder again goes on with an interrupted run."""
    critic_hidden: int = 32
    """Channels of the critic's first convolution, twice as many of the second."""
    training: gan.Settings = gan.Settings(
        steps=5000,
        batch_size=64,
        loss="wasserstein",
        penalty="gradient_penalty",
        critic_steps=3,
        generator_lr=6e-4,
        discriminator_lr=4e-4,
        beta1=0.0,
        beta2=0.9,
        schedule="linear",
        ema=0.998,
        log_every=50,
        save_every=250,
        watch_every=250,
        history=12,
    )

    family: ClassVar[str] = "wgan_mnist"
    critic: ClassVar[dict[str, Any]] = {"sigmoid": False, "batch_norm": False, "whole": True}
    told: ClassVar[str] = (
        "WGAN-GP of Neural Dissection with half its channels, one more dense layer in both networks and a repaired "
        "critic: no sigmoid, no batch norm, no dropout, three updates a step with images of their own"
    )


@dataclasses.dataclass(frozen=True)
class WganMnistSource(DcganMnistSource):
    """The WGAN-GP exactly as its source trained it: a critic with sigmoid, batch norm and dropout, five updates."""

    out: pathlib.Path = pathlib.Path("runs/wgan_mnist_source")
    """Where networks, measures, samples and checkpoints go; the same folder again goes on with an interrupted run."""
    training: gan.Settings = gan.Settings(
        steps=100 * 187,
        batch_size=256,
        loss="wasserstein",
        penalty="gradient_penalty",
        critic_steps=5,
        same_batch=True,
        generator_lr=1e-4,
        discriminator_lr=1e-4,
        beta1=0.9,
        beta2=0.999,
        ema=0.0,
        log_every=37,
        save_every=185,
        watch_every=1850,
        history=12,
    )

    family: ClassVar[str] = "wgan_mnist_source"
    critic: ClassVar[dict[str, Any]] = {"sigmoid": True}
    told: ClassVar[str] = (
        "WGAN-GP of Neural Dissection as it was: critic with sigmoid, batch norm and dropout, five updates with the "
        "same images, 100 epochs of 187 batches of 256"
    )
