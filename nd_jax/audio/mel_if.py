"""Sound as levels and instantaneous frequencies: the pictures that GANSynth paints, and the way back to sound.

A picture is (..., frames, bins, 2): channel 0 says how much there is, channel 1 by how much the phase goes on from
frame to frame, in units of pi. Phases are therefore part of the picture, and the way back needs no search for them.
Source: Engel et al. 2019, "GANSynth: Adversarial Neural Audio Synthesis", section 2, with the conventions of its code.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.audio.banded import banded_product
from nd_jax.audio.mel import hz_to_mel, mel_to_hz
from nd_jax.audio.stft import STFT, align_last, analyse, overlap_add, padded_window
from nd_jax.runtime import nearest

KINDS = ("mel", "linear", "phase")

EPSILON = 1e-6
"""What is added before every logarithm: silence is log(1e-6) = -13.8155."""

NORMAL_SCALE = (0.0661371661726, 0.8)
NORMAL_OFFSET = (0.113718730221, 0.0)

_LARGEST_FFT, _LARGEST_PICTURE = 1 << 16, 1 << 28
# Columns of a mel matrix that are multiplied at once: fewer cost more calls, more cost more zeros.
_BLOCK = 64
_SMALLEST = float(np.finfo(np.float32).tiny)


def normalize(picture: Any) -> jax.Array:
    """Pictures to what GANSynth's networks see: scale * x + offset for each channel, clipped to -1 ... 1; any (..., 2).

    Silence becomes -0.8, a log power of 10.38 becomes 0.8, and an instantaneous frequency of 1 becomes 0.8.
    """
    x = jnp.asarray(picture, jnp.float32)
    scale, offset = _per_channel(x.ndim)
    return jnp.clip(x * scale + offset, -1.0, 1.0)


def denormalize(values: Any) -> jax.Array:
    """The way back from `normalize`, where nothing was clipped; any (..., 2)."""
    x = jnp.asarray(values, jnp.float32)
    scale, offset = _per_channel(x.ndim)
    return (x - offset) / scale


def _per_channel(ndim: int) -> tuple[jax.Array, jax.Array]:
    scale, offset = (np.asarray(each, np.float32) for each in (NORMAL_SCALE, NORMAL_OFFSET))
    return align_last(scale, ndim), align_last(offset, ndim)


@functools.lru_cache(maxsize=16)
def shared_edge_mel_matrix(bins: int, bands: int, sample_rate: float) -> tuple[np.ndarray, np.ndarray]:
    """GANSynth's mel matrix, and the frequency of each band.

    Triangles, linear in Hz, peak 1, on bands + 2 edges evenly spaced in mels (1127 ln(1 + f / 700)) from 0 Hz to half
    the rate. A band narrower than 1.5 bins is widened to that, from the lowest upwards, by moving the two edges beside
    its centre. Neighbours share these edges, so that a widened band moves the next one's centre: with as many bands as
    bins the scale is linear in Hz at the bottom and turns to mels above. Rows stand at evenly spaced frequencies from 0
    to half the rate and not at the true frequencies of the bins; the first one, at 0 Hz, is zero.

    Args:
      bins: rows: bins of the spectrum without the constant.
      bands: columns.
      sample_rate: in Hz.

    Returns:
      The matrix (bins, bands) and the centres in Hz (bands,), both float64 and read-only.
    """
    top = sample_rate / 2
    resolution = top / bins
    edges = np.linspace(hz_to_mel(0.0, "kaldi"), hz_to_mel(top, "kaldi"), bands + 2)
    for band in range(bands):
        lower, centre, upper = mel_to_hz(edges[band : band + 3], "kaldi")
        if upper - lower < 1.5 * resolution:
            # In mels, half a width of 1.5 bins around the centre, exactly: 1127 arsinh(r).
            away = 1127.0 * np.arcsinh(0.5 * 1.5 * resolution / (centre + 700.0))
            edges[band], edges[band + 2] = edges[band + 1] - away, edges[band + 1] + away
    hertz = mel_to_hz(edges, "kaldi")
    lower, centre, upper = hertz[None, :-2], hertz[None, 1:-1], hertz[None, 2:]
    rows = np.linspace(0.0, top, bins)[:, None]
    matrix = np.maximum(0.0, np.minimum((rows - lower) / (centre - lower), (upper - rows) / (upper - centre)))
    matrix[0] = 0.0
    centres = hertz[1:-1].copy()
    for array in (matrix, centres):
        array.flags.writeable = False
    return matrix, centres


@functools.lru_cache(maxsize=16)
def mel_back_matrix(bins: int, bands: int, sample_rate: float) -> np.ndarray:
    """The way back from `shared_edge_mel_matrix`, approximately.

    Of the matrix M it is transpose(M) diag(d), with 1 / d the column sums of M transpose(M): what is alike in
    neighbouring bands comes back as it was.

    Returns:
      (bands, bins) float64, read-only. Bins that no band sees get nothing back.
    """
    matrix, _ = shared_edge_mel_matrix(bins, bands, sample_rate)
    sums = matrix @ matrix.sum(axis=0)
    seen = np.abs(sums) > 1e-8
    back = matrix.T * np.where(seen, 1.0 / np.where(seen, sums, 1.0), sums)
    back.flags.writeable = False
    return back


@dataclasses.dataclass(frozen=True)
class MelIF:
    """Sound of one length to (level, instantaneous frequency) and back. Hashable: static under `jax.jit`.

    The defaults are GANSynth's: 4 s at 16 kHz as 128 x 1024 x 2. `MelIF(n_fft=1024)` is its low-resolution variant,
    256 x 512 x 2; `kind` picks its other pictures.

    Frames begin at multiples of the hop, after `padding` zeros in front of the sound and none behind it; the window is
    a periodic Hann window. Of the n_fft // 2 + 1 bins the constant is dropped, half the sample rate is kept.

    What the way back loses, whatever the picture: the constant; the last n_fft - hop_length samples fade, as fewer
    windows overlap there. With kind "mel" also what the bands do not tell apart: neighbouring bins that a band sums up,
    in level and in phase. Magnitudes below about 1e-3 (-114 dBFS at the default size) come back as such a floor.

    Attributes:
      sample_rate: in Hz.
      samples: the length of every sound.
      n_fft: frame size, even; there are n_fft // 2 bins.
      hop_length: samples from frame to frame; default n_fft // 4.
      frames: default the smallest power of two of frames that hold the whole sound.
      mel_downscale: with kind "mel", bins per band: there are n_fft // 2 // mel_downscale bands.
      kind: "mel": log mel power and mel instantaneous frequency. "linear": log magnitude and instantaneous frequency
        of every bin. "phase": log magnitude, and the phase itself in units of pi.
    """

    sample_rate: int = 16000
    samples: int = 64000
    n_fft: int = 2048
    hop_length: int | None = None
    frames: int | None = None
    mel_downscale: int = 1
    kind: str = "mel"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind {self.kind!r} of a MelIF; {nearest(str(self.kind), KINDS)}")
        if self.hop_length is None and _is_whole(self.n_fft):
            object.__setattr__(self, "hop_length", max(int(self.n_fft) // 4, 1))
        for name in ("sample_rate", "samples", "n_fft", "hop_length", "mel_downscale"):
            if not _is_whole(getattr(self, name)):
                raise ValueError(f"{name} of a MelIF must be a whole number of 1 or more, got {getattr(self, name)!r}")
        if self.n_fft % 2 or self.n_fft > _LARGEST_FFT:
            raise ValueError(f"n_fft of a MelIF must be even and at most {_LARGEST_FFT}, got {self.n_fft}")
        if self._hop > self.n_fft:
            raise ValueError(f"hop_length {self.hop_length} leaves gaps between frames of {self.n_fft} samples")
        if self.kind != "mel" and self.mel_downscale != 1:
            raise ValueError(f"mel_downscale is for the kind 'mel', not for {self.kind!r}")
        if self.mel_downscale > self.n_fft // 2:
            raise ValueError(f"mel_downscale {self.mel_downscale} leaves no band of {self.n_fft // 2} bins")
        least = 1 + max(-(-(self.samples - self.n_fft) // self._hop), 0)
        if self.frames is None:
            object.__setattr__(self, "frames", 1 << (least - 1).bit_length())
        if not _is_whole(self.frames) or self._frames < least:
            raise ValueError(f"{self.samples} samples need {least} frames or more, got frames {self.frames!r}")
        if self._frames * self.n_fft > _LARGEST_PICTURE:
            raise ValueError(f"{self.frames} frames of {self.n_fft} samples are more than any sound needs")

    @property
    def _hop(self) -> int:
        return int(self.hop_length)  # type: ignore[arg-type]

    @property
    def _frames(self) -> int:
        return int(self.frames)  # type: ignore[arg-type]

    @property
    def bins(self) -> int:
        """Columns of a picture: bands for kind "mel", bins for the others."""
        return self.n_fft // 2 // self.mel_downscale

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one picture: (frames, bins, 2)."""
        return (self._frames, self.bins, 2)

    @property
    def padding(self) -> int:
        """Zeros in front of the sound, in samples."""
        return self._hop * (self._frames - 1) + self.n_fft - self.samples

    @property
    def frequencies(self) -> np.ndarray:
        """The frequency of every column in Hz, (bins,) float64."""
        if self.kind == "mel":
            return shared_edge_mel_matrix(self.n_fft // 2, self.bins, self.sample_rate)[1]
        return np.arange(1, self.n_fft // 2 + 1) * (self.sample_rate / self.n_fft)

    @property
    def times(self) -> np.ndarray:
        """The middle of every frame in seconds, from the beginning of the sound, (frames,) float64."""
        return (np.arange(self._frames) * self._hop + self.n_fft / 2 - self.padding) / self.sample_rate

    def forward(self, wave: Any, *, sample_rate: int | None = None) -> jax.Array:
        """Sound to pictures: (..., samples) -> (..., frames, bins, 2) float32; jittable, batched.

        Differentiable; a phase is the steeper the quieter its bin is, and below a magnitude of 1e-6 its gradient is 0.

        Args:
          wave: (..., samples), full scale 1.
          sample_rate: the wave's, in Hz, if it is to be checked.

        Raises:
          ValueError: sound of another rate or length, or sound that is not finite; inside a compiled function its
            frames are not finite either.
        """
        if sample_rate is not None and sample_rate != self.sample_rate:
            raise ValueError(
                f"sound has {sample_rate} samples a second, but this picture is of {self.sample_rate}; "
                "resample it with nd_jax.audio.resample"
            )
        shape = np.shape(wave)
        if not shape or shape[-1] != self.samples:
            found = f"{shape[-1]} samples" if shape else "no axis of samples"
            raise ValueError(
                f"sound has {found}, but this picture is of {self.samples}; bring it to length with nd_jax.audio.fit"
            )
        if not isinstance(wave, jax.core.Tracer) and not bool(np.all(np.isfinite(np.asarray(wave)))):
            count = int(np.sum(~np.isfinite(np.asarray(wave))))
            raise ValueError(f"sound must be finite, and {count} of its {np.size(wave)} samples are NaN or infinite")
        return _forward(wave, self)

    def inverse(self, picture: Any) -> jax.Array:
        """Pictures to sound: (..., frames, bins, 2) -> (..., samples) float32; jittable, batched, differentiable.

        Phases are the sum of the instantaneous frequencies. See the class for what is lost.

        Raises:
          ValueError: another shape.
        """
        shape = np.shape(picture)
        if len(shape) < 3 or shape[-3:] != self.shape:
            raise ValueError(f"pictures have the shape (..., {', '.join(map(str, self.shape))}), not {shape}")
        return _inverse(picture, self)

    def spectrum(self, wave: jax.Array) -> jax.Array:
        """(..., samples) -> complex64 (..., frames, n_fft // 2), the constant dropped."""
        wave = jnp.pad(jnp.asarray(wave, jnp.float32), [(0, 0)] * (np.ndim(wave) - 1) + [(self.padding, 0)])
        return analyse(wave, STFT(self.n_fft, self._hop, center=False))[..., 1:]

    def from_spectrum(self, spectrum: jax.Array) -> jax.Array:
        """Complex (..., frames, n_fft // 2) -> float32 (..., samples): the inverse of `spectrum`, less the constant."""
        frames = jnp.fft.irfft(jnp.pad(spectrum, [(0, 0)] * (spectrum.ndim - 1) + [(1, 0)]), self.n_fft)
        wave = overlap_add(frames * align_last(_back_window(self.n_fft, self._hop), frames.ndim), self._hop)
        return wave[..., self.padding :]

    def linear(self, spectrum: jax.Array) -> jax.Array:
        """Complex (..., frames, n_fft // 2) -> (..., frames, n_fft // 2, 2).

        Log magnitude, and instantaneous frequency (for kind "phase", the phase), in units of pi.
        """
        power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
        # Neither is asked as >=: what is not finite must not pass for silence.
        sounds, heard = ~(power < _SMALLEST), ~(power < EPSILON**2)
        magnitude = jnp.where(sounds, jnp.sqrt(jnp.where(sounds, power, 1.0)), 0.0)
        # The slope of a phase is one over the magnitude: below EPSILON, where levels end too, it is called none.
        fixed = jax.lax.stop_gradient(spectrum)
        phase = jnp.arctan2(jnp.where(heard, spectrum.imag, fixed.imag), jnp.where(heard, spectrum.real, fixed.real))
        # An exact zero has the phase 0, whatever the signs of its two zeros are.
        phase = jnp.where(sounds, phase, 0.0)
        if self.kind != "phase":
            phase = jnp.concatenate([phase[..., :1, :], _wrapped(jnp.diff(phase, axis=-2))], axis=-2)
        return jnp.stack([jnp.log(magnitude + EPSILON), phase / np.pi], axis=-1)

    def from_linear(self, picture: jax.Array) -> jax.Array:
        """The inverse of `linear`: (..., frames, n_fft // 2, 2) -> complex64 (..., frames, n_fft // 2)."""
        phase = np.pi * (picture[..., 1] if self.kind == "phase" else jnp.cumsum(picture[..., 1], axis=-2))
        magnitude = jnp.exp(picture[..., 0])
        return jax.lax.complex(magnitude * jnp.cos(phase), magnitude * jnp.sin(phase))

    def linear_to_mel(self, picture: jax.Array) -> jax.Array:
        """(..., frames, n_fft // 2, 2) -> (..., frames, bins, 2): log mel power and mel instantaneous frequency.

        Unwrapped phases, not frequencies, are what the matrix sums up; as it is the same for every frame, their
        differences are the matrix times the frequencies, and are wrapped again.
        """
        matrix = shared_edge_mel_matrix(self.n_fft // 2, self.bins, self.sample_rate)[0]
        power = _times(jnp.exp(2.0 * picture[..., 0]), matrix)
        return jnp.stack([jnp.log(power + EPSILON), _moved(picture[..., 1], matrix)], axis=-1)

    def mel_to_linear(self, picture: jax.Array) -> jax.Array:
        """(..., frames, bins, 2) -> (..., frames, n_fft // 2, 2), through `mel_back_matrix`."""
        matrix = mel_back_matrix(self.n_fft // 2, self.bins, self.sample_rate)
        power = _times(jnp.exp(picture[..., 0]), matrix)
        return jnp.stack([0.5 * jnp.log(power + EPSILON), _moved(picture[..., 1], matrix)], axis=-1)


@functools.partial(jax.jit, static_argnames="transform")
def _forward(wave: Any, transform: MelIF) -> jax.Array:
    picture = transform.linear(transform.spectrum(wave))
    return transform.linear_to_mel(picture) if transform.kind == "mel" else picture


@functools.partial(jax.jit, static_argnames="transform")
def _inverse(picture: Any, transform: MelIF) -> jax.Array:
    picture = jnp.asarray(picture, jnp.float32)
    if transform.kind == "mel":
        picture = transform.mel_to_linear(picture)
    return transform.from_spectrum(transform.from_linear(picture))


def _is_whole(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, (int, np.integer)) and bool(1 <= value < 2**31)


def _wrapped(steps: jax.Array) -> jax.Array:
    """Steps of a phase, in radians, to -pi ... pi; half a turn keeps its sign (numpy.unwrap's rule). Slope 1."""
    turned = jnp.mod(steps + np.pi, 2.0 * np.pi) - np.pi
    turned = jnp.where((turned == -np.pi) & (steps > 0), np.pi, turned)
    return steps + jax.lax.stop_gradient(turned - steps)


def _moved(frequencies: jax.Array, matrix: np.ndarray) -> jax.Array:
    """Instantaneous frequencies, in units of pi, of phases that a matrix maps; the first frame is the phase itself."""
    steps = np.pi * _times(frequencies, matrix)
    return jnp.concatenate([steps[..., :1, :], _wrapped(steps[..., 1:, :])], axis=-2) / np.pi


def _times(x: jax.Array, matrix: np.ndarray) -> jax.Array:
    # Highest precision: on accelerators the default rounds to ten bits.
    return banded_product(matrix.T.astype(np.float32), _BLOCK, jax.lax.Precision.HIGHEST)(x)


@functools.lru_cache(maxsize=16)
def _back_window(n_fft: int, hop_length: int) -> np.ndarray:
    """The synthesis window: Hann, over the sum of the squares of all Hann windows that overlap there; float32."""
    hann = padded_window("hann", n_fft, n_fft).astype(np.float64)
    overlaps = -(-n_fft // hop_length)
    squares = np.zeros(overlaps * hop_length)
    squares[:n_fft] = hann**2
    total = np.tile(squares.reshape(overlaps, hop_length).sum(axis=0), overlaps)[:n_fft]
    return np.asarray(np.divide(hann, total, out=np.zeros(n_fft), where=total > 0), np.float32)
