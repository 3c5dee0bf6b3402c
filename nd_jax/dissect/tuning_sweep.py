"""`measured_tuning`: every unit of some layers on every sound of a bank, in one sweep."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import taps
from nd_jax.dissect import tuning_files, tuning_strf
from nd_jax.dissect.sound_bank import PARTS, SoundBank, reach, sound_bank
from nd_jax.dissect.tuning_unit import UnitTuning, unit_tuning
from nd_jax.domain import LogMel
from nd_jax.domain.axes import time_axis
from nd_jax.network import Network, digest
from nd_jax.runtime import nearest, progress_bar

Pool = Literal["mean", "max"]
# A response that differs by less than this share of its size is rounding, and one below the other number is nothing.
_ROUNDING, _NOTHING = 1e-5, 1e-30


@dataclasses.dataclass(frozen=True, eq=False)
class LayerTuning:
    """What the units of a layer did, pooled over positions. All numbers are finite.

    Attributes:
      silence: (units,).
      tones: (units, levels, frequencies).
      flat: (units, carriers), unmodulated.
      am: (units, carriers, rates), mean over phases.
      am_following: likewise, how far the unit goes up and down with the modulation: the amplitude at its rate over the
        layer's time, or over the phases at which it begins where a layer has no time; 0 above what its steps can show.
      ripples, ripples_following: (units, densities, ripple rates), likewise.
      strf: (units, bands, times) response per dB.
      times: (times,) of it in seconds, from the moment of the response, before it below 0; where `moving` is False,
        of layers without time, from the beginning of the sound.
      moving: see there.
      strf_score: (units,) correlation with the response to sounds held out.
      span: (units,) how far the responses to all sounds range, or the largest swing.
      answers: (units,) whether that is more than rounding.
    """

    silence: np.ndarray
    tones: np.ndarray
    flat: np.ndarray
    am: np.ndarray
    am_following: np.ndarray
    ripples: np.ndarray
    ripples_following: np.ndarray
    strf: np.ndarray
    times: np.ndarray
    moving: bool
    strf_score: np.ndarray
    span: np.ndarray
    answers: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class MeasuredTuning:
    """What `measured_tuning` found.

    Attributes:
      bank: the sounds.
      layers: {layer: LayerTuning}.
    """

    bank: SoundBank
    layers: Mapping[str, LayerTuning]

    def unit(self, layer: str, unit: int) -> UnitTuning:
        """What one unit is tuned to, in figures and (`str`) in words.

        Raises:
          LayerError: a layer that was not measured.
          IndexError: a unit that the layer does not have.
        """
        if layer not in self.layers:
            raise taps.LayerError(f"the tuning of layer {layer!r} was not measured; {nearest(layer, self.layers)}")
        found = self.layers[layer]
        if not 0 <= unit < len(found.silence):
            raise IndexError(f"layer {layer!r} has units 0 ... {len(found.silence) - 1}, got {unit}")
        return unit_tuning(self.bank, found, unit)

    def save(self, path: Any) -> pathlib.Path:
        """Writes everything to one npz file, whole or not at all; returns its path."""
        return tuning_files.save(path, self.bank, self.layers)

    @classmethod
    def load(cls, path: Any) -> MeasuredTuning:
        """Reads a file written by `save`.

        Raises:
          ValueError: not such a file.
        """
        return cls(*tuning_files.load(path, LayerTuning))


def measured_tuning(
    network: Network,
    layers: Sequence[str],
    *,
    key: jax.Array | None = None,
    bank: SoundBank | None = None,
    pool: Pool = "mean",
    batch_size: int = 16,
    kept: Any = None,
    progress: bool | Callable[[int, int], None] = False,
) -> MeasuredTuning:
    """Measures what all units of some layers are tuned to: one sweep over a bank of test sounds.

    Args:
      network: one that takes sound.
      layers: layer names.
      key: for the default bank's noises.
      bank: the sounds, from `sound_bank`, in place of a key.
      pool: "mean" or "max" over the positions of a layer.
      batch_size: sounds at a time.
      kept: a file in which the sweep is kept every 20 s; the same call after a kill goes on from there, to the same
        bits. It is gone when the sweep is over.
      progress: True for a bar over sounds, or a function of (done, total).

    Raises:
      LayerError: an unknown layer.
      ValueError: a network that takes no sound, a bank made for another, no layers, or neither key nor bank.
    """
    reach(network.input)
    if isinstance(layers, str) or not layers:
        raise ValueError(f"layers is a list of at least one layer name, got {layers!r}")
    if pool not in ("mean", "max"):
        raise ValueError(f"pool is 'mean' or 'max', got {pool!r}")
    if batch_size < 1:
        raise ValueError(f"batch_size is at least 1, got {batch_size}")
    axes = {layer: time_axis(network.input, taps.layer_shape(network, layer)) for layer in layers}
    if bank is None:
        if key is None:
            raise ValueError("measured_tuning needs a key, for the noises of its bank, or a bank")
        bank = sound_bank(network, key=key)
    domain: Any = network.input
    if (bank.sample_rate, bank.samples) != (domain.sample_rate, domain.samples):
        raise ValueError(
            f"the bank's sounds have {bank.samples} samples at {bank.sample_rate} Hz, but this network takes "
            f"{domain.samples} at {domain.sample_rate} Hz"
        )
    decides = {"layers": list(axes), "pool": pool, "batch_size": batch_size}
    sweep = _Sweep(network, bank, axes, pool, batch_size)
    sweep.kept = tuning_files.Kept(kept, digest(network) if kept is not None else "", bank, decides)
    with progress_bar(len(bank), "sound", progress) as tick:
        pooled = sweep.sounds(tick)
        strfs = sweep.noises(pooled, tick)
    sweep.kept.end()
    return MeasuredTuning(
        bank, {layer: _layer(bank, axis is not None, *pooled[layer], *strfs[layer]) for layer, axis in axes.items()}
    )


class _Sweep:
    def __init__(
        self, network: Network, bank: SoundBank, axes: Mapping[str, int | None], pool: str, batch_size: int
    ) -> None:
        self.network, self.bank, self.pool, self.batch_size = network, bank, pool, batch_size
        self.axes = tuple(axes.items())
        domain = network.input
        self.span = domain.frames * domain.seconds_per_frame if isinstance(domain, LogMel) else bank.seconds
        shapes = {layer: taps.layer_shape(network, layer) for layer in axes}
        steps = {layer: None if axis is None else shapes[layer][axis - 1] for layer, axis in axes.items()}
        self.designs = {layer: tuning_strf.design(bank, steps[layer], self.span) for layer in axes}
        self.kept = tuning_files.Kept(None, "", bank, {})
        self._batch = 0

    def sounds(self, tick: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """(sounds, units) pooled responses, and how they follow, to all sounds but the noises, whose rows are free."""
        found = self.kept.pooled
        for numbers, count in self._batches(np.arange(self.bank.part("noise").start), tick):
            rates = jnp.asarray(self.bank.modulations[numbers], jnp.float32)
            got = _pooled(self.network, self.bank.waves(numbers), rates, self.axes, self.pool, self.span)
            for layer, both in got.items():
                for place, values in enumerate(both):
                    if layer not in found:
                        size = (len(self.bank), values.shape[-1])
                        found[layer] = np.zeros(size, np.float32), np.zeros(size, np.float32)
                    found[layer][place][numbers[:count]] = np.asarray(values)[:count]
            self.kept.batch(self._batch, found, {})
            tick(count)
        return found

    def noises(self, pooled: dict[str, tuple[np.ndarray, np.ndarray]], tick: Any) -> dict[str, tuple[Any, ...]]:
        """Field, times, whether it moves and score of every layer; fills in the rows of the noises."""
        first = self.bank.part("noise").start
        weights = {layer: jnp.asarray(one.weights) for layer, one in self.designs.items()}
        kept = {layer: jnp.asarray(one.kept) for layer, one in self.designs.items()}
        # Responses are taken from those to silence, or their squares would round away what is small beside them.
        silence = {layer: jnp.asarray(both[0][0]) for layer, both in pooled.items()}
        total: dict[str, dict[int, dict[str, np.ndarray]]] = {
            layer: self.kept.totals.get(layer, {}) for layer in self.designs
        }
        which = np.arange(len(self.bank.envelopes))
        split = np.array([tuning_strf.FIT, tuning_strf.CHOOSE, tuning_strf.FIT, tuning_strf.TEST])[which % 4]
        for part in (tuning_strf.FIT, tuning_strf.CHOOSE, tuning_strf.TEST):
            for numbers, count in self._batches(which[split == part], tick):
                mask = jnp.asarray(np.arange(len(numbers)) < count, jnp.float32)
                waves, envelopes = self.bank.waves(first + numbers), self.bank.envelopes[numbers]
                got = _moments(self.network, waves, envelopes, mask, weights, kept, silence, self.axes, self.pool)
                for layer, (means, more) in got.items():
                    pooled[layer][0][first + numbers[:count]] = np.asarray(means)[:count]
                    before = total[layer].setdefault(part, {})
                    for name, value in more.items():
                        before[name] = before.get(name, 0.0) + np.asarray(value, np.float64)
                self.kept.batch(self._batch, pooled, total)
                tick(count)
        found = {}
        for layer, one in self.designs.items():
            field, score = tuning_strf.fields(total[layer], len(self.bank.bands))
            found[layer] = field, one.times, one.moving, score
        return found

    def _batches(self, numbers: np.ndarray, tick: Any) -> Any:
        """(numbers, how many of them count), always as many, so that one program serves all; without what is kept."""
        for start in range(0, len(numbers), self.batch_size):
            some = numbers[start : start + self.batch_size]
            self._batch += 1
            if self._batch <= self.kept.done:
                tick(len(some))
                continue
            yield np.resize(some, self.batch_size), len(some)


def _over(values: jax.Array, pool: str) -> jax.Array:
    places = tuple(range(1, values.ndim - 1))
    return values.max(axis=places) if pool == "max" else values.mean(axis=places)


def _in_time(values: jax.Array, axis: int) -> jax.Array:
    """(batch, steps, units), means over the other positions."""
    moved = jnp.moveaxis(values, axis, 1)
    return moved.mean(axis=tuple(range(2, moved.ndim - 1)))


@functools.partial(jax.jit, static_argnames=("axes", "pool", "span"))
def _pooled(
    network: Network,
    waves: jax.Array,
    rates: jax.Array,
    axes: tuple[tuple[str, int | None], ...],
    pool: str,
    span: float,
) -> dict[str, tuple[jax.Array, jax.Array]]:
    domain: Any = network.input
    values = taps.forward(network, domain.from_wave(waves), [layer for layer, _ in axes])[1]
    found = {}
    for layer, axis in axes:
        value = values[layer].astype(jnp.float32)
        means = _over(value, pool)
        follows = jnp.zeros_like(means)
        if axis is not None:
            course = _in_time(value, axis)
            steps = course.shape[1]
            turns = 2 * jnp.pi * rates[:, None] * (jnp.arange(steps)[None] + 0.5) * (span / steps)
            course = course - course.mean(axis=1, keepdims=True)
            parts = [jnp.einsum("nt,ntu->nu", wave, course) for wave in (jnp.cos(turns), jnp.sin(turns))]
            shown = (rates > 0) & (rates < steps / (2 * span))
            follows = jnp.where(shown[:, None], 2.0 / steps * jnp.sqrt(parts[0] ** 2 + parts[1] ** 2), 0.0)
        found[layer] = means, follows
    return found


@functools.partial(jax.jit, static_argnames=("axes", "pool"))
def _moments(
    network: Network,
    waves: jax.Array,
    envelopes: jax.Array,
    mask: jax.Array,
    weights: dict[str, jax.Array],
    kept: dict[str, jax.Array],
    silence: dict[str, jax.Array],
    axes: tuple[tuple[str, int | None], ...],
    pool: str,
) -> dict[str, tuple[jax.Array, dict[str, jax.Array]]]:
    domain: Any = network.input
    values = taps.forward(network, domain.from_wave(waves), [layer for layer, _ in axes])[1]
    found = {}
    for layer, axis in axes:
        value = values[layer].astype(jnp.float32)
        means = _over(value, pool)
        moving = axis is not None and kept[layer].size > 0
        responses = _in_time(value, axis)[:, kept[layer]] if moving and axis is not None else means[:, None]
        found[layer] = means, tuning_strf.sums(weights[layer], envelopes, responses - silence[layer][None, None], mask)
    return found


def _layer(
    bank: SoundBank,
    timed: bool,
    means: np.ndarray,
    follows: np.ndarray,
    strf: np.ndarray,
    times: np.ndarray,
    moving: bool,
    score: np.ndarray,
) -> LayerTuning:
    shapes = bank.shapes
    part = {name: means[bank.part(name)].T.reshape(-1, *shapes[name]) for name in PARTS}
    modulated = {}
    turn = np.exp(-2j * np.pi * np.arange(bank.phases) / bank.phases)
    for name in ("am", "ripples"):
        over_time = follows[bank.part(name)].T.reshape(part[name].shape).mean(axis=-1)
        over_phases = np.abs(part[name] @ turn) * 2.0 / bank.phases
        modulated[name] = over_time if timed else over_phases
    low, high = means.min(axis=0), means.max(axis=0)
    span = np.max([high - low, *(2.0 * swing.max(axis=(1, 2)) for swing in modulated.values())], axis=0)
    answers = span > np.maximum(_ROUNDING * np.maximum(np.abs(low), np.abs(high)), _NOTHING)
    return LayerTuning(
        silence=part["silence"][:, 0],
        tones=part["tones"],
        flat=part["flat"],
        am=part["am"].mean(axis=-1),
        am_following=modulated["am"].astype(np.float32),
        ripples=part["ripples"].mean(axis=-1),
        ripples_following=modulated["ripples"].astype(np.float32),
        strf=np.where(answers[:, None, None], strf, np.float32(0)),
        times=times,
        moving=moving,
        strf_score=np.where(answers, score, np.float32(0)),
        span=span.astype(np.float32),
        answers=answers,
    )
