"""MNIST handwritten digits (LeCun, Cortes, Burges): the four idx files, compressed or not."""

from __future__ import annotations

import gzip
import math
import pathlib
import struct
import zlib
from typing import Any

import numpy as np

from nd_jax.data.builders.base import Builder, Example, LayoutError, find_root

_STEMS = {"train": "train", "test": "t10k"}
_IDX_UINT8 = 0x08
_SIZE = (28, 28)


class MNIST(Builder):
    """Feature label; images (28, 28, 1) uint8, white digits on black."""

    name = "mnist"
    title = "MNIST"
    homepage = "http://yann.lecun.com/exdb/mnist"
    licence = "CC BY-SA 3.0"
    instructions = (
        "put the four files train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and "
        "t10k-labels-idx1-ubyte here, with or without .gz (for example from "
        "https://storage.googleapis.com/cvdf-datasets/mnist/)"
    )
    content = {"image": ((*_SIZE, 1), np.uint8)}
    features = {"label": tuple("0123456789")}

    def splits(self, folder: pathlib.Path) -> dict[str, list[Example]]:
        splits = {}
        for split, stem in _STEMS.items():
            images = read_idx(_find(folder, f"{stem}-images-idx3-ubyte"), axes=3)
            labels = read_idx(_find(folder, f"{stem}-labels-idx1-ubyte"), axes=1)
            if not len(images):
                raise ValueError(f"{folder}: there are no {split} images")
            if images.shape[1:] != _SIZE:
                raise ValueError(
                    f"{folder}: the {split} images have {_pixels(images.shape[1:])} pixels, but MNIST's "
                    f"{_pixels(_SIZE)}"
                )
            if len(images) != len(labels):
                raise ValueError(f"{folder}: {len(images)} {split} images, but {len(labels)} labels")
            if labels.size and labels.max() > 9:
                raise ValueError(f"{folder}: label {labels.max()} among the {split} labels, but digits are 0 to 9")
            splits[split] = [
                Example(f"{split}/{index:06d}", {"label": str(label)}, image)
                for index, (image, label) in enumerate(zip(images, labels, strict=True))
            ]
        return splits

    def read(self, example: Example) -> dict[str, Any]:
        return {"image": example.source[..., None]}


def _pixels(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _find(folder: pathlib.Path, stem: str) -> pathlib.Path:
    # Some copies of MNIST are named train-images.idx3-ubyte, as unpacked by hand from the old archives.
    names = [name + suffix for name in (stem, stem.replace("-idx", ".idx")) for suffix in ("", ".gz")]
    root = find_root(folder, *names)
    if root is None:
        raise LayoutError(f"no {stem} or {stem}.gz in {folder}")
    return next(root / name for name in names if (root / name).exists())


def read_idx(path: pathlib.Path, *, axes: int) -> np.ndarray:
    """Reads an idx file of unsigned bytes with so many axes, compressed with gzip or not.

    Raises:
      ValueError: not such a file, or cut short; names the file.
    """
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is damaged: {error}") from None
    header = 4 + 4 * axes
    if len(data) < header or data[:4] != bytes((0, 0, _IDX_UINT8, axes)):
        raise ValueError(f"{path} is not an idx file of unsigned bytes with {axes} axes (it begins {data[:4].hex()})")
    shape = struct.unpack(f">{axes}I", data[4:header])
    if len(data) - header != math.prod(shape):
        raise ValueError(
            f"{path} should hold {math.prod(shape)} bytes of shape {shape}, but holds {len(data) - header}"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
