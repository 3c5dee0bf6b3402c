"""The moments of a training at which networks are kept for good."""

from __future__ import annotations

import math

import numpy as np


def snapshot_steps(steps: int, count: int, every: int) -> tuple[int, ...]:
    """At most `count` steps from 0 to the last, log-spaced and, but for the last, multiples of `every`.

    Args:
      steps: of the whole training.
      count: how many; 0 for none.
      every: steps between the moments when a snapshot is possible.
    """
    if not count:
        return ()
    last = math.ceil(steps / every)
    # Geometric spacing rounds several early ones to the same moment: take more until enough differ.
    found: set[int] = {0, last}
    for many in range(2, 8 * count):
        spaced = {0, *(round(float(at)) for at in np.geomspace(1, last, many))}
        if len(spaced) > count:
            break
        found = spaced
    return tuple(sorted(min(at * every, steps) for at in found))
