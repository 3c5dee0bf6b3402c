"""The row "automatic settings": strengths are chosen on the planted network, and are what the recipe runs with."""

import jax
import numpy as np

from nd_jax import tuning
from nd_jax.bench import natural, planted, recipes, visualization


def test_what_was_chosen_is_what_runs(monkeypatch):
    sounds = natural.inputs(jax.random.key(0x50D), planted.QUICK.domain(), 1)
    case = visualization.cases({1: jax.random.key(1)}, planted.QUICK, sounds, (False,))[0]
    found = {recipe.name: recipe for recipe in recipes.variants(recipes.default(), case.planted.domain, sounds)}
    recipe = found["automatic settings"]
    assert recipe.adds
    given, chosen = {}, []
    real_batch, real_tune = recipes.visualize_batch, tuning.tune

    def batch(*arguments, **settings):
        given.update(settings)
        return real_batch(*arguments, **settings)

    def tune(*arguments, **settings):
        assert settings["steps"] == 2
        chosen.append(real_tune(*arguments, **settings))
        return chosen[-1]

    monkeypatch.setattr(recipes, "visualize_batch", batch)
    monkeypatch.setattr(tuning, "tune", tune)
    spread = case.spreads(recipe)
    result = recipe.look(case.planted, key=case.key, steps=4, spread=spread, moments=(0, 4))
    assert len(result.scores) == len(case.planted)
    assert np.isfinite(result.scores).all()
    np.testing.assert_array_equal(given["strengths"], np.asarray(chosen[0].row, np.float32))
    assert given["scale"] == chosen[0].scale
    assert [item.label for item in given["penalties"]] == [item.label for item in chosen[0].arguments()["penalties"]]
    # The default has none of it.
    given.clear()
    recipes.default().look(case.planted, key=case.key, steps=4, spread=spread, moments=(0, 4))
    assert "strengths" not in given
