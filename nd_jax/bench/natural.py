"""Natural inputs for the bench: the procedural sound bank, which knows nothing of the planted templates."""

from __future__ import annotations

import jax
import numpy as np

from nd_jax.audio import fit
from nd_jax.data import synthetic
from nd_jax.domain import LogMel

_SHORTEST = 0.5


def inputs(key: jax.Array, domain: LogMel, per_class: int) -> np.ndarray:
    """Sounds of every class of the bank as inputs of a domain: (n, *domain.shape)."""
    seconds = max(domain.samples / domain.sample_rate, _SHORTEST)
    bank = synthetic.bank(key, per_class=per_class, sample_rate=domain.sample_rate, seconds=seconds)
    return np.asarray(domain.from_wave(fit(bank.waves, domain.samples, policy="crop")))
