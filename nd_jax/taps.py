"""Read and overwrite any layer by name, in any Flax linen network, without touching its code.

A layer is a submodule's `__call__` output and is named by its path: `"block1/conv"`. A module that is called twice in
one forward pass has a second layer `"block1/conv#2"`; a module that returns a tuple or a dict has one layer a leaf,
`"cell[0]"` or `"heads[pitch]"`. The unit axis of a layer is its last.

Reading goes through Flax's `intermediates` collection (values collected in a closure would leak tracers out of
`nn.remat`), overwriting through `nn.intercept_methods`. Nothing else in the package knows about either, but for
`nd_jax.layer_map`, which finds the layers. Compiled by XLA, a layer that is read early costs nothing of what comes
after it.

Layers inside `nn.scan`, `nn.RNN` or `nn.vmap` are called once for many steps and do not reach the collection, or reach
it with the steps in front of the batch; a layer that sees frames folded into the batch mixes examples the same way.
They are listed by `unreadable` with the reason, and asking for one says so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from nd_jax.edits import Ablate, Clamp, Edit, Insert, Scale
from nd_jax.layer_map import OUTPUT, layer_map, leaf_names, leaf_of, name_of, path_of, split
from nd_jax.networks.fast import fast_convolutions
from nd_jax.runtime import nearest

if TYPE_CHECKING:
    from nd_jax.network import Network

Edits = Mapping[str, Callable[[jax.Array], jax.Array]]


class LayerError(ValueError):
    """A layer or unit that the network does not have; the message ends with the nearest names."""


def layers(network: Network) -> dict[str, tuple[int, ...]]:
    """Lists every readable layer in the order of the forward pass.

    Costs no compute: shapes come from `jax.eval_shape`.

    Returns:
      {name: shape of the output for one example, without the batch axis}.
    """
    return dict(layer_map(network).shapes)


def unreadable(network: Network) -> dict[str, str]:
    """Lists the layers that cannot be read or overwritten, {name: reason}."""
    return dict(layer_map(network).hidden)


def units(network: Network, layer: str) -> int:
    """The number of units of a layer: the size of its last axis. `"output"` is the network's (only) output.

    Raises:
      LayerError: unknown layer, with the nearest names.
    """
    return layer_shape(network, layer)[-1]


def layer_shape(network: Network, layer: str) -> tuple[int, ...]:
    """The output shape of a layer for one example, (1,) for a single number.

    `"output"` and `"output[part]"` are the network's own output. Everything that looks into a layer asks here first.

    Raises:
      LayerError: unknown or unreadable layer, with the reason or the nearest names; or one that depends on the other
        examples of the batch, so that one example alone has no value there. `read` takes these too.
    """
    shape = _shape_of(network, layer)
    # Named by the module where it has such a layer, as discriminators do.
    first, order = getattr(network.module, "batch_decides_from", None), list(layer_map(network).shapes)
    if first in order and (layer not in order or order.index(layer) >= order.index(first)):
        raise LayerError(
            f"layer {layer!r} depends on the other examples of its batch, and alone an example is nothing that "
            f"training saw: freeze {first!r} over batches of real ones first, dataclasses.replace(network, "
            "module=nd.networks.deviation.frozen(network.module, network.variables, batches))"
        )
    return shape


def _shape_of(network: Network, layer: str) -> tuple[int, ...]:
    known = layer_map(network)
    outputs = _output_shapes(known.output)
    if layer in known.shapes:
        shape = known.shapes[layer]
    elif layer in outputs:
        shape = outputs[layer]
    elif layer in known.hidden:
        raise LayerError(f"layer {layer!r} cannot be read: {known.hidden[layer]}")
    elif layer == OUTPUT:
        parts = ", ".join(repr(name[len(OUTPUT) + 1 : -1]) for name in outputs)
        raise LayerError(f"this network has several outputs: say which by part=, one of {parts}")
    else:
        raise LayerError(f"no layer {layer!r} in this network; {nearest(layer, [*known.shapes, *outputs])}")
    return shape or (1,)


def weighted_layers(network: Network) -> dict[str, tuple[int, ...]]:
    """The readable layers that have a kernel of their own (convolutions, dense layers), in order: {name: shape}."""
    flat = jax.tree_util.tree_leaves_with_path(network.variables.get("params", {}))
    paths = ["/".join(str(getattr(key, "key", key)) for key in keys) for keys, _ in flat]
    owners = {path.removesuffix("/kernel") for path in paths if path.endswith("/kernel")}
    return {name: shape for name, shape in layers(network).items() if path_of(name) in owners}


def dissected_layers(network: Network) -> tuple[str, ...]:
    """The layers that a dissection labels by default.

    What the network's module names as its `dissected_layers` (AST and BEATs: the layers of Audio Network Dissection, Wu
    et al. 2024), and for all others every layer that has a kernel of its own; in the order of the forward pass.
    """
    named = getattr(network.module, "dissected_layers", None)
    return tuple(weighted_layers(network) if named is None else named)


def output_shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """The network's own outputs, {"output" or "output[part]": shape of one example}."""
    return _output_shapes(layer_map(network).output)


def outputs(network: Network) -> dict[str, str]:
    """The layer that each of the network's own outputs comes from, unchanged: {"output" or "output[part]": layer}.

    An output that is worked out from layers (a softmax, a sum) has "".
    """
    known = layer_map(network)
    return {name: known.sources.get(name, "") for name in _output_shapes(known.output)}


def read(network: Network, x: Any, names: Iterable[str]) -> dict[str, jax.Array]:
    """Returns the outputs of some layers on a batch.

    Args:
      network: any Network.
      x: inputs, (batch, *network.input.shape).
      names: layer names as in `layers`; a single string is one layer.

    Returns:
      {name: (batch, *layers(network)[name])}.

    Raises:
      LayerError: an unknown or unreadable layer, before anything is compiled.
      ValueError: inputs that do not fit the network's domain.
    """
    wanted = (names,) if isinstance(names, str) else tuple(names)
    for name in wanted:
        _shape_of(network, name)
    network.check_batch(x)
    return _read(network, x, wanted)


def edit(network: Network, x: Any, edits: Edits) -> Any:
    """Runs the network with the outputs of some layers replaced.

    Args:
      network: any Network.
      x: inputs, (batch, *network.input.shape).
      edits: {layer name: function from the layer's output, (batch, ...), to its replacement of the same shape}.

    Returns:
      The network's output.

    Raises:
      LayerError: an unknown or unreadable layer.
      ValueError: a replacement of another shape, or inputs that do not fit the domain.
    """
    if not isinstance(edits, Mapping) or not all(map(callable, edits.values())):
        raise ValueError("edit takes {layer name: function}; for Ablate and its like: taps.edited(network, [...])(x)")
    check_editable(network, edits)
    network.check_batch(x)
    return forward(network, x, (), functions=edits)[0]


def check_editable(network: Network, names: Iterable[str]) -> None:
    """Raises LayerError unless every name is a layer that can be overwritten (the network's own output cannot)."""
    known = layer_map(network)
    for name in names:
        _shape_of(network, name)
        if name not in known.shapes:
            raise LayerError(f"{name!r} is the network's output, not a layer; {nearest(name, known.shapes)}")


def edited(network: Network, edits: Sequence[Edit | tuple[str, Callable[[jax.Array], jax.Array]]]) -> Network:
    """Returns the network with edits built in: read, visualized, saved and passed on like any other.

    Args:
      network: any Network; its own edits stay and run first.
      edits: `Ablate`, `Scale`, `Clamp`, `Insert`, or (layer, function) pairs. A network with a plain function in it
        cannot be saved.

    Raises:
      LayerError: an unknown layer, or a unit that the layer does not have.
    """
    known = layer_map(network)
    edits = [edits] if isinstance(edits, Edit) else list(edits)
    for item in edits:
        layer = item.layer if isinstance(item, Edit) else item[0]
        check_editable(network, [layer])
        if isinstance(item, Edit):
            item.check(known.shapes[layer])
    return dataclasses.replace(network, edits=(*network.edits, *edits))


def forward(
    network: Network, x: Any, names: Sequence[str], *, functions: Edits | None = None
) -> tuple[Any, dict[str, jax.Array]]:
    """The one traced forward pass: the network's output and the outputs of `names`, edits applied.

    `functions` run after the network's own edits. Traceable and un-jitted; names must have been checked.
    """
    known = layer_map(network) if (names or functions or network.edits) else None
    replaced = _combine(network.edits, functions or {})
    paths = {path_of(name) for name in names if not _is_output(name)}

    def wanted(module: nn.Module, method: str) -> bool:
        return method == "__call__" and "/".join(module.path) in paths

    # The last interceptor is the innermost: edits see what the fast convolutions return.
    with _interceptor(replaced, known.calls if known else {}), fast_convolutions(network.fast_convolutions):
        options: dict[str, Any] = {"capture_intermediates": wanted, "mutable": ["intermediates"]} if paths else {}
        result = network.module.apply(network.variables, x, **options, **dict(network.apply_kwargs))
    output, state = result if paths else (result, {})
    values = {}
    for name in names:
        values[name] = leaf_of(output, name[len(OUTPUT) :]) if _is_output(name) else _collected(state, name)
    return output, values


@functools.partial(jax.jit, static_argnames="names")
def _read(network: Network, x: Any, names: tuple[str, ...]) -> dict[str, jax.Array]:
    return forward(network, x, names)[1]


def _is_output(name: str) -> bool:
    return name == OUTPUT or name.startswith(OUTPUT + "[")


def _output_shapes(output: Any) -> dict[str, tuple[int, ...]]:
    return {OUTPUT + suffix: tuple(leaf.shape[1:]) for suffix, leaf in leaf_names(output)}


def _collected(state: Mapping[str, Any], name: str) -> jax.Array:
    path, call, suffix = split(name)
    node: Any = state["intermediates"]
    for key in path.split("/"):
        node = node[key]
    return leaf_of(node["__call__"][call], suffix)


def _combine(edits: Sequence[Any], functions: Edits) -> dict[str, list[Callable[[jax.Array], jax.Array]]]:
    combined: dict[str, list[Callable[[jax.Array], jax.Array]]] = {}
    for item in edits:
        layer, function = item if isinstance(item, tuple) else (item.layer, item)
        combined.setdefault(layer, []).append(function)
    for layer, function in functions.items():
        combined.setdefault(layer, []).append(function)
    return combined


@contextlib.contextmanager
def _interceptor(
    edits: Mapping[str, Sequence[Callable[[jax.Array], jax.Array]]], calls: Mapping[str, int]
) -> Iterator[None]:
    if not edits:
        yield
        return
    by_call: dict[tuple[str, int], list[tuple[str, Any]]] = {}
    for name, functions in edits.items():
        path, call, suffix = split(name)
        by_call.setdefault((path, call), []).extend((suffix, function) for function in functions)
    seen: dict[str, int] = {}

    def replace(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        value = call(*args, **kwargs)
        path = "/".join(context.module.path)
        if context.method_name != "__call__" or path not in calls:
            return value
        # A lifted transform may trace its body more than once; counting modulo the calls of one pass keeps "#k" right.
        index = seen.get(path, 0) % calls[path]
        seen[path] = seen.get(path, 0) + 1
        for suffix, function in by_call.get((path, index), ()):
            value = _replace_leaf(value, suffix, function, name_of(path, index, suffix))
        return value

    with nn.intercept_methods(replace):
        yield


def _replace_leaf(value: Any, suffix: str, function: Callable[[jax.Array], jax.Array], name: str) -> Any:
    names = [item[0] for item in leaf_names(value)]
    leaves, structure = jax.tree.flatten(value)
    index = names.index(suffix)
    before = leaves[index]
    after = jnp.asarray(function(before))
    if after.shape != before.shape:
        raise ValueError(f"the edit of layer {name!r} changes its shape from {before.shape} to {after.shape}")
    leaves[index] = after.astype(before.dtype)
    return jax.tree.unflatten(structure, leaves)


__all__ = [
    "Ablate",
    "Clamp",
    "Edit",
    "Insert",
    "LayerError",
    "Scale",
    "check_editable",
    "dissected_layers",
    "edit",
    "edited",
    "forward",
    "layer_shape",
    "layers",
    "output_shapes",
    "outputs",
    "read",
    "units",
    "unreadable",
    "weighted_layers",
]
