"""What a generator makes by chance, ranked by every unit of its layers: the natural inputs of a generator's units."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from nd_jax import generators, taps
from nd_jax.dissect.exemplars import QUANTILES, Exemplars, ranked
from nd_jax.network import Network
from nd_jax.runtime import progress_bar


def samples(
    generator: Network,
    *,
    layers: Sequence[str],
    count: int = 512,
    seed: int = 0,
    classes: Sequence[str | int] = (),
    quantiles: Sequence[float] = QUANTILES,
    batch_size: int = 32,
    progress: bool = True,
) -> Exemplars:
    """Finds, for every unit of some layers, random samples of the generator at the given quantiles of its activation.

    The activation is the mean of the unit over all positions, as in `exemplars`.

    Args:
      generator: takes a `Latent`, or {"z", "label"}.
      layers: names as in `taps.layers`.
      count: how many latents are drawn.
      seed: of the latents, as `nd_jax.generators.inputs` has it.
      classes: which a generator with classes is asked for, in turn; by default all.
      quantiles: 1 is the sample with the highest activation.
      batch_size: samples per forward pass.
      progress: shows a progress bar.

    Returns:
      Exemplars whose `inputs` are what the generator made of the latents, (m, *output.shape): these are drawn and
      played.

    Raises:
      ValueError: no generator, no layers, no such class.
      LayerError: an unknown layer, with the nearest names.
    """
    if not layers or isinstance(layers, str):
        raise ValueError(f"layers must be a list of layer names, got {layers!r}")
    for layer in layers:
        taps.layer_shape(generator, layer)
    given = generators.inputs(generator, seed, count, labels=classes)
    read = jax.jit(lambda network, part: _means(network, part, tuple(layers)))
    size = min(batch_size, count)
    means: dict[str, list[np.ndarray]] = {layer: [] for layer in layers}
    with progress_bar(count, "random latent", progress) as tick:
        for first in range(0, count, size):
            rows = np.arange(first, min(first + size, count))
            part = jax.tree.map(lambda leaf, rows=rows: leaf[np.resize(rows, size)], given)
            for layer, values in read(generator, part).items():
                means[layer].append(np.asarray(values)[: len(rows)])
            tick(len(rows))
    found = {layer: np.concatenate(parts) for layer, parts in means.items()}
    chosen = {layer: ranked(values, quantiles) for layer, values in found.items()}
    clips = {layer: one[1] for layer, one in chosen.items()}
    kept = np.unique(np.concatenate([index[index >= 0] for index in clips.values()]))
    names = generators.classes_of(generator)
    asked = [f"{names[given['label'][clip]]}, " if names else "" for clip in kept]
    made = generators.make(generator, jax.tree.map(lambda leaf: leaf[kept], given))
    return Exemplars(
        quantiles=tuple(float(quantile) for quantile in quantiles),
        count=count,
        clips=clips,
        ranks={layer: one[0] for layer, one in chosen.items()},
        activations={layer: one[2] for layer, one in chosen.items()},
        curves={},
        constant={
            layer: np.ptp(values, axis=0) <= 1e-7 * np.abs(values).max(axis=0) for layer, values in found.items()
        },
        spread={layer: values.std(axis=0) for layer, values in found.items()},
        kept=kept,
        inputs=np.asarray(made, np.float32),
        waves=None,
        sample_rate=0,
        seconds=0.0,
        names=tuple(f"{word}latent {clip}" for word, clip in zip(asked, kept, strict=True)),
    )


def _means(network: Network, part: dict[str, jax.Array], layers: tuple[str, ...]) -> dict[str, jax.Array]:
    values = taps.read(network, part, list(layers))
    return {name: value.mean(axis=tuple(range(1, value.ndim - 1))) for name, value in values.items()}
