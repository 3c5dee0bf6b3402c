"""Chapter 2 as requirements, tables and pictures: what `attribution`, `attribution_cues` and `_segments` found."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from nd_jax.bench import attribution_segments, page, scores
from nd_jax.bench.attribution import MASS, POINTING, Measured, P, Row, figure
from nd_jax.bench.attribution_cues import Cues
from nd_jax.bench.attribution_methods import WRONG
from nd_jax.bench.attribution_networks import HARD
from nd_jax.bench.attribution_scores import dilated
from nd_jax.bench.chapter import Bar, Chapter
from nd_jax.bench.scores import Figure
from nd_jax.report import pictures

AREA = 0.95
FLAGGED, UNFLAGGED = 0.95, 0.05

Table = tuple[list[str], list[list[str]]]


def chapter(measured: Measured, cues: Sequence[Cues], segments: Sequence[attribution_segments.Row]) -> Chapter:
    """Everything that chapter 2 tells."""
    bars = requirements(measured, cues, segments)
    tables = {
        "Mass in the box over that of an ideal detector": overview(measured),
        "Every method on every network": rows_of(measured),
        "Two cues of which each is enough": redundancy_of(cues),
        "Segments of 100 ms": segments_of(segments),
    }
    written = "\n\n".join(f"{title}:\n\n{page.plain_table(*table)}" for title, table in tables.items())
    return Chapter(
        name="attribution",
        title="2. Attribution: do maps lie where a network looks?",
        bars=bars,
        figures={
            "size": dataclasses.asdict(measured.size),
            "effort": dataclasses.asdict(measured.effort),
            "seeds": list(measured.seeds),
            "rows": [_plain(row) for row in measured.rows],
            "cues": [_lists(cue) for cue in cues],
            "segments": [_lists(row) for row in segments],
        },
        html=_html(measured, bars, tables),
        text=f"{page.plain_table(BARS, page.bar_rows(bars))}\n\n{written}",
    )


BARS = ["requirement", "reached", "95 % interval", "asked", "met"]


def requirements(
    measured: Measured, cues: Sequence[Cues], segments: Sequence[attribution_segments.Row]
) -> tuple[Bar, ...]:
    """The bars of the chapter."""
    bars = []
    for name in measured.networks:
        row = next(row for row in measured.rows if (row.network, row.method) == (name, "occlusion"))
        bars.append(_least(f"{name}: occlusion's mass over an ideal detector's", figure(row.relative), MASS))
        bars.append(_least(f"{name}: pointing game of occlusion", figure(row.pointing), POINTING))
        bars.append(
            Bar(f"{name}: p of occlusion's mass, maps in random places", row.chance.p, row.chance.null.low,
                row.chance.null.high, f"at most {P:g}", row.chance.p <= P)
        )  # fmt: skip
    spoilt = scores.share([row.true for row in measured.rows if row.wrong])
    bars.append(Bar("spoilt maps that pass", spoilt.value, spoilt.low, spoilt.high, "none", spoilt.value == 0))
    for cue in cues:
        found = scores.share(cue.flagged)
        if cue.rule == "either":
            bars.append(_least("two sufficient cues: flagged as redundant", found, FLAGGED))
            bars.append(
                _least("two sufficient cues: named by the best pair of windows", scores.share(cue.named), FLAGGED)
            )
        else:
            what = {"both": "two cues that are both needed: flagged", "one": "one cue: flagged"}[cue.rule]
            most = f"at most {UNFLAGGED:g}"
            bars.append(Bar(what, found.value, found.low, found.high, most, found.value <= UNFLAGGED))
    for line in segments:
        if line.method == attribution_segments.SURROGATE:
            bars.append(
                _least(f"{line.network}: 100-ms segments, surrogate, area under the ROC", figure(line.area), AREA)
            )
        elif line.method == attribution_segments.PLAIN and line.network in attribution_segments.ADDING:
            bars.append(
                _least(f"{line.network}: 100-ms segments, one at a time, area under the ROC", figure(line.area), AREA)
            )
    return tuple(bars)


def overview(measured: Measured) -> Table:
    """One line a method, one column a network."""
    found = {(row.network, row.method): row for row in measured.rows}
    lines = []
    for method in dict.fromkeys(row.method for row in measured.rows):
        cells = [found[name, method] for name in measured.networks]
        lines.append([method, *(f"{row.relative.mean():.2f}{'' if row.true else ' (fails)'}" for row in cells)])
    return ["method", *measured.networks], lines


def rows_of(measured: Measured) -> Table:
    """One line a method and network."""
    head = ["network", "method", "mass / ideal", "mass", "box dilated", "rank", "pointing", "mass by chance", "p", ""]
    return head, [
        [
            row.network,
            row.method,
            _text(figure(row.relative)),
            _text(figure(row.mass)),
            f"{row.dilated.mean():.2f}",
            f"{row.rank.mean():.2f}",
            _text(figure(row.pointing)),
            _text(row.chance.null),
            f"{row.chance.p:.3f}",
            "true" if row.true else "fails",
        ]
        for row in measured.rows
    ]


def redundancy_of(cues: Sequence[Cues]) -> Table:
    """One line a rule."""
    names = {"either": "either cue is enough", "both": "both are needed", "one": "only one counts"}
    head = [
        "network",
        "clips",
        "largest single fall / all",
        "flagged",
        "best pair names both cues",
        "weaker cue alone / all",
        "mass of plain occlusion in the boxes",
    ]
    return head, [
        [
            names[cue.rule],
            str(len(cue.flagged)),
            _text(figure(cue.largest)),
            _text(scores.share(cue.flagged)),
            _text(scores.share(cue.named)) if cue.rule == "either" else "–",
            _text(figure(cue.alone)),
            _text(figure(cue.occlusion)),
        ]
        for cue in cues
    ]


def segments_of(segments: Sequence[attribution_segments.Row]) -> Table:
    """One line a method, one column a network: the area under the ROC."""
    found = {(row.network, row.method): row for row in segments}
    names = list(dict.fromkeys(row.network for row in segments))
    lines = [
        [method, *(_text(figure(found[name, method].area)) for name in names)]
        for method in dict.fromkeys(row.method for row in segments)
    ]
    null = [found[name, attribution_segments.PLAIN].chance for name in names]
    lines.append(["other clips' truth", *(_text(each.null) for each in null)])
    return ["method", *names], lines


def _least(what: str, found: Figure, least: float) -> Bar:
    return Bar(what, found.value, found.low, found.high, f"at least {least:g}", found.value >= least)


def _text(found: Figure) -> str:
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def _plain(row: Row) -> dict[str, Any]:
    return {**_lists(row), "relative": row.relative.tolist(), "true": row.true}


def _lists(thing: Any) -> dict[str, Any]:
    """A dataclass of arrays as JSON."""
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in dataclasses.asdict(thing).items()
    }


def _html(measured: Measured, bars: Sequence[Bar], tables: dict[str, Table]) -> str:
    marked = [
        [*row[:-1], f'<b class="{"good" if row[-1] == "yes" else "bad"}">{row[-1]}</b>'] for row in page.bar_rows(bars)
    ]
    size, (bands, frames) = measured.size, measured.size.window
    words = {
        "Mass in the box over that of an ideal detector": (
            "The share of a map's positive part that lies in the event's box, over the share that the same method "
            "gives for a detector that sums the cells of that box and sees nothing else: what is lost is the network's "
            f"looking elsewhere or the method's mistake, not the size of its windows. A method is true where it has "
            f"{MASS:g} of it, and would not by chance (p {P:g})."
        ),
        "Every method on every network": (
            "Mass in the box dilated by half a window; rank: the share of the largest cells, as many as the box has, "
            "that lie in it; pointing: whether the largest does. By chance: the same maps, each in a random place."
        ),
        "Two cues of which each is enough": (
            "A clip is flagged where no single window costs a tenth of what everything costs. Where each cue is "
            "enough, occlusion finds nothing; each cue kept alone, and both taken away together, tell."
        ),
        "Segments of 100 ms": (
            "The protocol of Bolaños et al. 2025 on clips of four sounds, two of them of the class: area under the ROC "
            "of segments, log-odds explained; see the docs for what differs from theirs."
        ),
    }
    hard = page.table(["network", "what is hard about it"], [[name, HARD[name]] for name in measured.networks])
    body = "".join(
        f"<h3>{title}</h3><p>{html.escape(words[title])}</p>{page.table(*table)}" for title, table in tables.items()
    )
    return (
        f"<p>{len(measured.seeds)} seeds, {size.clips} clips each with one event: noise in a band, {size.above_db:g} "
        "dB above its background. Every weight of the networks is set by hand, so that where they look is known. "
        f"Occluded windows have {bands} bands and {frames} frames, a quarter of the smallest event or less.</p>"
        f"{page.table(BARS, marked)}{hard}{body}<h3>Maps</h3>{_gallery(measured)}"
    )


def _gallery(measured: Measured) -> str:
    """The first clip, the edge of its event's box drawn in, and its maps by every method, network by network."""
    clips, domain = measured.clips, measured.size.domain(measured.clips.inputs.shape[2])
    box = clips.boxes[0, 0]
    edge = dilated(box, (1, 1)) & ~box
    seen = np.where(edge[..., None], 1.0, clips.inputs[0])
    parts = []
    for network in measured.networks:
        drawn = [
            pictures.figure(
                domain.picture(seen), title="the clip and its box", theme="light", width=_WIDTH, height=_HEIGHT
            )
        ]
        for title, maps in measured.maps[network].items():
            if title not in WRONG:
                drawn.append(_map(domain, maps[0], title))
        parts.append(
            f"<h4>{network}</h4>" + f'<div class="pair">{"".join(f"<figure>{each}</figure>" for each in drawn)}</div>'
        )
    return "".join(parts)


_WIDTH, _HEIGHT = 150, 90


def _map(domain: Any, values: np.ndarray, title: str) -> str:
    positive = np.maximum(values, 0.0)
    share = positive / max(float(positive.max()), 1e-30)
    low, high = domain.to_db(0.0), domain.to_db(1.0)
    drawn = domain.picture(share[..., None])
    shown = dataclasses.replace(drawn, values=(drawn.values - low) / (high - low), unit="", low=0.0, high=1.0)
    return pictures.figure(shown, title=title, theme="light", width=_WIDTH, height=_HEIGHT)
