"""State dicts, {name: array}, from whatever file they are in: PyTorch, numpy, safetensors."""

from __future__ import annotations

import json
import math
import pathlib
from typing import Any

import numpy as np

from nd_jax.networks.importers import torch_zip
from nd_jax.networks.importers.torch_zip import WeightsFileError

_LARGEST_HEADER = 64 * 2**20
_TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


def read_state(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of a .npz, .safetensors, .pt or .pth file by their PyTorch names.

    Names in a .npz file may have "/" or "__" for "." and be prefixed.

    Raises:
      FileNotFoundError: no such file.
      WeightsFileError: it cannot be read.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no weights file at {path}")
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as file:
                state = {name: file[name] for name in file.files}
        except Exception as error:
            raise WeightsFileError(f"{path} is not a readable .npz file: {error}") from None
    elif path.suffix == ".safetensors":
        return read_safetensors(path)
    else:
        state = torch_zip.read(path)
    return {name.replace("/", ".").replace("__", "."): array for name, array in state.items()}


def read_safetensors(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file, read-only views of its bytes.

    Format: eight bytes with the size of a JSON header {name: {"dtype", "shape", "data_offsets"}}, the header, the data.

    Raises:
      FileNotFoundError: no such file.
      WeightsFileError: another file, damaged, or with a type that is not supported.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights file at {path}")
    with open(path, "rb") as file:
        first = file.read(8)
        size = int.from_bytes(first, "little")
        if len(first) < 8 or size > min(_LARGEST_HEADER, path.stat().st_size - 8):
            raise WeightsFileError(f"{path} is not a safetensors file, or only a part of one")
        text = file.read(size)
    try:
        header = json.loads(text)
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    except (ValueError, AttributeError) as error:
        raise WeightsFileError(f"{path} has no header of a safetensors file: {error}") from None
    if not entries:
        raise WeightsFileError(f"{path} holds no tensors")
    data = np.memmap(path, np.uint8, "r", offset=8 + size) if path.stat().st_size > 8 + size else np.zeros(0, np.uint8)
    try:
        return {name: _tensor(entry, data) for name, entry in entries.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsFileError(f"{path} describes a tensor wrongly: {error}") from None


def _tensor(entry: Any, data: np.ndarray) -> np.ndarray:
    kind, shape, (first, last) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    if kind not in _TYPES:
        raise ValueError(f"type {kind!r} is not supported")
    if any(type(number) is not int or number < 0 for number in (*shape, first, last)):
        raise ValueError("a size or an offset is no whole number of 0 or more")
    if kind == "BF16":
        import ml_dtypes

        dtype = np.dtype(ml_dtypes.bfloat16)
    else:
        dtype = np.dtype(_TYPES[kind]).newbyteorder("<")
    if last > data.size or last - first != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{kind} of shape {shape} does not lie in the bytes {first} ... {last} of {data.size}")
    return data[first:last].view(dtype).reshape(shape)
