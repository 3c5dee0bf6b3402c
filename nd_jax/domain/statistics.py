"""What natural sound is like on a domain: the mean of every mel band, and how the bands go together.

Lucid decorrelates the colours of images by a matrix root of their covariance, so that the optimizer's steps follow what
natural pictures do. Here it is the mel bands.
"""

from __future__ import annotations

import dataclasses
from typing import Any, overload

import numpy as np

from nd_jax.domain.core import Domain
from nd_jax.domain.mel_if import MelIF
from nd_jax.domain.sound import LogMel

# Log-odds have no value at the two ends of the range. 0.02 is 1.6 dB above a floor of -80 dB.
_END = 0.02
_BATCH = 256


@overload
def with_statistics(domain: MelIF, inputs: Any, *, shrinkage: float = ...) -> MelIF: ...
@overload
def with_statistics(domain: Domain, inputs: Any, *, shrinkage: float = ...) -> LogMel: ...
def with_statistics(domain: Domain, inputs: Any, *, shrinkage: float = 0.05) -> LogMel | MelIF:
    """The domain with the band statistics of natural inputs: `band_mean` and `band_root`.

    `band_mean` is the mean value of every band over all frames. `band_root` is a matrix root R of the covariance C of
    the bands' log-odds, log(x / (1 - x)) with x clipped to 0.02 ... 0.98, over the frames that are not silent:

        (1 - shrinkage) C / m + shrinkage I = R transpose(R),  m the mean variance of a band, R = U sqrt(L)

    with U L transpose(U) the eigendecomposition, largest eigenvalue first. Log-odds, because that is where a
    parameterization is linear: a sigmoid comes after it (a tanh halves them, which leaves R as it is). Only sounding
    frames, because the silence around a sound says that all bands go up and down together, and nothing else. White
    numbers times R have a mean variance of 1 per band, whatever the number of bands; shrinkage keeps every direction
    alive (no standard deviation below sqrt(shrinkage)), so that R can be inverted and no band is frozen.

    Of an `Fbank` domain, x are the fractions of its range. A `MelIF` domain gets its `band_mean` only, (bins, 2): the
    mean of every bin's level and instantaneous frequency, as a fraction of the domain's `limits`.

    Source: Lucid, `optvis/param/color.py` (the root of the colour covariance of ImageNet).

    Args:
      domain: a `LogMel` or `MelIF` domain.
      inputs: natural inputs, (n, bands, frames, 1) or (n, frames, bins, 2), such as `domain.from_wave(waves)`; any
        number of frames.
      shrinkage: how much of the covariance is replaced by equal, independent bands: above 0, at most 1.

    Raises:
      ValueError: another kind of domain, inputs that do not fit, are silent or not finite, or a bad shrinkage.
    """
    if isinstance(domain, MelIF):
        return _mean_only(domain, inputs)
    if not isinstance(domain, LogMel):
        raise ValueError(f"band statistics are for a LogMel or MelIF domain, not for {domain.kind!r}")
    if not 0 < shrinkage <= 1:
        raise ValueError(f"shrinkage must be above 0 and at most 1, got {shrinkage!r}")
    bands = domain.shape[0]
    shape = np.shape(inputs)
    if len(shape) != 4 or shape[1] != bands or shape[3] != 1 or 0 in shape:
        raise ValueError(f"inputs must have the shape (n, {bands}, frames, 1), got {shape}")
    frames, sounding, total = 0, 0, np.zeros(bands)
    first, second = np.zeros(bands), np.zeros((bands, bands))
    for at in range(0, len(inputs), _BATCH):
        values = np.asarray(inputs[at : at + _BATCH], np.float64)[..., 0].transpose(0, 2, 1).reshape(-1, bands)
        values = (values - domain.low) / (domain.high - domain.low)
        frames, total = frames + len(values), total + values.sum(axis=0)
        clipped = np.clip(values[values.max(axis=1) > _END], _END, 1.0 - _END)
        odds = np.log(clipped / (1.0 - clipped))
        sounding, first, second = sounding + len(odds), first + odds.sum(axis=0), second + odds.T @ odds
    if not np.isfinite(total).all():
        raise ValueError("inputs hold values that are not finite numbers")
    if sounding < 2:
        raise ValueError(f"band statistics need sounds, but of {frames} frames only {sounding} are not silent")
    mean = first / sounding
    return dataclasses.replace(
        domain,
        band_mean=np.asarray(total / frames, np.float32),
        band_root=_root(second / sounding - np.outer(mean, mean), shrinkage),
    )


def _mean_only(domain: MelIF, inputs: Any) -> MelIF:
    shape, bins = np.shape(inputs), domain.shape[1]
    if len(shape) != 4 or shape[2:] != (bins, 2) or 0 in shape:
        raise ValueError(f"inputs must have the shape (n, frames, {bins}, 2), got {shape}")
    total = np.zeros((bins, 2))
    for at in range(0, len(inputs), _BATCH):
        total += np.asarray(inputs[at : at + _BATCH], np.float64).sum(axis=(0, 1))
    if not np.isfinite(total).all():
        raise ValueError("inputs hold values that are not finite numbers")
    low, high = (each[0] for each in domain.limits)
    mean = np.clip((total / (shape[0] * shape[1]) - low) / (high - low), 0.0, 1.0)
    return dataclasses.replace(domain, band_mean=np.asarray(mean, np.float32))


def _root(covariance: np.ndarray, shrinkage: float) -> np.ndarray:
    bands = len(covariance)
    level = np.trace(covariance) / bands
    if not level > 1e-9:
        raise ValueError("the inputs never change, so they have no band statistics")
    values, vectors = np.linalg.eigh((1.0 - shrinkage) * covariance / level + shrinkage * np.eye(bands))
    # An eigenvector has no sign of its own: its largest entry is made positive, so that every machine gives the same.
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(bands)])
    return np.asarray((vectors * np.sqrt(values))[:, ::-1], np.float32)
