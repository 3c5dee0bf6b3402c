"""visualize_batch: it climbs, lanes are independent of their batch, everything can be kept and repeated."""

import signal

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import nd_jax as nd
from nd_jax.audio import LogMel
from nd_jax.networks.conv import Conv
from nd_jax.visualize import batch, program
from nd_jax.visualize import run as running


class Small(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(Conv(6, (3, 3), strides=(2, 2), name="conv")(x))
        x = Conv(12, (3, 3), name="conv2")(x)
        return nn.Dense(3, name="head")(nn.relu(x).mean(axis=(1, 2)))


class Poison(nn.Module):
    """Unit 1 is not finite as soon as the later frames pass a threshold; unit 0 sees the early ones; unit 2 is dead."""

    @nn.compact
    def __call__(self, x):
        early, late = x[:, :, :6].mean(axis=(1, 2)), x[:, :, 6:].mean(axis=(1, 2))
        return jnp.concatenate([early, late / jnp.maximum(0.52 - late, 0), nn.relu(early - 9)], axis=-1)


DOMAIN = nd.domain.LogMel(LogMel(sample_rate=8000, n_fft=256, hop_length=128, n_mels=16), frames=12)


def make(module, domain=DOMAIN, **settings):
    return nd.Network(module, module.init(jax.random.key(0), jnp.zeros((1, *domain.shape))), input=domain, **settings)


@pytest.fixture(scope="module")
def network():
    return make(Small())


def run(network, units, **settings):
    defaults = {"key": jax.random.key(3), "steps": 12, "snapshots": 3, "progress": False}
    return nd.visualize_batch(network, nd.objectives.channel("conv2", units), **{**defaults, **settings})


def test_it_climbs_and_reports(network):
    result = run(network, range(12), steps=40)
    assert len(result) == 12
    chex.assert_shape(result.inputs, (12, 16, 12, 1))
    chex.assert_shape(result.history, (3, 12))
    chex.assert_shape(result.snapshots, (3, 12, 16, 12, 1))
    assert result.snapshot_steps == (0, 10, 40)
    assert set(result.status) == {"ok"}
    assert (result.history[-1] > result.history[0]).all()
    chex.assert_trees_all_close(result.history[-1], result.scores)
    assert result.inputs.min() >= 0
    assert result.inputs.max() <= 1
    direct = nd.taps.read(network, result.inputs, ["conv2"])["conv2"].mean(axis=(1, 2))
    chex.assert_trees_all_close(np.diagonal(direct), result.scores, atol=1e-5)


def test_a_lane_does_not_depend_on_its_batch(network):
    whole = run(network, range(12))
    for units, chunk in [([5], None), ([11, 5, 0], None), (range(12), 8), (list(range(12))[::-1], 8)]:
        part = run(network, units, chunk_size=chunk)
        for lane, unit in enumerate(units):
            chex.assert_trees_all_equal(part.inputs[lane], whole.inputs[unit])
            ours, theirs = (
                jax.tree.map(lambda leaf, i=i: leaf[i], r.parameters) for r, i in ((part, lane), (whole, unit))
            )
            chex.assert_trees_all_equal(ours, theirs)


def test_same_key_same_result_and_another_key_another(network):
    first, again, other = run(network, [0]), run(network, [0]), run(network, [0], key=jax.random.key(4))
    chex.assert_trees_all_equal(first.inputs, again.inputs)
    assert not np.allclose(first.inputs, other.inputs)


def test_lane_keys_come_from_identity():
    key = jax.random.key(1)
    one = batch.lane_keys(key, ["a", "b"], [0, 1])
    two = batch.lane_keys(key, ["b", "a", "b"], [1, 0, 0])
    data = jax.random.key_data
    chex.assert_trees_all_equal(data(one)[0], data(two)[1])
    chex.assert_trees_all_equal(data(one)[1], data(two)[0])
    assert not np.array_equal(data(two)[0], data(two)[2])


def test_replicates_start_differently(network):
    result = run(network, [2, 3], replicates=2)
    assert result.labels == ("conv2:2", "conv2:2", "conv2:3", "conv2:3")
    assert result.replicates.tolist() == [0, 1, 0, 1]
    assert not np.allclose(result.inputs[0], result.inputs[1])
    chex.assert_trees_all_equal(result.inputs[0], run(network, [2]).inputs[0])


def test_global_norm_clipping_stays_inside_its_lane(network):
    optimizer = optax.chain(optax.clip_by_global_norm(1e-3), optax.sgd(1.0))
    together = run(network, range(12), optimizer=optimizer, transforms=(), steps=3)
    alone = run(network, [4], optimizer=optimizer, transforms=(), steps=3)
    chex.assert_trees_all_equal(together.inputs[4], alone.inputs[0])
    start = run(network, range(12), optimizer=optimizer, transforms=(), steps=0)
    distances = jax.tree.map(
        lambda a, b: np.square(a - b).reshape(12, -1).sum(1), together.parameters, start.parameters
    )
    moved = np.sqrt(sum(jax.tree.leaves(distances)))
    assert (moved <= 3.001e-3).all()


def test_one_program_for_any_units(network):
    run(network, [0, 1])
    before = program.programs(None).advance.compiled()
    run(network, [7, 3])
    run(network, [9])
    assert program.programs(None).advance.compiled() == before


def test_a_lane_that_is_not_finite_stops_alone():
    network = make(Poison())
    pixels = nd.parameterizations.pixels(sd=0.001)
    settings = {"parameterization": pixels, "transforms": (), "key": jax.random.key(0), "progress": False}
    result = nd.visualize_batch(network, nd.objectives.logit(), steps=120, optimizer=optax.adam(0.05), **settings)
    assert result.status[0] == "ok"
    assert result.status[1].startswith("not finite at step")
    assert result.status[2].startswith("dead")
    chex.assert_tree_all_finite(result.inputs)
    alone = nd.visualize_batch(network, nd.objectives.logit(0), steps=120, optimizer=optax.adam(0.05), **settings)
    chex.assert_trees_all_equal(alone.inputs[0], result.inputs[0])


def test_interrupt_returns_what_is_there(network):
    class Stop:
        calls = 0

        def __call__(self, done, total):
            self.calls += 1
            assert total == 12 * 12
            if self.calls == 15:
                raise KeyboardInterrupt

    result = run(network, range(12), chunk_size=8, progress=Stop())
    assert len(result) == 12
    assert set(result.status[:8]) == {"ok"}
    assert set(result.status[8:]) == {"interrupted at step 3"}
    first = run(network, range(12), chunk_size=8, progress=Stop())
    chex.assert_trees_all_equal(first.inputs, result.inputs)
    stopped = run(network, range(12), chunk_size=8, progress=_raise_at(3))
    assert stopped.labels == tuple(f"conv2:{unit}" for unit in range(8))


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_real_interrupt_at_the_worst_moment_loses_nothing(network, monkeypatch, interrupts, moment):
    calls = iter(range(1000))

    real = program.programs(None)

    def advance(*arguments):
        now = next(calls) == 4
        if now and moment == "before":
            signal.raise_signal(signal.SIGINT)
        result = real.advance(*arguments)
        if now and moment == "after":
            signal.raise_signal(signal.SIGINT)
        return result

    advance.lower = real.advance.lower
    monkeypatch.setattr(program, "programs", lambda mesh: real._replace(advance=advance))
    result = run(network, range(4))
    assert set(result.status) == {"interrupted at step 5"}
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def _raise_at(call):
    count = iter(range(1000))

    def progress(done, total):
        if next(count) == call:
            raise KeyboardInterrupt

    return progress


def test_steps_scanned_on_an_accelerator_are_the_same_steps(network, monkeypatch):
    single = run(network, range(4))
    monkeypatch.setattr(running, "steps_per_call", lambda left: min(left, 5))
    scanned = run(network, range(4))
    assert scanned.snapshot_steps == single.snapshot_steps
    chex.assert_trees_all_close(scanned.history, single.history, rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(scanned.inputs, single.inputs, atol=1e-4)


def test_progress_counts_to_the_total(network):
    seen = []
    run(network, range(12), chunk_size=8, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (144, 144)


def test_penalties_and_transforms_matter(network):
    plain = run(network, [0], transforms=(), steps=30)
    quiet = run(network, [0], transforms=(), steps=30, penalties=[nd.penalties.silence(5.0)])
    assert quiet.inputs.mean() < plain.inputs.mean()
    shaken = run(network, [0], steps=30)
    assert not np.allclose(shaken.inputs, plain.inputs)


def test_transforms_stop_where_polishing_begins(network):
    smooth = {"parameterization": nd.parameterizations.fourier(), "steps": 30}
    shaken, polished, plain = (run(network, [0, 3], **smooth, **s) for s in ({"polish": 0}, {}, {"transforms": ()}))
    assert (polished.scores > shaken.scores).all()
    chex.assert_trees_all_close(run(network, [0, 3], polish=1, **smooth).inputs, plain.inputs, atol=1e-4)
    # The last half of a polished run is a run without transforms from where the first half ended.
    halfway = run(network, [0, 3], steps=30, snapshots=[15])
    same = run(network, [0, 3], steps=15, polish=0)
    chex.assert_trees_all_equal(halfway.snapshots[0], same.inputs)


def test_single_cells_move_in_the_polish_only(network):
    fine = {"parameterization": nd.parameterizations.fourier(fine=True), "steps": 30}
    before = run(network, [0, 3], polish=0, **{**fine, "steps": 15})
    assert not before.parameters["fine"].any()
    after = run(network, [0, 3], **fine)
    chex.assert_trees_all_equal(after.parameters["spectrum"], before.parameters["spectrum"])
    assert after.parameters["fine"].any()
    smooth = run(network, [0, 3], parameterization=nd.parameterizations.fourier(), steps=15, polish=0)
    chex.assert_trees_all_close(before.inputs, smooth.inputs, atol=1e-6)
    both = nd.domain.Parts({"a": DOMAIN, "b": nd.domain.Latent(3)})
    chosen = nd.parameterizations.default(both)
    assert chosen.polishes
    held = chosen.hold(chosen.init(jax.random.key(0), both), jnp.array(True))
    assert not held["a"]["spectrum"].any()
    assert held["b"].any()


def test_early_penalties_end_and_scale_is_per_lane(network):
    loud = {"transforms": (), "steps": 30, "snapshots": [15, 30]}
    quiet = nd.penalties.silence(weight=0.2)
    always = run(network, [0, 1], penalties=[quiet], **loud)
    early = run(network, [0, 1], penalties=[nd.penalties.early(quiet, 0.5)], **loud)
    chex.assert_trees_all_equal(early.snapshots[0], always.snapshots[0])
    assert (early.scores > always.scores).all()
    rest = run(network, [0, 1], penalties=[nd.penalties.early(quiet, 0.5, rest=1.0)], **loud)
    chex.assert_trees_all_equal(rest.inputs, always.inputs)
    scaled = run(network, [0, 1], penalties=[quiet], scale=[1.0, 0.0], **loud)
    chex.assert_trees_all_equal(scaled.inputs[0], always.inputs[0])
    chex.assert_trees_all_equal(scaled.inputs[1], run(network, [1], **loud).inputs[0])
    chex.assert_trees_all_equal(scaled.rerun(1, progress=False).inputs[0], scaled.inputs[1])


def test_start_is_where_it_begins(network):
    first = run(network, [0, 1])
    again = run(network, [0, 1], start=first.parameters, steps=0)
    chex.assert_trees_all_equal(again.inputs, first.inputs)
    with pytest.raises(ValueError, match="start has shape"):
        run(network, [0, 1], start=jax.tree.map(lambda leaf: leaf[..., :1, :], first.parameters))
    with pytest.raises(ValueError, match="start must have the parameterization's structure"):
        run(network, [0, 1], start=np.zeros((3, 2)))
    with pytest.raises(ValueError, match="start must be finite numbers, and some are not"):
        run(network, [0, 1], start=jax.tree.map(lambda leaf: leaf * np.nan, first.parameters))


def test_save_load_and_rerun(network, tmp_path):
    nd.networks.register("test_batch_small", Small)
    result = run(network, [1, 4], penalties=[nd.penalties.total_variation(time=0.1, frequency=0.2)])
    folder = result.save(tmp_path / "result")
    again = nd.Visualization.load(folder)
    for name in ("inputs", "parameters", "scores", "history", "snapshots", "units", "steps_done", "replicates"):
        chex.assert_trees_all_equal(getattr(again, name), getattr(result, name))
    assert (again.labels, again.layers, again.status) == (result.labels, result.layers, result.status)
    assert again.snapshot_steps == result.snapshot_steps
    assert again.domain == result.domain
    repeated = again.rerun("conv2:4", progress=False)
    chex.assert_trees_all_equal(repeated.inputs[0], result.inputs[1])
    mixed = run(network, [2], replicates=3).save(tmp_path / "mixed")
    third = nd.Visualization.load(mixed)
    chex.assert_trees_all_equal(third.rerun([2], progress=False).inputs[0], third.inputs[2])
    result.save(folder)
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match="is not a saved visualization, so it is not replaced"):
        result.save(tmp_path / "other")
    with pytest.raises(ValueError, match="not a saved visualization that can be read"):
        nd.Visualization.load(tmp_path / "other")


def test_rerun_refuses_another_network(network):
    result = run(network, [1])
    other = make(Small()).__class__(Small(), jax.tree.map(lambda leaf: leaf + 1, network.variables), input=DOMAIN)
    with pytest.raises(ValueError, match="made with a network of digest"):
        result.rerun(0, network=other)


def test_select_and_concatenate(network):
    result = run(network, range(4))
    part = result.select(["conv2:3", "conv2:1"])
    chex.assert_trees_all_equal(part.inputs, result.inputs[np.array([3, 1])])
    joined = nd.visualize.concatenate([result.select([0, 1]), result.select([2, 3])])
    chex.assert_trees_all_equal(joined.inputs, result.inputs)
    assert joined.labels == result.labels
    with pytest.raises(KeyError, match="did you mean"):
        result.find("conv2:33")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"key": 3}, "key must be a JAX key"),
        ({"key": jax.random.split(jax.random.key(0), 3)}, r"key must be one JAX key, got keys of shape \(3,\)"),
        ({"steps": -1}, "steps must be a whole number"),
        ({"steps": 1.5}, "steps must be a whole number"),
        ({"polish": 1.5}, "polish is the share of the steps without transforms"),
        ({"scale": [1.0, 2.0]}, "scale must be one number of 0 or more"),
        ({"scale": -1.0}, "scale must be one number of 0 or more"),
        ({"inputs_per_lane": 0}, "inputs_per_lane must be a whole number of 1 or more"),
        ({"replicates": 0}, "replicates must be a whole number of 1 or more"),
        ({"replicates": [0, 1]}, "one of 0 or more for each of 1 lanes"),
        ({"chunk_size": 0}, "chunk_size must be a whole number"),
        ({"optimizer": "adam"}, "optimizer must be an Optax transformation"),
        ({"transforms": [abs]}, "transforms must come from nd_jax.transforms"),
        ({"penalties": 3}, "penalties must come from nd_jax.penalties"),
        ({"parameterization": nd.parameterizations.waveform()}, "is for a Waveform domain"),
        ({"parameterization": "fourier"}, "parameterization must come from nd_jax.parameterizations"),
        ({"snapshots": [99]}, "snapshots are taken at steps 0 to 12"),
        ({"snapshots": -1}, "snapshots must be 0 or more"),
    ],
)
def test_mistakes_give_one_sentence(network, settings, message):
    with pytest.raises(ValueError, match=message):
        run(network, [0], **settings)


def test_wrong_layers_fail_before_anything_compiles(network):
    before = program.programs(None).advance.compiled()
    with pytest.raises(nd.taps.LayerError, match="did you mean 'conv"):
        nd.visualize_batch(network, nd.objectives.channel("conv3"), key=jax.random.key(0))
    assert program.programs(None).advance.compiled() == before


def test_foreign_flax_network_and_waveform_domain():
    class Raw(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2)(nn.Conv(3, (9,), strides=4, name="front")(x).mean(axis=1))

    network = make(Raw(), nd.domain.Waveform(256, 8000))
    result = nd.visualize_batch(
        network, nd.objectives.channel("front", power=2), key=jax.random.key(0), steps=10, progress=False
    )
    chex.assert_shape(result.inputs, (3, 256, 1))
    assert np.abs(result.inputs).max() <= 1
    assert (result.history[-1] > result.history[0]).all()
