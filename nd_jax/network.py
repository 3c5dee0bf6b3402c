"""Network = module + variables + what goes in and out: the thing that is dissected.

A `Network` is a value: a frozen pytree whose leaves are the variables (and the arrays of its domains and edits), and
whose module, labels and settings are static. `load` and `Network.save` are the only doors to disk.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import types
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from nd_jax import taps
from nd_jax.domain import Domain, Label, Parts, Units

Labels = Sequence[str] | Mapping[str, Sequence[str]]


@dataclasses.dataclass(frozen=True, eq=False)
class _Static:
    """The static side of a Network, compared by value where the module allows it and by identity where it must be."""

    module: nn.Module
    labels: Any
    apply_kwargs: tuple[tuple[str, Any], ...]
    fast_convolutions: bool = False

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Static):
            return False
        if self.labels != other.labels or self.fast_convolutions != other.fast_convolutions:
            return False
        try:
            return bool(self.module == other.module and self.apply_kwargs == other.apply_kwargs)
        except (TypeError, ValueError):
            return self.module is other.module and self.apply_kwargs is other.apply_kwargs

    def __hash__(self) -> int:
        try:
            return hash((self.module, self.apply_kwargs))
        except TypeError:
            return hash((id(self.module), tuple(name for name, _ in self.apply_kwargs)))


class _Card(dict[str, Any]):
    """A model card travels with the network but never decides whether a program is compiled again."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Card)

    def __hash__(self) -> int:  # type: ignore[override]
        return 0


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Network:
    """A trained (or untrained) network with everything needed to open it up.

    Attributes:
      module: any Flax linen module; it is called as `module.apply(variables, x, **apply_kwargs)`.
      variables: its variable collections, {"params": ..., "batch_stats": ...}.
      input: the Domain of one input.
      output: the Domain of one output; by default `Units` of the output's size (`Parts` for a dict of outputs).
      labels: names of the output units, or (); for a dict of outputs {part: names}.
      apply_kwargs: keyword arguments of eval mode, {"train": False}.
      card: the model card, any JSON-ready dict (data, licence, quality, command, ...).
      edits: changes built in by `taps.edited`.
      fast_convolutions: whether the module's `nn.Conv` and `nn.ConvTranspose` layers are computed by
        `networks.conv` (docs/convolutions.md): the same numbers to rounding, sooner on a CPU. The built-in families do
        so anyway.

    Raises:
      ValueError: labels whose number is not that of the output units, or variables that do not fit the module.
    """

    module: nn.Module
    variables: Any
    input: Domain
    output: Domain = None  # type: ignore[assignment]
    labels: Any = ()
    apply_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    card: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    edits: tuple[Any, ...] = ()
    fast_convolutions: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.module, nn.Module):
            raise ValueError(f"module must be a Flax linen module, got {type(self.module).__name__}")
        if not isinstance(self.input, Domain):
            raise ValueError(f"input must be a nd_jax Domain, got {type(self.input).__name__}")
        _set = functools.partial(object.__setattr__, self)
        labels = self.labels
        if not isinstance(labels, (Mapping, list, tuple, types.NoneType)):
            raise ValueError(f"labels must be a list of names, or a dict of lists, got {type(labels).__name__}")
        if isinstance(labels, Mapping):
            labels = types.MappingProxyType({part: tuple(map(str, names)) for part, names in labels.items()})
        else:
            labels = tuple(map(str, labels or ()))
        _set("labels", labels)
        _set("apply_kwargs", types.MappingProxyType(dict(self.apply_kwargs)))
        _set("card", _Card(self.card))
        _set("edits", tuple(self.edits))
        if not isinstance(self.fast_convolutions, bool):
            raise ValueError(f"fast_convolutions must be True or False, got {self.fast_convolutions!r}")
        natural = _output_domain(self)
        if self.output is None:
            _set("output", natural)
        _check_labels(self)

    @property
    def static(self) -> _Static:
        """Module, labels and settings: the part that decides which compiled program runs."""
        labels = tuple(self.labels.items()) if isinstance(self.labels, Mapping) else self.labels
        return _Static(self.module, labels, tuple(sorted(self.apply_kwargs.items())), self.fast_convolutions)

    def __call__(self, x: Any) -> Any:
        """Eval-mode forward pass.

        Args:
          x: inputs, (batch, *input.shape); a dict of them for an input of several parts.

        Returns:
          (batch, *output.shape), or a dict of parts.

        Raises:
          ValueError: inputs of another shape.
        """
        self.check_batch(x)
        return _call(self, x)

    def check_batch(self, x: Any) -> None:
        """Raises ValueError, in one sentence, unless x is a batch of this network's inputs."""
        shapes = self.input.shape
        parts = shapes if isinstance(shapes, Mapping) else {"": shapes}
        values = x if isinstance(shapes, Mapping) else {"": x}
        if not isinstance(values, Mapping) or set(values) != set(parts):
            raise ValueError(f"input must be a dict with the keys {sorted(parts)}, got {type(x).__name__}")
        for name, expected in parts.items():
            shape = tuple(np.shape(values[name]))
            if shape[1:] != tuple(expected) or not shape:
                where = f"input {name!r}" if name else "input"
                hint = "; add a batch axis: x[None]" if shape == tuple(expected) else ""
                wanted = ", ".join(map(str, ("batch", *expected)))
                raise ValueError(f"{where} has shape {shape}, but this network takes ({wanted}){hint}")
        for part, value in _labels_in(self.input, x):
            part.check(value)

    def save(self, path: Any, *, overwrite: bool = False, dtype: str | None = None) -> Any:
        """Writes the network to a folder, its parameters in half precision on request; see `nd_jax.storage.save`."""
        from nd_jax import storage

        return storage.save(self, path, overwrite=overwrite, dtype=dtype)

    def __repr__(self) -> str:
        count = sum(int(np.size(leaf)) for leaf in jax.tree.leaves(self.variables))
        name = self.card.get("name") or type(self.module).__name__
        return f"Network({name}: {self.input.shape} -> {self.output.shape}, {count:,} numbers)"

    def tree_flatten(self) -> tuple[Any, Any]:
        functions = tuple(item if isinstance(item, tuple) else None for item in self.edits)
        data_edits = tuple(None if isinstance(item, tuple) else item for item in self.edits)
        return (self.variables, self.input, self.output, data_edits), (self.static, functions, self.card)

    @classmethod
    def tree_unflatten(cls, aux: Any, children: Any) -> Network:
        static, functions, card = aux
        variables, domain_in, domain_out, data_edits = children
        network = object.__new__(cls)
        labels = static.labels
        if labels and isinstance(labels[0], tuple):
            labels = types.MappingProxyType(dict(labels))
        values = {
            "module": static.module,
            "variables": variables,
            "input": domain_in,
            "output": domain_out,
            "labels": labels,
            "apply_kwargs": types.MappingProxyType(dict(static.apply_kwargs)),
            "card": card,
            "edits": tuple(
                data if function is None else function for data, function in zip(data_edits, functions, strict=True)
            ),
            "fast_convolutions": static.fast_convolutions,
        }
        for name, value in values.items():
            object.__setattr__(network, name, value)
        return network


@jax.jit
def _call(network: Network, x: Any) -> Any:
    return taps.forward(network, x, ())[0]


def digest(network: Network) -> str:
    """Sixteen hexadecimal digits that change when any number of the network (or of its domains) does."""
    found = hashlib.sha256()
    numbers = (network.variables, network.input.arrays(), network.output.arrays())
    for path, leaf in jax.tree_util.tree_leaves_with_path(numbers):
        array = np.ascontiguousarray(leaf)
        found.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()[:16]


def digest_with(network: Network, told: Any, *arrays: Any) -> str:
    """Sixteen hexadecimal digits that change with the network, with what was told (JSON-ready) and with arrays."""
    found = hashlib.sha256(json.dumps([digest(network), told], sort_keys=True, default=str).encode())
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def _labels_in(domain: Domain, x: Any) -> list[tuple[Label, Any]]:
    """The class numbers of a batch with their domains: the only inputs whose values a network cannot do without."""
    pairs = [(part, x[name]) for name, part in domain.parts.items()] if isinstance(domain, Parts) else [(domain, x)]
    return [(part, value) for part, value in pairs if isinstance(part, Label)]


def _output_domain(network: Network) -> Domain:
    shapes = taps.output_shapes(network)
    if set(shapes) == {taps.OUTPUT}:
        return Units(int(np.prod(shapes[taps.OUTPUT], dtype=int)))
    return Parts({name[len(taps.OUTPUT) + 1 : -1]: Units(int(np.prod(shape))) for name, shape in shapes.items()})


def _check_labels(network: Network) -> None:
    if not network.labels:
        return
    if isinstance(network.labels, Mapping):
        if not isinstance(network.output, Parts):
            raise ValueError("labels are given per part, but the network has one output; give a plain list of names")
        pairs = [(f"part {part!r}", names, network.output[part]) for part, names in network.labels.items()]
    else:
        pairs = [("the output", network.labels, network.output)]
    for name, shape in taps.output_shapes(network).items():
        if len(shape) > 1:
            raise ValueError(
                f"labels name the units of a vector, but the network's {name!r} has shape {shape} for one input of "
                f"shape {network.input.shape}"
            )
    for where, names, domain in pairs:
        if isinstance(domain, Parts):
            raise ValueError(f"the network has the outputs {sorted(domain.parts)}: give labels as {{part: names}}")
        if len(names) != domain.shape[-1]:
            raise ValueError(f"{len(names)} labels for {where}, which has {domain.shape[-1]} units")
