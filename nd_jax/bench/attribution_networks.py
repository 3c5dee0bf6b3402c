"""Networks of which it is known where they look: every weight is set by hand from how the events look on average.

"cells"      adds up how far every cell of a kind's band rises above a threshold
"template"   correlates with the mean picture of a kind at every time; the best, if it is above half of a perfect match
"saturated"  as cells, but a cell is heard or it is not: 1 dB above the threshold it adds no more
"rippled"    as cells, and every cell of the clip adds a ripple, too fine and small to matter

All thresholds lie half-way in dB between the event and its background, so that the background is not heard and what a
network says comes from the cells of the event.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.bench.attribution_sounds import Clips, Kind, Size, patterns
from nd_jax.network import Network
from nd_jax.networks.layers import Relu

HARD: Mapping[str, str] = {
    "cells": "nothing: where it answers it is linear, and its layer has the positions of the input",
    "template": "its weights around the event are negative, and its layer has no positions in frequency",
    "saturated": "it is flat nearly everywhere, and on the event above all: its slope is next to nothing",
    "rippled": "its slope is the ripple's, up to four times as steep as the event's and the same everywhere",
}
"""What is known to be hard about each network."""
NAMES = tuple(HARD)
LOGIT = 6.0
"""What a kind's mean picture scores."""
CONTRAST = 0.7
"""How much of a template's mean is subtracted from it: what sounds beside an event counts against it."""
RAMP = 1 / 80
"""A saturated cell goes from nothing to all within so much of the domain's range: 1 of 80 dB."""
PERIOD, SLOPE = 0.0025, 4.0
"""Of the ripple: its period as a share of the range (0.2 dB), and its steepest slope over that of an event's cell."""
ENOUGH = 0.6
"""The share of a cue's own evidence that is enough where either of two cues is."""


class Evidence(nn.Module):
    """What each cell says for each kind: a product with weights (bands, kinds); a layer with positions."""

    kinds: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, bands, frames, 1) -> (batch, bands, frames, kinds)."""
        weights = self.param("weights", nn.initializers.zeros, (x.shape[1], self.kinds))
        return x * weights[None, :, None, :]


class Cells(nn.Module):
    """Adds up cells; `rule` is "cells", "saturated" or "rippled"."""

    kinds: int
    rule: str = "cells"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, bands, frames, 1) -> (batch, kinds)."""
        threshold = self.param("threshold", nn.initializers.zeros, (x.shape[1],))
        heard = Relu(name="heard")(x - threshold[None, :, None, None])
        if self.rule == "saturated":
            heard = jnp.minimum(heard / RAMP, 1.0)
        total = jnp.sum(Evidence(self.kinds, name="evidence")(heard), axis=(1, 2))
        if self.rule == "rippled":
            size = self.param("ripple", nn.initializers.zeros, (self.kinds,))
            wave = jnp.sum(jnp.sin(2 * jnp.pi / PERIOD * x), axis=(1, 2)) * (PERIOD / (2 * jnp.pi))
            total = total + wave * size[None]
        return total


class BestMatch(nn.Module):
    """Correlates with one picture a kind; the best match over time."""

    kinds: int
    frames: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, bands, frames, 1) -> (batch, kinds)."""
        kernel = self.param("compare", nn.initializers.zeros, (x.shape[1], self.frames, self.kinds))
        bias = self.param("bias", nn.initializers.zeros, (self.kinds,))
        before, size = (self.frames - 1) // 2, x.shape[2]
        padded = jnp.pad(x[..., 0], ((0, 0), (0, 0), (before, self.frames - 1 - before)))
        # One matrix product for all frames of the pictures, then their sum along the diagonal.
        each = jnp.einsum("nbt,bsk->nstk", padded, kernel)
        match = sum(each[:, step, step : step + size] for step in range(self.frames)) + bias[None, None]
        return jnp.max(Relu(name="match")(match[:, None]), axis=(1, 2))


class Ideal(nn.Module):
    """Listens to one box of cells for each clip, with equal weights, and to nothing else."""

    clips: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, bands, frames, 1) -> (batch, clips)."""
        boxes = self.param("boxes", nn.initializers.zeros, (*x.shape[1:3], self.clips))
        return jnp.sum(Inside(name="evidence")(x, boxes), axis=(1, 2))


class Inside(nn.Module):
    """A product, as a layer with positions."""

    def __call__(self, x: jax.Array, boxes: jax.Array) -> jax.Array:
        """(batch, bands, frames, 1), (bands, frames, clips) -> (batch, bands, frames, clips)."""
        return x * boxes[None]


class Cues(nn.Module):
    """Two cues, one answer: `rule` is "either" (each is enough), "both" (each is needed) or "one" (the first)."""

    rule: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, bands, frames, 1) -> (batch, 1)."""
        first, second = jnp.moveaxis(Cells(2, name="cells")(x), -1, 0) / LOGIT
        if self.rule == "either":
            answer = jnp.maximum(*(jnp.minimum(cue / ENOUGH, 1.0) for cue in (first, second)))
        else:
            answer = jnp.minimum(first, second) if self.rule == "both" else first
        return LOGIT * answer[:, None]


@dataclasses.dataclass(frozen=True, eq=False)
class Planted:
    """A network, and its layer with positions for Grad-CAM."""

    name: str
    network: Network
    layer: str


def plant(rng: np.random.Generator, size: Size, given: tuple[Kind, ...]) -> dict[str, Planted]:
    """All networks of `NAMES` for these kinds of events: one logit a kind.

    Args:
      rng: of the takes from which the events' looks are learned; they are none of the clips.
      size: of the clips.
      given: kinds of events.
    """
    pictures, boxes = patterns(rng, size, given)
    kinds, domain = len(given), size.domain()
    labels = tuple(f"{kind.low:.0f} to {kind.high:.0f} Hz" for kind in given)
    found = {}
    for name in ("cells", "saturated", "rippled"):
        module = Cells(kinds, name)
        params = _cells(pictures, boxes, name)
        found[name] = Planted(name, Network(module, {"params": params}, domain, labels=labels), "evidence")
    matching = BestMatch(kinds, pictures.shape[2])
    params = _matching(pictures, boxes)
    found["template"] = Planted("template", Network(matching, {"params": params}, domain, labels=labels), "match")
    return {name: found[name] for name in NAMES}


def cues(rng: np.random.Generator, size: Size, given: tuple[Kind, ...], rule: str) -> Network:
    """A network that hears the first and the last kind of event, see `Cues`."""
    pair = (given[0], given[-1])
    pictures, boxes = patterns(rng, size, pair)
    return Network(Cues(rule), {"params": {"cells": _cells(pictures, boxes, "cells")}}, size.domain())


def ideal(clips: Clips, size: Size) -> Network:
    """The ideal detector of each clip's own event: class i listens to the box of clip i."""
    boxes = np.moveaxis(clips.boxes.max(axis=1), 0, -1).astype(np.float32)
    frames = clips.inputs.shape[2]
    return Network(Ideal(len(clips.inputs)), {"params": {"boxes": boxes}}, size.domain(frames))


def _cells(pictures: np.ndarray, boxes: np.ndarray, rule: str) -> dict[str, Any]:
    kinds = len(pictures)
    bands = boxes.max(axis=2)
    # Bands that no kind has are never heard, whatever stands here.
    threshold = np.ones(pictures.shape[1])
    for picture, box, own in zip(pictures, boxes, bands, strict=True):
        threshold[own] = (picture[box].mean() + picture[own][:, ~box.any(axis=0)].mean()) / 2
    rise = np.maximum(pictures - threshold[None, :, None], 0.0)
    heard = np.minimum(rise / RAMP, 1.0) if rule == "saturated" else rise
    totals = np.asarray([np.sum(heard[kind][bands[kind]]) for kind in range(kinds)])
    params = {
        "threshold": threshold.astype(np.float32),
        "evidence": {"weights": (LOGIT * bands.T / totals[None]).astype(np.float32)},
    }
    if rule == "rippled":
        params["ripple"] = (SLOPE * LOGIT / totals).astype(np.float32)
    return params


def _matching(pictures: np.ndarray, boxes: np.ndarray) -> dict[str, Any]:
    weights = []
    for picture, box in zip(pictures, boxes, strict=True):
        plain = np.where(box, picture - picture[~box].mean(), 0.0)
        plain = plain - CONTRAST * plain.mean()
        best = float(np.sum(plain * picture))
        # Half of the best is nothing, the best is LOGIT.
        weights.append(2 * LOGIT * plain / best)
    kernel = np.stack(weights, axis=-1).astype(np.float32)
    return {"compare": kernel, "bias": np.full(len(pictures), -LOGIT, np.float32)}
