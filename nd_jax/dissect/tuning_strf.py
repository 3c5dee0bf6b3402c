"""Spectro-temporal receptive fields: which level, in which band and when, moves a unit, by ridge regression.

The regressors are the levels of random noise in its bands, which are known because the noise is made of them
(`sound_bank`). As in Theunissen, Sen and Doupe 2000 ("Spectral-temporal receptive fields of nonlinear auditory neurons
obtained using natural sounds", J. Neurosci. 20) the ridge is chosen on sounds that the field was not fitted to, and the
field is judged by how it predicts others again. Only sums over sounds are kept, so memory hangs on the number of units
and not on that of sounds.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.dissect.sound_bank import SoundBank

FIT, CHOOSE, TEST = 0, 1, 2
_RIDGES = 10.0 ** np.arange(-4.0, 3.0)
# Layers without time are asked about so many parts of a sound.
_COLUMNS = 24


@dataclasses.dataclass(frozen=True, eq=False)
class Design:
    """How the levels of a noise become the regressors of a layer.

    Attributes:
      weights: (positions, times, steps) means over the noise's steps.
      times: (times,) in seconds: from the moment of the response, or in the sound where `moving` is False.
      kept: the layer's steps whose window lies inside the sound; for layers without time empty.
      moving: whether the field moves along the sound with the layer's steps.
    """

    weights: np.ndarray
    times: np.ndarray
    kept: np.ndarray
    moving: bool


def design(bank: SoundBank, steps: int | None, span: float) -> Design:
    """The regressors of a layer with some steps of time (None: without), which together last `span` seconds."""
    nodes = bank.envelopes.shape[1]
    step = bank.hop / bank.sample_rate
    if steps is not None:
        lags = (np.arange(13) - 6) * step
        centres = (np.arange(steps) + 0.5) * span / steps
        kept = np.flatnonzero((centres + lags[0] >= 0) & (centres + lags[-1] <= (nodes - 1) * step))
        if len(kept):
            at = (centres[kept, None] + lags) / step
            weights = np.maximum(0.0, 1.0 - np.abs(at[..., None] - np.arange(nodes)))
            return Design(weights.astype(np.float32), lags, kept, True)
    parts = np.array_split(np.arange(nodes), min(_COLUMNS, nodes))
    weights = np.zeros((1, len(parts), nodes), np.float32)
    for place, part in enumerate(parts):
        weights[0, place, part] = 1.0 / len(part)
    return Design(weights, np.array([part.mean() * step for part in parts]), np.zeros(0, int), False)


def sums(weights: jax.Array, envelopes: jax.Array, responses: jax.Array, mask: jax.Array) -> dict[str, jax.Array]:
    """What a batch of noises adds: moments of the regressors x and the responses y.

    Args:
      weights: of a `Design`.
      envelopes: (batch, steps, bands) dB.
      responses: (batch, positions, units).
      mask: (batch,) 1 for sounds that count.

    Returns:
      "n", "x" (p,), "y" (u,), "xx" (p, p), "xy" (p, u), "yy" (u,); p = bands x times.
    """
    seen = jnp.einsum("plt,ntb->npbl", weights, envelopes)
    x = seen.reshape(-1, seen.shape[2] * seen.shape[3])
    y = responses.astype(jnp.float32).reshape(x.shape[0], -1)
    w = jnp.repeat(mask, seen.shape[1])[:, None]
    return {
        "n": w.sum(),
        "x": (w * x).sum(0),
        "y": (w * y).sum(0),
        "xx": (w * x).T @ x,
        "xy": (w * x).T @ y,
        "yy": (w * y * y).sum(0),
    }


def fields(parts: dict[int, dict[str, np.ndarray]], bands: int) -> tuple[np.ndarray, np.ndarray]:
    """Solves the regression.

    Args:
      parts: {FIT, CHOOSE, TEST: sums over their sounds}, float64.
      bands: how many.

    Returns:
      (units, bands, times) field, response per dB; (units,) correlation of predicted and true responses to the sounds
      of TEST, 0 where either is constant.
    """
    fit, choose = _moments(parts[FIT]), _moments(parts[CHOOSE])
    units = fit[1].shape[1]
    best, chosen = np.full(units, -np.inf), np.zeros(units, int)
    for place, found in enumerate(_solved(fit[0], fit[1])):
        score = _correlation(found, choose)
        better = score > best
        best, chosen = np.where(better, score, best), np.where(better, place, chosen)
    both = _moments({name: parts[FIT][name] + parts[CHOOSE][name] for name in parts[FIT]})
    final = np.zeros_like(both[1])
    for place, found in enumerate(_solved(both[0], both[1])):
        final[:, chosen == place] = found[:, chosen == place]
    score = _correlation(final, _moments(parts[TEST]))
    return final.T.reshape(units, bands, -1).astype(np.float32), score.astype(np.float32)


def _moments(part: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Covariances of x with itself and with y, and the variance of y."""
    n = max(float(part["n"]), 1.0)
    x, y = part["x"] / n, part["y"] / n
    variance = np.maximum(part["yy"] / n - y**2, 0.0)
    # Below the rounding of the sums there is no variance.
    variance = np.where(variance > 1e-8 * part["yy"] / n, variance, 0.0)
    return part["xx"] / n - np.outer(x, x), part["xy"] / n - np.outer(x, y), variance


def _solved(xx: np.ndarray, xy: np.ndarray) -> list[np.ndarray]:
    """(p, u) of every ridge, each times the mean variance of the regressors."""
    values, vectors = np.linalg.eigh(xx)
    turned, size = vectors.T @ xy, max(float(values.mean()), 1e-12)
    return [vectors @ (turned / (np.maximum(values, 0.0) + ridge * size)[:, None]) for ridge in _RIDGES]


def _correlation(field: np.ndarray, moments: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    xx, xy, variance = moments
    along = (field * xy).sum(axis=0)
    size = np.sqrt(np.maximum((field * (xx @ field)).sum(axis=0) * variance, 0.0))
    return np.where(size > 0, along / np.where(size > 0, size, 1.0), 0.0)
