"""AND's released files, scored, and labelled again with our functions (`reproduce_released` reads them)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import nd_jax as nd
from nd_jax.dissect.concepts import CONCEPT_SETS
from nd_jax.dissect.language import mapped, parse_answer
from nd_jax.experiments.reproduce_released import LAST, Released, Samples, shown, tensor

Names = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Scored:
    """How true the predictions of a file are on the last layer.

    Attributes:
      file, method, target: of the predictions.
      function: of similarity, by our name; "reply" of ICL.
      found: the figures; None where no unit's class is known, for the reason in `note`.
      asked: how many names a unit was asked for, at most.
      note: what is to be known of it.
    """

    file: str
    method: str
    target: str
    function: str
    found: nd.dissect.LastLayer | None
    asked: int
    note: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Relabelled:
    """A layer of a released record, labelled with our functions.

    Attributes:
      method: "DB" or "TAB".
      target, layer: of the record.
      labels: by every function.
      truth: of the units of the last layer; of the others None.
      agreement: {function: (units with the same first name as in the released predictions, of how many)}.
    """

    method: str
    target: str
    layer: str
    labels: nd.dissect.ClosedSet
    truth: tuple[str | None, ...] | None
    agreement: Mapping[str, tuple[int, int]]


def truth_of(released: Released, target: str, units: int) -> tuple[dict[int, str], str]:
    """The classes of the last layer's units, and where they are from; none where nothing fits.

    AND's file for GTZAN numbers classes from 1 where units are numbered from 0: such numbers are moved by one.
    """
    for each in released.predictions:
        known = {one.unit: one.truth for one in each.units if one.layer == LAST and one.truth is not None}
        if each.target == target and len(known) == units:
            return known, f"the predictions in {each.path.name}"
    own = {name: dict(enumerate(found.names)) for name, found in CONCEPT_SETS.items()}
    for where, sets in (("the file", released.classes), ("the data set's own classes,", own)):
        for name, numbers in sets.items():
            if len(numbers) != units or name.casefold()[:5] not in target.casefold():
                continue
            first = min(numbers)
            if sorted(numbers) == list(range(first, first + units)) and first in (0, 1):
                moved = ", whose numbers begin at 1 and were moved by one" if first else ""
                return {number - first: text for number, text in numbers.items()}, f"{where} {name}{moved}"
    return {}, ""


def scored(released: Released, encoder: nd.dissect.TextEncoder | None = None) -> Iterator[Scored]:
    """Top-1, top-5 and cosine of all released predictions of last layers."""
    for each in released.predictions:
        last = [one for one in each.units if one.layer == LAST]
        if not last:
            continue
        known, where = truth_of(released, each.target, len(last))
        truth = [one.truth if one.truth is not None else known.get(one.unit) for one in last]
        note = f"classes from {where}" if where and any(one.truth is None for one in last) else ""
        for function in dict.fromkeys(name for one in last for name in one.names):
            names, reason = [one.names.get(function, ()) for one in last], note
            if function == "reply":
                concepts = _concepts_of(released, each.target)
                if encoder is None or not concepts:
                    reason = "replies are mapped to concepts by an encoder, and need the file of concepts"
                else:
                    names = [mapped(parse_answer(row[0]) if row else (), concepts, encoder) for row in names]
            found = None
            if any(name is not None for name in truth) and not (function == "reply" and reason != note):
                found = nd.dissect.last_layer_of_names(names, truth, encoder)
            elif not reason:
                reason = "the class of no unit is known: add AND's data/network_class to the folder"
            asked = max(map(len, names))
            yield Scored(shown(each.path.name), each.method, each.target, function, found, asked, reason)


def relabelled(
    released: Released, encode: Any, reasons: dict[str, str], progress: bool = False
) -> Iterator[Relabelled]:
    """TAB from the released embeddings, DB from the released captions, of every layer whose activations are there.

    Args:
      released: what is read.
      encode: texts -> an encoder of them, for DB.
      reasons: {what: why}, what could not be done is added to it.
      progress: whether a bar is drawn.
    """
    targets = dict.fromkeys([*released.activations, *_of_samples(released)])
    for target, probing in targets:
        layers = {layer: str(path) for layer, path in released.activations.get((target, probing), {}).items()}
        for method, make in (("TAB", _tab), ("DB", _db)):
            what = f"{method} of {target}"
            try:
                scores, names, rows = make(released, target, probing, encode)
            except ValueError as error:
                reasons[what] = str(error)
                continue
            with nd.runtime.progress_bar(max(len(layers), 1), "layer", progress) as tick:
                for layer in layers or [LAST]:
                    try:
                        yield _labelled(released, method, target, probing, layer, scores, names, rows)
                    except ValueError as error:
                        reasons[f"{what}, {layer}"] = str(error)
                    tick(1)


def _labelled(
    released: Released,
    method: str,
    target: str,
    probing: str,
    layer: str,
    scores: np.ndarray,
    names: Names,
    rows: np.ndarray | None,
) -> Relabelled:
    path = released.activations.get((target, probing), {}).get(layer)
    activations = tensor(path) if path is not None else _matrix(_samples(released, target))[1]
    if rows is not None:
        activations = activations[rows]
    labels = nd.dissect.closed_set(activations, scores, names)
    truth = None
    if layer == LAST:
        known, _ = truth_of(released, target, activations.shape[1])
        truth = tuple(known.get(unit) for unit in range(activations.shape[1])) if known else None
    return Relabelled(method, target, layer, labels, truth, _agreement(released, method, target, layer, labels))


def _agreement(
    released: Released, method: str, target: str, layer: str, labels: nd.dissect.ClosedSet
) -> dict[str, tuple[int, int]]:
    found: dict[str, list[int]] = {}
    for each in released.predictions:
        if (each.method, each.target) != (method, target):
            continue
        for one in each.units:
            for function, names in one.names.items():
                if one.layer == layer and function in labels.top and one.unit < len(labels.top[function]):
                    count = found.setdefault(function, [0, 0])
                    count[0] += labels.names(function, one.unit)[0] == names[0]
                    count[1] += 1
    return {function: (same, of) for function, (same, of) in found.items()}


def _concepts_of(released: Released, target: str) -> Names:
    """The concepts that a target was asked about: the file named like its data set."""
    for sets in (released.concepts, released.classes, {name: each.names for name, each in CONCEPT_SETS.items()}):
        for name, found in sets.items():
            if name.casefold()[:5] in target.casefold():
                return tuple(found.values()) if isinstance(found, dict) else tuple(found)
    return ()


def _tab(released: Released, target: str, probing: str, _: Any) -> tuple[np.ndarray, Names, None]:
    """Cosines of the released embeddings of clips and concepts; clips are in the order of the activations."""
    if probing not in released.sounds or not released.texts:
        raise ValueError(f"there is no audio_{probing}.pt, or no text_*.pt, with CLAP's embeddings")
    sounds = tensor(released.sounds[probing])
    for name, path in released.texts.items():
        texts = tensor(path)
        names = released.concepts.get(name, ())
        if len(names) == len(texts):
            return nd.dissect.tab_scores(sounds, texts), names, None
    name, path = next(iter(released.texts.items()))
    raise ValueError(
        f"{path.name} does not say which concepts its {len(tensor(path))} rows are: add AND's "
        f"data/concept_set/{name}.txt to the folder, in its own order"
    )


def _db(released: Released, target: str, probing: str, encode: Any) -> tuple[np.ndarray, Names, np.ndarray]:
    """DB's scores of the clips that have captions, and which rows of the activations these are."""
    if probing not in released.captions:
        raise ValueError(f"there is no salmon_{probing}.json with the captions")
    files = _rows_named(released, target, probing)
    concepts = _concepts_of(released, target)
    if not concepts:
        raise ValueError("there is no file of concepts for it: add AND's data/concept_set to the folder")
    captions = nd.dissect.captions_of(files, {file: (text,) for file, text in released.captions[probing].items()})
    plain = [name.replace("_", " ") for name in concepts]
    encoder = encode([*(text for texts in captions.texts for text in texts), *plain])
    return nd.dissect.db_scores(captions.embed(encoder), encoder.encode(plain)), concepts, captions.rows


def _of_samples(released: Released) -> list[tuple[str, str]]:
    """(target, probing) of the samples that hold a whole last layer."""
    found = []
    for each in released.samples:
        parts = each.path.stem.split("_")
        if len(parts) >= 3 and each.layer(LAST):
            found.append((parts[0], parts[1]))
    return found


def _samples(released: Released, target: str) -> Samples:
    for each in released.samples:
        if each.path.stem.split("_")[0] == target and each.layer(LAST):
            return each
    raise ValueError("there is no file of samples with all clips of its last layer, which names the clips")


def _matrix(samples: Samples) -> tuple[Names, np.ndarray]:
    """Names of the clips and the last layer's activations (clips, units), which samples hold in full."""
    units = samples.layer(LAST)
    files = tuple(sorted(units[0][0])) if 0 in units else ()
    place = {file: row for row, file in enumerate(files)}
    if sorted(units) != list(range(len(units))) or len(place) < len(files):
        raise ValueError(f"{samples.path.name} does not have all units of the last layer, with each clip once")
    values = np.zeros((len(files), len(units)), np.float32)
    for unit, (names, numbers) in units.items():
        if sorted(names) != list(files):
            raise ValueError(f"{samples.path.name}: fc#{unit} has other clips than fc#0, not all of them")
        values[[place[name] for name in names], unit] = numbers
    return files, values


def _rows_named(released: Released, target: str, probing: str) -> Sequence[str]:
    """The file of each row of the activations: rows and samples have the same numbers in the last layer."""
    files, values = _matrix(_samples(released, target))
    path = released.activations.get((target, probing), {}).get(LAST)
    if path is None:
        return files
    rows = tensor(path)
    if rows.shape != values.shape:
        raise ValueError(f"{path.name} is {rows.shape}, but the samples have {values.shape} numbers")
    order = np.lexsort(rows.T[::-1]), np.lexsort(values.T[::-1])
    if not np.allclose(rows[order[0]], values[order[1]], rtol=1e-4, atol=1e-5):
        raise ValueError(f"the numbers of {path.name} are not those of the samples, so that rows have no names")
    named = np.empty(len(files), object)
    named[order[0]] = [files[row] for row in order[1]]
    return [str(name) for name in named]


def as_released(found: Sequence[Relabelled], method: str, target: str) -> dict[str, Any]:
    """Labels in the form of AND's own prediction files, {layer#unit: {function: {"gt", "prediction"}}}."""
    told: dict[str, Any] = {}
    for each in found:
        if (each.method, each.target) != (method, target):
            continue
        for unit in range(len(next(iter(each.labels.top.values())))):
            truth = each.truth[unit] if each.truth is not None else None
            told[f"{each.layer}#{unit}"] = {
                function: {"gt": truth, "prediction": list(each.labels.names(function, unit))}
                for function in each.labels.top
            }
    return told
