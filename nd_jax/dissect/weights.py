"""Weights as pictures of a network's input or output: first-layer filters, and composed weights of deeper units."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import taps
from nd_jax.dissect.straight import NotComposable, straightened
from nd_jax.domain import Domain, LogMel, MelIF, Picture, Sound, Waveform
from nd_jax.network import Network

_AT_ONCE = 16
# What is smaller than this share of a layer's largest weight is outside of what a unit sees.
_NOTHING = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """Composed weights of some units of a layer.

    Attributes:
      layer: the layer; units: (n,) its units.
      domain: what the weights are a picture of: the network's input or its output.
      values: (n, *domain.shape) float32, of each unit at the middle of the layer.
      through: the layers whose weights these are: towards the input the unit's own and those before, towards the output
        those after it; of one layer alone they are its filters.
      towards: "input" or "output".
      placed: whether the layer has positions, of which this is the middle one.
    """

    layer: str
    units: np.ndarray
    domain: Domain
    values: np.ndarray
    through: tuple[str, ...]
    towards: str
    placed: bool = False

    def __len__(self) -> int:
        return len(self.units)

    @property
    def is_filter(self) -> bool:
        """Whether these are the layer's own weights, nothing composed."""
        return len(self.through) == 1

    def field(self) -> tuple[slice, slice]:
        """Rows and columns of `pictures` that any unit sees, the same for all."""
        whole = np.abs(np.stack([self._whole(place).values for place in range(len(self))])).max(axis=0)
        whole = whole.max(axis=-1) if whole.ndim == 3 else whole
        if isinstance(self.domain, Waveform) or not whole.max() > 0:
            return slice(None), slice(None)
        seen = whole > _NOTHING * whole.max()
        rows, columns = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
        return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)

    def pictures(self) -> list[Picture]:
        """A picture of each unit's weights, cut to what any of them sees; from minus to plus its largest weight.

        Weights on samples are drawn as the spectrogram of the sound that they are; of a mel-IF those of the levels; on
        a colour image they keep their three channels, (rows, columns, 3).
        """
        rows, columns = self.field()
        found = []
        for place in range(len(self)):
            whole = self._whole(place)
            x, y = (
                dataclasses.replace(axis, values=np.asarray(axis.values)[part])
                for axis, part in ((whole.x, columns), (whole.y, rows))
            )
            found.append(dataclasses.replace(whole, values=whole.values[rows, columns], x=x, y=y))
        return found

    def sounds(self) -> list[Sound] | None:
        """Each unit's weights made audible, or None where they are no spectrum and no wave.

        Of a spectrum the positive weights, the largest at full level; of samples the weights themselves.
        """
        if not isinstance(self.domain, (LogMel, Waveform)):
            return None
        from nd_jax.domain.playing import sounds

        peak = np.maximum(np.abs(self.values).reshape(len(self), -1).max(axis=1), 1e-12)
        scaled = self.values / peak.reshape(-1, *[1] * (self.values.ndim - 1))
        made = sounds(self.domain, scaled if isinstance(self.domain, Waveform) else np.maximum(scaled, 0.0))
        return None if made is None else list(made)

    def _whole(self, place: int) -> Picture:
        values = self.values[place]
        peak = float(np.abs(values).max()) or 1.0
        if isinstance(self.domain, Waveform):
            return self.domain.picture(values / peak)
        like = self.domain.picture(self.domain.silence())
        if like is None:
            raise ValueError(f"weights on a domain of kind {self.domain.kind!r} have no picture")
        if isinstance(self.domain, MelIF):
            drawn = values[..., 0].T[::-1]
        else:
            # Weights of red, green and blue can cancel: they stay apart, and are drawn as a colour.
            coloured = np.ndim(like.values) == 3
            flat = values if coloured else values.mean(axis=-1).reshape(np.shape(like.values)[:2])
            # A log-mel's bands are drawn from the top down.
            drawn = flat[::-1] if isinstance(self.domain, LogMel) else flat
        peak = float(np.abs(drawn).max()) or 1.0
        return Picture(drawn, like.x, like.y, "weight", -peak, peak)


def composed(network: Network, layer: str, units: Sequence[int] | None = None, *, towards: str = "auto") -> Weights:
    """Composes the weights between a layer and the network's input or output, every nonlinearity a straight line.

    Of the first layer these are its filters, as they stand. Of a convolution, a unit is taken at the middle of the
    layer: the same weights apply at every other position.

    Args:
      network: any Network.
      layer: layer name.
      units: which units; None for all.
      towards: "input", "output", or "auto": the output of a network whose input cannot be drawn (a generator).

    Raises:
      LayerError: an unknown layer.
      NotComposable: something without a straight line stands between, such as attention.
      ValueError: a side that cannot be drawn.
    """
    if towards not in ("auto", "input", "output"):
        raise ValueError(f"towards must be 'auto', 'input' or 'output', got {towards!r}")
    shape = taps.layer_shape(network, layer)
    chosen = np.arange(shape[-1]) if units is None else np.asarray(units, int)
    if np.any((chosen < 0) | (chosen >= shape[-1])):
        raise ValueError(f"layer {layer!r} has units 0 to {shape[-1] - 1}, got {chosen.tolist()}")
    back = towards == "input" or (towards == "auto" and _drawable(network.input))
    domain = network.input if back else network.output
    if not _drawable(domain):
        raise ValueError(f"the {'input' if back else 'output'} of this network, {domain.kind!r}, has no picture")
    values = (_towards_input if back else _towards_output)(network, layer, shape, chosen)
    through = _between(network, layer, back)
    return Weights(layer, chosen, domain, values, through, "input" if back else "output", len(shape) > 1)


def composable(network: Network, layer: str) -> Weights | None:
    """`composed` of all units, or None where there is nothing to compose or to draw."""
    try:
        found = composed(network, layer)
    except (NotComposable, ValueError, TypeError, NotImplementedError):
        return None
    return found if found.through and found.pictures()[0].values.size > 1 else None


def _drawable(domain: Domain) -> bool:
    if not isinstance(domain.shape, tuple) or np.issubdtype(domain.dtype, np.integer):
        return False
    return domain.picture(np.asarray(domain.silence())) is not None


def _middle(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(size // 2 for size in shape[:-1])


def _towards_input(network: Network, layer: str, shape: tuple[int, ...], units: np.ndarray) -> np.ndarray:
    place = _middle(shape)

    def at_the_middle(x: jax.Array) -> jax.Array:
        value = taps.forward(network, x[None], (layer,))[1][layer][0]
        return jnp.atleast_1d(value)[place]

    silence = jnp.asarray(network.input.silence(), jnp.float32)
    straight = straightened(at_the_middle, silence)

    @jax.jit
    def of(vectors: jax.Array) -> jax.Array:
        back = jax.vjp(straight, silence)[1]
        return jax.vmap(lambda vector: back(vector)[0])(vectors)

    return _batched(of, np.eye(shape[-1], dtype=np.float32)[units])


def _towards_output(network: Network, layer: str, shape: tuple[int, ...], units: np.ndarray) -> np.ndarray:
    place = _middle(shape)
    taps.check_editable(network, [layer])
    example = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), network.input.abstract(1))

    def from_the_middle(change: jax.Array) -> jax.Array:
        moved = {layer: lambda value: value.at[(0, *place)].add(change)}
        return taps.forward(network, example, (), functions=moved)[0][0]

    rest = jnp.zeros(shape[-1], jnp.float32)
    straight = straightened(from_the_middle, rest)

    @jax.jit
    def of(vectors: jax.Array) -> jax.Array:
        return jax.vmap(lambda vector: jax.jvp(straight, (rest,), (vector,))[1])(vectors)

    return _batched(of, np.eye(shape[-1], dtype=np.float32)[units])


def _batched(function: Any, vectors: np.ndarray) -> np.ndarray:
    parts = []
    for start in range(0, len(vectors), _AT_ONCE):
        index = np.resize(np.arange(start, min(start + _AT_ONCE, len(vectors))), _AT_ONCE)
        parts.append(np.asarray(function(jnp.asarray(vectors[index])), np.float32)[: len(vectors) - start])
    return np.concatenate(parts)


def _between(network: Network, layer: str, back: bool) -> tuple[str, ...]:
    """The layers with weights that were composed, in the order of the forward pass."""
    order = list(taps.layers(network))
    weighted = list(taps.weighted_layers(network))
    place = order.index(layer) if layer in order else len(order)
    outputs = taps.outputs(network)
    heads = set(outputs.values()) if len(outputs) > 1 else set()
    if back:
        before = [name for name in weighted if order.index(name) <= place and (name == layer or name not in heads)]
        return tuple(before)
    return tuple(name for name in weighted if order.index(name) > place)
