"""Changes within a radius, stretched pixels, and the adversarial examples and blends that are made with them."""

from __future__ import annotations

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax.visualize import parameterizations
from nd_jax.visualize.adversarial import probabilities
from nd_jax.visualize.parameterizations.stretched import blur

DOMAIN = nd.domain.Image((4, 5, 1), -1.0, 1.0)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("size", [0.01, 1.0, 1000.0])
def test_a_change_stays_within_its_radius(getkey, norm, size):
    near = parameterizations.nearby(0.3, norm=norm)
    x = jax.random.uniform(getkey(), DOMAIN.shape, minval=-1.0)
    free = near.invert(x, DOMAIN) | {"change": size * jax.random.normal(getkey(), DOMAIN.shape)}
    chex.assert_trees_all_close(near.apply(near.invert(x, DOMAIN), DOMAIN), x)
    moved = near.apply(free, DOMAIN)
    distance = jnp.sqrt(jnp.sum((moved - x) ** 2)) if norm == "l2" else jnp.abs(moved - x).max()
    assert 0 < distance <= 0.3 * (1 + 1e-5)
    assert moved.min() >= -1 and moved.max() <= 1


def test_only_the_change_is_free_and_a_value_beyond_the_end_can_return():
    near = parameterizations.nearby(0.5, norm="linf")
    x = jnp.full(DOMAIN.shape, 0.9)
    free = near.invert(x, DOMAIN) | {"change": jnp.full(DOMAIN.shape, 2.0)}

    def loss(parameters, sign):
        return sign * jnp.sum(near.apply(parameters, DOMAIN))

    outward, inward = (jax.grad(loss)(free, sign) for sign in (-1.0, 1.0))
    assert not np.any(outward["change"]) and np.all(inward["change"] > 0)
    for gradient in (outward, inward):
        assert not np.any(gradient["base"]) and not np.any(gradient["radius"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: parameterizations.nearby(0.0), "must be a number above 0"),
        (lambda: parameterizations.nearby(1.0, norm="l3"), "unknown norm 'l3'"),
        (lambda: parameterizations.stretched().init(jax.random.key(0), nd.domain.Latent(3)), "is for images"),
        (lambda: parameterizations.nearby(1.0).invert(np.zeros(3), DOMAIN), "inverts one input of shape"),
    ],
)
def test_what_makes_no_sense(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_stretched_pixels(getkey):
    kind, domain = parameterizations.stretched(), nd.domain.Image((60, 50, 3), -1.0, 2.0)
    first = kind.init(getkey(), domain)
    x = kind.apply(first, domain)
    chex.assert_trees_all_close((x.min(), x.max()), (-1.0, 2.0), atol=1e-5)
    # Blurred: neighbours are alike, as they are not in noise.
    steps = jnp.abs(jnp.diff(x, axis=1)).mean() / jnp.abs(x - x.mean()).mean()
    assert steps < 0.2
    chex.assert_trees_all_close(kind.apply(kind.invert(x, domain), domain), x, atol=1e-5)
    flat = kind.apply(jnp.full(domain.shape, 7.0), domain)
    chex.assert_trees_all_close(flat, jnp.full(domain.shape, 0.5))
    gradient = jax.grad(lambda free: jnp.sum(kind.apply(free, domain)))(jnp.full(domain.shape, 7.0))
    chex.assert_tree_all_finite(gradient)
    for side in (3, 60):
        chex.assert_trees_all_close(blur(side).sum(axis=1), np.ones(side, np.float32), rtol=1e-5)


# ---- A classifier whose answers are known: logits are w0 . x and w1 . x ----------------------------------------------


class Plane(nn.Module):
    """Two or more logits that are linear in the pixels."""

    classes: int = 2

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.classes, use_bias=False, name="dense")(x.reshape(x.shape[0], -1))


@pytest.fixture(scope="module")
def plane():
    kernel = np.zeros((20, 3), np.float32)
    kernel[:10, 0], kernel[10:, 1], kernel[:, 2] = 1.0, 1.0, -1.0
    return nd.Network(Plane(3), {"params": {"dense": {"kernel": kernel}}}, input=DOMAIN, labels=("a", "b", "c"))


def test_the_smallest_change_is_the_distance_to_the_border(plane):
    x = np.zeros((2, *DOMAIN.shape), np.float32)
    x.reshape(2, 20)[0, :10], x.reshape(2, 20)[1, 10:] = 0.2, 0.4
    found = nd.visualize.adversarial(plane, x, key=jax.random.key(0), steps=40, progress=False, snapshots=3)
    assert found.sources.tolist() == [0, 1] and found.targets.tolist() == [1, 0]
    assert found.flipped.all()
    # The border is (w0 - w1) . x = 0, |w0 - w1| = sqrt(20): 10 * 0.2 / sqrt(20) away, and 10 * 0.4 / sqrt(20).
    border = np.array([2.0, 4.0]) / np.sqrt(20)
    assert (found.l2 >= border).all() and (found.l2 <= 1.15 * border).all(), found.l2 / border
    chex.assert_trees_all_close(found.rms, found.l2 / np.sqrt(20) / 2)
    chex.assert_trees_all_close(found.noise, np.ones(2))
    assert (found.after.argmax(axis=1) == found.targets).all()
    assert found.result.snapshots.shape == (3, 2, *DOMAIN.shape)
    same = nd.visualize.adversarial(plane, x, 2, key=jax.random.key(0), steps=40, progress=False, norm="linf", noise=0)
    # Pixels of a class lower by e, the others too: 10 (s - e) = -10 (s - e) + 10 e, so e = 2 s / 3 where a can fall.
    assert same.targets.tolist() == [2, 2]
    assert np.isnan(same.noise).all()
    border = np.array([0.2, 0.4]) * 2 / 3
    assert (same.linf >= border * 0.99).all() and (same.linf <= 1.15 * border).all(), same.linf / border


def test_a_budget_that_is_too_small_flips_nothing(plane):
    x = np.zeros((1, *DOMAIN.shape), np.float32)
    x.reshape(1, 20)[:, :10] = 0.9
    found = nd.visualize.adversarial(plane, x, [1], key=jax.random.key(0), budgets=[0.01], steps=8, progress=False)
    assert not found.flipped.any() and np.isnan(found.budgets).all()
    assert found.rms[0] <= 0.01 * (1 + 1e-5)


def test_blending(plane):
    x, other = np.zeros((2, 1, *DOMAIN.shape), np.float32)
    x.reshape(20)[:10], other.reshape(20)[10:] = 0.5, 1.0
    found = nd.visualize.blend(plane, x, other, [1])
    # 5 (1 - share) < 10 share from a third on.
    chex.assert_trees_all_close(found.flips, np.array([0.34]))
    chex.assert_shape(found.probabilities, (1, 101, 3))
    chex.assert_trees_all_close(found.probabilities[0, [0, -1]], probabilities(plane, np.concatenate([x, other])))
    assert np.isnan(nd.visualize.blend(plane, x, x, [1]).flips).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": 0}, "input 0 is class 0 for the network already"),
        ({"targets": 9}, "numbers of classes, 0 to 2"),
        ({"targets": 0.5}, "numbers of classes"),
        ({"budgets": [0.0]}, "shares of the range above 0"),
        ({"budgets": []}, "shares of the range above 0"),
        ({"norm": "l1"}, "unknown norm 'l1'"),
    ],
)
def test_bad_settings(plane, changes, message):
    x = np.zeros((1, *DOMAIN.shape), np.float32)
    x.reshape(1, 20)[:, :10] = 0.5
    with pytest.raises(ValueError, match=message):
        nd.visualize.adversarial(plane, x, key=jax.random.key(0), progress=False, **changes)


def test_bad_networks_and_blends(plane, getkey):
    one = nd.Network(Plane(1), {"params": {"dense": {"kernel": np.ones((20, 1), np.float32)}}}, input=DOMAIN)
    x = np.zeros((1, *DOMAIN.shape), np.float32)
    with pytest.raises(ValueError, match="a classifier with one output of logits"):
        nd.visualize.adversarial(one, x, key=getkey())
    with pytest.raises(ValueError, match="one for each is needed"):
        nd.visualize.blend(plane, x, x, [1, 2])
    with pytest.raises(ValueError, match="shares must rise"):
        nd.visualize.blend(plane, x, x, [1], shares=[0.5, 0.2])
