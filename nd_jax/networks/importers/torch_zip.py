"""Reads tensors out of PyTorch `.pt` and `.pth` files without PyTorch and without running the pickle inside.

Both formats of `torch.save` are read: the zip file, and the one before PyTorch 1.6. What their pickles say is
interpreted by `torch_pickle`: nothing is imported, nothing is called.
"""

from __future__ import annotations

import io
import itertools
import pathlib
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from nd_jax.networks.importers.torch_pickle import Census, Machine, Stub, WeightsFileError, dtype_of

__all__ = ["Stub", "WeightsFileError", "read", "read_all"]

_LARGEST_PICKLE = 64 * 2**20
_DEEPEST = 64
_MOST_VALUES = 1_000_000
# Of the format before PyTorch 1.6.
_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001


def read(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of a `.pt` file: a state dict, a whole module, or dicts of them.

    Args:
      path: a file written by `torch.save`: the zip format (PyTorch 1.6 or later) or the one before it, in which the
        older of torchvision's published weights are.

    Returns:
      {dotted name: array}; the arrays are read-only views. Names are those of `module.state_dict()`, with the keys of
      surrounding dicts in front.

    Raises:
      FileNotFoundError: no such file.
      WeightsFileError: not a PyTorch file, damaged, or without tensors.
    """
    return read_all(path)[0]


def read_all(path: str | pathlib.Path) -> tuple[dict[str, np.ndarray], Any]:
    """The tensors of a `.pt` file as in `read`, and all that it holds: dicts, lists, numbers, strings, `Stub`s.

    Raises:
      FileNotFoundError, WeightsFileError: as in `read`.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no weights file at {path}")
    if not path.is_file():
        raise WeightsFileError(f"{path} is not a file")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                found = _Archive(archive, path.stat().st_size)
                root = Machine(found, io.BytesIO(found.pickle())).run()
        else:
            root = _legacy(path)
        tensors = dict(_walk(root, "", [], itertools.count()))
    except WeightsFileError as error:
        raise WeightsFileError(f"{path}: {error}") from None
    except (zipfile.BadZipFile, ValueError, LookupError, TypeError, EOFError, OSError, RuntimeError) as error:
        raise WeightsFileError(f"{path} is damaged: {error}") from None
    if not tensors:
        raise WeightsFileError(f"{path} holds no tensors")
    return tensors, root


class _Archive:
    """The entries of the zip file: stored, not compressed, and together no larger than the file."""

    def __init__(self, archive: zipfile.ZipFile, file_size: int):
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        if len(set(names)) != len(names):
            raise WeightsFileError("two entries of the zip file have the same name")
        if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
            raise WeightsFileError("an entry of the zip file is compressed or encrypted, which PyTorch never writes")
        if sum(entry.file_size for entry in entries) > file_size:
            raise WeightsFileError("the entries of the zip file claim to be larger than the file")
        pickles = [name for name in names if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise WeightsFileError(
                f"the zip file has {len(pickles)} entries data.pkl, not one, so PyTorch did not write it"
            )
        self._archive = archive
        self._names = set(names)
        self._prefix = pickles[0].removesuffix("data.pkl")
        self._storages: dict[str, np.ndarray] = {}
        order = archive.read(self._prefix + "byteorder") if self._prefix + "byteorder" in self._names else b"little"
        if order not in (b"little", b"big"):
            raise WeightsFileError(f"byte order {order[:16]!r} is neither 'little' nor 'big'")
        self._order: Any = "<" if order == b"little" else ">"

    def pickle(self) -> bytes:
        """The bytes of data.pkl."""
        if self._archive.getinfo(self._prefix + "data.pkl").file_size > _LARGEST_PICKLE:
            raise WeightsFileError(f"its data.pkl is larger than {_LARGEST_PICKLE} bytes")
        return self._archive.read(self._prefix + "data.pkl")

    def storage(self, kind: str, key: str, count: int) -> np.ndarray:
        """The numbers of one storage, a read-only (count,) array."""
        if key not in self._storages:
            name = f"{self._prefix}data/{key}"
            if name not in self._names:
                raise WeightsFileError(f"storage {key!r} is missing")
            data = np.frombuffer(self._archive.read(name), dtype_of(kind, self._order))
            if data.size != count:
                raise WeightsFileError(f"storage {key!r} has {data.size} numbers, but {count} were announced")
            self._storages[key] = data
        return self._storages[key]

    def dtype_of(self, kind: str) -> np.dtype:
        return dtype_of(kind, self._order)


def _legacy(path: pathlib.Path) -> Any:
    """The value in a file of the format before PyTorch 1.6.

    Four pickles (a magic number, the version, facts about the machine, the value), a fifth with the keys of the
    storages, then for each key the count of its numbers in eight bytes and the numbers.
    """
    with open(path, "rb") as file:
        head = file.read(_LARGEST_PICKLE)
    stream = io.BytesIO(head)
    none = _Storages({})
    try:
        magic = Machine(none, stream).run()
    except Exception:
        magic = None
    if magic != _MAGIC:
        raise WeightsFileError("it is not a PyTorch file, or only a part of one")
    version, facts = Machine(none, stream).run(), Machine(none, stream).run()
    if version != _VERSION or not isinstance(facts, dict) or facts.get("little_endian") is not True:
        raise WeightsFileError(f"it is of version {version!r} and not {_VERSION}, or not little-endian")
    began = stream.tell()
    # Where a storage stands follows from the sizes of those before it, so the value is read twice: once for the list.
    listed = _Listed()
    Census(listed, stream).run()
    keys = Machine(none, stream).run()
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(listed.found):
        raise WeightsFileError("the storages that it describes are not those that it holds")
    data = np.memmap(path, np.uint8, "r")
    place, storages = stream.tell(), {}
    for key in keys:
        dtype, count = listed.found[key]
        held, place = int.from_bytes(data[place : place + 8].tobytes(), "little"), place + 8
        size = count * dtype.itemsize
        if held != count or place + size > data.size:
            raise WeightsFileError(f"storage {key!r} has {held} numbers or fewer, but {count} were announced")
        storages[key] = data[place : place + size].view(dtype)
        place += size
    stream.seek(began)
    return Machine(_Storages(storages), stream).run()


class _Listed:
    """Notes the storages that a pickle names, and has none."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[np.dtype, int]] = {}

    def storage(self, kind: str, key: str, count: int) -> np.ndarray:
        described = dtype_of(kind), count
        if count < 0 or self.found.setdefault(key, described) != described:
            raise WeightsFileError(f"storage {key!r} is described in two ways, or has {count} numbers")
        return np.zeros(0, described[0])


class _Storages:
    """Storages that are at hand."""

    def __init__(self, found: dict[str, np.ndarray]):
        self._found = found

    def storage(self, kind: str, key: str, count: int) -> np.ndarray:
        if key not in self._found:
            raise WeightsFileError(f"storage {key!r} is missing")
        return self._found[key]


def _walk(value: Any, prefix: str, above: list[int], visits: Iterator[int]) -> Iterator[tuple[str, np.ndarray]]:
    """All tensors below a value with their dotted names."""
    if next(visits) > _MOST_VALUES:
        raise WeightsFileError(f"it describes more than {_MOST_VALUES} values")
    if isinstance(value, np.ndarray):
        yield prefix, value
        return
    children: dict[Any, Any] = {}
    if isinstance(value, dict):
        children = value
    elif isinstance(value, Stub) and isinstance(value.state, dict):
        for part in ("_parameters", "_buffers", "_modules"):
            held = value.state.get(part)
            children.update(held if isinstance(held, dict) else {})
    if id(value) in above or len(above) > _DEEPEST:
        raise WeightsFileError("its modules are nested in each other without end")
    for key, child in children.items():
        yield from _walk(child, f"{prefix}.{key}" if prefix else str(key), [*above, id(value)], visits)
