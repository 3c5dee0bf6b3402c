"""What `dissect_generator.py` finds, and the figures and the page that it makes of it."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

import nd_jax as nd
from nd_jax import generators, metrics
from nd_jax.experiments.dissect_generator_results import Found, Helped, Usual, exact_optimum
from nd_jax.report import pictures
from nd_jax.report.leaflet import Leaflet
from nd_jax.report.sheets import drafted, pictures_of, replace
from nd_jax.runtime import require
from nd_jax.visualize.parameterizations.latents import norm_percentile

# Wong 2011, "Points of view: Color blindness".
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_MARKS = "os^Dv<>"
_PAIRS = 8
_CELLS = 14


def figures(
    generator: nd.Network,
    found: Mapping[str, Found],
    usual: Mapping[str, Usual],
    grams: np.ndarray,
    helped: Mapping[str, Helped],
    settings: Any,
) -> dict[str, Any]:
    """All numbers of the page, JSON-ready."""
    law, layers = generators.latent_of(generator).law, {}
    for layer, each in found.items():
        told: dict[str, Any] = {
            "units": len(each.units),
            "beyond_natural": float(np.median(_ratio(each, usual[layer]))),
            "percentile": float(np.median(norm_percentile(each.z, law))),
            "agreement": float(np.median(each.agreement)),
        }
        exact = exact_optimum(generator, layer, each.units)
        if exact is not None:
            told["share_of_exact_optimum"] = float(np.median(each.scores / exact))
        layers[layer] = told
    _, held, _ = plane(found)
    return {
        "settings": {
            field.name: value if isinstance(value := getattr(settings, field.name), int | float) else str(value)
            for field in dataclasses.fields(settings)
        },
        "layers": layers,
        "orthogonality": dataclasses.asdict(metrics.orthogonality(grams)),
        "map_explains": held,
        "perturbations": {name: worth(each, helped["none"]) for name, each in helped.items()},
    }


def worth(each: Helped, plain: Helped) -> dict[str, Any]:
    """Medians over the units, beside those without, with 95 % intervals of the median difference (bootstrap)."""
    told: dict[str, Any] = {"units": len(each.best)}
    draw = np.random.default_rng(0).integers(0, len(each.best), (2000, len(each.best)))
    for name in ("best", "shaken", "agreement"):
        values, before = getattr(each, name), getattr(plain, name)
        low, high = np.quantile(np.median((values - before)[draw], axis=1), [0.025, 0.975])
        told[name] = {
            "median": float(np.median(values)),
            "difference": float(np.median(values - before)),
            "low": float(low),
            "high": float(high),
            "better": float(np.mean(values > before)),
        }
    return told


def plane(found: Mapping[str, Found]) -> tuple[np.ndarray, float, np.ndarray]:
    """All latents in two dimensions, by principal components of their directions.

    Returns:
      Places (units of all layers, 2); the share of the variance that they hold; the layer's number of each.
    """
    rows = np.concatenate([each.z / np.linalg.norm(each.z, axis=1, keepdims=True) for each in found.values()])
    numbers = np.concatenate([np.full(len(each.z), place) for place, each in enumerate(found.values())])
    centred = rows - rows.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    places = np.zeros((len(rows), 2))
    count = min(2, len(values))
    places[:, :count] = left[:, :count] * values[:count]
    total = float(np.sum(values**2))
    return places, float(np.sum(values[:2] ** 2) / total) if total else 0.0, numbers


def write(
    generator: nd.Network,
    found: Mapping[str, Found],
    usual: Mapping[str, Usual],
    grams: np.ndarray,
    helped: Mapping[str, Helped],
    settings: Any,
) -> pathlib.Path:
    """Writes latents.npz, figures.json and index.html; returns the path of the last.

    Raises:
      MissingExtraError: matplotlib or Pillow is missing.
    """
    out = settings.out.expanduser()
    told = figures(generator, found, usual, grams, helped, settings)
    replace(out / "figures.json", (json.dumps(told, indent=1) + "\n").encode())
    with drafted(out / "latents.npz") as draft, open(draft, "wb") as file:
        arrays = {f"{layer}:{name}": getattr(each, name) for layer, each in found.items() for name in ("units", "z")}
        np.savez(file, **arrays)
    latent = generators.latent_of(generator)
    name = generator.card.get("name") or settings.generator
    sheet = Leaflet(
        out,
        f"Inside the generator {name}",
        f"For each hidden unit the latent that drives it most (mean over its positions; {latent.size} numbers, "
        + ("kept at the length sqrt(d)" if latent.law == "normal" else "kept inside −1 ... 1")
        + f"), the best of {settings.starts} starts after {settings.steps} steps, and what the generator makes of it.",
    )
    sheet.table(
        ["layer", "units", "driven above the mean, over the 99.9th percentile", "share of the exact optimum"]
        + ["length, percentile", "cosine of two starts"],
        [
            [
                layer,
                each["units"],
                f"{each['beyond_natural']:.2f} x",
                f"{each['share_of_exact_optimum']:.4f}" if "share_of_exact_optimum" in each else "not known",
                f"{each['percentile']:.0f}",
                f"{each['agreement']:.3f}",
            ]
            for layer, each in told["layers"].items()
        ],
    )
    sheet.text(
        "Medians over the units of a layer; mean and percentile are those of activations on random latents.", soft=True
    )
    _map(sheet, generator, found)
    _orthogonality(sheet, told["orthogonality"], grams)
    if helped:
        _perturbations(sheet, told["perturbations"])
    for layer, each in found.items():
        _layer(sheet, generator, layer, each, usual[layer], settings.shown)
    sheet.link("figures.json", "All numbers")
    sheet.link("latents.npz", "All latents")
    return sheet.finish()


def _ratio(each: Found, usual: Usual) -> np.ndarray:
    """How far above the mean a unit was driven, over how far random latents drive it."""
    mean = usual.mean[each.units]
    return (each.scores - mean) / np.maximum(usual.most[each.units] - mean, 1e-9)


def _map(sheet: Leaflet, generator: nd.Network, found: Mapping[str, Found]) -> None:
    places, held, numbers = plane(found)
    sheet.heading("A map of all units' latents")
    figure = _figure(9.0, 4.6)
    left, right = figure.subplots(1, 2)
    for number, layer in enumerate(found):
        mine = numbers == number
        colour, mark = _COLOURS[number % len(_COLOURS)], _MARKS[number % len(_MARKS)]
        left.scatter(*places[mine].T, s=14, color=colour, marker=mark, label=layer, alpha=0.8, linewidth=0)
    left.legend(frameon=False, fontsize=8)
    outputs = np.concatenate([np.asarray(each.outputs) for each in found.values()])
    drawn = pictures_of(outputs, generator.output)
    low, high = places.min(axis=0), places.max(axis=0)
    cells: dict[tuple[int, int], tuple[float, int]] = {}
    for row, place in enumerate((places - low) / np.maximum(high - low, 1e-9) * _CELLS):
        cell = (min(int(place[0]), _CELLS - 1), min(int(place[1]), _CELLS - 1))
        away = float(np.sum((place - np.asarray(cell) - 0.5) ** 2))
        cells[cell] = min(cells.get(cell, (np.inf, row)), (away, row))
    for (x, y), (_, row) in cells.items():
        right.imshow(pictures.pixels(drawn[row]), extent=(x, x + 0.96, y, y + 0.96), interpolation="nearest")
    right.set(xlim=(0, _CELLS), ylim=(0, _CELLS), xticks=[], yticks=[], aspect="equal")
    for axes in (left, right):
        axes.set_xlabel("first principal component", fontsize=8)
        axes.set_ylabel("second", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    sheet.figure(
        "map.png",
        figure,
        "Two principal components of all latents, and what the generator makes there",
        f"Directions of {len(places)} latents, two principal components, which hold {100 * held:.0f} % of their "
        "variance. Right: in each cell the output of the unit nearest to its middle.",
    )


def _orthogonality(sheet: Leaflet, told: Mapping[str, Any], grams: np.ndarray) -> None:
    sheet.heading("Is the latent space orthogonal?")
    sheet.text(
        "The columns of the generator's Jacobian are what the axes of the latent do to the output; their cosines say "
        f"how alike. Mean |cosine| of two axes: {told['coherence']:.3f} (0 is orthogonal); of the axes of random "
        f"rotations: {told['coherence_rotated']:.3f}. Of the Gram matrix averaged over latents: "
        f"{told['systematic']:.3f}, rotated "
        f"{told['systematic_rotated']:.3f}. The change lies in {told['dimensions']:.1f} dimensions of {told['size']} "
        f"(participation ratio); {told['directions_90']:.0f} directions hold 90 % of it."
    )
    figure = _figure(9.0, 3.4)
    left, middle, right = figure.subplots(1, 3)
    for axes, values, words in (
        (left, metrics.cosines(grams[:1])[0], "cosines at one latent"),
        (middle, metrics.cosines(grams.mean(axis=0, keepdims=True))[0], f"of the mean over {len(grams)}"),
    ):
        drawn = axes.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        axes.set_title(words, fontsize=9)
        axes.set_xlabel("axis of the latent", fontsize=8)
        axes.tick_params(labelsize=7)
    figure.colorbar(drawn, ax=middle, shrink=0.7).ax.tick_params(labelsize=7)
    spectra = np.linalg.eigvalsh(grams)[:, ::-1]
    spectra = np.maximum(spectra / spectra[:, :1], 1e-8)
    right.plot(np.arange(1, spectra.shape[1] + 1), spectra.T, color=_COLOURS[0], alpha=0.2, linewidth=0.7)
    right.set(yscale="log", ylim=(1e-6, 1.5))
    right.set_title("eigenvalues, a line a latent", fontsize=9)
    right.set_xlabel("number", fontsize=8)
    right.tick_params(labelsize=7)
    right.grid(alpha=0.25, linewidth=0.6)
    sheet.figure("orthogonality.png", figure, "Cosines of the latent's axes, and the eigenvalues of the Gram matrices")


def _perturbations(sheet: Leaflet, told: Mapping[str, Any]) -> None:
    sheet.heading("Do noise and dropout on the latent help, at equal steps?")

    def cell(each: Mapping[str, float], digits: int) -> str:
        text = f"{each['median']:.{digits}f}, {each['difference']:+.{digits}f} ({each['low']:+.{digits}f} to "
        return (text + f"{each['high']:+.{digits}f})").replace("-", "−")

    sheet.table(
        ["perturbation, to the end", "units", "score reached (sd), and beside none", "units that gain"]
        + ["score after noise of 0.3", "cosine of two starts"],
        [
            [
                name,
                each["units"],
                cell(each["best"], 2),
                "" if name == "none" else f"{100 * each['best']['better']:.0f} %",
                cell(each["shaken"], 2),
                cell(each["agreement"], 3),
            ]
            for name, each in told.items()
        ],
    )
    sheet.text(
        "Scores in standard deviations above the unit's mean on random latents, medians over units of all layers; in "
        "brackets the 95 % interval of the median difference.",
        soft=True,
    )


def _layer(sheet: Leaflet, generator: nd.Network, layer: str, each: Found, usual: Usual, shown: int) -> None:
    sheet.heading(f"Layer {layer}")
    latent, names = generators.latent_of(generator), generators.classes_of(generator)
    order = np.argsort(-_ratio(each, usual))[:shown]
    figure = _figure(9.0, 0.55 + 0.75 * -(-min(_PAIRS, len(order)) // 2))
    grid = figure.subplots(-(-min(_PAIRS, len(order)) // 2), 4, squeeze=False, width_ratios=[3.2, 1, 3.2, 1])
    drawn = pictures_of(np.asarray(each.outputs)[order[:_PAIRS]], generator.output)
    for axes in grid.flat:
        axes.set_axis_off()
    most = float(np.abs(each.z[order[:_PAIRS]]).max())
    for place, (row, picture) in enumerate(zip(order[:_PAIRS], drawn, strict=True)):
        bars, image = grid[place // 2][2 * (place % 2)], grid[place // 2][2 * (place % 2) + 1]
        bars.set_axis_on()
        bars.bar(np.arange(latent.size), each.z[row], color=_COLOURS[0], width=1.0)
        bars.set(ylim=(-most, most), xlim=(-1, latent.size))
        bars.set_title(f"{layer}:{each.units[row]}", fontsize=7, loc="left", pad=2)
        bars.tick_params(labelsize=6)
        bars.spines[["top", "right"]].set_visible(False)
        # A spectrogram fills its place, a picture keeps its proportions.
        shape = "auto" if generator.output.is_sound else "equal"
        image.imshow(pictures.pixels(picture), interpolation="nearest", aspect=shape)
    sheet.figure(
        f"pairs-{layer.replace('/', '-')}.png",
        figure,
        f"Latents of units of {layer} and what the generator makes of them",
        "Hidden unit → latent (a bar a number) → output, for the units that were driven furthest.",
    )
    percentiles = norm_percentile(each.z[order], latent.law)
    facts = []
    for row, ratio, percentile in zip(order, _ratio(each, usual)[order], percentiles, strict=True):
        lines = [f"activation {each.scores[row]:.3g}, {ratio:.2f} x the 99.9th", f"latent: percentile {percentile:.0f}"]
        if np.isfinite(each.agreement[row]):
            lines.append(f"two starts: cosine {each.agreement[row]:.2f}".replace("-", "−"))
        facts.append([*lines, *([f"asked for class {names[each.label[row]]}"] if names else [])])
    titles, made = [f"{layer}:{each.units[row]}" for row in order], np.asarray(each.outputs)[order]
    sheet.tiles(
        f"unit-{layer.replace('/', '-')}",
        made,
        generator.output,
        titles=titles,
        facts=facts,
        figures=_levels(made, generator.output, titles),
    )


def _levels(made: np.ndarray, domain: nd.domain.Domain, titles: list[str]) -> list[str]:
    """Mel-IF pictures with axes; others stand on the page as they are."""
    if not isinstance(domain, nd.domain.MelIF):
        return []
    return pictures.level_tiles(made, domain, [f"{title}: level over time and frequency" for title in titles])


def _figure(width: float, height: float) -> Any:
    require("matplotlib", "report")
    return require("matplotlib.figure", "report").Figure(figsize=(width, height), dpi=110, layout="constrained")
