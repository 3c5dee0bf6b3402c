"""The pictures, the figures and the page of `adversarial.py`."""

from __future__ import annotations

import dataclasses
import html
import json
import math
import pathlib
from typing import Any

import numpy as np

import nd_jax as nd
from nd_jax.report.page import asset
from nd_jax.report.sheets import compose, drafted, gif, replace
from nd_jax.runtime import require
from nd_jax.visualize.adversarial import Adversarial, Blend, probabilities

# Pictures shown; figures.json has all.
_MOST = 8
# Wong 2011, "Points of view: Color blindness": told apart by everybody, and by their dashes too.
_LINES = (("#0072b2", "-"), ("#d55e00", "--"), ("#009e73", "-."))


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Real pictures.

    Attributes:
      inputs: (n, *shape).
      names: (n,) what each is called.
      natural: {class: a real picture of it}, for blending.
    """

    inputs: np.ndarray
    names: list[str]
    natural: dict[int, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Found:
    """Everything that the page shows.

    Attributes:
      network: what was looked into.
      given: the pictures.
      adversarial: what was found within budgets.
      mixed: {what is blended in: (pictures (n, *shape), the blend, rows of the pictures that have one)}.
      seconds: what it took.
    """

    network: nd.Network
    given: Pictures
    adversarial: Adversarial
    mixed: dict[str, tuple[np.ndarray, Blend, np.ndarray]]
    seconds: float


def write(found: Found, settings: Any) -> pathlib.Path:
    """Writes figures.json, adversarial.png, blending.png, adversarial.gif and index.html; returns the path of the last.

    Args:
      found: what is shown.
      settings: of the script, a dataclass with `out`, `norm` and `network`; all of it is told in figures.json.

    Raises:
      MissingExtraError: matplotlib or Pillow is missing.
    """
    out = settings.out.expanduser()
    told = figures(found, settings)
    text = json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False)
    replace(out / "figures.json", (text + "\n").encode())
    _changes(found, out / "adversarial.png")
    _blends(found, out / "blending.png")
    _way(found, out / "adversarial.gif")
    return replace(out / "index.html", _page(told).encode())


def figures(found: Found, settings: Any) -> dict[str, Any]:
    """All numbers as JSON-ready values; None where something never happened."""
    within, names = found.adversarial, found.network.labels
    domain = found.network.input
    rows = []
    for row, title in enumerate(found.given.names):
        source, target = int(within.sources[row]), int(within.targets[row])
        blends = {}
        for kind, (_, blend, which) in found.mixed.items():
            if row in which:
                at = int(np.flatnonzero(which == row)[0])
                blends[kind] = {
                    "flips_at": _number(blend.flips[at]),
                    "ends_with": float(blend.probabilities[at, -1, target]),
                }
        rows.append(
            {
                "picture": title,
                "source": names[source] if names else str(source),
                "target": names[target] if names else str(target),
                "source_before": float(within.before[row, source]),
                "target_after": float(within.after[row, target]),
                "flipped": bool(within.flipped[row]),
                "budget": _number(within.budgets[row]),
                "rms": float(within.rms[row]),
                "l2": float(within.l2[row]),
                "linf": float(within.linf[row] / (domain.high - domain.low)),
                "noise_keeps_source": _number(within.noise[row]),
                "blends": blends,
            }
        )
    return {
        "network": found.network.card.get("name") or settings.network,
        "norm": settings.norm,
        "median_rms": float(np.median(within.rms[within.flipped])) if within.flipped.any() else None,
        "flipped": int(within.flipped.sum()),
        "pictures": len(rows),
        "median_share_that_flips": {
            # A picture that never flips counts as more than all of it.
            kind: _number(np.median(np.where(np.isnan(blend.flips), np.inf, blend.flips)))
            for kind, (_, blend, _) in found.mixed.items()
        },
        "seconds": round(found.seconds, 1),
        "settings": {field.name: _plain(getattr(settings, field.name)) for field in dataclasses.fields(settings)},
        "rows": rows,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _number(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def _says(found: Found, chances: np.ndarray) -> str:
    """What the network says, and how surely."""
    best = int(chances.argmax())
    return f"{found.network.labels[best] if found.network.labels else best}, {100 * chances[best]:.0f} %"


def _figure(width: float, height: float) -> Any:
    require("matplotlib", "report")
    return require("matplotlib.figure", "report").Figure(figsize=(width, height), dpi=110, layout="constrained")


def _show(axes: Any, values: np.ndarray, **more: Any) -> Any:
    """Draws (height, width, 3) colours, or (height, width) with a colour map, with axes in pixels."""
    drawn = axes.imshow(values, interpolation="nearest", **more)
    axes.tick_params(labelsize=7)
    axes.set_xlabel("column (px)", fontsize=7)
    axes.set_ylabel("row (px)", fontsize=7)
    return drawn


def _colours(found: Found, x: np.ndarray) -> np.ndarray:
    picture = found.network.input.picture(x)
    assert picture is not None
    values = np.asarray(picture.values)
    if values.ndim == 3:
        return values
    share = np.clip((values - picture.low) / (picture.high - picture.low), 0, 1)
    return np.repeat(share[..., None], 3, axis=-1)


def _changes(found: Found, path: pathlib.Path) -> None:
    """Each picture, what it became, and the difference on one scale around zero."""
    within, domain = found.adversarial, found.network.input
    count = min(len(found.given.names), _MOST)
    figure = _figure(8.4, 2.7 * count)
    grid = figure.subplots(count, 3, squeeze=False)
    for row, (left, middle, right) in enumerate(grid):
        given, made = found.given.inputs[row], within.inputs[row]
        _show(left, _colours(found, given))
        left.set_title(f"{found.given.names[row]}\nsays {_says(found, within.before[row])}", fontsize=9)
        _show(middle, _colours(found, made))
        verdict = "" if within.flipped[row] else " (not flipped)"
        middle.set_title(
            f"changed by {100 * within.rms[row]:.1f} % rms{verdict}\nsays {_says(found, within.after[row])}", fontsize=9
        )
        change = (made - given).mean(axis=-1) / (domain.high - domain.low)
        most = float(np.abs(change).max()) or 1.0
        drawn = _show(right, change, cmap="RdBu_r", vmin=-most, vmax=most)
        right.set_title("the change\n(share of the range)", fontsize=9)
        figure.colorbar(drawn, ax=right, shrink=0.8).ax.tick_params(labelsize=7)
    with drafted(path) as draft:
        figure.savefig(draft, format="png")


def _blends(found: Found, path: pathlib.Path) -> None:
    """For each picture how sure the network is of the target over the share, and the picture where it flips."""
    within, kinds = found.adversarial, list(found.mixed)
    count = min(len(found.given.names), _MOST)
    figure = _figure(4.2 + 2.4 * len(kinds), 2.7 * count)
    grid = figure.subplots(count, 1 + len(kinds), squeeze=False, width_ratios=[1.7, *[1.0] * len(kinds)])
    for row in range(count):
        target = int(within.targets[row])
        name = found.network.labels[target] if found.network.labels else target
        axes = grid[row][0]
        for place, kind in enumerate(kinds):
            others, blend, which = found.mixed[kind]
            panel = grid[row][1 + place]
            if row not in which:
                panel.set_axis_off()
                continue
            at = int(np.flatnonzero(which == row)[0])
            colour, dashes = _LINES[place % len(_LINES)]
            axes.plot(blend.shares, blend.probabilities[at, :, target], dashes, color=colour, label=kind)
            flips = blend.flips[at]
            share = flips if np.isfinite(flips) else 1.0
            mixture = (1 - share) * found.given.inputs[row] + share * others[at]
            _show(panel, _colours(found, mixture.astype(np.float32)))
            words = f"flips at {share:.2f}" if np.isfinite(flips) else "never flips; all of it"
            panel.set_title(f"{kind}: {words}", fontsize=9, color=colour)
        axes.set(xlim=(0, 1), ylim=(-0.02, 1.02))
        axes.set_xlabel("share blended in", fontsize=8)
        axes.set_ylabel(f"probability of {name}", fontsize=8)
        axes.set_title(f"{found.given.names[row]}, towards {name}", fontsize=9, loc="left")
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    with drafted(path) as draft:
        figure.savefig(draft, format="png")


def _way(found: Found, path: pathlib.Path) -> None:
    """The last climb, one frame a snapshot."""
    result = found.adversarial.result
    count = min(len(found.given.names), _MOST)
    frames = []
    for step, inputs in zip(result.snapshot_steps, np.asarray(result.snapshots), strict=True):
        chances = probabilities(found.network, inputs[:count])
        frames.append(
            compose(
                inputs[:count],
                found.network.input,
                titles=[_says(found, each) for each in chances],
                caption=f"step {step}",
                tile=112,
            )
        )
    gif(frames, path, seconds=4.0)


_STYLE = """
main { max-width: 1100px; margin: 0 auto; padding: 24px; display: grid; gap: 16px; }
table { border-collapse: collapse; font-size: var(--small); }
th, td { text-align: right; padding: 4px 12px 4px 0; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
.wide { overflow-x: auto; }
img { max-width: 100%; height: auto; background: #fff; }
h2 { margin-top: 16px; }
"""


def _page(told: dict[str, Any]) -> str:
    """The page as HTML without scripts; its pictures lie beside it."""
    kinds = list(told["median_share_that_flips"])
    measure = "root-mean-square change" if told["norm"] == "l2" else "largest change of a pixel"
    head = ["picture", "says", "climbed", "change (rms)", "largest change", "same noise keeps the answer"]
    head += [f"blend: {kind}" for kind in kinds]
    lines = []
    for row in told["rows"]:
        cells = [
            row["picture"],
            f"{row['source']} ({_share(row['source_before'])})",
            f"{row['target']} ({_share(row['target_after'])})" + ("" if row["flipped"] else ", not reached"),
            _share(row["rms"], 1),
            _share(row["linf"], 1),
            _share(row["noise_keeps_source"]),
            *(
                "" if kind not in row["blends"] else _share(row["blends"][kind]["flips_at"], 0, "never")
                for kind in kinds
            ),
        ]
        lines.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    shares = "; ".join(f"{kind} {_share(share, 0, 'never')}" for kind, share in told["median_share_that_flips"].items())
    heads = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    title = html.escape(f"How little changes the mind of {told['network']}")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; img-src 'self' file:">
<title>{title}</title><style>{asset("atlas.css")}{_STYLE}</style></head><body><main>
<h1>{title}</h1>
<p>{told["flipped"]} of {told["pictures"]} answers flip within the budgets, at a median change of
{_share(told["median_rms"], 1, "none")} rms of the range of the pixels (the smallest budget of the {measure} that was
found). Share that has to be blended in, median over pictures: {html.escape(shares)}.</p>
<div class="wide"><table><tr>{heads}</tr>{"".join(lines)}</table></div>
<h2>A small change</h2>
<p class="soft">The real picture, what it became, and the difference. Noise of the same length in random directions
stands in the table: where it keeps the answer, it is the direction that counts and not the size.</p>
<img src="adversarial.png" alt="Each picture, its changed version and the difference">
<h2>The way there</h2>
<img src="adversarial.gif" alt="The pictures while another class is climbed">
<h2>Blending in</h2>
<p class="soft">(1 - share) of the real picture and share of: an optimised picture of free pixels, one that was made to
hold under moves, and a real picture of the class where there is one.</p>
<img src="blending.png" alt="Probability of the class over the share that is blended in">
<p class="soft">All numbers: <a href="figures.json">figures.json</a></p>
</main></body></html>
"""


def _share(value: float | None, digits: int = 0, none: str = "–") -> str:
    return none if value is None else f"{100 * value:.{digits}f} %"
