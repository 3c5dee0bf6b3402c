"""A page of one experiment: text, tables, figures, and tiles that are looked at and listened to, top to bottom.

    folder/index.html     the page, with its style and a few lines of script inside; opens from the disk
    folder/files/         its pictures and sounds; with one_file they are inside the page

The atlas shows all units of a network; a leaflet tells what one experiment found. It has the atlas's type, colours and
rules: sounds at one loudness with the gain stated, silence called silent, one sound at a time, nothing from a network.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import itertools
import pathlib
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from nd_jax.domain import Domain, Sound
from nd_jax.report import pictures, sheets
from nd_jax.report.page import asset
from nd_jax.report.sounds import LOUDNESS, at_playback_level, encode_wav, sounds

_FILES = "files"
_TYPES = {".png": "image/png", ".gif": "image/gif", ".svg": "image/svg+xml", ".wav": "audio/wav"}
_STYLE = """
main { max-width: 1120px; margin: 0 auto; padding: 24px; display: grid; gap: 16px; }
main { grid-template-columns: minmax(0, 1fr); }
h2 { margin-top: 24px; }
table { border-collapse: collapse; font-size: var(--small); }
th, td { text-align: right; padding: 4px 16px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th:first-child, td:first-child, .prose { text-align: left; }
th { font-weight: 600; }
.wide { overflow-x: auto; }
figure img { max-width: 100%; height: auto; }
figcaption { color: var(--soft); font-size: var(--small); margin-top: 8px; max-width: 84ch; }
.text { max-width: 84ch; overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(168px, 1fr)); gap: 16px; }
.tiles.large { grid-template-columns: repeat(auto-fill, minmax(256px, 1fr)); }
.tile { display: grid; gap: 4px; align-content: start; font-size: var(--small); min-width: 0; }
.tile img { width: 100%; height: auto; image-rendering: pixelated; }
.tile img.map { filter: none; }
.tile b { font-weight: 600; overflow-wrap: anywhere; }
.tile audio { width: 100%; height: 32px; }
"""
# One sound at a time.
_SCRIPT = """"use strict";
document.addEventListener("play", event => {
  for (const other of document.querySelectorAll("audio")) if (other !== event.target) other.pause();
}, true);
"""


class Leaflet:
    """Collects the parts of a page and writes it.

    Args:
      folder: where; made if missing, other files in it stay.
      title: heading.
      about: a paragraph below it.
      one_file: whether pictures and sounds are part of index.html, which can then be sent around alone.
    """

    def __init__(self, folder: Any, title: str, about: str = "", *, one_file: bool = False):
        self.one_file = one_file
        self.folder = pathlib.Path(folder).expanduser()
        self.title = title
        self._parts: list[str] = []
        self._sound = False
        self._made_of: dict[str, None] = {}
        if about:
            self.text(about)

    def heading(self, text: str) -> None:
        """A section begins."""
        self._parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str, *, soft: bool = False) -> None:
        """A paragraph."""
        kind = "text soft" if soft else "text"
        self._parts.append(f'<p class="{kind}">{html.escape(text)}</p>')

    def link(self, path: str, text: str) -> None:
        """A line that leads to a file beside the page."""
        self._parts.append(f'<p><a href="{html.escape(path)}">{html.escape(text)}</a></p>')

    def table(self, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """A table of texts; the first column says what a row is. Columns of words stand left, of numbers right."""
        cells = [[str(cell) for cell in row] for row in rows]
        prose = [_is_prose(column) for column in itertools.zip_longest(*cells, fillvalue="")]
        heads = _cells('th scope="col"', head, prose)
        lines = "".join(f"<tr>{_cells('td', row, prose)}</tr>" for row in cells)
        self._parts.append(
            f'<div class="wide" tabindex="0" role="region" aria-label="table"><table><thead><tr>{heads}</tr></thead>'
            f"<tbody>{lines}</tbody></table></div>"
        )

    def figure(self, name: str, content: Any, words: str, caption: str = "") -> None:
        """A picture: a matplotlib Figure, pixels uint8 (rows, columns, 3), or the bytes of a PNG or GIF file.

        Args:
          name: of the file.
          content: the picture.
          words: what it shows, for who cannot see it.
          caption: below it.
        """
        if isinstance(content, np.ndarray):
            content = pictures.encode_png(content)
        elif not isinstance(content, bytes):
            buffer = io.BytesIO()
            content.savefig(buffer, format="png")
            content = buffer.getvalue()
        address = self._kept(name, content)
        below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
        self._parts.append(f'<figure><img src="{address}" alt="{html.escape(words)}" loading="lazy">{below}</figure>')

    def animation(self, name: str, frames: Sequence[np.ndarray], words: str, caption: str = "", **options: Any) -> None:
        """An endless GIF of frames of one size, as `sheets.gif` writes it."""
        with tempfile.TemporaryDirectory() as folder:
            content = sheets.gif(frames, pathlib.Path(folder) / name, **options).read_bytes()
        self.figure(name, content, words, caption)

    def tiles(
        self,
        stem: str,
        outputs: Any,
        domain: Domain,
        *,
        titles: Sequence[str] = (),
        facts: Sequence[Sequence[str]] = (),
        made: Iterable[Sound] | None = None,
        made_of: str | None = None,
        figures: Sequence[str] = (),
    ) -> None:
        """Examples side by side: picture, name, a few lines, and a player where they are sound.

        Args:
          stem: of the names of the files.
          outputs: (n, *domain.shape), or a dict of them.
          domain: what they are.
          titles: a name for each.
          facts: lines for each.
          made: the sounds, when they are known already.
          made_of: how pictures and sounds come about, where it is another way than the domain's.
          figures: an SVG for each, with axes of its own, that is shown in place of its picture.
        """
        drawn = [] if figures else sheets.pictures_of(outputs, domain)
        heard = made if made is not None else sounds(domain, outputs)
        count = len(figures or drawn)
        played = [None] * count if heard is None else [at_playback_level(sound) for sound in heard]
        self._sound = self._sound or heard is not None
        words = domain.made_of if made_of is None else made_of
        if words and (heard is not None or not figures):
            self._made_of[words] = None
        shown = []
        for index, ready in enumerate(played):
            name = f"{stem}-{index:03d}"
            shape = (f"{name}.svg", figures[index].encode()) if figures else (f"{name}.png", pictures.png(drawn[index]))
            source = self._kept(*shape)
            title = html.escape(titles[index]) if titles else f"{index}"
            lines = [html.escape(line) for line in facts[index]] if facts else []
            player = ""
            if ready is not None and ready.silent:
                lines.append("silent")
            elif ready is not None:
                played_from = self._kept(f"{name}.wav", encode_wav(ready.sound))
                player = f'<audio controls preload="none" src="{played_from}" aria-label="{title}"></audio>'
                limited = f", limiter {ready.limited_db:.0f} dB" if ready.limited_db >= 0.5 else ""
                lines.append(f"gain {ready.gain_db:+.0f} dB{limited}".replace("-", "−"))
            if figures:
                image = f'<img loading="lazy" src="{source}" alt="{title}">'
            else:
                kind = "colour" if np.ndim(drawn[index].values) == 3 else "map"
                rows, columns = np.shape(drawn[index].values)[:2]
                image = (
                    f'<img class="{kind}" width="{columns}" height="{rows}" loading="lazy" src="{source}" '
                    f'alt="{title}">'
                )
            shown.append(
                f'<div class="tile">{image}<b>{title}</b>'
                + "".join(f'<span class="soft">{line}</span>' for line in lines)
                + f"{player}</div>"
            )
        kind = "tiles large" if figures else "tiles"
        self._parts.append(f'<div class="{kind}">{"".join(shown)}</div>')
        if drawn and drawn[0].x.unit != "px":
            self.text(_axes(drawn[0]), soft=True)

    def _kept(self, name: str, content: bytes) -> str:
        """Writes a file of the page; returns the address that an attribute takes."""
        if self.one_file:
            return pictures.data_uri(content, _TYPES[pathlib.PurePath(name).suffix])
        sheets.replace(self.folder / _FILES / name, content)
        return f"{_FILES}/{html.escape(name)}"

    def finish(self) -> pathlib.Path:
        """Writes index.html in one step; returns its path."""
        from nd_jax import __version__

        style = asset("atlas.css") + _STYLE
        policy = (
            f"default-src 'none'; script-src {_hash(_SCRIPT)}; style-src {_hash(style)}; "
            "img-src 'self' file: data:; media-src 'self' file: data:; base-uri 'none'; form-action 'none'"
        )
        if self._sound:
            level = f"{LOUDNESS:g}".replace("-", "−")
            loud = f"Sounds are played at {level} LUFS, the gain stated, with a peak limiter."
            self.text(" ".join([loud, *self._made_of]), soft=True)
        page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="generator" content="nd_jax {__version__}">
<title>{html.escape(self.title)}</title><link rel="icon" href="data:,"><style>{style}</style></head><body>
<main><h1>{html.escape(self.title)}</h1>
{chr(10).join(self._parts)}
</main><script>{_SCRIPT}</script></body></html>
"""
        return sheets.replace(self.folder / "index.html", page.encode())


def _cells(tag: str, row: Sequence[Any], prose: Sequence[bool]) -> str:
    """A row of a table."""
    found = ""
    for cell, words in itertools.zip_longest(row, prose[: len(row)], fillvalue=False):
        kind = ' class="prose"' if words else ""
        found += f"<{tag}{kind}>{html.escape(str(cell))}</{tag.split()[0]}>"
    return found


def _is_prose(column: Sequence[str]) -> bool:
    """Whether most cells begin with a letter."""
    told = [cell for cell in column if cell.strip() not in ("", "–")]
    return 2 * sum(cell.strip()[0].isalpha() for cell in told) > len(told)


def _axes(picture: Any) -> str:
    ends = ((picture.x, 0, -1), (picture.y, -1, 0))
    across, up = (
        f"{axis.name} {axis.values[first]:.4g} to {axis.values[last]:.4g} {axis.unit}"
        + (f" ({axis.scale})" if axis.scale else "")
        for axis, first, last in ends
    )
    colour = f" Colour: {picture.low:g} to {picture.high:g} {picture.unit}." if np.ndim(picture.values) == 2 else ""
    return f"Across: {across}. Up: {up}.{colour}".replace(" -", " −")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
