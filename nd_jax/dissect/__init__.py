"""Dissection: what the units of a network do on natural sounds, and what their weights say."""

from nd_jax.dissect.exemplars import QUANTILES, Exemplars, exemplars
from nd_jax.dissect.samples import samples
from nd_jax.dissect.straight import NotComposable
from nd_jax.dissect.tuning import Tuning, tuning
from nd_jax.dissect.weights import Weights, composed

__all__ = ["QUANTILES", "Exemplars", "NotComposable", "Tuning", "Weights", "composed", "exemplars", "samples", "tuning"]
