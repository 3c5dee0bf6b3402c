"""Sound as AST and BEATs take it: Kaldi's log mel energies, standardised."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.audio.fbank import Fbank as FbankTransform
from nd_jax.domain.core import Axis, Picture, check_sizes, index_axis, pytree
from nd_jax.domain.sound import LogMel

# What the published front ends take off, in natural logarithms of power.
AST_MEAN, AST_STD = -4.2677393, 4.5689974
BEATS_MEAN, BEATS_STD = 15.41663, 6.55582

_USUAL_DB = -64.0
_PICTURE_DB = 100.0


@pytree
@dataclasses.dataclass(frozen=True)
class Fbank(LogMel):
    """Standardised log mel energies: shape (mel bands, frames, 1), values (energy - mean) / (2 std).

    Values have the scale of the networks that take them; levels in dBFS, pictures and sound are those of `transform`.
    `low` is silence, `high` is `ceiling_db`, which sound from a file may exceed by a little; `from_wave` clips nothing.

    Attributes:
      transform: the front end, `nd_jax.audio.Fbank`.
      frames: number of frames.
      ceiling_db: the level of `high`, in dBFS; by default what pre-emphasis makes of a full-scale sine.
      band_mean, band_root: as in `LogMel`, for values as fractions of low ... high.
      mean, std: of the energies, natural logarithms of power.
      padding: the energy of frames behind the end of a sound that is too short; None refuses such sounds.
      heard: so many frames are sound, and those behind them padding, which is not played; None for all.
    """

    kind: ClassVar[str] = "fbank"
    transform_class: ClassVar[type] = FbankTransform

    transform: FbankTransform  # type: ignore[assignment]
    ceiling_db: float = 6.0
    mean: float = 0.0
    std: float = 0.5
    padding: float | None = None
    heard: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std > 0):
            raise ValueError(
                f"mean and std of a domain 'fbank' are finite, std above 0, got {self.mean} and {self.std}"
            )
        if self.heard is not None:
            check_sizes(self, heard=self.heard)
            if self.heard > self.frames or (self.heard < self.frames and self.padding is None):
                raise ValueError(f"of {self.frames} frames {self.heard} cannot be sound with padding {self.padding}")

    @property
    def low(self) -> float:  # type: ignore[override]
        """The value of silence."""
        return self._value(self.transform.from_db(self.transform.floor_db))

    @property
    def high(self) -> float:  # type: ignore[override]
        """The value of `ceiling_db`."""
        return self._value(self.transform.from_db(self.ceiling_db))

    @property
    def usual(self) -> float:
        """Where -64 dBFS lie in the range, as a fraction: where an optimization begins."""
        return (_USUAL_DB - self.transform.floor_db) / (self.ceiling_db - self.transform.floor_db)

    @property
    def samples(self) -> int:
        """Length, in samples, of the sound that fills the frames that are heard exactly."""
        return self.transform.num_samples(self.heard or self.frames)

    @property
    def axes(self) -> tuple[Axis, ...]:
        transform = self.transform
        middle = np.arange(self.frames) * self.seconds_per_frame + transform.win_length / 2 / transform.sample_rate
        return (
            Axis("frequency", "Hz", np.asarray(transform.centre_frequencies), scale="mel"),
            Axis("time", "s", middle),
            index_axis("channel", "", 1),
        )

    def silence(self) -> jax.Array:
        frames = jnp.arange(self.frames)[None, :, None] < (self.heard or self.frames)
        behind = self.low if self.padding is None else self._value(self.padding)
        return jnp.broadcast_to(jnp.where(frames, jnp.float32(self.low), jnp.float32(behind)), self.shape)

    def levels(self, x: Any) -> Any:
        return self.to_db(x)[..., : self.heard or self.frames, 0]

    def to_db(self, x: Any) -> Any:
        """Network values to dBFS, any shape."""
        return self.transform.to_db(x * (2.0 * self.std) + self.mean)

    def from_db(self, levels: Any) -> Any:
        """dBFS to network values, any shape; levels outside the range are clipped to low ... high."""
        return jnp.clip(self._value(self.transform.from_db(levels)), self.low, self.high)

    def features(self, wave: Any) -> jax.Array:
        """Sound as the original front ends give it: (..., samples) -> (..., frames, mel bands), time first.

        Raises:
          ValueError: a sound that is shorter than a frame, or one of another length where there is no padding.
        """
        energies = self.transform.log_energies(wave)
        found = energies.shape[-2]
        if self.padding is None and found != self.frames:
            raise ValueError(
                f"sound has {np.shape(wave)[-1]} samples or {found} frames, but this network takes {self.samples} or "
                f"{self.frames}; bring it to length with nd_jax.audio.fit"
            )
        if found < self.frames:
            width = [(0, 0)] * (energies.ndim - 2) + [(0, self.frames - found), (0, 0)]
            energies = jnp.pad(energies, width, constant_values=self.padding)
        return self._value(energies[..., : self.frames, :])

    def from_wave(self, wave: Any) -> jax.Array:
        """Sound to network input: (..., samples) -> (..., mel bands, frames, 1); jittable, batched, differentiable.

        With `padding` sounds of any length are taken: what is missing is padded, what is too long is cut off.

        Raises:
          ValueError: as in `features`.
        """
        return jnp.swapaxes(self.features(wave), -1, -2)[..., None]

    def picture(self, x: Any) -> Picture:
        low = max(self.transform.floor_db, self.ceiling_db - _PICTURE_DB)
        return dataclasses.replace(super().picture(x), low=low)

    def _value(self, energies: Any) -> Any:
        return (energies - self.mean) / (2.0 * self.std)


def ast(
    frames: int = 1024,
    *,
    seconds: float | None = None,
    n_mels: int = 128,
    sample_rate: int = 16_000,
    mean: float = AST_MEAN,
    std: float = AST_STD,
) -> Fbank:
    """What the Audio Spectrogram Transformer takes, as Hugging Face's ASTFeatureExtractor makes it.

    Kaldi's filter bank of samples with full scale 1, Hanning window; sounds are padded with energies of 0, which is
    well above silence, or cut to `frames`.

    Args:
      frames: of 10 ms, 1024 in the published network.
      seconds: how much of it is sound and can be played; the rest is padding. None for all of it.
      n_mels: bands.
      sample_rate: in Hz.
      mean: is taken off the energies.
      std: half of what they are then divided by; a mean of 0 and a std of 0.5 leave them as they are.

    Raises:
      ValueError: a sound longer than the frames, or settings that contradict each other.
    """
    transform = FbankTransform(sample_rate, n_mels)
    heard = None if seconds is None else transform.num_frames(round(seconds * sample_rate))
    return Fbank(transform, frames, mean=mean, std=std, padding=0.0, heard=heard)


def beats(seconds: float = 10.0, *, mean: float = BEATS_MEAN, std: float = BEATS_STD) -> Fbank:
    """What BEATs takes: Kaldi's filter bank of 16-bit numbers at 16 kHz, 128 bands, Povey window.

    Args:
      seconds: length of the sounds.
      mean: is taken off the energies.
      std: half of what they are then divided by.
    """
    transform = FbankTransform(window="povey", full_scale=2.0**15)
    frames = transform.num_frames(round(seconds * transform.sample_rate))
    return Fbank(transform, frames, mean=mean, std=std)
