"""What `dissect_generator.py` finds: activations on random latents, latents of units, what perturbations are worth."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

import nd_jax as nd
from nd_jax import generators
from nd_jax.report.sheets import drafted
from nd_jax.visualize.parameterizations.latents import projected


@dataclasses.dataclass(frozen=True, eq=False)
class Usual:
    """Activations of a layer's units on random latents.

    Attributes:
      mean, spread, most: (units,), mean, standard deviation and 99.9th percentile.
      label: (units,), the class of the sample that excites a unit most; 0 without classes.
    """

    mean: np.ndarray
    spread: np.ndarray
    most: np.ndarray
    label: np.ndarray

    @staticmethod
    def of(values: np.ndarray, labels: np.ndarray | None) -> Usual:
        """From (samples, units)."""
        best = values.argmax(axis=0)
        chosen = np.zeros(values.shape[1], int) if labels is None else np.asarray(labels)[best]
        return Usual(values.mean(axis=0), values.std(axis=0), np.quantile(values, 0.999, axis=0), chosen)


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """The latents of a layer's units, the best of some starts each.

    Attributes:
      units: (n,).
      z: (n, size); label: (n,), the class that is asked for.
      scores: (n,); outputs: (n, *output.shape).
      agreement: (n,), cosine of the latents of the two best starts; NaN with one.
    """

    units: np.ndarray
    z: np.ndarray
    label: np.ndarray
    scores: np.ndarray
    outputs: np.ndarray
    agreement: np.ndarray

    @staticmethod
    def of(result: nd.Visualization, generator: nd.Network, units: np.ndarray, starts: int) -> Found:
        """From a run with `starts` lanes a unit."""
        scores = result.scores.reshape(-1, starts)
        order = np.argsort(-scores, axis=1)
        rows = np.arange(len(units))
        z = latents_of(result, generator).reshape(len(units), starts, -1)
        agreement = np.full(len(units), np.nan)
        if starts > 1:
            one, other = z[rows, order[:, 0]], z[rows, order[:, 1]]
            agreement = np.sum(one * other, axis=1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))
        best = z[rows, order[:, 0]].astype(np.float32)
        label = np.zeros(len(units), int)
        given: Any = best
        if generators.classes_of(generator):
            label = np.asarray(result.parameters["label"]["index"]).reshape(-1, starts)[:, 0].astype(np.int32)
            given = {"z": best, "label": label}
        made = generators.make(generator, given)
        return Found(units, best, label, scores.max(axis=1), made, agreement)

    def save(self, path: pathlib.Path, decides: Sequence[Any]) -> None:
        """Writes an npz file in one step."""
        arrays = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        with drafted(path) as draft, open(draft, "wb") as file:
            np.savez(file, decides=json.dumps(list(decides)), **arrays)

    @staticmethod
    def read(path: pathlib.Path, decides: Sequence[Any]) -> Found | None:
        """What `save` wrote for the same settings; None for anything else."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                if str(stored["decides"]) != json.dumps(list(decides)):
                    return None
                return Found(**{field.name: stored[field.name] for field in dataclasses.fields(Found)})
        except (OSError, KeyError, ValueError):
            return None


@dataclasses.dataclass(frozen=True, eq=False)
class Helped:
    """What a perturbation was worth.

    Attributes:
      best: (units,), the score, in standard deviations above the mean on random latents.
      shaken: (units,), the same after the latent was moved.
      agreement: (units,), cosine of the latents of two starts.
    """

    best: np.ndarray
    shaken: np.ndarray
    agreement: np.ndarray


def latents_of(result: nd.Visualization, generator: nd.Network) -> np.ndarray:
    """What the generator was given, (lanes, size)."""
    free = result.parameters["z"] if isinstance(result.parameters, dict) else result.parameters
    return np.asarray(projected(jnp.asarray(free), generators.latent_of(generator)))


def exact_optimum(generator: nd.Network, layer: str, units: np.ndarray) -> np.ndarray | None:
    """The most that a dense layer right behind the latent can give; None for any other layer.

    sqrt(d) ||w|| on the sphere that a normal latent is kept on, sum of |w| in the cube of a uniform one, and its bias.
    """
    latent = generators.latent_of(generator)
    found = generator.variables["params"].get(layer, {})
    if layer != next(iter(nd.taps.layers(generator))) or "kernel" not in found:
        return None
    kernel = np.asarray(found["kernel"])
    if kernel.ndim != 2 or kernel.shape[0] != latent.size:
        return None
    columns = kernel[:, units]
    if latent.law == "uniform":
        most = np.abs(columns).sum(axis=0)
    else:
        most = np.sqrt(latent.size) * np.linalg.norm(columns, axis=0)
    return most + (np.asarray(found["bias"])[units] if "bias" in found else 0.0)
