"""The seeded weights of the reference vectors, as their README makes them."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator

import numpy as np


def seeded(listing: pathlib.Path, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """(name, array) of every entry of a `state_dict.json`, in order; later ones depend on none being left out."""
    draw = np.random.RandomState(seed)
    for name, entry in json.loads(listing.read_text(encoding="utf-8")).items():
        if name.endswith("num_batches_tracked"):
            continue
        shape = tuple(entry["shape"])
        u = draw.random_sample(int(np.prod(shape)))
        if name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
            u = 0.5 + u
        elif name.endswith("running_mean"):
            u = 0.4 * (u - 0.5)
        elif len(shape) == 1:
            u = 0.2 * (u - 0.5)
        else:
            u = (u - 0.5) * np.sqrt(24 / (u.size // shape[0]))
        yield name, u.astype(np.float32).reshape(shape)


def check(reference: np.lib.npyio.NpzFile, state: dict[str, np.ndarray]) -> int:
    """Compares weights with the sums and first numbers that are stored of some; returns how many were."""
    names = [key.removeprefix("check_sum/") for key in reference.files if key.startswith("check_sum/")]
    known = [name for name in names if name in state]
    for name in known:
        np.testing.assert_allclose(state[name].sum(dtype=np.float64), reference[f"check_sum/{name}"], rtol=1e-6)
        np.testing.assert_array_equal(state[name].ravel()[:4], reference[f"check_first4/{name}"])
    return len(known)


def compare(reference: np.lib.npyio.NpzFile, found: dict[str, np.ndarray], *, tolerance: float = 1e-3) -> dict:
    """Compares recorded activations, NCHW, with ours, NHWC; {array: error in shares of its largest value}."""
    errors = {}
    for key in reference.files:
        kind, _, layer = key.partition("/")
        name = layer.replace(".", "/")
        if kind not in ("act", "act_firstchannels", "act_mean") or name not in found:
            continue
        ours, theirs = np.asarray(found[name]), reference[key]
        if ours.ndim == 2 and theirs.ndim == 4:
            ours = ours[:, None, None]
        if kind == "act_mean" and ours.ndim == 4:
            ours = ours.mean(axis=(1, 2))
        elif ours.ndim == 4:
            ours = ours.transpose(0, 3, 1, 2)[: len(theirs), : theirs.shape[1]]
        assert ours.shape == theirs.shape, (key, ours.shape, theirs.shape)
        errors[key] = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
        assert errors[key] < tolerance, (key, errors[key])
    return errors
