"""What one forward pass of a network calls, by abstract tracing: layers, their names and their shapes.

`nd_jax.taps` is what is used; this is how it knows. Names are taken apart and put together here, and nowhere else.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from nd_jax.network import Network

OUTPUT = "output"
_LIFTED = "it is called inside nn.scan, nn.RNN, nn.vmap or another lifted loop, so one name stands for many steps"
_NO_BATCH = (
    "its first axis is not the batch (it runs inside a loop, or on a reshaped batch), so examples cannot be told apart"
)


@dataclasses.dataclass(frozen=True)
class LayerMap:
    """What one forward pass calls.

    Attributes:
      shapes: the readable layers in call order, {name: shape of one example's output}.
      calls: how often each path is called.
      hidden: the layers that cannot be read, {name: reason}.
      output: the network's output for a batch of two, as shapes and types.
      sources: {"output" or "output[part]": the layer that it comes from unchanged}.
    """

    shapes: dict[str, tuple[int, ...]]
    calls: dict[str, int]
    hidden: dict[str, str]
    output: Any
    sources: dict[str, str]


def layer_map(network: Network) -> LayerMap:
    """Maps a network's layers; costs no compute, and is remembered for networks that differ only in their numbers.

    Raises:
      ValueError: the network does not run on inputs of its domain, or its output has no batch axis.
    """
    examples, structure = jax.tree.flatten(network.input.abstract(1))
    inputs = tuple((example.shape[1:], str(example.dtype)) for example in examples)
    leaves, variables = jax.tree.flatten(network.variables)
    signature = tuple((tuple(np.shape(leaf)), str(jnp.result_type(leaf))) for leaf in leaves)
    return _traced_map(network.static, variables, signature, structure, inputs)


def split(name: str) -> tuple[str, int, str]:
    """Takes a name apart: "a/b#2[0]" is ("a/b", 1, "[0]")."""
    head, bracket, tail = name.partition("[")
    path, _, call = head.partition("#")
    return path, int(call) - 1 if call else 0, bracket + tail


def path_of(name: str) -> str:
    """The module of a layer: "a/b#2[0]" is of "a/b"."""
    return split(name)[0]


def name_of(path: str, call: int, suffix: str) -> str:
    """Puts a name together, the other way round than `split`."""
    return path + (f"#{call + 1}" if call else "") + suffix


def leaf_names(value: Any) -> list[tuple[str, Any]]:
    """The leaves of a layer's output with their suffixes: ("", array) for an array, ("[0]", ...) for a tuple."""
    found = []
    for keys, leaf in jax.tree_util.tree_leaves_with_path(value):
        suffix = "".join(f"[{getattr(key, 'key', getattr(key, 'idx', getattr(key, 'name', key)))}]" for key in keys)
        if hasattr(leaf, "shape"):
            found.append((suffix, leaf))
    return found


def leaf_of(value: Any, suffix: str) -> Any:
    """The leaf of a layer's output that has a suffix."""
    return dict(leaf_names(value))[suffix]


@functools.lru_cache(maxsize=64)
def _traced_map(
    static: Any,
    variables: Any,
    signature: tuple[tuple[tuple[int, ...], str], ...],
    structure: Any,
    inputs: tuple[tuple[tuple[int, ...], str], ...],
) -> LayerMap:
    # Two batch sizes tell the batch axis from any other axis, whatever its length.
    weights = jax.tree.unflatten(variables, [jax.ShapeDtypeStruct(*leaf) for leaf in signature])
    two, three = (
        _trace(
            static,
            weights,
            jax.tree.unflatten(structure, [jax.ShapeDtypeStruct((n, *shape), kind) for shape, kind in inputs]),
        )
        for n in (2, 3)
    )
    order, output, collected, sources = two
    others = three[2]
    found: dict[str, tuple[int, ...]] = {}
    calls: dict[str, int] = {}
    hidden: dict[str, str] = {}
    for path in order:
        if path not in collected:
            hidden[path] = _LIFTED
            continue
        call = calls.get(path, 0)
        if call >= len(collected[path]):
            continue
        calls[path] = call + 1
        pairs = zip(leaf_names(collected[path][call]), leaf_names(others[path][call]), strict=True)
        for (suffix, leaf), (_, other) in pairs:
            if _is_batched(leaf.shape, other.shape):
                found[name_of(path, call, suffix)] = tuple(leaf.shape[1:])
            else:
                hidden[name_of(path, call, suffix)] = _NO_BATCH
    for (suffix, leaf), (_, other) in zip(leaf_names(output), leaf_names(three[1]), strict=True):
        if not _is_batched(leaf.shape, other.shape):
            shape = f"{OUTPUT}{suffix} has shape {leaf.shape} for a batch of two"
            raise ValueError(f"the first axis of a network's output must be the batch, but {shape}")
    return LayerMap(found, calls, hidden, output, {name: layer for name, layer in sources.items() if layer in found})


def _is_batched(two: tuple[int, ...], three: tuple[int, ...]) -> bool:
    return two[:1] == (2,) and three[:1] == (3,) and two[1:] == three[1:]


def _trace(
    static: Any, weights: Any, example: Any
) -> tuple[list[str], Any, dict[str, tuple[Any, ...]], dict[str, str]]:
    """The paths in call order, the output, the collected calls, and the layer each output is, of one abstract pass."""
    order: list[str] = []
    sources: dict[str, str] = {}

    def record(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        value = call(*args, **kwargs)
        if context.method_name == "__call__" and context.module.path:
            order.append("/".join(context.module.path))
        return value

    def run(variables: Any, x: Any) -> Any:
        with nn.intercept_methods(record):
            output, state = static.module.apply(
                variables,
                x,
                capture_intermediates=lambda module, method: method == "__call__",
                mutable=["intermediates"],
                **dict(static.apply_kwargs),
            )
        sources.update(_sources(output, _flat_calls(state.get("intermediates", {}))))
        return output, state

    try:
        output, state = jax.eval_shape(run, weights, example)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        hint = "" if static.apply_kwargs else "; eval mode is asked for by apply_kwargs, such as {'train': False}"
        shapes = jax.tree.map(lambda leaf: leaf.shape, example)
        raise ValueError(
            f"{type(static.module).__name__} does not run on inputs of shape {shapes}: {reason}{hint}"
        ) from error
    return order, output, _flat_calls(state.get("intermediates", {})), sources


def _sources(output: Any, collected: Mapping[str, tuple[Any, ...]]) -> dict[str, str]:
    """The layers whose traced values are the outputs themselves."""
    layers = {
        id(leaf): name_of(path, call, suffix)
        for path, values in collected.items()
        for call, value in enumerate(values)
        for suffix, leaf in leaf_names(value)
    }
    return {OUTPUT + suffix: layers[id(leaf)] for suffix, leaf in leaf_names(output) if id(leaf) in layers}


def _flat_calls(tree: Mapping[str, Any], prefix: tuple[str, ...] = ()) -> dict[str, tuple[Any, ...]]:
    found: dict[str, tuple[Any, ...]] = {}
    for key, value in tree.items():
        if key == "__call__" and isinstance(value, tuple):
            if prefix:
                found["/".join(prefix)] = value
        elif isinstance(value, Mapping):
            found.update(_flat_calls(value, (*prefix, key)))
    return found
