"""The procedural sound bank: sounds whose time span, band and pitch are known, and that nobody has to download.

`bank(key, per_class=...)` makes sounds of all `CLASSES`; `CLASSES[name].sample(key)` draws the physical parameters of
one, `.synthesize(parameters)` makes its sound and `.events(parameters)` tells the truth about it.
"""

from nd_jax.data.synthetic.banks import CLASSES, Bank, bank
from nd_jax.data.synthetic.sounds import Range, SoundClass
from nd_jax.data.synthetic.voice import MAX_EVENTS, Events, Voice, render

__all__ = ["CLASSES", "MAX_EVENTS", "Bank", "Events", "Range", "SoundClass", "Voice", "bank", "render"]
