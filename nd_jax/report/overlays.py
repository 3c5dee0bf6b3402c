"""A map laid over the picture of the input that it explains: the input in grey, the map in two colours."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from nd_jax.domain import Axis, Picture

# What speaks for it, and what against.
FOR, AGAINST = (0.80, 0.13, 0.20), (0.10, 0.33, 0.76)
_INK, _COVER = 0.72, 0.85


def overlaid(picture: Picture, values: np.ndarray, axes: Sequence[Axis], *, limit: float | None = None) -> Picture:
    """A picture in colours with the axes of the input's own.

    Args:
      picture: of the input: a spectrogram (loud is dark), or an image.
      values: of the map, one axis for each of `axes`; channels are summed.
      axes: its axes; along those that it lacks it is the same everywhere.
      limit: the size that has the full colour; by default the largest of the map.
    """
    rows = placed(picture, values, axes)
    largest = float(np.max(np.abs(rows), initial=0.0)) if limit is None else limit
    share = np.clip(rows / max(largest, 1e-12), -1, 1)[..., None]
    drawn = np.asarray(picture.values, np.float32)
    if drawn.ndim == 3:
        light = drawn.mean(axis=-1)
    else:
        light = np.clip((np.nan_to_num(drawn) - picture.low) / (picture.high - picture.low), 0, 1)
        # A quiet recording is drawn as dark as a loud one.
        light = 1 - _INK * light / max(float(light.max()), 1e-3) if picture.x.unit != "px" else light
    if picture.x.unit == "px":
        # On black no colour would be seen.
        light = 1 - _INK + _INK * light
    grey = np.repeat(light[..., None], 3, axis=-1)
    colour = np.where(share > 0, np.asarray(FOR), np.asarray(AGAINST))
    cover = _COVER * np.abs(share)
    return dataclasses.replace(picture, values=(1 - cover) * grey + cover * colour, unit="", low=0.0, high=1.0)


def placed(picture: Picture, values: np.ndarray, axes: Sequence[Axis]) -> np.ndarray:
    """A map at the rows and columns of a picture, by straight lines between its own coordinates."""
    found = np.asarray(values, np.float64)
    names = [axis.name for axis in axes]
    if found.ndim != len(names):
        raise ValueError(f"a map of shape {found.shape} has not the axes {', '.join(names)}")
    if "channel" in names:
        found = found.sum(axis=names.index("channel"))
    inner = [axis for axis in axes if axis.name != "channel"]
    for place, target in enumerate((picture.y, picture.x)):
        known = next((axis for axis in inner if axis.name == target.name), None)
        if known is None:
            found, inner = np.expand_dims(found, place), [*inner[:place], target, *inner[place:]]
            continue
        now = inner.index(known)
        at = np.interp(np.asarray(target.values), np.asarray(known.values), np.arange(len(known.values)))
        low = np.clip(np.floor(at).astype(int), 0, max(len(known.values) - 2, 0))
        part = (at - low)[(...,) + (None,) * (found.ndim - 1)]
        moved = np.moveaxis(found, now, 0)
        high = np.minimum(low + 1, len(known.values) - 1)
        found = np.moveaxis((1 - part) * moved[low] + part * moved[high], 0, now)
    order = [[axis.name for axis in inner].index(target.name) for target in (picture.y, picture.x)]
    return np.broadcast_to(np.transpose(found, order), np.shape(picture.values)[:2])
