"""What every domain is, what it draws and plays, and how it is rebuilt from plain values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.pytree import register
from nd_jax.runtime import nearest


@dataclasses.dataclass(frozen=True)
class Axis:
    """One axis of a picture: the coordinate of every index, in `unit`; `scale` says how the coordinates are spaced."""

    name: str
    unit: str
    values: np.ndarray
    scale: str = "linear"


@dataclasses.dataclass(frozen=True)
class Picture:
    """Something to draw. Row 0 is the top.

    Attributes:
      values: (rows, columns), or (rows, columns, 3) for colour in 0 ... 1.
      x, y: the axes of the columns and of the rows, in drawing order.
      unit: the unit of the values ("dB", "").
      low, high: the values at the two ends of the colour map.
    """

    values: np.ndarray
    x: Axis
    y: Axis
    unit: str
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Sound:
    """Something to play: wave is (samples,) float32 with full scale 1, sample_rate in Hz."""

    wave: np.ndarray
    sample_rate: int


_KINDS: dict[str, type[Domain]] = {}


class Domain:
    """The common face of all domains; see the module's table. Instances are immutable pytrees."""

    kind: ClassVar[str] = ""
    is_sound: ClassVar[bool] = False
    # What a page says of how pictures and sounds come from the values.
    made_of: ClassVar[str] = ""

    if TYPE_CHECKING:
        # Fields in some domains, constants or properties in others.
        @property
        def shape(self) -> Any: ...
        @property
        def low(self) -> float: ...
        @property
        def high(self) -> float: ...

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.kind:
            _KINDS[cls.kind] = cls

    @property
    def dtype(self) -> Any:
        """The numpy type of the values; {name: type} for a dict of domains."""
        return np.dtype(np.float32)

    @property
    def limits(self) -> tuple[Any, Any]:
        """The lowest and the highest value: `low` and `high`, or two arrays, where channels have their own."""
        return self.low, self.high

    def abstract(self, count: int) -> Any:
        """A batch of `count` examples without values, for `jax.eval_shape`."""
        return jax.ShapeDtypeStruct((count, *self.shape), self.dtype)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """One `Axis` per axis of `shape`."""
        raise TypeError(f"a domain of kind {self.kind!r} has no single list of axes")

    def silence(self) -> Any:
        """One example, shape `shape`, of nothing: a spectrogram's floor, a waveform's 0, an image's middle grey."""
        return jnp.zeros(self.shape, jnp.float32)

    def picture(self, x: Any) -> Picture | None:
        """Draws one example of shape `shape`; None when there is nothing sensible to draw."""
        return None

    def sound(self, x: Any) -> Sound | None:
        """Plays one example of shape `shape`; None for a domain that is not sound."""
        return None

    def check(self, x: Any) -> None:
        """Raises ValueError, in one sentence, unless x is one example or a batch of this domain."""
        shape = tuple(np.shape(x))
        expected = tuple(self.shape)
        if shape != expected and shape[1:] != expected:
            raise ValueError(f"input has shape {shape}, but this network takes {expected} or (batch, *{expected})")

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready description without arrays; `from_dict` reverses it, `arrays()` holds the rest."""
        fields = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
            if not field.metadata.get("array")
        }
        return {"kind": self.kind, **jax.tree.map(lambda leaf: leaf, fields)}

    def arrays(self) -> dict[str, Any]:
        """The arrays of this domain (a band mean, ...), saved beside the network's variables."""
        found = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
            if field.metadata.get("array")
        }
        return {name: value for name, value in found.items() if value is not None}

    @classmethod
    def _build(cls, fields: dict[str, Any], arrays: Mapping[str, Any]) -> Domain:
        known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        for name in fields:
            if name not in known:
                raise ValueError(f"domain {cls.kind!r} has no field {name!r}; {nearest(name, known)}")
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
        try:
            return cls(**values, **arrays)
        except TypeError as error:
            raise ValueError(f"domain {cls.kind!r} cannot be built: {error}") from None


def from_dict(description: Mapping[str, Any], arrays: Mapping[str, Any] | None = None) -> Domain:
    """Rebuilds a domain from `Domain.to_dict()` and `Domain.arrays()`.

    Raises:
      ValueError: unknown kind or field, in one sentence.
    """
    if not isinstance(description, Mapping) or not isinstance(description.get("kind"), str):
        raise ValueError(f"a domain is described by a dict with a 'kind', not by {description!r}")
    fields = dict(description)
    kind = fields.pop("kind")
    if kind not in _KINDS:
        raise ValueError(f"unknown domain kind {kind!r}; {nearest(kind, _KINDS)}")
    return _KINDS[kind]._build(fields, arrays or {})


def pytree(cls: type) -> type:
    """Registers a frozen dataclass as a pytree: fields marked `array` are leaves, all others are static."""
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    data = [field.name for field in fields if field.metadata.get("array")]
    meta = [field.name for field in fields if not field.metadata.get("array")]
    return register(cls, data_fields=data, meta_fields=meta)


def array_field() -> Any:
    """A field that holds an array or None: a leaf of the pytree, saved beside the network, ignored by `==`."""
    return dataclasses.field(default=None, metadata={"array": True}, compare=False)


def check_sizes(domain: Domain, **values: Any) -> None:
    """Raises ValueError unless every value is a whole number from 1 to 2 ** 31 - 1."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 1 <= value < 2**31:
            raise ValueError(f"{name} of a domain {domain.kind!r} must be a whole number of 1 or more, got {value!r}")


def check_range(domain: Domain) -> None:
    """Raises ValueError unless low is below high."""
    if not domain.low < domain.high:
        raise ValueError(f"low of a domain {domain.kind!r} must be below high, got {domain.low} and {domain.high}")


def index_axis(name: str, unit: str, size: int) -> Axis:
    """An axis whose coordinates are the indices."""
    return Axis(name, unit, np.arange(size, dtype=np.float64))
