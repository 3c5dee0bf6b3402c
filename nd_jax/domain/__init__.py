"""What one input or output of a network *is*, and so how to draw it and how to play it.

A `Domain` describes one example (no batch axis): its shape, its value range, its axes with units, what silence is, how
it becomes a `Picture` and how it becomes a `Sound`. Networks, visualizations and reports ask the domain and never
guess.

| domain    | shape of one example       | values                                    |
|-----------|----------------------------|-------------------------------------------|
| Image     | (height, width, channels)  | low ... high                              |
| Waveform  | (samples, 1)               | -1 ... 1 (full scale)                     |
| LogMel    | (mel bands, frames, 1)     | 0 ... 1 = floor_db ... ceiling_db (dBFS)  |
| Fbank     | (mel bands, frames, 1)     | Kaldi's log mel energies, standardised    |
| MelIF     | (frames, mel bins, 2)      | log power, instantaneous frequency / pi   |
| Latent    | (size,)                    | unbounded, standard normal                |
| Units     | (units,)                   | logits, scores: unbounded                 |
| Label     | ()                         | a class, 0 ... classes - 1                |
| Parts     | {name: shape}              | a dict of domains                         |
"""

from __future__ import annotations

from nd_jax.domain.conversion import converter
from nd_jax.domain.core import Axis, Domain, Picture, Sound, from_dict
from nd_jax.domain.fbank import AST_MEAN, AST_STD, BEATS_MEAN, BEATS_STD, Fbank, ast, beats
from nd_jax.domain.mel_if import MelIF
from nd_jax.domain.plain import Image, Label, Latent, Parts, Units
from nd_jax.domain.sound import LogMel, Waveform
from nd_jax.domain.statistics import with_statistics

__all__ = [
    "AST_MEAN",
    "AST_STD",
    "BEATS_MEAN",
    "BEATS_STD",
    "Axis",
    "Domain",
    "Fbank",
    "Image",
    "Label",
    "Latent",
    "LogMel",
    "MelIF",
    "Parts",
    "Picture",
    "Sound",
    "Units",
    "Waveform",
    "ast",
    "beats",
    "converter",
    "from_dict",
    "with_statistics",
]
