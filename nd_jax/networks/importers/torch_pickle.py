"""The small machine that interprets PyTorch's pickles: tensors, containers and numbers, and nothing that could run.

Every class or function that a pickle names beyond those becomes an inert `Stub`: nothing is imported, nothing is
called. Storages stay views of the bytes of the file, so a tensor can never be larger than the file it came from.
"""

from __future__ import annotations

import dataclasses
import io
import math
import pickletools
from typing import Any, Protocol

import numpy as np


class Storages(Protocol):
    """Where the numbers of tensors come from."""

    def storage(self, kind: str, key: str, count: int) -> np.ndarray:
        """The numbers of one storage, a read-only (count,) array; WeightsFileError without one."""


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


def dtype_of(kind: str, order: Any = "<") -> np.dtype:
    """The numpy type of a storage type ("FloatStorage"), of a byte order "<" or ">"."""
    if kind not in _STORAGES:
        raise WeightsFileError(f"storage type {kind!r} is not supported")
    if _STORAGES[kind] == "bfloat16":
        import ml_dtypes

        if order == ">":
            raise WeightsFileError("big-endian bfloat16 is not supported")
        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(_STORAGES[kind]).newbyteorder(order)


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


class Machine:
    """Interprets a pickle of protocol 2 to 5 with inert values only."""

    def __init__(self, archive: Storages, stream: io.BytesIO):
        self._archive = archive
        self._stream = stream
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The value that the pickle describes."""
        for opcode, argument, _ in pickletools.genops(self._stream):
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
        if isinstance(identity, tuple) and len(identity) == 4 and identity[0] == "module":
            # In the older format a module's class comes with its source code, which is of no interest.
            self._stack.append(identity[1])
            return
        # The older format has a sixth: a part of a larger storage, which only PyTorch before 0.4 wrote.
        whole = isinstance(identity, tuple) and (len(identity) == 5 or (len(identity) == 6 and identity[5] is None))
        if not whole or identity[0] != "storage":
            raise WeightsFileError("its pickle refers to something outside that is no storage")
        _, kind, key, _, count = identity[:5]
        if not isinstance(kind, _Global) or not isinstance(key, str) or type(count) is not int:
            raise WeightsFileError("its pickle describes a storage by something else than type, key and length")
        module, _, short = kind.name.rpartition(".")
        if module != "torch":
            raise WeightsFileError(f"storage type {kind.name!r} is not supported")
        self._stack.append(self._archive.storage(short, key, count))


class Census(Machine):
    """A machine that makes no tensors."""

    def _call(self, name: str, arguments: tuple[Any, ...]) -> Any:
        return Stub(name) if name.startswith("torch._utils._rebuild_tensor") else super()._call(name, arguments)
