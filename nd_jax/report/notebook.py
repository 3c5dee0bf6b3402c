"""How results show themselves in a notebook."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from nd_jax.report.generated import Drawn
from nd_jax.report.pictures import Theme, to_html
from nd_jax.report.sounds import at_playback_level, sounds
from nd_jax.report.units import Lane, at

if TYPE_CHECKING:
    from nd_jax.visualize.result import Visualization

_MOST = 12


def html_for(result: Visualization, *, most: int = _MOST, theme: Theme = "light", width: int = 260) -> str:
    """A result as HTML: its pictures with axes on one colour range, players at one loudness, scores, and what failed.

    Args:
      result: what `visualize_batch` found.
      most: lanes shown; a line says how many more there are.
      theme: the colours of the pictures.
      width: of each picture, in pixels.
    """
    lanes = [Lane(result, place, "") for place in range(min(len(result.labels), most))]
    shown = [(lane, rank) for lane in lanes if not lane.dead for rank in range(len(lane.order))][:most]
    as_drawn = Drawn(result)
    made: Any = None
    if shown:
        examples = [lane.example(rank) for lane, rank in shown]
        made = as_drawn.made(jax.tree.map(lambda *leaves: np.stack(leaves), *examples))
    drawn = [as_drawn.domain.picture(at(made, place)) for place in range(len(shown))]
    if not lanes or (drawn and drawn[0] is None):
        return f"<pre>{html.escape(repr(result))}</pre>"
    heard = sounds(as_drawn.domain, made) if shown else None
    ready = [] if heard is None else [at_playback_level(sound) for sound in heard]
    titles = []
    for place, (lane, rank) in enumerate(shown):
        words = result.status[lane.place]
        status = "" if words == "ok" else f", {words}"
        gain = "" if not ready else ", silent" if ready[place].silent else f", {ready[place].gain_db:+.1f} dB"
        number = f" ({rank + 1} of {len(lane.order)})" if lane.several else ""
        score = lane.score(rank)
        titles.append(
            f"{result.labels[lane.place]}{number}: {'not finite' if score is None else f'{score:.4g}'}{gain}{status}"
        )
    body = to_html(
        [picture for picture in drawn if picture is not None],
        titles=titles,
        sounds=[None if item.silent else item.sound for item in ready],
        theme=theme,
        width=width,
    )
    dead = [f"{result.labels[lane.place]}: {result.status[lane.place]}" for lane in lanes if lane.dead]
    rest = len(result.labels) - len(lanes)
    more = [f"and {rest:,} more; nd_jax.report.atlas shows them all"] if rest > 0 else []
    return (body if drawn else "") + "".join(f"<p>{html.escape(line)}</p>" for line in [*dead, *more])
