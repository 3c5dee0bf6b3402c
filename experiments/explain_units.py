"""The page of a sound or picture on which every unit of a layer shows where it is active and plays what it hears."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

import nd_jax as nd
from nd_jax.experiments.explain_page import Explained, negligible
from nd_jax.report import pictures, sheets
from nd_jax.report.leaflet import Leaflet
from nd_jax.report.overlays import overlaid

# Rows and columns of a picture on the page: layers have hundreds of units.
_LARGEST = (128, 160)


def write(
    network: nd.Network, each: Explained, number: int, layer: str, baseline: str | float, out: pathlib.Path
) -> str:
    """Writes OUT/units/NUMBER; returns the page's path below OUT.

    Raises:
      LayerError, ValueError: no such layer, or one without positions.
    """
    place = pathlib.Path("units") / f"{number:03d}"
    maps = nd.attribute.unit_maps(network, each.x, layer, baseline=baseline)
    order = maps.order
    above = maps.values - maps.rest
    hears = network.input.is_sound
    nothing = "middle grey" if baseline == "silence" and not hears else baseline
    page = Leaflet(
        out / place,
        f"{each.name} in the units of {layer}",
        f"{len(maps.units)} units, the strongest first. In red where a unit is above what it gives when there is "
        f"nothing ({nothing}), in blue where it is below, each on a scale of its own, over the input in grey; the "
        "strength is the mean of that over positions."
        + " Below it the input filtered by the red: what the unit hears." * hears
        + f" A position sees {' x '.join(_reach(maps))}, and stands where the middle of that is.",
    )
    page.link("../../index.html", "All methods")
    picture = network.input.picture(each.x)
    assert picture is not None
    axes = [axis for axis in network.input.axes if axis.name != "channel"]
    drawn = []
    for unit in order:
        rounding = negligible(above[unit], float(np.abs(maps.values[unit]).max()))
        shown = pictures.shrink(overlaid(picture, above[unit] * (not rounding), axes), *_LARGEST)
        height = 230 if picture.x.unit == "px" else 150
        drawn.append(pictures.figure(shown, name=f"unit {maps.units[unit]}", width=230, height=height, alone=True))
    page.tiles(
        "unit",
        maps.heard(each.x)[order],
        network.input,
        titles=[f"{layer}:{maps.units[unit]}" for unit in order],
        facts=[[f"strength {maps.strength[unit]:.3g}, largest {maps.values[unit].max():.3g}"] for unit in order],
        figures=drawn,
    )
    arrays: dict[str, Any] = {
        name: getattr(maps, name) for name in ("units", "activations", "values", "rest", "strength")
    }
    arrays |= {f"centres_{axis}": field.centres for axis, field in enumerate(maps.fields)}
    with sheets.drafted(out / place / "maps.npz") as draft, open(draft, "wb") as file:
        np.savez_compressed(file, **arrays)
    page.link("maps.npz", "The maps as arrays")
    page.finish()
    return (place / "index.html").as_posix()


def _reach(maps: nd.attribute.UnitMaps) -> list[str]:
    """What a position sees, along every axis: seconds, Hz where they are even, steps."""
    found = []
    for field, axis in zip(maps.fields, maps.domain.axes, strict=False):
        if field.reach >= 2 * field.size - 1:
            found.append(f"all of the {axis.name}")
        elif axis.name == "time":
            found.append(f"{field.reach * (axis.values[1] - axis.values[0]):.3g} s")
        else:
            found.append(f"{field.reach} {'bands' if axis.name == 'frequency' else axis.unit}")
    return found
