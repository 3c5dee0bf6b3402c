"""Edits as data: what is done to the units of a layer; array leaves, so that they trace once, batch and are saved."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import pytree
from nd_jax.runtime import nearest

_EDITS: dict[str, type[Edit]] = {}


class Edit:
    """Base of all edits: `layer` is static, `units` and the numbers are leaves; a call edits (batch, ..., units)."""

    kind: ClassVar[str] = ""
    layer: str
    units: Any

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _EDITS[cls.__name__] = cls

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, (list, tuple, range)) and not any(isinstance(item, jax.Array) for item in value):
                object.__setattr__(self, field.name, np.asarray(value))

    def __call__(self, activation: jax.Array) -> jax.Array:
        """Returns the edited activation, same shape."""
        if self.units is None:
            return self._change(activation)
        units = jnp.atleast_1d(jnp.asarray(self.units))
        return activation.at[..., units].set(self._change(activation[..., units]))

    def _change(self, values: jax.Array) -> jax.Array:
        raise TypeError(f"{type(self).__name__} does not say what it changes")

    def check(self, shape: tuple[int, ...]) -> None:
        """Raises ValueError when a unit is outside a layer of this shape (one example)."""
        if self.units is None or isinstance(self.units, jax.core.Tracer):
            return
        given = np.atleast_1d(np.asarray(self.units))
        if given.dtype.kind not in "iu":
            raise ValueError(f"units of layer {self.layer!r} must be integers, got {given.dtype} values")
        wrong = given[(given < 0) | (given >= shape[-1])]
        if wrong.size:
            raise ValueError(f"layer {self.layer!r} has units 0 to {shape[-1] - 1}, got unit {int(wrong[0])}")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready description; `from_dict` reverses it."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        plain = {
            name: value if isinstance(value, str) or value is None else np.asarray(value).tolist()
            for name, value in values.items()
        }
        return {"edit": type(self).__name__, **plain}


def from_dict(description: Mapping[str, Any]) -> Edit:
    """Rebuilds an edit from `Edit.to_dict()`.

    Raises:
      ValueError: unknown edit or field.
    """
    fields = dict(description)
    name = fields.pop("edit", None)
    if name not in _EDITS:
        raise ValueError(f"unknown edit {name!r}; {nearest(str(name), _EDITS)}")
    try:
        return _EDITS[name](**fields)
    except TypeError as error:
        raise ValueError(f"edit {name!r} cannot be read: {error}") from None


def _edit(cls: type) -> type:
    data = [field.name for field in dataclasses.fields(cls) if field.name != "layer"]  # type: ignore[arg-type]
    return pytree.register(cls, data_fields=data, meta_fields=["layer"])


@_edit
@dataclasses.dataclass(frozen=True, eq=False)
class Ablate(Edit):
    """Sets units to zero; `units=None` is the whole layer."""

    layer: str
    units: Sequence[int] | Any = None

    def _change(self, values: jax.Array) -> jax.Array:
        return jnp.zeros_like(values)


@_edit
@dataclasses.dataclass(frozen=True, eq=False)
class Scale(Edit):
    """Multiplies units by `factor` (a number, or one per unit)."""

    layer: str
    units: Sequence[int] | Any = None
    factor: Any = 1.0

    def _change(self, values: jax.Array) -> jax.Array:
        return values * _over_units(self.factor, values)


@_edit
@dataclasses.dataclass(frozen=True, eq=False)
class Clamp(Edit):
    """Limits units to low ... high (numbers, or one per unit)."""

    layer: str
    units: Sequence[int] | Any = None
    low: Any = -float("inf")
    high: Any = float("inf")

    def _change(self, values: jax.Array) -> jax.Array:
        return jnp.clip(values, _over_units(self.low, values), _over_units(self.high, values))


@_edit
@dataclasses.dataclass(frozen=True, eq=False)
class Insert(Edit):
    """Sets units to `value` (a number, or one per unit) at every position."""

    layer: str
    units: Sequence[int] | Any = None
    value: Any = 1.0

    def _change(self, values: jax.Array) -> jax.Array:
        return jnp.broadcast_to(_over_units(self.value, values), values.shape).astype(values.dtype)


def _over_units(number: Any, values: jax.Array) -> jax.Array:
    array = jnp.asarray(number, values.dtype)
    return array if array.ndim == 0 else array.reshape((1,) * (values.ndim - 1) + (-1,))
