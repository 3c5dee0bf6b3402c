"""The tables of `reproduce.py s3`: one Markdown file and one page, from the numbers of figures.json."""

from __future__ import annotations

import dataclasses
import html
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nd_jax.dissect import FUNCTIONS
from nd_jax.experiments.reproduce_s3_source import BY_FUNCTION, CLIPS, CONCEPTS, TABLE_2, UNITS
from nd_jax.report.leaflet import Leaflet
from nd_jax.report.sheets import replace

_WORDS = {
    "cosine": "cosine",
    "cosine_cubed": "cosine cubed",
    "rank_reorder": "rank reorder",
    "wpmi": "WPMI",
    "soft_wpmi": "soft-WPMI",
    "reply": "reply",
}


@dataclasses.dataclass(frozen=True)
class Table:
    """A section: a heading, what is to be known before the table, the table, what is to be known after it."""

    heading: str
    before: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    after: str = ""


def write(found: Mapping[str, Any], out: pathlib.Path) -> pathlib.Path:
    """Writes tables.md and index.html into a folder; returns the path of the latter."""
    sections = [*_protocol(found["protocol"])] if "protocol" in found else []
    sections += [*_released(found["released"])] if "released" in found else []
    title = "Audio Network Dissection, its last-layer table again"
    replace(out / "tables.md", (f"# {title}\n\n" + "\n\n".join(map(markdown, sections)) + "\n").encode())
    page = Leaflet(out, title, _ABOUT)
    for section in sections:
        page.heading(section.heading)
        if section.before:
            page.text(section.before)
        if section.rows:
            page.table(section.head, section.rows)
        if section.after:
            page.text(section.after, soft=True)
    page.link("figures.json", "All numbers")
    page.link("tables.md", "The tables as Markdown")
    return page.finish()


_ABOUT = (
    "AND (Wu, Lin, Weng, ICML 2024) names the units of an audio network. Its Table 2 asks for the names of output "
    "units, whose classes are known: how often is the true one first (top-1), among the first five (top-5), and how "
    "near is the first one (cosine)?"
)


def markdown(section: Table) -> str:
    """A section as Markdown; what is not ours in it is text and no more."""
    lines = [f"## {_escaped(section.heading)}", ""]
    if section.before:
        lines += [_escaped(section.before), ""]
    if section.rows:
        lines += ["| " + " | ".join(map(_escaped, section.head)) + " |", "|" + "---|" * len(section.head)]
        lines += ["| " + " | ".join(map(_escaped, row)) + " |" for row in section.rows]
        lines += [""]
    return "\n".join([*lines, _escaped(section.after)]).rstrip()


def _escaped(text: str) -> str:
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|")


# --- our network on ESC-10 -------------------------------------------------------------------------------------------


def _protocol(told: Mapping[str, Any]) -> Iterator[Table]:
    held_out = told["held_out"]
    yield Table(
        f"{told['network']} on ESC-10",
        f"{told['units']} output units, {told['clips']} clips, of which {held_out['clips']} (fold "
        f"{held_out['fold']}) were kept from training. Each unit counts once: of {told['units']} units a share "
        "moves by "
        f"{100 / told['units']:.0f} points, and all of them right is still "
        f"{_percent(_all_right(told))} % or more (95 %, Wilson). So these figures compare ways to name units; they "
        "are no claim for ESC-50.",
        (),
        (),
        'Captions: of ESC-10 there are none but what is made here. "The class\'s name" is a captioner that is never '
        'wrong: an upper bound for DB, and a check of the whole chain. "Measured" is what nd_jax measures of a '
        "sound (loudness, pitch, brightness, noisiness, modulation, onsets); it never says what a sound is, and "
        "TF-IDF, which compares spelling, cannot read a class out of it: near chance is right. In the last source "
        'the concept "dog" is the mean of the measured captions of dogs in other folds, so that captions and '
        "concepts speak one language; it needs labelled clips, which AND's way does not." + _missing(told),
    )
    for table in told["tables"]:
        yield _figures_table(table)
    yield _beside(told)
    yield from _ways(told["ways"])
    yield _wrong(told["wrong_captions"], told["network"], told["clips"] / told["classes"])
    yield _called(told)


def _missing(told: Mapping[str, Any]) -> str:
    parts = []
    if told["without_class"]:
        parts.append(f"Units that do not count, for their class is none of ESC-10: {', '.join(told['without_class'])}.")
    if told["left_out"]:
        parts.append(f"Left out here: {'; '.join(told['left_out'])}.")
    return "".join(f" {part}" for part in parts)


def _all_right(told: Mapping[str, Any]) -> float:
    units = told["units"]
    return 1 / (1 + 1.959964**2 / units)


def _figures_table(table: Mapping[str, Any]) -> Table:
    functions = [name for name in _WORDS if any(name in row["functions"] for row in table["rows"])]
    rows = []
    for row in table["rows"]:
        cells = [_cell(row["functions"].get(function)) for function in functions]
        rows.append((_way_of(row), str(row["clips"]), *cells))
    chances = table["chance"]
    return Table(
        f"Among the {table['of']} classes of {table['concepts']}, {table['probing']}",
        "",
        ("", "clips", *(_WORDS[name] for name in functions)),
        tuple(rows),
        "A cell: top-1 / top-5 in %; the mean cosine of first and true name. Drawing names: "
        f"{_percent(chances['top1'])} / "
        f"{_percent(chances['top5'])}. N = {table['rows'][0]['functions'][functions[0]]['units']} units; intervals "
        "(95 %: Wilson's for shares, a bootstrap's over units for the cosine) are in figures.json and below.",
    )


def _way_of(row: Mapping[str, Any]) -> str:
    """Method, captions, and what compared them with the concepts."""
    return f"{row['method']}, {row['captions']}, {row['encoder']}"


def _cell(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    cosine = f"; {found['cosine']['value']:.2f}" if found["cosine"] is not None else ""
    return f"{_percent(found['top1']['value'])} / {_percent(found['top5']['value'])}{cosine}"


def _beside(told: Mapping[str, Any]) -> Table:
    """The widest set of concepts and all clips, with intervals, beside AND's figures."""
    table = max((each for each in told["tables"] if each["probing"] == "all clips"), key=lambda each: each["of"])
    rows = []
    for row in table["rows"]:
        for function, found in row["functions"].items():
            source = BY_FUNCTION[row["method"]].get(function)
            theirs = f"{source[0]:.0f} / {source[1]:.0f}; {source[2]:.2f}" if source else ""
            rows.append(
                (
                    _way_of(row),
                    _WORDS[function],
                    _share(found["top1"]),
                    _share(found["top5"]),
                    _interval(found["cosine"]),
                    theirs,
                )
            )
    paper = "; ".join(
        f"{method} {figures['AST'][0]:.0f} / {figures['AST'][1]:.0f}, {figures['AST'][2]:.2f}"
        for method, figures in TABLE_2.items()
    )
    return Table(
        f"Beside AND, among the {table['of']} classes of {table['concepts']}",
        "The set of concepts is AND's, and so is chance. Not comparable: AND has "
        f"{UNITS} output units of a pretrained AST, {CLIPS:,} clips of {CONCEPTS} classes, captions by SALMONN, which "
        "does hear what a sound is, compared by CLIP's text encoder, and cosines by all-MiniLM-L12-v2. Ours has "
        f"{told['units']} units and {told['clips']} clips; cosines are of the encoder that is named, "
        "TF-IDF's are of spelling.",
        ("", "function", "top-1 % (95 %)", "top-5 % (95 %)", "cosine (95 %)", "AND: AST, ESC-50"),
        tuple(rows),
        f"AND's figures by function are its authors' rerun. Table 2 itself (AST): {paper}. In the rerun, TAB's "
        "cosines are of all five names at once and so lower than its top-1 allows.",
    )


def _ways(ways: Mapping[str, Any]) -> Iterator[Table]:
    def rows(found: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
        return tuple(
            (_WORDS[name], *(cell for way in ("published", "ours") for cell in _way(found[name][way])))
            for name in FUNCTIONS
        )

    head = ("", "AND's way: top-1 / top-5", "no best concept", "ours: top-1 / top-5", "no best concept")
    yield Table(
        "AND asks about units one by one",
        "All clips, captions that are the class's name. AND's DB calls the similarity function for a single unit: "
        "soft-WPMI subtracts the likelihood from itself and is zero for every concept (AND reports chance, 2 / 10). "
        "Here all units of a layer are asked about together, and of a single unit the prior is left out.",
        head,
        rows(ways["all clips"]),
    )
    argsort, ranks = (ways["rank_orders"][order] for order in ("argsort", "ranks"))
    yield Table(
        "AND's hidden layers have five clips",
        "For hidden layers AND's DB keeps the five strongest clips of a unit. Rank reorder then takes 5 % of five, no "
        "clip, and has no number. Cosines only see how a concept differs among the five clips: where their captions "
        "agree, all concepts are alike to a unit, and cosine cubed, by which AND names and prunes hidden units, is "
        "zero. Here the last layer, whose truth is known, is asked in this way, and ours on the same five clips. In "
        "nd_jax hidden layers have all clips, as in the table above.",
        head,
        rows(ways["strongest"]),
        '"No best concept": units to which all concepts are equally alike, or not numbers; they count as wrong '
        "here, where AND's code takes one of them. Rank reorder with one sorting, as AND has it, and with ranks, as "
        f"CLIP-Dissect: {_cell(argsort)} and {_cell(ranks)} (all clips).",
    )


def _way(found: Mapping[str, Any]) -> tuple[str, str]:
    return _cell(found), f"{found['undecided']} of {found['units']}"


def _wrong(found: Sequence[Mapping[str, Any]], network: str, clips: float) -> Table:
    def cell(each: Mapping[str, float]) -> str:
        spread = "" if each["least"] == each["most"] else f" ({_percent(each['least'])} to {_percent(each['most'])})"
        return f"{_percent(each['mean'])}{spread}"

    return Table(
        "How wrong may captions be?",
        f"Top-1 of {network}'s output units in %, all clips, when a share of the clips has the name of another "
        "class: mean, least and most of ten draws. Output units are strongest on clips of their class, and there are "
        f"{clips:.0f} of them: a label survives most captions being wrong. So a high figure in Table 2 says little "
        "about captions, and nothing about hidden units.",
        ("captions that are wrong", *(_WORDS[name] for name in FUNCTIONS)),
        tuple((f"{_percent(each['wrong'])} %", *(cell(each["top1"][name]) for name in FUNCTIONS)) for each in found),
    )


def _called(told: Mapping[str, Any]) -> Table:
    """What each unit was called, by the function that AND uses for each method."""
    table = told["tables"][0]
    chosen = {"DB": "cosine_cubed", "TAB": "soft_wpmi", "ICL": "reply"}
    heads = list(map(_way_of, table["rows"]))
    rows = []
    for unit, label in enumerate(told["labels"]):
        names = [row["called"][chosen[row["method"]]][unit] for row in table["rows"]]
        rows.append((label, *(each[0] if each else "(nothing)" for each in names)))
    return Table(
        "What each unit was called",
        "All clips, the classes of ESC-10; DB by cosine cubed and TAB by soft-WPMI, as in AND.",
        ("class", *heads),
        tuple(rows),
    )


# --- AND's own files -------------------------------------------------------------------------------------------------


def _released(told: Mapping[str, Any]) -> Iterator[Table]:
    scored = tuple(map(_scored, told["scores"]))
    yield Table(
        "AND's released predictions",
        f"Of {told['folder']}. Scored as they are.",
        ("", "function", "top-1 % (95 %)", "top-5 % (95 %)", "cosine (95 %)", "reported", ""),
        scored,
        "" if scored else "There are no predictions of a last layer.",
    )
    again = tuple(
        (
            f"{each['method']} {each['target']}, {each['layer']}",
            str(each["units"]),
            _WORDS[function],
            _cell(one["found"]),
            "" if one["agreement"] is None else f"{one['agreement'][0]} of {one['agreement'][1]}",
        )
        for each in told["again"]
        for function, one in each["functions"].items()
    )
    missing = [f"{what}: {why}" for part in ("not_done", "skipped", "unused") for what, why in told[part].items()]
    yield Table(
        "AND's released activations, labelled with our functions",
        "All units of a layer together, on all clips. Same first name: as in the released predictions of the same "
        "method and function. The labels are in OUT/labels, in the form of AND's own files.",
        ("", "units", "function", "top-1 / top-5; cosine", "same first name"),
        again,
        ("Not done: " + "; ".join(missing) + ".") if missing else "",
    )


def _scored(each: Mapping[str, Any]) -> tuple[str, ...]:
    found = each["found"]
    cells = ["", "", ""]
    if found is not None:
        top5 = _share(found["top5"]) if each["asked"] > 1 else "not asked"
        cells = [_share(found["top1"]), top5, _interval(found["cosine"])]
    source = BY_FUNCTION.get(each["method"], {}).get(each["function"]) if each["target"] == "ast-esc50" else None
    theirs = f"{source[0]:.0f} / {source[1]:.0f}; {source[2]:.2f}" if source else ""
    name = f"{each['method']} {each['target']}, {each['file']}".strip()
    return (name, _WORDS.get(each["function"], each["function"]), *cells, theirs, each["note"])


# --- cells -----------------------------------------------------------------------------------------------------------


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"


def _share(found: Mapping[str, Any]) -> str:
    return f"{_percent(found['value'])} ({_percent(found['low'])} to {_percent(found['high'])})"


def _interval(found: Mapping[str, Any] | None) -> str:
    return "" if found is None else f"{found['value']:.2f} ({found['low']:.2f} to {found['high']:.2f})"
