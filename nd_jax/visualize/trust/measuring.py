"""Measuring the trust card: arrays in, a `Trust` out; everything in batches of one size, so memory does not grow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import taps
from nd_jax.domain import LogMel, MelIF, Waveform
from nd_jax.domain.playing import sounds
from nd_jax.network import Network
from nd_jax.visualize import manifest
from nd_jax.visualize.batch import visualize_batch
from nd_jax.visualize.checks import check_probes
from nd_jax.visualize.result import Visualization
from nd_jax.visualize.trust import paths, reading
from nd_jax.visualize.trust import starts as starting
from nd_jax.visualize.trust.card import Trust
from nd_jax.visualize.trust.starts import check_whole
from nd_jax.visualize.trust.twin import random_twin

HIGH = 99.9
BACK = 0.2
"""How far back to the average natural input a unit is tried for saturation, and what share of the fall says so."""
FLAT = 0.01
STRONG = 0.5
"""Share of the way to the natural 99.9th percentile that a unit at a ceiling has gone at least."""
LEAST = 8
"""Numbers that a layer must have to be compared."""
DEEP = 8
"""Earlier layers that are compared at most, spread over the network."""
SPREAD = 64
"""Natural inputs that say how alike any two sounds are."""


def measure(
    result: Visualization,
    natural: Any,
    *,
    network: Network | None = None,
    twin: int = 8,
    starts: int = 1,
    further_steps: int | None = None,
    key: jax.Array | None = None,
    probes: Any = None,
    listen: bool = True,
    progress: bool = True,
) -> Trust:
    """Measures how far every optimised input of a result is to be believed.

    Args:
      result: from one call of `visualize_batch`.
      natural: natural inputs, (m, *network.input.shape) or a dict of them; m of 100 or more say something.
      network: the network, when the result was saved without it.
      twin: units that are also optimised in a network with random weights (all, when the layer has fewer), with the
        same settings; 0 for none. Units of such a network are alike, so a few stand for all.
      starts: compare so many starts of every lane, this result's own among them; 1 for none. Each further one costs
        what the result did.
      further_steps: of each further start; None for as many as the result's.
      key: of the random weights; None for a fixed one.
      probes: natural inputs that the result was rescued with, for its further starts.
      listen: whether sounds are written, read back and analysed again.
      progress: shows progress bars.

    Raises:
      ValueError: a result that was joined, or without its network; natural inputs of another shape.
    """
    for name, value, least in (("twin", twin, 0), ("starts", starts, 1)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"{name} must be a whole number of {least} or more, got {value!r}")
    if further_steps is not None and further_steps < 1:
        raise ValueError(f"further_steps must be a whole number of 1 or more, got {further_steps!r}")
    used = network if network is not None else result.network
    lanes = result.objective
    if lanes is None:
        raise ValueError("this result was joined from several objectives: measure its parts one by one")
    if used is None:
        raise ValueError("this result was saved without its network: pass network=...")
    used.check_batch(natural)
    check_probes(natural, used.input, "natural inputs")
    if reading.count_of(natural) < 2:
        raise ValueError("natural inputs must be two or more, better hundreds")
    made = reading.best(result)
    earlier = earlier_layers(used, result.layers)
    reader = reading.Reader(lanes, earlier)
    bank, heard = reader.heard(used, natural)
    score, found = reader.own_heard(used, made)
    mean, high = _levels(bank)
    waves = _waves(used, made) if listen else None
    same, other, alike = _paths(heard, found, bank, earlier)
    dead = np.array([status.startswith("dead") for status in result.status])
    compared = (
        starting.alone(result)
        if starts < 2
        else starting.compared(
            used,
            result,
            starting.further(used, result, starts, probes, progress, further_steps),
            reading.rows(natural, _spread(reading.count_of(natural))),
            mean=mean,
            earlier=earlier,
        )
    )
    return Trust(
        labels=result.labels,
        layers=result.layers,
        units=np.asarray(result.units),
        replicates=np.asarray(result.replicates),
        count=reading.count_of(natural),
        score=score,
        mean=mean,
        high=high,
        survived=_survived(used, waves, reader),
        silent=np.ptp(bank, axis=0) <= 1e-7 * np.abs(bank).max(axis=0),
        dead=dead,
        saturated=~dead & (score - mean >= STRONG * (high - mean)) & _flat(used, made, natural, reader, score),
        path_layers=earlier,
        same=same,
        other=other,
        made=alike,
        twin=_twin(used, result, natural, twin, key, reader, bank, progress),
        waves=waves,
        **compared._asdict(),
    )


def earlier_layers(network: Network, layers: Sequence[str]) -> tuple[str, ...]:
    """At most `DEEP` layers with weights that come before the first of some layers.

    Outputs are not among them, nor layers with so few numbers that a rank correlation says nothing.
    """
    order = list(taps.layers(network))
    first = min((order.index(layer) for layer in layers if layer in order), default=len(order))
    heads = set(taps.outputs(network).values())
    before = [
        layer
        for layer, shape in taps.weighted_layers(network).items()
        if order.index(layer) < first and layer not in heads and reading.width(network, shape) >= LEAST
    ]
    if len(before) > DEEP:
        before = [before[place] for place in np.unique(np.linspace(0, len(before) - 1, DEEP).round().astype(int))]
    return tuple(before)


def _spread(count: int) -> np.ndarray:
    """The places of at most `SPREAD` natural inputs, all over the bank."""
    return np.unique(np.linspace(0, count - 1, min(SPREAD, count)).round().astype(int))


def _levels(bank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values = np.asarray(bank, np.float64)
    return values.mean(axis=0), np.percentile(values, HIGH, axis=0)


def _waves(network: Network, made: Any) -> np.ndarray | None:
    """(n, samples) of optimised inputs that are sound, as heard: what leaves full scale is clipped when written."""
    if not isinstance(network.input, (LogMel, MelIF, Waveform)):
        return None
    found = sounds(network.input, made)
    assert found is not None
    return np.stack([np.asarray(sound.wave, np.float32) for sound in found])


def through_wav(wave: np.ndarray) -> np.ndarray:
    """What a 16-bit wav file keeps of sounds, any shape: clipped to full scale and rounded."""
    return (np.round(np.clip(np.nan_to_num(wave), -1.0, 1.0) * 32767.0) / 32768.0).astype(np.float32)


def _survived(network: Network, waves: np.ndarray | None, reader: reading.Reader) -> np.ndarray:
    domain = network.input
    if waves is None or not isinstance(domain, (LogMel, MelIF, Waveform)):
        return np.full(len(reader.lanes), np.nan)
    heard = through_wav(waves)
    analyse = jax.jit(domain.from_wave)
    parts = []
    for start in range(0, len(heard), reading.BATCH):
        index = np.resize(np.arange(start, min(start + reading.BATCH, len(heard))), reading.BATCH)
        parts.append(np.asarray(analyse(jnp.asarray(heard[index])))[: len(heard) - start])
    return reader.own(network, np.concatenate(parts))


def _flat(network: Network, made: Any, natural: Any, reader: reading.Reader, score: np.ndarray) -> np.ndarray:
    def average(leaf: Any) -> np.ndarray:
        values = np.asarray(leaf)
        # A class number has no average.
        return values[:1] if values.dtype.kind in "iu" else values.mean(axis=0, keepdims=True, dtype=np.float32)

    usual = jax.tree.map(average, natural)

    def back(leaf: Any, rest: np.ndarray) -> np.ndarray:
        values = np.asarray(leaf)
        return values if values.dtype.kind in "iu" else (1 - BACK) * values + BACK * np.broadcast_to(rest, values.shape)

    tried = reader.own(network, jax.tree.map(back, made, usual))
    rest = reader.scores(network, usual)[0]
    fall = score - rest
    return (fall > 0) & (score - tried < FLAT * fall)


def _paths(
    heard: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray], bank: np.ndarray, earlier: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(lanes, layers) each, as in `Trust`."""
    lanes = bank.shape[1]
    if not earlier:
        nothing = np.zeros((lanes, 0))
        return nothing, nothing, nothing
    top = paths.top_inputs(bank)
    columns = [paths.likeness(heard[layer], found[layer], top) for layer in earlier]
    same, other, own = (np.stack(part, axis=1) for part in zip(*columns, strict=True))
    return same, other, own


def _twin(
    network: Network,
    result: Visualization,
    natural: Any,
    count: int,
    key: jax.Array | None,
    reader: reading.Reader,
    bank: np.ndarray,
    progress: bool,
) -> np.ndarray:
    """(k,) the ratio of some lanes in a network with random weights, NaN for those that do not answer there."""
    if not count:
        return np.zeros(0)
    assert result.objective is not None
    index = np.unique(np.linspace(0, len(result) - 1, min(count, len(result))).round().astype(int))
    lanes = result.objective.select(index)
    twin = random_twin(network, jax.random.key(0) if key is None else key)
    # The same programs as for the trained network: only the numbers differ.
    heard = reader.scores(twin, natural)[:, index]
    mean, high = _levels(heard)
    own, theirs = bank[:, index].std(axis=0), heard.std(axis=0)
    scale = np.ones(len(index)) if result.scale is None else result.scale[index]
    # A penalty weighs against a unit's activations, and those of the twin have another spread.
    relative = theirs / np.where(own > 0, own, 1.0)
    scale = scale * np.where((own > 0) & np.isfinite(relative), relative, 1.0)
    settings = manifest.restore_settings(result.manifest, result.carried)
    found = visualize_batch(
        twin,
        lanes,
        key=manifest.restore_key(result.manifest),
        scale=scale,
        progress=progress,
        **(settings | {"snapshots": 0, "restarts": 0}),
    )
    check_whole(found)
    score = np.diagonal(reading.Reader(lanes, reader.layers).scores(twin, reading.best(found)))
    answers = np.array([status == "ok" for status in found.status]) & (high > mean) & np.isfinite(score)
    return np.where(answers, (score - mean) / np.where(high > mean, high - mean, 1.0), np.nan)


__all__ = ["earlier_layers", "measure", "through_wav"]
