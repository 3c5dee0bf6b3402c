"""Feature visualization: objectives, parameterizations, transforms, penalties, and the one optimizer, `visualize_batch`."""

from nd_jax.visualize import objectives, parameterizations, penalties, presets, transforms
from nd_jax.visualize.batch import default_optimizer, visualize_batch
from nd_jax.visualize.result import Visualization, concatenate

__all__ = [
    "Visualization",
    "concatenate",
    "default_optimizer",
    "objectives",
    "parameterizations",
    "penalties",
    "presets",
    "transforms",
    "visualize_batch",
]
