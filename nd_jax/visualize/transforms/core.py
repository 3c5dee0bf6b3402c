"""What every transform is, how transforms compose, and the arithmetic along one axis that they share."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.domain import Domain, Parts
from nd_jax.runtime import nearest

FILLS = ("silence", "edge", "wrap")

# Where a waveform is cut, it fades over this time instead of clicking.
FADE_SECONDS = 0.005


@runtime_checkable
class Transform(Protocol):
    """A hashable frozen dataclass: a pure function of (key, x, domain) for ONE example of shape `domain.shape`.

    The result has the same shape and stays in the domain's range; alone or under `jax.vmap` it is the same.
    """

    def check(self, domain: Domain) -> None:
        """Raises ValueError, in one sentence, when the transform makes no sense on this domain."""

    def __call__(self, key: jax.Array, x: Any, domain: Domain) -> Any:
        """Returns the perturbed example."""


@dataclasses.dataclass(frozen=True)
class Compose:
    """See `compose`."""

    transforms: tuple[Transform, ...]

    def check(self, domain: Domain) -> None:
        for transform in self.transforms:
            transform.check(domain)

    def __call__(self, key: jax.Array, x: Any, domain: Domain) -> Any:
        for place, transform in enumerate(self.transforms):
            x = transform(jax.random.fold_in(key, place), x, domain)
        return x


def compose(*transforms: Transform) -> Compose:
    """One transform that applies the given ones in order, each with its own key."""
    for transform in transforms:
        if not callable(transform) or not hasattr(transform, "check"):
            raise ValueError(f"compose takes transforms such as transforms.gain(6.0), got {transform!r}")
    return Compose(tuple(transforms))


def none() -> Compose:
    """No transform at all: x stays as it is."""
    return Compose(())


@dataclasses.dataclass(frozen=True)
class OnPart:
    """See `on_part`."""

    part: str
    transform: Transform

    def check(self, domain: Domain) -> None:
        if not isinstance(domain, Parts):
            raise ValueError(f"on_part({self.part!r}, ...) needs a domain of parts, not {domain.kind!r}")
        if self.part not in domain.parts:
            raise ValueError(f"no part {self.part!r} in this domain; {nearest(self.part, domain.parts)}")
        self.transform.check(domain.parts[self.part])

    def __call__(self, key: jax.Array, x: Any, domain: Domain) -> Any:
        self.check(domain)
        part = domain.parts[self.part]  # type: ignore[attr-defined]
        return {**x, self.part: self.transform(key, x[self.part], part)}


def on_part(part: str, transform: Transform) -> OnPart:
    """Applies a transform to one part of a `Parts` domain and leaves the others as they are."""
    return OnPart(part, transform)


# ---- Checks ----------------------------------------------------------------------------------------------------------


def not_negative(name: str, value: float) -> float:
    """The value as a float, or a ValueError that names it."""
    if not (isinstance(value, (int, float, np.number)) and math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be a number of at least 0, got {value!r}")
    return float(value)


def span(name: str, low: float, high: float) -> tuple[float, float]:
    """Two positive factors in order, or a ValueError."""
    if not (math.isfinite(low) and math.isfinite(high) and 0 < low <= high):
        raise ValueError(f"{name} needs factors 0 < low <= high, got {low!r} and {high!r}")
    return float(low), float(high)


def whole(name: str, value: int, least: int = 0) -> int:
    """The value as an int of at least `least`, or a ValueError that names it."""
    if isinstance(value, bool) or int(value) != value or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return int(value)


def chosen_fill(fill: str) -> str:
    """The name of a fill, or a ValueError with the near names."""
    if fill not in FILLS:
        raise ValueError(f"unknown fill {fill!r}; {nearest(fill, FILLS)}")
    return fill


def axis_of(name: str, quantity: str, domain: Domain) -> tuple[int, np.ndarray]:
    """Index and coordinates of the axis called `quantity` ("time", "frequency"); ValueError when there is none."""
    axes = () if isinstance(domain, Parts) else domain.axes
    for index, axis in enumerate(axes):
        if axis.name == quantity:
            return index, axis.values
    raise ValueError(f"{name} needs a domain with a {quantity} axis, and {domain.kind!r} has none")


def time_axis(name: str, domain: Domain) -> tuple[int, float]:
    """Index of the time axis and seconds per step."""
    index, values = axis_of(name, "time", domain)
    return index, float(values[1] - values[0]) if len(values) > 1 else math.inf


def is_waveform(domain: Domain) -> bool:
    """Whether values are sound pressure; all other sound domains hold levels on a time-frequency plane."""
    return domain.kind == "waveform"


def has_levels(domain: Domain) -> bool:
    """Whether values are levels that the domain can tell in dB."""
    return hasattr(domain, "to_db") and hasattr(domain, "from_db")


def units_per_db(domain: Any) -> float:
    """How much one dB is in the values of a domain of levels."""
    return 1.0 / (domain.to_db(1.0) - domain.to_db(0.0))


def check_image(name: str, domain: Domain) -> None:
    """Raises unless the domain is an image."""
    if domain.kind != "image":
        why = "; it has no physical meaning for sound" if domain.is_sound else ""
        raise ValueError(f"{name} is for image domains, not for {domain.kind!r}{why}")


def check_allowed(name: str, breaks: str, domain: Domain, allow_on_sound: bool) -> None:
    """Raises on a sound domain unless the transform was asked for by name."""
    if domain.is_sound and not allow_on_sound:
        raise ValueError(
            f"{name} is refused on a sound domain because it {breaks}; pass allow_on_sound=True to use it all the same"
        )


def inside(x: jax.Array, domain: Domain) -> jax.Array:
    """Clips to the domain's range; an unbounded domain has none."""
    return jnp.clip(x, *domain.limits) if math.isfinite(domain.low) or math.isfinite(domain.high) else x


# ---- Arithmetic along axes -------------------------------------------------------------------------------------------


def along(axis: int, values: Any, rank: int) -> Any:
    """A vector as an array of the given rank that varies along one axis."""
    return values.reshape((1,) * axis + (-1,) + (1,) * (rank - axis - 1))


def interpolate(x: jax.Array, matrix: jax.Array, axis: int, outside: jax.Array | None = None) -> jax.Array:
    """Replaces every step along `axis` by a weighted sum of steps: matrix (steps in, steps out).

    Where the weights of an output step do not sum to 1, the rest comes from `outside` (shape of x). A small matrix
    product is fast on every backend, where a gather with per-example indices has a slow gradient.
    """
    # Highest precision: on accelerators the default rounds values to bfloat16.
    if axis == 0:
        result = jnp.matmul(matrix.T, x.reshape(x.shape[0], -1), precision=jax.lax.Precision.HIGHEST).reshape(x.shape)
    else:
        moved = jnp.matmul(jnp.moveaxis(x, axis, -1), matrix, precision=jax.lax.Precision.HIGHEST)
        result = jnp.moveaxis(moved, -1, axis)
    if outside is None:
        return result
    return result + outside * along(axis, 1.0 - jnp.sum(matrix, axis=0), x.ndim)


def stretch_matrix(factor: jax.Array, size: int, edge: bool = False) -> jax.Array:
    """Linear interpolation (size, size) that makes things `factor` times as long around the middle."""
    middle = (size - 1) / 2
    source = middle + jnp.asarray(np.arange(size) - middle, jnp.float32) / factor
    if edge:
        source = jnp.clip(source, 0, size - 1)
    return jnp.maximum(0.0, 1.0 - jnp.abs(np.arange(size)[:, None] - source[None, :]))


def blur_matrix(sigma: jax.Array, size: int) -> jax.Array:
    """Gaussian (size, size) of `sigma` steps, mirrored at both ends, so that the mean over the axis is kept."""
    here, there = np.arange(size)[:, None], np.arange(size)[None, :]
    # One mirror image at each end: enough for any sigma well below the size.
    distances = (here - there, here + there + 1, 2 * size - 1 - here - there)
    sigma = jnp.maximum(sigma, 1e-3)
    weights = sum(jnp.exp(-0.5 * jnp.square(distance / sigma)) for distance in distances)
    return weights / jnp.sum(weights, axis=0, keepdims=True)


def shift(x: jax.Array, steps: jax.Array, most: int, axis: int, silence: jax.Array, fill: str) -> jax.Array:
    """Moves x by `steps` (traced, at most `most` either way) towards higher indices along an axis."""
    size = x.shape[axis]
    if fill == "silence":
        first = jax.lax.slice_in_dim(silence, 0, 1, axis=axis)
        block = jnp.repeat(first, most, axis=axis)
        padded = jnp.concatenate([block, x, block], axis=axis)
    else:
        width = [(most, most) if index == axis else (0, 0) for index in range(x.ndim)]
        padded = jnp.pad(x, width, mode=fill)
    return jax.lax.dynamic_slice_in_dim(padded, most - steps, size, axis=axis)
