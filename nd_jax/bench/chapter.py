"""What a chapter of the bench hands over; a new chapter is one file with a `run` that returns one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax

from nd_jax.bench.planted import Size

Tell = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Bar:
    """One requirement: what was reached, with its interval, against what is asked."""

    what: str
    value: float
    low: float
    high: float
    asked: str
    met: bool


@dataclasses.dataclass(frozen=True)
class Chapter:
    """One chapter's part of the report.

    Attributes:
      name: short, for files and links.
      title: for people.
      bars: the requirements.
      figures: every number, ready for JSON.
      html: the chapter's part of the page.
      text: the chapter's tables as plain text.
    """

    name: str
    title: str
    bars: tuple[Bar, ...]
    figures: Mapping[str, Any]
    html: str
    text: str


class Run(Protocol):
    """How a chapter is run."""

    def __call__(self, keys: Mapping[int, jax.Array], size: Size, tell: Tell) -> Chapter:
        """Measures on planted networks of these keys, by seed; `tell` takes a line about the progress."""
