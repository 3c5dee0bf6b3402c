"""An input taken apart by an attribution: what it marks alone, and all the rest."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from nd_jax.attribute.attribution import Attribution
from nd_jax.attribute.baselines import NEIGHBOURS, baseline_of
from nd_jax.attribute.faithful import mask_of


def parts(
    x: Any, attribution: Attribution, *, share: float | None = 0.25, baseline: Any = "silence", key: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """The marked part alone and the input without it; the domain makes both pictures and sounds.

    Args:
      x: the inputs that were explained, (*shape) or (clips, *shape).
      attribution: of these, of one target.
      share: the share of the values that counts as marked, the largest as far as they are positive; None for the
        attribution as it is, over its largest value where that is above 1 (for a mask: the mask itself).
      baseline: what stands where something is taken away, see `baselines` (not "neighbours").
      key: of the baseline "noise".

    Returns:
      (kept, removed), both of the shape of x. Of a map of a waveform's short-time spectrum cells are taken out of it.

    Raises:
      ValueError: an attribution of other inputs or of several targets, a share outside 0 ... 1.
    """
    if isinstance(baseline, str) and baseline == NEIGHBOURS:
        raise ValueError("baseline 'neighbours' belongs to windows: it is for occlusion only")
    domain = attribution.domain
    domain.check(x)
    values = jnp.asarray(x, jnp.float32)
    mask = _marked(attribution, share)
    if mask.shape[: values.ndim - len(domain.shape)] != values.shape[: values.ndim - len(domain.shape)]:
        raise ValueError(f"this attribution, of shape {mask.shape}, is not one of inputs of shape {values.shape}")
    alone = values.ndim == len(domain.shape)
    clips = values[None] if alone else values
    masks = jnp.asarray(mask[None] if alone else mask)
    instead = baseline_of(domain, clips, baseline, key=key)
    away = clips - instead
    if attribution.view is not None:
        marked = attribution.view.sound(masks * attribution.view.spectrum(away))
    else:
        marked = masks * away
    found = [np.asarray(part, np.float32) for part in (instead + marked, clips - marked)]
    return (found[0][0], found[1][0]) if alone else (found[0], found[1])


def _marked(attribution: Attribution, share: float | None) -> np.ndarray:
    if share is not None:
        return mask_of(attribution, share=share)
    values = np.maximum(np.asarray(attribution.values), 0.0)
    rank = len(attribution.axes)
    largest = values.max(axis=tuple(range(values.ndim - rank, values.ndim)), keepdims=True)
    return (values / np.maximum(largest, 1.0)).astype(np.float32)
