"""Settings chosen by measurement: how strong regularisation has to be, told by the network's own activations.

What is optimised should excite a unit as natural inputs do: through the same activations before and beside it. `tune`
runs units of a layer under a grid of strengths, all in one vmapped sweep (strengths are arguments of the compiled
program), and takes the strengths whose results lie nearest to natural inputs that excite units of the layer most.

The criterion is that of Mishra, Stoller, Benetos, Sturm and Dixon 2019 (arXiv 1904.09533): a distance between the
network's activations on real and on generated inputs. They use Frechet's, which is biased by the number of examples;
here it is the unbiased kernel distance (`nd_jax.metrics.kernel_distance`), and real inputs are those that excite the
layer's other units: a unit's own would be in both sets, which are then not independent, and the distance would reward
results that are merely unlike each other. Half of the units choose, the others tell what the choice is worth.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import metrics, taps
from nd_jax.network import Network, digest
from nd_jax.runtime import nearest
from nd_jax.visualize import manifest, objectives, penalties, transforms
from nd_jax.visualize.batch import visualize_batch
from nd_jax.visualize.checks import check_probes

FORMAT = 1
_BATCH = 64


@dataclasses.dataclass(frozen=True)
class Knob:
    """What is turned: penalties or transforms, and how strong they are tried.

    Attributes:
      name: short, for tables and plots.
      parts: penalties, of which a strength is a factor; or transforms, of which it is how often they are applied.
      strengths: what is tried.
    """

    name: str
    parts: tuple[Any, ...]
    strengths: tuple[float, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Tuned:
    """What `tune` found for one layer.

    Attributes:
      layer: its name.
      knobs: names of the knobs, (k,).
      strengths: (c, k) the candidates; the first is how it is without: penalties 0, transforms always.
      chosen: which candidate.
      tuning: (c,) kernel distance of each on the half of the units that chose.
      held_out: (c,) the same on the others.
      score: (c,) median over the units held out of what they reach, over their highest natural activation.
      units: (2, ...) the units that chose, and those held out.
      settings: the arguments of `visualize_batch` for the choice, as a manifest has them.
      row: the choice as `strengths` of `visualize_batch`.
      scale: factor on the penalties: the median spread of the layer's units on the natural inputs.
    """

    layer: str
    knobs: tuple[str, ...]
    strengths: np.ndarray
    chosen: int
    tuning: np.ndarray
    held_out: np.ndarray
    score: np.ndarray
    units: tuple[tuple[int, ...], tuple[int, ...]]
    settings: Mapping[str, Any]
    row: tuple[float, ...]
    scale: float

    def arguments(self) -> dict[str, Any]:
        """The arguments of `visualize_batch` for the choice."""
        found = manifest.restore_settings({"settings": self.settings}, given=("snapshots",))
        return {**found, "strengths": np.asarray(self.row, np.float32), "scale": self.scale}

    def words(self) -> str:
        """The choice in one line."""
        chosen = ", ".join(f"{name} {value:g}" for name, value in zip(self.knobs, self.strengths[self.chosen]))
        return (
            f"{self.layer}: {chosen}; distance of the units held out {self.held_out[self.chosen]:.3f}, "
            f"{self.held_out[0]:.3f} without"
        )


def default_knobs(network: Network) -> tuple[Knob, ...]:
    """Penalties and transforms that fit a network's inputs: silence for sound, smoothness for images."""
    domain = network.input
    moves = transforms.default(domain)
    if domain.is_sound:
        silence: Any = penalties.silence(weight=1.0)
        quiet: Any = penalties.early(silence, rest=0.2)
        knob = Knob("silence", (quiet,), (0.0, 0.3, 1.0, 3.0, 10.0))
    else:
        smooth = penalties.total_variation(vertical=1.0, horizontal=1.0)
        knob = Knob("smoothness", (smooth,), (0.0, 1.0, 3.0, 10.0, 30.0))
    return (knob, Knob("transforms", moves, (0.0, 0.5, 1.0))) if moves else (knob,)


def tune(
    network: Network,
    layer: str,
    natural: Any,
    *,
    key: jax.Array,
    knobs: Sequence[Knob] | None = None,
    units: Sequence[int] | None = None,
    objective: objectives.Objective | None = None,
    top: int = 8,
    progress: bool | Callable[[int, int], None] = True,
    **settings: Any,
) -> Tuned:
    """Chooses strengths for a layer: tuned on half of its units, reported on the others.

    Args:
      network: what is looked into.
      layer: whose units.
      natural: (n, *network.input.shape) natural inputs.
      key: of the split and of the sweep; every candidate begins where the others do.
      knobs: what is turned, every combination is tried; None for `default_knobs`.
      units: which of the layer's, four or more; None for all.
      objective: what else the layer's units climb, one lane a unit; `units` are then lanes of it.
      top: how many of the natural inputs that excite a unit most are compared with; the distance is the mean over them.
      progress: as in `visualize_batch`.
      **settings: further arguments of `visualize_batch`, for all candidates.

    Raises:
      ValueError: too few units or inputs, or settings that the knobs decide.
    """
    given = {"penalties", "transforms", "strengths", "scale", "replicates"} & set(settings)
    if given:
        raise ValueError(f"{sorted(given)[0]} is what the knobs decide: leave it out")
    knobs = default_knobs(network) if knobs is None else tuple(knobs)
    bound = (objectives.channel(layer) if objective is None else objective).bind(network)
    chosen_units = np.arange(len(bound)) if units is None else np.asarray(list(units), int)
    _check(network, bound, chosen_units, natural, settings)
    natural = np.asarray(natural, np.float32)
    if len(chosen_units) < 4 or len(natural) < 2:
        raise ValueError(
            f"tuning takes 4 units and 2 natural inputs or more, got {len(chosen_units)} and {len(natural)}"
        )
    halves = _halves(key, chosen_units)
    listener = _Listener(network, layer, bound, natural)
    scale = listener.scale
    costs, moves, names = _parts(knobs)
    grid = _candidates(knobs)
    rows = np.stack([_row(knobs, candidate) for candidate in grid])
    found = visualize_batch(
        network,
        bound.select(np.repeat(chosen_units, len(grid))),
        key=key,
        penalties=costs,
        transforms=moves,
        strengths=np.tile(rows, (len(chosen_units), 1)),
        scale=scale,
        replicates=[0] * (len(chosen_units) * len(grid)),
        progress=progress,
        **{"snapshots": 0, "restarts": 0, **settings},
    )
    made = listener.features(found.inputs).reshape(len(chosen_units), len(grid), -1)
    scores = found.scores.reshape(len(chosen_units), len(grid))
    places = [np.flatnonzero(np.isin(chosen_units, half)) for half in halves]
    # Of other units, and one input a unit at a time: examples of a set, and of the two sets, must not come in families.
    others = [np.setdiff1d(np.arange(len(bound)), chosen_units[place]) for place in places]
    bank = [listener.exciting(units, top) for units in others]
    # One kernel for all candidates, wide enough for the farthest of them.
    sample = np.concatenate([bank[0].reshape(-1, bank[0].shape[-1]), made[places[0]].reshape(-1, made.shape[-1])])
    bandwidth = metrics.bandwidth(sample)
    distances = [
        np.array([_distance(real, made[place, at], bandwidth) for at in range(len(grid))])
        for real, place in zip(bank, places, strict=True)
    ]
    best = int(np.argmin(distances[0]))
    return Tuned(
        layer=layer,
        knobs=names,
        strengths=np.asarray(grid, np.float32),
        chosen=best,
        tuning=distances[0],
        held_out=distances[1],
        score=np.median(scores[places[1]] / listener.highest(chosen_units[places[1]])[:, None], axis=0),
        units=(tuple(map(int, halves[0])), tuple(map(int, halves[1]))),
        settings=found.manifest["settings"],
        row=tuple(float(value) for value in rows[best]),
        scale=scale,
    )


def _check(network: Network, bound: Any, units: np.ndarray, natural: Any, settings: Mapping[str, Any]) -> None:
    if isinstance(network.input.shape, Mapping):
        raise ValueError(f"tuning takes networks with one input, and this one has {sorted(network.input.shape)}")
    if settings.get("inputs_per_lane", 1) != 1:
        raise ValueError(f"tuning takes one input a lane, got inputs_per_lane={settings['inputs_per_lane']}")
    check_probes(natural, network.input, "natural inputs")
    wrong = units[(units < 0) | (units >= len(bound))]
    if wrong.size:
        raise ValueError(f"units lie in 0 ... {len(bound) - 1}, got {int(wrong[0])}")
    if len(np.unique(units)) < len(units):
        raise ValueError(f"a unit is given twice: {units.tolist()}")


def _distance(real: np.ndarray, made: np.ndarray, bandwidth: float) -> float:
    return float(np.mean([metrics.kernel_distance(each, made, bandwidth=bandwidth) for each in real]))


class Settings:
    """Chosen settings by layer: a function of a layer's name, as `nd_jax.visualize.sweep(settings=...)` takes it."""

    def __init__(self, network: str, layers: Mapping[str, Tuned]):
        self.network, self.layers = network, dict(layers)

    def __call__(self, layer: str) -> dict[str, Any]:
        """The arguments of `visualize_batch` for a layer.

        Raises:
          ValueError: a layer that was not tuned.
        """
        if layer not in self.layers:
            raise ValueError(f"no settings were chosen for {layer!r}; {nearest(layer, self.layers)}")
        return self.layers[layer].arguments()

    def check(self, network: Network) -> Settings:
        """Itself; raises ValueError for another network than the one it was tuned on."""
        if digest(network) != self.network:
            raise ValueError(f"these settings were chosen for a network of digest {self.network}, not this one")
        return self


def save(path: Any, network: Network, layers: Sequence[Tuned]) -> pathlib.Path:
    """Writes chosen settings as JSON, for `load`."""
    target = pathlib.Path(path).expanduser()
    target.parent.mkdir(parents=True, exist_ok=True)

    def plain(value: Any) -> Any:
        return value.tolist() if isinstance(value, np.ndarray) else value

    told = {
        "format": FORMAT,
        "network": digest(network),
        "layers": [
            {field.name: plain(getattr(item, field.name)) for field in dataclasses.fields(item)} for item in layers
        ],
    }
    target.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return target


def load(path: Any) -> Settings:
    """Settings that `save` wrote.

    Raises:
      ValueError: the file is none of these.
    """
    source = pathlib.Path(path).expanduser()
    try:
        told = json.loads(source.read_text(encoding="utf-8"))
        layers = {}
        for item in told["layers"]:
            arrays = {name: np.asarray(item[name], np.float64) for name in ("strengths", "tuning", "held_out", "score")}
            plain = {
                "knobs": tuple(item["knobs"]),
                "units": (tuple(item["units"][0]), tuple(item["units"][1])),
                "row": tuple(item["row"]),
            }
            layers[item["layer"]] = Tuned(**{**item, **arrays, **plain})
        return Settings(told["network"], layers)
    except (OSError, KeyError, TypeError, ValueError, IndexError) as error:
        raise ValueError(f"{source} does not hold settings that nd_jax.tuning wrote: {error}") from None


class _Listener:
    """How a network hears natural inputs: activations of all weighted layers, their means over positions."""

    def __init__(self, network: Network, layer: str, bound: objectives.Bound, natural: np.ndarray):
        self.network = network
        self.names = tuple(dict.fromkeys([*taps.weighted_layers(network), layer]))
        heard = self._read(natural)
        self.own = _in_batches(lambda x: [_VALUED(bound.spec, network, x, bound.arrays)], natural)[0]
        together = np.concatenate([heard[name] for name in self.names], axis=1)
        self.mean, spread = together.mean(axis=0), together.std(axis=0)
        # What never changes on natural inputs has no unit to be measured in.
        self.heard = spread > 1e-6 * np.max(spread, initial=1e-30)
        self.spread = np.where(self.heard, spread, 1.0)
        self.natural = self._scaled(together)
        self.scale = float(np.median(self.own.std(axis=0)))

    def features(self, inputs: Any) -> np.ndarray:
        """(n, numbers): in standard deviations of natural inputs, each layer with the same weight."""
        heard = self._read(inputs)
        return self._scaled(np.concatenate([heard[name] for name in self.names], axis=1))

    def exciting(self, units: np.ndarray, count: int) -> np.ndarray:
        """The features of the natural inputs that excite each unit most, (count, units, numbers), the first first."""
        return self.natural[np.argsort(-self.own[:, units], axis=0, kind="stable")[:count]]

    def highest(self, units: np.ndarray) -> np.ndarray:
        """Their highest natural activations, (units,)."""
        top = self.own[:, units].max(axis=0)
        return np.where(np.abs(top) > 1e-12, top, 1e-12)

    def _scaled(self, together: np.ndarray) -> np.ndarray:
        sizes = [self._widths[name] for name in self.names]
        weights = np.concatenate([np.full(size, 1.0 / np.sqrt(size)) for size in sizes])
        return (((together - self.mean) / self.spread) * weights)[:, self.heard]

    def _read(self, inputs: Any) -> dict[str, np.ndarray]:
        read = _in_batches(lambda x: _POOLED(self.names, self.network, x), inputs)
        self._widths = {name: value.shape[1] for name, value in zip(self.names, read, strict=True)}
        return dict(zip(self.names, read, strict=True))


def _in_batches(function: Callable[[jax.Array], Sequence[jax.Array]], inputs: Any) -> list[np.ndarray]:
    """What a function of a batch gives, for any number of inputs; one program serves all."""
    parts = []
    for first in range(0, len(inputs), _BATCH):
        part = np.asarray(inputs[first : first + _BATCH], np.float32)
        full = np.concatenate([part, np.repeat(part[:1], _BATCH - len(part), axis=0)])
        parts.append([np.asarray(value)[: len(part)] for value in function(jnp.asarray(full))])
    return [np.concatenate(values) for values in zip(*parts, strict=True)]


def _pooled(names: tuple[str, ...], network: Network, x: jax.Array) -> list[jax.Array]:
    activations = taps.forward(network, x, names)[1]
    return [activations[name].reshape(len(x), -1, activations[name].shape[-1]).mean(axis=1) for name in names]


def _valued(spec: Any, network: Network, x: jax.Array, arrays: Any) -> jax.Array:
    """(examples, lanes) scores."""
    names = objectives.layers_of(spec)
    read = taps.forward(network, x, names)[1]
    activations = {name: read[name] for name in names}

    def one(example: Any) -> jax.Array:
        return jax.vmap(lambda values: objectives.evaluate(spec, values, example))(arrays)

    return jax.vmap(one)(activations)


_POOLED = jax.jit(_pooled, static_argnums=0)
_VALUED = jax.jit(_valued, static_argnums=0)


def _halves(key: jax.Array, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.asarray(jax.random.permutation(key, len(units)))
    middle = len(units) // 2
    return np.sort(units[order[:middle]]), np.sort(units[order[middle:]])


def _parts(knobs: Sequence[Knob]) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[str, ...]]:
    costs = tuple(part for knob in knobs if _is_penalty(knob) for part in knob.parts)
    moves = tuple(part for knob in knobs if not _is_penalty(knob) for part in knob.parts)
    return costs, moves, tuple(knob.name for knob in knobs)


def _is_penalty(knob: Knob) -> bool:
    kinds = {hasattr(part, "weight") for part in knob.parts}
    if len(kinds) != 1:
        raise ValueError(f"knob {knob.name!r} must have penalties or transforms, one or more of one kind")
    return kinds.pop()


def _candidates(knobs: Sequence[Knob]) -> list[tuple[float, ...]]:
    """Every combination; first the one without penalties and with all transforms."""
    without = tuple(0.0 if _is_penalty(knob) else 1.0 for knob in knobs)
    every = itertools.product(*(knob.strengths for knob in knobs))
    return [without, *(candidate for candidate in every if candidate != without)]


def _row(knobs: Sequence[Knob], candidate: Sequence[float]) -> np.ndarray:
    """A candidate as `strengths` of `visualize_batch`: penalties first."""
    pairs = list(zip(knobs, candidate, strict=True))
    costs = [value for knob, value in pairs if _is_penalty(knob) for _ in knob.parts]
    moves = [value for knob, value in pairs if not _is_penalty(knob) for _ in knob.parts]
    return np.asarray([*costs, *moves], np.float32)
