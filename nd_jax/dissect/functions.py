"""The similarity functions between a unit's activations and a concept's scores, and what each can be told.

From CLIP-Dissect (Oikarinen and Weng 2023, arXiv 2204.10965), as AND (Wu et al. 2024, arXiv 2406.16990) uses them.
u is a unit's activation on N clips, v_j what the clips have of concept j, P the matrix (clips, concepts) of all v_j.
Parameters have the names of the published code.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from nd_jax.runtime import nearest


@dataclasses.dataclass(frozen=True)
class Cosine:
    """u . v / (|u| |v|). A unit or concept that is zero on all clips has 0, where the published code has NaN."""

    name: ClassVar[str] = "cosine"


@dataclasses.dataclass(frozen=True)
class CosineCubed:
    """The cosine of (u - mean)^3 and (v - mean)^3; norms below `min_norm` count as `min_norm`.

    A constant unit has 0.
    """

    name: ClassVar[str] = "cosine_cubed"
    min_norm: float = 1e-3

    def __post_init__(self) -> None:
        _check(self, self.min_norm > 0, "min_norm", "above 0")


@dataclasses.dataclass(frozen=True)
class RankReorder:
    """How badly the ranking by v orders the top clips of u, beside a random order; 0 is a perfect order, -1 none.

    With n the `top_fraction` of the clips (at least 2, where there are 2: the published code has 0 of 5 clips and gives
    NaN), t the n highest activations and r the rank of each of these clips by v:
    -mean|t - t in the order of r|^p / mean|t - t in random order|^p / mean(v)^scale_p.

    The mean over random orders is exact, over all of them, unless `similarity` is given a key (then over `permutations`
    random ones, as the published code has it) or the permutations. A concept whose mean on the top clips is not
    positive has -inf (CLIP-Dissect: NaN); a unit that is constant on them is taken for one in random order (NaN there).

    Attributes:
      top_fraction: share of the clips, above 0 and at most 1.
      p: power of the differences, above 0.
      scale_p: power of the concept's mean, 0 or more.
      order: "ranks" is CLIP-Dissect's. "argsort" is AND's, which sorts once where ranks take sorting twice, and so
        compares with the inverse of the order that is meant: there to repeat its numbers.
      permutations: how many random orders a unit has with a key.
    """

    name: ClassVar[str] = "rank_reorder"
    top_fraction: float = 0.05
    p: float = 3
    scale_p: float = 0.5
    order: Literal["ranks", "argsort"] = "ranks"
    permutations: int = 5

    def __post_init__(self) -> None:
        _check(self, 0 < self.top_fraction <= 1, "top_fraction", "above 0 and at most 1")
        _check(self, 0 < self.p < math.inf, "p", "above 0")
        _check(self, 0 <= self.scale_p < math.inf, "scale_p", "0 or more")
        _check(self, self.order in ("ranks", "argsort"), "order", "'ranks' or 'argsort'")
        _check(self, self.permutations >= 1, "permutations", "1 or more")

    def clips(self, count: int) -> int:
        """How many of so many clips are the top ones."""
        return max(int(count * self.top_fraction), min(2, count))


@dataclasses.dataclass(frozen=True)
class WPMI:
    """Weighted pointwise mutual information: log p(v_j | u) - lam log p(v_j), with Q = softmax over concepts of a P.

    log p(v_j | u) is the sum of log(Q + min_prob) over the `top_k` clips of u (all, where there are fewer), p(v_j) its
    mean over the units given: scores depend on which units are asked about together. Of a single unit it is that unit's
    own likelihood, and with lam 1 every score would be zero: there the prior is left out (lam below 1 keeps it, which
    only scales).
    """

    name: ClassVar[str] = "wpmi"
    top_k: int = 28
    a: float = 2
    lam: float = 0.6
    min_prob: float = 1e-7

    def __post_init__(self) -> None:
        _check_information(self)

    def clips(self, count: int) -> int:
        """How many of so many clips are the top ones."""
        return min(self.top_k, count)


@dataclasses.dataclass(frozen=True)
class SoftWPMI:
    """WPMI with clips that belong to the unit's set by probability: p_r = p_start - r / top_k (p_start - p_end).

    log p(v_j | u) is the sum over the `top_k` clips of u, r = 0 the strongest, of
    log(1 + p_r (Q - 1) + min_prob). Otherwise as `WPMI`.
    """

    name: ClassVar[str] = "soft_wpmi"
    top_k: int = 100
    a: float = 10
    lam: float = 1
    min_prob: float = 1e-7
    p_start: float = 0.998
    p_end: float = 0.97

    def __post_init__(self) -> None:
        _check_information(self)
        for name in ("p_start", "p_end"):
            _check(self, 0 <= getattr(self, name) <= 1, name, "between 0 and 1")

    def clips(self, count: int) -> int:
        """How many of so many clips are the top ones."""
        return min(self.top_k, count)


Function = Cosine | CosineCubed | RankReorder | WPMI | SoftWPMI
FUNCTIONS: dict[str, type[Function]] = {kind.name: kind for kind in (Cosine, CosineCubed, RankReorder, WPMI, SoftWPMI)}


def resolved(asked: Any, parameters: dict[str, Any]) -> tuple[dict[str, Function], bool]:
    """Functions by name, and whether one was asked for rather than several.

    Raises:
      ValueError: an unknown function or parameter, with the nearest names; a value that is out of range; the same
        function twice; parameters for several functions.
    """
    one = isinstance(asked, (str, *FUNCTIONS.values())) and asked != "all"
    if asked == "all":
        asked = tuple(FUNCTIONS)
    items: Sequence[Any] = (asked,) if one else tuple(asked)
    if not items:
        raise ValueError(f"no similarity function is asked for; {nearest('', FUNCTIONS)}")
    if parameters and not (one and isinstance(asked, str)):
        raise ValueError(f"{', '.join(parameters)}: give parameters with one name, or functions such as WPMI(top_k=10)")
    found: dict[str, Function] = {}
    for item in items:
        function: Any = item if isinstance(item, tuple(FUNCTIONS.values())) else _made(item, parameters)
        if function.name in found:
            raise ValueError(f"the similarity function {function.name!r} is asked for twice")
        found[function.name] = function
    return found, one


def _made(name: Any, parameters: dict[str, Any]) -> Function:
    if not isinstance(name, str) or name not in FUNCTIONS:
        raise ValueError(f"no similarity function {name!r}; {nearest(str(name), FUNCTIONS)}")
    kind = FUNCTIONS[name]
    known = [field.name for field in dataclasses.fields(kind)]
    for parameter in parameters:
        if parameter not in known:
            raise ValueError(f"{name} has no parameter {parameter!r}; {nearest(parameter, known)}")
    return kind(**parameters)


def _check(function: Any, fits: bool, parameter: str, wanted: str) -> None:
    if not fits:
        raise ValueError(f"{function.name}: {parameter} must be {wanted}, got {getattr(function, parameter)!r}")


def _check_information(function: Any) -> None:
    _check(function, function.top_k >= 1 and function.top_k == int(function.top_k), "top_k", "a whole number above 0")
    _check(function, math.isfinite(function.a), "a", "a finite number")
    _check(function, math.isfinite(function.lam), "lam", "a finite number")
    _check(function, 1e-30 <= function.min_prob < 1, "min_prob", "between 1e-30 and 1")
