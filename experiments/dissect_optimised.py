"""Optimised sounds of some units for `experiments/dissect.py`, layer by layer kept, with their trust cards."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

import nd_jax as nd
from nd_jax.experiments.dissect_marks import Marks
from nd_jax.experiments.dissect_sounds import Heard
from nd_jax.experiments.visualize_cards import Judge
from nd_jax.network import digest
from nd_jax.visualize.result import slug
from nd_jax.visualize.trust import Trust

if TYPE_CHECKING:
    from nd_jax.experiments.dissect import Settings

# Clips that trust cards hold optimised sounds against, at most.
_NATURAL = 512
# As in experiments/visualize.py: standard deviations of activation that one dB of mean level costs.
_QUIET = 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class Seen:
    """What the units' pages show beside labels and tuning.

    Attributes:
      results: one a layer.
      exemplars: the clips of these units.
      cards: one a result, or none.
    """

    results: list[nd.Visualization]
    exemplars: nd.dissect.Exemplars
    cards: list[Trust]


def look(network: nd.Network, heard: Heard, settings: Settings, marks: Marks) -> Seen:
    """Optimises the first units of every layer, and finds the clips that they answer to."""
    units = {layer: range(min(settings.units, count)) for layer, count in heard.record.units.items()}
    exemplars = _exemplars(network, heard, units, settings, marks)
    judge = _judge(network, heard, settings)
    results, cards = [], []
    for layer, some in units.items():
        result = _result(network, layer, some, exemplars, settings, marks)
        results.append(result)
        card = judge.card(result, marks.folder / "results" / slug(layer), exemplars)
        cards += [] if card is None else [card]
        dead = sum(status.startswith("dead") for status in result.status)
        print(f"      {layer}: {len(result)} units" + (f", {dead} dead" if dead else ""), flush=True)
    return Seen(results, exemplars, cards)


def _exemplars(
    network: nd.Network, heard: Heard, units: dict[str, range], settings: Settings, marks: Marks
) -> nd.dissect.Exemplars:
    path = marks.folder / "exemplars.npz"
    decides = {
        "network": digest(network),
        "clips": heard.named,
        "units": {layer: len(some) for layer, some in units.items()},
    }
    if not marks.kept("exemplars", decides, path):
        size = max(8, settings.batch_size)
        found = nd.dissect.recorded_exemplars(
            network, heard.record, heard.read, units=units, pool="mean", batch_size=size
        )
        found.save(path)
        marks.done("exemplars", decides)
    return nd.dissect.Exemplars.load(path)


def _judge(network: nd.Network, heard: Heard, settings: Settings) -> Judge:
    count = len(heard.record.clips)
    natural = None
    if settings.trust != "none" and count > 1:
        rows = np.unique(np.linspace(0, count - 1, min(count, _NATURAL)).round().astype(int))
        natural = {"waves": heard.read(rows), "sample_rate": heard.sample_rate}
    return Judge(network, natural, settings.trust, settings.seed)


def _result(
    network: nd.Network,
    layer: str,
    units: range,
    exemplars: nd.dissect.Exemplars,
    settings: Settings,
    marks: Marks,
) -> nd.Visualization:
    folder = marks.folder / "results" / slug(layer)
    # A dead unit is started again from the clips, so they decide too.
    decides = {
        "network": digest(network),
        "units": len(units),
        "steps": settings.steps,
        "seed": settings.seed,
        "clips": [float(exemplars.spread[layer].sum()), exemplars.kept.tolist()],
    }
    name = f"optimised sounds of {layer}"
    if marks.kept(name, decides, folder):
        return nd.Visualization.load(folder, network=network)
    spread = float(np.median(exemplars.spread[layer]))
    quiet = nd.penalties.early(nd.penalties.silence(weight=_QUIET * spread), rest=0.2)
    through: Any = nd.parameterizations.fourier(fine=False) if network.input.kind in ("log_mel", "fbank") else None
    result = nd.visualize_batch(
        network,
        nd.objectives.channel(layer, units),
        key=jax.random.key(settings.seed),
        parameterization=through,
        penalties=(quiet,),
        steps=settings.steps,
        snapshots=4,
        probes=exemplars.inputs,
    )
    if any("interrupted" in status for status in itertools.chain(result.status)):
        raise KeyboardInterrupt
    result.save(folder)
    marks.done(name, decides)
    return result
