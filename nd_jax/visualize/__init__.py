"""Feature visualization: objectives, parameterizations, transforms, penalties, and the one optimizer."""

from nd_jax.visualize import objectives, parameterizations, penalties, presets, transforms, trust
from nd_jax.visualize.adversarial import Adversarial, Blend, adversarial, blend
from nd_jax.visualize.batch import visualize_batch
from nd_jax.visualize.classes import maximize_classes
from nd_jax.visualize.invariance import Invariance, invariance
from nd_jax.visualize.optimizers import adam
from nd_jax.visualize.result import Visualization, concatenate

__all__ = [
    "Adversarial",
    "Blend",
    "Invariance",
    "Visualization",
    "adam",
    "adversarial",
    "blend",
    "concatenate",
    "invariance",
    "maximize_classes",
    "objectives",
    "parameterizations",
    "penalties",
    "presets",
    "transforms",
    "trust",
    "visualize_batch",
]
