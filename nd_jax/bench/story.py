"""Chapter 1 as requirements, tables, curves and pictures: what `visualization.measure_all` found, for people."""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Sequence

import numpy as np

from nd_jax.bench import ablation, page, scores
from nd_jax.bench.chapter import Bar, Chapter
from nd_jax.bench.scores import Figure
from nd_jax.bench.visualization import CENTS, CORRELATION, FRAMES, PASSING, RATIO, Measured, Row
from nd_jax.domain import LogMel
from nd_jax.report import pictures
from nd_jax.report import sounds as playing

SHOWN_NETWORKS = 2
_WORDS = {"pays": "good", "harms": "bad", "neutral": "soft"}


def chapter(measured: Measured) -> Chapter:
    """Everything that chapter 1 tells."""
    bars = requirements(measured)
    kinds, ideas, reached = _kinds(measured), _ideas(measured), _reached(measured)
    text = "\n\n".join(
        page.plain_table(*each) for each in ((_BARS, page.bar_rows(bars)), kinds, _controls(measured), reached, ideas)
    )
    return Chapter(
        name="visualization",
        title="1. Visualization: is what is found what the units like best?",
        bars=bars,
        figures={
            "steps": measured.steps,
            "compared_steps": measured.compared_steps,
            "rows": [{**dataclasses.asdict(row), "passed": row.passed} for row in measured.rows],
            "controls": {name: dataclasses.asdict(each) for name, each in measured.controls.items()},
            "random_weights": _control_shares(measured.random_weights),
            "recipes": ablation.plain(measured.outcomes),
            "ideas": [dataclasses.asdict(each) for each in measured.worths],
        },
        html=_html(measured, bars, kinds, reached, ideas),
        text=text,
    )


_BARS = ["requirement", "reached", "95 % interval", "asked", "met"]


def requirements(measured: Measured) -> tuple[Bar, ...]:
    """The bars of the chapter."""
    live = [row for row in measured.rows if not row.dead]
    flagged = [row for row in measured.rows if row.flagged]

    def at_least(what: str, hits: Sequence[bool], least: float = PASSING) -> Bar:
        found = scores.share(hits)
        return Bar(what, found.value, found.low, found.high, f"at least {least:g}", found.value >= least)

    def known(name: str) -> list[float]:
        return [abs(getattr(row, name)) for row in live if not math.isnan(getattr(row, name))]

    false = scores.share([row.flagged for row in live])
    bars = [
        at_least("live units that pass in everything", [row.passed for row in live]),
        at_least(f"score over known maximum {RATIO:g} or more", [row.ratio >= RATIO for row in live]),
        at_least(
            f"correlation with true optimum {CORRELATION:g} or more", [row.correlation >= CORRELATION for row in live]
        ),
        at_least(f"pitch within {CENTS:g} cents", [value <= CENTS for value in known("pitch_cents")]),
        at_least("onset within one hop", [value <= FRAMES for value in known("onset_frames")]),
        at_least("dead units: precision", [row.dead for row in flagged]),
        at_least("dead units: recall", [row.flagged for row in measured.rows if row.dead], 0.95),
        Bar("live units called dead", false.value, false.low, false.high, "at most 0.01", false.value <= 0.01),
    ]
    for name, control in measured.controls.items():
        bars.append(
            Bar(
                f"median {name}, p under shuffled targets",
                control.p,
                control.null.low,
                control.null.high,
                "p at most 0.01",
                control.p <= 0.01,
            )
        )
    return tuple(bars)


def _text(figure: Figure, digits: int = 2) -> str:
    if math.isnan(figure.value):
        return "–"
    return f"{figure.value:.{digits}f} ({figure.low:.{digits}f} to {figure.high:.{digits}f})"


def _kinds(measured: Measured) -> tuple[list[str], list[list[str]]]:
    live = [row for row in measured.rows if not row.dead]
    groups: list[tuple[str, list[Row]]] = [("all live units", live)]
    for field in ("kind", "readout", "pool"):
        for value in dict.fromkeys(getattr(row, field) for row in live):
            groups.append((f"{field}: {value}", [row for row in live if getattr(row, field) == value]))
    groups.append(("answers at the start", [row for row in live if not row.closed]))
    groups.append(("silent at the start", [row for row in live if row.closed]))
    for part in ("aligned", "rotated", "own ReLU", "foreign ReLU"):
        groups.append((part, [row for row in live if part in row.network]))
    head = ["units", "n", "pass", "score / maximum", "correlation", "cents off", "hops off", "steps to 90 %"]
    lines = []
    for name, rows in groups:
        if rows:
            lines.append(
                [
                    name,
                    str(len(rows)),
                    _text(scores.share([row.passed for row in rows])),
                    _text(scores.bootstrap([row.ratio for row in rows]), 3),
                    _text(scores.bootstrap([row.correlation for row in rows]), 3),
                    _text(scores.bootstrap([abs(row.pitch_cents) for row in rows]), 0),
                    _text(scores.bootstrap([abs(row.onset_frames) for row in rows]), 1),
                    _text(scores.bootstrap([row.steps_90 for row in rows]), 0),
                ]
            )
    return head, lines


def _control_shares(rows: Sequence[Row]) -> dict[str, object]:
    return {
        "passing": dataclasses.asdict(scores.share([row.passed for row in rows])),
        "correlation": dataclasses.asdict(scores.bootstrap([row.correlation for row in rows])),
    }


def _controls(measured: Measured) -> tuple[list[str], list[list[str]]]:
    head = ["control", "found", "under the null", "p"]
    lines = [
        [f"median {name}, targets shuffled", f"{each.observed:.3f}", _text(each.null, 3), f"{each.p:.3f}"]
        for name, each in measured.controls.items()
    ]
    live = [row for row in measured.rows if not row.dead]
    correlation = scores.bootstrap([row.correlation for row in live])
    none = scores.bootstrap([row.correlation for row in measured.random_weights])
    lines.append(["median correlation, weights shuffled", f"{correlation.value:.3f}", _text(none, 3), "–"])
    passing, nobody = (scores.share([row.passed for row in rows]) for rows in (live, measured.random_weights))
    lines.append(["share passing, weights shuffled", f"{passing.value:.3f}", _text(nobody, 3), "–"])
    return head, lines


def _reached(measured: Measured) -> tuple[list[str], list[list[str]]]:
    head = ["recipe", "pass", "score / maximum", "correlation", "steps to 90 %", "level of what does not matter, dB"]
    return head, [
        [
            each.recipe.name,
            _text(scores.share(each.passed)),
            _text(scores.bootstrap(each.ratio), 3),
            _text(scores.bootstrap(each.correlation), 3),
            _text(scores.bootstrap(each.steps_90), 0),
            _text(scores.bootstrap(each.clutter_db), 1),
        ]
        for each in measured.outcomes
    ]


def _ideas(measured: Measured) -> tuple[list[str], list[list[str]]]:
    head = [
        "idea",
        "in the default",
        "pass, with - without",
        "truth, with - without",
        "steps, with / without",
        "dB",
        "",
    ]
    return head, [
        [
            each.idea,
            "yes" if each.in_default else "no",
            _text(each.passing),
            _text(each.truth, 3),
            _text(each.speed),
            _text(each.clutter_db, 1),
            each.verdict,
        ]
        for each in measured.worths
    ]


def _html(
    measured: Measured,
    bars: Sequence[Bar],
    kinds: tuple[list[str], list[list[str]]],
    reached: tuple[list[str], list[list[str]]],
    ideas: tuple[list[str], list[list[str]]],
) -> str:
    marked = [
        [*row[:-1], f'<b class="{"good" if row[-1] == "yes" else "bad"}">{row[-1]}</b>'] for row in page.bar_rows(bars)
    ]
    judged = [[*row[:-1], f'<b class="{_WORDS[row[-1]]}">{row[-1]}</b>'] for row in ideas[1]]
    chosen = sorted(measured.outcomes, key=lambda each: -float(each.passed.mean()))
    lines = [(each.recipe.name, list(map(float, each.moments)), each.curve.tolist()) for each in chosen]
    names = ", ".join(case.name for case in measured.cases)
    return (
        f"<p>{len(measured.rows)} units of {len(measured.cases)} networks ({html.escape(names)}), {measured.steps} "
        "steps each. A unit passes when its score, its picture, and, where it has one, its pitch and its onset are "
        "right. Shares have Wilson's interval, medians and differences the bootstrap's over units (95 %).</p>"
        f"{page.table(_BARS, marked)}<h3>By kind of unit</h3>{page.table(*kinds)}"
        f"<h3>Controls</h3><p>The same figures with found inputs and targets paired at random within a network "
        "(permutations), and for networks whose filters' weights were put into random cells.</p>"
        f"{page.table(*_controls(measured))}"
        f"<h3>Recipes, {measured.compared_steps} steps each, on units that answer at the start</h3>"
        f"{page.table(*reached)}<h3>What each idea is worth</h3>"
        "<p>Paired by unit: the recipe with the idea minus (or over) the one without. Truth is the smaller of score "
        "over maximum and correlation. The verdict comes from the intervals: more units passing, or what is found "
        "nearer to the truth, pays; where neither differs, the faster climb decides.</p>"
        f"{page.table(ideas[0], judged)}<h3>How fast they climb</h3>"
        f"{page.curves(lines, x='step', y='score over known maximum (median)')}"
        f"<h3>Truth beside found</h3>{_gallery(measured)}<h3>Every unit</h3>{_units(measured)}"
    )


def _gallery(measured: Measured) -> str:
    """Pictures of the units of the first networks, the truth to the left; sounds for one unit of each kind."""
    parts = []
    first = 0
    for case, found in list(zip(measured.cases, measured.found, strict=True))[:SHOWN_NETWORKS]:
        domain = case.planted.domain
        rows = measured.rows[first : first + len(case.planted)]
        first += len(rows)
        heard: set[str] = set()
        parts.append(f"<h4>{html.escape(case.name)}</h4>")
        for row, unit, picture in zip(rows, case.planted.units, found.inputs, strict=True):
            if unit.dead:
                continue
            truths = list(unit.best_inputs(domain))
            title = f"{row.number}: {unit.kind}, {unit.readout}, {unit.pool}"
            values = f"score {row.ratio:.3f}, correlation {row.correlation:.3f}" + ("" if row.passed else ", fails")
            drawn = [_drawn(domain, x, name) for name, x in ((title, truths[0]), (values, picture))]
            if len(truths) > 1:
                drawn.insert(1, _drawn(domain, truths[1], "or"))
            if unit.kind not in heard:
                heard.add(unit.kind)
                drawn.append(
                    "".join(_player(domain, x, name) for name, x in (("truth", truths[0]), ("found", picture)))
                )
            parts.append(f'<div class="pair">{"".join(f"<figure>{each}</figure>" for each in drawn)}</div>')
    return "".join(parts)


def _drawn(domain: LogMel, x: np.ndarray, title: str) -> str:
    return pictures.figure(domain.picture(x), title=title, theme="light", width=220, height=140)


def _player(domain: LogMel, x: np.ndarray, name: str) -> str:
    ready = playing.at_playback_level(domain.sound(x)).sound
    address = pictures.data_uri(playing.encode_wav(ready), "audio/wav")
    return f'<figcaption class="soft">{name}</figcaption><audio controls preload="none" src="{address}"></audio>'


def _units(measured: Measured) -> str:
    head = [
        "network",
        "unit",
        "kind",
        "readout",
        "pool",
        "start",
        "score",
        "correlation",
        "cents",
        "hops",
        "90 % at",
        "",
        "",
    ]

    def number(value: float, digits: int) -> str:
        return "–" if math.isnan(value) else f"{value:.{digits}f}"

    lines = [
        [
            row.network,
            str(row.number),
            row.kind,
            row.readout,
            row.pool,
            "silent" if row.closed else "answers",
            number(row.ratio, 3),
            number(row.correlation, 3),
            number(row.pitch_cents, 0),
            number(row.onset_frames, 1),
            number(row.steps_90, 0),
            ("flagged" if row.flagged else "NOT flagged") if row.dead else ("passes" if row.passed else "fails"),
            "" if row.status == "ok" else row.status,
        ]
        for row in measured.rows
    ]
    return page.table(head, lines)
