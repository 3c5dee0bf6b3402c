"""`weights`: filters and composed weights of a network's layers, with true axes, playable where they are spectra."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nd_jax import taps
from nd_jax.dissect.weights import Weights, composable, composed
from nd_jax.domain import Axis, Picture, Waveform
from nd_jax.network import digest
from nd_jax.report import pictures
from nd_jax.report.natural import played
from nd_jax.report.page import Page, fingerprint, ramp
from nd_jax.report.sounds import at_playback_level, encode_wav
from nd_jax.runtime import require

if TYPE_CHECKING:
    from nd_jax.network import Network

# What adds and what takes away; how strong it is says the opacity, so that nothing is nothing on any background.
_PLUS, _MINUS = (222, 118, 10), (48, 124, 226)
# Numbers of all pictures of a layer beyond which each is drawn smaller.
_MOST = 4_000_000
_SMALL = (96, 128)


def weights(
    network: Network,
    folder: Any,
    *,
    layers: Sequence[str] | None = None,
    units: Sequence[int] | None = None,
    title: str | None = None,
    single_file: bool = False,
) -> pathlib.Path:
    """Writes a page with the weights of a network: the first layer's filters, and composed weights of deeper layers.

    A classifier's are composed back to its input, a generator's on to its output, every nonlinearity in between taken
    as a straight line (`nd_jax.dissect.composed`; Voss et al. 2021, "Visualizing Weights"). They are drawn with
    the axes of that domain, seconds and Hz, and played through it where it is sound.

    Args:
      network: any Network whose input or output can be drawn.
      folder: where to write; made if missing.
      layers: layer names; by default all with weights of their own.
      units: which units of each layer; by default all.
      title: the name on the page; by default that of the network.
      single_file: one index.html with everything inside.

    Returns:
      The path of index.html.

    Raises:
      LayerError: an unknown layer.
      ValueError: no layer whose weights can be composed and drawn.
      MissingExtraError: matplotlib or Pillow is not installed.
    """
    for module in ("matplotlib", "PIL.Image"):
        require(module, "report")
    found: list[Weights] = []
    for layer in layers if layers is not None else taps.weighted_layers(network):
        part = composable(network, layer) if layers is None and units is None else composed(network, layer, units)
        found += [] if part is None else [part]
    if not found:
        raise ValueError("this network has no layer whose weights can be composed and drawn")
    name = str(title or network.card.get("name") or type(network.module).__name__)
    page = Page(folder, single_file=single_file)
    try:
        shown = []
        for number, one in enumerate(found):
            slug = f"{number:02d}"
            shown.append({"name": one.layer, "slug": slug, "weights": written(page, slug, one, heard=True)})
        index = {"title": name, "layers": shown, "ramps": {theme: ramp(theme) for theme in pictures.MAPS}}
        return page.finish(index, title=f"Weights of {name}", parts=("weights",), main="weights_page")
    except BaseException:
        page.discard()
        raise


def for_layer(page: Page, slug: str, network: Network, layer: str, first: bool) -> dict[str, Any] | None:
    """The weights of an atlas's layer, or those that an earlier page drew; None where there are none to draw.

    Args:
      page: the atlas.
      slug: folder of the layer's files.
      network: the network.
      layer: the layer.
      first: whether its weights are to be heard too.
    """
    name = fingerprint("weights", digest(network), layer, first)
    known = page.recall(name, f"{slug}/weights")
    if known is not None:
        return dict(known) or None
    found = composable(network, layer)
    about = None if found is None else written(page, slug, found, heard=first)
    endings = [] if about is None else [".png", *(f".{unit}.wav" for unit in about["sounds"])]
    page.remember(name, f"{slug}/weights", endings, about or {})
    return about


def written(page: Page, slug: str, found: Weights, *, heard: bool, name: str = "weights") -> dict[str, Any]:
    """Writes the sheet (and sounds) of some weights; returns what the page needs to show them."""
    drawn = found.pictures()
    if len(drawn) * drawn[0].values.size > _MOST:
        drawn = [pictures.shrink(picture, *_SMALL) for picture in drawn]
    signed = not isinstance(found.domain, Waveform)
    across = math.ceil(math.sqrt(len(drawn)))
    page.add(f"{slug}/{name}.png", sheet(drawn, across, signed))
    first = drawn[0]
    axes = {
        which: {
            "title": pictures.axis_title(axis),
            "ticks": [[round(share, 4), text] for share, text in _ticks(axis, count)],
        }
        for which, axis, count in (("x", first.x, 4), ("y", first.y, 6))
    }
    return {
        "towards": found.towards,
        "placed": found.placed,
        "through": list(found.through),
        "rows": first.values.shape[0],
        "columns": first.values.shape[1],
        "across": across,
        "down": math.ceil(len(drawn) / across),
        "square": first.x.unit == "px",
        "signed": signed,
        "coloured": np.ndim(first.values) == 3,
        "units": [int(unit) for unit in found.units],
        "extremes": [_extremes(picture) for picture in drawn] if signed else [],
        "sounds": _sounds(page, slug, found) if heard else {},
        **axes,
    }


def _ticks(axis: Axis, count: int) -> list[tuple[float, str]]:
    """Marks of an axis; of a part of a scale that has no round decade, marks that are round on their own."""
    found = pictures.ticks(axis, count)
    return found if len(found) > 1 else pictures.ticks(dataclasses.replace(axis, scale="linear"), count)


def sheet(drawn: Sequence[Picture], across: int, signed: bool) -> bytes:
    """All pictures of a layer in one PNG, row by row; those with signs see-through where they are nothing."""
    tiles = [_signed(picture) if signed else pictures.pixels(picture) for picture in drawn]
    rows, columns, channels = tiles[0].shape
    down = math.ceil(len(tiles) / across)
    whole = np.zeros((down * rows, across * columns, channels), np.uint8)
    for place, tile in enumerate(tiles):
        row, column = divmod(place, across)
        whole[row * rows : (row + 1) * rows, column * columns : (column + 1) * columns] = tile
    return pictures.encode_png(whole)


def _signed(picture: Picture) -> np.ndarray:
    """(rows, columns, 4): orange where a weight adds, blue where it takes away, by its share of the largest.

    Of weights in colour each channel is its own: grey where there is nothing, as in Zeiler and Fergus 2014.
    """
    values = np.nan_to_num(np.asarray(picture.values, np.float64))
    largest = max(float(np.abs(values).max()), 1e-30)
    if values.ndim == 3:
        colours = np.round(127.5 * (1.0 + values / largest))
        return np.concatenate([colours, np.full((*values.shape[:2], 1), 255.0)], axis=-1).astype(np.uint8)
    share = np.abs(values) / largest
    colour = np.where(values[..., None] > 0, np.array(_PLUS), np.array(_MINUS))
    return np.concatenate([colour, np.round(255 * share[..., None])], axis=-1).astype(np.uint8)


def _extremes(picture: Picture) -> list[list[float]]:
    """[weight, x, y] of the largest and of the smallest weight."""
    found = []
    for place in (np.argmax(picture.values), np.argmin(picture.values)):
        index = np.unravel_index(place, picture.values.shape)
        at = (picture.values[index], picture.x.values[index[1]], picture.y.values[index[0]])
        found.append([float(f"{float(value):.4g}") for value in at])
    return found


def _sounds(page: Page, slug: str, found: Weights) -> dict[str, Any]:
    """Writes the weights that are sound; {unit: how it is played}."""
    made = found.sounds()
    about: dict[str, Any] = {}
    for unit, sound in zip(found.units, made or (), strict=False):
        ready = at_playback_level(sound)
        if not ready.silent:
            page.add(f"{slug}/weights.{unit}.wav", encode_wav(ready.sound))
            about[str(unit)] = played(ready)
    return about
