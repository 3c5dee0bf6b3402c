"""The inputs that a planted unit likes best, by calculation: the constrained maximum over the domain's box.

A planted unit sees a window h of its front layer, h = front(x) cell by cell with `front` increasing from 0 to 1, and
answers with an increasing function of one of

    normalised   r(h) = w.h / sqrt(epsilon + h.h)
    linear       r(h) = w.h

over the box 0 <= h <= 1. Linear: the maximum is at the corner h = 1 where w > 0, h = 0 where w < 0, free elsewhere.

Normalised: where r > 0 its superlevel sets {w.h >= c sqrt(epsilon + h.h)} are convex (second-order cones), so that a
point which satisfies the Karush-Kuhn-Tucker conditions is the global maximum. They read h = clip(w / m, 0, 1) with
m = w.h / (epsilon + h.h): one equation in m, whose two sides differ by F(m) = m (epsilon + h.h) - w.h, and F has the
slope epsilon + (number of cells at 1) > 0: it has exactly one root.
"""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Front:
    """The layer before: h = share x + (1 - share) max(x - bend, 0) / (1 - bend), from 0 to 1 for x from 0 to 1."""

    share: float
    bend: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Inputs to h, any shape."""
        return self.share * x + (1.0 - self.share) * np.maximum(x - self.bend, 0.0) / (1.0 - self.bend)

    def inverse(self, h: np.ndarray) -> np.ndarray:
        """h to inputs, any shape."""
        steep = (1.0 - self.share) / (1.0 - self.bend)
        above = (h + steep * self.bend) / (self.share + steep)
        return np.where(h <= self.share * self.bend, h / self.share, above)


def best_normalised(weights: np.ndarray, epsilon: float) -> tuple[np.ndarray, float]:
    """The h in 0 ... 1 that maximises w.h / sqrt(epsilon + h.h), and the maximum.

    Args:
      weights: any shape, at least one above 0.
      epsilon: above 0.

    Raises:
      ValueError: no weight above 0 (the maximum is then 0, at silence), or epsilon not above 0.
    """
    w = np.asarray(weights, np.float64)
    if not np.any(w > 0):
        raise ValueError("a normalised unit without a weight above 0 likes nothing but silence")
    if not epsilon > 0:
        raise ValueError(f"epsilon must be above 0, got {epsilon}")

    def mismatch(m: float) -> float:
        h = np.clip(w / m, 0.0, 1.0)
        return m * (epsilon + np.sum(h * h)) - np.sum(w * h)

    # At the largest weight nothing is clipped and the mismatch is m * epsilon > 0.
    low, high = 1e-12, float(w.max())
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if mismatch(middle) < 0 else (low, middle)
    h = np.clip(w / high, 0.0, 1.0)
    return h, float(np.sum(w * h) / np.sqrt(epsilon + np.sum(h * h)))


def best_linear(weights: np.ndarray) -> tuple[np.ndarray, float]:
    """The h in 0 ... 1 that maximises w.h (0 where it does not matter), and the maximum; any shape."""
    w = np.asarray(weights, np.float64)
    h = (w > 0).astype(np.float64)
    return h, float(np.sum(w * h))
