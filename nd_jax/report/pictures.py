"""Pictures as pixels, as PNG files, and as figures with true axes.

`Picture -> PNG bytes` and `Picture -> HTML`. One perceptually uniform colour map per theme: magma on dark, and `paper`
on light, which has magma's hues with the lightness turned round, from white (`low`) to near black (`high`).
"""

from __future__ import annotations

import base64
import functools
import html
import io
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from nd_jax.domain import Axis, MelIF, Picture, Sound
from nd_jax.domain.colour import oklab_to_srgb
from nd_jax.runtime import nearest, require

Theme = Literal["dark", "light"]
MAPS: dict[str, str] = {"dark": "magma", "light": "paper"}
# Bands and frames of a small picture, at most.
_TILE_BANDS, _TILE_FRAMES = 128, 64


@functools.cache
def colour_table(theme: Theme = "dark") -> np.ndarray:
    """The colour map of a theme as a uint8 table, shape (256, 3), from `low` to `high`.

    Both maps are perceptually uniform: magma is so by design (CAM02-UCS); `paper` is drawn in OKLab with linear
    lightness (Ottosson 2020, "A perceptual color space for image processing").

    Raises:
      ValueError: a theme other than "dark" and "light".
      MissingExtraError: "dark" without matplotlib.
    """
    if theme not in MAPS:
        raise ValueError(f"unknown theme {theme!r}; {nearest(theme, MAPS)}")
    if theme == "dark":
        colours = require("matplotlib", "report").colormaps["magma"](np.arange(256))[:, :3]
    else:
        colours = _paper(np.linspace(0.0, 1.0, 256))
    return np.round(colours * 255).astype(np.uint8)


def _paper(position: np.ndarray) -> np.ndarray:
    """The light map: OKLab lightness falls linearly, hue runs from orange over magenta to violet."""
    lightness = 0.985 - 0.835 * position
    chroma = 0.16 * np.sin(np.pi * position) ** 1.2
    return oklab_to_srgb(lightness, chroma, np.deg2rad(65.0 - 130.0 * position))


def pixels(
    picture: Picture, theme: Theme = "dark", *, low: float | None = None, high: float | None = None
) -> np.ndarray:
    """Colours a picture, one pixel per value.

    Args:
      picture: what to draw; values that are not finite are drawn as `low`.
      theme: "dark" (magma) or "light" (paper); a colour picture is the same in both.
      low: the value at the lower end of the map, by default the picture's own.
      high: the value at its upper end, likewise.

    Returns:
      uint8, shape (rows, columns, 3).
    """
    values = np.asarray(picture.values, np.float32)
    if values.ndim == 3:
        return np.round(np.clip(np.nan_to_num(values), 0, 1) * 255).astype(np.uint8)
    return colour_table(theme)[levels(picture, low=low, high=high)]


def levels(picture: Picture, *, low: float | None = None, high: float | None = None) -> np.ndarray:
    """The rows of the colour table, uint8 (rows, columns), of a picture without colours of its own."""
    bottom = picture.low if low is None else low
    top = picture.high if high is None else high
    values = np.asarray(picture.values, np.float32)
    share = (np.where(np.isfinite(values), values, bottom) - bottom) / max(top - bottom, 1e-12)
    return np.round(np.clip(share, 0, 1) * 255).astype(np.uint8)


def encode_png(image: np.ndarray, theme: Theme = "dark") -> bytes:
    """uint8 pixels to PNG bytes: (rows, columns, 3) colours, or (rows, columns) rows of the theme's colour table."""
    pillow = require("PIL.Image", "report")
    colours = pillow.fromarray(np.ascontiguousarray(image))
    if image.ndim == 2:
        colours.putpalette(colour_table(theme).tobytes())
    buffer = io.BytesIO()
    colours.save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def png(
    picture: Picture, theme: Theme = "dark", *, scale: int = 1, low: float | None = None, high: float | None = None
) -> bytes:
    """The picture as a PNG file, `scale` x `scale` equal pixels per value (no interpolation)."""
    if scale < 1:
        raise ValueError(f"scale is {scale}, but a pixel of the picture needs at least one pixel of the PNG")
    image = indexed(picture, low=low, high=high)
    return encode_png(np.repeat(np.repeat(image, scale, 0), scale, 1), theme)


def indexed(picture: Picture, *, low: float | None = None, high: float | None = None) -> np.ndarray:
    """What `encode_png` takes: rows of the colour table, (rows, columns), or the picture's own colours."""
    return pixels(picture) if np.ndim(picture.values) == 3 else levels(picture, low=low, high=high)


def shrink(picture: Picture, rows: int, columns: int) -> Picture:
    """A smaller picture for a thumbnail: block means, at most `rows` x `columns`; axes are thinned alike."""
    values = np.asarray(picture.values, np.float32)
    step = max(1, math.ceil(values.shape[0] / rows)), max(1, math.ceil(values.shape[1] / columns))
    if step == (1, 1):
        return picture
    for axis, size in enumerate(step):
        values = np.add.reduceat(values, np.arange(0, values.shape[axis], size), axis=axis) / _block_sizes(
            values.shape[axis], size, values.ndim, axis
        )
    thin = [
        Axis(axis.name, axis.unit, np.asarray(axis.values)[::size], axis.scale)
        for axis, size in ((picture.x, step[1]), (picture.y, step[0]))
    ]
    return Picture(values, thin[0], thin[1], picture.unit, picture.low, picture.high)


def _block_sizes(length: int, size: int, ndim: int, axis: int) -> np.ndarray:
    counts = np.minimum(size, length - np.arange(0, length, size)).astype(np.float32)
    return counts.reshape([-1 if index == axis else 1 for index in range(ndim)])


def format_hertz(value: float) -> str:
    """`440` or `1.5k`: a frequency for a tick label."""
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def ticks(axis: Axis, count: int = 6) -> list[tuple[float, str]]:
    """Round coordinates of an axis: (position of the pixel centre as a share of its length, label), at most `count`."""
    values = np.asarray(axis.values, np.float64)
    if values.size < 2:
        return [(0.5, f"{values[0]:g}")] if values.size else []
    low, high = float(values.min()), float(values.max())
    if axis.scale == "linear":
        rough = (high - low) / max(count - 1, 1)
        unit = 10.0 ** math.floor(math.log10(rough))
        steps = [unit * factor for factor in (1, 2, 2.5, 5, 10)]
        place = next(at for at, step in enumerate(steps) if step >= rough * 0.999)
        marks = _multiples(steps[place], low, high)
        # One mark alone gives no scale.
        if len(marks) < 2 and place:
            marks = _multiples(steps[place - 1], low, high)
    else:
        decades = [factor * 10.0**power for power in range(0, 6) for factor in (1, 2, 5)]
        marks = np.array([mark for mark in decades if low <= mark <= high])[-count:]
    order = np.argsort(values)
    index = np.interp(marks, values[order], np.arange(values.size)[order])
    text = format_hertz if axis.unit == "Hz" else "{:g}".format
    found: list[tuple[float, str]] = []
    # From the high end: where a scale crowds its marks together, as mels do at the bottom, the lower ones give way.
    for where, mark in zip(index[::-1], marks[::-1], strict=True):
        share = (float(where) + 0.5) / values.size
        if not found or abs(share - found[-1][0]) >= 0.9 / count:
            found.append((share, text(round(float(mark), 6))))
    return found[::-1]


def _multiples(step: float, low: float, high: float) -> np.ndarray:
    return np.arange(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1) * step


def axis_title(axis: Axis) -> str:
    """`frequency (Hz, mel scale)`: name, unit and, unless linear, the spacing of an axis."""
    inside = ", ".join(part for part in (axis.unit, "" if axis.scale == "linear" else f"{axis.scale} scale") if part)
    return f"{axis.name} ({inside})" if inside else axis.name


def described(picture: Picture) -> dict[str, Any]:
    """What a page needs to draw axes, JSON-ready: the same for every picture of one domain."""
    rows, columns = np.shape(picture.values)[:2]
    x = np.asarray(picture.x.values, np.float64)
    return {
        "rows": rows,
        "columns": columns,
        "flat": np.ndim(picture.values) == 2,
        "square": picture.x.unit == "px",
        "unit": picture.unit,
        "low": float(picture.low),
        "high": float(picture.high),
        "x": {
            "name": picture.x.name,
            "unit": picture.x.unit,
            "scale": picture.x.scale,
            "first": float(x[0]),
            "step": float(x[1] - x[0]) if len(x) > 1 else 1.0,
            "size": len(x),
        },
        "y": {
            "name": picture.y.name,
            "unit": picture.y.unit,
            "scale": picture.y.scale,
            "values": [float(value) for value in picture.y.values],
        },
    }


def data_uri(content: bytes, media_type: str) -> str:
    """Bytes as a `data:` address."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def level_tiles(x: Any, domain: MelIF, names: Sequence[str]) -> list[str]:
    """The levels of mel-IF pictures, small, with seconds and Hz, as `Leaflet.tiles` takes figures.

    Args:
      x: (n, frames, bins, 2).
      domain: theirs.
      names: what a screen reader says of each.
    """
    return [
        figure(shrink(domain.pictures(one)[0], _TILE_BANDS, _TILE_FRAMES), name=name, width=210, height=160, alone=True)
        for one, name in zip(x, names, strict=True)
    ]


def figure(
    picture: Picture,
    *,
    title: str = "",
    name: str = "",
    theme: Theme = "light",
    width: int = 420,
    height: int | None = None,
    low: float | None = None,
    high: float | None = None,
    alone: bool = False,
) -> str:
    """A picture with true axes (seconds; Hz, and whether mel or log; pixels) and a colour bar, as one inline SVG.

    Args:
      picture: what to draw.
      title: a line above it; escaped.
      name: what a screen reader says, by default the title; escaped.
      theme: the colours; text keeps the colour of its surroundings.
      width: of the picture itself, in pixels.
      height: likewise; by default half the width, and for images what keeps their aspect.
      low: lower end of the colour map, by default the picture's own; give the same to pictures that are compared.
      high: its upper end, likewise.
      alone: for a file of its own: black on white, as it has no surroundings.
    """
    bottom = picture.low if low is None else low
    top = picture.high if high is None else high
    paper = "background:#fff;color:#1b1720;" if alone else ""
    rows, columns = np.shape(picture.values)[:2]
    flat = np.ndim(picture.values) == 2
    if height is None:
        height = round(width * rows / columns) if picture.x.unit == "px" else round(width * 0.5)
    left, above, below, right = 58, 24 if title else 8, 40, 76 if flat else 8
    spoken = html.escape(name or title or f"{axis_title(picture.y)} over {axis_title(picture.x)}")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{spoken}" '
        f'viewBox="0 0 {left + width + right} {above + height + below}" '
        f'width="{left + width + right}" style="{paper}max-width:100%;height:auto;font:11px system-ui,sans-serif" '
        'fill="currentColor">',
        f'<image x="{left}" y="{above}" width="{width}" height="{height}" preserveAspectRatio="none" '
        f'style="image-rendering:pixelated" href="{data_uri(png(picture, theme, low=low, high=high), "image/png")}"/>',
    ]
    if title:
        parts.append(f'<text x="{left}" y="14" font-weight="600">{html.escape(title)}</text>')
    for share, label in ticks(picture.x, max(2, width // 70)):
        x = left + share * width
        parts.append(f'<text x="{x:.1f}" y="{above + height + 15}" text-anchor="middle">{label}</text>')
        parts.append(f'<path d="M{x:.1f} {above + height}v4" stroke="currentColor"/>')
    for share, label in ticks(picture.y, max(2, height // 28)):
        y = above + share * height
        parts.append(f'<text x="{left - 7}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
        parts.append(f'<path d="M{left} {y:.1f}h-4" stroke="currentColor"/>')
    parts.append(
        f'<text x="{left + width / 2}" y="{above + height + 32}" text-anchor="middle">{axis_title(picture.x)}</text>'
        f'<text transform="translate(12 {above + height / 2}) rotate(-90)" text-anchor="middle">'
        f"{axis_title(picture.y)}</text>"
    )
    if flat:
        parts.append(_colour_bar(left + width + 14, above, height, theme, bottom, top, picture.unit))
    return "".join(parts) + "</svg>"


def _colour_bar(x: int, y: int, height: int, theme: Theme, low: float, high: float, unit: str) -> str:
    bar = data_uri(encode_png(np.arange(255, -1, -1, dtype=np.uint8)[:, None], theme), "image/png")
    middle = (low + high) / 2
    marks = "".join(
        f'<text x="{x + 16}" y="{y + share * (height - 8) + 8:.1f}">{value:g}{" " + unit if unit else ""}</text>'
        for share, value in ((0.0, high), (0.5, middle), (1.0, low))
    )
    return f'<image x="{x}" y="{y}" width="10" height="{height}" preserveAspectRatio="none" href="{bar}"/>{marks}'


def to_html(
    pictures: Picture | Sequence[Picture],
    *,
    titles: Sequence[str] = (),
    sounds: Sequence[Sound | None] = (),
    theme: Theme = "light",
    width: int = 260,
) -> str:
    """A grid of figures with players for a notebook, all on one colour range, without scripts or outside requests.

    Args:
      pictures: one picture or several.
      titles: a line above each; escaped.
      sounds: a sound, already at playback level, or None for each.
      theme: the colours of the pictures.
      width: of each picture, in pixels.
    """
    from nd_jax.report.sounds import encode_wav

    drawn = [pictures] if isinstance(pictures, Picture) else list(pictures)
    if not drawn:
        return "<p>nothing to show</p>"
    low, high = min(picture.low for picture in drawn), max(picture.high for picture in drawn)
    cells = []
    for index, picture in enumerate(drawn):
        title = titles[index] if index < len(titles) else ""
        sound = sounds[index] if index < len(sounds) else None
        body = figure(picture, name=title, theme=theme, width=width, low=low, high=high)
        if sound is not None:
            address = data_uri(encode_wav(sound), "audio/wav")
            body += (
                f'<audio controls preload="metadata" style="width:100%;height:32px" src="{address}" '
                f'aria-label="{html.escape(title or "sound")}"></audio>'
            )
        heading = f'<div style="font:600 12px system-ui,sans-serif">{html.escape(title)}</div>' if title else ""
        cells.append(f'<div style="width:min(100%,{width + 134}px)">{heading}{body}</div>')
    return f'<div style="display:flex;flex-wrap:wrap;gap:16px">{"".join(cells)}</div>'
