"""What every parameterization is, how free values enter a domain's range and come back, and the shared checks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.domain import Domain, Parts
from nd_jax.runtime import nearest

BOUNDS = ("sigmoid", "tanh", "clip", "none")

# Values come back from a bounded range at least this fraction of it inside both ends, where every curve has a slope.
MARGIN = 1e-3

# A spectrogram begins quiet, and a mel-IF where no phase moves on.
_START_BY_KIND: dict[str, float | tuple[float, ...]] = {"log_mel": 0.2, "mel_if": (0.2, 0.5)}

Start = float | tuple[float, ...] | str | None


@runtime_checkable
class Parameterization(Protocol):
    """Hashable; `init` and `apply` are pure functions of their arguments and work on one example."""

    name: ClassVar[str]

    def init(self, key: jax.Array, domain: Domain) -> Any:
        """Returns the free parameters of one example, a pytree."""

    def apply(self, parameters: Any, domain: Domain) -> Any:
        """Returns x of shape `domain.shape`."""


@runtime_checkable
class Invertible(Parameterization, Protocol):
    """A parameterization that also finds parameters for a given input."""

    def invert(self, x: Any, domain: Domain) -> Any:
        """Returns parameters whose `apply` gives x as nearly as the bounds allow."""


@runtime_checkable
class Polishing(Parameterization, Protocol):
    """A parameterization of which something else moves while a run is polished than before (`fourier(fine=True)`)."""

    @property
    def polishes(self) -> bool:
        """Whether it does, with the settings that it has."""

    def hold(self, gradient: Any, polishing: jax.Array) -> Any:
        """Returns the gradient, zero for what is held; `polishing` is a scalar bool."""


def invert(parameterization: Parameterization, x: Any, domain: Domain) -> Any:
    """Parameters from which `parameterization.apply` makes x, so that an optimization can begin at a given input.

    Where the range is bounded, x is first moved at least a thousandth of it inside both ends: a sigmoid reaches its
    ends nowhere, and a value that starts on one would have no slope to leave it by. Jittable and vmappable.

    Args:
      parameterization: of nd_jax, or your own with a method `invert(x, domain)`.
      x: one example, shape `domain.shape`; a dict of them for `Parts`.
      domain: what x is.

    Raises:
      ValueError: a parameterization without `invert`, or x of another shape.
    """
    if not isinstance(parameterization, Invertible):
        raise ValueError(
            f"{type(parameterization).__name__} has no method invert(x, domain), so no parameters can be found for a "
            "given input"
        )
    return parameterization.invert(x, domain)


# ---- Bounds ----------------------------------------------------------------------------------------------------------


def bounded(values: jax.Array, domain: Domain, bounds: str = "sigmoid", start: Start = None) -> jax.Array:
    """Moves free values of shape `domain.shape` into the domain's [low, high]; 0 becomes `start`, see `pixels`.

    An unbounded domain takes the values as they are.
    """
    if not is_bounded(domain) or (bounds == "none" and start is None):
        return values
    fraction = start_fraction(domain, start)
    low, high = domain.limits
    span = high - low
    if bounds == "sigmoid":
        return low + span * jax.nn.sigmoid(values + jnp.log(fraction / (1.0 - fraction)))
    if bounds == "tanh":
        middle = (low + high) / 2
        return middle + span / 2 * jnp.tanh(values + jnp.arctanh(2.0 * fraction - 1.0))
    shifted = values + (low + span * fraction)
    return jnp.clip(shifted, low, high) if bounds == "clip" else shifted


def unbounded(x: jax.Array, domain: Domain, bounds: str = "sigmoid", start: Start = None) -> jax.Array:
    """The free values that `bounded` moves to x, which is first clipped to `MARGIN` inside the range.

    An unbounded domain, and `bounds` "none", give and take values as they are.
    """
    if not is_bounded(domain) or (bounds == "none" and start is None):
        return x
    offset = start_fraction(domain, start)
    low, high = domain.limits
    span = high - low
    if bounds == "none":
        return x - (low + span * offset)
    fraction = jnp.clip((x - low) / span, MARGIN, 1.0 - MARGIN)
    if bounds == "sigmoid":
        return jnp.log(fraction / (1.0 - fraction)) - jnp.log(offset / (1.0 - offset))
    if bounds == "tanh":
        return jnp.arctanh(2.0 * fraction - 1.0) - jnp.arctanh(2.0 * offset - 1.0)
    return span * (fraction - offset)


def is_bounded(domain: Domain) -> bool:
    """Whether the domain's values have two finite ends."""
    return math.isfinite(domain.low) and math.isfinite(domain.high)


def start_fraction(domain: Domain, start: Start) -> jax.Array:
    """The start as a float32 array that broadcasts against `domain.shape` at equal rank."""
    rank = len(domain.shape)
    if start == "mean":
        mean = getattr(domain, "band_mean", None)
        if mean is None:
            raise ValueError(f"start='mean' needs a domain with a band_mean, and this {domain.kind!r} domain has none")
        # Away from the two ends, where the sigmoid is flat.
        inside = jnp.clip(jnp.asarray(mean, jnp.float32), 0.02, 0.98)
        # A mean of bands alone belongs to the first axis; one of bands and channels to the last two.
        return inside.reshape((-1,) + (1,) * (rank - 1) if inside.ndim == 1 else (1,) * (rank - 2) + inside.shape)
    if start is None:
        start = _START_BY_KIND.get(domain.kind, getattr(domain, "usual", 0.5))
    fraction = np.asarray(start, np.float32)
    if fraction.ndim and fraction.shape != (domain.shape[-1],):
        raise ValueError(f"start has {fraction.size} numbers, but the domain has {domain.shape[-1]} channels")
    return jnp.asarray(fraction.reshape((1,) * (rank - 1) + (-1,)))


# ---- Checks ----------------------------------------------------------------------------------------------------------


def checked_start(start: Any, bounds: str) -> Start:
    """The start as plain numbers or "mean", or a ValueError."""
    if start is None or start == "mean":
        return start
    if isinstance(start, str):
        raise ValueError(f"start must be a fraction of the range, one per channel, or 'mean', got {start!r}")
    values = tuple(float(value) for value in np.ravel(np.asarray(start)))
    open_ends = bounds in ("sigmoid", "tanh")
    if not all((0 < value < 1) if open_ends else (0 <= value <= 1) for value in values):
        where = "between" if open_ends else "in"
        raise ValueError(f"start must lie {where} 0 and 1 (a fraction of the domain's range), got {start!r}")
    return values if np.ndim(start) else values[0]


def array_shape(name: str, domain: Domain) -> tuple[int, ...]:
    """The shape of a domain of one array, or a ValueError that names the parameterization."""
    if isinstance(domain, Parts):
        raise ValueError(
            f"parameterizations.{name} is for one array, but the domain has the parts {sorted(domain.parts)}; "
            "use parameterizations.parts"
        )
    return tuple(domain.shape)


def one_example(name: str, x: Any, domain: Domain) -> jax.Array:
    """x as float32, or a ValueError unless it is one example of the domain."""
    shape = array_shape(name, domain)
    if tuple(np.shape(x)) != shape:
        raise ValueError(f"parameterizations.{name} inverts one input of shape {shape}, got {tuple(np.shape(x))}")
    return jnp.asarray(x, jnp.float32)


def not_negative(name: str, value: float) -> float:
    """The value as a float, or a ValueError that names it."""
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be a number of at least 0, got {value!r}")
    return float(value)


def leading(array: np.ndarray, rank: int) -> np.ndarray:
    """The array with axes of one in front, up to a rank."""
    return array.reshape((1,) * (rank - array.ndim) + array.shape)


def choice(name: str, value: str, choices: Sequence[str]) -> str:
    """The value, or a ValueError with the near names."""
    if value not in choices:
        raise ValueError(f"unknown {name} {value!r}; {nearest(value, choices)}")
    return value
