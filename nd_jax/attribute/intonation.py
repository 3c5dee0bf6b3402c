"""Intensity or intonation? A recording taken apart into how loud and how high it is, flattened, and put together again.

A voice is spoken anew by Praat's pitch-synchronous overlap-add (Moulines & Charpentier 1990, through parselmouth, extra
"voice"), with the contour of its fundamental frequency where a mask is 1 and its mean where it is 0; every short piece
of the result is brought back to the level that it had. The other way round levels are flattened and pitch stays. A
vocoder has no gradient, so what of a contour a network needs is searched: `contour_mask`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from nd_jax.attribute import targets
from nd_jax.audio import fit
from nd_jax.domain import Waveform
from nd_jax.network import Network
from nd_jax.runtime import nearest, require
from nd_jax.visualize import classes as by_class

CONTOURS = ("intonation", "intensity")
_STEP = 0.01  # seconds from one point of a contour to the next
_WINDOW = 0.025
_SOUNDING_DB = 40.0
_LARGEST_DB = 30.0


@dataclasses.dataclass(frozen=True, eq=False)
class Speech:
    """A recording and its two contours.

    Attributes:
      wave: (samples,) float32.
      sample_rate: in Hz.
      seconds: (points,) of the contours.
      f0: (points,) fundamental frequency in Hz, 0 where there is no voice.
      level: (points,) dB, of 25-ms windows.
    """

    wave: np.ndarray
    sample_rate: int
    seconds: np.ndarray
    f0: np.ndarray
    level: np.ndarray
    manipulation: Any = dataclasses.field(repr=False, default=None)

    @property
    def voiced(self) -> np.ndarray:
        """(points,) where there is voice."""
        return self.f0 > 0

    @property
    def sounding(self) -> np.ndarray:
        """(points,) what is at most 40 dB below the loudest point."""
        return self.level > self.level.max() - _SOUNDING_DB

    @property
    def mean_f0(self) -> float:
        """The geometric mean over what is voiced, in Hz; 0 without voice."""
        return float(np.exp(np.mean(np.log(self.f0[self.voiced])))) if self.voiced.any() else 0.0

    def span(self, contour: str) -> tuple[float, float]:
        """The first and the last second of what a contour is about: voice, or sound.

        Raises:
          ValueError: neither "intonation" nor "intensity".
        """
        where = self._where(contour)
        return (float(self.seconds[where][0]), float(self.seconds[where][-1])) if where.any() else (0.0, 0.0)

    def cells(self, contour: str, count: int) -> np.ndarray:
        """(points,) in which of so many equal parts of `span` each point lies, -1 outside of what the contour is."""
        first, last = self.span(contour)
        place = (self.seconds - first) / max(last - first, 1e-9) * count
        return np.where(self._where(contour), np.clip(place, 0, count - 1).astype(int), -1)

    def remade(self, *, intonation: Any = 1.0, intensity: Any = 1.0) -> np.ndarray:
        """The recording with both contours under masks: (samples,) float32.

        Args:
          intonation: 1 keeps the contour of f0, 0 puts its geometric mean in its place, and what lies between is
            between on a logarithmic scale: one number, or one for each point.
          intensity: likewise for the level in dB and its mean over what sounds.

        Raises:
          ValueError: masks that are not 0 ... 1, or of another length.
        """
        pitch, loud = (_mask(name, given, self) for name, given in zip(CONTOURS, (intonation, intensity), strict=True))
        wave = self._voice(pitch)
        wanted = np.where(self.sounding, loud * self.level + (1 - loud) * self.level[self.sounding].mean(), self.level)
        # Overlap-add puts more periods into a second of a higher voice: levels are brought to what they should be.
        for _ in range(2):
            gain = np.clip(wanted - levels(wave, self.sample_rate)[: len(wanted)], -_LARGEST_DB, _LARGEST_DB)
            gain = np.where(self.sounding, gain, 0.0)
            at = np.interp(np.arange(len(wave)) / self.sample_rate, self.seconds, gain)
            wave = wave * 10 ** (at / 20)
        return wave.astype(np.float32)

    def _where(self, contour: str) -> np.ndarray:
        if contour not in CONTOURS:
            raise ValueError(f"unknown contour {contour!r}; {nearest(str(contour), CONTOURS)}")
        return self.voiced if contour == "intonation" else self.sounding

    def _voice(self, mask: np.ndarray) -> np.ndarray:
        """Spoken again with the f0 under a mask, float64."""
        if not self.voiced.any():
            return self.wave.astype(np.float64)
        call = require("parselmouth.praat", "voice").call
        tier = call("Create PitchTier", "f0", 0.0, len(self.wave) / self.sample_rate)
        flat = np.log(self.mean_f0)
        for second, f0, share in zip(self.seconds[self.voiced], self.f0[self.voiced], mask[self.voiced], strict=True):
            call(tier, "Add point", float(second), float(np.exp(share * np.log(f0) + (1 - share) * flat)))
        manipulation = self.manipulation.copy()
        call([tier, manipulation], "Replace pitch tier")
        wave = np.asarray(call(manipulation, "Get resynthesis (overlap-add)").values[0], np.float64)
        return fit(wave, len(self.wave))


def speech(wave: Any, sample_rate: int, *, low: float = 60.0, high: float = 600.0) -> Speech:
    """The contours of a recording.

    Args:
      wave: (samples,), full scale 1.
      sample_rate: in Hz.
      low: the lowest fundamental frequency that is looked for, in Hz.
      high: the highest.

    Raises:
      MissingExtraError: parselmouth is not installed.
      ValueError: no mono sound of at least 0.1 s, or a range that is none.
    """
    samples = np.asarray(wave, np.float64)
    if samples.ndim != 1 or len(samples) < 0.1 * sample_rate or not np.all(np.isfinite(samples)):
        raise ValueError(f"speech is a mono sound of 0.1 s or more, (samples,), not of shape {samples.shape}")
    if not 0 < low < high < sample_rate / 2:
        raise ValueError(f"f0 is looked for between 0 < low < high < {sample_rate / 2:g} Hz, got {low:g} and {high:g}")
    praat = require("parselmouth", "voice")
    call = require("parselmouth.praat", "voice").call
    sound = praat.Sound(samples, sampling_frequency=sample_rate)
    manipulation = call(sound, "To Manipulation", _STEP, low, high)
    pitch = sound.to_pitch(time_step=_STEP, pitch_floor=low, pitch_ceiling=high)
    level = levels(samples, sample_rate)
    seconds = np.arange(len(level)) * _STEP
    f0 = np.nan_to_num([pitch.get_value_at_time(second) for second in seconds])
    return Speech(samples.astype(np.float32), sample_rate, seconds, f0, level, manipulation)


def levels(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """The level of 25-ms Hann windows every 10 ms, in dB, at least -120: (1 + seconds / 0.01,)."""
    size = round(_WINDOW * sample_rate)
    window = np.hanning(size + 2)[1:-1]
    centres = np.round(np.arange(0, len(wave) / sample_rate, _STEP) * sample_rate).astype(int)
    padded = np.pad(np.square(np.asarray(wave, np.float64)), size // 2 + 1)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[centres]
    return 10 * np.log10(np.maximum(frames @ window / window.sum(), 1e-12))


@dataclasses.dataclass(frozen=True, eq=False)
class ContourMask:
    """The least of a contour with which a class is still recognised.

    Attributes:
      contour: "intonation" or "intensity".
      mask: (cells,) 1 where the contour stays, 0 where it is flat.
      used: (cells,) the cells in which there is anything to flatten.
      chances: (flattened + 1,) the class's probability, from the whole contour on, as one cell after the other goes.
      order: (flattened,) in which order.
      wave: (samples,) the recording under the mask.
    """

    contour: str
    mask: np.ndarray
    used: np.ndarray
    chances: np.ndarray
    order: np.ndarray
    wave: np.ndarray

    @property
    def kept(self) -> float:
        """The share of the contour that stays."""
        return float(self.mask[self.used].mean()) if self.used.any() else 0.0


def contour_mask(
    network: Network,
    voice: Speech,
    target: int | str,
    contour: str,
    *,
    cells: int = 8,
    sure: float = 0.9,
    part: str | None = None,
) -> ContourMask:
    """Flattens a contour cell by cell, that one first which costs least, as long as the class is recognised.

    Recognised is as probable as `sure`, or as with the whole contour when that is less. Every step tries all cells that
    are left, so 8 cells cost at most 37 resyntheses.

    Args:
      network: a classifier of log-mels or of samples.
      voice: the recording, at the network's sample rate.
      target: a class, by number or label.
      contour: "intonation" or "intensity".
      cells: equal parts of the voiced (or sounding) stretch.
      sure: how probable the class must stay.
      part: which output, for a classifier with several.

    Raises:
      ValueError: an unknown contour or class, another sample rate, a network that hears no sound.
    """
    targets.whole("cells", cells)
    if not 0 < sure <= 1:
        raise ValueError(f"sure is a probability above 0 and at most 1, got {sure!r}")
    (asked,) = by_class.class_indices(network, target, part)
    where = voice.cells(contour, cells)
    used = np.isin(np.arange(cells), where)

    def chance(masks: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        waves = [voice.remade(**{contour: np.where(where >= 0, mask[where], 1.0)}) for mask in masks]
        return said(network, waves, voice.sample_rate, part)[:, asked], waves

    mask = np.ones(cells)
    (start,), (wave,) = chance(mask[None])
    chances, order, enough = [float(start)], [], min(sure, float(start))
    while True:
        left = np.flatnonzero((mask > 0) & used)
        if not len(left):
            break
        tried = np.repeat(mask[None], len(left), axis=0)
        tried[np.arange(len(left)), left] = 0.0
        found, waves = chance(tried)
        best = int(np.argmax(found))
        if found[best] < enough:
            break
        mask, wave = tried[best], waves[best]
        chances.append(float(found[best]))
        order.append(int(left[best]))
    return ContourMask(contour, mask, used, np.asarray(chances), np.asarray(order, int), wave)


def said(network: Network, waves: Any, sample_rate: int, part: str | None = None) -> np.ndarray:
    """What a classifier says to sounds: softmax probabilities (n, classes).

    Args:
      network: a classifier of log-mels or of samples.
      waves: n sounds, (samples,) each; the network's length is cut off or filled up with zeros.
      sample_rate: of these, which must be the network's.
      part: which output.

    Raises:
      ValueError: another sample rate, or a network that hears no sound.
    """
    return by_class.said(network, heard(network, waves, sample_rate), part)


def heard(network: Network, waves: Any, sample_rate: int) -> np.ndarray:
    """Sounds as inputs of a network, (n, *network.input.shape); arguments and errors as in `said`."""
    domain: Any = network.input
    if domain.kind not in ("log_mel", "waveform"):
        raise ValueError(f"intonation is for networks that hear, and this one takes an input of kind {domain.kind!r}")
    if sample_rate != domain.sample_rate:
        raise ValueError(f"this sound has {sample_rate} Hz, and the network takes {domain.sample_rate} Hz")
    fitted = np.stack([fit(np.asarray(wave, np.float32), domain.samples) for wave in waves])
    return fitted[..., None] if isinstance(domain, Waveform) else np.asarray(domain.from_wave(fitted))


def _mask(name: str, given: Any, voice: Speech) -> np.ndarray:
    values = np.asarray(given, np.float64)
    if values.shape not in ((), voice.seconds.shape) or not np.all((values >= 0) & (values <= 1)):
        raise ValueError(
            f"{name} is a mask of 0 ... 1, one number or {len(voice.seconds)}, and it has the shape {values.shape}"
        )
    return np.broadcast_to(values, voice.seconds.shape)
