"""Attribution: what in an input spoke for a class or drove a unit, and whether that is true.

| file             | what is in it                                                                       |
|------------------|-------------------------------------------------------------------------------------|
| `occlusion.py`   | `occlusion`: windows in steps, seconds and Hz taken away, one at a time             |
| `sweep.py`       | all windows of all clips, whole passes or what a window reaches (`incremental.py`)  |
| `reach.py`       | how far a window reaches, from the network's own program (`flat.py`, `rules.py`)    |
| `removal.py`     | how a window is taken away                                                          |
| `windows.py`     | which windows: Captum's, segments, `bands`                                          |
| `spectra.py`     | `TimeFrequency`: the cells of a waveform's spectrum; `onsets`                        |
| `baselines.py`   | what stands in their place                                                          |
| `gradients.py`   | `saliency`, `input_x_gradient`, `smooth_grad`, `integrated_gradients`, `grad_cam`   |
| `rise.py`        | `rise`: random masks                                                                |
| `masks.py`       | `mask`: meaningful and extremal perturbation                                        |
| `faithful.py`    | `insertion_deletion`, `faithfulness`, `mask_of`                                     |
| `sanity.py`      | `randomisation`: do maps depend on what was learned?                                |
| `redundancy.py`  | `redundancy`: windows kept alone and taken away in pairs; are there several reasons?    |
| `parts.py`       | `parts`: what is marked alone, and the rest                                         |
| `intonation.py`  | `speech`, `contour_mask`: intensity or intonation?                                  |
| `unit_maps.py`   | `unit_maps`: where the units of a layer are active on given inputs                  |
| `receptive.py`   | what a position of a layer sees                                                     |
| `targets.py`     | what is explained: classes and objectives                                           |
| `attribution.py` | `Attribution`, what all of them give                                                |
"""

from nd_jax.attribute.attribution import Attribution
from nd_jax.attribute.baselines import baseline_of
from nd_jax.attribute.faithful import Curves, Faithfulness, faithfulness, insertion_deletion, mask_of
from nd_jax.attribute.gradients import grad_cam, input_x_gradient, integrated_gradients, saliency, smooth_grad
from nd_jax.attribute.intonation import ContourMask, Speech, contour_mask, speech
from nd_jax.attribute.masks import MaskedInput, mask
from nd_jax.attribute.occlusion import occlusion
from nd_jax.attribute.parts import parts
from nd_jax.attribute.redundancy import Redundancy, redundancy
from nd_jax.attribute.rise import rise
from nd_jax.attribute.sanity import Randomisation, randomisation
from nd_jax.attribute.spectra import TimeFrequency, onsets
from nd_jax.attribute.unit_maps import UnitMaps, unit_maps
from nd_jax.attribute.windows import Grid, bands, grid

__all__ = [
    "Attribution",
    "ContourMask",
    "Curves",
    "Faithfulness",
    "Grid",
    "MaskedInput",
    "Randomisation",
    "Redundancy",
    "Speech",
    "TimeFrequency",
    "UnitMaps",
    "bands",
    "baseline_of",
    "contour_mask",
    "faithfulness",
    "grad_cam",
    "grid",
    "input_x_gradient",
    "insertion_deletion",
    "integrated_gradients",
    "mask",
    "mask_of",
    "occlusion",
    "onsets",
    "parts",
    "randomisation",
    "redundancy",
    "rise",
    "saliency",
    "smooth_grad",
    "speech",
    "unit_maps",
]
