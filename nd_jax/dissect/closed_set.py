"""Labels from a closed set of concepts: what clips have of concepts, which concept a unit is most alike, is it true.

After AND (Wu et al. 2024, arXiv 2406.16990), module A. What its two scores need are embeddings, from wherever they
come: DB compares captions of the clips with concept names in the space of a text encoder, TAB the sounds themselves
with the names in the space of an encoder of both. All clips count for every unit (AND's DB has 5 for hidden layers),
and all units of a layer are asked about together (AND's DB goes one by one, where soft-WPMI gives zeros).
"""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from nd_jax.dissect.similarity import similarity


@runtime_checkable
class TextEncoder(Protocol):
    """What turns texts into vectors."""

    def encode(self, texts: list[str]) -> np.ndarray:
        """Embeddings (n, d) of n texts, of any norm; the same text has the same embedding whatever stands beside it."""
        ...


def tab_scores(sounds: Any, concepts: Any) -> np.ndarray:
    """TAB's P: the cosine of each sound's and each concept's embedding.

    Args:
      sounds: (clips, d), of any norm.
      concepts: (concepts, d), of any norm.

    Returns:
      (clips, concepts) float32 in [-1, 1].

    Raises:
      ValueError: embeddings that do not fit, are not finite or are zero, with the row.
    """
    return (_unit("sounds", sounds) @ _unit("concepts", concepts, np.shape(sounds)).T).astype(np.float32)


def db_scores(captions: Any, concepts: Any, *, scale: float = 100.0) -> np.ndarray:
    """DB's P: the softmax over concepts of `scale` times the cosine of each clip's caption and each concept.

    Args:
      captions: (clips, d), embeddings of the captions, of any norm.
      concepts: (concepts, d), of the names.
      scale: as CLIP scales its cosines.

    Returns:
      (clips, concepts) float32; rows sum to 1.

    Raises:
      ValueError: as `tab_scores`.
    """
    scaled = scale * (_unit("captions", captions) @ _unit("concepts", concepts, np.shape(captions)).T)
    shares = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class ClosedSet:
    """Labels of some units by several similarity functions.

    Attributes:
      concepts: their names.
      similarities: {function: (units, concepts) float32}.
      top: {function: (units, k) int}: the concepts that each unit is most alike, best first; of equals the first named.
    """

    concepts: tuple[str, ...]
    similarities: Mapping[str, np.ndarray]
    top: Mapping[str, np.ndarray]

    def names(self, function: str, unit: int) -> tuple[str, ...]:
        """The names of a unit's most alike concepts, best first."""
        return tuple(self.concepts[concept] for concept in self.top[function][unit])

    def last_layer(self, truth: Sequence[str | None], encoder: TextEncoder | None = None) -> dict[str, LastLayer]:
        """`last_layer` of every function, {function: figures}; the mean cosine needs an encoder of names.

        Raises:
          ValueError: as `last_layer`.
        """
        embedded = {}
        if encoder is not None:
            texts = sorted({*self.concepts, *(name for name in truth if name is not None)})
            embedded = dict(zip(texts, np.asarray(encoder.encode(texts)), strict=True))
        found = {}
        for function, scores in self.similarities.items():
            ours = np.stack([embedded[name] for name in self.concepts]) if embedded else None
            filled = [name if name is not None else self.concepts[0] for name in truth]
            theirs = np.stack([embedded[name] for name in filled]) if embedded else None
            found[function] = last_layer(scores, self.concepts, truth, ours, theirs)
        return found


@dataclasses.dataclass(frozen=True)
class LastLayer:
    """How true the labels of units are whose concept is known (AND, Table 2).

    Attributes:
      units: how many units count: those with a known concept.
      top1, top5: share of them whose concept is the most alike, or among the five most alike.
      cosine: mean cosine of the embeddings of the most alike concept's name and the true one; None without embeddings.
      cosines: of each unit that counts.
    """

    units: int
    top1: float
    top5: float
    cosine: float | None
    cosines: tuple[float, ...] | None = None


def closed_set(
    activations: Any, scores: Any, concepts: Sequence[str], *, functions: Any = "all", top: int = 5, **options: Any
) -> ClosedSet:
    """The most alike concepts of every unit, by every similarity function.

    Args:
      activations: (clips, units) of one layer.
      scores: (clips, concepts) from `db_scores`, `tab_scores` or anything else that says how much a clip has of one.
      concepts: names, as many as scores has columns, all different.
      functions: as `similarity` takes them; by default all.
      top: how many concepts a unit has in `ClosedSet.top`, as far as there are any.
      **options: of `similarity`: key, chunk_size, progress.

    Raises:
      ValueError: no concepts, names that occur twice or do not fit the scores, and what `similarity` refuses.
    """
    names = concept_names(concepts)
    columns = np.shape(scores)[-1] if np.ndim(scores) == 2 else None
    if columns != len(names):
        raise ValueError(f"{len(names)} concepts, but scores of shape {np.shape(scores)}: one column a concept")
    if top < 1:
        raise ValueError(f"top must be 1 or more, got {top}")
    if isinstance(functions, str) and functions != "all":
        functions = [functions]
    found = similarity(activations, scores, functions, **options)
    found = found if isinstance(found, dict) else {functions.name: found}
    return ClosedSet(names, found, {name: _most(values, top) for name, values in found.items()})


def concept_names(concepts: Sequence[str]) -> tuple[str, ...]:
    """Names without white space around them.

    Raises:
      ValueError: none, one that is empty or has a control character, or one that occurs twice, with its places.
    """
    if isinstance(concepts, str) or not all(isinstance(name, str) for name in concepts):
        raise ValueError(f"concepts must be a list of names, got {concepts!r}")
    names = tuple(name.strip() for name in concepts)
    if not names:
        raise ValueError("the set of concepts is empty: give at least one name")
    first: dict[str, int] = {}
    for place, name in enumerate(names):
        if not name.strip("_ "):
            raise ValueError(f"concept {place + 1} of {len(names)} has no name")
        if any(unicodedata.category(letter) == "Cc" for letter in name):
            raise ValueError(f"concept {place + 1}, {name!r}, has a line break or another control character")
        if name in first:
            raise ValueError(f"concept {place + 1}, {name!r}, is concept {first[name] + 1} already: name each once")
        first[name] = place
    return names


def last_layer(
    similarities: Any,
    concepts: Sequence[str],
    truth: Sequence[str | None],
    concept_embeddings: Any = None,
    truth_embeddings: Any = None,
) -> LastLayer:
    """Compares labels with the known concepts of units, such as a classifier's classes.

    Args:
      similarities: (units, concepts).
      concepts: names, one a column. "_" and " ", capitals and small letters are the same.
      truth: the concept of each unit, or None for units that do not count.
      concept_embeddings: (concepts, d), of the names, of any norm.
      truth_embeddings: (units, d); rows of units that do not count are not looked at.

    Raises:
      ValueError: sizes that do not fit, no unit that counts, or a true name that is not among the concepts.
    """
    values = np.asarray(similarities)
    if values.ndim != 2 or values.shape != (len(truth), len(concepts)):
        raise ValueError(f"similarities are {values.shape}, for {len(truth)} units and {len(concepts)} concepts")
    places = {_plain(name): place for place, name in enumerate(concepts)}
    counted = [unit for unit, name in enumerate(truth) if name is not None]
    if not counted:
        raise ValueError("no unit has a known concept")
    wanted = []
    for unit in counted:
        name = _plain(str(truth[unit]))
        if name not in places:
            raise ValueError(f"unit {unit} stands for {truth[unit]!r}, which is not among the {len(concepts)} concepts")
        wanted.append(places[name])
    best = _most(values[counted], 5)
    hits = best == np.array(wanted)[:, None]
    cosines = None
    if concept_embeddings is not None and truth_embeddings is not None:
        ours = _unit("concept_embeddings", concept_embeddings)[best[:, 0]]
        theirs = _unit("truth_embeddings", np.asarray(truth_embeddings)[counted], np.shape(concept_embeddings))
        cosines = (ours * theirs).sum(axis=1)
    return _figures(hits[:, 0], hits.any(axis=1), cosines)


def last_layer_of_names(
    predictions: Sequence[Sequence[str]], truth: Sequence[str | None], encoder: TextEncoder | None = None
) -> LastLayer:
    """`last_layer` of labels that are names: what a language model answered, what a file holds.

    Args:
      predictions: the names of each unit, best first, the first five count; none is wrong, with a cosine of 0.
      truth: the concept of each unit, or None for units that do not count.
      encoder: of names; None for no cosines.

    Raises:
      ValueError: sizes that do not fit, no unit that counts, or an encoder that gives rows that do not fit.
    """
    if len(predictions) != len(truth):
        raise ValueError(f"{len(predictions)} predictions for {len(truth)} units")
    counted = [(list(names)[:5], true) for names, true in zip(predictions, truth, strict=True) if true is not None]
    if not counted:
        raise ValueError("no unit has a known concept")
    wanted = [_plain(true) for _, true in counted]
    found = [[_plain(name) for name in names] for names, _ in counted]
    first = np.array([names[:1] == [true] for names, true in zip(found, wanted, strict=True)])
    among = np.array([true in names for names, true in zip(found, wanted, strict=True)])
    cosines = None
    if encoder is not None:
        texts = sorted({text for names, true in counted for text in (*names[:1], true)})
        rows = _unit("names", encoder.encode(texts))
        if len(rows) != len(texts):
            raise ValueError(f"the encoder gave {len(rows)} embeddings for {len(texts)} names")
        at = dict(zip(texts, rows, strict=True))
        cosines = np.array([at[names[0]] @ at[true] if names else 0.0 for names, true in counted])
    return _figures(first, among, cosines)


def _figures(first: np.ndarray, among: np.ndarray, cosines: np.ndarray | None) -> LastLayer:
    each = None if cosines is None else tuple(map(float, cosines))
    mean = None if each is None else float(np.mean(each))
    return LastLayer(len(first), float(first.mean()), float(among.mean()), mean, each)


def confidence(scores: Any, kind: str = "max", alike: Any = None) -> np.ndarray:
    """How sure a unit's label is, of its similarities to all concepts (four ways, from AND's code).

    Args:
      scores: (units, concepts).
      kind: "max"; "max_minus_second"; "max_minus_others", 2 max - sum; "max_minus_alike", the largest less the others
        weighted by how alike each concept is to that of the largest.
      alike: (concepts, concepts), for "max_minus_alike".

    Returns:
      (units,) float32.

    Raises:
      ValueError: an unknown kind, fewer than two concepts, or `alike` of another shape or missing.
    """
    values = np.asarray(scores, np.float32)
    if values.ndim != 2 or values.shape[1] < 2:
        raise ValueError(f"scores must be (units, concepts) with two concepts or more, got {values.shape}")
    largest = values.max(axis=1)
    if kind == "max":
        return largest
    if kind == "max_minus_second":
        return largest - np.partition(values, -2, axis=1)[:, -2]
    if kind == "max_minus_others":
        return 2 * largest - values.sum(axis=1)
    if kind != "max_minus_alike":
        raise ValueError(
            f"kind must be 'max', 'max_minus_second', 'max_minus_others' or 'max_minus_alike', got {kind!r}"
        )
    weights = np.zeros((0, 0)) if alike is None else np.asarray(alike, np.float32)
    if weights.shape != (values.shape[1],) * 2:
        raise ValueError(f"alike must be {(values.shape[1],) * 2}, got {weights.shape}")
    winner = values.argmax(axis=1)
    penalty = (values * weights[winner]).sum(axis=1) - largest * weights[winner, winner]
    return largest - penalty


def _most(values: np.ndarray, count: int) -> np.ndarray:
    return np.argsort(-values, axis=1, kind="stable")[:, :count]


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def _unit(what: str, embeddings: Any, like: tuple[int, ...] | None = None) -> np.ndarray:
    """Rows of norm 1, float64."""
    values = np.asarray(embeddings, np.float64)
    if values.ndim != 2 or 0 in values.shape or (like is not None and len(like) == 2 and values.shape[1] != like[1]):
        wanted = "(n, d)" if like is None else f"(n, {like[-1]}), as long as the others"
        raise ValueError(f"{what} must be embeddings {wanted}, got shape {values.shape}")
    norm = np.linalg.norm(values, axis=1, keepdims=True)
    broken = np.flatnonzero(~(np.isfinite(norm[:, 0]) & (norm[:, 0] > 0)))
    if len(broken):
        raise ValueError(f"{what}: row {broken[0]} is zero or not finite, and has no direction")
    return values / norm
