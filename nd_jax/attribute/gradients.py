"""Attribution by gradients: saliency, gradient x input, SmoothGrad, integrated gradients, Grad-CAM."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import taps
from nd_jax.attribute import targets
from nd_jax.attribute.attribution import Attribution
from nd_jax.attribute.baselines import NEIGHBOURS, baseline_of
from nd_jax.network import Network
from nd_jax.runtime import nearest, progress_bar
from nd_jax.visualize import objectives

RULES = ("gausslegendre", "riemann_trapezoid", "riemann_left", "riemann_middle", "riemann_right")
RESIZES = ("bilinear", "nearest")


def saliency(network: Network, x: Any, target: targets.Target, *, absolute: bool = True) -> Attribution:
    """The gradient of the score (Simonyan et al. 2014), by default its absolute value, as Captum has it.

    Args:
      network: any Network that takes one array.
      x: (*shape) or (clips, *shape).
      target: see `targets`.
      absolute: False keeps the sign.

    Raises:
      LayerError, ValueError: whatever does not fit, in one sentence, before anything runs.
    """
    values, scores, goal, _ = _gradient(network, x, target)
    return Attribution(np.abs(values) if absolute else values, scores, goal.labels, "saliency", network.input)


def input_x_gradient(
    network: Network, x: Any, target: targets.Target, *, baseline: Any = 0.0, key: jax.Array | None = None
) -> Attribution:
    """(x - baseline) times the gradient of the score: Captum's InputXGradient for the baseline 0.

    Args:
      network: as `saliency`.
      x: as `saliency`.
      target: as `saliency`.
      baseline: what counts as nothing, see `baselines`; zero is not silence on a log-mel.
      key: of the baseline "noise".
    """
    values, scores, goal, several = _gradient(network, x, target)
    clips, _ = targets.inputs(network, x)
    away = np.asarray(clips - _baseline(network, clips, baseline, key))
    away = away if several else away[0]
    extra = values.ndim - away.ndim
    away = away.reshape(*away.shape[: int(several)], *(1,) * extra, *clips.shape[1:])
    return Attribution(values * away, scores, goal.labels, "input x gradient", network.input)


def smooth_grad(
    network: Network,
    x: Any,
    target: targets.Target,
    *,
    key: jax.Array,
    samples: int = 50,
    noise: float = 0.15,
    squared: bool = False,
    absolute: bool = False,
    chunk_size: int = 64,
    progress: bool | Callable[[int, int], None] = False,
) -> Attribution:
    """The mean gradient over noisy copies of the input (Smilkov et al. 2017).

    Args:
      network: as `saliency`.
      x: as `saliency`.
      target: as `saliency`.
      key: of the noise; a clip's depends on the clip, not on those around it.
      samples: copies.
      noise: standard deviation, as a share of the input's range (largest minus smallest value).
      squared: the mean of squared gradients instead.
      absolute: the absolute value of the mean.
      chunk_size: copies at once.
      progress: True for a bar with the time left, or a function of (copies done, in total).

    Raises:
      LayerError, ValueError: whatever does not fit, in one sentence.
    """
    count = targets.whole("samples", samples)
    if not noise >= 0:
        raise ValueError(f"noise must be 0 or more, got {noise!r}")
    clips, several = targets.inputs(network, x)
    goal, own = targets.bound(network, target, len(clips))
    span = jnp.max(clips, axis=tuple(range(1, clips.ndim))) - jnp.min(clips, axis=tuple(range(1, clips.ndim)))
    keys = targets.clip_keys(key, clips)

    def copy(clip: jax.Array, sample: jax.Array) -> jax.Array:
        drawn = jax.random.normal(jax.random.fold_in(keys[clip], sample), clips.shape[1:])
        return clips[clip] + noise * span[clip] * drawn

    weights = np.full(count, 1.0 / count)
    power = 2 if squared else 1
    mean = _summed(network, goal, own, len(clips), count, copy, weights, chunk_size, progress, power)
    scores = _scores(network, goal, own, clips)
    found = np.abs(mean) if absolute else mean
    return Attribution(
        targets.shaped(found, own, several),
        targets.shaped(scores, own, several),
        goal.labels,
        "SmoothGrad",
        network.input,
    )


def integrated_gradients(
    network: Network,
    x: Any,
    target: targets.Target,
    *,
    baseline: Any = "silence",
    key: jax.Array | None = None,
    steps: int = 50,
    rule: str = "gausslegendre",
    chunk_size: int = 64,
    progress: bool | Callable[[int, int], None] = False,
) -> Attribution:
    """The gradient's integral on the straight line from a baseline, times the way (Sundararajan et al. 2017, eq. 1).

    The values add up to f(x) - f(baseline), up to the error of the quadrature: `Attribution.error` says how far off.

    Args:
      network: as `saliency`.
      x: as `saliency`.
      target: as `saliency`.
      baseline: where the way begins, see `baselines` (not "neighbours").
      key: for the baseline "noise".
      steps: points on the way.
      rule: "gausslegendre", or "riemann_" with "trapezoid", "left", "middle" or "right"; as Captum has them.
      chunk_size: points at once.
      progress: True for a bar with the time left, or a function of (points done, in total).

    Raises:
      LayerError, ValueError: whatever does not fit, in one sentence.
    """
    count = targets.whole("steps", steps)
    nodes, weights = quadrature(rule, count)
    clips, several = targets.inputs(network, x)
    goal, own = targets.bound(network, target, len(clips))
    start = _baseline(network, clips, baseline, key)
    way = clips - start
    places = jnp.asarray(nodes, jnp.float32)

    def point(clip: jax.Array, sample: jax.Array) -> jax.Array:
        return start[clip] + places[sample] * way[clip]

    mean = _summed(network, goal, own, len(clips), count, point, weights, chunk_size, progress)
    values = mean * np.asarray(way, np.float64)[:, None]
    scores, without = (_scores(network, goal, own, given) for given in (clips, start))
    error = np.sum(values, axis=tuple(range(2, values.ndim))) - (scores - without)
    found = [targets.shaped(each, own, several) for each in (values, scores, error)]
    return Attribution(found[0], found[1], goal.labels, "integrated gradients", network.input, error=found[2])


def quadrature(rule: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes in 0 ... 1 and weights, both (count,), of a rule of `integrated_gradients`.

    Raises:
      ValueError: an unknown rule, or a trapezoid of one point.
    """
    if rule not in RULES:
        raise ValueError(f"unknown rule {rule!r}; {nearest(str(rule), RULES)}")
    if rule == "gausslegendre":
        nodes, weights = np.polynomial.legendre.leggauss(count)
        return (nodes + 1) / 2, weights / 2
    weights = np.full(count, 1.0 / count)
    if rule == "riemann_trapezoid":
        if count < 2:
            raise ValueError("rule 'riemann_trapezoid' needs at least 2 steps")
        weights[[0, -1]] /= 2
        return np.linspace(0.0, 1.0, count), weights
    shift = {"riemann_left": 0.0, "riemann_middle": 0.5, "riemann_right": 1.0}[rule]
    return (np.arange(count) + shift) / count, weights


def grad_cam(
    network: Network,
    x: Any,
    target: targets.Target,
    layer: str,
    *,
    relu: bool = True,
    resize: str | None = "bilinear",
) -> Attribution:
    """Where a layer's units that speak for the target are active (Selvaraju et al. 2017, equations 1 and 2).

    The sum over units of the layer's output times the mean over positions of the score's gradient there.

    Args:
      network: as `saliency`.
      x: as `saliency`.
      target: as `saliency`.
      layer: a layer with positions, (*positions, units).
      relu: only what speaks for the target.
      resize: "bilinear" or "nearest" to the input's size, the layer's positions laid over the input's axes in order;
        None for the layer's own positions, (..., *positions).

    Raises:
      LayerError, ValueError: an unknown layer, one without positions, or positions that cannot be laid over the input.
    """
    clips, several = targets.inputs(network, x)
    goal, own = targets.bound(network, target, len(clips))
    shape = taps.layer_shape(network, layer)
    taps.check_editable(network, [layer])
    if len(shape) < 2:
        raise ValueError(f"Grad-CAM needs a layer with positions, and {layer!r} has the shape {shape}")
    if resize is not None and resize not in RESIZES:
        raise ValueError(f"unknown resize {resize!r}; {nearest(str(resize), RESIZES)}, or None")
    inner = clips.shape[1:-1] if network.input.axes[-1].name == "channel" else clips.shape[1:]
    if resize is not None and len(shape) - 1 != len(inner):
        raise ValueError(
            f"layer {layer!r} has positions {shape[:-1]}, which cannot be laid over inputs of {inner}: take resize=None"
        )
    rows = jnp.asarray(targets.chosen(own, len(clips), len(goal)))
    arrays = jax.tree.map(jnp.asarray, goal.arrays)
    maps, scores = _cam(network, goal.spec, arrays, clips, rows, layer)
    maps = jnp.maximum(maps, 0.0) if relu else maps
    if resize is not None:
        maps = resized(maps, inner, resize)
        if clips.ndim - 1 > len(inner):
            maps = jnp.broadcast_to(maps[..., None], (*maps.shape, clips.shape[-1]))
    scores = _own(scores, own)
    return Attribution(
        targets.shaped(maps, own, several),
        targets.shaped(scores, own, several),
        goal.labels,
        f"Grad-CAM of {layer}",
        network.input,
    )


def resized(maps: jax.Array, shape: Sequence[int], method: str) -> jax.Array:
    """(..., *positions) -> (..., *shape); PyTorch's `interpolate` with align_corners=False."""
    lead = maps.ndim - len(shape)
    if method == "bilinear":
        return jax.image.resize(maps, (*maps.shape[:lead], *shape), "linear", antialias=False)
    for axis, size in enumerate(shape):
        place = np.arange(size) * maps.shape[lead + axis] // size
        maps = jnp.take(maps, jnp.asarray(place), axis=lead + axis)
    return maps


@functools.partial(jax.jit, static_argnames=("spec", "layer"))
def _cam(
    network: Network, spec: Any, arrays: Any, x: jax.Array, rows: jax.Array, layer: str
) -> tuple[jax.Array, jax.Array]:
    """(clips, rows, *positions) and (clips, lanes)."""
    names = tuple(dict.fromkeys((*objectives.layers_of(spec), layer)))

    def run(change: jax.Array) -> tuple[jax.Array, jax.Array]:
        _, read = taps.forward(network, x, names, functions={layer: lambda value: value + change})
        activations = {name: read[name] for name in objectives.layers_of(spec)}
        return targets.evaluated(spec, arrays, activations), read[layer]

    zero = jnp.zeros((len(x), *taps.layer_shape(network, layer)), jnp.float32)
    scores, pull, activation = jax.vjp(run, zero, has_aux=True)
    slopes = _pulled(pull, rows)
    places = tuple(range(2, slopes.ndim - 1))
    weights = jnp.mean(slopes, axis=places, keepdims=True)
    return jnp.moveaxis(jnp.sum(weights * activation[None], axis=-1), 0, 1), scores


@functools.partial(jax.jit, static_argnames="spec")
def _slopes(network: Network, spec: Any, arrays: Any, x: jax.Array, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Gradients (batch, rows, *shape) of what rows (rows, batch, lanes) choose, and scores (batch, lanes)."""
    scores, pull = jax.vjp(lambda x: targets.scores(network, spec, arrays, x), x)
    return jnp.moveaxis(_pulled(pull, rows), 0, 1), scores


def _pulled(pull: Callable[..., tuple[jax.Array, ...]], rows: jax.Array) -> jax.Array:
    """(rows, batch, ...) gradients of the rows that are chosen."""
    # jaxlib 0.10 on a CPU compiles sum(x * w) wrongly when its gradient is mapped over a single row: zeros, or near it.
    return pull(rows[0])[0][None] if len(rows) == 1 else jax.vmap(lambda row: pull(row)[0])(rows)


def _gradient(network: Network, x: Any, target: targets.Target) -> tuple[np.ndarray, np.ndarray, Any, bool]:
    clips, several = targets.inputs(network, x)
    goal, own = targets.bound(network, target, len(clips))
    rows = jnp.asarray(targets.chosen(own, len(clips), len(goal)))
    arrays = jax.tree.map(jnp.asarray, goal.arrays)
    slopes, scores = _slopes(network, goal.spec, arrays, clips, rows)
    found = [targets.shaped(each, own, several) for each in (slopes, _own(scores, own))]
    return found[0], found[1], goal, several


def _summed(
    network: Network,
    goal: Any,
    own: np.ndarray | None,
    clips: int,
    count: int,
    make: Callable[[jax.Array, jax.Array], jax.Array],
    weights: np.ndarray,
    chunk_size: int,
    progress: bool | Callable[[int, int], None],
    power: int = 1,
) -> np.ndarray:
    """Sums over `count` inputs a clip, `make(clip, number)`, of weight times gradient ** power: (clips, rows, ...)."""
    size = min(targets.whole("chunk_size", chunk_size), clips * count)
    clip, number = (part.ravel() for part in np.indices((clips, count), dtype=np.int32))
    rows = targets.chosen(own, clips, len(goal))
    arrays = jax.tree.map(jnp.asarray, goal.arrays)
    made = jax.jit(jax.vmap(make))
    total: Any = 0.0
    with progress_bar(len(clip), "input", progress) as advance:
        for first in range(0, len(clip), size):
            take = np.minimum(np.arange(first, first + size), len(clip) - 1)
            real = np.arange(first, first + size) < len(clip)
            x = made(clip[take], number[take])
            slopes, _ = _slopes(network, goal.spec, arrays, x, jnp.asarray(rows[:, clip[take]]))
            found = np.asarray(slopes, np.float64) ** power
            part = np.zeros((clips, *found.shape[1:]))
            scale = (weights[number[take]] * real).reshape(-1, *(1,) * (found.ndim - 1))
            np.add.at(part, clip[take], found * scale)
            total = total + part
            advance(int(real.sum()))
    return total


def _scores(network: Network, goal: Any, own: np.ndarray | None, x: jax.Array) -> np.ndarray:
    """(clips, lanes), or (clips, 1) of each clip's own lane; float64."""
    arrays = jax.tree.map(jnp.asarray, goal.arrays)
    return _own(np.asarray(targets.scored(network, goal.spec, arrays, x), np.float64), own)


def _own(scores: Any, own: np.ndarray | None) -> np.ndarray:
    array = np.asarray(scores)
    return array if own is None else np.take_along_axis(array, own[:, None], axis=1)


def _baseline(network: Network, clips: jax.Array, baseline: Any, key: jax.Array | None = None) -> jax.Array:
    if isinstance(baseline, str) and baseline == NEIGHBOURS:
        raise ValueError("baseline 'neighbours' belongs to windows: it is for occlusion only")
    return baseline_of(network.input, clips, baseline, key=key)
