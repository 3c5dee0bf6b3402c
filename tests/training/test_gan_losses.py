"""Adversarial losses and penalties against their formulas and against cases with a known answer."""

from __future__ import annotations

import chex
import gan_problem
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nd_jax.training.gan import LOSSES, Gan, Settings, adversarial_loss, losses


@pytest.fixture
def scores(getkey):
    return 3 * jax.random.normal(getkey(), (32,)), 3 * jax.random.normal(getkey(), (32,))


def _sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


FORMULAS = {
    "non_saturating": (
        lambda real, fake: -np.mean(np.log(_sigmoid(real)) + np.log(1 - _sigmoid(fake))),
        lambda fake: -np.mean(np.log(_sigmoid(fake))),
    ),
    "least_squares": (
        lambda real, fake: np.mean((real - 1) ** 2 + fake**2),
        lambda fake: np.mean((fake - 1) ** 2),
    ),
    "sigmoid_least_squares": (
        lambda real, fake: np.mean((_sigmoid(real) - 1) ** 2 + _sigmoid(fake) ** 2),
        lambda fake: np.mean((_sigmoid(fake) - 1) ** 2),
    ),
    "hinge": (
        lambda real, fake: np.mean(np.maximum(0, 1 - real) + np.maximum(0, 1 + fake)),
        lambda fake: -np.mean(fake),
    ),
    "wasserstein": (lambda real, fake: np.mean(fake) - np.mean(real), lambda fake: -np.mean(fake)),
}


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_formula(name, scores):
    real, fake = scores
    loss, (of_discriminator, of_generator) = adversarial_loss(name), FORMULAS[name]
    plain = np.asarray(real, np.float64), np.asarray(fake, np.float64)
    chex.assert_trees_all_close(loss.discriminator(real, fake), np.float32(of_discriminator(*plain)), rtol=1e-5)
    chex.assert_trees_all_close(loss.generator(fake), np.float32(of_generator(plain[1])), rtol=1e-5)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_each_player_wants_the_opposite_of_generated_examples(name):
    fake = jnp.linspace(-0.5, 0.4, 8)
    loss = adversarial_loss(name)
    critic = jax.grad(lambda fake: loss.discriminator(fake, fake))(fake) - jax.grad(
        lambda real: loss.discriminator(real, fake)
    )(fake)
    chex.assert_tree_all_finite(critic)
    assert np.all(np.asarray(jax.grad(loss.generator)(fake)) < 0)
    assert np.all(np.asarray(jax.grad(lambda real: loss.discriminator(real, fake))(fake)) < 0)


def test_large_scores_stay_finite():
    for name in ("non_saturating", "sigmoid_least_squares"):
        loss = adversarial_loss(name)
        extreme = jnp.asarray([-1e4, 1e4])
        slopes = jax.grad(lambda x, loss=loss: loss.discriminator(x, x) + loss.generator(x))(extreme)
        chex.assert_tree_all_finite((loss.discriminator(extreme, extreme), slopes))


def test_unknown_loss_names_the_nearest():
    with pytest.raises(ValueError, match="no adversarial loss 'hinges'.*hinge"):
        adversarial_loss("hinges")


def test_penalty_of_linear_critics(getkey):
    real, fake = jax.random.normal(getkey(), (5, 3, 2)), jax.random.normal(getkey(), (5, 3, 2))
    share = jax.random.uniform(getkey(), (5,))
    direction = jax.random.normal(getkey(), (3, 2))
    direction = direction / jnp.linalg.norm(direction)
    for length, penalty in ((1.0, 0.0), (3.0, 4.0)):
        found, beside = losses.gradient_penalty(
            lambda x, length=length: (jnp.sum(length * direction[None] * x, axis=(1, 2)), "beside"), real, fake, share
        )
        chex.assert_trees_all_close(found, jnp.float32(penalty), atol=1e-5)
        assert beside == "beside"
    found, _ = losses.r1(lambda x: (jnp.sum(3.0 * direction[None] * x, axis=(1, 2)), None), real)
    chex.assert_trees_all_close(found, jnp.float32(4.5), rtol=1e-5)


def test_penalty_is_taken_at_the_mixture(getkey):
    real, fake = jax.random.normal(getkey(), (6, 4)), jax.random.normal(getkey(), (6, 4))
    share = jnp.linspace(0.0, 1.0, 6)

    def square(x):
        return jnp.sum(x**2, axis=1), None

    found, _ = losses.gradient_penalty(square, real, fake, share)
    mixed = share[:, None] * real + (1 - share[:, None]) * fake
    wanted = jnp.mean((2 * jnp.linalg.norm(mixed, axis=1) - 1) ** 2)
    chex.assert_trees_all_close(found, wanted, rtol=1e-5)


def test_penalty_has_a_gradient_where_the_slope_is_zero():
    x = jnp.zeros((2, 3))
    slope = jax.grad(lambda w: losses.gradient_penalty(lambda x: (w * x.sum(axis=1), None), x, x, jnp.ones(2))[0])(0.0)
    chex.assert_tree_all_finite(slope)


def test_consistency():
    chex.assert_trees_all_close(losses.consistency(jnp.asarray([1.0, 2.0]), jnp.asarray([1.5, 1.0])), jnp.float32(1.5))


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_the_score_of_a_pair_is_that_of_the_example_and_the_log_probability_of_its_class(weight, getkey):
    judge = gan_problem.Judge(classes=3, dropout=0.0)
    settings = Settings(pair_weight=weight, class_weight=0.0)
    task = gan_problem.make_task(("a", "b", "c"), pairs=False)
    rules = Gan(gan_problem.Maker(), judge, task, settings)
    real, fakes = jax.random.normal(getkey(), (4, 2)), jax.random.normal(getkey(), (4, 2))
    label, asked = jnp.array([0, 1, 2, 0]), jnp.array([2, 2, 1, 0])
    params = judge.init(getkey(), real)["params"]
    draws = {"keys": jax.random.split(getkey(), 4), "label": asked}
    loss, _ = rules.criticise(params, {}, real, fakes, label, draws)

    def said(x, label):
        output = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), judge.apply({"params": params}, x))
        likely = np.exp(output["label"]) / np.sum(np.exp(output["label"]), axis=-1, keepdims=True)
        return output["score"][:, 0] + weight * np.log(likely[np.arange(4), label])

    expected = -np.mean(np.log(_sigmoid(said(real, label))) + np.log(_sigmoid(-said(fakes, asked))))
    chex.assert_trees_all_close(loss, np.float32(expected), rtol=1e-5)
