"""Whether several starts found the same thing: activations held against each other after alignment in time."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

ALIKE = 0.5
"""Agreement from which two starts found one preference."""
STRONG = 0.5
"""Share of the best start's rise that another preference must have."""
_AT_ONCE = 16


@jax.jit
def _aligned(left: jax.Array, right: jax.Array) -> jax.Array:
    """(n, i, j) highest cosine over all circular shifts in time, of (n, i, time, numbers) and (n, j, time, numbers)."""
    time = left.shape[2]
    products = jnp.einsum("nifr,njfr->nijf", jnp.conj(jnp.fft.rfft(left, axis=2)), jnp.fft.rfft(right, axis=2))
    highest = jnp.max(jnp.fft.irfft(products, time, axis=-1), axis=-1)
    lengths = [jnp.sqrt(jnp.sum(jnp.square(part), axis=(2, 3))) for part in (left, right)]
    return highest / jnp.maximum(lengths[0][:, :, None] * lengths[1][:, None, :], 1e-12)


def agreement(made: np.ndarray, natural: np.ndarray, spared: np.ndarray | None = None) -> np.ndarray:
    """How alike what several starts found is, pair by pair.

    Activations are centred and scaled number by number by those of natural inputs, so that what all sounds have in
    common does not count; two inputs are held against each other at the shift in time that suits them best.

    Args:
      made: (lanes, starts, time, numbers) activations of the optimised inputs.
      natural: (inputs, time, numbers) activations of natural inputs, two or more.
      spared: (lanes, numbers) 0 for numbers that are left out (the unit itself), else 1.

    Returns:
      (lanes, starts, starts): 1 for the same, 0 for as alike as two natural inputs are.
    """
    mean = natural.mean(axis=(0, 1), dtype=np.float64)
    spread = natural.std(axis=(0, 1), dtype=np.float64)
    # A number that natural inputs leave as it is has no scale of its own.
    spread = np.maximum(spread, 1e-3 * max(float(spread.max()), 1e-12))

    def standard(values: np.ndarray) -> np.ndarray:
        return ((values - mean) / spread).astype(np.float32)

    pairs = standard(natural)[: len(natural) // 2 * 2].reshape(-1, 2, *natural.shape[1:])
    parts, usual = [], []
    for start in range(0, len(made), _AT_ONCE):
        index = np.resize(np.arange(start, min(start + _AT_ONCE, len(made))), _AT_ONCE)
        keep = 1.0 if spared is None else spared[index][:, None, None]
        values = jnp.asarray(standard(made[index]) * np.float32(keep))
        parts.append(np.asarray(_aligned(values, values))[: len(made) - start])
    for start in range(0, len(pairs), _AT_ONCE):
        index = np.resize(np.arange(start, min(start + _AT_ONCE, len(pairs))), _AT_ONCE)
        found = _aligned(jnp.asarray(pairs[index, :1]), jnp.asarray(pairs[index, 1:]))
        usual.append(np.asarray(found)[: len(pairs) - start, 0, 0])
    zero = float(np.mean(np.concatenate(usual)))
    return (np.concatenate(parts) - zero) / max(1.0 - zero, 1e-6)


def preferences(agreement: np.ndarray, rises: np.ndarray) -> np.ndarray:
    """Which starts found the same preference.

    From the highest score down, a start joins the first preference whose best start it agrees with (`ALIKE`), or begins
    one of its own when it rises at least `STRONG` as far as the best start.

    Args:
      agreement: (starts, starts) of one lane.
      rises: (starts,) score above the unit's natural mean; NaN for a start that failed.

    Returns:
      (starts,) 0, 1, ... for the preferences, the strongest first; -1 for starts that found nothing of the kind.
    """
    found = np.full(len(rises), -1)
    leaders: list[int] = []
    heights = np.nan_to_num(rises, nan=-np.inf)
    for start in np.argsort(-heights, kind="stable"):
        alike = [place for place, leader in enumerate(leaders) if agreement[start, leader] >= ALIKE]
        if not np.isfinite(heights[start]) or heights[start] <= 0:
            continue
        if alike:
            found[start] = alike[0]
        elif not leaders or heights[start] >= STRONG * heights[leaders[0]]:
            found[start] = len(leaders)
            leaders.append(int(start))
    return found


def mean_agreement(agreement: np.ndarray, counted: np.ndarray) -> float:
    """The mean over pairs of counted starts; NaN for fewer than two."""
    index = np.flatnonzero(counted)
    if len(index) < 2:
        return float("nan")
    inside = agreement[np.ix_(index, index)]
    return float(inside[~np.eye(len(index), dtype=bool)].mean())
