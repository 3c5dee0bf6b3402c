"""Data sets in memory: `Clips` of sound and `Images`, with their labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nd_jax.audio.files import fit


@dataclasses.dataclass(frozen=True)
class Clips:
    """Sounds of any lengths, with labels.

    Attributes:
      waves: one array (samples,) per sound, int16, or float32 with full scale 1.
      sample_rate: in Hz, the same for all.
      features: one array (len(self),) per label; classes are whole numbers that index `names`.
      names: the class names of those features that are classes.
      files: one name per sound, its path below the data set's folder; empty when they come from elsewhere.
      skipped: the files that were left out when the data set was prepared, as "file: reason".
    """

    waves: Sequence[np.ndarray]
    sample_rate: int
    features: Mapping[str, np.ndarray]
    names: Mapping[str, tuple[str, ...]]
    files: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.waves)

    def __repr__(self) -> str:
        seconds = sum(map(len, self.waves)) / self.sample_rate
        return (
            f"Clips({len(self)} sounds, {seconds:.0f} s at {self.sample_rate} Hz, features {', '.join(self.features)})"
        )

    def wave(self, index: int) -> np.ndarray:
        """One sound as (samples,) float32 with full scale 1."""
        return as_float(self.waves[index])

    def fixed(self, samples: int, policy: str = "pad") -> np.ndarray:
        """All sounds at one length: (len(self), samples) float32 with full scale 1.

        `policy` says what becomes of shorter ones, as in `nd_jax.audio.fit`: "pad" adds silence, "tile" repeats, "crop"
        refuses. Longer ones lose their end.

        Raises:
          ValueError: unknown policy, `samples` below 1, or a short sound under "crop".
        """
        result = np.empty((len(self), samples), np.float32)
        for row, wave in zip(result, self.waves, strict=True):
            row[:] = as_float(fit(wave, samples, policy))
        return result

    def select(self, which: Any) -> Clips:
        """The sounds of a boolean mask (len(self),) or of a sequence of indices, in that order."""
        chosen = _indices(which, len(self))
        waves = [self.waves[index] for index in chosen]
        files = tuple(self.files[index] for index in chosen) if self.files else ()
        return dataclasses.replace(self, waves=waves, features=_take(self.features, chosen), files=files)


@dataclasses.dataclass(frozen=True)
class Images:
    """Images of one size, with labels.

    Attributes:
      images: (n, height, width, channels) uint8.
      features: one array (n,) per label.
      names: the class names of those features that are classes.
    """

    images: np.ndarray
    features: Mapping[str, np.ndarray]
    names: Mapping[str, tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return (
            f"Images({len(self)} of {'x'.join(map(str, self.images.shape[1:]))}, features {', '.join(self.features)})"
        )

    @property
    def labels(self) -> np.ndarray:
        """(n,) the feature "label"."""
        return self.features["label"]

    def fixed(self, low: float = -1.0, high: float = 1.0) -> np.ndarray:
        """(n, height, width, channels) float32, black is `low` and white is `high`."""
        return self.images.astype(np.float32) * np.float32((high - low) / 255) + np.float32(low)

    def select(self, which: Any) -> Images:
        """The images of a boolean mask (n,) or of a sequence of indices, in that order."""
        chosen = _indices(which, len(self))
        return dataclasses.replace(self, images=self.images[chosen], features=_take(self.features, chosen))


def as_float(wave: np.ndarray) -> np.ndarray:
    """int16 or float samples as float32 with full scale 1."""
    if wave.dtype == np.int16:
        return wave.astype(np.float32) / np.float32(32768)
    return np.asarray(wave, np.float32)


def _indices(which: Any, length: int) -> np.ndarray:
    which = np.asarray(which)
    if which.dtype == bool:
        if which.shape != (length,):
            raise ValueError(f"the mask has shape {which.shape}, but there are {length} examples")
        return np.flatnonzero(which)
    chosen = which.astype(np.int64).reshape(-1)
    outside = chosen[(chosen < -length) | (chosen >= length)]
    if outside.size:
        raise ValueError(f"index {outside[0]} is out of range: there are {length} examples")
    return chosen


def _take(features: Mapping[str, np.ndarray], indices: np.ndarray) -> dict[str, np.ndarray]:
    return {name: values[indices] for name, values in features.items()}
