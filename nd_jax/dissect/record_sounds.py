"""The sounds that a network is shown: arrays, network inputs or files, read batch by batch, known by their hashes."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nd_jax import audio
from nd_jax.domain import Domain
from nd_jax.runtime import progress_bar


@dataclasses.dataclass(frozen=True, eq=False)
class Sounds:
    """A probing set.

    Attributes:
      names: of the clips.
      hashes: sixteen hexadecimal digits of each clip's content.
      read: clip numbers (n,) -> (n, samples) float32, or network inputs.
      are_waves: whether the network's front end comes first.
      skipped: {name: reason} of files that cannot be read.
    """

    names: tuple[str, ...]
    hashes: tuple[str, ...]
    read: Callable[[np.ndarray], np.ndarray]
    are_waves: bool
    skipped: dict[str, str]

    def __len__(self) -> int:
        return len(self.names)


def sounds_of(
    domain: Domain,
    sounds: Any,
    inputs: Any,
    sample_rate: int | None,
    names: Sequence[str] | None,
    progress: bool | Callable[[int, int], None],
) -> Sounds:
    """The probing set that `record` was given.

    Raises:
      ValueError: both or neither of sounds and inputs, none at all, another rate, length or shape, names that do not
        fit, a network that takes no sound.
    """
    if (sounds is None) == (inputs is None):
        raise ValueError("give the clips as sounds or as inputs=(n, *network.input.shape), one of the two")
    if inputs is not None:
        return _of_array(np.asarray(inputs) if not hasattr(inputs, "shape") else inputs, domain, names, False)
    if not hasattr(domain, "from_wave"):
        raise ValueError(f"a network on a domain of kind {domain.kind!r} takes no sounds; give inputs= instead")
    rate = int(getattr(domain, "sample_rate", 0) or domain.transform.sample_rate)  # type: ignore[attr-defined]
    if isinstance(sounds, (str, os.PathLike)) or (
        isinstance(sounds, (list, tuple)) and all(isinstance(each, (str, os.PathLike)) for each in sounds)
    ):
        if sample_rate is not None or names is not None:
            raise ValueError("files have names and sample rates of their own; leave names and sample_rate away")
        return _of_files(sounds, rate, int(domain.samples), progress)  # type: ignore[attr-defined]
    if sample_rate is not None and sample_rate != rate:
        raise ValueError(f"the sounds have {sample_rate} Hz, but the network takes {rate} Hz; read them at that rate")
    return _of_array(sounds if hasattr(sounds, "shape") else np.asarray(sounds), domain, names, True)


def _of_array(values: Any, domain: Domain, names: Sequence[str] | None, are_waves: bool) -> Sounds:
    wanted = (domain.samples,) if are_waves else tuple(domain.shape)  # type: ignore[attr-defined, arg-type]
    what = "sounds" if are_waves else "inputs"
    if tuple(values.shape[1:]) != wanted or len(values.shape) != len(wanted) + 1:
        hint = "; bring sounds to length with nd_jax.audio.fit" if are_waves else ""
        size = ", ".join(map(str, ("n", *wanted)))
        raise ValueError(f"{what} has shape {tuple(values.shape)}, but this network takes ({size}){hint}")
    if not len(values):
        raise ValueError("the probing set is empty")
    if np.dtype(values.dtype).kind not in "fiu":
        raise ValueError(f"{what} must be numbers, got {values.dtype}")
    if names is not None and len(names) != len(values):
        raise ValueError(f"{len(names)} names for {len(values)} clips")
    told = tuple(map(str, names)) if names is not None else tuple(f"clip {clip}" for clip in range(len(values)))

    def read(rows: np.ndarray) -> np.ndarray:
        return np.asarray(values[rows], np.float32)

    def hashed(row: int) -> str:
        clip = read(np.array([row]))
        if not np.isfinite(clip).all():
            broken = np.count_nonzero(~np.isfinite(clip))
            raise ValueError(f"{what} must be finite: {told[row]} has {broken} values that are NaN or infinite")
        return _hash(clip)

    return Sounds(told, tuple(map(hashed, range(len(values)))), read, are_waves, {})


def _of_files(sounds: Any, rate: int, samples: int, progress: bool | Callable[[int, int], None]) -> Sounds:
    """Files of a list or folder. Each is decoded once before anything runs: what is damaged is known then."""
    root, paths = pathlib.Path(), [pathlib.Path(path) for path in sounds] if not _is_path(sounds) else []
    if _is_path(sounds):
        root = pathlib.Path(sounds)
        if not root.is_dir():
            raise ValueError(f"{root} is not a folder of sounds")
        found = (path for path in root.rglob("*") if path.suffix.lower() in audio.READABLE_SUFFIXES and path.is_file())
        paths = sorted(path.relative_to(root) for path in found)
        # What begins with a dot is hidden: lists and leftovers of other programs that are named like sounds.
        paths = [path for path in paths if not any(part.startswith(".") for part in path.parts)]
        if not paths:
            raise ValueError(f"{root} has no sound files ({', '.join(sorted(audio.READABLE_SUFFIXES))}) in it")
    kept: list[pathlib.Path] = []
    hashes: list[str] = []
    skipped: dict[str, str] = {}
    with progress_bar(len(paths), "sound", progress if isinstance(progress, bool) else False) as tick:
        for path in paths:
            tick(1)
            try:
                str(path).encode()
            except UnicodeEncodeError:
                skipped[str(path).encode(errors="backslashreplace").decode()] = "the name of the file is not UTF-8"
                continue
            try:
                wave, native = audio.read_native(root / path)
            except audio.AudioFileError as error:
                skipped[str(path)] = str(error)
                continue
            kept.append(path)
            hashes.append(_hash(wave, native))
    if not kept:
        reason = f"; the first: {next(iter(skipped.values()))}" if skipped else ""
        raise ValueError(f"the probing set is empty: none of {len(paths)} sound files can be read{reason}")

    def read(rows: np.ndarray) -> np.ndarray:
        return np.stack([audio.read(root / kept[row], rate, length=samples) for row in rows])

    return Sounds(tuple(map(str, kept)), tuple(hashes), read, True, skipped)


def _is_path(sounds: Any) -> bool:
    return isinstance(sounds, (str, os.PathLike))


def _hash(values: np.ndarray, sample_rate: int = 0) -> str:
    found = hashlib.sha256(f"{values.shape} {sample_rate}".encode())
    found.update(np.ascontiguousarray(values, np.float32).data)
    return found.hexdigest()[:16]
