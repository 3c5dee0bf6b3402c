"""How far units and labels move on real sounds when a transform is applied: what a transform costs, measured.

A transform used while optimizing says "this does not matter". Here that is checked on natural inputs: a transform
that moves the units as much as another sound would is no invariance of the network, and optimizing under it looks for
something else than the unit.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import taps
from nd_jax.domain import LogMel, MelIF, Parts, Waveform
from nd_jax.runtime import progress_bar
from nd_jax.visualize.transforms import Transform

if TYPE_CHECKING:
    from nd_jax.network import Network


@dataclasses.dataclass(frozen=True, eq=False)
class Invariance:
    """What `invariance` found for one transform; a unit's activation is its mean over all positions of the layer.

    Attributes:
      transform: the transform.
      sounds: how many inputs were used.
      draws: how often the transform was drawn for each.
      movement: {layer: (units,)} root mean square change of the activation, in standard deviations of that activation
        over the untouched inputs: 0 is no change, sqrt(2) what an unrelated sound would do. NaN where the activation
        is the same on all inputs.
      shift: {layer: (units,)} mean change, signed, in the same unit: what of the movement goes one way.
      rank_correlation: {layer: (units,)} Spearman's correlation over the inputs between before and after, mean over
        the draws: 1 when the unit still prefers the same sounds.
      labels_changed: {head: share of (input, draw) whose largest output became another one}; empty for networks
        without an output of two or more units.
    """

    transform: Transform
    sounds: int
    draws: int
    movement: dict[str, np.ndarray]
    shift: dict[str, np.ndarray]
    rank_correlation: dict[str, np.ndarray]
    labels_changed: dict[str, float]

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that were read."""
        return tuple(self.movement)

    @property
    def typical_movement(self) -> dict[str, float]:
        """{layer: the median of `movement` over its units}; NaN for a layer in which no unit ever changes."""
        return {layer: _median(values) for layer, values in self.movement.items()}

    @property
    def worst_movement(self) -> float:
        """The largest `typical_movement` of any layer; NaN when no unit of any layer ever changes."""
        found = [value for value in self.typical_movement.values() if not math.isnan(value)]
        return max(found, default=math.nan)

    @property
    def worst_labels_changed(self) -> float:
        """The largest share of changed labels of any head, 0 without heads."""
        return max(self.labels_changed.values(), default=0.0)

    def table(self) -> str:
        """One line a layer, and one for the labels, as text."""
        width = max(map(len, (*self.layers, "layer")))
        lines = [
            f"{self.transform} on {self.sounds} inputs, {self.draws} draws each; changes in sd of a unit over them",
            f"{'layer':{width}}  units  moved: median  9 of 10 below  one way: median  rank correlation: median",
        ]
        for layer, values in self.movement.items():
            known = values[~np.isnan(values)]
            ninth = float(np.quantile(known, 0.9)) if len(known) else math.nan
            lines.append(
                f"{layer:{width}}  {len(values):5d}  {_median(values):13.3f}  {ninth:13.3f}  "
                f"{_median(self.shift[layer]):+15.3f}  {_median(self.rank_correlation[layer]):24.3f}"
            )
        if self.labels_changed:
            changed = ", ".join(f"{head} {100 * share:.1f} %" for head, share in self.labels_changed.items())
            lines.append(f"labels changed: {changed}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with None where a number is not defined."""

        def plain(values: np.ndarray) -> list[float | None]:
            return [None if math.isnan(value) else round(float(value), 5) for value in values]

        return {
            "transform": str(self.transform),
            "sounds": self.sounds,
            "draws": self.draws,
            **{
                name: {layer: plain(values) for layer, values in getattr(self, name).items()}
                for name in ("movement", "shift", "rank_correlation")
            },
            "labels_changed": dict(self.labels_changed),
        }


@overload
def invariance(
    network: Network,
    sounds: Any,
    transform: Transform,
    *,
    key: jax.Array,
    layers: Sequence[str] | None = ...,
    draws: int = ...,
    batch_size: int = ...,
    progress: bool = ...,
) -> Invariance: ...
@overload
def invariance(
    network: Network,
    sounds: Any,
    transform: Sequence[Transform],
    *,
    key: jax.Array,
    layers: Sequence[str] | None = ...,
    draws: int = ...,
    batch_size: int = ...,
    progress: bool = ...,
) -> list[Invariance]: ...
def invariance(
    network: Network,
    sounds: Any,
    transform: Transform | Sequence[Transform],
    *,
    key: jax.Array,
    layers: Sequence[str] | None = None,
    draws: int = 4,
    batch_size: int = 64,
    progress: bool = False,
) -> Any:
    """Measures how far units and labels move on natural inputs under a transform.

    The same key gives the same draws for input i, whatever the batch size. Every transform is one small compiled
    program; the network is compiled once for all of them.

    Args:
      network: what is measured.
      sounds: inputs, (n, *network.input.shape); or sounds, (n, samples) at the network's rate and length; a dict of
        inputs for a network of several parts. At least 3.
      transform: one of `nd_jax.transforms`; or a list, each measured alone (`transforms.compose` puts them together).
      key: a JAX key.
      layers: names as in `taps.layers`; None for every layer that has weights of its own.
      draws: how often the transform is drawn anew for each input.
      batch_size: inputs per forward pass.
      progress: shows a progress bar.

    Returns:
      An `Invariance`, or a list of them for a list of transforms.

    Raises:
      LayerError, ValueError: an unknown layer, sounds that do not fit, or a transform that the domain refuses, in one
        sentence, before anything is computed.
    """
    alone = not isinstance(transform, (list, tuple))
    chosen: list[Any] = [transform] if alone else list(transform)  # type: ignore[arg-type]
    inputs = _inputs(network, sounds)
    count = len(jax.tree.leaves(inputs)[0])
    _check(network, chosen, key, count, draws, batch_size)
    names = tuple(taps.weighted_layers(network) if layers is None else layers)
    for name in names:
        taps.layer_shape(network, name)
    heads = {name: shape for name, shape in taps.output_shapes(network).items() if len(shape) == 1 and shape[0] > 1}
    read = functools.partial(_read, layers=names, heads=tuple(heads))

    total = count * (1 + draws * len(chosen))
    with progress_bar(total, "input", progress) as tick:
        before, labels = _gather(network, inputs, None, None, read, batch_size, tick)
        found = []
        for each in chosen:
            after = [
                _gather(network, inputs, each, jax.random.fold_in(key, draw), read, batch_size, tick)
                for draw in range(draws)
            ]
            found.append(_compare(each, before, labels, after))
    return found[0] if alone else found


def _check(network: Network, chosen: Sequence[Any], key: Any, count: int, draws: int, batch_size: int) -> None:
    if not isinstance(key, jax.Array):
        raise ValueError(f"key must be a JAX key, for example jax.random.key(0), got {type(key).__name__}")
    for name, value in {"draws": draws, "batch_size": batch_size}.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"{name} must be a whole number of 1 or more, got {value!r}")
    if count < 3:
        raise ValueError(f"how far a unit moves is measured against 3 or more inputs, got {count}")
    for each in chosen:
        if not (callable(each) and hasattr(each, "check")):
            raise ValueError(f"transform must come from nd_jax.transforms, for example gain(6.0), got {each!r}")
        each.check(network.input)


def _inputs(network: Network, sounds: Any) -> Any:
    """Network inputs, (n, *shape), from such or from waves; still numpy, so that only batches are on the device."""
    domain = network.input
    if isinstance(domain, Parts):
        network.check_batch(sounds)
        return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), dict(sounds))
    if isinstance(sounds, Mapping) or np.asarray(sounds).dtype.kind not in "fiu":
        raise ValueError(f"sounds must be an array of inputs or of waves, got {type(sounds).__name__}")
    array = np.asarray(sounds, np.float32)
    wanted = ", ".join(map(str, ("n", *domain.shape)))
    if isinstance(domain, LogMel | MelIF | Waveform) and array.ndim == 2 and array.shape[1] == domain.samples:
        from_wave = jax.jit(domain.from_wave)
        rows = [np.asarray(from_wave(array[at : at + 64])) for at in range(0, len(array), 64)]
        return np.concatenate(rows) if rows else np.zeros((0, *domain.shape), np.float32)
    if array.ndim != len(domain.shape) + 1 or array.shape[1:] != tuple(domain.shape):
        waves = f" or sounds (n, {domain.samples})" if isinstance(domain, LogMel | MelIF | Waveform) else ""
        raise ValueError(f"sounds has shape {array.shape}, but this network takes ({wanted}){waves}")
    return array


def _gather(
    network: Network, inputs: Any, transform: Any, key: Any, read: Any, batch_size: int, tick: Any
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """{layer: (n, units)} activations and {head: (n,)} labels of all inputs, transformed or as they are."""
    count = len(jax.tree.leaves(inputs)[0])
    size = min(batch_size, count)
    pieces = []
    for at in range(0, count, size):
        # The last batch is filled up with its own inputs, so that one program serves all.
        rows = np.resize(np.arange(at, min(at + size, count)), size)
        batch = jax.tree.map(lambda leaf, rows=rows: jnp.asarray(leaf[rows]), inputs)
        if transform is not None:
            batch = _moved(transform, key, jnp.asarray(rows, jnp.uint32), batch, network.input)
        kept = min(size, count - at)
        pieces.append(jax.tree.map(lambda leaf, kept=kept: np.asarray(leaf)[:kept], read(network, batch)))
        tick(kept)
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *pieces)


@functools.partial(jax.jit, static_argnames="transform")
def _moved(transform: Any, key: jax.Array, rows: jax.Array, batch: Any, domain: Any) -> Any:
    return jax.vmap(lambda row, x: transform(jax.random.fold_in(key, row), x, domain))(rows, batch)


@functools.partial(jax.jit, static_argnames=("layers", "heads"))
def _read(
    network: Network, x: Any, *, layers: tuple[str, ...], heads: tuple[str, ...]
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    _, values = taps.forward(network, x, tuple(dict.fromkeys((*layers, *heads))))
    means = {
        name: values[name].reshape(len(values[name]), -1, *values[name].shape[-1:] if values[name].ndim > 1 else (1,))
        for name in layers
    }
    labels = {name.removeprefix("output[").removesuffix("]"): jnp.argmax(values[name], axis=-1) for name in heads}
    return {name: value.mean(axis=1) for name, value in means.items()}, labels


def _compare(
    transform: Any,
    before: dict[str, np.ndarray],
    labels: dict[str, np.ndarray],
    after: Sequence[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]],
) -> Invariance:
    movement, shift, correlation = {}, {}, {}
    for layer, values in before.items():
        changes = np.stack([moved[layer] for moved, _ in after]).astype(np.float64) - values
        spread = values.std(axis=0, dtype=np.float64)
        # An activation that only rounding changes has no spread to measure by.
        spread = np.where(spread > 1e-6 * np.abs(values).max(axis=0), spread, np.nan)
        movement[layer] = np.sqrt(np.mean(changes**2, axis=(0, 1))) / spread
        shift[layer] = changes.mean(axis=(0, 1)) / spread
        ranked = [_rank_correlation(values, moved[layer]) for moved, _ in after]
        correlation[layer] = np.where(np.isnan(spread), np.nan, np.mean(ranked, axis=0))
    changed = {head: float(np.mean([moved[head] != first for _, moved in after])) for head, first in labels.items()}
    count = len(next(iter((*before.values(), *labels.values()))))
    return Invariance(transform, count, len(after), movement, shift, correlation, changed)


def _rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's correlation of the columns of two (n, units) arrays; 0 where the second is constant."""
    from scipy.stats import rankdata

    one, two = (rankdata(values, axis=0) for values in (first, second))
    one, two = one - one.mean(axis=0), two - two.mean(axis=0)
    scale = np.sqrt(np.sum(one**2, axis=0) * np.sum(two**2, axis=0))
    return np.sum(one * two, axis=0) / np.where(scale > 0, scale, 1.0)


def _median(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else math.nan
