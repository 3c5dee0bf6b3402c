"""Model cards: the JSON card of a network as a page to read."""

from __future__ import annotations

import os
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import jax

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

# A generator's or discriminator's card has what a judge says of samples instead of an accuracy.
GAN_FIELDS = tuple(name if name != "accuracy" else "samples" for name in CARD_FIELDS)
SHEET = "samples.png"


def write_card(card: Mapping[str, Any], folder: Any) -> pathlib.Path:
    """Writes `README.md` into a network's folder; `samples.png` in it is shown.

    Args:
      card: JSON-ready, with at least `CARD_FIELDS`; of a generator or discriminator `GAN_FIELDS`, where "samples" is
        {} or {"judge", "layer", "seed", ...: figures}, and "table" shows these figures (Markdown); "explained" in
        samples says how they were measured where it was another way than the usual one.
      folder: where.

    Raises:
      ValueError: a field is missing; names it.
    """
    fields = GAN_FIELDS if "samples" in card else CARD_FIELDS
    missing = [name for name in fields if not card.get(name) and name != "samples"]
    if missing:
        raise ValueError(f"the model card lacks {', '.join(missing)}")
    path = pathlib.Path(folder) / "README.md"
    path.write_text(_text(card, (path.parent / SHEET).is_file()), encoding="utf-8")
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


def _text(card: Mapping[str, Any], pictured: bool) -> str:
    lines = [f"# {card['name']}", "", str(card["task"]), ""]
    lines += ["```", str(card["command"]), "```", "", f"Time: {card['time']} on {card['hardware']}.", ""]
    if pictured:
        lines += [f"![samples]({SHEET})", ""]
    if "accuracy" in card:
        lines += ["| accuracy | value | 95 % interval | examples |", "|---|---|---|---|"]
        lines += [_row(name, value) for name, value in card["accuracy"].items()]
    elif card["samples"]:
        lines += [str(card["table"]), "", _how_judged(card["samples"])]
    for name in CARD_FIELDS[2:10]:
        lines += ["", f"**{name.replace('_', ' ').capitalize()}.** {_sentence(card[name])}"]
    return "\n".join(lines) + "\n"


def _how_judged(found: Mapping[str, Any]) -> str:
    return str(found.get("explained", "")) or (
        f"Heard or seen by the network {found['judge']}, features of its layer {found['layer']}; samples of seed "
        f"{found['seed']}. Real examples are held out: the GAN has not learned from them. All rows are compared with "
        "training examples."
    )


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


def command(script: str, arguments: Sequence[str], local: Sequence[str] = ()) -> str:
    """A command line without what differs from machine to machine, for a card.

    Args:
      script: such as "experiments/train_gan.py".
      arguments: as they were typed; the folder after --data-dir is called DATA.
      local: flags that are left out with their values, such as "--prepared-dir".
    """
    words: list[str] = []
    for word in (part for argument in arguments for part in argument.split("=", 1)):
        flag = words[-1].replace("_", "-") if words else ""
        if flag in local:
            words.pop()
        else:
            words.append("DATA" if flag == "--data-dir" else word)
    return f"python {script} {shlex.join(words)}"


def hardware() -> str:
    """What this process computes with, for a card."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return f"{os.cpu_count()} CPU cores"
    return f"{jax.device_count()} x {device.device_kind}"
