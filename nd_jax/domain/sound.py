"""Sound going into a network: samples, and log-mel spectrograms."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.audio.mel import LogMel as LogMelTransform
from nd_jax.domain.core import (
    Axis,
    Domain,
    Picture,
    Sound,
    array_field,
    check_range,
    check_sizes,
    index_axis,
    pytree,
)


@pytree
@dataclasses.dataclass(frozen=True)
class Waveform(Domain):
    """Raw audio: shape (samples, 1), full scale -1 ... 1, drawn as a spectrogram in dBFS."""

    kind: ClassVar[str] = "waveform"
    is_sound: ClassVar[bool] = True

    samples: int
    sample_rate: int
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        check_sizes(self, samples=self.samples, sample_rate=self.sample_rate)
        check_range(self)

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (self.samples, 1)

    @property
    def axes(self) -> tuple[Axis, ...]:
        return (
            Axis("time", "s", np.arange(self.samples) / self.sample_rate),
            index_axis("channel", "", 1),
        )

    def from_wave(self, wave: Any) -> jax.Array:
        """Sound to network input: (..., samples) -> (..., samples, 1); jittable, batched."""
        if np.shape(wave)[-1] != self.samples:
            raise ValueError(
                f"sound has {np.shape(wave)[-1]} samples, but this network takes {self.samples}; "
                "bring it to length with nd_jax.audio.fit"
            )
        middle, half = (self.low + self.high) / 2.0, (self.high - self.low) / 2.0
        return middle + half * jnp.asarray(wave, jnp.float32)[..., None]

    def sound(self, x: Any) -> Sound:
        return Sound(np.asarray(x, np.float32).reshape(self.samples), self.sample_rate)

    def picture(self, x: Any) -> Picture:
        from nd_jax.audio.mel import spectrogram_db

        n_fft = 512 if self.samples >= 2048 else 128
        hop = max(self.samples // 256, 16)
        levels = np.asarray(spectrogram_db(jnp.asarray(x).reshape(self.samples), n_fft=n_fft, hop_length=hop))
        time = Axis("time", "s", np.arange(levels.shape[1]) * hop / self.sample_rate)
        frequency = Axis("frequency", "Hz", np.linspace(0, self.sample_rate / 2, levels.shape[0])[::-1])
        return Picture(levels[::-1], time, frequency, "dB", -80.0, 0.0)


@pytree
@dataclasses.dataclass(frozen=True)
class LogMel(Domain):
    """A log-mel spectrogram: shape (mel bands, frames, 1); 0 is `transform.floor_db`, 1 is `ceiling_db`.

    Attributes:
      transform: the front end, `nd_jax.audio.LogMel` (values in dBFS).
      frames: number of frames.
      ceiling_db: the level that becomes 1.
      band_mean: (mel bands,) mean value per band over the training data, in 0 ... 1, or None.
      band_root: (mel bands, mel bands) how bands go together in natural sound, or None; see `with_statistics`. Columns
        are directions in the bands' log-odds, the most frequent one first.
    """

    kind: ClassVar[str] = "log_mel"
    is_sound: ClassVar[bool] = True
    made_of: ClassVar[str] = "Spectrograms become sound through mel inversion and Griffin-Lim phase recovery."
    transform_class: ClassVar[type] = LogMelTransform

    transform: LogMelTransform
    frames: int
    ceiling_db: float = 0.0
    band_mean: Any = array_field()
    band_root: Any = array_field()

    low: ClassVar[float] = 0.0
    high: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        check_sizes(self, frames=self.frames)
        if not self.transform.floor_db < self.ceiling_db:
            floor = self.transform.floor_db
            raise ValueError(f"ceiling_db must be above the front end's floor of {floor} dB, got {self.ceiling_db}")

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (self.transform.n_mels, self.frames, 1)

    @property
    def sample_rate(self) -> int:
        """Samples per second of the sound behind the spectrogram, in Hz."""
        return self.transform.sample_rate

    @property
    def samples(self) -> int:
        """Length, in samples, of the sound that fills exactly `frames` frames."""
        return self.transform.num_samples(self.frames)

    @property
    def seconds_per_frame(self) -> float:
        """Hop of the front end, in seconds."""
        return self.transform.hop_length / self.transform.sample_rate

    @property
    def axes(self) -> tuple[Axis, ...]:
        return (
            Axis("frequency", "Hz", np.asarray(self.transform.centre_frequencies), scale="mel"),
            Axis("time", "s", np.arange(self.frames) * self.seconds_per_frame),
            index_axis("channel", "", 1),
        )

    def levels(self, x: Any) -> Any:
        """What is played of examples, (..., mel bands, frames, 1): (..., mel bands, frames) in dBFS."""
        return self.to_db(x)[..., 0]

    def to_db(self, x: Any) -> Any:
        """Network values (0 ... 1) to dBFS, any shape."""
        floor = self.transform.floor_db
        return floor + x * (self.ceiling_db - floor)

    def from_db(self, levels: Any) -> Any:
        """dBFS to network values, any shape; levels outside the range are clipped to 0 ... 1."""
        floor = self.transform.floor_db
        return jnp.clip((levels - floor) / (self.ceiling_db - floor), 0.0, 1.0)

    def from_wave(self, wave: Any) -> jax.Array:
        """Sound to network input: (..., samples) -> (..., mel bands, frames, 1); jittable, batched.

        `samples` must be `self.samples`; use `nd_jax.audio.fit` for other lengths.
        """
        if np.shape(wave)[-1] != self.samples:
            raise ValueError(
                f"sound has {np.shape(wave)[-1]} samples, but {self.frames} frames need {self.samples}; "
                "bring it to length with nd_jax.audio.fit"
            )
        return self.from_db(self.transform.forward(jnp.asarray(wave, jnp.float32)))[..., : self.frames, None]

    def sound(self, x: Any) -> Sound:
        levels = self.levels(jnp.asarray(x, jnp.float32).reshape(self.shape))
        return Sound(np.asarray(self.transform.inverse(levels)), self.sample_rate)

    def picture(self, x: Any) -> Picture:
        levels = np.asarray(self.to_db(np.asarray(x, np.float32).reshape(self.shape)[..., 0]))
        frequency, time, _ = self.axes
        flipped = Axis("frequency", "Hz", frequency.values[::-1], scale="mel")
        return Picture(levels[::-1], time, flipped, "dB", float(self.transform.floor_db), float(self.ceiling_db))

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"transform": dataclasses.asdict(self.transform)}

    @classmethod
    def _build(cls, fields: dict[str, Any], arrays: Mapping[str, Any]) -> Domain:
        fields = dict(fields)
        try:
            fields["transform"] = cls.transform_class(**fields["transform"])
        except (KeyError, TypeError) as error:
            name = f"audio.{cls.transform_class.__name__}"
            raise ValueError(f"domain {cls.kind!r} needs a 'transform' with the fields of {name}: {error}") from None
        return super()._build(fields, arrays)
