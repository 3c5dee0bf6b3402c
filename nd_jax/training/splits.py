"""Which examples are held out: a hash decides, so the answer depends on names and seed and on nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def group_positions(groups: Sequence[str], seed: int) -> np.ndarray:
    """A number in 0 ... 1 for every example, the same for all examples of a group.

    Cutting it, for example at `< 0.2`, splits examples without ever dividing a group; adding or removing examples moves
    no other example to the other side.

    Args:
      groups: (n,) the name of every example's group, such as "flute:60".
      seed: another seed, another split.

    Returns:
      (n,) float64, uniform over groups.
    """
    digests = (hashlib.sha256(f"{seed}:{group}".encode()).digest() for group in groups)
    return np.asarray([int.from_bytes(digest[:8], "big") / 2.0**64 for digest in digests])
