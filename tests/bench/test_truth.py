"""The constrained maxima against an optimizer that knows nothing of the formula."""

from __future__ import annotations

import chex
import numpy as np
import pytest

from nd_jax.bench.truth import Front, best_linear, best_normalised


def climb(weights, epsilon, start, steps=4000, rate=0.05):
    """Projected gradient ascent of w.h / sqrt(epsilon + h.h) over the box, with a step that shrinks."""
    h = start.copy()
    for step in range(steps):
        norm = np.sqrt(epsilon + np.sum(h * h))
        gradient = weights / norm - h * np.sum(weights * h) / norm**3
        h = np.clip(h + rate / (1 + step / 200) * gradient / max(np.abs(gradient).max(), 1e-12), 0.0, 1.0)
    return h, float(np.sum(weights * h) / np.sqrt(epsilon + np.sum(h * h)))


@pytest.mark.parametrize("epsilon", [1e-3, 0.25, 5.0])
@pytest.mark.parametrize("offset", [-0.5, 0.0, 0.5])
def test_normalised_is_what_projected_gradients_find(epsilon, offset):
    rng = np.random.default_rng(3)
    weights = rng.normal(size=40) + offset
    best, maximum = best_normalised(weights, epsilon)
    chex.assert_trees_all_close(maximum, float(np.sum(weights * best) / np.sqrt(epsilon + np.sum(best * best))))
    assert 0 <= best.min() and best.max() <= 1
    for start in (best, rng.uniform(size=40), np.full(40, 0.2)):
        _, found = climb(weights, epsilon, start)
        assert found <= maximum * (1 + 1e-9)
    assert found > maximum * 0.999, "the optimizer comes near it from grey, so that the bound is not loose"


def test_normalised_clips_only_what_the_box_demands():
    weights = np.asarray([3.0, 1.0, -1.0])
    # A tiny epsilon: the direction of the weights is right, at any length; a large one: everything at full.
    small, _ = best_normalised(weights, 1e-9)
    chex.assert_trees_all_close(small, np.asarray([1.0, 1 / 3, 0.0]), atol=1e-4)
    large, _ = best_normalised(weights, 1e6)
    chex.assert_trees_all_close(large, np.asarray([1.0, 1.0, 0.0]))


def test_linear_is_a_corner():
    best, maximum = best_linear(np.asarray([[2.0, -1.0], [0.0, 0.5]]))
    chex.assert_trees_all_close(best, np.asarray([[1.0, 0.0], [0.0, 1.0]]))
    assert maximum == 2.5


def test_senseless_weights_are_refused():
    with pytest.raises(ValueError, match="silence"):
        best_normalised(np.asarray([-1.0, 0.0]), 0.1)
    with pytest.raises(ValueError, match="epsilon"):
        best_normalised(np.asarray([1.0]), 0.0)


def test_front_and_its_inverse():
    front = Front(share=0.4, bend=0.3)
    x = np.linspace(0, 1, 101)
    h = front(x)
    assert h[0] == 0 and h[-1] == pytest.approx(1) and np.all(np.diff(h) > 0)
    chex.assert_trees_all_close(front.inverse(h), x, atol=1e-12)
