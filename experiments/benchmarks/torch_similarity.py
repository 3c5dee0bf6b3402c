"""The other side of `benchmark_dissect.py`: the similarity functions in PyTorch, in two ways.

  own_way      as the published code of AND and CLIP-Dissect goes about it: top clips at once, then unit after unit
  vectorised   many units in one batch of tensor operations, as much as fits, each only as much as is needed

Both take activations (clips, units) and scores (clips, concepts) and give (units, concepts). Parameters are the
published ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

_FRACTION = 0.05
_CHUNK = 1024


def own_way(function: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """One of the five functions, unit by unit where the published code is."""
    return {
        "cosine": _cosine,
        "cosine_cubed": _cubed,
        "rank_reorder": _reorder_one_by_one,
        "wpmi": _wpmi_one_by_one,
        "soft_wpmi": _soft_wpmi_one_by_one,
    }[function]


def vectorised(function: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """One of the five functions for chunks of units."""
    return {
        "cosine": _cosine,
        "cosine_cubed": _cubed,
        "rank_reorder": _reorder,
        "wpmi": _wpmi,
        "soft_wpmi": _soft_wpmi,
    }[function]


def _cosine(activations: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    scores = scores / scores.norm(dim=0, keepdim=True)
    activations = activations / activations.norm(dim=0, keepdim=True)
    return activations.T @ scores


def _cubed(activations: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    def cubes(values: torch.Tensor) -> torch.Tensor:
        values = (values - values.mean(dim=0, keepdim=True)) ** 3
        return values / values.norm(dim=0, keepdim=True).clip(1e-3)

    return cubes(activations).T @ cubes(scores)


def _less_prior(likelihood: torch.Tensor, lam: float) -> torch.Tensor:
    prior = likelihood.logsumexp(dim=0, keepdim=True) - math.log(len(likelihood))
    return likelihood - lam * prior


def _member(count: int) -> torch.Tensor:
    return 0.998 - torch.arange(count) / count * (0.998 - 0.97)


# --- unit by unit ----------------------------------------------------------------------------------------------------


def _wpmi_one_by_one(activations: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    shares = torch.softmax(2 * scores, dim=1)
    best = torch.topk(activations, k=28, dim=0)[1]
    found = []
    for unit in range(activations.shape[1]):
        held = shares.gather(0, best[:, unit : unit + 1].expand(-1, shares.shape[1]))
        found.append(torch.log(held + 1e-7).sum(dim=0, keepdim=True))
    return _less_prior(torch.cat(found), 0.6)


def _soft_wpmi_one_by_one(activations: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    shares = torch.softmax(10 * scores, dim=1)
    count = min(100, len(activations))
    best = torch.topk(activations, k=count, dim=0)[1]
    member = _member(count)[:, None]
    found = []
    for unit in range(activations.shape[1]):
        held = shares.gather(0, best[:, unit : unit + 1].expand(-1, shares.shape[1]))
        found.append(torch.log(1 + member * (held - 1) + 1e-7).sum(dim=0, keepdim=True))
    return _less_prior(torch.cat(found), 1.0)


def _reorder_one_by_one(activations: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    count = int(len(activations) * _FRACTION)
    values, best = torch.topk(activations, k=count, dim=0)
    found = []
    for unit in range(values.shape[1]):
        held = scores.gather(0, best[:, unit : unit + 1].expand(-1, scores.shape[1]))
        mean = torch.relu(held.mean(dim=0, keepdim=True))
        ranks = torch.argsort(torch.argsort(held, dim=0), dim=0)
        target = values[:, unit : unit + 1]
        ascending = target.flip(0)
        random = torch.cat([ascending[torch.randperm(count)] for _ in range(5)], dim=1)
        baseline = ((ascending - random).abs() ** 3).mean()
        difference = target - ascending.expand(-1, ranks.shape[1]).gather(0, ranks)
        found.append((difference.abs() ** 3).nanmean(dim=0, keepdim=True) / baseline / mean**0.5)
    return -torch.cat(found)


# --- many units ------------------------------------------------------------------------------------------------------


def _chunked(
    activations: torch.Tensor, each: Callable[[torch.Tensor], torch.Tensor], size: int = _CHUNK
) -> torch.Tensor:
    return torch.cat([each(part) for part in activations.split(size, dim=1)])


def _wpmi(activations: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    # A sum of a table's rows is what `embedding_bag` is for.
    table = torch.log(torch.softmax(2 * scores, dim=1) + 1e-7)

    def each(part: torch.Tensor) -> torch.Tensor:
        best = torch.topk(part.T.contiguous(), k=28, dim=1, sorted=False)[1]
        return torch.nn.functional.embedding_bag(best, table, mode="sum")

    return _less_prior(_chunked(activations, each), 0.6)


def _soft_wpmi(activations: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    shares = torch.softmax(10 * scores, dim=1)
    count = min(100, len(activations))
    member = _member(count)[None, :, None]

    def each(part: torch.Tensor) -> torch.Tensor:
        best = torch.topk(part.T.contiguous(), k=count, dim=1)[1]
        held = torch.nn.functional.embedding(best, shares)
        return held.sub_(1).mul_(member).add_(1 + 1e-7).log_().sum(dim=1)

    return _less_prior(_chunked(activations, each, 256), 1.0)


def _reorder(activations: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    count = int(len(activations) * _FRACTION)

    def each(part: torch.Tensor) -> torch.Tensor:
        values, best = torch.topk(part.T.contiguous(), k=count, dim=1)
        held = scores[best].transpose(1, 2).contiguous()
        mean = torch.relu(held.mean(dim=2))
        order = torch.argsort(held, dim=2)
        ranks = torch.empty_like(order).scatter_(2, order, torch.arange(count).expand_as(order))
        ascending = values.flip(1)
        random = torch.rand(len(values), 5, count).argsort(dim=2)
        shuffled = ascending[:, None].expand(-1, 5, -1).gather(2, random)
        baseline = ((ascending[:, None] - shuffled).abs() ** 3).mean(dim=(1, 2))
        reordered = ascending[:, None].expand_as(ranks).gather(2, ranks)
        error = ((values[:, None] - reordered).abs() ** 3).mean(dim=2)
        return -error / baseline[:, None] / mean**0.5

    return _chunked(activations, each, 256)
