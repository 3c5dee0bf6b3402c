"""Everything that is not sound: images, numbers without bounds, and dicts of domains."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.domain.core import (
    Axis,
    Domain,
    Picture,
    Sound,
    check_range,
    check_sizes,
    from_dict,
    index_axis,
    pytree,
)
from nd_jax.runtime import nearest


@pytree
@dataclasses.dataclass(frozen=True)
class Image(Domain):
    """An image: shape (height, width, channels), values low ... high."""

    kind: ClassVar[str] = "image"

    shape: tuple[int, ...]
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.shape, tuple) or len(self.shape) != 3:
            raise ValueError(f"an image's shape is (height, width, channels), got {self.shape!r}")
        height, width, channels = self.shape
        check_sizes(self, height=height, width=width, channels=channels)
        check_range(self)

    @property
    def axes(self) -> tuple[Axis, ...]:
        height, width, channels = self.shape
        return (
            index_axis("row", "px", height),
            index_axis("column", "px", width),
            index_axis("channel", "", channels),
        )

    def silence(self) -> jax.Array:
        return jnp.full(self.shape, (self.low + self.high) / 2, jnp.float32)

    def picture(self, x: Any) -> Picture:
        values = np.asarray(x, np.float32).reshape(self.shape)
        rows, columns, _ = self.axes
        if self.shape[-1] == 3:
            unit_range = np.clip((values - self.low) / (self.high - self.low), 0, 1)
            return Picture(unit_range, columns, rows, "", 0.0, 1.0)
        return Picture(values.mean(axis=-1), columns, rows, "", self.low, self.high)


@dataclasses.dataclass(frozen=True)
class _Vector(Domain):
    """Unbounded numbers: shape (size,)."""

    size: int

    axis_name: ClassVar[str] = ""
    low: ClassVar[float] = -float("inf")
    high: ClassVar[float] = float("inf")

    def __post_init__(self) -> None:
        check_sizes(self, size=self.size)

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (self.size,)

    @property
    def axes(self) -> tuple[Axis, ...]:
        return (index_axis(self.axis_name, "", self.size),)


@pytree
@dataclasses.dataclass(frozen=True)
class Latent(_Vector):
    """A generator's latent: shape (size,), by its `law` standard normal or uniform in -1 ... 1."""

    kind: ClassVar[str] = "latent"
    axis_name: ClassVar[str] = "latent"

    law: str = "normal"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.law not in ("normal", "uniform"):
            raise ValueError(f"the law of a latent is 'normal' or 'uniform', not {self.law!r}")

    def draw(self, keys: jax.Array) -> jax.Array:
        """One latent a key: (n,) keys -> (n, size)."""
        if self.law == "uniform":
            return jax.vmap(lambda key: jax.random.uniform(key, self.shape, minval=-1.0))(keys)
        return jax.vmap(lambda key: jax.random.normal(key, self.shape))(keys)


@pytree
@dataclasses.dataclass(frozen=True)
class Units(_Vector):
    """Numbers, one per unit (logits, scores): shape (size,)."""

    kind: ClassVar[str] = "units"
    axis_name: ClassVar[str] = "unit"


@jax.tree_util.register_pytree_node_class
class Parts(Domain):
    """A dict of domains: examples, outputs and parameters are dicts with the same keys.

    Its picture and sound are those of the first part that has one.
    """

    kind: ClassVar[str] = "parts"

    def __init__(self, parts: Mapping[str, Domain]):
        self.parts: dict[str, Domain] = dict(parts)

    @property
    def made_of(self) -> str:  # type: ignore[override]
        """What is said of its parts."""
        return " ".join(dict.fromkeys(part.made_of for part in self.parts.values() if part.made_of))

    @property
    def shape(self) -> dict[str, Any]:  # type: ignore[override]
        """{name: shape of that part}."""
        return {name: part.shape for name, part in self.parts.items()}

    @property
    def dtype(self) -> dict[str, Any]:
        return {name: part.dtype for name, part in self.parts.items()}

    def abstract(self, count: int) -> dict[str, Any]:
        return {name: part.abstract(count) for name, part in self.parts.items()}

    def __getitem__(self, name: str) -> Domain:
        if name not in self.parts:
            raise KeyError(f"no part {name!r}; {nearest(name, self.parts)}")
        return self.parts[name]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Parts) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash(tuple(self.parts.items()))

    def __repr__(self) -> str:
        return f"Parts({self.parts!r})"

    def silence(self) -> dict[str, Any]:
        return {name: part.silence() for name, part in self.parts.items()}

    def picture(self, x: Any) -> Picture | None:
        drawn = (part.picture(x[name]) for name, part in self.parts.items())
        return next((picture for picture in drawn if picture is not None), None)

    def sound(self, x: Any) -> Sound | None:
        played = (part.sound(x[name]) for name, part in self.parts.items())
        return next((sound for sound in played if sound is not None), None)

    def check(self, x: Any) -> None:
        if not isinstance(x, Mapping) or set(x) != set(self.parts):
            raise ValueError(f"input must be a dict with the keys {sorted(self.parts)}, got {type(x).__name__}")
        for name, part in self.parts.items():
            part.check(x[name])

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "parts": {name: part.to_dict() for name, part in self.parts.items()}}

    def arrays(self) -> dict[str, Any]:
        found = {name: part.arrays() for name, part in self.parts.items()}
        return {name: arrays for name, arrays in found.items() if arrays}

    @classmethod
    def _build(cls, fields: dict[str, Any], arrays: Mapping[str, Any]) -> Domain:
        if not isinstance(fields.get("parts"), Mapping):
            raise ValueError("domain 'parts' needs a dict 'parts'")
        return cls({name: from_dict(part, arrays.get(name)) for name, part in fields["parts"].items()})

    def tree_flatten(self) -> tuple[tuple[Domain, ...], tuple[str, ...]]:
        return tuple(self.parts.values()), tuple(self.parts)

    @classmethod
    def tree_unflatten(cls, names: tuple[str, ...], parts: tuple[Domain, ...]) -> Parts:
        return cls(dict(zip(names, parts, strict=True)))


@pytree
@dataclasses.dataclass(frozen=True)
class Label(Domain):
    """A class: shape (), a whole number 0 ... len(names) - 1."""

    kind: ClassVar[str] = "label"

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(map(str, self.names)))
        if not self.names:
            raise ValueError("a label needs the names of 1 or more classes")

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return ()

    @property
    def dtype(self) -> Any:
        return np.dtype(np.int32)

    @property
    def axes(self) -> tuple[Axis, ...]:
        return ()

    @property
    def low(self) -> float:  # type: ignore[override]
        """The first class, 0."""
        return 0.0

    @property
    def high(self) -> float:  # type: ignore[override]
        """The last class."""
        return float(len(self.names) - 1)

    def silence(self) -> jax.Array:
        return jnp.zeros((), jnp.int32)

    def check(self, x: Any) -> None:
        """Raises ValueError unless x is one class number or a batch of them; values inside a trace are not known."""
        traced = isinstance(x, (jax.core.Tracer, jax.ShapeDtypeStruct))
        label = x if traced else np.asarray(x)
        if label.dtype.kind not in "iu" or label.ndim > 1:
            raise ValueError(f"labels are whole numbers, one an example, not {label.dtype} of shape {label.shape}")
        if traced:
            return
        wrong = label[(label < 0) | (label >= len(self.names))]
        if wrong.size:
            raise ValueError(
                f"label {wrong.flat[0]} is out of range: {len(self.names)} classes are numbered 0 ... "
                f"{len(self.names) - 1}"
            )
