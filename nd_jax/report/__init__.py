"""Pages and figures: spectrogram pictures with true axes, players, and the atlas of a whole network."""

from nd_jax.report.atlas import atlas
from nd_jax.report.notebook import html_for
from nd_jax.report.pictures import colour_table, figure, png, to_html

__all__ = ["atlas", "colour_table", "figure", "html_for", "png", "to_html"]
