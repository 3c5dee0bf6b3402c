"""Where AND's own way has no answer, beside ours; and how wrong captions may be before the labels of a last layer are.

`published` are the similarity functions of AND as its code calls them for DB: a unit alone, with the clips that are
stored for it. The last layer has all clips stored, a hidden layer the five strongest ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import nd_jax as nd
from nd_jax.dissect import FUNCTIONS, RankReorder
from nd_jax.experiments.reproduce_s3_rows import STRONGEST, Encode, Probing, class_scores, figures

WRONG = (0.0, 0.25, 0.5, 0.75, 0.9)
"""Shares of captions with another class's name; of ten classes, 0.9 is a captioner that draws names."""
_REPEATS = 10
_EQUAL = 1e-5


def published(function: str, activation: np.ndarray, scores: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Similarity of one unit to every concept in the way of AND's code, which may be NaN.

    Args:
      function: one of `nd.dissect.FUNCTIONS`.
      activation: (clips,).
      scores: (clips, concepts).
      draw: of the five random orders of rank reorder.

    Returns:
      (concepts,) float32.
    """
    u, v = activation.astype(np.float32), scores.astype(np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _WAYS[function](u, v, draw)


def _cosine(u: np.ndarray, v: np.ndarray, _: Any) -> np.ndarray:
    return (u / np.linalg.norm(u)) @ (v / np.linalg.norm(v, axis=0))


def _cosine_cubed(u: np.ndarray, v: np.ndarray, _: Any) -> np.ndarray:
    u, v = (u - u.mean()) ** 3, (v - v.mean(axis=0)) ** 3
    return (u / max(np.linalg.norm(u), 1e-3)) @ (v / np.maximum(np.linalg.norm(v, axis=0), np.float32(1e-3)))


def _information(a: float, top_k: int, lam: float, member: Callable[[int], np.ndarray] | None) -> Any:
    def way(u: np.ndarray, v: np.ndarray, _: Any) -> np.ndarray:
        shares = np.exp(a * v - (a * v).max(axis=1, keepdims=True))
        shares = shares / shares.sum(axis=1, keepdims=True)
        held = shares[np.argsort(-u, kind="stable")[:top_k]]
        if member is not None:
            held = 1 + member(len(held))[:, None] * (held - 1)
        likelihood = np.log(held + np.float32(1e-7)).sum(axis=0)
        # The mean over the units that are asked about, of which there is one.
        prior = np.log(np.exp(likelihood - likelihood).mean(axis=0, keepdims=True)) + likelihood
        return likelihood - np.float32(lam) * prior

    return way


def _member(count: int) -> np.ndarray:
    return (0.998 - np.arange(count) / count * (0.998 - 0.97)).astype(np.float32)


def _rank_reorder(u: np.ndarray, v: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    count = int(0.05 * len(u))
    if not count:
        # The mean of no numbers.
        return np.full(v.shape[1], np.nan, np.float32)
    best = np.argsort(-u, kind="stable")[:count]
    descending, held = u[best], v[best]
    ascending = descending[::-1]
    orders = np.stack([draw.permutation(count) for _ in range(5)])
    baseline = (np.abs(ascending - ascending[orders]) ** 3).mean()
    error = (np.abs(descending[:, None] - ascending[np.argsort(held, axis=0, kind="stable")]) ** 3).mean(axis=0)
    return -error / baseline / np.maximum(held.mean(axis=0), 0) ** 0.5


_WAYS: dict[str, Callable[[np.ndarray, np.ndarray, Any], np.ndarray]] = {
    "cosine": _cosine,
    "cosine_cubed": _cosine_cubed,
    "rank_reorder": _rank_reorder,
    "wpmi": _information(2, 28, 0.6, None),
    "soft_wpmi": _information(10, 100, 1, _member),
}


def published_ways(probing: Probing, concepts: nd.dissect.ConceptSet, encode: Encode) -> dict[str, Any]:
    """AND's way and ours on the last layer, with captions that are the class's name; JSON-ready.

    Returns:
      {"all clips": {function: {"published", "ours"}}, "strongest": the same with each unit's five strongest clips,
      "rank_orders": {"argsort", "ranks"}}; each way has its figures and how many units have no best concept, because
      all concepts are alike to them or are not numbers.
    """
    scores = class_scores(probing, concepts, encode)[probing.category]
    best = np.argsort(-probing.activations, axis=0, kind="stable")[:STRONGEST]
    columns = probing.activations.T
    ours = nd.dissect.similarity(probing.activations, scores, "all")
    few = [
        nd.dissect.similarity(column[clips, None], scores[clips], "all")
        for column, clips in zip(columns, best.T, strict=True)
    ]
    found: dict[str, Any] = {"all clips": {}, "strongest": {}, "rank_orders": {}}
    for function in FUNCTIONS:
        draw = np.random.default_rng(0)
        alone = [published(function, column, scores, draw) for column in columns]
        strongest = [
            published(function, column[clips], scores[clips], draw)
            for column, clips in zip(columns, best.T, strict=True)
        ]
        found["all clips"][function] = {
            "published": _judged(np.stack(alone), probing, concepts),
            "ours": _judged(ours[function], probing, concepts),
        }
        found["strongest"][function] = {
            "published": _judged(np.stack(strongest), probing, concepts),
            "ours": _judged(np.concatenate([each[function] for each in few]), probing, concepts),
        }
    for order in ("argsort", "ranks"):
        values = nd.dissect.similarity(probing.activations, scores, RankReorder(order=order))  # type: ignore[arg-type]
        found["rank_orders"][order] = _judged(values, probing, concepts)
    return found


def _judged(values: np.ndarray, probing: Probing, concepts: nd.dissect.ConceptSet) -> dict[str, Any]:
    """Figures of the units, of which those without a best concept are called nothing."""
    names = []
    for row in values:
        known = np.where(np.isnan(row), -np.inf, row)
        first, second = np.partition(known, -2)[-2:][::-1] if len(row) > 1 else (known[0], -np.inf)
        if not np.isfinite(first) or first - second <= _EQUAL * max(abs(float(first)), 1e-3):
            names.append(())
            continue
        names.append(tuple(concepts.names[place] for place in np.argsort(-known, kind="stable")[:5]))
    told = figures(nd.dissect.last_layer_of_names(names, probing.truth(concepts)))
    return {**told, "undecided": sum(not each for each in names)}


def wrong_captions(probing: Probing, concepts: nd.dissect.ConceptSet, encode: Encode) -> list[dict[str, Any]]:
    """Top-1 of the last layer when a share of the captions names another class, by every function; JSON-ready."""
    classes = len(probing.classes)
    of_class = class_scores(probing, concepts, encode)
    draw = np.random.default_rng(0)
    found = []
    for share in WRONG:
        top1: dict[str, list[float]] = {function: [] for function in FUNCTIONS}
        for _ in range(_REPEATS if share else 1):
            wrong = draw.random(len(probing.names)) < share
            moved = (probing.category + draw.integers(1, classes, len(wrong))) % classes
            labels = nd.dissect.closed_set(
                probing.activations, of_class[np.where(wrong, moved, probing.category)], concepts.names
            )
            for function, each in labels.last_layer(probing.truth(concepts)).items():
                top1[function].append(each.top1)
        told = {
            name: {"mean": float(np.mean(each)), "least": min(each), "most": max(each)} for name, each in top1.items()
        }
        found.append({"wrong": share, "repeats": _REPEATS if share else 1, "top1": told})
    return found
