"""Every line of the trust card against planted units: high for true optima, low for junk."""

from __future__ import annotations

import dataclasses
import functools

import chex
import jax
import numpy as np
import pytest

import nd_jax as nd
from nd_jax.bench import planted
from nd_jax.visualize import trust
from nd_jax.visualize.trust import reading, starts

SIZE = planted.Size(frames=28, window=14, per_kind=1, two=2, random=1, dead=2, nuisances=3)


@functools.cache
def world():
    """(planted network, natural inputs, a result whose inputs are the truth, the truth's second choices)."""
    found = planted.plant(jax.random.key(7), "aligned", size=SIZE)
    rng, shape = np.random.default_rng(0), found.domain.shape
    natural = [
        np.maximum(rng.uniform(0.5, 1.0) * np.roll(x, rng.integers(-3, 4), axis=1), rng.uniform(0, 0.2, size=shape))
        for unit in found.units
        for x in unit.best_inputs(found.domain)
        for _ in range(10)
    ]
    empty = nd.visualize_batch(
        found.network, found.objective, key=jax.random.key(0), steps=0, snapshots=0, restarts=0, progress=False
    )
    choices = [[*unit.best_inputs(found.domain)] or [np.zeros(shape)] for unit in found.units]
    result = dataclasses.replace(
        empty,
        inputs=np.stack([best[0] for best in choices]).astype(np.float32),
        status=tuple("dead: no response from 64 starts" if unit.dead else "ok" for unit in found.units),
    )
    second = np.stack([best[-1] for best in choices]).astype(np.float32)
    return found, np.stack(natural).astype(np.float32), result, second


@functools.cache
def card(kind):
    found, natural, result, _ = world()
    junk = np.random.default_rng(1).uniform(size=result.inputs.shape).astype(np.float32)
    inputs = {"truth": result.inputs, "junk": junk}[kind]
    return trust.measure(dataclasses.replace(result, inputs=inputs), natural, twin=0, progress=False)


def living():
    return np.array([not unit.dead for unit in world()[0].units])


def test_a_true_optimum_is_beyond_natural_sounds_and_junk_is_not():
    true, junk = card("truth"), card("junk")
    alive = living()
    assert np.all(true.ratio[alive] >= 0.99), "nothing natural beats the known maximum"
    assert np.all(junk.ratio[alive] < 0.3)
    maxima = np.array([unit.maximum for unit in world()[0].units])
    chex.assert_trees_all_close(true.score[alive], maxima[alive], rtol=1e-4)


def test_a_true_optimum_takes_the_path_of_natural_sounds_and_junk_does_not():
    true, junk = card("truth"), card("junk")
    alive = living()
    # A planted noise pattern looks like junk, and the natural sounds of a unit with two modes are not alike.
    heard = alive & np.array([unit.kind not in ("random", "two") for unit in world()[0].units])
    assert true.path[heard] == pytest.approx(1.0, abs=0.2)
    assert np.all(junk.path[heard] < 0.6) and np.median(junk.path[heard]) < 0.4
    assert true.same.shape == (len(true), len(true.path_layers)) and "match" in true.path_layers


def test_dead_units_are_silent_and_dead_and_have_no_figures():
    true = card("truth")
    assert true.dead.tolist() == [unit.dead for unit in world()[0].units]
    assert np.all(true.silent[~living()]), "no planted sound moves them"
    assert not true.silent[living()].any()
    for figure in (true.ratio, true.survives):
        assert np.isnan(figure[~living()]).all() and np.isfinite(figure[living()]).all()
    assert np.isnan(true.path[~living()]).all()


def test_silent_and_dead_are_kept_apart():
    found, natural, result, _ = world()
    quiet = np.zeros_like(natural)
    still = trust.measure(result, quiet, twin=0, listen=False, progress=False)
    assert still.silent.all()
    assert still.dead.tolist() == [unit.dead for unit in found.units]
    assert np.isnan(still.ratio).all(), "beside nothing there is no ratio"


def test_starts_with_one_preference_agree_and_two_modes_are_two_preferences():
    found, natural, result, second = world()
    rng = np.random.default_rng(3)
    index = starts.living(result)
    scored = dataclasses.replace(result, scores=reading.Reader(result.objective).own(found.network, result.inputs))

    def shaken(x):
        return np.clip(np.roll(x, rng.integers(-3, 4), axis=1) + rng.uniform(0, 0.05, x.shape), 0, 1)

    inputs = np.stack([shaken((result.inputs, second)[start > 0][lane]) for lane in index for start in range(3)])
    more = scored.select(np.repeat(index, 3))
    inputs = inputs.astype(np.float32)
    more = dataclasses.replace(more, inputs=inputs, scores=reading.Reader(more.objective).own(found.network, inputs))
    compared = starts.compared(
        found.network, scored, more, natural[::2], mean=card("truth").mean, earlier=card("truth").path_layers
    )
    for lane, unit in enumerate(found.units):
        if unit.dead:
            assert np.isnan(compared.agreement[lane]) and compared.preference[lane].tolist() == [-1] * 4
        elif unit.kind == "two":
            assert compared.preference[lane].tolist() in ([0, 0, 1, 1], [1, 1, 0, 0], [0, 1, 1, 1])
            assert sorted(set(compared.preference[lane].tolist())) == [0, 1]
            assert compared.agreement[lane] < 0.3
        else:
            assert compared.preference[lane].tolist() == [0, 0, 0, 0], unit.kind
            assert compared.agreement[lane] > 0.6


def test_further_starts_and_the_random_twin_are_run(tmp_path):
    found, natural, result, _ = world()
    lanes = [place for place, unit in enumerate(found.units) if not unit.dead and not unit.closed][:2]
    short = nd.visualize_batch(
        found.network,
        found.objective,
        key=jax.random.key(2),
        transforms=(),
        steps=4,
        snapshots=0,
        restarts=0,
        progress=False,
    ).select(lanes)
    measured = trust.measure(short, natural, starts=3, twin=2, progress=False)
    assert measured.seed_scores.shape == measured.preference.shape == (2, 3)
    assert np.isfinite(measured.seed_scores).all()
    assert measured.others.replicates.tolist() == [1, 2, 1, 2]
    assert measured.others.labels == tuple(np.repeat(short.labels, 2))
    assert np.all(measured.others.inputs[0] != short.inputs[0]), "from another start"
    assert measured.twin.shape == (2,)
    again = trust.measure(short, natural, twin=2, listen=False, progress=False)
    chex.assert_trees_all_equal(again.twin, measured.twin)
    other = trust.measure(short, natural, twin=2, listen=False, key=jax.random.key(9), progress=False)
    assert not np.array_equal(np.nan_to_num(other.twin), np.nan_to_num(measured.twin))
    measured.save(tmp_path / "card")
    read = trust.Trust.load(tmp_path / "card")
    for name in ("ratio", "survives", "path", "agreement", "twin", "saturated"):
        chex.assert_trees_all_equal(getattr(read, name), getattr(measured, name))
    assert read.labels == measured.labels and read.others.labels == measured.others.labels
