"""Moments of a training for `experiments/visualize.py`: each unit's picture, tuning and weights as training goes."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import nd_jax as nd
from nd_jax.experiments.visualize_cards import natural_inputs
from nd_jax.network import digest
from nd_jax.visualize import manifest
from nd_jax.visualize.result import slug
from nd_jax.visualize.trust import reading

_LISTENED = 256
# A run keeps the network itself, or a folder with the parts of a GAN.
_PARTS = ("", "network", "discriminator", "generator")


def history_of(folder: pathlib.Path) -> list[tuple[int, pathlib.Path]]:
    """The steps of a history/ folder and where each stands, in order.

    Raises:
      ValueError: no folder, or none of its folders is named after a step.
    """
    found = [(int(place.name), place) for place in _folders(folder) if place.name.isdigit()]
    if len(found) < 2:
        raise ValueError(
            f"{folder} does not hold two or more moments of a training, folders named after their steps; trainings "
            "keep them with --training.history 8"
        )
    return sorted(found)


def course(
    network: nd.Network,
    results: Sequence[nd.Visualization],
    natural: Mapping[str, Any] | None,
    folder: pathlib.Path,
    most: int,
    kept: pathlib.Path,
) -> list[nd.report.Moment]:
    """Looks into the network at moments of its training as `results` looked into it at the end.

    Args:
      network: the trained network.
      results: what was found in it, layer by layer; runs of the moments have the same keys and settings.
      natural: natural inputs, by which penalties are scaled to the activations of each moment.
      folder: history/ of the training.
      most: moments at most.
      kept: where results are written; those of an earlier run with the same networks and settings stay.

    Raises:
      ValueError: networks with other inputs or layers.
    """
    steps = history_of(folder)
    places = np.unique(np.linspace(0, len(steps) - 1, min(most, len(steps))).round().astype(int))
    inputs = None if natural is None else natural_inputs(network.input, natural, _LISTENED)
    found = []
    for step, place in [steps[number] for number in places]:
        then = _network(network, place)
        print(f"step {step}: ", end="", flush=True)
        made = [
            _result(network, then, result, inputs, kept / place.name / slug(result.layers[0])) for result in results
        ]
        layers = [result.layers[0] for result in results]
        tuning = nd.dissect.tuning(then, layers) if network.input.is_sound else None
        print(f"{sum(map(len, made))} units")
        found.append(nd.report.Moment(step, then, made, tuning))
    return found


def _folders(folder: pathlib.Path) -> list[pathlib.Path]:
    return [place for place in folder.iterdir() if place.is_dir()] if folder.is_dir() else []


def _network(network: nd.Network, place: pathlib.Path) -> nd.Network:
    """The network of a moment: of a GAN the part that takes what the trained network takes."""
    tried = [place / part for part in _PARTS if (place / part / "network.json").is_file()]
    for path in tried:
        then = nd.load(path)
        if then.input.to_dict() == network.input.to_dict() and nd.taps.layers(then) == nd.taps.layers(network):
            return then
    raise ValueError(f"{place} holds no network with the inputs and layers of the one that is looked into")


def _result(
    network: nd.Network, then: nd.Network, result: nd.Visualization, inputs: Any, folder: pathlib.Path
) -> nd.Visualization:
    """A layer's sweep in the network of a moment."""
    before = _kept(then, result, folder)
    if before is not None:
        return before
    assert result.objective is not None
    scale = np.ones(len(result)) if result.scale is None else np.asarray(result.scale)
    if inputs is not None:
        reader = reading.Reader(result.objective)
        spread, earlier = (reader.scores(one, inputs).std(axis=0) for one in (network, then))
        scale = scale * np.where(spread > 0, earlier / np.where(spread > 0, spread, 1.0), 1.0)
    settings = manifest.restore_settings(result.manifest, result.carried)
    found = nd.visualize_batch(
        then,
        result.objective,
        key=manifest.restore_key(result.manifest),
        scale=scale,
        **(settings | {"snapshots": 0, "restarts": 0}),
    )
    found.save(folder)
    return found


def _kept(then: nd.Network, result: nd.Visualization, folder: pathlib.Path) -> nd.Visualization | None:
    try:
        found = nd.Visualization.load(folder, network=then)
    except ValueError:
        return None
    asked = {**result.manifest["settings"], "snapshots": [], "restarts": 0}
    same = found.manifest["settings"] == asked and found.manifest["key"] == result.manifest["key"]
    return (
        found
        if same and found.labels == result.labels and found.manifest["network"]["digest"] == digest(then)
        else None
    )
