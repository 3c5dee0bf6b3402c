"""Reads TensorFlow's V2 checkpoints ("tensor bundles") without TensorFlow.

A bundle PREFIX is the files PREFIX.index and PREFIX.data-00000-of-0000N. The index is a sorted table in LevelDB's
format: from a name to where the variable's bytes are (tensorflow/core/protobuf/tensor_bundle.proto); the data files are
these bytes, one variable after the other. Every block and every variable has a checksum, and all are checked.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import pathlib
import re
import struct
from collections.abc import Iterator

import numpy as np

from nd_jax.networks.importers.torch_zip import WeightsFileError

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
_LARGEST_INDEX = 64 * 2**20
_TYPES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    9: "int64",
    10: "bool",
    17: "uint16",
    19: "float16",
    22: "uint32",
    23: "uint64",
}


@dataclasses.dataclass(frozen=True)
class Entry:
    """Where a variable is.

    Attributes:
      dtype: numpy's name of its type, or "" for one that is no plain number.
      shape: of the array.
      shard: number of the data file.
      offset: of its first byte there.
      size: in bytes.
      checksum: masked CRC-32C of its bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int


class Bundle:
    """The variables of a checkpoint: names at once, arrays when they are asked for.

    Args:
      prefix: path of the checkpoint, without ".index".

    Raises:
      FileNotFoundError: no index, or a data file is missing.
      WeightsFileError: the index cannot be read.
    """

    def __init__(self, prefix: str | pathlib.Path):
        self.prefix = pathlib.Path(prefix)
        index = pathlib.Path(f"{self.prefix}.index")
        if not index.is_file():
            raise FileNotFoundError(f"no checkpoint {self.prefix}: {index.name} is missing")
        if index.stat().st_size > _LARGEST_INDEX:
            raise WeightsFileError(f"{index} is too large for the index of a checkpoint")
        try:
            table = dict(_entries(index.read_bytes()))
            header = _fields(table.pop(b"", b""))
            if header.get(2, [0])[-1] != 0:
                raise ValueError("it is of a big-endian machine")
            self.shards = int(header.get(1, [1])[-1])
            self.entries = {name.decode(): _entry(value) for name, value in table.items()}
        except (ValueError, IndexError, KeyError, TypeError, struct.error) as error:
            raise WeightsFileError(
                f"{index} is not the index of a TensorFlow checkpoint, or damaged: {error}"
            ) from None
        for shard in range(self.shards):
            if not self._file(shard).is_file():
                raise FileNotFoundError(
                    f"the checkpoint {self.prefix} is incomplete: {self._file(shard).name} is missing"
                )

    def read(self, name: str) -> np.ndarray:
        """One variable.

        Raises:
          WeightsFileError: there is none of that name, or its bytes are missing or damaged.
        """
        entry = self.entries.get(name)
        if entry is None:
            raise WeightsFileError(f"the checkpoint {self.prefix} has no variable {name}")
        if not entry.dtype or entry.size != math.prod(entry.shape) * np.dtype(entry.dtype).itemsize:
            raise WeightsFileError(f"variable {name} of {self.prefix} is no plain array of {entry.dtype or 'numbers'}")
        path = self._file(entry.shard)
        with open(path, "rb") as file:
            file.seek(entry.offset)
            content = file.read(entry.size)
        if len(content) < entry.size:
            raise WeightsFileError(
                f"the checkpoint {self.prefix} is incomplete: {path.name} ends before the last byte of {name}"
            )
        if masked(crc32c(content)) != entry.checksum:
            raise WeightsFileError(f"variable {name} of {self.prefix} is damaged: its checksum does not fit")
        kind = np.dtype(entry.dtype).newbyteorder("<")
        return np.frombuffer(content, kind).reshape(entry.shape).astype(entry.dtype)

    def _file(self, shard: int) -> pathlib.Path:
        return pathlib.Path(f"{self.prefix}.data-{shard:05d}-of-{self.shards:05d}")


def latest(folder: str | pathlib.Path) -> pathlib.Path:
    """The prefix of a folder's latest checkpoint: what its file `checkpoint` says, else that of the highest number.

    Raises:
      FileNotFoundError: there is none.
    """
    folder = pathlib.Path(folder)
    note = folder / "checkpoint"
    if note.is_file():
        said = re.search(
            r'^model_checkpoint_path:\s*"([^"]+)"', note.read_text(encoding="utf-8", errors="replace"), re.M
        )
        if said:
            # The path may be one of the machine that wrote it.
            return folder / re.split(r"[/\\]", said[1])[-1]
    found = [path.with_suffix("") for path in folder.glob("*.index")] if folder.is_dir() else []
    if not found:
        raise FileNotFoundError(f"no checkpoint in {folder}: there is no file named *.index")
    return max(found, key=lambda path: (_number(path.name), path.name))


def _number(name: str) -> int:
    digits = re.search(r"(\d+)$", name)
    return int(digits[1]) if digits else -1


# --- the table of the index -------------------------------------------------------------------------------------------


def _entries(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """All (key, value) of a table, in order."""
    if len(content) < _FOOTER:
        raise ValueError("it is too short")
    if struct.unpack("<Q", content[-8:])[0] != _MAGIC:
        raise ValueError("its last bytes are not those of a table")
    footer = content[-_FOOTER:-8]
    _, at = _varint(footer, 0)
    _, at = _varint(footer, at)
    for _, handle in _block(content, *_handle(footer, at)):
        yield from _block(content, *_handle(handle, 0))


def _handle(content: bytes, at: int) -> tuple[int, int]:
    offset, at = _varint(content, at)
    return offset, _varint(content, at)[0]


def _block(content: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """The (key, value) of a block; every key says how many bytes it shares with the one before."""
    stored = content[offset : offset + size + 5]
    if len(stored) < size + 5 or size < 4:
        raise ValueError("a block of it is missing")
    if masked(crc32c(stored[: size + 1])) != struct.unpack("<I", stored[size + 1 :])[0]:
        raise ValueError("the checksum of a block does not fit")
    kind, block = stored[size], stored[:size]
    if kind not in (0, 1):
        raise ValueError(f"a block is compressed in an unknown way, {kind}")
    if kind == 1:
        block = _unsnapped(block)
    end = len(block) - 4 * (1 + struct.unpack("<I", block[-4:])[0])
    at, key = 0, b""
    while at < end:
        shared, at = _varint(block, at)
        fresh, at = _varint(block, at)
        length, at = _varint(block, at)
        if shared > len(key) or at + fresh + length > end:
            raise ValueError("an entry reaches beyond its block")
        key = key[:shared] + block[at : at + fresh]
        at += fresh
        yield key, block[at : at + length]
        at += length


def _unsnapped(content: bytes) -> bytes:
    """Snappy's format: literals, and copies of what came before."""
    total, at = _varint(content, 0)
    if total > _LARGEST_INDEX:
        raise ValueError("a block is too large")
    made = bytearray()
    while at < len(content):
        tag = content[at]
        at += 1
        kind, length = tag & 3, (tag >> 2) + 1
        if kind == 0:
            if length > 60:
                wide = length - 60
                length, at = int.from_bytes(content[at : at + wide], "little") + 1, at + wide
            made += content[at : at + length]
            at += length
            continue
        if kind == 1:
            length, back = ((tag >> 2) & 7) + 4, (tag >> 5) << 8 | content[at]
            at += 1
        else:
            wide = 2 if kind == 2 else 4
            back, at = int.from_bytes(content[at : at + wide], "little"), at + wide
        if not 0 < back <= len(made):
            raise ValueError("a compressed block copies what is not there")
        for _ in range(length):
            made.append(made[-back])
    if len(made) != total:
        raise ValueError("a compressed block has another size than it says")
    return bytes(made)


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """(number, where it ends): seven bits a byte, the lowest first."""
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")


# --- protocol buffers -------------------------------------------------------------------------------------------------


def _fields(message: bytes) -> dict[int, list[int | bytes]]:
    """The fields of a message by number, in order: numbers, or bytes of whatever has a length."""
    found: dict[int, list[int | bytes]] = {}
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        value: int | bytes
        if tag & 7 == 0:
            value, at = _varint(message, at)
        elif tag & 7 in (1, 5):
            width = 8 if tag & 7 == 1 else 4
            value, at = int.from_bytes(message[at : at + width], "little"), at + width
        elif tag & 7 == 2:
            length, at = _varint(message, at)
            value, at = message[at : at + length], at + length
        else:
            raise ValueError("a field has an unknown kind")
        if at > len(message):
            raise ValueError("a message ends too early")
        found.setdefault(tag >> 3, []).append(value)
    return found


def _entry(message: bytes) -> Entry:
    fields = _fields(message)
    if 7 in fields:
        raise ValueError("a variable is stored in slices")

    def number(field: int) -> int:
        value = fields.get(field, [0])[-1]
        if not isinstance(value, int):
            raise ValueError("a number is missing")
        return value

    shape = []
    for part in fields.get(2, []):
        for size in _fields(_bytes(part)).get(2, []):
            shape.append(_signed(_fields(_bytes(size)).get(1, [0])[-1]))
    if min(shape, default=0) < 0:
        raise ValueError("a shape is not known")
    return Entry(_TYPES.get(number(1), ""), tuple(shape), number(3), number(4), number(5), number(6))


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a message is missing")
    return value


def _signed(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ValueError("a number is missing")
    return value - 2**64 if value >= 2**63 else value


# --- checksums --------------------------------------------------------------------------------------------------------


def masked(checksum: int) -> int:
    """A checksum as it is stored, so that a checksum of checksums still says something."""
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(content: bytes) -> int:
    """CRC-32C (Castagnoli) of some bytes.

    The data are cut into pieces of one length, whose checksums are worked out side by side and then put together:
    checksums are linear over bits, and zero bytes in front change nothing.
    """
    table = _table()
    data = np.frombuffer(content, np.uint8).astype(np.uint32)
    if len(data) < 4:
        state = np.uint32(0xFFFFFFFF)
        for byte in data:
            state = table[(state ^ byte) & 255] ^ (state >> 8)
        return int(state) ^ 0xFFFFFFFF
    data[:4] ^= 255
    length = 1 << min(12, max(2, (len(data).bit_length() + 1) // 2))
    columns = np.pad(data, (-len(data) % length, 0)).reshape(-1, length).T.copy()
    states = np.zeros(columns.shape[1], np.uint32)
    for column in columns:
        states = table[(states ^ column) & 255] ^ (states >> 8)
    moved = _zeros(length)
    while len(states) > 1:
        if len(states) % 2:
            states = np.concatenate([np.zeros(1, np.uint32), states])
        states = _moved(moved, states[0::2]) ^ states[1::2]
        moved = _moved(moved, moved)
    return int(states[0]) ^ 0xFFFFFFFF


@functools.cache
def _table() -> np.ndarray:
    """What a byte does to a checksum: (256,)."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(0x82F63B78), table >> 1)
    return table


def _zeros(count: int) -> np.ndarray:
    """What `count` zero bytes, a power of two, do to each bit of a checksum: (32,)."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    moved = _table()[bits & 255] ^ (bits >> 8)
    for _ in range(count.bit_length() - 1):
        moved = _moved(moved, moved)
    return moved


def _moved(moved: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Applies such a change to checksums: (32,), (n,) -> (n,)."""
    result = np.zeros_like(states)
    for bit in range(32):
        result ^= np.where(states >> np.uint32(bit) & np.uint32(1), moved[bit], np.uint32(0))
    return result
