"""Recipes: one file a task; each opens with the exact command, the time it takes and the number to expect."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.data.arrays import Clips
from nd_jax.domain import Domain, Fbank, Image, LogMel
from nd_jax.training import Task

_END = 1e-6


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One training: what a recipe's `experiments()` gives to `train_classifier`.

    Attributes:
      name: of its folder below the run's; "" for the run's own.
      title: one line for the terminal.
      module: the untrained network.
      domain: its input.
      task: what is learned.
      held_out: arrays that training never sees, with the same names as the task's.
      labels: {head: class names}.
      measure: (outputs of the network for `held_out`, averaged over windows) -> {name: proportion}, for the card.
      card: everything of the model card that is known before training.
      settled: what stands in for the recipe's own values in a run that makes several experiments; one that makes this
        experiment alone goes on in its folder.
      windows: `held_out` has so many examples in a row for every recording; what the network says is averaged.
    """

    name: str
    title: str
    module: nn.Module
    domain: Domain
    task: Task
    held_out: Mapping[str, np.ndarray]
    labels: Mapping[str, tuple[str, ...]]
    measure: Callable[[Any], dict[str, Any]]
    card: Mapping[str, Any]
    settled: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    windows: int = 1

    def per_recording(self, outputs: Any) -> Any:
        """The mean over every recording's windows of the outputs for `held_out`: (windows n, ...) -> (n, ...)."""
        if self.windows == 1:
            return outputs
        return jax.tree.map(lambda rows: rows.reshape(-1, self.windows, *rows.shape[1:]).mean(axis=1), outputs)


def samples_of(clips: Clips, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """All sounds cut or padded with zeros to (n, samples) int16, and how many samples of each are sound."""
    waves = np.zeros((len(clips), samples), np.int16)
    lengths = np.zeros(len(clips), np.int32)
    for index, wave in enumerate(clips.waves):
        head = wave[:samples]
        if head.dtype != np.int16:
            head = np.round(np.clip(head, -1.0, 1.0) * 32767).astype(np.int16)
        waves[index, : len(head)] = head
        lengths[index] = len(head)
    return waves, lengths


def full_scale(wave: jax.Array) -> jax.Array:
    """int16 samples as float32 with full scale 1."""
    return wave.astype(jnp.float32) / 32768.0


def pixels(image: jax.Array, domain: Image) -> jax.Array:
    """Pixels of 8 bits as values of an image domain: 0 is its `low` and 255 its `high`; any shape."""
    return image.astype(jnp.float32) * ((domain.high - domain.low) / 255) + domain.low


def with_band_mean(domain: LogMel, waves: np.ndarray, batch: int = 64) -> LogMel:
    """The domain with the mean of every band over these sounds, (n, at least domain.samples) int16."""

    def fractions(part: jax.Array) -> jax.Array:
        return (domain.from_wave(full_scale(part)) - domain.low) / (domain.high - domain.low)

    levels = jax.jit(lambda part: jnp.sum(fractions(part), axis=(0, 2, 3)))
    total = sum(
        np.asarray(levels(waves[at : at + batch, : domain.samples]), np.float64) for at in range(0, len(waves), batch)
    )
    # A band that is narrower than a bin of the spectrum is always at the floor, to rounding on either side of it.
    mean = np.clip(total / (len(waves) * domain.frames), _END, 1.0 - _END)
    return dataclasses.replace(domain, band_mean=np.asarray(mean, np.float32))


def describe(domain: LogMel | Image) -> str:
    """The front end in one line, for a model card."""
    if isinstance(domain, Image):
        height, width, channels = domain.shape
        return (
            f"images: {height} x {width} pixels, {channels} channel{'s' if channels > 1 else ''}, values "
            f"{domain.low:g} (black) ... {domain.high:g} (white)"
        )
    transform = domain.transform
    if isinstance(domain, Fbank):
        return (
            f"Kaldi's filter bank: {transform.sample_rate} Hz, {transform.win_length} samples a frame, hop "
            f"{transform.hop_length}, {transform.window} window, {transform.n_mels} bands, {domain.frames} frames "
            f"({domain.samples} samples); values are (log energy - {domain.mean:g}) / {2 * domain.std:g}"
        )
    return (
        f"log-mel: {transform.sample_rate} Hz, n_fft {transform.n_fft}, hop {transform.hop_length}, "
        f"{transform.n_mels} {transform.scale} bands from {transform.f_min:g} to "
        f"{transform.f_max or transform.sample_rate / 2:g} Hz, {domain.frames} frames ({domain.samples} samples); "
        f"values 0 ... 1 are {transform.floor_db:g} ... {domain.ceiling_db:g} dBFS"
    )
