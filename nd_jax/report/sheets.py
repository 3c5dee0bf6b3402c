"""Many generated examples in one picture, and how they changed while a generator was trained.

Images stand in a tight grid, grey where they have one channel. Spectrograms share axes (seconds; Hz, and whether mel or
log) and one colour scale, both drawn beside the grid. Pixels are whole: every value is as many equal pixels.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from nd_jax.domain import Domain, Picture
from nd_jax.report import pictures
from nd_jax.runtime import require

# A tile is scaled up to about so many pixels, and shrunk when it has more than twice as many.
_TILE = {"image": 56, "spectrogram": 112}
_INK = {
    "dark": ((13, 11, 18), (239, 236, 244), (169, 161, 181)),
    "light": ((255, 255, 255), (27, 23, 32), (98, 90, 107)),
}
_SMALL, _HEAD = 12, 14
_HOLD = 1.5


def sheet(
    outputs: Any,
    domain: Domain,
    path: Any,
    *,
    columns: int | None = None,
    titles: Sequence[str] = (),
    caption: str = "",
    theme: pictures.Theme = "dark",
) -> pathlib.Path:
    """Writes one PNG of many examples.

    Args:
      outputs: (n, *domain.shape), or a dict of them for a domain of parts.
      domain: what they are; images or sound.
      path: the file; its folder is made. It is replaced in one step.
      columns: tiles in a row; by default about as many as rows.
      titles: one for each, drawn above it; where all tiles of a column have the same, once above the column.
      caption: a line above everything.
      theme: dark (magma) or light (paper).

    Returns:
      The path.

    Raises:
      ValueError: no examples, a domain without pictures, another number of titles.
      MissingExtraError: Pillow or matplotlib is missing.
    """
    image = compose(outputs, domain, columns=columns, titles=titles, caption=caption, theme=theme)
    return replace(path, pictures.encode_png(image))


def compose(
    outputs: Any,
    domain: Domain,
    *,
    columns: int | None = None,
    titles: Sequence[str] = (),
    caption: str = "",
    theme: pictures.Theme = "dark",
    tile: int | None = None,
) -> np.ndarray:
    """The picture of `sheet` as uint8 (height, width, 3); `tile` is about how many pixels a tile is wide and high."""
    drawn = pictures_of(outputs, domain)
    if titles and len(titles) != len(drawn):
        raise ValueError(f"{len(titles)} titles for {len(drawn)} examples")
    across = math.ceil(math.sqrt(len(drawn))) if columns is None else columns
    if across < 1:
        raise ValueError(f"columns must be 1 or more, got {columns}")
    return _Canvas(drawn, min(across, len(drawn)), [str(title) for title in titles], str(caption), theme, tile).draw()


def pictures_of(outputs: Any, domain: Domain) -> list[Picture]:
    """The pictures of some examples; images with one channel come in grey.

    Raises:
      ValueError: no examples, or nothing to draw.
    """
    count = len(jax.tree.leaves(outputs)[0]) if jax.tree.leaves(outputs) else 0
    if not count:
        raise ValueError("there are no examples to draw")
    found = []
    for index in range(count):
        picture = domain.picture(jax.tree.map(lambda leaf, at=index: np.asarray(leaf)[at], outputs))
        if picture is None:
            raise ValueError(f"examples of kind {domain.kind!r} cannot be drawn; give an image or a sound")
        found.append(_grey(picture))
    return found


def _grey(picture: Picture) -> Picture:
    if picture.x.unit != "px" or np.ndim(picture.values) == 3:
        return picture
    share = (np.nan_to_num(picture.values) - picture.low) / (picture.high - picture.low)
    colours = np.repeat(np.clip(share, 0, 1)[..., None], 3, axis=-1)
    return dataclasses.replace(picture, values=colours, unit="", low=0.0, high=1.0)


def gif(frames: Sequence[np.ndarray], path: Any, *, seconds: float = 8.0, colours: int = 128) -> pathlib.Path:
    """Writes frames as an endless GIF with one palette; the last frame stays for another 1.5 s.

    Args:
      frames: uint8 (height, width, 3), all of one size, such as `compose` gives.
      path: the file; it is replaced in one step.
      seconds: from the first frame to the last; a frame lasts 20 ms or more, as browsers ask.
      colours: in the palette, at most 256; fewer make a smaller file.

    Returns:
      The path.

    Raises:
      ValueError: no frames, or frames of several sizes.
    """
    sizes = {frame.shape for frame in frames}
    if len(sizes) != 1:
        raise ValueError(f"a GIF is made of one or more frames of one size, got sizes {sorted(sizes)}")
    pillow = require("PIL.Image", "report")
    images = [pillow.fromarray(np.ascontiguousarray(frame)) for frame in frames]
    # The first frames are noise, the last what was learned: a palette of both serves all. It covers the range of
    # colours rather than the frequent ones, or the colour scale would lose the ends that few values reach.
    some = [frames[index] for index in sorted({0, len(frames) // 2, len(frames) - 1})]
    palette = pillow.fromarray(np.concatenate(some)).quantize(colours, pillow.Quantize.MAXCOVERAGE)
    flat = [image.quantize(palette=palette, dither=pillow.Dither.NONE) for image in images]
    each = max(20, round(1000 * seconds / len(flat)))
    target = pathlib.Path(path)
    with drafted(target) as draft:
        flat[0].save(
            draft,
            format="GIF",
            save_all=True,
            append_images=flat[1:],
            duration=[each] * (len(flat) - 1) + [each + round(1000 * _HOLD)],
            loop=0,
        )
    return target


@contextlib.contextmanager
def drafted(path: Any) -> Iterator[pathlib.Path]:
    """A place to write a file, which replaces `path` in one step when all went well and is gone when not."""
    target = pathlib.Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.draft")
    try:
        yield draft
        os.replace(draft, target)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def replace(path: Any, content: bytes) -> pathlib.Path:
    """Writes a file in one step."""
    with drafted(path) as draft:
        draft.write_bytes(content)
    return pathlib.Path(path)


@functools.cache
def _font(size: int) -> Any:
    """A font that every installation of matplotlib has, with the letters of most languages."""
    place = pathlib.Path(require("matplotlib", "report").get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return require("PIL.ImageFont", "report").truetype(str(place), size)


class _Canvas:
    """One sheet: where everything stands, then drawn from the outside in."""

    def __init__(
        self,
        drawn: list[Picture],
        columns: int,
        titles: list[str],
        caption: str,
        theme: pictures.Theme,
        tile: int | None,
    ):
        self.first = drawn[0]
        self.images = self.first.x.unit == "px"
        self.aim = tile or _TILE["image" if self.images else "spectrogram"]
        self.tiles = [self._tile(picture, theme) for picture in drawn]
        self.height, self.width = self.tiles[0].shape[:2]
        self.columns, self.rows = columns, -(-len(drawn) // columns)
        self.titles, self.caption, self.theme = titles, caption, theme
        self.heads = bool(titles) and all(title == titles[index % columns] for index, title in enumerate(titles))
        self.gap = 2 if self.images else 6
        line = _SMALL + 6
        self.over = 0 if self.heads or not titles else line
        margin = 8
        self.left = margin if self.images else 68
        self.top = margin + (_HEAD + 8 if caption else 0) + (line if self.heads else 0)
        inner = self.columns * (self.width + self.gap) - self.gap, self.rows * (self.height + self.over + self.gap)
        self.inner = inner[0], inner[1] - self.gap
        right, below = (margin, margin) if self.images else (84, 44)
        self.size = self.left + self.inner[0] + right, self.top + self.inner[1] + below

    def _tile(self, picture: Picture, theme: pictures.Theme) -> np.ndarray:
        aim = self.aim
        small = pictures.shrink(picture, 2 * aim, 2 * aim)
        colours = pictures.pixels(small, theme, low=self.first.low, high=self.first.high)
        rows, columns = colours.shape[:2]
        if self.images:
            scale = max(1, round(aim / max(rows, columns)))
            return np.repeat(np.repeat(colours, scale, 0), scale, 1)
        return np.repeat(np.repeat(colours, max(1, round(aim / rows)), 0), max(1, round(aim / columns)), 1)

    def place(self, index: int) -> tuple[int, int]:
        """Left and top of a tile."""
        row, column = divmod(index, self.columns)
        y = self.top + row * (self.height + self.over + self.gap) + self.over
        return self.left + column * (self.width + self.gap), y

    def draw(self) -> np.ndarray:
        """The sheet as uint8 (height, width, 3)."""
        paper, self.ink, self.soft = _INK[self.theme]
        self.image = require("PIL.Image", "report").new("RGB", self.size, paper)
        self.pen = require("PIL.ImageDraw", "report").Draw(self.image)
        if self.caption:
            self.write(self.left, 8, self._cut(self.caption, self.size[0] - self.left - 8, _HEAD), size=_HEAD)
        for index, tile in enumerate(self.tiles):
            x, y = self.place(index)
            self.image.paste(require("PIL.Image", "report").fromarray(np.ascontiguousarray(tile)), (x, y))
            if self.titles and not (self.heads and index >= self.columns):
                text = self._cut(self.titles[index], self.width, _SMALL)
                self.write(x + (self.width / 2 if self.images else 0), y - 4, text, "ms" if self.images else "ls")
        if not self.images:
            self._axes()
            if np.ndim(self.first.values) == 2:
                self._scale()
        return np.asarray(self.image)

    def write(
        self, x: float, y: float, text: str, anchor: str = "la", *, size: int = _SMALL, soft: bool = False
    ) -> None:
        """Draws text; the anchor is Pillow's."""
        self.pen.text((x, y), text, fill=self.soft if soft else self.ink, font=_font(size), anchor=anchor)

    def _cut(self, text: str, width: int, size: int) -> str:
        font = _font(size)
        if font.getlength(text) <= width:
            return text
        while text and font.getlength(text + "…") > width:
            text = text[:-1]
        return text + "…"

    def _axes(self) -> None:
        """Ticks beside the first tile of every row and under the last of every column, and what they are."""
        across = pictures.ticks(self.first.x, max(3, self.width // 30))
        up = pictures.ticks(self.first.y, max(3, self.height // 22))
        for row in range(self.rows):
            x, y = self.place(row * self.columns)
            for share, text in up:
                at = y + share * self.height
                self.pen.line([(x - 4, at), (x - 1, at)], fill=self.soft)
                # Within the tile, so that the ends of two neighbours do not meet.
                self.write(x - 7, min(max(at, y + 5), y + self.height - 5), text, "rm", soft=True)
        for column in range(self.columns):
            last = max(index for index in range(column, len(self.tiles), self.columns))
            x, y = self.place(last)
            for share, text in across:
                at, foot = x + share * self.width, y + self.height
                self.pen.line([(at, foot), (at, foot + 3)], fill=self.soft)
                half = _font(_SMALL).getlength(text) / 2
                self.write(min(max(at, x + half), x + self.width - half), foot + 6, text, "ma", soft=True)
        self.write(self.left + self.inner[0] / 2, self.size[1] - 6, pictures.axis_title(self.first.x), "md")
        named = (
            pictures.axis_title(self.first.y),
            pictures.axis_title(dataclasses.replace(self.first.y, name="")).strip(" ()"),
        )
        fitting = [text for text in named if _font(_SMALL).getlength(text) <= self.size[1] - 16]
        self._upwards(fitting[0] if fitting else self.first.y.unit)

    def _upwards(self, text: str) -> None:
        font, pillow = _font(_SMALL), require("PIL.Image", "report")
        label = pillow.new("L", (math.ceil(font.getlength(text)) + 2, _SMALL + 6), 0)
        require("PIL.ImageDraw", "report").Draw(label).text((1, _SMALL + 1), text, fill=255, font=font, anchor="ls")
        mask = label.rotate(90, expand=True)
        middle = self.top + self.inner[1] // 2
        self.image.paste(pillow.new("RGB", mask.size, self.ink), (8, max(8, middle - mask.size[1] // 2)), mask)

    def _scale(self) -> None:
        """The one colour scale of all tiles."""
        x, height = self.left + self.inner[0] + 14, min(self.inner[1], 220)
        y = self.top + self.over
        height -= self.over
        bar = pictures.colour_table(self.theme)[np.linspace(255, 0, height).round().astype(int)]
        self.image.paste(
            require("PIL.Image", "report").fromarray(np.repeat(bar[:, None], 10, axis=1).astype(np.uint8)), (x, y)
        )
        unit = f" {self.first.unit}" if self.first.unit else ""
        for share, anchor, value in (
            (0.0, "lt", self.first.high),
            (0.5, "lm", (self.first.low + self.first.high) / 2),
            (1.0, "ls", self.first.low),
        ):
            self.write(x + 15, y + share * height, f"{value:g}{unit}".replace("-", "−"), anchor, soft=True)


def thinned(count: int, most: int) -> list[int]:
    """At most `most` of `count` places, evenly spread, the first and the last among them."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most))}) if count else []
