"""Sound files: WAV, FLAC and OGG in and out, always mono float32 with full scale 1, never silently short or broken.

libsndfile returns what it can of a damaged file. Here the header's promise is compared with what is there, and every
fault is one `AudioFileError` sentence that names the file.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import pathlib
import uuid
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.audio.containers import AudioFileError, check_container, reason
from nd_jax.runtime import nearest

_log = logging.getLogger("nd_jax.audio")

POLICIES = ("pad", "tile", "crop")
READABLE_SUFFIXES = (".wav", ".wave", ".flac", ".ogg", ".oga", ".opus")
# Listed as skipped in a folder, with the reason; every other suffix is not a sound.
_OTHER_SOUND_SUFFIXES = (".mp3", ".m4a", ".aac", ".aif", ".aiff", ".aifc", ".au", ".snd", ".wma", ".caf", ".w64")
_FORMATS = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG"}
_SUBTYPES = {16: "PCM_16", 24: "PCM_24", 32: "FLOAT"}

_BLOCK = 1 << 16
# Resampling beyond this ratio needs more memory than a sound is worth and means that a header is wrong.
_MAX_RATIO = 1000


@dataclasses.dataclass(frozen=True)
class FolderSounds:
    """What `read_folder` found.

    Attributes:
      paths: the files that were read, sorted.
      waves: their sounds, (samples,) float32 each.
      sample_rates: of each wave, in Hz.
      skipped: (path, reason) of every sound file that could not be read.
    """

    paths: list[pathlib.Path]
    waves: list[np.ndarray]
    sample_rates: list[int]
    skipped: list[tuple[pathlib.Path, str]]

    def __len__(self) -> int:
        return len(self.waves)


def fit(wave: Any, samples: int, policy: str = "pad") -> Any:
    """Brings sound to a length: (..., n) -> (..., samples), numpy or JAX as it came.

    A longer sound is cut at its end. A shorter one is, by `policy`: "pad", followed by zeros; "tile", repeated; "crop",
    refused.

    Raises:
      ValueError: unknown policy, no samples, or a sound too short for "crop".
    """
    if policy not in POLICIES:
        raise ValueError(f"unknown length policy {policy!r}; {nearest(str(policy), POLICIES)}")
    if samples < 1:
        raise ValueError(f"a sound has at least 1 sample, not {samples}")
    numeric: Any = jnp if isinstance(wave, jax.Array) else np
    wave = numeric.asarray(wave)
    if wave.ndim == 0 or wave.shape[-1] == 0:
        raise ValueError(f"a sound has the shape (..., samples) with at least 1 sample, not {wave.shape}")
    have = wave.shape[-1]
    if have < samples:
        if policy == "crop":
            raise ValueError(
                f"a sound of {have} samples cannot be cropped to {samples}; policy 'pad' or 'tile' fills up"
            )
        if policy == "pad":
            return numeric.pad(wave, [(0, 0)] * (wave.ndim - 1) + [(0, samples - have)])
        wave = numeric.tile(wave, (1,) * (wave.ndim - 1) + (-(-samples // have),))
    return wave[..., :samples]


def resample(wave: np.ndarray, sample_rate: int, new_rate: int) -> np.ndarray:
    """Resamples (..., samples) with scipy's polyphase filter; float32, ceil(samples * new_rate / sample_rate) long.

    Raises:
      ValueError: a rate below 1 Hz, or rates more than a factor of 1000 apart.
    """
    if min(sample_rate, new_rate) < 1 or max(sample_rate, new_rate) > _MAX_RATIO * min(sample_rate, new_rate):
        raise ValueError(f"cannot resample from {sample_rate} Hz to {new_rate} Hz")
    if sample_rate == new_rate:
        return np.asarray(wave, np.float32)
    from scipy.signal import resample_poly

    divisor = np.gcd(int(sample_rate), int(new_rate))
    return resample_poly(wave, new_rate // divisor, sample_rate // divisor, axis=-1).astype(np.float32)


def read(
    path: str | os.PathLike[str],
    sample_rate: int | None = None,
    *,
    length: int | None = None,
    seconds: float | None = None,
    policy: str = "pad",
) -> np.ndarray:
    """Reads a WAV, FLAC or OGG file.

    Args:
      path: the file; its content counts, not its suffix.
      sample_rate: resample to this rate in Hz; None keeps the file's own (see `read_native`).
      length: bring it to so many samples (after resampling) ...
      seconds: ... or to so many seconds, by `policy`. With neither, the whole sound is returned.
      policy: "pad", "tile" or "crop", as in `fit`.

    Returns:
      (samples,) float32, the mean of all channels, full scale 1.

    Raises:
      AudioFileError: one sentence for a missing, empty, truncated or damaged file, one without samples or with NaN or
        infinite samples, one that is not a sound, a directory, a sample rate of 0 Hz, or too short for "crop".
      ValueError: arguments that contradict each other.
    """
    if length is not None and seconds is not None:
        raise ValueError("give read a length or seconds, not both")
    wave, native_rate = read_native(path)
    rate = native_rate if sample_rate is None else sample_rate
    samples = length if seconds is None else round(seconds * rate)
    try:
        wave = resample(wave, native_rate, rate)
        return wave if samples is None else fit(wave, samples, policy)
    except ValueError as error:
        raise AudioFileError(f"{path}: {error}") from None


def read_native(path: str | os.PathLike[str]) -> tuple[np.ndarray, int]:
    """Reads a whole file at its own rate: ((samples,) float32 mono, sample rate in Hz); raises as `read` does."""
    path = pathlib.Path(path)
    check_container(path)
    import soundfile

    blocks = []
    try:
        with soundfile.SoundFile(path) as file:
            rate, promised = int(file.samplerate), int(file.frames)
            while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
                blocks.append(block.mean(axis=1))
    except (soundfile.SoundFileError, OSError, ValueError, TypeError) as error:
        raise AudioFileError(f"{path} cannot be decoded and may be damaged: {reason(error)}") from None
    if rate < 1:
        raise AudioFileError(f"{path} has a sample rate of {rate} Hz in its header")
    wave = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    # An unknown length is the largest 63-bit number; a stream without a length in its header is read to its end.
    if len(wave) < promised < 1 << 62:
        raise AudioFileError(f"{path} is truncated: its header promises {promised} samples, {len(wave)} are there")
    if not len(wave):
        raise AudioFileError(f"{path} has no samples")
    broken = np.count_nonzero(~np.isfinite(wave))
    if broken:
        raise AudioFileError(f"{path} has {broken} samples that are NaN or infinite")
    return wave, rate


def read_folder(
    folder: str | os.PathLike[str],
    sample_rate: int | None = None,
    *,
    length: int | None = None,
    seconds: float | None = None,
    policy: str = "pad",
    recursive: bool = True,
    paths: Iterable[str | os.PathLike[str]] | None = None,
) -> FolderSounds:
    """Reads every sound file of a folder; bad ones are skipped, logged as warnings and listed in the result.

    Args:
      folder: where to look for `READABLE_SUFFIXES`; other sound formats (.mp3 ...) are listed as skipped.
      sample_rate: as in `read`.
      length: as in `read`.
      seconds: as in `read`.
      policy: as in `read`.
      recursive: look into sub-folders too.
      paths: read these files of the folder (relative names) instead of looking.

    Raises:
      AudioFileError: no such folder, no sound file in it, or not one that can be read.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise AudioFileError(f"{folder} is not a folder")
    if paths is None:
        suffixes = {*READABLE_SUFFIXES, *_OTHER_SOUND_SUFFIXES}
        found = folder.rglob("*") if recursive else folder.glob("*")
        candidates = sorted(path for path in found if path.suffix.lower() in suffixes)
    else:
        candidates = [folder / path for path in paths]
    if not candidates:
        raise AudioFileError(f"{folder} has no sound files ({', '.join(READABLE_SUFFIXES)})")
    sounds = FolderSounds([], [], [], [])
    for path in candidates:
        try:
            rate = sample_rate
            if rate is None and length is None and seconds is None:
                wave, rate = read_native(path)
            else:
                wave = read(path, rate, length=length, seconds=seconds, policy=policy)
                rate = info(path)[0] if rate is None else rate
        except AudioFileError as error:
            _log.warning("skipped: %s", error)
            sounds.skipped.append((path, str(error)))
            continue
        sounds.paths.append(path)
        sounds.waves.append(wave)
        sounds.sample_rates.append(rate)
    if sounds.skipped:
        _log.warning("skipped %d of %d sound files in %s", len(sounds.skipped), len(candidates), folder)
    if not sounds.waves:
        raise AudioFileError(
            f"none of the {len(candidates)} sound files in {folder} can be read; the first: {sounds.skipped[0][1]}"
        )
    return sounds


def write(
    path: str | os.PathLike[str],
    wave: Any,
    sample_rate: int,
    *,
    bits: int = 16,
    peak: str = "refuse",
) -> pathlib.Path:
    """Writes a mono sound as WAV, FLAC or OGG (Vorbis), by suffix; the file appears whole or not at all.

    Args:
      path: ends in .wav, .flac or .ogg; its folder exists.
      wave: (samples,), full scale 1, float (or int16).
      sample_rate: in Hz.
      bits: 16 or 24, or for WAV also 32 (float); OGG ignores it.
      peak: what to do with samples beyond full scale: "refuse", "scale" the whole sound down to full scale, or "clip".

    Returns:
      The path.

    Raises:
      AudioFileError: an unknown suffix, NaN or infinite samples, no samples, another shape, a peak above 1 that is to
        be refused, or a folder that is missing or cannot be written.
    """
    path = pathlib.Path(path)
    suffix = path.suffix.lower()
    if suffix not in _FORMATS:
        raise AudioFileError(f"{path} cannot be written: the suffix {path.suffix!r} is not one of .wav, .flac, .ogg")
    if bits not in _SUBTYPES or (bits == 32 and suffix == ".flac"):
        raise AudioFileError(f"{path} cannot be written with {bits} bits: 16 and 24 are possible, and 32 for WAV")
    if isinstance(sample_rate, bool) or int(sample_rate) != sample_rate or sample_rate < 1:
        raise AudioFileError(f"{path} cannot be written with a sample rate of {sample_rate} Hz")
    samples = _checked(path, wave, peak)
    if not path.parent.is_dir():
        raise AudioFileError(f"{path} cannot be written: the folder {path.parent} does not exist")
    import soundfile

    subtype = "VORBIS" if suffix == ".ogg" else _SUBTYPES[bits]
    if subtype == "PCM_16":
        samples = np.clip(np.round(samples * 2.0**15), -(2**15), 2**15 - 1).astype(np.int16)
    elif subtype == "PCM_24":
        samples = np.clip(np.round(samples * 2.0**23), -(2**23), 2**23 - 1).astype(np.int32) << 8
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with soundfile.SoundFile(partial, "x", int(sample_rate), 1, subtype, format=_FORMATS[suffix]) as file:
            # libsndfile's Vorbis encoder overflows its stack when given minutes of sound at once.
            for start in range(0, len(samples), _BLOCK):
                file.write(samples[start : start + _BLOCK])
        os.replace(partial, path)
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioFileError(f"{path} cannot be written: {reason(error)}") from None
    finally:
        partial.unlink(missing_ok=True)
    return path


def info(path: str | os.PathLike[str]) -> tuple[int, int, int]:
    """(sample rate in Hz, samples per channel, channels) from a file's header; raises as `read` does for the header."""
    path = pathlib.Path(path)
    check_container(path)
    import soundfile

    try:
        header = soundfile.info(str(path))
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioFileError(f"{path} cannot be decoded and may be damaged: {reason(error)}") from None
    if header.samplerate < 1:
        raise AudioFileError(f"{path} has a sample rate of {header.samplerate} Hz in its header")
    return int(header.samplerate), int(header.frames), int(header.channels)


def _checked(path: pathlib.Path, wave: Any, peak: str) -> np.ndarray:
    """The samples to write as (samples,) float64 within full scale."""
    if peak not in ("refuse", "scale", "clip"):
        raise ValueError(f"unknown peak policy {peak!r}; {nearest(str(peak), ('refuse', 'scale', 'clip'))}")
    samples = np.asarray(wave)
    if samples.dtype == np.int16:
        samples = samples / 2.0**15
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
        raise AudioFileError(
            f"{path} cannot be written: a sound is float (samples,), not {samples.dtype} {samples.shape}"
        )
    if not len(samples):
        raise AudioFileError(f"{path} cannot be written: the sound has no samples")
    broken = np.count_nonzero(~np.isfinite(samples))
    if broken:
        raise AudioFileError(f"{path} cannot be written: {broken} samples are NaN or infinite")
    samples = samples.astype(np.float64)
    loudest = float(np.max(np.abs(samples)))
    if loudest > 1.0:
        if peak == "refuse" and loudest > 1.0 + 2.0**-15:
            raise AudioFileError(
                f"{path} cannot be written: the sound peaks at {loudest:.4g}, above full scale 1; lower it, "
                "or say peak='scale' or peak='clip'"
            )
        samples = samples / loudest if peak == "scale" else np.clip(samples, -1.0, 1.0)
    return samples
