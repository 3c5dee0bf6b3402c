"""Data parallelism in one small file: the only place that says pmap.

A training step is a plain function of (state, batch) that averages its gradients with `mean`. The state is one
replicated tree, never stacked per device, so reading it needs no "unreplicate". Whatever is random is drawn from
(seed, step, global example index) and batch statistics are those of the whole batch, so that one device and two train
alike within rounding.

Average the gradients; never differentiate an averaged loss: the gradient of a mean over devices is, silently, each
device's own gradient times a factor.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from nd_jax import data
from nd_jax.networks.layers import MinibatchDeviation, PhaseShuffle
from nd_jax.training import hosts

AXIS = "devices"

Tree = Any
Step = Callable[[Tree, Tree], tuple[Tree, Tree]]


def mean(tree: Tree) -> Tree:
    """The mean over all devices of every leaf; for use inside a step."""
    return jax.lax.pmean(tree, AXIS)


def replicate(tree: Tree, devices: Sequence[jax.Device]) -> Tree:
    """Puts one copy of every leaf on every device, laid out as `data_parallel` wants it (so that donation works).

    With several processes the copies are of process 0's leaves: what hosts of different make have computed for
    themselves, such as initial parameters, may differ in the last bit.
    """
    sharding = NamedSharding(Mesh(np.asarray(devices), (AXIS,)), PartitionSpec())
    tree = hosts.same_everywhere(tree)
    return jax.tree.map(lambda leaf: jax.device_put(jnp.array(leaf, copy=True), sharding), tree)


def place(batch: Tree, devices: Sequence[jax.Device]) -> Tree:
    """Puts every device's part of a batch, leaves (devices, ...), on that device, as `data_parallel` wants it."""
    sharding = NamedSharding(Mesh(np.asarray(devices), (AXIS,)), PartitionSpec(AXIS))
    return jax.tree.map(lambda leaf: jax.device_put(leaf, sharding), batch)


def batches(arrays: Tree, devices: Sequence[jax.Device], *, batch_size: int, seed: int) -> Callable[..., data.Batches]:
    """This process's part of every batch, one part a device: `data.batches`, still to be told the `position`."""
    return functools.partial(
        data.batches,
        arrays,
        batch_size=batch_size,
        seed=seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        device_count=len(devices),
    )


def data_parallel(step: Step, devices: Sequence[jax.Device]) -> Step:
    """Runs a step on all devices of all processes at once.

    Args:
      step: (state, batch) -> (state, metrics), which must end up the same on every device: use `mean`.
      devices: the local devices, at the same places among the local devices of every process.

    Returns:
      A function of the replicated state (donated: do not use the old one again) and of a batch whose leaves have the
      leading axis `len(devices)`, as `data.batches(device_count=...)` gives. State and metrics come back replicated,
      without a device axis.
    """
    run = jax.pmap(
        step, axis_name=AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=0, devices=_of_all_processes(devices)
    )
    if jax.process_count() == 1 or len(devices) == 1 or devices[0].platform != "cpu":
        return run

    def one_at_a_time(state: Tree, batch: Tree) -> tuple[Tree, Tree]:
        # Two devices of one process may take up two steps in another order than those of the other process: a deadlock.
        return jax.block_until_ready(run(state, batch))

    return one_at_a_time


def _of_all_processes(devices: Sequence[jax.Device]) -> list[jax.Device]:
    """The devices at the same places in every process, one process after the other."""
    if jax.process_count() == 1:
        return list(devices)
    places = [jax.local_devices().index(device) for device in devices]
    return [
        jax.local_devices(process_index=process)[place] for process in range(jax.process_count()) for place in places
    ]


def several(step: Step) -> Step:
    """Makes one call do several steps: every leaf of the batch gets a leading axis of steps, so do the metrics.

    Worth it for small networks on accelerators, where a call costs more than a step. On a CPU it gains nothing, and a
    module with XLA's own convolutions (`flax.linen.Conv`) is tens of times slower in it (JAX issue 12868).
    """

    def scanned(state: Tree, batches: Tree) -> tuple[Tree, Tree]:
        return jax.lax.scan(step, state, batches)

    return scanned


def spread(tree: Tree) -> jax.Array:
    """Debug check for use inside a step: 0 when all devices hold bit-identical copies of `tree`.

    With `out_axes=None` nothing else notices when they do not. Compares one checksum of the bits, so it costs one pass
    over the tree and one number of communication.
    """
    total = jnp.zeros((), jnp.uint32)
    for index, leaf in enumerate(jax.tree.leaves(tree)):
        bits = jax.lax.bitcast_convert_type(leaf.astype(jnp.float32), jnp.uint32)
        total = total * jnp.uint32(31) + jnp.sum(bits, dtype=jnp.uint32) + jnp.uint32(index)
    low, high = total & jnp.uint32(0xFFFF), total >> jnp.uint32(16)
    parts = jnp.stack([low, high]).astype(jnp.int32)
    return jnp.max(jax.lax.pmax(parts, AXIS) - jax.lax.pmin(parts, AXIS))


def example_keys(seed: int | jax.Array, step: jax.Array, index: jax.Array) -> jax.Array:
    """One key per example, from (seed, step, global example index) and nothing else.

    Args:
      seed: of the run.
      step: number of the step, scalar.
      index: (batch,) position of each example in the whole data set.

    Returns:
      (batch,) typed keys.
    """
    key = jax.random.fold_in(jax.random.key(seed), step)
    return jax.vmap(lambda one: jax.random.fold_in(key, one))(index)


def same_on_any_number_of_devices(keys: jax.Array, *, unbiased_variance: bool = False) -> Any:
    """A context in which any Flax module, unchanged, trains on several devices as on one.

    `nn.BatchNorm` and `MinibatchDeviation` take their statistics over the batch of all devices; `nn.Dropout` and
    `PhaseShuffle` draw for every example from that example's key instead of from the device's.

    Args:
      keys: (batch,) this device's `example_keys`.
      unbiased_variance: whether the running variance follows the unbiased estimate of the batch's (divided by n - 1),
        as PyTorch's does, instead of the variance that normalises the batch.
    """

    def interceptor(
        following: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        module = context.module
        if context.method_name != "__call__":
            return following(*args, **kwargs)
        if isinstance(module, nn.Dropout):
            return _dropout(module, keys, *args, **kwargs)
        if isinstance(module, PhaseShuffle):
            return _phase_shuffle(module, keys, following, *args, **kwargs)
        if isinstance(module, (nn.BatchNorm, MinibatchDeviation)) and module.axis_name is None:
            if module.is_initializing():
                return following(*args, **kwargs)
            if isinstance(module, nn.BatchNorm) and unbiased_variance and _moves(module, *args, **kwargs):
                return _unbiased(module, following, *args, **kwargs)
            return _over_devices(module, following, *args, **kwargs)
        return following(*args, **kwargs)

    return nn.intercept_methods(interceptor)


def _over_devices(module: nn.Module, following: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Runs a layer that has `axis_name` with statistics of the batch of all devices."""
    # The attribute is all that the layer needs, and a bound module refuses an ordinary assignment.
    object.__setattr__(module, "axis_name", AXIS)
    try:
        return following(*args, **kwargs)
    finally:
        object.__setattr__(module, "axis_name", None)


def _moves(module: nn.BatchNorm, x: jax.Array, use_running_average: bool | None = None, **_: Any) -> bool:
    """Whether a batch normalisation changes its running statistics; one that is frozen does not."""
    frozen = nn.merge_param("use_running_average", module.use_running_average, use_running_average)
    return not frozen and module.is_mutable_collection("batch_stats")


def _unbiased(module: nn.BatchNorm, following: Callable[..., Any], x: jax.Array, *args: Any, **kwargs: Any) -> Any:
    """Batch normalisation whose running variance follows the unbiased estimate."""
    before: jax.Array = module.get_variable("batch_stats", "var")
    output = _over_devices(module, following, x, *args, **kwargs)
    after: jax.Array = module.get_variable("batch_stats", "var")
    count = x.size // before.size * jax.lax.axis_size(AXIS)
    moved = (after - module.momentum * before) / max(count - 1, 1)
    module.put_variable("batch_stats", "var", after + moved)
    return output


def _phase_shuffle(
    module: PhaseShuffle, keys: jax.Array, following: Callable[..., Any], x: jax.Array, train: bool = False
) -> jax.Array:
    if not train:
        return x
    shifts = jax.vmap(lambda key: module.draw(jax.random.fold_in(key, _number_of(module))))(keys)
    return following(x, train, shifts=shifts)


def _number_of(module: nn.Module) -> int:
    """A number that is this layer's own, so that no two layers draw alike."""
    return zlib.crc32("/".join(module.path).encode()) & 0x7FFFFFFF


def _dropout(
    module: nn.Dropout, keys: jax.Array, x: jax.Array, deterministic: bool | None = None, rng: Any = None
) -> jax.Array:
    deterministic = nn.merge_param("deterministic", module.deterministic, deterministic)
    if module.rate == 1.0 and not deterministic:
        return jnp.zeros_like(x)
    if deterministic or module.rate == 0.0:
        return x
    shape = tuple(1 if axis in module.broadcast_dims else size for axis, size in enumerate(x.shape))[1:]

    def draw(key: jax.Array) -> jax.Array:
        return jax.random.bernoulli(jax.random.fold_in(key, _number_of(module)), 1.0 - module.rate, shape)

    kept = jnp.broadcast_to(jax.vmap(draw)(keys), x.shape)
    return jnp.where(kept, x / (1.0 - module.rate), jnp.zeros_like(x))
