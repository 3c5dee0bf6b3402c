"""`load`: a data set by name, prepared on first use, in memory."""

from __future__ import annotations

import os
import pathlib
import re
import warnings
from typing import Any, Literal, overload

import numpy as np

from nd_jax.audio.files import resample
from nd_jax.data.arrays import Clips, Images, as_float
from nd_jax.data.builders import BUILDERS
from nd_jax.data.preparation import NAME_FEATURE, default_data_dir, prepare, read_record
from nd_jax.runtime import nearest

_PART = re.compile(r"(?P<name>[A-Za-z_]\w*)(?P<slice>\[[^\]]*\])?")

SoundName = Literal[
    "spoken_digits",
    "emodb",
    "ravdess",
    "tess",
    "instrument_notes",
    "nsynth",
    "esc10",
    "esc50",
    "urbansound8k",
    "gtzan",
    "audio_folder",
]
# Every name that `load` takes, for the command lines of scripts.
DataSet = Literal[SoundName, "mnist"]
_Path = str | os.PathLike[str]


@overload
def load(
    name: Literal["mnist"],
    split: str = ...,
    *,
    manual_dir: _Path | None = ...,
    data_dir: _Path | None = ...,
    sample_rate: int | None = ...,
    progress: bool = ...,
) -> Images: ...
@overload
def load(
    name: SoundName,
    split: str = ...,
    *,
    manual_dir: _Path | None = ...,
    data_dir: _Path | None = ...,
    sample_rate: int | None = ...,
    progress: bool = ...,
) -> Clips: ...
@overload
def load(
    name: str,
    split: str = ...,
    *,
    manual_dir: _Path | None = ...,
    data_dir: _Path | None = ...,
    sample_rate: int | None = ...,
    progress: bool = ...,
) -> Clips | Images: ...
def load(
    name: str,
    split: str = "train",
    *,
    manual_dir: _Path | None = None,
    data_dir: _Path | None = None,
    sample_rate: int | None = None,
    progress: bool = True,
) -> Clips | Images:
    """Loads a data set into memory; prepares it on first use from files that were downloaded by hand.

    Args:
      name: one of `nd_jax.data.BUILDERS`: "mnist" (gives `Images`); "spoken_digits", "emodb", "ravdess", "tess",
        "instrument_notes", "nsynth", "esc10", "esc50", "urbansound8k", "gtzan", "audio_folder" (give `Clips`).
      split: a split of the data set ("train", "test", ...), "all", or a TFDS expression such as "train[:25%]+test".
      manual_dir: the folder with the downloaded files, default `<data_dir>/manual/<name>`.
      data_dir: where prepared data are kept, default `ND_JAX_DATA`, else `~/.local/share/nd_jax`.
      sample_rate: resample all sounds to so many Hz; default their own.
      progress: whether preparation draws a progress bar on stderr.

    Returns:
      The examples, sorted by file name. 16-bit sounds stay as they are. When the files of one data set have several
      sample rates and none is asked for, all are brought to the commonest, with a warning.

    Raises:
      ValueError: unknown data set or split, or wrong files.
      FileNotFoundError: the files are missing; says where to get them and where to put them.
      OSError: prepared data were damaged on disk; names the folder.
    """
    if name not in BUILDERS:
        raise ValueError(f"unknown data set {name!r}; {nearest(name, BUILDERS)}")
    if sample_rate is not None and sample_rate < 1:
        raise ValueError(f"sample_rate must be a positive number of Hz, not {sample_rate}")
    builder = BUILDERS[name]()
    home = pathlib.Path(data_dir).expanduser() if data_dir else default_data_dir()
    folder = prepare(builder, pathlib.Path(manual_dir) if manual_dir else None, home, progress=progress)
    columns, names = _read(folder, split, builder.aliases)
    files = tuple(columns.pop(NAME_FEATURE))
    order = [*(key for key in builder.features if key in columns), *columns]
    features = {key: np.asarray(columns[key]) for key in order if key not in builder.content}
    if "image" in columns:
        return Images(np.stack(columns["image"]), features, names)
    waves, rate = _one_rate(columns["audio"], np.asarray(columns["sample_rate"]), sample_rate)
    return Clips(waves, rate, features, names, files, tuple(read_record(folder)["skipped"]))


def _read(folder: pathlib.Path, split: str, aliases: Any) -> tuple[dict[str, list[Any]], dict[str, tuple[str, ...]]]:
    """All columns of a split, sorted by file name, and the class names of those that are classes."""
    import tensorflow_datasets as tfds

    prepared = tfds.builder_from_directory(str(folder))
    expression = _expand(split, list(prepared.info.splits), aliases)
    try:
        source = prepared.as_data_source(split=expression)
        rows = source.__getitems__(range(len(source)))
    except ValueError as error:
        raise ValueError(f"split {split!r} is empty or is not a TFDS split: {error}") from None
    except RuntimeError as error:  # what array_record raises; its records carry checksums
        raise OSError(
            f"the prepared data in {folder} are damaged ({error}); delete that folder and load again"
        ) from None
    rows = sorted(rows, key=lambda row: row[NAME_FEATURE])
    features = prepared.info.features
    names = {key: tuple(feature.names) for key, feature in features.items() if hasattr(feature, "names")}
    texts = {key for key, feature in features.items() if isinstance(feature, tfds.features.Text)}
    return {key: [row[key].decode() if key in texts else row[key] for row in rows] for key in features}, names


def _expand(split: str, splits: list[str], aliases: Any) -> str:
    """Replaces "all" and the aliases of a data set in a TFDS split expression."""
    known = {name: [name] for name in splits}
    known |= {alias: [part for part in text.split("+") if part in splits] for alias, text in aliases.items()}
    known["all"] = splits
    parts = []
    for part in split.split("+"):
        match = _PART.fullmatch(part.strip())
        if match is None or not known.get(match["name"]):
            wanted = match["name"] if match else part
            names = sorted(key for key in known if known[key] and key != "all")
            raise ValueError(f"unknown split {wanted!r}; it has {', '.join(names)} and all")
        members, where = known[match["name"]], match["slice"] or ""
        if len(members) > 1 and where and "%" not in where:
            raise ValueError(
                f"split {part!r} joins {', '.join(members)}; cut it by percent, as in {match['name']}[:25%]"
            )
        parts += [member + where for member in members]
    return "+".join(parts)


def _one_rate(waves: list[np.ndarray], rates: np.ndarray, wanted: int | None) -> tuple[list[np.ndarray], int]:
    values, counts = np.unique(rates, return_counts=True)
    target = int(wanted or values[np.argmax(counts)])
    if wanted is None and len(values) > 1:
        listed = ", ".join(f"{count} at {value} Hz" for value, count in zip(values, counts, strict=True))
        warnings.warn(f"the sounds have several sample rates ({listed}); all are brought to {target} Hz", stacklevel=3)
    pairs = zip(waves, rates.tolist(), strict=True)
    return [wave if rate == target else resample(as_float(wave), rate, target) for wave, rate in pairs], target
