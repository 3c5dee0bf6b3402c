"""Trust cards on the page: what each unit's card says, and the pictures and sounds of its further preferences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nd_jax.domain import Domain, Sound
from nd_jax.report import pictures
from nd_jax.report.natural import played
from nd_jax.report.page import Page, fingerprint
from nd_jax.report.sounds import at_playback_level, encode_wav, sounds
from nd_jax.visualize.trust import reading

if TYPE_CHECKING:
    from nd_jax.visualize.trust import Trust

# The name of a lane: layer, label and which start.
Name = tuple[str, str, int]


class Cards:
    """The trust cards of an atlas.

    Args:
      page: where files go.
      domain: of the network's input.
      cards: one a result; none for a page without.
    """

    def __init__(self, page: Page, domain: Domain, cards: Sequence[Trust]):
        self.page, self.domain, self.cards = page, domain, cards
        self._rows: dict[Name, tuple[Trust, int]] = {}
        for card in cards:
            for row, name in enumerate(zip(card.layers, card.labels, card.replicates, strict=True)):
                self._rows[(name[0], name[1], int(name[2]))] = (card, row)

    def wave(self, name: Name) -> Sound | None:
        """The sound that was measured, so that it is made once only."""
        card, row = self._rows.get(name, (None, 0))
        if card is None or card.waves is None:
            return None
        return Sound(card.waves[row], int(getattr(self.domain, "sample_rate", 0)))

    def columns(self, name: Name) -> dict[str, Any]:
        """What units are sorted by."""
        card, row = self._rows.get(name, (None, 0))
        if card is None:
            return {"ratio": None, "path": None}
        return {"ratio": _number(card.ratio[row]), "path": _number(card.path[row])}

    def of(self, name: Name, stem: str) -> dict[str, Any]:
        """The card of a unit for its details; {} without one."""
        card, row = self._rows.get(name, (None, 0))
        if card is None:
            return {}
        counted = card.preference.shape[1] > 1 and not card.dead[row]
        found: dict[str, Any] = {
            "ratio": _number(card.ratio[row]),
            "after": _number(card.ratio_after[row]),
            "survives": _number(card.survives[row]),
            "score": _number(card.score[row]),
            "mean": _number(card.mean[row]),
            "high": _number(card.high[row]),
            "path": _number(card.path[row]),
            "paths": [
                [layer, *(_number(part[row, place]) for part in (card.same, card.other, card.made))]
                for place, layer in enumerate(card.path_layers)
            ],
            "agreement": _number(card.agreement[row]),
            "starts": card.preference.shape[1] if counted else 1,
            "found": int(card.preferences[row]) if counted else 0,
            "silent": bool(card.silent[row]),
            "dead": bool(card.dead[row]),
            "saturated": bool(card.saturated[row]),
        }
        if counted and card.preferences[row] > 1:
            found["preferences"] = self._further(card, row, stem)
        return {"trust": found}

    def about(self, layer: str) -> dict[str, Any]:
        """What all cards of a layer share; {} without cards."""
        mine = [card for card in self.cards if layer in card.layers]
        if not mine:
            return {}
        ratios = np.concatenate([card.twin for card in mine])
        answering = ratios[np.isfinite(ratios)]
        twin = None
        if len(answering):
            twin = [_number(value) for value in (np.median(answering), answering.min(), answering.max())]
        return {"trust": {"count": mine[0].count, "twin": twin, "tried": len(ratios), "answering": len(answering)}}

    def _further(self, card: Trust, row: int, stem: str) -> list[dict[str, Any]]:
        """The strongest start of every preference but that of the input shown above."""
        others = card.others
        if others is None:
            return []
        preference, scores = card.preference[row], np.nan_to_num(card.seed_scores[row], nan=-np.inf)
        further = card.preference.shape[1] - 1
        living = np.flatnonzero(~card.dead)
        first = int(np.searchsorted(living, row)) * further
        made = reading.best(others.select(range(first, first + further)))
        rows = []
        for number in range(int(preference.max()) + 1):
            if number == preference[0]:
                continue
            start = int(np.argmax(np.where(preference == number, scores, -np.inf)))
            one = reading.rows(made, slice(start - 1, start))
            rows.append({"score": _number(scores[start]), **self._written(f"{stem}.p{number}", one), "number": number})
        return rows

    def _written(self, stem: str, one: Any) -> dict[str, Any]:
        """Writes picture and sound of a batch of one input."""
        example = reading.rows(one, 0)
        leaves = example.values() if isinstance(example, dict) else [example]
        name = fingerprint(self.domain.to_dict(), "preference", *leaves)
        known = self.page.recall(name, stem)
        if known is not None:
            return dict(known)
        picture = self.domain.picture(example)
        assert picture is not None
        endings, about = [".png"], {}
        self.page.add(f"{stem}.png", pictures.png(picture))
        made = sounds(self.domain, one)
        if made is not None:
            ready = at_playback_level(next(made))
            about["sound"] = played(ready)
            if not ready.silent:
                self.page.add(f"{stem}.wav", encode_wav(ready.sound))
                endings.append(".wav")
        self.page.remember(name, stem, endings, about)
        return about


def _number(value: Any) -> float | None:
    return float(f"{float(value):.4g}") if np.isfinite(value) else None
