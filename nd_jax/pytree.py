"""Dataclasses as pytrees whose structure says which class they are.

jaxlib 0.10 compares two structures made by `jax.tree_util.register_dataclass` by their fields and forgets the class:
`Scale("norm", [0], 0.7)` and `Insert("norm", [0], 0.7)` would be equal, and where their hashes fall into one slot of
the cache of compiled programs, `jax.jit` runs one for the other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import jax


def register(cls: type, data_fields: Sequence[str] | None = None, meta_fields: Sequence[str] = ()) -> type:
    """Registers a dataclass as a pytree; what `jax.tree_util.register_dataclass` does, and the class counts.

    Args:
      cls: a dataclass whose constructor takes every field.
      data_fields: names of the fields that are children, in order; None for all of them.
      meta_fields: names of the fields that are static; compared by `==`, and hashed.

    Returns:
      cls.

    Raises:
      ValueError: fields that the class does not have, or that are named twice.
    """
    own = [field.name for field in dataclasses.fields(cls)]
    data, meta = tuple(own if data_fields is None else data_fields), tuple(meta_fields)
    if sorted((*data, *meta)) != sorted(own):
        raise ValueError(f"{cls.__name__} has the fields {sorted(own)}, got {sorted((*data, *meta))}")
    keys = tuple(jax.tree_util.GetAttrKey(name) for name in data)

    def static(value: Any) -> tuple[Any, ...]:
        return (cls, *(getattr(value, name) for name in meta))

    def flatten(value: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return tuple(getattr(value, name) for name in data), static(value)

    def flatten_with_keys(value: Any) -> tuple[tuple[tuple[Any, Any], ...], tuple[Any, ...]]:
        return tuple((key, getattr(value, key.name)) for key in keys), static(value)

    def unflatten(fixed: tuple[Any, ...], children: Iterable[Any]) -> Any:
        return cls(**dict(zip(data, children, strict=True)), **dict(zip(meta, fixed[1:], strict=True)))

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls
