"""Measured tuning on disk: what was found, and a sweep that is under way, to be gone on with after a kill."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import time
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from nd_jax.dissect.array_files import save_arrays
from nd_jax.dissect.sound_bank import SoundBank

_FORMAT = 1
# Seconds between two saves of a sweep.
_EVERY = 20.0

Pooled = dict[str, tuple[np.ndarray, np.ndarray]]
Totals = dict[str, dict[int, dict[str, np.ndarray]]]


class Kept:
    """A sweep on disk: the sums and responses so far, and how many batches they are of.

    Args:
      path: of an npz file; None keeps nothing.
      network: digest of the network.
      bank: the sounds.
      settings: everything else that decides what a batch gives.
    """

    def __init__(self, path: Any, network: str, bank: SoundBank, settings: Mapping[str, Any]):
        self.path = None if path is None else pathlib.Path(path).expanduser()
        self._name = _named(network, bank, settings) if self.path else ""
        self._saved = time.monotonic()
        self.done = 0
        self.pooled: Pooled = {}
        self.totals: Totals = {}
        if self.path is not None and self.path.is_file():
            self._read(self.path)

    def batch(self, done: int, pooled: Pooled, totals: Totals, last: bool = False) -> None:
        """Tells of a batch that is in; every so often all is saved."""
        if self.path is None or (not last and time.monotonic() - self._saved < _EVERY):
            return
        arrays: dict[str, Any] = {"header": np.array(json.dumps({"name": self._name, "done": done}))}
        for layer, both in pooled.items():
            arrays |= {f"pooled|{layer}|{place}": values for place, values in enumerate(both)}
        for layer, parts in totals.items():
            for part, sums in parts.items():
                arrays |= {f"total|{layer}|{part}|{name}": values for name, values in sums.items()}
        save_arrays(self.path, arrays)
        self._saved = time.monotonic()

    def end(self) -> None:
        """The sweep is over."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _read(self, path: pathlib.Path) -> None:
        try:
            with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
                header = json.loads(str(file["header"]))
                if header["name"] != self._name:
                    return
                for key in file.files:
                    kind, *names = key.split("|")
                    if kind == "pooled":
                        self.pooled.setdefault(names[0], (np.zeros(0), np.zeros(0)))
                        both = list(self.pooled[names[0]])
                        both[int(names[1])] = file[key]
                        self.pooled[names[0]] = (both[0], both[1])
                    elif kind == "total":
                        self.totals.setdefault(names[0], {}).setdefault(int(names[1]), {})[names[2]] = file[key]
                self.done = int(header["done"])
        except (OSError, KeyError, ValueError, zipfile.BadZipFile):
            self.done, self.pooled, self.totals = 0, {}, {}


def save(path: Any, bank: SoundBank, layers: Mapping[str, Any]) -> pathlib.Path:
    """Writes the fields of a bank and of layers, dataclasses of arrays, numbers and flags."""
    target = pathlib.Path(path).expanduser()
    arrays: dict[str, Any] = {"header": np.array(json.dumps({"format": _FORMAT, "layers": list(layers)}))}
    for field in dataclasses.fields(bank):
        arrays[f"bank/{field.name}"] = np.asarray(getattr(bank, field.name))
    for number, one in enumerate(layers.values()):
        for field in dataclasses.fields(one):
            arrays[f"{number}/{field.name}"] = np.asarray(getattr(one, field.name))
    save_arrays(target, arrays)
    return target


def load(path: Any, kind: Any) -> tuple[SoundBank, dict[str, Any]]:
    """The bank, and layers as `kind`, of a file that `save` wrote.

    Raises:
      ValueError: not such a file.
    """
    try:
        with open(pathlib.Path(path).expanduser(), "rb") as stream, np.load(stream, allow_pickle=False) as file:
            header = json.loads(str(file["header"]))
            if header["format"] != _FORMAT:
                raise ValueError(f"format {header['format']}")
            bank = SoundBank(
                **{field.name: _field(file, f"bank/{field.name}") for field in dataclasses.fields(SoundBank)}
            )
            layers = {
                layer: kind(
                    **{field.name: _field(file, f"{number}/{field.name}") for field in dataclasses.fields(kind)}
                )
                for number, layer in enumerate(header["layers"])
            }
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} was not written by MeasuredTuning.save: {error}") from None
    return bank, layers


def _field(file: Any, name: str) -> Any:
    value = file[name]
    return value.item() if value.ndim == 0 else value


def _named(network: str, bank: SoundBank, settings: Mapping[str, Any]) -> str:
    found = hashlib.sha256(json.dumps([network, dict(settings)], sort_keys=True).encode())
    for field in dataclasses.fields(bank):
        found.update(np.ascontiguousarray(getattr(bank, field.name)).tobytes())
    return found.hexdigest()
