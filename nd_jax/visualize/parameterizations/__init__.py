"""What is free during an optimization: parameterizations map parameters to one input of a network.

A parameterization is a hashable frozen dataclass, made by a lower-case function, with pure methods for ONE example
(`visualize_batch` vmaps them over its lanes):

    init(key, domain) -> parameters, a pytree
    apply(parameters, domain) -> x of shape domain.shape, inside the domain's range
    invert(x, domain) -> parameters whose apply gives x as nearly as the bounds allow

Your own may leave `invert` away, as `harmonic` and `prior` do; then an optimization cannot begin at a given
sound. One that holds arrays (`maco`, `prior`, `mask`) is a registered pytree: its arrays are arguments of the compiled
programs, not constants, and results keep them. One with `polishes` and
`hold(gradient, polishing)` lets something else move in the polish of a run than before, see `fourier(fine=True)`.

| made by    | parameters                                   | for                                  |
|------------|----------------------------------------------|--------------------------------------|
| `pixels`   | one free value per input value               | every domain                         |
| `fourier`  | a spectrum, low frequencies weighted up      | images, spectrograms, any grid       |
| `waveform` | samples, or their weighted spectrum          | `Waveform`                           |
| `maco`     | phases; magnitudes are those of data         | images, log-mel, `Waveform`          |
| `harmonic` | pitch, partials, envelope, filtered noise    | `Waveform`, log-mel                  |
| `prior`    | a generator's latent (and class)             | what a generator makes, converted    |
| `mask`     | how much of a given input stays              | every domain                         |
| `nearby`   | a change of a given input, within a radius   | every bounded domain                 |
| `stretched`| pixels, stretched over the whole range       | images                               |
| `latent`   | numbers, kept where the latent's law is      | `Latent`, every unbounded domain     |
| `chosen`   | none, the class stays as it is               | `Label`                              |
| `parts`    | a dict, one parameterization per part        | `Parts`                              |

`start` is where the optimization begins, as a fraction of the domain's range (0 = low, 1 = high). It is a constant
added in front of the sigmoid, so the parameters themselves begin near zero. The default is the middle for images (grey)
and waveforms (silence), and 0.2 for log-mel spectrograms: 0.5 there would be -40 dB of noise in every band, while a
start at the floor itself has no sigmoid slope to climb with. 0.2 is -64 dB with the usual floor of -80 dB, and keeps
64 % of the sigmoid's largest slope. `start="mean"` begins at the mean level per band of the training data, where the
domain has it.

What natural inputs are like can shape the steps: Lucid's colour matrix for images, and for log-mel spectrograms whose
domain has a `band_root` (`nd_jax.domain.with_statistics`) the same for mel bands, `fourier(bands="covariance")`.
`axis_scale` and `natural_scale` say how fast time counts beside frequency. `docs/priors.md` has measurements.
"""

from __future__ import annotations

from nd_jax.domain import Domain, Label, Parts
from nd_jax.visualize.parameterizations import core as _core
from nd_jax.visualize.parameterizations.additive import Harmonic, harmonic
from nd_jax.visualize.parameterizations.core import (
    BOUNDS,
    Invertible,
    Parameterization,
    Polishing,
    Start,
    bounded,
    invert,
    unbounded,
)
from nd_jax.visualize.parameterizations.generated import Prior, prior
from nd_jax.visualize.parameterizations.latents import Normal, latent, norm_percentile
from nd_jax.visualize.parameterizations.masks import Mask, mask
from nd_jax.visualize.parameterizations.natural import (
    NaturalScale,
    axis_scale,
    correlate_bands,
    decorrelate_bands,
    natural_scale,
)
from nd_jax.visualize.parameterizations.nearby import Nearby, nearby
from nd_jax.visualize.parameterizations.phases import Maco, maco, magnitude_shape, magnitude_spectrum
from nd_jax.visualize.parameterizations.samples import Samples, waveform
from nd_jax.visualize.parameterizations.spectrum import (
    BANDS,
    COLOUR_CORRELATION_SVD_SQRT,
    COLOUR_MATRIX,
    RULES,
    Fourier,
    correlate_colours,
    decorrelate_colours,
    fourier,
    fourier_image,
    fourier_spectrum,
    frequencies,
    spectrum_shape,
)
from nd_jax.visualize.parameterizations.stretched import Stretched, stretched
from nd_jax.visualize.parameterizations.values import ByPart, Chosen, Pixels, chosen, parts, pixels

__all__ = [
    "BANDS",
    "BOUNDS",
    "COLOUR_CORRELATION_SVD_SQRT",
    "COLOUR_MATRIX",
    "RULES",
    "ByPart",
    "Chosen",
    "Fourier",
    "Harmonic",
    "Invertible",
    "Maco",
    "Mask",
    "NaturalScale",
    "Nearby",
    "Normal",
    "Parameterization",
    "Pixels",
    "Polishing",
    "Prior",
    "Samples",
    "Start",
    "Stretched",
    "axis_scale",
    "bounded",
    "chosen",
    "correlate_bands",
    "correlate_colours",
    "decorrelate_bands",
    "decorrelate_colours",
    "default",
    "fourier",
    "fourier_image",
    "fourier_spectrum",
    "frequencies",
    "harmonic",
    "invert",
    "latent",
    "maco",
    "magnitude_shape",
    "magnitude_spectrum",
    "mask",
    "natural_scale",
    "nearby",
    "norm_percentile",
    "parts",
    "pixels",
    "prior",
    "spectrum_shape",
    "stretched",
    "unbounded",
    "waveform",
]


def default(domain: Domain) -> Parameterization:
    """What a domain is optimized through unless asked otherwise.

    Fourier for images; Fourier, then single cells in the polish, for spectrograms; a pink-weighted spectrum for
    waveforms, a standard normal start for latents and other unbounded numbers, the first class for labels, a dict of
    these for `Parts`.
    """
    if isinstance(domain, Parts):
        return ByPart(tuple((name, default(part)) for name, part in domain.parts.items()))
    if isinstance(domain, Label):
        return chosen()
    if domain.kind == "waveform":
        return waveform()
    if not _core.is_bounded(domain):
        return latent()
    if len(domain.shape) not in (2, 3):
        return pixels()
    # Measured on spectrograms; in images, single pixels are what a Fourier image is there to avoid.
    return fourier(fine=domain.is_sound)
