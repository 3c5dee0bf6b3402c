"""What is planted is what the network does, and nothing beats the known optima."""

from __future__ import annotations

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nd_jax.bench import planted
from nd_jax.bench.planted import PlantedNet
from nd_jax.visualize import objectives

SIZE = planted.Size(frames=28, window=14, per_kind=6, two=2, random=2, dead=4, nuisances=4)
USUAL_START = 0.2


@functools.cache
def plant(family, foreign=False, seed=7):
    return planted.plant(jax.random.key(seed), family, size=SIZE, foreign=foreign)


def scores_on(found, inputs, units):
    """(n,) what unit i's objective gives for input i."""
    outputs = np.asarray(found.network(np.stack(inputs)))
    return np.sum(outputs * np.stack([unit.direction for unit in units]), axis=1)


def truths(found):
    pairs = [(unit, x) for unit in found.units for x in unit.best_inputs(found.domain)]
    return [unit for unit, _ in pairs], [x for _, x in pairs]


@pytest.mark.parametrize("family", planted.FAMILIES)
@pytest.mark.parametrize("foreign", [False, True])
def test_every_truth_reaches_the_known_maximum(family, foreign):
    found = plant(family, foreign)
    units, inputs = truths(found)
    maxima = np.asarray([unit.maximum for unit in units])
    assert len(units) == len(found) - SIZE.dead + SIZE.two
    assert min(map(np.min, inputs)) >= 0 and max(map(np.max, inputs)) <= 1
    chex.assert_trees_all_close(scores_on(found, inputs, units) / maxima, np.ones(len(units)), rtol=1e-5)


@pytest.mark.parametrize("family", planted.FAMILIES)
def test_no_projected_gradient_beats_a_truth(family):
    found = plant(family)
    units, inputs = truths(found)
    directions = jnp.asarray(np.stack([unit.direction / unit.maximum for unit in units]), jnp.float32)

    @jax.jit
    def ascend(x, size):
        def total(x):
            return jnp.sum(found.network(x) * directions)

        gradient = jax.grad(total)(x)
        peak = jnp.maximum(jnp.max(jnp.abs(gradient), axis=(1, 2, 3), keepdims=True), 1e-12)
        return jnp.clip(x + size * gradient / peak, 0.0, 1.0)

    best = np.zeros(len(units))
    rng = np.random.default_rng(0)
    truth = np.stack(inputs)
    for shaken in (truth, np.clip(truth + rng.normal(0, 0.1, truth.shape), 0, 1)):
        x = jnp.asarray(shaken, jnp.float32)
        for step in range(30):
            x = ascend(x, 0.05 * 0.85**step)
            best = np.maximum(best, np.sum(np.asarray(found.network(x)) * np.asarray(directions), axis=1))
    assert np.all(best <= 1 + 2e-5), "found something better than the constrained maximum"
    assert np.median(best) > 0.99, "the optimizer works: it comes back to the optimum"


@pytest.mark.parametrize("family", planted.FAMILIES)
def test_dead_units_never_answer_and_live_ones_answer_as_planted_at_the_start(family):
    found = plant(family)
    rng = np.random.default_rng(1)
    noise = rng.uniform(size=(64, *found.domain.shape)) ** 3
    _, best = truths(found)
    inputs = jnp.asarray(np.concatenate([noise, np.stack(best)]), jnp.float32)
    outputs = np.asarray(found.network(inputs)) @ np.stack([unit.direction for unit in found.units]).T
    start = np.asarray(found.network(np.full((1, *found.domain.shape), USUAL_START, np.float32)))[0]
    largest = np.abs(np.asarray(found.network(inputs))).max()
    for place, unit in enumerate(found.units):
        answer = float(start @ unit.direction)
        if unit.dead:
            assert np.abs(outputs[:, place]).max() <= 1e-6 * largest, unit.why
        elif unit.closed:
            assert abs(answer) <= 1e-6 * largest, f"{unit.kind} is to be silent at the usual start"
        else:
            assert answer > 0.01 * unit.maximum, f"{unit.kind} is to answer at the usual start"
    assert sum(unit.dead for unit in found.units) == SIZE.dead
    assert sum(unit.closed and not unit.dead for unit in found.units) >= 10


def test_aligned_units_stand_alone_and_rotated_ones_do_not():
    aligned, rotated = plant("aligned"), plant("rotated")
    for unit in aligned.units:
        assert np.count_nonzero(unit.direction) == 1 and 0.1 <= unit.scale <= 10
    signs = {float(unit.direction.sum()) for unit in aligned.units}
    assert signs == {-1.0, 1.0}
    directions = np.stack([unit.direction for unit in rotated.units])
    chex.assert_trees_all_close(directions @ directions.T, np.eye(len(directions)), atol=1e-12)
    assert np.abs(directions).max() < 0.8
    for one, other in zip(aligned.units, rotated.units, strict=True):
        assert one.kind == other.kind and one.readout == other.readout
        for mine, yours in zip(one.concepts, other.concepts, strict=True):
            chex.assert_trees_all_equal(mine.best, yours.best)


def test_the_objective_reads_each_unit_with_its_sign():
    found = plant("aligned")
    bound = found.objective.bind(found.network)
    units, inputs = truths(found)
    index = {id(unit): place for place, unit in enumerate(found.units)}
    lanes = bound.select([index[id(unit)] for unit in units])
    outputs = jnp.asarray(found.network(np.stack(inputs)))
    values = jax.vmap(lambda arrays, y: objectives.evaluate(lanes.spec, arrays, {planted.LAYER: y}))(
        jax.tree.map(jnp.asarray, lanes.arrays), outputs
    )
    chex.assert_trees_all_close(np.asarray(values), np.asarray([unit.maximum for unit in units]), rtol=1e-5)


def test_the_key_decides_everything():
    first, again, other = plant("aligned"), planted.plant(jax.random.key(7), "aligned", size=SIZE), None
    chex.assert_trees_all_equal(first.network.variables, again.network.variables)
    other = planted.plant(jax.random.key(8), "aligned", size=SIZE)
    assert not np.allclose(
        first.network.variables["params"]["match"]["kernel"], other.network.variables["params"]["match"]["kernel"]
    )


def test_foreign_networks_have_no_relu_module_and_the_same_function():
    own, foreign = plant("rotated"), plant("rotated", True)
    x = jnp.asarray(np.random.default_rng(2).uniform(size=(3, *own.domain.shape)), jnp.float32)
    chex.assert_trees_all_close(own.network(x), foreign.network(x), rtol=1e-6)
    names = [[type(call).__name__ for call in _modules(found.network.module, x)] for found in (own, foreign)]
    assert "Relu" in names[0] and "Relu" not in names[1]


def _modules(module: PlantedNet, x):
    import flax.linen as nn

    seen = []

    def note(call, args, kwargs, context):
        seen.append(context.module)
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(module.init, jax.random.key(0), x)
    return seen


def test_an_unknown_family_is_refused():
    with pytest.raises(ValueError, match="aligned"):
        planted.plant(jax.random.key(0), "mirrored")
