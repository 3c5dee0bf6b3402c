"""Feature visualization: objectives, parameterizations, transforms, penalties, and the one optimizer."""

from nd_jax.visualize import objectives, parameterizations, penalties, presets, transforms, trust
from nd_jax.visualize.adversarial import Adversarial, Blend, adversarial, blend
from nd_jax.visualize.asking import at_classes
from nd_jax.visualize.batch import visualize_batch
from nd_jax.visualize.classes import maximize_classes
from nd_jax.visualize.invariance import Invariance, invariance
from nd_jax.visualize.leaving import Converged, converged
from nd_jax.visualize.optimizers import adam
from nd_jax.visualize.result import Visualization, concatenate
from nd_jax.visualize.sweep import Sweep, open_sweep, sweep

__all__ = [
    "Adversarial",
    "Blend",
    "Converged",
    "Invariance",
    "Sweep",
    "Visualization",
    "adam",
    "adversarial",
    "at_classes",
    "blend",
    "concatenate",
    "converged",
    "invariance",
    "maximize_classes",
    "objectives",
    "open_sweep",
    "parameterizations",
    "penalties",
    "presets",
    "sweep",
    "transforms",
    "trust",
    "visualize_batch",
]
