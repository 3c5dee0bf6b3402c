"""Sound as GANSynth's networks make and take it: levels and instantaneous frequencies."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.audio.mel_if import EPSILON, NORMAL_OFFSET, NORMAL_SCALE
from nd_jax.audio.mel_if import MelIF as MelIFTransform
from nd_jax.domain.colour import oklab_to_srgb
from nd_jax.domain.core import Axis, Domain, Picture, Sound, array_field, index_axis, pytree

_DB_PER_NEPER = 20.0 / float(np.log(10.0))
_PICTURE_DB = (-80.0, 0.0)


@pytree
@dataclasses.dataclass(frozen=True)
class MelIF(Domain):
    """Levels and instantaneous frequencies of a sound: shape (frames, bins, 2), in the units of the front end.

    Channel 0 is the log mel power (log magnitude, where the front end is linear), silence about -13.8; channel 1 the
    instantaneous frequency (or the phase) in units of pi. Both are unbounded in principle; `limits` are where
    GANSynth's discriminator clips them, -16.8 ... 13.4 and -1.25 ... 1.25.

    Attributes:
      transform: the front end, `nd_jax.audio.MelIF`.
      band_mean: (bins, 2) where the training data lie on average between the limits, in 0 ... 1, or None; see
        `with_statistics`.
    """

    kind: ClassVar[str] = "mel_if"
    is_sound: ClassVar[bool] = True
    made_of: ClassVar[str] = (
        "Brightness is level, −80 to 0 dBFS, and colour is instantaneous frequency; sound is made from both, with no "
        "search for phases."
    )

    transform: MelIFTransform
    band_mean: Any = array_field()

    def __post_init__(self) -> None:
        if not isinstance(self.transform, MelIFTransform):
            raise ValueError(f"transform of a domain 'mel_if' is an audio.MelIF, got {self.transform!r}")

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.transform.shape

    @property
    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        low, high = ((end - np.asarray(NORMAL_OFFSET)) / np.asarray(NORMAL_SCALE) for end in (-1.0, 1.0))
        return low.astype(np.float32).reshape(1, 1, 2), high.astype(np.float32).reshape(1, 1, 2)

    @property
    def low(self) -> float:  # type: ignore[override]
        """The lower limit of either channel."""
        return float(self.limits[0].min())

    @property
    def high(self) -> float:  # type: ignore[override]
        """The upper limit of either channel."""
        return float(self.limits[1].max())

    @property
    def sample_rate(self) -> int:
        """Samples per second of the sound, in Hz."""
        return self.transform.sample_rate

    @property
    def samples(self) -> int:
        """Length of the sound, in samples."""
        return self.transform.samples

    @property
    def axes(self) -> tuple[Axis, ...]:
        scale = "mel" if self.transform.kind == "mel" else "linear"
        return (
            Axis("time", "s", self.transform.times),
            Axis("frequency", "Hz", self.transform.frequencies, scale=scale),
            index_axis("channel", "", 2),
        )

    def silence(self) -> jax.Array:
        return jnp.broadcast_to(jnp.asarray([np.log(EPSILON), 0.0], jnp.float32), self.shape)

    def from_wave(self, wave: Any, *, sample_rate: int | None = None) -> jax.Array:
        """Sound to network input: (..., samples) -> (..., frames, bins, 2); jittable, batched, differentiable.

        Raises:
          ValueError: sound of another length, or (where it is given) of another rate.
        """
        return self.transform.forward(wave, sample_rate=sample_rate)

    def to_wave(self, x: Any) -> jax.Array:
        """Network output to sound: (..., frames, bins, 2) -> (..., samples); jittable, batched, differentiable."""
        return self.transform.inverse(x)

    def levels(self, x: Any) -> jax.Array:
        """(..., frames, bins, 2) -> (..., frames, bins) in dB against a sine of full scale that lies on a bin."""
        power = 0.5 if self.transform.kind == "mel" else 1.0
        return _DB_PER_NEPER * (power * x[..., 0] - float(np.log(self.transform.n_fft / 4)))

    @property
    def silence_db(self) -> float:
        """The level of silence, in dB, as `levels` has it."""
        return float(self.levels(np.asarray([np.log(EPSILON), 0.0], np.float32)))

    def level_db(self, x: Any) -> np.ndarray:
        """`levels` of one example, (frames, bins)."""
        return np.asarray(self.levels(np.asarray(x, np.float32).reshape(self.shape)))

    def sound(self, x: Any) -> Sound:
        clean = jnp.nan_to_num(jnp.asarray(x, jnp.float32).reshape(self.shape), neginf=self.low, posinf=self.high)
        return Sound(np.asarray(self.to_wave(clean)), self.sample_rate)

    def picture(self, x: Any) -> Picture:
        """Both channels in one picture, a rainbowgram.

        Brightness is the level, -80 ... 0 dBFS, and the hue goes once around the circle of colours as the instantaneous
        frequency goes from -1 to 1, which are the same.

        Source: the rainbowgrams of Engel et al. 2017, "Neural Audio Synthesis of Musical Notes with WaveNet
        Autoencoders". `pictures` draws the channels apart.
        """
        level, frequency = self.pictures(x)
        low, high = _PICTURE_DB
        share = np.clip((np.nan_to_num(level.values, nan=low) - low) / (high - low), 0.0, 1.0)
        colours = oklab_to_srgb(
            0.92 * share**0.7, 0.16 * np.minimum(2 * share, 1.0), np.pi * np.nan_to_num(frequency.values)
        )
        return Picture(colours, level.x, level.y, "", 0.0, 1.0)

    def pictures(self, x: Any) -> tuple[Picture, Picture]:
        """The level, in dB against full scale, and the instantaneous frequency, in units of pi a frame, apart."""
        time, frequency, _ = self.axes
        rows = dataclasses.replace(frequency, values=frequency.values[::-1])
        turned = np.asarray(x, np.float32).reshape(self.shape)[..., 1]
        unit = "π" if self.transform.kind == "phase" else "π/frame"
        return (
            Picture(self.level_db(x).T[::-1], time, rows, "dB", *_PICTURE_DB),
            Picture(turned.T[::-1], time, rows, unit, -1.0, 1.0),
        )

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "transform": dataclasses.asdict(self.transform)}

    @classmethod
    def _build(cls, fields: dict[str, Any], arrays: Mapping[str, Any]) -> Domain:
        fields = dict(fields)
        try:
            fields["transform"] = MelIFTransform(**fields["transform"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"domain 'mel_if' needs a 'transform' with the fields of audio.MelIF: {error}") from None
        return super()._build(fields, arrays)
