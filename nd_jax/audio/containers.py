"""Whether a WAV, FLAC or OGG file is whole: its header's promise against what is there.

libsndfile returns what it can of a damaged file; these checks run before it and refuse such a file in one sentence.
"""

from __future__ import annotations

import pathlib
import struct
import zlib
from typing import BinaryIO

_UNKNOWN_SIZE = 0xFFFFFFFF
_OGG_LAST_PAGE = 0x04
_MIRRORED_BYTES = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class AudioFileError(ValueError):
    """A sound file cannot be read or written; the message is one sentence that names the file."""


def reason(error: Exception) -> str:
    """What a library said, on one line and without its full stop."""
    text = str(getattr(error, "error_string", None) or getattr(error, "strerror", None) or error)
    return " ".join(text.split()).rstrip(".")


def check_container(path: pathlib.Path) -> None:
    """Raises `AudioFileError` unless `path` is a whole WAV, FLAC or OGG file by its content."""
    if path.is_dir():
        raise AudioFileError(f"{path} is a directory, not a sound file")
    if not path.exists():
        raise AudioFileError(f"{path} does not exist")
    if not path.is_file():
        raise AudioFileError(f"{path} is not a regular file")
    try:
        size = path.stat().st_size
        if size == 0:
            raise AudioFileError(f"{path} is empty (0 bytes)")
        with path.open("rb") as file:
            magic = file.read(12)
            if magic[:4] in (b"RIFF", b"RIFX", b"RF64") and magic[8:12] in (b"WAVE", b""):
                _check_wav(path, file, size, ">" if magic[:4] == b"RIFX" else "<")
            elif magic[:4] == b"OggS":
                _check_ogg(path, file)
            elif magic[:4] == b"fLaC":
                _check_flac(path, file)
            else:
                raise AudioFileError(f"{path} is not a WAV, FLAC or OGG file (it begins with {magic[:8]!r})")
    except OSError as error:
        raise AudioFileError(f"{path} cannot be read: {reason(error)}") from None


def _check_wav(path: pathlib.Path, file: BinaryIO, size: int, order: str) -> None:
    """Walks the chunks of a RIFF file up to its samples."""
    position, long_size, seen_format = 12, None, False
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack(order + "4sI", file.read(8))
        position += 8
        if name == b"ds64" and size >= position + 16:
            long_size = struct.unpack("<Q", file.read(16)[8:])[0]
        elif name == b"fmt " and size >= position + 16:
            seen_format = True
            _, channels, rate = struct.unpack(order + "HHI", file.read(8))
            if rate == 0:
                raise AudioFileError(f"{path} has a sample rate of 0 Hz in its header")
            if channels == 0:
                raise AudioFileError(f"{path} has 0 channels in its header")
        elif name == b"data":
            if not seen_format:
                raise AudioFileError(f"{path} is damaged: its samples come before their format")
            length = long_size if length == _UNKNOWN_SIZE and long_size is not None else length
            if length == 0:
                raise AudioFileError(f"{path} has no samples")
            if length != _UNKNOWN_SIZE and position + length > size:
                raise AudioFileError(
                    f"{path} is truncated: its header promises {length} bytes of samples, {size - position} are there"
                )
            return
        position += length + length % 2
    raise AudioFileError(f"{path} is truncated: the file ends before its samples begin")


def _check_flac(path: pathlib.Path, file: BinaryIO) -> None:
    """The STREAMINFO block of a FLAC file is there and plausible (RFC 9639, section 8.2)."""
    file.seek(0)
    head = file.read(42)
    if len(head) < 42:
        raise AudioFileError(f"{path} is truncated: the file ends within its header")
    rate, samples = int.from_bytes(head[18:21], "big") >> 4, int.from_bytes(head[21:26], "big") & 0xFFFFFFFFF
    if rate == 0:
        raise AudioFileError(f"{path} has a sample rate of 0 Hz in its header")
    if samples == 0:
        raise AudioFileError(f"{path} has no samples: its header promises none")


def _check_ogg(path: pathlib.Path, file: BinaryIO) -> None:
    """Every page of an Ogg stream is whole and undamaged, and the last one is marked so (RFC 3533, section 6)."""
    file.seek(0)
    data = file.read()
    position, last = 0, False
    while position < len(data):
        head = data[position : position + 27]
        table = data[position + 27 : position + 27 + head[26]] if len(head) == 27 else b""
        end = position + 27 + len(table) + sum(table)
        if len(head) < 27 or len(table) < head[26] or end > len(data):
            break
        if head[:4] != b"OggS" or _ogg_checksum(data[position:end]) != int.from_bytes(head[22:26], "little"):
            raise AudioFileError(f"{path} is damaged: its Ogg page at byte {position} has a wrong checksum")
        position, last = end, bool(head[5] & _OGG_LAST_PAGE)
    if position < len(data) or not last:
        raise AudioFileError(f"{path} is truncated: its Ogg stream ends before its last page")


def _ogg_checksum(page: bytes) -> int:
    """The CRC-32 of Ogg: zlib's polynomial, but the most significant bit first, nothing inverted, its own field 0."""
    mirrored = (page[:22] + bytes(4) + page[26:]).translate(_MIRRORED_BYTES)
    return int(f"{zlib.crc32(mirrored, 0xFFFFFFFF) ^ 0xFFFFFFFF:032b}"[::-1], 2)
