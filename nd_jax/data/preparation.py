"""From a folder that a user downloaded to a prepared TFDS data set: once, atomically, and again when the files change.

A data set `name` of `manual_dir` is prepared into

  <data_dir>/<name>/<last part of manual_dir>-<hash of its path>/<version>/

in TFDS's own layout (array_record), which `tfds.builder_from_directory` reads too, and beside TFDS's files stands
`nd_jax.json`: the manual folder, its fingerprint, the files left out. The fingerprint is a hash over the path, size and
time of change of every file in the manual folder: another file, another length or a later time, and the data are
prepared again. (Content that changes under the same size and time goes unnoticed; delete the prepared folder then.)

Everything is written into a hidden folder of the same parent and renamed at the end, under a lock, so a preparation
that was killed leaves nothing that could be taken for complete, and two processes do not prepare the same data at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from nd_jax.data.builders.base import CLASSES, Builder, Example, Feature

RECORD = "nd_jax.json"
NAME_FEATURE = "file"
_SHOWN = 10


def default_data_dir() -> pathlib.Path:
    """`ND_JAX_DATA`, else `nd_jax` in the user's data folder (`XDG_DATA_HOME`, else `~/.local/share`)."""
    setting = os.environ.get("ND_JAX_DATA")
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return pathlib.Path(setting or f"{base}/nd_jax").expanduser()


def prepare(
    builder: Builder, manual_dir: pathlib.Path | None, data_dir: pathlib.Path, *, progress: bool = True
) -> pathlib.Path:
    """Makes sure that a data set is prepared, and returns the folder of its array_record files.

    Args:
      builder: which data set.
      manual_dir: the folder with the user's files; None for `<data_dir>/manual/<name>`, or, when nothing is there, for
        the only folder that this data set was ever prepared from.
      data_dir: where prepared data lie.
      progress: whether to draw a progress bar on stderr.

    Raises:
      FileNotFoundError: the user's files are missing; says where to get them and where to put them.
      ValueError: they are there and wrong.
    """
    home = data_dir / builder.name
    manual = (manual_dir or data_dir / "manual" / builder.name).expanduser().resolve()
    target = home / _key(manual) / builder.version
    if not _has_files(manual):
        # Files that were deleted after preparation are not missed.
        known = [target] if manual_dir else sorted(path.parent for path in home.glob(f"*/{builder.version}/{RECORD}"))
        if len(known) == 1 and (known[0] / RECORD).is_file():
            return known[0]
        raise FileNotFoundError(_missing(builder, manual, f"{manual} {_state(manual)}"))
    mark = fingerprint(manual)
    if not _is_current(target, mark):
        home.mkdir(parents=True, exist_ok=True)
        with _lock(home / ".lock"):
            if not _is_current(target, mark):
                _prepare(builder, manual, mark, target, progress)
    return target


def fingerprint(folder: pathlib.Path) -> str:
    """A hash over path, size and time of change of all files below `folder`, hidden ones left out."""
    digest = hashlib.sha256()
    seen = set()
    for path, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(path)
        if real in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if name[0] != ".")
        for name in sorted(name for name in files if name[0] != "."):
            file = os.path.join(path, name)
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(file)
                told = f"{os.path.relpath(file, folder)}\0{status.st_size}\0{status.st_mtime_ns}\n"
                # A file's name need not be UTF-8.
                digest.update(told.encode(errors="surrogateescape"))
    return digest.hexdigest()


def read_record(prepared: pathlib.Path) -> dict[str, Any]:
    """The `nd_jax.json` of a prepared data set."""
    return json.loads((prepared / RECORD).read_text(encoding="utf-8"))


def _key(manual: pathlib.Path) -> str:
    safe = "".join(letter if letter.isalnum() or letter in "_.-" else "_" for letter in manual.name)
    return f"{safe or 'root'}-{hashlib.sha256(str(manual).encode()).hexdigest()[:8]}"


def _has_files(folder: pathlib.Path) -> bool:
    return folder.is_dir() and any(path.name[0] != "." for path in folder.iterdir())


def _state(manual: pathlib.Path) -> str:
    if manual.is_dir():
        return "is empty"
    return "is not a folder" if manual.exists() else "is missing"


def _missing(builder: Builder, manual: pathlib.Path, what: str) -> str:
    return (
        f"data set {builder.name!r}: {what}. To get it, {builder.instructions}. "
        f"Put it into {manual}, or pass its folder as manual_dir."
    )


def _is_current(target: pathlib.Path, mark: str) -> bool:
    try:
        return read_record(target)["fingerprint"] == mark
    except (OSError, ValueError, KeyError):
        return False


@contextlib.contextmanager
def _lock(path: pathlib.Path) -> Iterator[None]:
    import fcntl

    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _prepare(builder: Builder, manual: pathlib.Path, mark: str, target: pathlib.Path, progress: bool) -> None:
    from nd_jax.data.builders.base import LayoutError

    try:
        splits = builder.splits(manual)
    except LayoutError as error:
        raise LayoutError(_missing(builder, manual, str(error))) from None
    splits = {name: examples for name, examples in splits.items() if examples}
    if not splits:
        raise ValueError(f"data set {builder.name!r}: {manual} lists no examples")
    home = target.parent.parent
    for stale in home.glob(".preparing-*"):  # left by a process that was killed; the lock says none is at work
        shutil.rmtree(stale, ignore_errors=True)
    staging = pathlib.Path(tempfile.mkdtemp(prefix=".preparing-", dir=home))
    try:
        skipped: dict[str, str] = {}
        made = _write(builder, splits, manual, staging, skipped, progress)
        record = {
            "name": builder.name,
            "version": builder.version,
            "manual_dir": str(manual),
            "fingerprint": mark,
            "skipped": _lines(skipped),
        }
        (made / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            target.rename(staging / "replaced")
        made.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    if skipped:
        warnings.warn(_skipped_text(builder, manual, skipped), stacklevel=4)
    clipped = getattr(builder, "clipped", ())
    if clipped:
        warnings.warn(f"data set {builder.name!r}: beyond full scale, clipped: {_shortened(clipped)}", stacklevel=4)


def _skipped_text(builder: Builder, manual: pathlib.Path, skipped: Mapping[str, str]) -> str:
    lines = _lines(skipped)
    count = "1 bad file" if len(lines) == 1 else f"{len(lines)} bad files"
    were = "was" if len(lines) == 1 else "were"
    return f"data set {builder.name!r}: {count} of {manual} {were} left out: {_shortened(lines)}"


def _lines(skipped: Mapping[str, str]) -> list[str]:
    return [f"{file}: {reason}" for file, reason in sorted(skipped.items())]


def _shortened(lines: Sequence[str]) -> str:
    return "; ".join(lines[:_SHOWN]) + (f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else "")


def _write(
    builder: Builder,
    splits: Mapping[str, list[Example]],
    manual: pathlib.Path,
    folder: pathlib.Path,
    skipped: dict[str, str],
    progress: bool,
) -> pathlib.Path:
    """Lets TFDS write all splits below `folder`; bad files go to `skipped`. Returns the folder of the data."""
    import tensorflow_datasets as tfds
    from tqdm import tqdm

    written = dict.fromkeys(splits, 0)
    total = sum(map(len, splits.values()))
    bar = tqdm(total=total, desc=f"preparing {builder.name}", unit="file", disable=not progress, leave=False)

    def generate(split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for example in splits[split]:
            bar.update()
            try:
                content = builder.read(example)
            except (ValueError, OSError) as error:
                skipped[example.name] = str(error).replace(str(example.source), "it")
                continue
            written[split] += 1
            yield example.name, {NAME_FEATURE: example.name, **content, **example.labels}

    features = _tfds_features(builder, splits)
    maker = _tfds_class()(builder, features, generate, splits, data_dir=str(folder), file_format="array_record")
    config = tfds.download.DownloadConfig(manual_dir=str(manual), try_download_gcs=False)
    tfds.disable_progress_bar()
    try:
        with bar, open(os.devnull, "w") as null, contextlib.redirect_stdout(null):  # TFDS announces downloads
            maker.download_and_prepare(
                download_dir=str(folder / "downloads"), download_config=config, file_format="array_record"
            )
    except Exception as error:
        empty = [split for split, count in written.items() if not count]
        if empty and skipped:
            raise ValueError(
                f"no readable file is left in split {empty[0]!r}; {_skipped_text(builder, manual, skipped)}"
            ) from error
        raise
    return pathlib.Path(maker.data_dir)


def _tfds_features(builder: Builder, splits: Mapping[str, list[Example]]) -> dict[str, Any]:
    import tensorflow_datasets as tfds

    def label(name: str, kind: Feature) -> Any:
        if isinstance(kind, tuple) or kind == CLASSES:
            found = {example.labels[name] for examples in splits.values() for example in examples}
            names = kind if isinstance(kind, tuple) else sorted(found)
            unknown = sorted(found.difference(names))
            if unknown:
                raise ValueError(
                    f"data set {builder.name!r}: {name} {unknown[0]!r} is not one of its classes: {', '.join(names)}"
                )
            return tfds.features.ClassLabel(names=list(names))
        if kind is str:
            return tfds.features.Text()
        dtype = {int: np.int64, float: np.float32, bool: np.bool_}[kind]  # type: ignore[index]
        return tfds.features.Tensor(shape=(), dtype=dtype)

    reserved = {NAME_FEATURE, *builder.content}
    clash = sorted(reserved.intersection(builder.features))
    if clash:
        raise ValueError(f"data set {builder.name!r}: the label {clash[0]!r} has a reserved name; rename that column")
    return {
        NAME_FEATURE: tfds.features.Text(),
        **{name: _tfds_tensor(shape, dtype) for name, (shape, dtype) in builder.content.items()},
        **{name: label(name, kind) for name, kind in builder.features.items()},
    }


def _tfds_tensor(shape: tuple[int | None, ...], dtype: type) -> Any:
    import tensorflow_datasets as tfds

    # As raw bytes an array is written and read several times faster than as TFDS's default list of numbers.
    return tfds.features.Tensor(shape=shape, dtype=dtype, encoding="bytes" if shape else "none")


def _tfds_class() -> Any:
    """The TFDS builder class of all data sets; made here because TFDS must not be imported with this module."""
    import tensorflow_datasets as tfds

    class Info(tfds.core.DatasetInfo):
        def initialize_from_bucket(self) -> None:
            """Does nothing: TFDS would make an empty temporary folder at each construction."""

    class PreparedByNdJax(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
        VERSION = tfds.core.Version("0.0.0")

        def __init__(self, builder: Builder, features: Any, generate: Any, splits: Any, **kwargs: Any):
            self.name = builder.name
            self.VERSION = tfds.core.Version(builder.version)
            self.MANUAL_DOWNLOAD_INSTRUCTIONS = builder.instructions
            self._source, self._features, self._generate, self._splits = builder, features, generate, splits
            super().__init__(**kwargs)

        def _info(self) -> Any:
            return Info(
                builder=self,
                description=f"{self._source.title}. Licence: {self._source.licence or 'not stated'}.",
                homepage=self._source.homepage or None,
                features=tfds.features.FeaturesDict(self._features),
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {split: self._generate_examples(split) for split in self._splits}

        def _generate_examples(self, split: str) -> Any:
            return self._generate(split)

    return PreparedByNdJax
