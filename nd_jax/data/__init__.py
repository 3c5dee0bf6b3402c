"""Sounds and images to train on and to look into: data sets on disk, a procedural sound bank, batches.

load("spoken_digits", "train")    a data set as `Clips` or `Images`, prepared through TFDS on first use
synthetic.bank(key, ...)          made sounds whose time span, band and pitch are known; nothing to download
batches(arrays, ...), prefetch    shuffled, sharded, resumable batches
"""

from nd_jax.data import synthetic
from nd_jax.data.arrays import Clips, Images
from nd_jax.data.builders import BUILDERS
from nd_jax.data.gansynth_subset import load_gansynth_subset
from nd_jax.data.loading import load
from nd_jax.data.pipeline import Batches, Position, Prefetch, batches, prefetch

__all__ = [
    "BUILDERS",
    "Batches",
    "Clips",
    "Images",
    "Position",
    "Prefetch",
    "batches",
    "load",
    "load_gansynth_subset",
    "prefetch",
    "synthetic",
]
