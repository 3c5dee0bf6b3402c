"""A sweep over a whole network: one call, kept part by part, resumed after a real kill, no unit twice."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax.networks.conv import Conv

DOMAIN = nd.domain.Image(shape=(8, 8, 1))
KEY = jax.random.key(5)
SETTINGS = {"steps": 6, "snapshots": 2, "restarts": 0, "transforms": ()}

# What another process runs: the same sweep, and a line for each part that is begun.
PROGRAM = """
import os, sys
sys.path.insert(0, {tests!r})
import test_sweep
from nd_jax.visualize import batch, sweep as room
import nd_jax as nd
room = sys.modules["nd_jax.visualize.sweep"]
def told(network, objective, **settings):
    labels = objective.bind(network).labels
    print(" ".join(labels), flush=True)
    return batch.visualize_batch(network, objective, **settings)
room.visualize_batch = told
nd.visualize.sweep(test_sweep.network(), {folder!r}, key=test_sweep.KEY, settings=test_sweep.slow_settings(),
                   units_per_part=4, progress=False)
"""


class Two(nn.Module):
    """Two layers of sixteen and six units."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(Conv(16, (3, 3), strides=(2, 2), name="conv")(x))
        return nn.Dense(6, name="head")(x.mean(axis=(1, 2)))


def network():
    module = Two()
    return nd.Network(module, module.init(jax.random.key(0), jnp.zeros((1, *DOMAIN.shape))), input=DOMAIN)


def slow_settings():
    return {**SETTINGS, "steps": 60}


@pytest.fixture(scope="module")
def two():
    nd.networks.register("test_sweep_two", Two)
    return network()


def swept(network, folder, **changes):
    settings = {**SETTINGS, **changes.pop("settings", {})}
    return nd.visualize.sweep(
        network, folder, key=KEY, settings=settings, **{"units_per_part": 4, "progress": False, **changes}
    )


def test_every_unit_of_every_layer_is_there_once(two, tmp_path):
    found = swept(two, tmp_path / "sweep")
    assert repr(found) == "Sweep(22 of 22 units of 2 layers)"
    assert {layer: found.done(layer) for layer in found.planned} == {"conv": tuple(range(16)), "head": tuple(range(6))}
    whole = nd.visualize_batch(two, nd.objectives.channel("conv"), key=KEY, progress=False, **SETTINGS)
    conv, head = found.results()
    assert conv.labels == whole.labels
    chex.assert_trees_all_equal(conv.inputs, whole.inputs)
    chex.assert_trees_all_equal(conv.snapshots, whole.snapshots)
    assert head.labels == tuple(f"head:{unit}" for unit in range(6))
    assert sum(1 for _ in found.parts("conv")) == 4
    chex.assert_trees_all_equal(conv.rerun([7], progress=False).inputs[0], conv.inputs[7])
    assert conv.manifest["ended"] == {"steps": 16, "steps_done": 96}
    # One copy of the network for all parts.
    assert len(list((tmp_path / "sweep").rglob("network.json"))) == 1
    again = nd.visualize.open_sweep(tmp_path / "sweep")
    chex.assert_trees_all_equal(again.result("head").inputs, head.inputs)


def test_objectives_that_are_not_one_unit_are_kept_too(two, tmp_path):
    def margins(layer, units):
        return nd.objectives.class_margin([int(unit) for unit in units])

    given = {"layers": ["head"], "objective": margins, "settings": {"steps": 2}}
    found = swept(two, tmp_path / "sweep", **given)
    assert found.done("head") == tuple(range(6)) and len(found.result("head")) == 6
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "sweep" / "head").rglob("*")}
    again = swept(two, tmp_path / "sweep", units={"head": [4, 1]}, **given)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "sweep" / "head").rglob("*")}
    chex.assert_trees_all_equal(again.result("head").inputs, found.result("head").inputs[jnp.array([1, 4])])
    with pytest.raises(ValueError, match="objective must give one lane a unit, got 12 lanes for 6 units of 'head'"):
        swept(two, tmp_path / "twice", layers=["head"], objective=lambda layer, units: margins(layer, [*units] * 2))


def test_a_folder_of_another_format_is_refused(two, tmp_path):
    (tmp_path / "sweep.json").write_text('{"format": 1, "network": "x", "layers": {}}')
    with pytest.raises(ValueError, match="holds a sweep of format 1, not 2: give another folder"):
        swept(two, tmp_path)
    with pytest.raises(ValueError, match="holds a sweep of format 1, not 2"):
        nd.visualize.open_sweep(tmp_path)


def test_what_is_there_is_not_run_again(two, tmp_path, monkeypatch):
    room = sys.modules["nd_jax.visualize.sweep"]
    begun = []
    real = room.visualize_batch

    def told(network, objective, **settings):
        begun.extend(objective.bind(network).labels)
        return real(network, objective, **settings)

    monkeypatch.setattr(room, "visualize_batch", told)
    swept(two, tmp_path / "sweep", units=5)
    assert sorted(begun) == sorted([f"conv:{unit}" for unit in range(5)] + [f"head:{unit}" for unit in range(5)])
    begun.clear()
    swept(two, tmp_path / "sweep", units=5)
    assert begun == []
    found = swept(two, tmp_path / "sweep", units={"conv": [7, 2, 15]}, layers=["conv"])
    assert sorted(begun) == ["conv:15", "conv:7"]
    assert found.done("conv") == (7, 2, 15)
    assert sorted(found.result("conv").units.tolist()) == [2, 7, 15]
    begun.clear()
    swept(two, tmp_path / "sweep", units=5, resume=False)
    assert len(begun) == 10


def test_a_killed_sweep_goes_on_and_does_no_unit_twice(two, tmp_path):
    folder = tmp_path / "sweep"
    code = PROGRAM.format(tests=str(pathlib.Path(__file__).parent), folder=str(folder))
    with (
        (tmp_path / "errors").open("w") as errors,
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        limit = time.monotonic() + 120
        while len(parts_in(folder)) < 2 and time.monotonic() < limit and process.poll() is None:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    kept = parts_in(folder)
    assert kept, (tmp_path / "errors").read_text()
    before = {part: (part.stat().st_mtime_ns, part.stat().st_ino) for part in kept}
    there = {unit for part in kept for unit in units_of(part)}
    assert len(there) < 22
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert len(told) == len(set(told)) == 22 - len(there)
    assert not there & set(told)
    assert {part: (part.stat().st_mtime_ns, part.stat().st_ino) for part in kept} == before
    assert not list(folder.rglob(".0*"))
    # What was killed and resumed is what one call gives.
    found = nd.visualize.open_sweep(folder, network=two)
    for layer in ("conv", "head"):
        whole = nd.visualize_batch(two, nd.objectives.channel(layer), key=KEY, progress=False, **slow_settings())
        assert found.result(layer).labels == whole.labels
        chex.assert_trees_all_equal(found.result(layer).inputs, whole.inputs)
        chex.assert_trees_all_equal(found.result(layer).history, whole.history)


def parts_in(folder):
    return sorted(path.parent.parent / path.parent.name for path in folder.glob("[!.]*/[!.]*-*/manifest.json"))


def units_of(part):
    with np.load(part / "arrays.npz") as stored:
        return [f"{part.parent.name}:{unit}" for unit in stored["units"]]


def test_progress_covers_all_layers_and_a_deep_step_counts_more(two, tmp_path):
    seen = []
    swept(two, tmp_path / "sweep", progress=lambda done, total: seen.append((done, total)))
    totals = {total for _, total in seen}
    assert len(totals) == 1
    assert abs(seen[-1][0] - seen[-1][1]) <= 2
    shares = np.diff([0, *(done for done, _ in seen)])
    assert (shares > 0).all()
    deep = []
    swept(two, tmp_path / "sweep", units={"conv": [0], "head": [0]}, settings={"steps": 6}, progress=False)
    swept(two, tmp_path / "deep", layers=["conv", "head"], progress=lambda done, total: deep.append(done))
    assert deep[-1] > 0
    # A sweep of one layer has the mean step: its total is units x steps.
    alone = []
    swept(two, tmp_path / "alone", layers=["head"], progress=lambda done, total: alone.append((done, total)))
    assert alone[-1] == (36, 36)


def test_an_interrupt_keeps_what_is_done(two, tmp_path, interrupts):
    asked = []

    def stop(done, total):
        if done > total / 5 and not asked:
            asked.append(done)
            signal.raise_signal(signal.SIGINT)

    longer = {"steps": 30}
    cut = swept(two, tmp_path / "sweep", progress=stop, settings=longer)
    assert cut.interrupted
    done = cut.done("conv")
    assert 4 <= len(done) < 16
    assert set(cut.unfinished.stopped) == {"interrupted"}
    assert not set(done) & set(cut.unfinished.units.tolist())
    whole = swept(two, tmp_path / "sweep", settings=longer)
    assert not whole.interrupted
    assert whole.done("conv") == tuple(range(16))


def test_the_active_set_in_a_sweep_and_settings_by_layer(two, tmp_path):
    stop = nd.visualize.converged(tolerance=0.05, rough=0.2, window=2, patience=1)

    def of(layer):
        return {**SETTINGS, "steps": 40, "stop_when": stop, "penalties": [nd.penalties.l1(0.1)] * (layer == "conv")}

    found = nd.visualize.sweep(two, tmp_path / "sweep", key=KEY, settings=of, units_per_part=8, progress=False)
    conv, head = found.results()
    assert [item["is"] for item in conv.manifest["settings"]["penalties"]] == ["L1"]
    assert head.manifest["settings"]["penalties"] == []
    ended = conv.manifest["ended"]
    assert sum(count for word, count in ended.items() if word != "steps_done") == 16
    assert ended["steps_done"] == conv.steps_done.sum()


def test_another_sweep_is_refused(two, tmp_path):
    swept(two, tmp_path / "sweep", units=1)
    with pytest.raises(ValueError, match=r"holds a sweep of 'conv' with other settings \(steps\)"):
        swept(two, tmp_path / "sweep", units=1, settings={"steps": 7})
    with pytest.raises(ValueError, match=r"with other settings \(objective\)"):
        swept(two, tmp_path / "sweep", units=1, objective=lambda layer, units: nd.objectives.channel(layer, units) * 2)
    with pytest.raises(ValueError, match="holds a sweep of another key"):
        nd.visualize.sweep(two, tmp_path / "sweep", key=jax.random.key(6), settings=SETTINGS, progress=False)
    other = nd.Network(Two(), jax.tree.map(lambda leaf: leaf + 1, two.variables), input=DOMAIN)
    with pytest.raises(ValueError, match="holds a sweep of another network"):
        swept(other, tmp_path / "sweep", units=1)
    with pytest.raises(ValueError, match="of a network of digest"):
        nd.visualize.open_sweep(tmp_path / "sweep", network=other)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("mine")
    with pytest.raises(ValueError, match="is not the folder of a sweep, so it is not written to"):
        swept(two, tmp_path / "other")
    with pytest.raises(ValueError, match="is not the folder of a sweep"):
        nd.visualize.open_sweep(tmp_path / "other")
    with pytest.raises(nd.taps.LayerError, match="did you mean"):
        swept(two, tmp_path / "new", layers=["con"])
    with pytest.raises(ValueError, match="a unit of 'conv' is given twice"):
        swept(two, tmp_path / "new", units={"conv": [1, 1]})
    assert json.loads((tmp_path / "sweep" / "sweep.json").read_text())["layers"]["conv"]["units"] == [0]
