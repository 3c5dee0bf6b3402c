"""Optimised masks: the least of an input that a score needs, or that it cannot do without.

A mask is a coarse grid of numbers in 0 ... 1, interpolated to the input: m x + (1 - m) baseline. It is climbed by
`visualize_batch`, one lane for each clip, target and area; what lanes differ in are numbers, so that all share one
compiled program.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.attribute import targets
from nd_jax.attribute.attribution import Attribution
from nd_jax.attribute.baselines import NEIGHBOURS, baseline_of
from nd_jax.domain import Domain
from nd_jax.network import Network
from nd_jax.runtime import nearest
from nd_jax.visualize import adam, objectives, visualize_batch

METHODS = ("extremal", "meaningful")
VARIANTS = ("preserve", "delete")
_GROWTH = 160.0
# Where masks begin: with all but 5 % of the input shown; both papers begin with all of it. Half of a log-mel is some
# 30 dB less everywhere: what passed a threshold no longer does, and there is no slope to climb.
_SHOWN = 3.0


@dataclasses.dataclass(frozen=True)
class MaskedInput:
    """A parameterization whose lanes have an input of their own each.

    Parameters: {"x", "baseline": (*shape), "area": (), "free": (*cells)}; only `free` moves. A variant "delete" shows
    what a mask leaves instead of what it covers.

    Attributes:
      cells: numbers of the mask along the domain's axes without the channels.
      delete: whether the mask is taken away.
    """

    name: ClassVar[str] = "masked input"

    cells: tuple[int, ...]
    delete: bool = False

    def init(self, key: jax.Array, domain: Domain) -> dict[str, jax.Array]:
        silence = jnp.asarray(domain.silence(), jnp.float32)
        return {"x": silence, "baseline": silence, "area": jnp.ones(()), "free": jnp.zeros(self.cells)}

    def apply(self, parameters: dict[str, jax.Array], domain: Domain) -> jax.Array:
        x, baseline = (jax.lax.stop_gradient(parameters[name]) for name in ("x", "baseline"))
        mask = self.mask(parameters, domain)
        mask = mask.reshape(*mask.shape, *(1,) * (x.ndim - mask.ndim))
        shown = 1.0 - mask if self.delete else mask
        return shown * x + (1.0 - shown) * baseline

    def mask(self, parameters: dict[str, jax.Array], domain: Domain) -> jax.Array:
        """The mask at the size of the domain's axes without the channels."""
        inner = domain.shape[: len(self.cells)]
        return jax.image.resize(jax.nn.sigmoid(parameters["free"]), inner, "linear", antialias=False)


@dataclasses.dataclass(frozen=True)
class ExtremalArea:
    """How far a mask is from covering its area fully and nothing else: mean((sort(m) - r_a)^2), r_a zeros then ones.

    Fong, Patrick & Vedaldi 2019, equation 5. The weight grows with the steps, so that the area binds in the end.
    """

    weight: float = 0.3
    growth: float = 1.0065
    of_parameters: ClassVar[bool] = True

    @property
    def label(self) -> str:
        """A short text for reports."""
        return f"extremal_area x {self.weight:g} x {self.growth:g}^step"

    def check(self, domain: Domain) -> None:
        """Nothing is asked of the domain."""

    def check_parameterization(self, parameterization: Any) -> None:
        """Raises ValueError unless it is a `MaskedInput`."""
        if not isinstance(parameterization, MaskedInput):
            raise ValueError(f"ExtremalArea is for MaskedInput, not for {type(parameterization).__name__}")

    def __call__(self, x: jax.Array, domain: Domain) -> jax.Array:
        raise TypeError("ExtremalArea is a penalty on parameters: call of(parameterization, ...)")

    def of(self, parameterization: MaskedInput, parameters: Any, domain: Domain) -> jax.Array:
        """A scalar of at least 0, without the weight."""
        ordered = jnp.sort(parameterization.mask(parameters, domain).reshape(-1))
        share = (jnp.arange(ordered.size) + 0.5) / ordered.size
        wanted = (share > 1.0 - jax.lax.stop_gradient(parameters["area"])).astype(jnp.float32)
        return jnp.mean(jnp.square(ordered - wanted))


@dataclasses.dataclass(frozen=True)
class _MaskCost:
    """l1 * mean(m) + variation * the mean over axes of |m_i - m_i+1|^3 (Fong & Vedaldi 2017, equations 3 and 4)."""

    l1: float
    variation: float
    weight: float = 1.0
    of_parameters: ClassVar[bool] = True

    @property
    def label(self) -> str:
        return f"mask_cost(l1={self.l1:g}, variation={self.variation:g})"

    def check(self, domain: Domain) -> None:
        """Nothing is asked of the domain."""

    def check_parameterization(self, parameterization: Any) -> None:
        """It is only used with `MaskedInput`."""

    def __call__(self, x: jax.Array, domain: Domain) -> jax.Array:
        raise TypeError("a cost of a mask is a penalty on parameters: call of(parameterization, ...)")

    def of(self, parameterization: MaskedInput, parameters: Any, domain: Domain) -> jax.Array:
        mask = jax.nn.sigmoid(parameters["free"])
        steps = [jnp.mean(jnp.abs(jnp.diff(mask, axis=axis)) ** 3) for axis in range(mask.ndim) if mask.shape[axis] > 1]
        rough = sum(steps, jnp.zeros(()))
        return self.l1 * jnp.mean(parameterization.mask(parameters, domain)) + self.variation * rough


def mask(
    network: Network,
    x: Any,
    target: targets.Target,
    *,
    method: str = "extremal",
    variant: str = "preserve",
    areas: float | Sequence[float] = 0.1,
    cells: int | Sequence[int] = 16,
    baseline: Any = "silence",
    key: jax.Array | None = None,
    steps: int | None = None,
    learning_rate: float = 0.1,
    l1: float = 0.5,
    variation: float = 0.5,
    area_weight: float = 0.3,
    chunk_size: int | None = None,
    progress: bool | Callable[[int, int], None] = False,
) -> Attribution:
    """A mask for each clip that keeps the score high with little of the input, or destroys it by taking little away.

    "extremal" (Fong, Patrick & Vedaldi 2019): among all masks of an area the one with the highest score. The area is a
    penalty whose weight grows 160-fold over the steps (16-fold in TorchRay: but a heavy penalty on a mask that is still
    the same everywhere picks cells at random); 800 steps. "meaningful" (Fong & Vedaldi 2017): the score,
    less l1 times the share that is covered, less the roughness; 300 steps. Unlike both, penalties are counted in units
    of |f(x) - f(baseline)|, so that one number serves all networks; the mask is a sigmoid of free numbers that are
    interpolated bilinearly, climbed by Adam, without jitter (which in TorchRay also flips time).

    Args:
      network: any Network that takes one array.
      x: (*shape) or (clips, *shape).
      target: see `targets`. With a logit the mask makes it as high as it can; `nd.objectives.probability(...)` asks for
        no more than certainty, and is what "meaningful" is meant for.
      method: "extremal" or "meaningful".
      variant: "preserve" keeps what the mask covers, "delete" takes it away.
      areas: of "extremal", shares of the input: one, or several, which run as one batch.
      cells: of the mask, along every axis of the domain but the channels, or one number for all; (1, n) of a
        spectrogram is a mask over time alone, (n, 1) one over frequency. Never more than the steps of an axis.
      baseline: what stands where nothing is shown, see `baselines` (not "neighbours").
      key: for the baseline "noise".
      steps: of the optimizer; by default those above.
      learning_rate: of Adam.
      l1: of "meaningful": what the whole input costs, in units of |f(x) - f(baseline)|.
      variation: of "meaningful": what roughness costs, likewise.
      area_weight: of "extremal": the penalty's weight at the start, likewise.
      chunk_size: lanes at once, see `visualize_batch`.
      progress: True for a bar with the time left, or a function of (lane-steps done, in total).

    Returns:
      An `Attribution` of values in 0 ... 1, where several areas come as an axis after that of the
      clips; its scores are those of what the masks show.

    Raises:
      LayerError, ValueError: whatever does not fit, in one sentence, before anything runs.
    """
    for name, number in (("l1", l1), ("variation", variation), ("area_weight", area_weight)):
        if not 0 <= number < math.inf:
            raise ValueError(f"{name} is a finite number of 0 or more, got {number!r}")
    for name, given, known in (("method", method, METHODS), ("variant", variant, VARIANTS)):
        if given not in known:
            raise ValueError(f"unknown {name} {given!r}; {nearest(str(given), known)}")
    if isinstance(baseline, str) and baseline == NEIGHBOURS:
        raise ValueError("baseline 'neighbours' belongs to windows: it is for occlusion only")
    clips, several = targets.inputs(network, x)
    shares = _areas(areas) if method == "extremal" else np.ones(1, np.float32)
    inner = clips.shape[1:-1] if network.input.axes[-1].name == "channel" else clips.shape[1:]
    coarse = _cells(cells, inner)
    instead = baseline_of(network.input, clips, baseline, key=key)
    sign = -1.0 if variant == "delete" else 1.0
    lanes = _lanes(network, target, len(clips), sign)
    steps = {"extremal": 800, "meaningful": 300}[method] if steps is None else steps
    own = np.arange(len(clips)) if len(lanes) > 1 else np.zeros(len(clips), int)
    worth = np.abs(np.subtract(*(_own_scores(network, lanes, given, own) for given in (clips, instead))))
    targets.finite(worth, "given")
    # One lane for each clip and area.
    clip = np.repeat(np.arange(len(clips)), len(shares))
    count = len(clip)
    start = {
        "x": np.asarray(clips)[clip],
        "baseline": np.asarray(instead)[clip],
        "area": np.tile(shares, len(clips)),
        "free": np.full((count, *coarse), sign * _SHOWN, np.float32),
    }
    growth = _GROWTH ** (1 / max(steps, 1))
    cost: Any = (
        ExtremalArea(float(area_weight), growth) if method == "extremal" else _MaskCost(float(l1), float(variation))
    )
    form = MaskedInput(coarse, variant == "delete")
    found = visualize_batch(
        network,
        lanes.select(own[clip]),
        key=jax.random.key(0),
        parameterization=form,
        penalties=[cost],
        transforms=(),
        optimizer=adam(learning_rate),
        steps=steps,
        snapshots=2,
        scale=np.maximum(worth, 1e-6)[clip],
        start=start,
        restarts=0,
        chunk_size=chunk_size,
        progress=progress,
    )
    maps = jax.vmap(lambda free: form.mask({"free": free}, network.input))(jnp.asarray(found.parameters["free"]))
    values = np.asarray(maps).reshape(*maps.shape, *(1,) * (clips.ndim - maps.ndim))
    values = np.broadcast_to(values, (count, *clips.shape[1:])).reshape(len(clips), len(shares), *clips.shape[1:])
    scores = sign * np.asarray(found.scores).reshape(len(clips), len(shares))
    labels = tuple(label.removeprefix("-1 * ") for label in lanes.labels)
    title = f"{method} mask, {variant}"
    return Attribution(
        targets.shaped(values, None, several), targets.shaped(scores, None, several), labels, title, network.input
    )


def _own_scores(network: Network, lanes: Any, x: jax.Array, own: np.ndarray) -> np.ndarray:
    """(clips,) the score of each clip's own lane."""
    arrays = jax.tree.map(jnp.asarray, lanes.arrays)
    return np.asarray(targets.scored(network, lanes.spec, arrays, x))[np.arange(len(x)), own]


def _lanes(network: Network, target: targets.Target, clips: int, sign: float) -> Any:
    """A bound objective of one lane, or of one for each clip."""
    objective = target if isinstance(target, objectives.Objective) else None
    if objective is None:
        targets.bound(network, target, clips)
        objective = objectives.logit(target)  # type: ignore[arg-type]
    bound, _ = targets.bound(network, sign * objective, clips)
    if len(bound) not in (1, clips):
        raise ValueError(
            f"masks are of one target for all clips or of one for each, and there are {len(bound)} for {clips}"
        )
    return bound


def _areas(given: float | Sequence[float]) -> np.ndarray:
    try:
        shares = np.atleast_1d(np.asarray(given, np.float32))
    except (TypeError, ValueError):
        shares = np.zeros(0, np.float32)
    if shares.ndim != 1 or not len(shares) or not np.all((shares > 0) & (shares < 1)):
        raise ValueError(f"areas are shares of the input between 0 and 1, got {given!r}")
    return shares


def _cells(given: int | Sequence[int], inner: Sequence[int]) -> tuple[int, ...]:
    found = tuple(min(number, size) for number, size in zip(targets.per_axis(given, inner), inner, strict=True))
    if math.prod(found) < 2:
        raise ValueError("a mask of one cell covers all or nothing: take more cells")
    return found
