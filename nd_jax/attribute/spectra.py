"""Time and frequency of a waveform, for taking parts of it away, and the moments at which something begins."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.audio import istft, spectrogram_db, stft
from nd_jax.domain import Axis, Domain, LogMel, Waveform

# What is louder than this below a clip's loudest cell counts for onsets, in dB.
_RANGE_DB = 60.0


@dataclasses.dataclass(frozen=True)
class TimeFrequency:
    """The short-time spectrum of a waveform: what stands in its cells can be taken out and the rest made sound again.

    Attributes:
      domain: of the waveform.
      n_fft: samples of a frame; frames overlap by three quarters.
    """

    kind: ClassVar[str] = "short-time spectrum"

    domain: Waveform
    n_fft: int = 512

    def __post_init__(self) -> None:
        if isinstance(self.n_fft, bool) or self.n_fft < 8 or self.n_fft % 4 or self.n_fft > self.domain.samples:
            raise ValueError(
                f"n_fft is a multiple of 4 from 8 to the {self.domain.samples} samples of the sound, not {self.n_fft!r}"
            )

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return self.n_fft // 4

    @property
    def shape(self) -> tuple[int, ...]:
        """(bins, frames)."""
        return (self.n_fft // 2 + 1, 1 + self.domain.samples // self.hop)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Hz of the bins, seconds of the frames."""
        rate = self.domain.sample_rate
        return (
            Axis("frequency", "Hz", np.fft.rfftfreq(self.n_fft, 1 / rate)),
            Axis("time", "s", np.arange(self.shape[1]) * self.hop / rate),
        )

    def spectrum(self, wave: jax.Array) -> jax.Array:
        """(..., samples, 1) -> complex (..., bins, frames)."""
        return stft(wave[..., 0], n_fft=self.n_fft, hop_length=self.hop)

    def sound(self, spectrum: jax.Array) -> jax.Array:
        """Complex (..., bins, frames) -> (..., samples, 1); `spectrum` undone."""
        return istft(spectrum, hop_length=self.hop, length=self.domain.samples)[..., None]


def onsets(domain: Domain, x: Any, *, least: float = 0.05, threshold: float = 0.2) -> list[np.ndarray]:
    """Edges of segments that begin where something begins, for `occlusion(time=onsets(...))`.

    An onset is a peak of the spectral flux: the sum over bands of how much louder they became since the frame before,
    in dB (Bello et al. 2005, section III-A, half-wave rectified), over the last 60 dB of a clip.

    Args:
      domain: `LogMel` or `Waveform`.
      x: one clip or several, (*shape) or (clips, *shape).
      least: seconds between two edges.
      threshold: of the largest peak of the clip.

    Returns:
      One array of rising seconds for each clip; the first is the beginning, the last the end.

    Raises:
      ValueError: another kind of domain, clips that do not fit, or settings out of range.
    """
    if not isinstance(domain, (LogMel, Waveform)):
        raise ValueError(f"onsets are for log-mel spectrograms and waveforms, not for {domain.kind!r}")
    if not least > 0 or not 0 < threshold <= 1:
        raise ValueError(f"onsets need least above 0 s and 0 < threshold <= 1, got {least!r} and {threshold!r}")
    domain.check(x)
    clips = np.asarray(x, np.float32)
    clips = clips[None] if clips.ndim == len(domain.shape) else clips
    if isinstance(domain, LogMel):
        levels = np.asarray(domain.to_db(clips))[..., 0]
        seconds, end = domain.seconds_per_frame, domain.frames * domain.seconds_per_frame
    else:
        n_fft = min(512, 4 * (domain.samples // 4))
        levels = np.asarray(spectrogram_db(jnp.asarray(clips[..., 0]), n_fft=n_fft, hop_length=n_fft // 4))
        seconds, end = n_fft / 4 / domain.sample_rate, domain.samples / domain.sample_rate
    return [_edges(level, seconds, end, least, threshold) for level in levels]


def _edges(levels: np.ndarray, seconds: float, end: float, least: float, threshold: float) -> np.ndarray:
    """Of one clip, (bands, frames) dB."""
    heard = np.maximum(levels, np.max(levels) - _RANGE_DB)
    rise = np.maximum(np.diff(heard, axis=1, prepend=heard[:, :1]), 0).sum(axis=0)
    around = np.pad(rise, 1)
    peaks = np.flatnonzero((rise > 0) & (rise >= around[:-2]) & (rise > around[2:]))
    peaks = peaks[rise[peaks] >= threshold * np.max(rise, initial=0.0)]
    kept: list[float] = []
    # The strongest first: a weaker one next to it is its echo.
    for peak in peaks[np.argsort(-rise[peaks], kind="stable")]:
        at = peak * seconds
        if least <= at <= end - least and all(abs(at - other) >= least for other in kept):
            kept.append(at)
    return np.asarray([0.0, *sorted(kept), end])
