"""Penalties: what a result should not have, as one number of at least 0 for ONE example.

A penalty is a hashable frozen dataclass, made by a lower-case function. `penalty(x, domain)` is the plain number;
`visualize_batch` subtracts `weight` times that from the objective, on the input before any transform. `check(domain)`
refuses what makes no sense there; `label` is a short text for reports. Some look at what is free instead of the input
(`of_parameters = True`, see `parameter_penalties`).

| made by           | number                                                    | unit                        |
|-------------------|-----------------------------------------------------------|-----------------------------|
| `total_variation` | mean absolute step along an axis, per axis                | values of the domain        |
| `l1`, `l2`        | mean distance, mean squared distance, from silence        | values, values squared      |
| `level`           | distance of the overall level from a target, or above it  | dB                          |
| `silence`         | mean excess of the level above silence                    | dB                          |
| `early`           | another penalty, in the first share of the steps only     | the penalty's               |
| `mask_area`       | how much a mask keeps, beyond a share                     | share of the mask           |
| `mask_variation`  | mean absolute step of a mask                              | values of the mask          |
| `latent_length`   | a prior's latent, its squared length and sum of values    | per value of the input      |
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.domain import Domain, MelIF, Parts
from nd_jax.runtime import nearest
from nd_jax.visualize.parameter_penalties import LatentLength as LatentLength
from nd_jax.visualize.parameter_penalties import MaskArea as MaskArea
from nd_jax.visualize.parameter_penalties import MaskVariation as MaskVariation
from nd_jax.visualize.parameter_penalties import latent_length as latent_length
from nd_jax.visualize.parameter_penalties import mask_area as mask_area
from nd_jax.visualize.parameter_penalties import mask_variation as mask_variation

DIRECTIONS = ("toward", "below")

# Levels of a waveform are read over windows of this length, and never below this floor.
WINDOW_SECONDS = 0.01
WAVEFORM_FLOOR_DB = -80.0


@runtime_checkable
class Penalty(Protocol):
    """Hashable; a pure function of one example."""

    weight: float

    @property
    def label(self) -> str:
        """A short text for reports: what, and how strong."""

    def check(self, domain: Domain) -> None:
        """Raises ValueError, in one sentence, when the penalty makes no sense on this domain."""

    def __call__(self, x: jax.Array, domain: Domain) -> jax.Array:
        """Returns a scalar of at least 0, without the weight."""


@dataclasses.dataclass(frozen=True)
class TotalVariation:
    """See `total_variation`."""

    axes: tuple[tuple[str, float], ...]
    weight: float = 1.0

    @property
    def label(self) -> str:
        inner = ", ".join(f"{name}={value:g}" for name, value in self.axes)
        return f"total_variation({inner}){_times(self.weight)}"

    def check(self, domain: Domain) -> None:
        self._axes(domain)

    def __call__(self, x: jax.Array, domain: Domain) -> jax.Array:
        total = jnp.zeros((), jnp.float32)
        for axis, factor in self._axes(domain):
            if x.shape[axis] > 1:
                total = total + factor * jnp.mean(jnp.abs(jnp.diff(x, axis=axis)))
        return total

    def _axes(self, domain: Domain) -> list[tuple[int, float]]:
        names = {"row": "vertical", "column": "horizontal"}
        axes = () if isinstance(domain, Parts) else domain.axes
        places = {names.get(axis.name, axis.name): index for index, axis in enumerate(axes)}
        for name, _ in self.axes:
            if name not in places:
                raise ValueError(
                    f"total_variation: a {domain.kind!r} domain has no {name} axis; {nearest(name, places)}"
                )
        return [(places[name], factor) for name, factor in self.axes]


def total_variation(
    *,
    time: float | None = None,
    frequency: float | None = None,
    vertical: float | None = None,
    horizontal: float | None = None,
    weight: float = 1.0,
) -> TotalVariation:
    """Mean absolute difference of neighbours, per axis, each with its own factor; 0 for a constant.

    Divided by the number of differences, so that a factor means the same on every size. On a log-mel the unit is the
    fraction of its range per step: 0.01 is 0.8 dB per frame on average.

    Args:
      time: factor along time (spectrograms, waveforms).
      frequency: factor along frequency (spectrograms).
      vertical: factor from row to row (images).
      horizontal: factor from column to column (images).
      weight: factor of the whole.

    Raises:
      ValueError: no axis at all, or a negative factor.
    """
    given = {"time": time, "frequency": frequency, "vertical": vertical, "horizontal": horizontal}
    axes = tuple((name, _not_negative(name, value)) for name, value in given.items() if value is not None)
    if not axes:
        raise ValueError(f"total_variation needs a factor for at least one axis of {', '.join(given)}")
    return TotalVariation(axes, _not_negative("weight", weight))


@dataclasses.dataclass(frozen=True)
class L1:
    """See `l1`."""

    weight: float = 1.0

    @property
    def label(self) -> str:
        return f"l1{_times(self.weight)}"

    def check(self, domain: Domain) -> None:
        _check_one_array("l1", domain)

    def __call__(self, x: jax.Array, domain: Domain) -> jax.Array:
        self.check(domain)
        return jnp.mean(jnp.abs(x - domain.silence()))


def l1(weight: float = 1.0) -> L1:
    """Mean absolute distance from silence: a spectrogram's floor, a waveform's 0, an image's middle grey."""
    return L1(_not_negative("weight", weight))


@dataclasses.dataclass(frozen=True)
class L2:
    """See `l2`."""

    weight: float = 1.0

    @property
    def label(self) -> str:
        return f"l2{_times(self.weight)}"

    def check(self, domain: Domain) -> None:
        _check_one_array("l2", domain)

    def __call__(self, x: jax.Array, domain: Domain) -> jax.Array:
        self.check(domain)
        return jnp.mean(jnp.square(x - domain.silence()))


def l2(weight: float = 1.0) -> L2:
    """Mean squared distance from the domain's silence; on a standard normal latent this is its negative log density."""
    return L2(_not_negative("weight", weight))


@dataclasses.dataclass(frozen=True)
class Level:
    """See `level`."""

    target_db: float
    direction: str = "below"
    weight: float = 1.0

    @property
    def label(self) -> str:
        return f"level({self.direction} {self.target_db:g} dB){_times(self.weight)}"

    def check(self, domain: Domain) -> None:
        _check_levels("level", domain)

    def __call__(self, x: jax.Array, domain: Domain) -> jax.Array:
        excess = level_db(x, domain) - self.target_db
        return jnp.maximum(excess, 0.0) if self.direction == "below" else jnp.abs(excess)


def level(target_db: float, *, direction: str = "below", weight: float = 1.0) -> Level:
    """How far, in dB, the overall level lies above a target, or from it; see `level_db` for what is measured.

    Args:
      target_db: level in dB relative to full scale, where a full-scale sine is 0 dB.
      direction: "below" (louder than the target costs, softer is free) or "toward" (both cost).
      weight: factor of the objective's unit per dB.

    Raises:
      ValueError: a target that is not finite, an unknown direction, a negative weight.
    """
    if not math.isfinite(target_db):
        raise ValueError(f"target_db must be a finite level in dB, got {target_db!r}")
    if direction not in DIRECTIONS:
        raise ValueError(f"unknown direction {direction!r}; {nearest(direction, DIRECTIONS)}")
    return Level(float(target_db), direction, _not_negative("weight", weight))


def level_db(x: jax.Array, domain: Domain) -> jax.Array:
    """Overall level of one example in dB, where a full-scale sine is 0 dB.

    Waveform: 10 log10 of twice the mean square, at least -80 dB. Spectrogram of levels, and the levels of a mel-IF:
    power summed over bands, averaged over time; a tone between two mel bands counts in both, up to 3 dB.

    Raises:
      ValueError: a domain without levels.
    """
    _check_levels("level", domain)
    if domain.kind == "waveform":
        return _decibels(2.0 * jnp.mean(jnp.square(x)))
    power = _power(_levels(x, domain))
    axes = {axis.name: index for index, axis in enumerate(domain.axes)}
    summed = jnp.sum(power, axis=axes["frequency"], keepdims=True)
    return 10.0 * jnp.log10(jnp.mean(summed))


@dataclasses.dataclass(frozen=True)
class Silence:
    """See `silence`."""

    margin_db: float = 0.0
    weight: float = 1.0

    @property
    def label(self) -> str:
        return f"silence({self.margin_db:g} dB){_times(self.weight)}"

    def check(self, domain: Domain) -> None:
        _check_levels("silence", domain)

    def __call__(self, x: jax.Array, domain: Domain) -> jax.Array:
        self.check(domain)
        if domain.kind == "waveform":
            window = min(x.shape[0], max(1, round(WINDOW_SECONDS * domain.sample_rate)))  # type: ignore[attr-defined]
            count = x.shape[0] // window
            frames = x[: count * window].reshape(count, window)
            levels, floor = _decibels(2.0 * jnp.mean(jnp.square(frames), axis=1)), WAVEFORM_FLOOR_DB
        else:
            levels = _levels(x, domain)
            floor = _floor(domain)
        return jnp.mean(jnp.maximum(levels - (floor + self.margin_db), 0.0))


def silence(margin_db: float = 0.0, *, weight: float = 1.0) -> Silence:
    """Mean level above silence, in dB: prefers a quiet picture where nothing matters to the unit.

    Spectrogram, and the levels of a mel-IF: the mean over all cells above the floor. Waveform: the mean over windows of
    10 ms above -80 dB.

    Args:
      margin_db: how far above silence is still free.
      weight: factor of the objective's unit per dB.
    """
    return Silence(_not_negative("margin_db", margin_db), _not_negative("weight", weight))


@dataclasses.dataclass(frozen=True)
class Early:
    """See `early`."""

    penalty: Penalty
    until: float = 0.5
    rest: float = 0.0

    @property
    def weight(self) -> float:
        return self.penalty.weight

    @property
    def label(self) -> str:
        after = f", {self.rest:g} of it afterwards" if self.rest else ""
        return f"{self.penalty.label} in the first {self.until:.0%} of the steps{after}"

    @property
    def couples(self) -> bool:
        """Whether it takes all inputs of a lane at once, as the penalty that it wraps."""
        return getattr(self.penalty, "couples", False)

    @property
    def of_parameters(self) -> bool:
        """Whether it looks at what is free, as the penalty that it wraps."""
        return getattr(self.penalty, "of_parameters", False)

    def check_parameterization(self, parameterization: Any) -> None:
        """As the penalty that it wraps."""
        self.penalty.check_parameterization(parameterization)  # type: ignore[attr-defined]

    def of(self, parameterization: Any, parameters: Any, domain: Domain) -> jax.Array:
        """As the penalty that it wraps."""
        return self.penalty.of(parameterization, parameters, domain)  # type: ignore[attr-defined]

    def check(self, domain: Domain) -> None:
        self.penalty.check(domain)

    def __call__(self, x: jax.Array, domain: Domain) -> jax.Array:
        return self.penalty(x, domain)


def early(penalty: Penalty, until: float = 0.5, *, rest: float = 0.0) -> Early:
    """A penalty that counts in the first share of the steps, and little or nothing afterwards.

    It decides which of many near optima is climbed, such as the quietest, and then no longer pulls away from it.

    Args:
      penalty: any penalty.
      until: the share of the steps in which it counts, above 0 to 1.
      rest: the share of its weight that it keeps afterwards, 0 to 1: what the objective does not mind stays as it is.

    Raises:
      ValueError: something that is no penalty, or another share.
    """
    if not (callable(penalty) and hasattr(penalty, "weight") and hasattr(penalty, "check")):
        raise ValueError(f"early takes a penalty such as penalties.silence(), got {penalty!r}")
    if not (isinstance(until, (int, float, np.number)) and 0 < until <= 1):
        raise ValueError(f"until must be a share of the steps above 0 and up to 1, got {until!r}")
    if not (isinstance(rest, (int, float, np.number)) and 0 <= rest <= 1):
        raise ValueError(f"rest must be a share of the weight, 0 to 1, got {rest!r}")
    return Early(penalty, float(until), float(rest))


def _power(levels_db: jax.Array) -> jax.Array:
    return jnp.exp(levels_db * (math.log(10.0) / 10.0))


def _decibels(power: jax.Array) -> jax.Array:
    """10 log10 of power, smooth around the floor of a waveform, which is also its least value."""
    floor = 10.0 ** (WAVEFORM_FLOOR_DB / 10.0)
    return 10.0 * jnp.log10(power + floor)


def _times(weight: float) -> str:
    return "" if weight == 1 else f" x {weight:g}"


def _check_one_array(name: str, domain: Domain) -> None:
    if isinstance(domain, Parts):
        raise ValueError(f"{name} is for a domain of one array, but this one has the parts {sorted(domain.parts)}")


def _levels(x: jax.Array, domain: Domain) -> jax.Array:
    """The levels of a spectrogram or a mel-IF, in dB."""
    return domain.levels(x) if isinstance(domain, MelIF) else domain.to_db(x)  # type: ignore[attr-defined]


def _floor(domain: Domain) -> float:
    """The level of silence, in dB."""
    if isinstance(domain, MelIF):
        return domain.silence_db
    return float(domain.to_db(domain.low))  # type: ignore[attr-defined]


def _check_levels(name: str, domain: Domain) -> None:
    if domain.kind != "waveform" and not isinstance(domain, MelIF) and not hasattr(domain, "to_db"):
        raise ValueError(f"{name} needs a waveform or a spectrogram with levels in dB, not {domain.kind!r}")


def _not_negative(name: str, value: float) -> float:
    if not (isinstance(value, (int, float, np.number)) and math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be a number of at least 0, got {value!r}")
    return float(value)
