"""Dissection: what the units of a network do on natural sounds."""

from nd_jax.dissect.exemplars import QUANTILES, Exemplars, exemplars

__all__ = ["QUANTILES", "Exemplars", "exemplars"]
