"""Labels of all units of a dissection: by every source and similarity function, beside what chance does as well.

    labels = Labels(concepts, {layer: {"DB": LayerLabels, "TAB": LayerLabels}})
    labels.best(layer, unit).name              # by the source and function that name units
    labels.of(layer, unit, "TAB", "wpmi")      # by any other

A unit is more alike to some concept than to all others whatever it does. So every label stands beside the same
computation with the clips shuffled: what is not above that is a name and no more.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from nd_jax.dissect.array_files import save_arrays
from nd_jax.dissect.closed_set import ClosedSet, closed_set
from nd_jax.runtime import nearest, progress_bar

SHUFFLES = 19
"""So many that a unit without any relation to the concepts is above all of them one time in twenty."""
FUNCTION = "cosine_cubed"
"""What names a unit: over both sources the function that is right most often on AND's last layer."""
_FORMAT = 1


@dataclasses.dataclass(frozen=True, eq=False)
class LayerLabels:
    """Labels of the units of a layer from one source.

    Attributes:
      found: similarities to all concepts by every function.
      beaten: {function: (units,) int}: of so many shuffles of the clips, how many left the unit less alike to every
        concept than it is to the one it is called by.
      shuffles: how many there were.
      clips: how many clips counted.
    """

    found: ClosedSet
    beaten: Mapping[str, np.ndarray]
    shuffles: int
    clips: int

    def save(self, path: Any) -> pathlib.Path:
        """Writes an npz file, whole or not at all."""
        target = pathlib.Path(path)
        header = {
            "format": _FORMAT,
            "concepts": list(self.found.concepts),
            "functions": list(self.found.similarities),
            "shuffles": self.shuffles,
            "clips": self.clips,
        }
        arrays: dict[str, Any] = {"header": np.array(json.dumps(header))}
        for number, function in enumerate(self.found.similarities):
            arrays[f"similarity/{number}"] = self.found.similarities[function]
            arrays[f"top/{number}"] = self.found.top[function]
            arrays[f"beaten/{number}"] = self.beaten[function]
        save_arrays(target, arrays)
        return target

    @classmethod
    def load(cls, path: Any) -> LayerLabels:
        """Reads a file that `save` wrote.

        Raises:
          ValueError: not such a file.
        """
        try:
            with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
                header = json.loads(str(file["header"]))
                if header["format"] != _FORMAT:
                    raise ValueError(f"format {header['format']}")
                parts = {
                    part: {name: file[f"{part}/{number}"] for number, name in enumerate(header["functions"])}
                    for part in ("similarity", "top", "beaten")
                }
        except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} was not written by LayerLabels.save: {error}") from None
        found = ClosedSet(tuple(header["concepts"]), parts["similarity"], parts["top"])
        return cls(found, parts["beaten"], header["shuffles"], header["clips"])


def layer_labels(
    activations: Any,
    scores: Any,
    concepts: Sequence[str],
    *,
    functions: Any = "all",
    shuffles: int = SHUFFLES,
    seed: int = 0,
    top: int = 5,
    progress: bool | Callable[[int, int], None] = False,
) -> LayerLabels:
    """`closed_set`, and how often it finds as much when the clips' scores are shuffled.

    Args:
      activations: (clips, units) of one layer.
      scores: (clips, concepts), as `closed_set`.
      concepts: their names.
      functions: as `similarity` takes them.
      shuffles: how often; each costs what the labels cost. All units are shuffled together. 0 for none.
      seed: of the orders.
      top: how many concepts a unit has in `ClosedSet.top`.
      progress: True for a bar over all shuffles, or a function of (done, total).

    Raises:
      ValueError: as `closed_set`; fewer than 0 shuffles.
    """
    if shuffles < 0:
        raise ValueError(f"shuffles must be 0 or more, got {shuffles}")
    columns = np.asarray(scores)
    with progress_bar(1 + shuffles, "time", progress) as tick:
        found = closed_set(activations, columns, concepts, functions=functions, top=top)
        tick(1)
        best = {name: values.max(axis=1) for name, values in found.similarities.items()}
        beaten = {name: np.zeros(len(values), np.int32) for name, values in best.items()}
        drawn = np.random.default_rng(seed)
        for _ in range(shuffles):
            other = closed_set(activations, columns[drawn.permutation(len(columns))], concepts, functions=functions)
            for name, values in other.similarities.items():
                beaten[name] += best[name] > values.max(axis=1)
            tick(1)
    return LayerLabels(found, beaten, shuffles, len(columns))


@dataclasses.dataclass(frozen=True)
class UnitLabel:
    """What a unit is called by one source and function.

    Attributes:
      name: of the concept that it is most alike.
      score: how alike; not finite where the function says so.
      others: (name, score) of the next concepts, best first.
      margin: score less that of the second concept; None of a single concept or where one of them is not finite.
      beaten: of `shuffles` shuffles, how many it is above.
      shuffles: how many there were.
    """

    name: str
    score: float
    others: tuple[tuple[str, float], ...]
    margin: float | None
    beaten: int
    shuffles: int

    @property
    def above_chance(self) -> bool:
        """Whether it is above every shuffle; True where none was tried."""
        return self.beaten == self.shuffles


@dataclasses.dataclass(frozen=True, eq=False)
class Labels:
    """Labels of units of some layers.

    Attributes:
      concepts: the names that all layers have been asked about.
      layers: {layer: {source: LayerLabels}}, a source such as "DB" or "TAB".
      answers: {layer: {unit: names}}, what a language model chose, best first (ICL).
      source: that names units, by default the first of the first layer.
      function: that names units, by default `FUNCTION` where it was asked for, else the first.
      named: of the set of concepts, and what the labels were made of, for readers.
    """

    concepts: tuple[str, ...]
    layers: Mapping[str, Mapping[str, LayerLabels]]
    answers: Mapping[str, Mapping[int, tuple[str, ...]]] = dataclasses.field(default_factory=dict)
    source: str = ""
    function: str = ""
    named: str = ""

    def __post_init__(self) -> None:
        """Chooses what names units; refuses layers that were asked about other concepts, in one sentence."""
        for layer, sources in self.layers.items():
            for name, one in sources.items():
                if one.found.concepts != self.concepts:
                    raise ValueError(f"layer {layer!r} was asked about other concepts by {name}")
        if not self.sources:
            raise ValueError("there are no labels: give at least one layer with one source")
        source = self.source or self.sources[0]
        if source not in self.sources:
            raise ValueError(f"no source {source!r}; {nearest(source, self.sources)}")
        function = self.function or (FUNCTION if FUNCTION in self.functions else self.functions[0])
        if function not in self.functions:
            raise ValueError(f"no function {function!r}; {nearest(function, self.functions)}")
        object.__setattr__(self, "source", source)
        object.__setattr__(self, "function", function)

    @property
    def sources(self) -> tuple[str, ...]:
        """Of all layers."""
        return tuple(dict.fromkeys(name for sources in self.layers.values() for name in sources))

    @property
    def functions(self) -> tuple[str, ...]:
        """Of all layers and sources."""
        every = (one.found.similarities for sources in self.layers.values() for one in sources.values())
        return tuple(dict.fromkeys(name for similarities in every for name in similarities))

    def count(self, layer: str) -> int:
        """How many units of a layer have labels; 0 of a layer that was not asked about."""
        sources = self.layers.get(layer, {})
        return max((len(one.found.top[name]) for one in sources.values() for name in one.found.top), default=0)

    def best(self, layer: str, unit: int) -> UnitLabel | None:
        """By the source and function that name units; None of a unit without labels."""
        return self.of(layer, unit, self.source, self.function)

    def of(self, layer: str, unit: int, source: str, function: str) -> UnitLabel | None:
        """By any source and function; None where that was not asked."""
        one = self.layers.get(layer, {}).get(source)
        if one is None or function not in one.found.similarities or not 0 <= unit < len(one.found.top[function]):
            return None
        row = one.found.similarities[function][unit]
        ranked = [(self.concepts[place], float(row[place])) for place in one.found.top[function][unit]]
        margin = ranked[0][1] - ranked[1][1] if len(ranked) > 1 else math.nan
        return UnitLabel(
            name=ranked[0][0],
            score=ranked[0][1],
            others=tuple(ranked[1:]),
            margin=margin if math.isfinite(margin) else None,
            beaten=int(one.beaten[function][unit]),
            shuffles=one.shuffles,
        )

    def every(self, layer: str, unit: int) -> Iterator[tuple[str, str, UnitLabel]]:
        """(source, function, label) of a unit, all there are."""
        for source, one in self.layers.get(layer, {}).items():
            for function in one.found.similarities:
                label = self.of(layer, unit, source, function)
                if label is not None:
                    yield source, function, label

    def agreeing(self, layer: str, unit: int) -> tuple[int, int]:
        """How many (source, function) pairs give a unit the name that `best` gives it, of how many."""
        best = self.best(layer, unit)
        names = [label.name for _, _, label in self.every(layer, unit)]
        return (0 if best is None else names.count(best.name)), len(names)
