"""The report: one self-contained HTML page, without scripts or outside requests, and the same figures as JSON."""

from __future__ import annotations

import dataclasses
import html
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from nd_jax.bench.chapter import Bar, Chapter

_STYLE = """
:root { color-scheme: light; --bg: #fff; --ink: #1b1720; --soft: #625a6b; --line: #dcd7e0;
  --good: #1d6f42; --bad: #a3246f }
body { margin: 0 auto; max-width: 1200px; padding: 24px; background: var(--bg); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; font-variant-numeric: tabular-nums }
h1 { font-size: 26px } h2 { font-size: 20px; margin-top: 40px } h3 { font-size: 16px; margin-top: 28px }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: 13px }
th, td { text-align: left; padding: 4px 12px 4px 0; border-bottom: 1px solid var(--line); white-space: nowrap }
th { color: var(--soft); font-weight: 600 }
.good { color: var(--good) } .bad { color: var(--bad) } .soft { color: var(--soft) }
.pair { display: flex; flex-wrap: wrap; gap: 8px 24px; align-items: flex-end; margin: 8px 0 20px } figure { margin: 0 }
svg { max-width: 100%; height: auto } audio { display: block; width: 260px; height: 32px }
"""

_COLOURS = ("#a3246f", "#2b6cb0", "#1d6f42", "#b7791f", "#6b46c1", "#0f766e", "#9b2c2c", "#4a5568")


def write(chapters: Sequence[Chapter], folder: Any, *, command: str, seconds: float) -> pathlib.Path:
    """Writes `index.html` and `figures.json` into a folder; returns the path of the page.

    Args:
      chapters: what was measured.
      folder: made where it does not exist.
      command: what was called, for the page's foot.
      seconds: how long it took.
    """
    target = pathlib.Path(folder).expanduser()
    target.mkdir(parents=True, exist_ok=True)
    figures = {
        "command": command,
        "seconds": round(seconds, 1),
        "chapters": {
            each.name: {"bars": [dataclasses.asdict(bar) for bar in each.bars], **each.figures} for each in chapters
        },
    }
    (target / "figures.json").write_text(json.dumps(_finite(figures), indent=1) + "\n", encoding="utf-8")
    body = "".join(f'<h2 id="{each.name}">{html.escape(each.title)}</h2>{each.html}' for each in chapters)
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>nd_jax: the truth bench</title><style>{_STYLE}</style>"
        "<h1>The truth bench</h1><p>Networks whose weights were set by hand, so that what every unit likes best is "
        f"known, and what was found by looking. Made by <code>{html.escape(command)}</code> in {seconds:.0f} s; every "
        f'number is in <a href="figures.json">figures.json</a>.</p>{body}</html>\n'
    )
    path = target / "index.html"
    path.write_text(page, encoding="utf-8")
    return path


def _finite(value: Any) -> Any:
    """NaN as null, which JSON has, and NumPy's numbers as Python's."""
    if isinstance(value, dict):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table; a cell that begins with "<" is taken as HTML, all others are escaped."""

    def cell(text: str) -> str:
        return text if text.startswith("<") else html.escape(text)

    lines = "".join("<tr>" + "".join(f"<td>{cell(each)}</td>" for each in row) + "</tr>" for row in rows)
    return (
        f'<div class="wide"><table><tr>{"".join(f"<th>{html.escape(h)}</th>" for h in head)}</tr>{lines}</table></div>'
    )


def plain_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same as Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def bar_rows(bars: Sequence[Bar]) -> list[list[str]]:
    """One row a requirement: what, reached, interval, asked, met."""
    return [
        [
            bar.what,
            f"{bar.value:.3f}",
            f"{bar.low:.3f} to {bar.high:.3f}",
            bar.asked,
            "yes" if bar.met else "NO",
        ]
        for bar in bars
    ]


def curves(
    lines: Sequence[tuple[str, Sequence[float], Sequence[float]]],
    *,
    x: str,
    y: str,
    width: int = 640,
    height: int = 300,
) -> str:
    """Lines (name, xs, ys) over one pair of axes, as an SVG; y from 0 to 1."""
    left, top, right, bottom = 52, 10, 190, 40
    most = max(max(xs) for _, xs, _ in lines) or 1.0

    def place(a: float, b: float) -> str:
        return f"{left + a / most * width:.1f},{top + (1 - min(max(b, 0.0), 1.0)) * height:.1f}"

    parts = []
    for mark in (0, 0.25, 0.5, 0.75, 1.0):
        level = top + (1 - mark) * height
        parts.append(f'<path d="M{left} {level}h{width}" stroke="#dcd7e0"/>')
        parts.append(f'<text x="{left - 6}" y="{level + 4}" text-anchor="end">{mark:g}</text>')
        parts.append(
            f'<text x="{left + mark * width}" y="{top + height + 16}" text-anchor="middle">{mark * most:g}</text>'
        )
    for number, (name, xs, ys) in enumerate(lines):
        colour = _COLOURS[number % len(_COLOURS)]
        dash = "" if number < len(_COLOURS) else ' stroke-dasharray="5 3"'
        points = " ".join(place(a, b) for a, b in zip(xs, ys, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"{dash}/>')
        row = top + 12 + 15 * number
        parts.append(f'<path d="M{left + width + 10} {row - 4}h18" stroke="{colour}" stroke-width="2"{dash}/>')
        parts.append(f'<text x="{left + width + 32}" y="{row}">{html.escape(name)}</text>')
    parts.append(f'<text x="{left + width / 2}" y="{top + height + 33}" text-anchor="middle">{html.escape(x)}</text>')
    parts.append(
        f'<text transform="translate(12 {top + height / 2}) rotate(-90)" text-anchor="middle">{html.escape(y)}</text>'
    )
    tall = max(top + height + bottom, top + 15 * (len(lines) + 1))
    return (
        f'<svg role="img" aria-label="{html.escape(y)} over {html.escape(x)}" width="{left + width + right}" '
        f'viewBox="0 0 {left + width + right} {tall}" style="font:11px system-ui,sans-serif" fill="currentColor">'
        f"{''.join(parts)}</svg>"
    )
