"""Reads tensors out of PyTorch `.pt` files (zip format) without PyTorch and without running the pickle inside.

The pickle is interpreted by a small machine that knows tensors, containers and numbers. Every class or function it
names beyond those becomes an inert `Stub`: nothing is imported, nothing is called. Storages stay views of the bytes of
the file, so a tensor can never be larger than the file it came from.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import math
import pathlib
import pickletools
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

_LARGEST_PICKLE = 64 * 2**20
_DEEPEST = 64
_MOST_VALUES = 1_000_000


class WeightsFileError(ValueError):
    """A weights file that cannot be read; the message names the file and what is wrong with it."""


@dataclasses.dataclass
class Stub:
    """Something the pickle names and that is not run: its dotted name, and its state once the pickle has set one."""

    name: str
    state: Any = None


@dataclasses.dataclass(frozen=True)
class _Global:
    """A class or function named by the pickle."""

    name: str


_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}


def read(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of a `.pt` file: a state dict, a whole module, or dicts of them.

    Args:
      path: a file written by `torch.save` in the zip format (PyTorch 1.6 or later).

    Returns:
      {dotted name: array}; the arrays are read-only views. Names are those of `module.state_dict()`, with the keys of
      surrounding dicts in front.

    Raises:
      FileNotFoundError: no such file.
      WeightsFileError: not a zip file (the format before PyTorch 1.6 included), damaged, or without tensors.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no weights file at {path}")
    if not path.is_file():
        raise WeightsFileError(f"{path} is not a file")
    if not zipfile.is_zipfile(path):
        raise WeightsFileError(
            f"{path} is not a PyTorch file in the zip format; a file from before PyTorch 1.6 has to be saved again "
            "by a newer PyTorch, or as .npz"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            root = _Machine(_Archive(archive, path.stat().st_size)).run()
        tensors = dict(_walk(root, "", [], itertools.count()))
    except WeightsFileError as error:
        raise WeightsFileError(f"{path}: {error}") from None
    except (zipfile.BadZipFile, ValueError, LookupError, TypeError, EOFError, OSError, RuntimeError) as error:
        raise WeightsFileError(f"{path} is damaged: {error}") from None
    if not tensors:
        raise WeightsFileError(f"{path} holds no tensors")
    return tensors


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
            data = np.frombuffer(self._archive.read(name), self._dtype(kind))
            if data.size != count:
                raise WeightsFileError(f"storage {key!r} has {data.size} numbers, but {count} were announced")
            self._storages[key] = data
        return self._storages[key]

    def _dtype(self, kind: str) -> np.dtype:
        if kind not in _STORAGES:
            raise WeightsFileError(f"storage type {kind!r} is not supported")
        if _STORAGES[kind] == "bfloat16":
            import ml_dtypes

            if self._order == ">":
                raise WeightsFileError("big-endian bfloat16 is not supported")
            return np.dtype(ml_dtypes.bfloat16)
        return np.dtype(_STORAGES[kind]).newbyteorder(self._order)


def _tensor(storage: Any, offset: Any, size: Any, strides: Any) -> np.ndarray:
    """A view of a storage; every index it can reach must lie inside, and it must not repeat numbers without end."""
    numbers = (offset, *size, *strides)
    if not isinstance(storage, np.ndarray) or any(type(number) is not int or number < 0 for number in numbers):
        raise WeightsFileError("a tensor is described by something else than a storage and numbers")
    if len(size) != len(strides) or len(size) > 32:
        raise WeightsFileError(f"a tensor has {len(size)} sizes and {len(strides)} strides")
    count = math.prod(size)
    last = offset + sum((length - 1) * stride for length, stride in zip(size, strides, strict=True))
    if count > storage.size or (count and last >= storage.size):
        raise WeightsFileError(f"a tensor of size {tuple(size)} reaches beyond its storage of {storage.size} numbers")
    if not count:
        return np.zeros(tuple(size), storage.dtype)
    steps = tuple(stride * storage.itemsize for stride in strides)
    return np.lib.stride_tricks.as_strided(storage[offset:], tuple(size), steps, writeable=False)


_PUSH = {
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "INT", "LONG", "BINFLOAT", "FLOAT", "BINUNICODE", "UNICODE"),
    *("SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING", "STRING", "BINBYTES", "SHORT_BINBYTES"),
}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": list}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


class _Machine:
    """Interprets a pickle of protocol 2 to 5 with inert values only."""

    def __init__(self, archive: _Archive):
        self._archive = archive
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The value that the pickle describes."""
        for opcode, argument, _ in pickletools.genops(io.BytesIO(self._archive.pickle())):
            name = opcode.name
            if name == "STOP":
                return self._stack.pop()
            if name in _PUSH:
                self._stack.append(argument)
            elif name in _EMPTY:
                self._stack.append(_EMPTY[name]())
            elif name in _CONSTANTS:
                self._stack.append(_CONSTANTS[name])
            elif name not in ("PROTO", "FRAME"):
                handler = getattr(self, "_" + name.lower(), None)
                if handler is None:
                    raise WeightsFileError(f"its pickle uses the instruction {name}, which PyTorch files do not need")
                handler(argument)
        raise WeightsFileError("its pickle ends too early")

    def _pop_mark(self) -> list[Any]:
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _mark(self, _: Any) -> None:
        self._marks.append(len(self._stack))

    def _pop(self, _: Any) -> None:
        self._stack.pop()

    def _tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._pop_mark()))

    def _tuple1(self, _: Any) -> None:
        self._stack[-1:] = [tuple(self._stack[-1:])]

    def _tuple2(self, _: Any) -> None:
        self._stack[-2:] = [tuple(self._stack[-2:])]

    def _tuple3(self, _: Any) -> None:
        self._stack[-3:] = [tuple(self._stack[-3:])]

    def _append(self, _: Any) -> None:
        self._extend([self._stack.pop()])

    def _appends(self, _: Any) -> None:
        self._extend(self._pop_mark())

    _additems = _appends

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self._stack[-1], list):
            raise WeightsFileError("its pickle appends to something that is no list")
        self._stack[-1].extend(items)

    def _setitem(self, _: Any) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._update([key, value])

    def _setitems(self, _: Any) -> None:
        self._update(self._pop_mark())

    def _update(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict):
            raise WeightsFileError("its pickle sets items of something that is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | int | float | None):
                raise WeightsFileError("a dict of its pickle has a key that is no string or number")
            target[key] = value

    def _binput(self, index: Any) -> None:
        self._memo[index] = self._stack[-1]

    _long_binput = _put = _binput

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _binget(self, index: Any) -> None:
        self._stack.append(self._memo[index])

    _long_binget = _get = _binget

    def _global(self, argument: Any) -> None:
        self._stack.append(_Global(str(argument).replace(" ", ".")))

    def _stack_global(self, _: Any) -> None:
        attribute, module = self._stack.pop(), self._stack.pop()
        self._stack.append(_Global(f"{module}.{attribute}"))

    def _newobj(self, _: Any) -> None:
        self._reduce(None)

    def _reduce(self, _: Any) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            raise WeightsFileError("its pickle calls something that is no named function or class")
        self._stack.append(self._call(function.name, arguments))

    def _call(self, name: str, arguments: tuple[Any, ...]) -> Any:
        if name == "collections.OrderedDict":
            pairs = arguments[0] if arguments else []
            return {str(key): value for key, value in pairs}
        if name in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"):
            return _tensor(*arguments[:4])
        if name in ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"):
            return arguments[0]
        if name == "torch.Size":
            return arguments[0]
        return Stub(name)

    def _build(self, _: Any) -> None:
        state = self._stack.pop()
        if isinstance(self._stack[-1], Stub):
            self._stack[-1].state = state
        elif not isinstance(self._stack[-1], dict):
            raise WeightsFileError("its pickle sets the state of something that has none")

    def _binpersid(self, _: Any) -> None:
        identity = self._stack.pop()
        if not isinstance(identity, tuple) or len(identity) != 5 or identity[0] != "storage":
            raise WeightsFileError("its pickle refers to something outside that is no storage")
        _, kind, key, _, count = identity
        if not isinstance(kind, _Global) or not isinstance(key, str) or type(count) is not int:
            raise WeightsFileError("its pickle describes a storage by something else than type, key and length")
        module, _, short = kind.name.rpartition(".")
        if module != "torch":
            raise WeightsFileError(f"storage type {kind.name!r} is not supported")
        self._stack.append(self._archive.storage(short, key, count))


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
