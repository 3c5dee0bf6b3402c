"""Free values as they are: `pixels`; `chosen`, which is not free; and `parts`, one of all for every part."""

from __future__ import annotations

import dataclasses
import functools
import zlib
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import pytree
from nd_jax.domain import Domain, Label, Parts
from nd_jax.visualize.parameterizations import core
from nd_jax.visualize.parameterizations.core import Parameterization, Polishing


@dataclasses.dataclass(frozen=True)
class Pixels:
    """See `pixels`."""

    name: ClassVar[str] = "pixels"

    sd: float = 0.01
    bounds: str = "sigmoid"
    start: core.Start = None

    def init(self, key: jax.Array, domain: Domain) -> jax.Array:
        core.array_shape(self.name, domain)
        return self.sd * jax.random.normal(key, domain.shape)

    def apply(self, parameters: jax.Array, domain: Domain) -> jax.Array:
        return core.bounded(parameters, domain, self.bounds, self.start)

    def invert(self, x: Any, domain: Domain) -> jax.Array:
        return core.unbounded(core.one_example(self.name, x, domain), domain, self.bounds, self.start)


def pixels(sd: float = 0.01, *, bounds: str = "sigmoid", start: core.Start = None) -> Pixels:
    """One free value per input value.

    Args:
      sd: standard deviation of the values at the start, before the bounds.
      bounds: how values enter the domain's [low, high]: "sigmoid", "tanh" (the same curve, twice as steep), "clip" (a
        value pushed outside has no gradient until it comes back) or "none" (values as they are, around 0 unless `start`
        is given). Unbounded domains always take values as they are.
      start: where to begin, as a fraction of the range, one per channel, or "mean"; see the module's text.

    Raises:
      ValueError: a bad argument, in one sentence.
    """
    return Pixels(
        core.not_negative("sd", sd), core.choice("bounds", bounds, core.BOUNDS), core.checked_start(start, bounds)
    )


@dataclasses.dataclass(frozen=True)
class Chosen:
    """See `chosen`."""

    name: ClassVar[str] = "chosen"

    index: int | None = 0

    def init(self, key: jax.Array, domain: Domain) -> dict[str, jax.Array]:
        classes = self._check(domain)
        if self.index is not None:
            return {}
        return {"index": jax.random.randint(key, (), 0, classes).astype(jnp.float32)}

    def apply(self, parameters: dict[str, jax.Array], domain: Domain) -> jax.Array:
        self._check(domain)
        if self.index is None:
            return jax.lax.stop_gradient(parameters["index"])
        return jnp.asarray(self.index, jnp.float32)

    def invert(self, x: Any, domain: Domain) -> dict[str, jax.Array]:
        self._check(domain)
        return {} if self.index is not None else {"index": jnp.asarray(x, jnp.float32)}

    def _check(self, domain: Domain) -> int:
        if not isinstance(domain, Label):
            raise ValueError(f"parameterizations.chosen is for a class, not for a domain {domain.kind!r}")
        if self.index is not None:
            domain.check(np.asarray(self.index))
        return len(domain.names)


def chosen(index: int | None = 0) -> Chosen:
    """A class that stays as it is: `parts(z=latent(), label=chosen(7))` looks into a generator that is asked for it.

    Args:
      index: number of the class; None for one of each lane's own, drawn by its key or given by `start=`, so that many
        classes run in one program. Parameters: {}, or {"index": ()}.
    """
    if index is None:
        return Chosen(None)
    if isinstance(index, bool) or not isinstance(index, int | np.integer):
        raise ValueError(f"a class is chosen by its number, got {index!r}")
    return Chosen(int(index))


@functools.partial(pytree.register, data_fields=["items"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class ByPart:
    """See `parts`."""

    name: ClassVar[str] = "parts"

    items: tuple[tuple[str, Parameterization], ...]

    @property
    def polishes(self) -> bool:
        """Whether any part does."""
        return any(getattr(part, "polishes", False) for _, part in self.items)

    def hold(self, gradient: dict[str, Any], polishing: jax.Array) -> dict[str, Any]:
        """As the parts do."""
        return {
            name: part.hold(gradient[name], polishing) if isinstance(part, Polishing) else gradient[name]
            for name, part in self.items
        }

    def init(self, key: jax.Array, domain: Domain) -> dict[str, Any]:
        domains = self._domains(domain)
        return {
            # By name, not by position, so that adding a part leaves the others as they were.
            name: part.init(jax.random.fold_in(key, zlib.crc32(name.encode())), domains[name])
            for name, part in self.items
        }

    def apply(self, parameters: dict[str, Any], domain: Domain) -> dict[str, Any]:
        domains = self._domains(domain)
        return {name: part.apply(parameters[name], domains[name]) for name, part in self.items}

    def invert(self, x: Any, domain: Domain) -> dict[str, Any]:
        domains = self._domains(domain)
        if not isinstance(x, Mapping) or set(x) != set(domains):
            raise ValueError(f"parameterizations.parts inverts a dict with the keys {sorted(domains)}, got {x!r:.80}")
        return {name: core.invert(part, x[name], domains[name]) for name, part in self.items}

    def _domains(self, domain: Domain) -> dict[str, Domain]:
        if not isinstance(domain, Parts) or set(domain.parts) != {name for name, _ in self.items}:
            given = sorted(domain.parts) if isinstance(domain, Parts) else domain.kind
            raise ValueError(f"parameterization has the parts {sorted(dict(self.items))}, but the domain is {given}")
        return domain.parts


def parts(**by_name: Parameterization) -> ByPart:
    """One parameterization for every part of a `Parts` domain: `parts(z=latent(), pitch=pixels())`."""
    return ByPart(tuple(by_name.items()))
