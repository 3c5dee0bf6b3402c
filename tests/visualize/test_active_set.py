"""The active set: lanes that have converged or died leave, others enter, and nothing else is different."""

import signal

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import nd_jax as nd
from nd_jax.visualize import converged, leaving, program
from nd_jax.visualize import run as running

DOMAIN = nd.domain.Image(shape=(8, 8, 1))


class Bumps(nn.Module):
    """Twenty-two units with a hill each, some of which are climbed in few steps, some in many; then two silent ones."""

    @nn.compact
    def __call__(self, x):
        mean = x.mean(axis=(1, 2, 3))[:, None]
        places = jnp.linspace(0.1, 0.95, 22)[None]
        bumps = 1 - jnp.square(mean - places)
        return jnp.concatenate([bumps, nn.relu(mean - 3), nn.relu(mean - 4)], axis=-1)


class Poison(nn.Module):
    """Unit 0 climbs; unit 1 is not finite once it passes a threshold."""

    @nn.compact
    def __call__(self, x):
        mean = x.mean(axis=(1, 2, 3))
        return jnp.stack([mean, mean / jnp.maximum(0.6 - mean, 0)], axis=-1)


@pytest.fixture(scope="module")
def network():
    return nd.Network(Bumps(), {}, input=DOMAIN)


STOP = converged(tolerance=0.01, rough=0.05, window=4, patience=1, silence=8)


def run(network, units=None, **settings):
    defaults = {
        "key": jax.random.key(2),
        "steps": 80,
        "parameterization": nd.parameterizations.pixels(),
        "transforms": (nd.transforms.jitter(1),),
        "optimizer": nd.visualize.adam(0.05),
        "stop_when": STOP,
        "restarts": 0,
        "snapshots": [0, 3, 40, 80],
        "progress": False,
    }
    return nd.visualize_batch(network, nd.objectives.logit(units), **{**defaults, **settings})


def same(ours, theirs, lane, other):
    for name in ("inputs", "parameters"):
        a, b = (
            jax.tree.map(lambda leaf, at=at: leaf[at], getattr(result, name))
            for result, at in ((ours, lane), (theirs, other))
        )
        chex.assert_trees_all_equal(a, b)
    chex.assert_trees_all_equal(ours.history[:, lane], theirs.history[:, other])
    chex.assert_trees_all_equal(ours.snapshots[:, lane], theirs.snapshots[:, other])
    assert ours.steps_done[lane] == theirs.steps_done[other]
    assert ours.stopped[lane] == theirs.stopped[other]


def test_lanes_leave_when_they_have_converged_and_reach_what_all_steps_reach(network):
    early, all_steps = run(network, range(22)), run(network, range(22), stop_when=None)
    assert set(early.stopped) == {"converged"}
    assert set(all_steps.stopped) == {"steps"}
    assert early.steps_done.max() < 80
    assert len(set(early.steps_done.tolist())) > 2
    assert (all_steps.steps_done == 80).all()
    chex.assert_trees_all_close(early.scores, all_steps.scores, atol=0.01)
    told = early.manifest["ended"]
    assert told == {"converged": 22, "steps_done": int(early.steps_done.sum())}
    assert set(early.status) == {"ok"}


def test_a_lane_does_not_depend_on_who_is_around_it_or_when_it_entered(network):
    whole = run(network, range(24), chunk_size=8)
    assert whole.manifest["chunk_size"] == 8
    assert run(network, range(24), chunk_size=24, steps=1, snapshots=0).manifest["chunk_size"] == 24
    for units, chunk in (([21], None), (list(range(24))[::-1], 8), (range(24), 24), ([5, 22, 0, 1, 2, 9, 13, 4, 6], 8)):
        part = run(network, units, chunk_size=chunk)
        for lane, unit in enumerate(units):
            same(part, whole, lane, unit)


def test_nothing_is_compiled_again(network):
    run(network, range(24), chunk_size=8)
    programs = program.programs(None)
    before = [each.compiled() for each in programs]
    assert dict(zip(programs._fields, before, strict=True))["enter"] >= 1
    run(network, range(3), chunk_size=8)
    # Other units, another rule, another number of steps and another place for the polish.
    other = converged(tolerance=0.02, rough=0.1, window=5, patience=2, silence=9)
    run(network, range(24)[::-1], chunk_size=8, stop_when=other, steps=64, polish=0.25, snapshots=3)
    assert [each.compiled() for each in programs] == before


def test_units_that_do_not_answer_leave_first_and_are_rescued_or_dead(network):
    result = run(network, [3, 22, 23])
    assert result.stopped == ("converged", "died", "died")
    assert result.steps_done[1:].tolist() == [8, 8]
    assert result.status[1] == "dead: no response from its own start"
    tried = run(network, [3, 22, 23], restarts=4)
    assert tried.status[2] == "dead: no response from 4 starts"
    same(tried, result, 0, 0)


def test_a_lane_that_is_not_finite_leaves_alone():
    network = nd.Network(Poison(), {}, input=DOMAIN)
    settings = {"transforms": (), "optimizer": optax.adam(0.05)}
    result = run(network, [1, 0], **settings)
    assert result.stopped[0] == "not finite"
    assert result.status[0].startswith("not finite at step")
    chex.assert_tree_all_finite(result.inputs)
    same(result, run(network, [0], **settings), 1, 0)


def test_snapshots_of_a_lane_that_has_left_are_as_it_was(network):
    result = run(network, [11, 21])
    assert result.snapshot_steps == (0, 3, 40, 80)
    quick = int(np.argmin(result.steps_done))
    assert result.steps_done[quick] < 40
    chex.assert_trees_all_equal(result.snapshots[2, quick], result.inputs[quick])
    chex.assert_trees_all_equal(result.history[3], result.scores)
    assert not np.array_equal(result.snapshots[1, quick], result.inputs[quick])
    short = run(network, [11, 21], stop_when=None)
    chex.assert_trees_all_close(result.snapshots[1], short.snapshots[1], atol=1e-5)


def test_a_section_that_has_converged_is_left_for_the_next(network):
    # The polish, which alone moves the single cells, comes at once where nothing can be gained before.
    fine = nd.parameterizations.fourier(fine=True)
    result = run(network, range(4), parameterization=fine, polish=0.25, stop_when=converged(tolerance=0.0, window=2))
    assert result.parameters["fine"].any(axis=(1, 2, 3)).all()
    quiet = nd.penalties.early(nd.penalties.l2(weight=50.0), 0.5)
    pulled = run(network, [21], transforms=(), penalties=[quiet])
    assert pulled.steps_done[0] < 80
    # Had it left where the penalty still pulled, it would be far from its hill.
    assert pulled.scores[0] > 0.95
    assert run(network, [21], transforms=(), penalties=[quiet.penalty]).scores[0] < 0.85


def test_schedules_follow_the_updates_of_their_lane(network):
    seen = optax.sgd(optax.linear_schedule(1.0, 0.0, 12))
    result = run(network, range(24), optimizer=seen, transforms=(), chunk_size=8)
    for unit in (0, 15, 21):
        same(run(network, [unit], optimizer=seen, transforms=()), result, 0, unit)
    still = run(network, [21], optimizer=seen, transforms=(), stop_when=None)
    chex.assert_trees_all_close(result.inputs[21], still.inputs[0], atol=1e-5)


def test_several_inputs_a_lane_starts_and_two_devices(network):
    pair = run(network, range(12), inputs_per_lane=2, chunk_size=8)
    same(pair, run(network, [11], inputs_per_lane=2), 11, 0)
    begun = run(network, range(12), steps=0, snapshots=0)
    again = run(network, range(12), start=begun.parameters, chunk_size=8)
    for lane in (0, 11):
        same(again, run(network, range(12), chunk_size=8), lane, lane)
    spread = run(network, range(24), devices=jax.devices()[:2], chunk_size=8)
    whole = run(network, range(24), chunk_size=8)
    for lane in (0, 9, 23):
        same(spread, whole, lane, lane)


def test_steps_scanned_on_an_accelerator_are_the_same_steps(network, monkeypatch):
    single = run(network, range(12), chunk_size=8)
    monkeypatch.setattr(running, "steps_per_call", lambda left: min(left, 5))
    scanned = run(network, range(12), chunk_size=8)
    chex.assert_trees_all_close(scanned.inputs, single.inputs, atol=1e-4)
    chex.assert_trees_all_close(scanned.history, single.history, rtol=1e-4, atol=1e-5)
    assert scanned.stopped == single.stopped


def test_progress_counts_to_the_total_and_an_interrupt_keeps_what_had_begun(network, interrupts):
    seen = []
    run(network, range(20), chunk_size=8, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (1600, 1600)
    assert all(a[0] <= b[0] for a, b in zip(seen, seen[1:], strict=False))

    asked = []

    def stop(done, total):
        if done > 700 and not asked:
            asked.append(done)
            signal.raise_signal(signal.SIGINT)

    cut = run(network, range(20), chunk_size=8, progress=stop)
    assert 8 <= len(cut) < 20
    assert {"converged", "interrupted"} == set(cut.stopped)
    place = cut.stopped.index("interrupted")
    assert cut.status[place] == f"interrupted at step {cut.steps_done[place]}"
    whole = run(network, range(20), chunk_size=8)
    for lane in np.flatnonzero(np.asarray(cut.stopped) == "converged"):
        same(cut, whole, lane, lane)


def test_it_is_kept_and_repeated(network, tmp_path):
    nd.networks.register("test_active_set_bumps", Bumps)
    result = run(network, range(4), optimizer=None)
    again = nd.Visualization.load(result.save(tmp_path / "result"))
    assert again.stopped == result.stopped
    assert again.manifest["settings"]["stop_when"]["window"] == 4
    same(again.rerun([2], progress=False), result, 0, 2)
    joined = nd.visualize.concatenate([result.select([0, 1]), result.select([2])])
    assert joined.stopped == result.stopped[:3]


def test_mistakes_give_one_sentence(network):
    with pytest.raises(ValueError, match=r"stop_when must come from nd_jax.visualize.converged\(\)"):
        run(network, [0], stop_when=0.01)
    with pytest.raises(ValueError, match="tolerance is a share of the climb"):
        converged(tolerance=1.5)
    with pytest.raises(ValueError, match="rough is a share of the climb"):
        converged(rough=-1)
    with pytest.raises(ValueError, match="window must be a whole number of 1 or more"):
        converged(window=0)
    assert "8 steps without a gradient" in STOP.label


def test_when_a_lane_has_converged_by_hand():
    rule = leaving.rule(converged(tolerance=0.1, rough=0.5, window=2, patience=1, silence=100))
    pace = jax.tree.map(lambda leaf: leaf[0], leaving.begin(1))
    # Windows of two: 0.5, 2.5, 4.5 (a gain of 2 against 0.1 x 4.5), then 4.6 (0.1 against 0.46): converged at step 8.
    for value in (0, 1, 2, 3, 4, 5, 4.6, 4.6, 9):
        pace = leaving.moved_on(
            pace,
            rule,
            value=jnp.float32(value),
            answers=jnp.array(True),
            finite=jnp.array(True),
            turns=[],
            total=jnp.int32(50),
        )
    assert int(pace.done) == 8
    assert int(pace.reason) == leaving.CONVERGED
    assert int(pace.step) == 50
