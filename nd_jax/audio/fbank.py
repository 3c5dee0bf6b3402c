"""Kaldi's filter bank as a front end in dBFS, with the way back to sound: what AST and BEATs listen through."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.audio.kaldi import KALDI_WINDOWS, kaldi_fbank, kaldi_mel_banks
from nd_jax.audio.mel import LogMel, mel_frequencies
from nd_jax.audio.stft import window as window_function
from nd_jax.runtime import nearest

_DB_PER_NEPER = 10.0 / math.log(10.0)  # of a power
_FLOOR = math.log(float(np.finfo(np.float32).eps))
_PREEMPHASIS = 0.97


@dataclasses.dataclass(frozen=True)
class Fbank:
    """Log mel filter bank energies as Kaldi computes them (see `kaldi_fbank`). Hashable: static under `jax.jit`.

    `log_energies` gives Kaldi's own numbers, natural logarithms of power, frames before bands; `forward` gives the same
    as levels, bands before frames, where a sine of full scale reads 0 dB but for the pre-emphasis: -30 dB at the lowest
    frequencies, 0 dB at a sixth and +6 dB at a half of the sample rate. Frames lie wholly within the sound, each one's
    mean is taken off, and what is below float32's epsilon counts as that. At the lower end bands are narrower than one
    bin of the spectrum, and some have none.

    Attributes:
      sample_rate: in Hz.
      n_mels: bands, at least 4.
      window: one of `KALDI_WINDOWS`.
      full_scale: what a sample of 1 is multiplied by; Kaldi itself works on 16-bit numbers, 2 ** 15.
      f_min: lower end of the lowest band, in Hz.
      f_max: upper end of the highest band, in Hz; by default half the sample rate.
      frame_length: in milliseconds.
      frame_shift: in milliseconds.
    """

    sample_rate: int = 16_000
    n_mels: int = 128
    window: str = "hanning"
    full_scale: float = 1.0
    f_min: float = 20.0
    f_max: float | None = None
    frame_length: float = 25.0
    frame_shift: float = 10.0

    def __post_init__(self) -> None:
        if self.window not in KALDI_WINDOWS:
            raise ValueError(f"unknown window {self.window!r}; {nearest(str(self.window), KALDI_WINDOWS)}")
        if min(self.sample_rate, self.n_mels, self.full_scale) <= 0 or self.hop_length < 1 or self.win_length < 2:
            raise ValueError(f"sizes, rates and the full scale of a Fbank must be positive: {self}")
        self.filters  # noqa: B018, rejects wrong band limits here and not in the first forward pass

    @property
    def hop_length(self) -> int:
        """Samples from frame to frame."""
        return int(self.sample_rate * self.frame_shift * 0.001)

    @property
    def win_length(self) -> int:
        """Samples of a frame."""
        return int(self.sample_rate * self.frame_length * 0.001)

    @property
    def n_fft(self) -> int:
        """Samples of a frame with the zeros behind it: a power of two."""
        return 1 << (self.win_length - 1).bit_length()

    @property
    def filters(self) -> np.ndarray:
        """The filter bank, (n_mels, n_fft // 2 + 1)."""
        return kaldi_mel_banks(self.n_mels, self.n_fft, float(self.sample_rate), self.f_min, self.f_max or 0.0)

    @property
    def centre_frequencies(self) -> np.ndarray:
        """The frequency of each band's peak in Hz, (n_mels,) float64."""
        return mel_frequencies(self.n_mels + 2, self.f_min, self.f_max or self.sample_rate / 2, "kaldi")[1:-1]

    @property
    def full_scale_db(self) -> float:
        """The power, in dB, of a sine of full scale that lies in one band, without pre-emphasis."""
        # All that one lobe of the sine holds, by Parseval.
        shape = window_function(self.window, self.win_length, periodic=False)
        lobe = self.n_fft * float(np.sum(shape**2)) / 4.0 * self.full_scale**2
        return 10.0 * math.log10(lobe)

    @property
    def floor_db(self) -> float:
        """The lowest level; silence."""
        return float(self.to_db(_FLOOR))

    def to_db(self, energies: Any) -> Any:
        """Natural logarithms of power to dBFS, any shape."""
        return energies * _DB_PER_NEPER - self.full_scale_db

    def from_db(self, levels: Any) -> Any:
        """dBFS to natural logarithms of power, any shape."""
        return (levels + self.full_scale_db) / _DB_PER_NEPER

    def num_frames(self, samples: int) -> int:
        """Frames of a sound of `samples` samples; 0 for one that is shorter than a frame."""
        return max(1 + (samples - self.win_length) // self.hop_length, 0)

    def num_samples(self, frames: int) -> int:
        """The length of sound that `inverse` makes from `frames` frames; `num_frames` of it is `frames` again."""
        return (frames - 1) * self.hop_length + self.win_length

    def log_energies(self, wave: Any) -> jax.Array:
        """Sound to Kaldi's features: (..., samples) -> (..., num_frames(samples), n_mels); differentiable, batched.

        Raises:
          ValueError: a sound that is shorter than one frame.
        """
        return kaldi_fbank(
            jnp.asarray(wave, jnp.float32) * self.full_scale,
            sample_frequency=float(self.sample_rate),
            frame_length=self.frame_length,
            frame_shift=self.frame_shift,
            num_mel_bins=self.n_mels,
            low_freq=self.f_min,
            high_freq=self.f_max or 0.0,
            window_type=self.window,
            preemphasis_coefficient=_PREEMPHASIS,
        )

    def forward(self, wave: Any) -> jax.Array:
        """Sound to levels: (..., samples) -> (..., n_mels, num_frames(samples)) in dBFS; differentiable, batched."""
        return jnp.swapaxes(self.to_db(self.log_energies(wave)), -1, -2)

    def inverse(
        self, levels: Any, *, n_iter: int = 32, momentum: float = 0.99, key: jax.Array | None = None
    ) -> jax.Array:
        """Levels to sound: (..., n_mels, frames) in dBFS -> (..., num_samples(frames)) float32.

        Pre-emphasis is taken off the bands, then they are inverted as `LogMel.inverse` does with the same filters, hop
        and frame length, whose arguments these are.

        Raises:
          ValueError: another shape.
        """
        levels = jnp.asarray(levels, jnp.float32)
        if levels.ndim < 2 or levels.shape[-2] != self.n_mels:
            raise ValueError(f"levels have the shape (..., {self.n_mels}, frames), not {levels.shape}")
        lead = (1,) * (levels.ndim - 2)
        emphasis = jnp.asarray(self._emphasis_db, jnp.float32).reshape(*lead, self.n_mels, 1)
        plain = jnp.where(levels <= self.floor_db + 1e-3, self.floor_db, levels - emphasis)
        wave = self._plain.inverse(plain, n_iter=n_iter, momentum=momentum, key=key)
        # Its frames are centred, and Kaldi's begin with the sound.
        before = self.win_length // 2
        missing = self.num_samples(levels.shape[-1]) - before - wave.shape[-1]
        pads = [(0, 0)] * (wave.ndim - 1) + [(before, max(missing, 0))]
        return jnp.pad(wave, pads)[..., : self.num_samples(levels.shape[-1])]

    @property
    def _plain(self) -> LogMel:
        return LogMel(
            sample_rate=self.sample_rate,
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            n_mels=self.n_mels,
            f_min=self.f_min,
            f_max=self.f_max,
            win_length=self.win_length,
            scale="kaldi",
            floor_db=self.floor_db,
        )

    @property
    def _emphasis_db(self) -> np.ndarray:
        turn = 2.0 * np.pi * self.centre_frequencies / self.sample_rate
        return 10.0 * np.log10(1.0 + _PREEMPHASIS**2 - 2.0 * _PREEMPHASIS * np.cos(turn))
