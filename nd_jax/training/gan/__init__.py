"""Training of generative adversarial networks: any generator, discriminator and loss through one data-parallel loop."""

from nd_jax.training.gan.loop import TrainedGan, as_networks, train
from nd_jax.training.gan.losses import LOSSES, AdversarialLoss, adversarial_loss
from nd_jax.training.gan.settings import Settings
from nd_jax.training.gan.step import Gan, make_step
from nd_jax.training.gan.task import GanTask

__all__ = [
    "LOSSES",
    "AdversarialLoss",
    "Gan",
    "GanTask",
    "Settings",
    "TrainedGan",
    "adversarial_loss",
    "as_networks",
    "make_step",
    "train",
]
