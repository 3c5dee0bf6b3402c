"""A mask over a given input: what of it has to stay?"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import pytree
from nd_jax.domain import Domain
from nd_jax.visualize.parameterizations import core

PER = ("sample", "frame", "band", "cell")
EDGES = ("keep", "zeros")
LIMITS = ("sigmoid", "none")


@functools.partial(
    pytree.register,
    data_fields=["x", "baseline"],
    meta_fields=["per", "width", "start", "bounds", "edges", "frame_seconds", "sd"],
)
@dataclasses.dataclass(frozen=True, eq=False)
class Mask:
    """See `mask`."""

    name: ClassVar[str] = "mask"

    x: Any
    baseline: Any = None
    per: str = "frame"
    width: int = 1
    start: float = 0.5
    bounds: str = "sigmoid"
    edges: str = "keep"
    frame_seconds: float = 0.01
    sd: float = 0.0

    def init(self, key: jax.Array, domain: Domain) -> jax.Array:
        return self.sd * jax.random.normal(key, self._shape(domain))

    def apply(self, parameters: jax.Array, domain: Domain) -> jax.Array:
        mask = self.spread(self.mask(parameters, domain), domain)
        baseline = domain.silence() if self.baseline is None else jnp.asarray(self.baseline, jnp.float32)
        return mask * jnp.asarray(self.x, jnp.float32) + (1.0 - mask) * baseline

    def invert(self, x: Any, domain: Domain) -> jax.Array:
        """The mask that makes x by least squares, number by number: exact for a width of 1 and what a mask can make."""
        shape = self._shape(domain)
        baseline = domain.silence() if self.baseline is None else jnp.asarray(self.baseline, jnp.float32)
        change = jnp.asarray(self.x, jnp.float32) - baseline
        moved = core.one_example(self.name, x, domain) - baseline
        top, bottom = (self._gathered(values, shape, domain) for values in (moved * change, change * change))
        share = jnp.where(bottom > 0, top / jnp.where(bottom > 0, bottom, 1.0), self.start)
        if self.bounds == "none":
            return share - self.start
        share = jnp.clip(share, core.MARGIN, 1.0 - core.MARGIN)
        return jnp.log(share / (1.0 - share)) - np.log(self.start / (1.0 - self.start)).astype(np.float32)

    def mask(self, parameters: jax.Array, domain: Domain) -> jax.Array:
        """The averaged mask: 1 keeps the input, 0 puts the baseline in its place.

        Shape: (samples,), (frames,), (bands,), or that of the domain's first axes for every cell.
        """
        self._shape(domain)
        if self.bounds == "sigmoid":
            values = jax.nn.sigmoid(parameters + np.log(self.start / (1.0 - self.start)).astype(np.float32))
        else:
            values = parameters + self.start
        for axis in range(values.ndim):
            values = moving_average(values, self.width, axis, self.edges)
        return values

    def _shape(self, domain: Domain) -> tuple[int, ...]:
        shape = core.array_shape(self.name, domain)
        for what, given in (("x", self.x), ("baseline", self.baseline)):
            if given is not None and tuple(np.shape(given)) != shape:
                raise ValueError(f"mask: {what} must be one input of shape {shape}, got {tuple(np.shape(given))}")
        axis = self._axis(domain)
        if axis is not None:
            found: tuple[int, ...] = (shape[axis],)
        elif self.per == "frame":
            found = (max(2, round(shape[0] / domain.sample_rate / self.frame_seconds)),)  # type: ignore[attr-defined]
        else:
            found = shape[:-1]
        if self.width > min(found):
            raise ValueError(f"width must be at most {min(found)}, the size of this mask, got {self.width}")
        return found

    def _axis(self, domain: Domain) -> int | None:
        """The axis that the mask runs along; None for all of them, and for frames of a waveform."""
        names = [axis.name for axis in domain.axes]
        if self.per == "sample" and domain.kind != "waveform":
            raise ValueError(f"per='sample' is for waveforms, not for {domain.kind!r}: use per='cell'")
        if self.per == "sample":
            return 0
        if self.per == "cell" or (self.per == "frame" and domain.kind == "waveform"):
            return None
        wanted = {"frame": "time", "band": "frequency"}[self.per]
        if wanted not in names:
            raise ValueError(f"per={self.per!r} needs a domain with a {wanted} axis, and {domain.kind!r} has none")
        return names.index(wanted)

    def _gathered(self, values: jax.Array, shape: tuple[int, ...], domain: Domain) -> jax.Array:
        """Sums over what one number of the mask covers."""
        axis = self._axis(domain)
        if axis is not None:
            return jnp.sum(values, axis=tuple(place for place in range(values.ndim) if place != axis))
        if self.per == "cell":
            return jnp.sum(values, axis=-1)
        frames = np.arange(domain.shape[0]) * shape[0] // domain.shape[0]
        return jax.ops.segment_sum(jnp.sum(values, axis=-1), frames, shape[0])

    def spread(self, mask: jax.Array, domain: Domain) -> jax.Array:
        """A mask, as `mask` gives it, at the rank of the domain: what the input is multiplied with."""
        axis, rank = self._axis(domain), len(domain.shape)
        if axis is not None:
            return mask.reshape((1,) * axis + (-1,) + (1,) * (rank - axis - 1))
        if self.per == "cell":
            return mask[..., None]
        # Frames of a waveform: linear from the middle of one to that of the next, so that nothing clicks.
        places = (np.arange(domain.shape[0]) + 0.5) * (mask.shape[0] / domain.shape[0]) - 0.5
        left = np.clip(np.floor(places), 0, mask.shape[0] - 2).astype(np.int32)
        share = np.clip(places - left, 0.0, 1.0).astype(np.float32)
        return (mask[left] * (1.0 - share) + mask[left + 1] * share)[:, None]


def mask(
    x: Any,
    baseline: Any = None,
    *,
    per: str = "frame",
    width: int = 1,
    start: float = 0.5,
    bounds: str = "sigmoid",
    edges: str = "keep",
    frame_seconds: float = 0.01,
    sd: float = 0.0,
) -> Mask:
    """A mask over a given input is free: m * x + (1 - m) * baseline, m averaged over neighbours.

    The mask-vector experiment of class-based activation maximisation: a mask over time is optimised in place of the
    input, to see how much of it the decision needs. m[t] = 1 / width * (sum of the sigmoids, or plain numbers, of
    `width` neighbours, from t - width // 2 on). `penalties.mask_area` and `penalties.mask_variation` ask for little
    of the input in few pieces. x and the baseline are arguments of the compiled program: the next sound runs without
    another compilation. Parameters: (samples,), (frames,), (bands,), or the domain's shape without channels.

    Args:
      x: one input, of the domain's shape.
      baseline: what stands where the mask is 0, of the same shape; None for the domain's silence.
      per: one number a "sample" (waveforms), "frame" (of a spectrogram, or of `frame_seconds` of a waveform), "band"
        (of a spectrogram) or "cell" (of a spectrogram, a pixel of an image).
      width: of the moving average, in numbers of the mask; 1 for none. Over cells it is a square.
      start: the mask at the start, 0 ... 1.
      bounds: "sigmoid" keeps the mask in 0 ... 1; "none" leaves it free, as gains.
      edges: "keep" goes on with the first and the last number beyond the ends; "zeros" is the plain convolution with
        weights 1 / width, whose ends fall off.
      frame_seconds: the length of a frame of a waveform.
      sd: of the free numbers at the start: 0, every lane alike.

    Raises:
      ValueError: a bad argument, in one sentence.
    """
    for what, given in (("x", x), ("baseline", baseline)):
        if given is not None and not np.all(np.isfinite(given)):
            raise ValueError(f"mask: {what} must be finite numbers, and some are not")
    if isinstance(width, bool) or not isinstance(width, (int, np.integer)) or width < 1:
        raise ValueError(f"width must be a whole number of at least 1, got {width!r}")
    core.choice("bounds", bounds, LIMITS)
    if not (0 < start < 1 if bounds == "sigmoid" else np.isfinite(start)):
        raise ValueError(f"start must lie between 0 and 1, got {start!r}")
    if not frame_seconds > 0:
        raise ValueError(f"frame_seconds must be above 0, got {frame_seconds!r}")
    return Mask(
        np.asarray(x, np.float32),
        None if baseline is None else np.asarray(baseline, np.float32),
        core.choice("per", per, PER),
        int(width),
        float(start),
        bounds,
        core.choice("edges", edges, EDGES),
        float(frame_seconds),
        core.not_negative("sd", sd),
    )


def moving_average(values: jax.Array, width: int, axis: int, edges: str) -> jax.Array:
    """The mean of `width` neighbours along an axis, from -(width // 2) on; the same shape."""
    if width == 1:
        return values
    pads = [(width // 2, (width - 1) // 2) if place == axis else (0, 0) for place in range(values.ndim)]
    padded = jnp.pad(values, pads, mode="edge" if edges == "keep" else "constant")
    window = tuple(width if place == axis else 1 for place in range(values.ndim))
    return jax.lax.reduce_window(padded, 0.0, jax.lax.add, window, (1,) * values.ndim, "VALID") / width
