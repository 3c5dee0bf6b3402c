"""The log of a training as files: metrics.jsonl, metrics.csv and, on request, TensorBoard's event files."""

from __future__ import annotations

import atexit
import contextlib
import csv
import io
import json
import math
import os
import pathlib
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from nd_jax.runtime import require
from nd_jax.training.checkpoints import CheckpointError

_EXTRA = "tensorboard"
_OPEN: dict[pathlib.Path, _Events] = {}


def write(folder: Any, lines: Sequence[Mapping[str, Any]], tensorboard: bool = False) -> None:
    """Rewrites the log of a training, each file in one step: a killed run leaves the file that was there.

    `metrics.jsonl` has one line of JSON per line of the log, in which a number that is not finite is null.
    `metrics.csv` has one column per key of any line, in order of appearance, nested keys joined by "/"; a line without
    the key has an empty field. `tensorboard/` gets the steps that none of its event files holds yet, so a training that
    goes on after a kill writes no step twice; numbers only.

    Args:
      folder: of the training; it must exist.
      lines: JSON-ready dicts; numpy numbers are taken too. With `tensorboard` each needs a "step".
      tensorboard: whether to write event files as well.

    Raises:
      CheckpointError: the disk refuses (full, read-only, gone), in one sentence.
      MissingExtraError: `tensorboard` without tensorboardX.
    """
    place = pathlib.Path(folder).expanduser()
    plain = [_plain(line) for line in lines]
    flat = [flattened(line) for line in plain]
    try:
        _replace(place / "metrics.jsonl", "".join(json.dumps(line, allow_nan=False) + "\n" for line in plain))
        _replace(place / "metrics.csv", _table(flat))
        if tensorboard:
            _events(place / "tensorboard").add(flat)
    except OSError as error:
        step = plain[-1].get("step") if plain else None
        of = "" if step is None else f" of step {step}"
        raise CheckpointError(f"the log{of} cannot be written to {place}: {error.strerror or error}") from error


def close(folder: Any) -> None:
    """Closes the event file that `write` keeps open for a folder; at the end of the process it happens by itself."""
    found = _OPEN.pop(_key(pathlib.Path(folder).expanduser() / "tensorboard"), None)
    if found is not None:
        found.close()


def flattened(line: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested dicts as one: `{"a": {"b": 1}}` becomes `{"a/b": 1}`."""
    found: dict[str, Any] = {}
    for name, value in line.items():
        found |= flattened(value, f"{above}{name}/") if isinstance(value, Mapping) else {f"{above}{name}": value}
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(np.asarray(value).tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _table(lines: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for line in lines for name in line))
    text = io.StringIO()
    rows = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    rows.writeheader()
    for line in lines:
        rows.writerow(
            {name: json.dumps(value) if isinstance(value, (list, bool)) else value for name, value in line.items()}
        )
    return text.getvalue()


def _replace(path: pathlib.Path, text: str) -> None:
    draft = path.with_name(f"{path.name}.draft")
    try:
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, path)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def _key(folder: pathlib.Path) -> pathlib.Path:
    return folder.absolute()


def _events(folder: pathlib.Path) -> _Events:
    key = _key(folder)
    if key not in _OPEN:
        _OPEN[key] = _Events(key)
    return _OPEN[key]


class _Events:
    """One event file of this process, behind those of earlier ones."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.before = sorted(folder.glob("events.out.tfevents.*"))
        self.last = max((step for path in self.before for step in _steps(path)), default=-1)
        self._writer: Any = None

    def add(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Writes the lines whose step is new; they are on disk when this returns."""
        event = require("tensorboardX.proto.event_pb2", _EXTRA)
        summary = require("tensorboardX.proto.summary_pb2", _EXTRA)
        for line in sorted((line for line in lines if line["step"] > self.last), key=lambda line: line["step"]):
            numbers = {
                name: value
                for name, value in line.items()
                if name != "step" and isinstance(value, (int, float)) and not isinstance(value, bool)
            }
            values = [summary.Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
            self._open().write_event(
                event.Event(step=line["step"], wall_time=time.time(), summary=summary.Summary(value=values))
            )
            self.last = line["step"]
        if self._writer is not None:
            self._writer.flush()

    def _open(self) -> Any:
        if self._writer is None:
            events = require("tensorboardX.event_file_writer", _EXTRA)
            # The name says the second; two processes within one must not share a file.
            self._writer = events.EventsWriter(str(self.folder / "events"), f".{len(self.before)}")
            atexit.register(self.close)
        return self._writer

    def close(self) -> None:
        """Closes the file; a second time it does nothing."""
        writer, self._writer = self._writer, None
        atexit.unregister(self.close)
        if writer is not None:
            writer.close()


def _steps(path: pathlib.Path) -> Iterator[int]:
    """The steps in an event file, up to a record that a killed process left half-written.

    The file is a TFRecord: length (8 bytes), its checksum (4), the event, its checksum (4).
    """
    event = require("tensorboardX.proto.event_pb2", _EXTRA)
    message = require("google.protobuf.message", _EXTRA)
    content, at = path.read_bytes(), 0
    while at + 12 <= len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        if at + 16 + length > len(content):
            return
        try:
            found = event.Event.FromString(content[at + 12 : at + 12 + length])
        except message.DecodeError:
            return
        if found.HasField("summary"):
            yield int(found.step)
        at += 16 + length
