"""`atlas`: a static page on which every unit of a network can be seen and heard.

    folder/index.html            the page: its own CSS and JavaScript, the list of layers and units
    folder/explain/index.html    beside it, if experiments/explain.py made one: units on sounds of one's own
    folder/atlas-1a2b3c4d/       what it shows: <layer>.js, <layer>/<unit>.png .wav .npz .strip.png,
                                 natural/<clip>.png .wav .twin.wav; kept.json says what each was made of

It opens from the disk, with no server and no network.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nd_jax import taps
from nd_jax.domain import Domain
from nd_jax.report import pictures, recipe
from nd_jax.report.generated import Drawn
from nd_jax.report.labels import Labelled
from nd_jax.report.layers import Collected, collect
from nd_jax.report.natural import Natural
from nd_jax.report.page import OF_GENERATORS, PARTS, Page, ramp
from nd_jax.report.sounds import LOUDNESS
from nd_jax.report.training import Course, Moment
from nd_jax.report.trust import Cards
from nd_jax.report.tuning import Measured
from nd_jax.report.units import Lane
from nd_jax.runtime import progress_bar, require

if TYPE_CHECKING:
    from nd_jax.dissect.exemplars import Exemplars
    from nd_jax.dissect.labels import Labels
    from nd_jax.dissect.tuning_sweep import MeasuredTuning
    from nd_jax.network import Network
    from nd_jax.visualize.result import Visualization
    from nd_jax.visualize.trust import Trust


def atlas(
    results: Visualization | Sequence[Visualization],
    folder: Any,
    *,
    exemplars: Exemplars | None = None,
    trust: Trust | Sequence[Trust] = (),
    training: Sequence[Moment] = (),
    tuning: MeasuredTuning | None = None,
    labels: Labels | None = None,
    weights: bool = True,
    title: str | None = None,
    single_file: bool = False,
    command: str | None = None,
    source: str | None = None,
    planned: Mapping[str, int] | None = None,
    seconds_left: float | None = None,
    progress: bool = True,
) -> pathlib.Path:
    """Writes the atlas of one network.

    Pictures share one colour range (the domain's), sounds one loudness (-20 LUFS, with the gain and the limiter's work
    stated). The page is replaced in one step: a killed run leaves the page that was there.

    Args:
      results: what `visualize_batch` found, one result or several (layers, objectives, seeds) of one network.
      folder: where to write; made if missing, other files in it stay.
      exemplars: natural inputs per unit, from `nd_jax.dissect.exemplars`.
      trust: how far each input is to be believed, from `nd_jax.visualize.trust.measure`, one card a result.
      training: the network at moments of its training, for a slider on every unit's page.
      tuning: what units are tuned to, from `nd_jax.dissect.measured_tuning`, drawn on their pages.
      labels: what units are most alike, `nd_jax.dissect.Labels`; above chance, a label names a unit that has no name.
      weights: whether filters and composed weights are drawn, of layers that have such.
      title: the name on the page; by default that of the network.
      single_file: one index.html with everything inside instead of a folder of files, a third larger than those. It
        paints as soon as its first part is read, but a browser holds all of it in memory: 1,250 units of a small front
        end are 16 MB, as many of a 2 s, 16 kHz one with their natural sounds a few hundred, and better a folder.
      command: the command that makes this page; shown where something is missing.
      source: what `nd_jax.load` takes to load the network, for the calls shown on the page.
      planned: {layer: units} of a sweep that still runs; the page says what is there and what is to come.
      seconds_left: the sweep's own estimate.
      progress: shows a progress bar with the time left.

    Returns:
      The path of index.html. Pictures and sounds of units and clips that the folder's last page showed already are
      kept, not made again.

    Raises:
      ValueError: no results, results of different domains, or a domain that cannot be drawn.
      MissingExtraError: matplotlib or Pillow is not installed.
    """
    runs = _runs(results)
    network = next((run.network for run in runs if run.network is not None), None)
    drawn = Drawn(runs[0])
    domain = drawn.domain
    if exemplars is not None and tuple(exemplars.inputs.shape[1:]) != domain.shape:
        raise ValueError(
            f"exemplars are of shape {exemplars.inputs.shape[1:]}, but the results of shape {domain.shape}"
        )
    first = drawn.picture(Lane(runs[0], 0, "").example())
    if first is None:
        raise ValueError(f"a domain of kind {domain.kind!r} has nothing to draw, so there is no atlas of it")
    for module in ("matplotlib", "PIL.Image"):
        require(module, "report")
    name = (
        title or (network and network.card.get("name")) or runs[0].manifest.get("network", {}).get("name") or "Network"
    )
    page = Page(folder, single_file=single_file)
    cards = Cards(page, domain, list(trust) if isinstance(trust, (list, tuple)) else [trust])  # type: ignore[list-item]
    try:
        work = sum(map(len, runs)) + (0 if exemplars is None else len(exemplars.kept))
        with progress_bar(work, "picture and sound", progress) as tick:
            natural = Natural(page, domain, exemplars, tick=tick)
            found = collect(
                page,
                runs,
                network,
                natural,
                cards,
                Course(page, domain, training),
                Measured(page, tuning),
                Labelled(labels),
                weigh=weights,
                source=source,
                planned=planned or {},
                tick=tick,
            )
        index = {
            "title": str(name),
            "card": card_line(network.card if network is not None else {}),
            "about": _about(runs, found, domain),
            "made": None if drawn.generator is None else ("pitch" if drawn.pitches else "class"),
            "command": command,
            "progress": _progress(found, seconds_left),
            "sound": found.sound,
            "picture": pictures.described(first),
            "thumbs": found.thumbs,
            "ramps": {theme: ramp(theme) for theme in pictures.MAPS},
            "explain": _explained(runs[0], network, source, pathlib.Path(folder)),
            "natural": None if exemplars is None else {"count": exemplars.count},
            "layers": found.layers,
            "others": found.others,
        }
        parts = PARTS if drawn.generator is None else (*PARTS, *OF_GENERATORS)
        return page.finish(index, title=str(name), parts=parts)
    except BaseException:
        page.discard()
        raise


def _explained(
    run: Visualization, network: Network | None, source: str | None, folder: pathlib.Path
) -> dict[str, Any] | None:
    """What the command that explains a unit on files of one's own is made of, and the page that it made beside this."""
    domain = run.domain
    if domain.kind not in ("log_mel", "fbank", "waveform", "image"):
        return None
    rank = len(domain.shape)
    shapes = {} if network is None else taps.layers(network)
    page, of = folder / "explain" / "index.html", ""
    if page.is_file():
        try:
            settings = json.loads((page.parent / "figures.json").read_text(encoding="utf-8"))["settings"]
            of = settings["unit"] or settings["target"] or "what the network says"
        except (OSError, ValueError, KeyError):
            of = "another run"
    return {
        "what": "sounds" if domain.is_sound else "pictures",
        "network": recipe.loaded(run, source) or "NETWORK",
        "mapped": [layer for layer, shape in shapes.items() if len(shape) == rank],
        "out": (folder / "explain").as_posix(),
        "page": "explain/index.html" if page.is_file() else None,
        "of": of,
    }


def _runs(results: Any) -> list[Visualization]:
    runs = [run for run in (results if isinstance(results, (list, tuple)) else [results]) if len(run.labels)]
    if not runs:
        raise ValueError("there are no results to show: give what visualize_batch returned")
    for run in runs[1:]:
        if run.domain.to_dict() != runs[0].domain.to_dict():
            raise ValueError("the results are of networks with different inputs; write one atlas for each")
    return runs


def card_line(card: Mapping[str, Any]) -> str:
    """The model card in one line: what for, trained on what, how good, under which licence."""
    parts = []
    if card.get("task"):
        parts.append(_words(card["task"]))
    if card.get("data"):
        parts.append(f"trained on {_words(card['data'])}")
    if card.get("accuracy"):
        parts.append(f"accuracy {_numbers(card['accuracy'])}")
    if card.get("licence"):
        parts.append(f"licence {_words(card['licence'])}")
    return " ".join(part[:1].upper() + part[1:] + "." for part in parts)


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_words(item)}" for key, item in value.items())
    return ", ".join(map(_words, value)) if isinstance(value, (list, tuple)) else str(value).rstrip(". ")


def _numbers(value: Any) -> str:
    if isinstance(value, Mapping) and "value" in value:
        interval = f" ({_numbers([value['low'], value['high']])})" if {"low", "high"} <= set(value) else ""
        return _numbers(value["value"]) + interval
    if isinstance(value, Mapping):
        return ", ".join(f"{str(key).replace('_', ' ')} {_numbers(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return " to ".join(map(_numbers, value))
    return f"{100 * value:.1f} %" if isinstance(value, float) and 0 <= value <= 1 else str(value)


def _about(runs: Sequence[Visualization], found: Collected, domain: Domain) -> str:
    steps = sorted({int(step) for run in runs for step in run.steps_done})
    span = f"{steps[0]}" if len(steps) == 1 else f"{steps[0]} to {steps[-1]}"
    version = runs[0].manifest.get("versions", {}).get("nd_jax", "")
    count = sum(int(np.size(run.scores)) for run in runs)
    lines = [f"{count:,} inputs optimised with nd_jax {version}, {span} steps each.".replace(" ,", ",")]
    if found.sound:
        lines.append(
            f"All sounds are played at {LOUDNESS:g} LUFS".replace("-", "−") + ", the gain stated, with a peak limiter."
        )
    if found.notes[0]:
        lines.append(
            f"The pitch heard (the period of the sound, measured without any network) lies within 50 cents of the one "
            f"asked for in {found.notes[1]:,} of {found.notes[0]:,} sounds."
        )
    if domain.made_of:
        lines.append(domain.made_of)
    return " ".join(lines)


def _progress(found: Collected, seconds_left: float | None) -> dict[str, Any] | None:
    done = sum(layer["units"] for layer in found.layers)
    total = sum(layer["planned"] for layer in found.layers)
    return {"done": done, "total": total, "seconds_left": seconds_left} if total > done else None
