"""How results show themselves in a notebook."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from nd_jax.report.layers import at
from nd_jax.report.pictures import Theme, to_html
from nd_jax.report.sounds import at_playback_level, sounds

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
    shown = min(len(result.labels), most)
    inputs = at(result.inputs, slice(shown))
    drawn = [result.domain.picture(at(inputs, lane)) for lane in range(shown)]
    if not shown or drawn[0] is None:
        return f"<pre>{html.escape(repr(result))}</pre>"
    heard = sounds(result.domain, inputs)
    ready = [] if heard is None else [at_playback_level(sound) for sound in heard]
    titles = []
    for lane in range(shown):
        status = "" if result.status[lane] == "ok" else f", {result.status[lane]}"
        gain = "" if not ready else ", silent" if ready[lane].silent else f", {ready[lane].gain_db:+.1f} dB"
        titles.append(f"{result.labels[lane]}: {float(result.scores[lane]):.4g}{gain}{status}")
    body = to_html(
        [picture for picture in drawn if picture is not None],
        titles=titles,
        sounds=[None if item.silent else item.sound for item in ready],
        theme=theme,
        width=width,
    )
    rest = len(result.labels) - shown
    more = f"<p>and {rest:,} more; nd_jax.report.atlas shows them all</p>" if rest > 0 else ""
    return body + more
