"""Model cards: the JSON card of a network as a page to read."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

CARD_FIELDS = (
    "name",
    "task",
    "intended_use",
    "limits",
    "data",
    "source",
    "licence",
    "split",
    "front_end",
    "network",
    "accuracy",
    "command",
    "time",
    "hardware",
)


def write_card(card: Mapping[str, Any], folder: Any) -> pathlib.Path:
    """Writes `README.md` into a network's folder.

    Args:
      card: JSON-ready, with at least `CARD_FIELDS`.
      folder: where.

    Raises:
      ValueError: a field is missing; names it.
    """
    missing = [name for name in CARD_FIELDS if not card.get(name)]
    if missing:
        raise ValueError(f"the model card lacks {', '.join(missing)}")
    path = pathlib.Path(folder) / "README.md"
    path.write_text(_text(card), encoding="utf-8")
    return path


def accuracy_lines(accuracy: Mapping[str, Any]) -> list[str]:
    """The figures of a card (proportions, and tables of shares) as one line of text each."""
    lines = []
    for name, value in accuracy.items():
        if "low" in value:
            interval = f"{100 * value['low']:.1f} to {100 * value['high']:.1f}"
            lines.append(f"{name}: {100 * value['value']:.1f} % ({interval}, {value['right']} of {value['of']})")
        else:
            lines.append(f"{name}: {_shares(value)}")
    return lines


def _text(card: Mapping[str, Any]) -> str:
    lines = [f"# {card['name']}", "", str(card["task"]), ""]
    lines += ["```", str(card["command"]), "```", "", f"Time: {card['time']} on {card['hardware']}.", ""]
    lines += ["| accuracy | value | 95 % interval | examples |", "|---|---|---|---|"]
    lines += [_row(name, value) for name, value in card["accuracy"].items()]
    for name in CARD_FIELDS[2:10]:
        lines += ["", f"**{name.replace('_', ' ').capitalize()}.** {_sentence(card[name])}"]
    return "\n".join(lines) + "\n"


def _row(name: str, value: Any) -> str:
    label = name.replace("_", " ")
    if "low" in value:
        interval = f"{100 * value['low']:.1f} - {100 * value['high']:.1f} %"
        return f"| {label} | {100 * value['value']:.1f} % | {interval} | {value['right']} of {value['of']} |"
    return f"| {label} | {_shares(value)} | | |"


def _shares(value: Mapping[str, float]) -> str:
    return ", ".join(f"{key} {100 * share:.1f} %" for key, share in value.items())


def _sentence(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {part}" for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return "; ".join(map(str, value))
    return str(value)
