"""Pages and figures: spectrogram pictures with true axes, players, the atlas of a network, samples of a generator."""

from nd_jax.report.atlas import atlas
from nd_jax.report.curves import curves
from nd_jax.report.notebook import html_for
from nd_jax.report.pictures import colour_table, figure, png, to_html
from nd_jax.report.players import players
from nd_jax.report.sheets import gif, sheet
from nd_jax.report.training import Moment
from nd_jax.report.watch import SampleWatcher
from nd_jax.report.weights import weights

__all__ = [
    "Moment",
    "SampleWatcher",
    "atlas",
    "colour_table",
    "curves",
    "figure",
    "gif",
    "html_for",
    "players",
    "png",
    "sheet",
    "to_html",
    "weights",
]
