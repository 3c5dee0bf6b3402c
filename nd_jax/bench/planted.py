"""Networks with planted units: every weight is set by hand, so that what each unit likes best is known.

    x (bands, frames) -> front, nonlinear, cell by cell -> matched filters over windows -> divided by the window's
    energy (or not) -> threshold and ReLU -> the better of two -> maximum over time (or mean, or one position)
    -> joined by nuisance activations -> mixed: the layer that is looked into

Family "aligned": channel c of the mixed layer is one unit, permuted, with a sign and a scale of its own. Family
"rotated": an orthogonal matrix mixes units and nuisances, so that no channel means anything and the truth about a unit
is a direction. Weights are arrays: networks of one size share one compiled program.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.audio.mel import LogMel as LogMelTransform
from nd_jax.bench import templates
from nd_jax.bench.templates import Template
from nd_jax.bench.truth import Front, best_linear, best_normalised
from nd_jax.domain import LogMel
from nd_jax.network import Network
from nd_jax.networks.layers import Relu
from nd_jax.visualize import objectives

Family = Literal["aligned", "rotated"]
FAMILIES: tuple[Family, ...] = ("aligned", "rotated")
LAYER = "mixed"

EPSILON = 0.25
"""Added to the energy of a window of h: what a loud cell and a half have."""
CONTRAST = 0.7
"""How much of a template's mean is subtracted from it: what does not belong to a pattern counts against it."""
CLOSED = (0.25, 0.4)
"""Thresholds of units that are silent at the usual start, as a share of the response to the template's own sound."""
BEYOND = (1.05, 1.5)
"""Thresholds of dead units, as a share of the best response: above 1 the ReLU never opens."""


@dataclasses.dataclass(frozen=True)
class Size:
    """How large planted networks are.

    Attributes:
      bands, frames, window: of the input, and of what one unit sees.
      per_kind: planted units of each kind of template.
      two, random, dead: units that like either of two sounds, a noise pattern, nothing at all.
      nuisances: further channels, which follow level, spectral balance and noise patterns.
    """

    bands: int = 64
    frames: int = 40
    window: int = 16
    per_kind: int = 6
    two: int = 6
    random: int = 6
    dead: int = 6
    nuisances: int = 10

    @property
    def units(self) -> int:
        """Planted, two-concept, random and dead units together."""
        return len(templates.KINDS) * self.per_kind + self.two + self.random + self.dead

    @property
    def filters(self) -> int:
        """Matched filters: two for a two-concept unit."""
        return self.units + self.two

    def domain(self) -> LogMel:
        """The inputs: 16 kHz, a frame every 10 ms, bands up to 7.6 kHz."""
        transform = LogMelTransform(
            sample_rate=16000, n_fft=512, hop_length=160, n_mels=self.bands, f_min=150.0, f_max=7600.0
        )
        return LogMel(transform=transform, frames=self.frames)


QUICK = Size(frames=28, window=14, per_kind=2, two=1, random=1, dead=2, nuisances=3)
"""Small enough to run in seconds."""


class PlantedNet(nn.Module):
    """See the module's text. With `foreign` its ReLUs are plain functions, as in other people's code."""

    window: int
    filters: int
    units: int
    nuisances: int
    foreign: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, bands, frames, 1) -> (batch, units + nuisances)."""
        zeros = nn.initializers.zeros
        positions = x.shape[2] - self.window + 1

        bend, share = self.param("bend", zeros, ()), self.param("share", zeros, ())
        above = self._relu(x[..., 0] - bend, "front")
        h = jnp.swapaxes(share * x[..., 0] + (1.0 - share) / (1.0 - bend) * above, 1, 2)

        # (batch, positions, window * bands): what every filter sees, as one matrix product.
        seen = jnp.concatenate([h[:, start : start + positions] for start in range(self.window)], axis=-1)
        response = nn.Dense(self.filters, use_bias=False, name="match")(seen)
        epsilon, normalised = (self.param(name, zeros, (1, 1, self.filters)) for name in ("epsilon", "normalised"))
        energy = jnp.sum(jnp.square(seen), axis=-1, keepdims=True)
        response = response * jax.lax.rsqrt(epsilon + normalised * energy)
        opened = self._relu(response - self.param("threshold", zeros, (1, 1, self.filters)), "gate")

        first = nn.Dense(self.units, use_bias=False, name="first")(opened)
        second = nn.Dense(self.units, use_bias=False, name="second")(opened)
        either = jnp.maximum(first, second)
        along = self.param("along", zeros, (1, positions, self.units))
        largest = self.param("largest", zeros, (1, self.units))
        pooled = largest * jnp.max(either, axis=1) + jnp.sum(along * either, axis=1)

        nuisance = jnp.tanh(nn.Dense(self.nuisances, name="nuisance")(jnp.mean(h, axis=1)))
        strength = self.param("strength", zeros, (1, self.nuisances))
        joined = jnp.concatenate([pooled, strength * nuisance], axis=-1)
        return nn.Dense(self.units + self.nuisances, use_bias=False, name=LAYER)(joined)

    def _relu(self, x: jax.Array, name: str) -> jax.Array:
        return nn.relu(x) if self.foreign else Relu(name=name)(x)


@dataclasses.dataclass(frozen=True, eq=False)
class Concept:
    """One thing a unit likes, with the truth about it.

    Attributes:
      template: the sound.
      best: (bands, window) the optimal input window, values 0 ... 1.
      matters: (bands, window) the cells that the unit's response depends on.
    """

    template: Template
    best: np.ndarray
    matters: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Unit:
    """One planted unit.

    Attributes:
      kind: a kind of template, "two", "random" or "dead".
      readout: "normalised" or "linear".
      pool: "max" over time, "mean" over time, or at one "position".
      place: the position's first frame; the middle for the others.
      closed: silent at the usual start, because of its threshold.
      concepts: what it likes: one, two for "two", none for "dead".
      why: for a dead unit, why it is.
      direction: (channels,) where it stands in the mixed layer; length one.
      scale: what its activation is multiplied by.
    """

    kind: str
    readout: str
    pool: str
    place: int
    closed: bool
    concepts: tuple[Concept, ...]
    why: str = ""
    direction: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    scale: float = 1.0

    @property
    def dead(self) -> bool:
        """Whether no input at all makes it answer."""
        return not self.concepts

    @property
    def maximum(self) -> float:
        """The known constrained maximum of its objective: every filter is scaled to a best response of 1."""
        return 0.0 if self.dead else self.scale

    def best_inputs(self, domain: LogMel) -> Iterator[np.ndarray]:
        """An optimal input, (bands, frames, 1), for each concept; what is free is silent."""
        for concept in self.concepts:
            x = np.zeros(domain.shape, np.float32)
            frames = concept.best.shape[1]
            if self.pool == "mean":
                x[:] = concept.best[:, :1, None]
            else:
                x[:, self.place : self.place + frames, 0] = concept.best
            yield x


@dataclasses.dataclass(frozen=True, eq=False)
class Planted:
    """A planted network, the truth about its units, and the objective that looks for them, lane by lane."""

    network: Network
    domain: LogMel
    family: Family
    units: tuple[Unit, ...]
    objective: objectives.Objective
    front: Front

    def __len__(self) -> int:
        return len(self.units)


def plant(key: jax.Array, family: Family, *, size: Size = Size(), foreign: bool = False) -> Planted:
    """Makes one planted network; templates, weights and ranges follow from the key alone.

    Args:
      key: a JAX key. The same key gives the same units in both families.
      family: "aligned" or "rotated".
      size: how large.
      foreign: ReLUs as plain functions instead of modules of nd_jax.

    Raises:
      ValueError: an unknown family.
    """
    if family not in FAMILIES:
        raise ValueError(f"family must be 'aligned' or 'rotated', got {family!r}")
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key), np.uint32))
    domain = size.domain()
    front = Front(share=float(rng.uniform(0.3, 0.6)), bend=float(rng.uniform(0.2, 0.4)))
    draft = _Draft(size, domain, front, rng)
    draft.all_units()
    module = PlantedNet(size.window, size.filters, size.units, size.nuisances, foreign)
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), _shapes(module, domain))
    mix, directions, scales = _mix(family, size, rng)
    variables["params"].update(draft.parameters(), mixed={"kernel": mix.astype(np.float32)})
    units = tuple(
        dataclasses.replace(unit, direction=direction, scale=float(scale))
        for unit, direction, scale in zip(draft.units, directions, scales, strict=True)
    )
    network = Network(module, variables, input=domain, card={"name": f"planted, {family}"})
    return Planted(network, domain, family, units, _objective(family, directions), front)


def _shapes(module: nn.Module, domain: LogMel) -> Any:
    return jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *domain.shape)))


def _mix(family: Family, size: Size, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mixing matrix (in, out), the direction of every unit (units, out) and the scale of its activation there."""
    channels = size.units + size.nuisances
    if family == "rotated":
        # The Q of a normal matrix, with the signs that make it uniform over rotations and reflections.
        q, r = np.linalg.qr(rng.normal(size=(channels, channels)))
        mix = q * np.sign(np.diag(r))
        return mix, mix[: size.units], np.ones(size.units)
    order = rng.permutation(channels)
    signs = rng.choice([-1.0, 1.0], channels)
    scales = 10.0 ** rng.uniform(-1.0, 1.0, channels)
    mix = np.zeros((channels, channels))
    mix[np.arange(channels), order] = signs * scales
    directions = np.sign(mix)
    return mix, directions[: size.units], scales[: size.units]


def _objective(family: Family, directions: np.ndarray) -> objectives.Objective:
    if family == "rotated":
        return objectives.direction(LAYER, directions)
    channels = np.argmax(np.abs(directions), axis=1)
    plain = objectives.channel(LAYER, [int(channel) for channel in channels])
    signs = directions[np.arange(len(channels)), channels].astype(np.float32)
    # One weight for each lane: a unit planted with a negative sign is looked for in the other direction.
    return objectives.Objective(tuple(dataclasses.replace(term, weight=signs) for term in plain.terms))


class _Draft:
    """Units and their filters, while they are being planted."""

    def __init__(self, size: Size, domain: LogMel, front: Front, rng: np.random.Generator):
        self.size, self.domain, self.front, self.rng = size, domain, front, rng
        self.units: list[Unit] = []
        self.weights: list[np.ndarray] = []
        self.readouts: list[str] = []
        self.thresholds: list[float] = []
        self.pairs: list[tuple[int, int]] = []

    def all_units(self) -> None:
        for kind in templates.KINDS:
            for index in range(self.size.per_kind):
                self._planted(kind, index)
        for index in range(self.size.two):
            chosen = self.rng.choice(templates.KINDS, 2, replace=False)
            self._unit("two", [self._template(kind) for kind in chosen], "normalised", "max", bool(index % 2))
        for index in range(self.size.random):
            template = templates.white(self.rng, self.domain, self.size.window, smooth=1.5 * (index % 2))
            self._unit("random", [template], "normalised", "max", False)
        for index in range(self.size.dead):
            self._dead(index)

    def _template(self, kind: str, stationary: bool = False) -> Template:
        return templates.draw(kind, self.rng, self.domain, self.size.window, stationary=stationary)

    def _planted(self, kind: str, index: int) -> None:
        still = kind in ("tone", "band", "stack")
        pool = ("mean", "max", "position", "mean", "max", "mean")[index % 6] if still else "max"
        if not still and index % 3 == 2:
            pool = "position"
        readout = "linear" if index % 3 == 1 else "normalised"
        template = self._template(kind, stationary=pool == "mean")
        self._unit(kind, [template], readout, pool, closed=index % 6 in (1, 3, 5))

    def _unit(self, kind: str, found: Sequence[Template], readout: str, pool: str, closed: bool) -> None:
        filters = [self._filter(template, readout) for template in found]
        heard = min(self._response(weights, template, readout) for (weights, _), template in zip(filters, found))
        threshold = float(self.rng.uniform(*CLOSED)) * heard if closed else 0.0
        concepts, members = [], []
        for template, (weights, best) in zip(found, filters, strict=True):
            members.append(self._add(weights, readout, threshold))
            # Every cell counts in the energy; a linear unit does not care where its weights are as good as zero.
            heavy = np.abs(weights) >= 0.05 * np.mean(np.abs(weights))
            concepts.append(Concept(template, best, heavy if readout == "linear" else np.ones_like(heavy)))
        self.pairs.append((members[0], members[-1]))
        place = self._place(pool)
        self.units.append(Unit(kind, readout, pool, place, closed, tuple(concepts)))

    def _dead(self, index: int) -> None:
        kind = templates.KINDS[index % len(templates.KINDS)]
        weights, _ = self._filter(self._template(kind), "normalised")
        beyond = index % 2 == 0
        if not beyond:
            weights = np.zeros_like(weights)
        threshold = float(self.rng.uniform(*BEYOND)) if beyond else 0.1
        member = self._add(weights, "normalised", threshold)
        self.pairs.append((member, member))
        why = f"threshold at {threshold:.2f} of the best response" if beyond else "all weights zero"
        self.units.append(Unit("dead", "normalised", "max", self._place("max"), True, (), why))

    def _filter(self, template: Template, readout: str) -> tuple[np.ndarray, np.ndarray]:
        """Weights over a window of h whose best response is 1, and the best input."""
        pattern = self.front(template.pattern.astype(np.float64))
        weights = pattern - CONTRAST * pattern.mean()
        h, maximum = best_normalised(weights, EPSILON) if readout == "normalised" else best_linear(weights)
        return weights / maximum, self.front.inverse(h).astype(np.float32)

    def _response(self, weights: np.ndarray, template: Template, readout: str) -> float:
        """What a filter answers to the sound that it was made from; its best response is 1."""
        h = self.front(template.pattern.astype(np.float64))
        energy = EPSILON + np.sum(h * h) if readout == "normalised" else 1.0
        return float(np.sum(weights * h) / np.sqrt(energy))

    def _place(self, pool: str) -> int:
        positions = self.size.frames - self.size.window + 1
        return int(self.rng.integers(2, positions - 2)) if pool == "position" else positions // 2

    def _add(self, weights: np.ndarray, readout: str, threshold: float) -> int:
        self.weights.append(weights)
        self.readouts.append(readout)
        self.thresholds.append(threshold)
        return len(self.weights) - 1

    def parameters(self) -> dict[str, Any]:
        """All but the mixing matrix, in the module's structure."""
        size, rng = self.size, self.rng
        thresholds = np.asarray(self.thresholds)
        normalised = np.asarray([readout == "normalised" for readout in self.readouts], np.float64)
        # (bands, window) of each filter as the module reads it: frame by frame, bands within.
        match = np.stack([weights.T.ravel() for weights in self.weights], axis=1)
        first, second = np.zeros((size.filters, size.units)), np.zeros((size.filters, size.units))
        along = np.zeros((size.frames - size.window + 1, size.units))
        for index, ((one, other), unit) in enumerate(zip(self.pairs, self.units, strict=True)):
            # The unit's largest activation is exactly 1, whatever its threshold.
            gain = 1.0 if unit.dead else 1.0 / (1.0 - thresholds[one])
            first[one, index] = second[other, index] = gain
            if unit.pool == "mean":
                along[:, index] = 1.0 / len(along)
            elif unit.pool == "position":
                along[unit.place, index] = 1.0
        values = {
            "bend": np.asarray(self.front.bend),
            "share": np.asarray(self.front.share),
            "match": {"kernel": match},
            "epsilon": np.where(normalised > 0, EPSILON, 1.0)[None, None],
            "normalised": normalised[None, None],
            "threshold": thresholds[None, None],
            "first": {"kernel": first},
            "second": {"kernel": second},
            "along": along[None],
            "largest": np.asarray([[float(unit.pool == "max") for unit in self.units]]),
            "nuisance": self._nuisance(),
            "strength": 10.0 ** rng.uniform(-0.5, 0.5, (1, size.nuisances)),
        }
        return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), values)

    def _nuisance(self) -> dict[str, np.ndarray]:
        """Level, spectral balance, and noise patterns over the bands; always active, never silent."""
        bands, count = self.size.bands, self.size.nuisances
        kernel = self.rng.normal(size=(bands, count)) / math.sqrt(bands)
        kernel[:, 0] = 4.0 / bands
        if count > 1:
            kernel[:, 1] = np.linspace(-4.0, 4.0, bands) / bands
        return {"kernel": 3.0 * kernel, "bias": self.rng.normal(size=count) * 0.3}
