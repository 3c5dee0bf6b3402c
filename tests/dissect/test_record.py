"""Recording: right, the same in any batches, on any devices and after a kill, joined from parts, and its errors."""

from __future__ import annotations

import pathlib
import signal
import subprocess
import sys

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax.audio import LogMel as Transform
from nd_jax.dissect import record_extremes, record_store

DOMAIN = nd.domain.LogMel(Transform(sample_rate=8000, n_fft=256, hop_length=128, n_mels=16, f_min=60.0), frames=12)
LAYERS = ["conv", "tokens", "head"]

# What another process runs: the same record, which kills itself when some clips are on disk.
PROGRAM = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import test_record
test_record.record_store._LARGEST_BLOCK = 4
def told(done, total):
    if done >= 8:
        os.kill(os.getpid(), signal.SIGKILL)
test_record.recorded({folder!r}, progress=told)
"""


class Net(nn.Module):
    """A convolution with positions in frequency and time, tokens with attention, a head."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), strides=(2, 2), name="conv")(x)
        x = nn.Dense(6, name="tokens")(nn.relu(x).reshape(x.shape[0], -1, x.shape[-1]))
        weights = nn.softmax(jnp.einsum("bik,bjk->bij", x, x))
        return nn.Dense(3, name="head")(jnp.einsum("bij,bjk->bik", weights, x).mean(axis=1))


class Empty(nn.Module):
    """A layer without units."""

    @nn.compact
    def __call__(self, x):
        nothing = nn.LayerNorm(use_bias=False, use_scale=False, name="none")(x[..., :0])
        return nn.Dense(2, name="head")(x.mean((1, 2))) + nothing.sum()


def made(module=Net, seed=2):
    variables = module().init(jax.random.key(seed), jnp.zeros((1, *DOMAIN.shape)))
    return nd.Network(module(), variables, input=DOMAIN)


def sounds(count=23):
    generator = np.random.default_rng(4)
    time = np.arange(DOMAIN.samples) / 8000
    pitches, levels = generator.uniform(100, 3500, (count, 1)), generator.uniform(0.01, 0.5, (count, 1))
    return (levels * np.sin(2 * np.pi * pitches * time)).astype(np.float32)


def recorded(folder, **options):
    settings = {"layers": LAYERS, "pool": ["mean", "max"], "progress": False, "top": 4, **options}
    return nd.dissect.record(
        settings.pop("network", None) or made(), settings.pop("sounds", sounds()), folder=folder, **settings
    )


def everything(record):
    found = {}
    for layer in record.layers:
        for pool in record.pools:
            found[layer, pool] = record.activations(layer, pool)
            for end in (record.top, record.bottom):
                found[layer, pool, end.__name__] = (end(layer, pool).clips, end(layer, pool).values)
    return found


@pytest.fixture(scope="module")
def small_blocks():
    """Blocks of 4 clips, so that 23 clips are 6 blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_store, "_LARGEST_BLOCK", 4)
        yield


@pytest.fixture(scope="module")
def whole(small_blocks, tmp_path_factory):
    """A record that nothing happened to."""
    return recorded(tmp_path_factory.mktemp("record") / "whole", sample_rate=8000)


def test_what_is_recorded(whole):
    network, waves = made(), sounds()
    direct = nd.taps.read(network, DOMAIN.from_wave(waves), LAYERS)
    assert whole.complete and whole.units == {"conv": 4, "tokens": 6, "head": 3} and len(whole.clips) == 23
    for layer, value in direct.items():
        places = tuple(range(1, value.ndim - 1))
        for pool, pooled in (("mean", value.mean(axis=places)), ("max", value.max(axis=places))):
            ours = whole.activations(layer, pool)
            chex.assert_trees_all_close(ours, np.asarray(pooled), atol=1e-5)
            # The ends follow from what was recorded.
            best, worst = np.argsort(-ours, axis=0, kind="stable")[:4].T, np.argsort(ours, axis=0, kind="stable")[:4].T
            chex.assert_trees_all_equal(whole.top(layer, pool).clips, best.astype(np.int32))
            chex.assert_trees_all_equal(whole.bottom(layer, pool).clips, worst.astype(np.int32))
            chex.assert_trees_all_equal(whole.top(layer, pool).values, np.take_along_axis(ours.T, best, axis=1))
    chex.assert_trees_all_equal(
        whole.activations("tokens", "max", units=[5, 0]), whole.activations("tokens", "max")[:, [5, 0]]
    )
    assert whole.array("head").shape == (23, 3)
    # What lies on disk is compared without being read as a whole.
    from_disk = nd.dissect.similarity(whole.array("head"), waves[:, :2], "cosine")
    chex.assert_trees_all_equal(from_disk, nd.dissect.similarity(whole.activations("head"), waves[:, :2], "cosine"))
    table = whole.table()
    assert len(table) == 13 and tuple(table[4]) == ("tokens", 0) and tuple(table[12]) == ("head", 2)
    assert "13 units of 3 layers, 23 clips" in repr(whole)


def test_first_tokens_and_steps_of_time(tmp_path, small_blocks):
    network, waves = made(), sounds(5)
    direct = nd.taps.read(network, DOMAIN.from_wave(waves), LAYERS)
    tokens = recorded(tmp_path / "first", sounds=waves, layers=["tokens", "head"], pool="first", top=2)
    chex.assert_trees_all_close(tokens.activations("tokens"), np.asarray(direct["tokens"][:, 0]), atol=1e-5)
    chex.assert_trees_all_close(tokens.activations("head"), np.asarray(direct["head"]), atol=1e-5)
    time = recorded(tmp_path / "time", sounds=waves, layers=["conv"], pool=["time", "max"], top=2)
    curves = np.asarray(direct["conv"].mean(axis=1))
    chex.assert_trees_all_close(time.activations("conv"), curves, atol=1e-5)
    chex.assert_shape(time.activations("conv"), (5, 6, 4))
    best = np.argsort(-time.activations("conv").mean(axis=1), axis=0, kind="stable")[:2].T
    chex.assert_trees_all_equal(time.top("conv").clips, best.astype(np.int32))


@pytest.mark.parametrize("batch_size", [3, 13])
def test_batches_do_not_matter(tmp_path, whole, batch_size):
    chex.assert_trees_all_equal(everything(recorded(tmp_path / "record", batch_size=batch_size)), everything(whole))


def test_devices_do_not_matter(tmp_path, whole):
    several = recorded(tmp_path / "record", devices=jax.devices()[:2])
    for layer in whole.layers:
        chex.assert_trees_all_close(several.activations(layer), whole.activations(layer), atol=1e-6)
        chex.assert_trees_all_equal(several.top(layer).clips, whole.top(layer).clips)


def test_network_inputs_and_names(tmp_path, whole):
    inputs = np.asarray(DOMAIN.from_wave(sounds()))
    names = [f"sound {index}" for index in range(23)]
    found = recorded(tmp_path / "record", sounds=None, inputs=inputs, names=names)
    chex.assert_trees_all_close(found.activations("conv"), whole.activations("conv"), atol=1e-6)
    assert found.clips == tuple(names) and len(set(found.hashes)) == 23


def test_killed_and_gone_on_with(tmp_path, whole):
    folder = tmp_path / "record"
    program = PROGRAM.format(tests=str(pathlib.Path(__file__).parent), folder=str(folder))
    ended = subprocess.run([sys.executable, "-c", program], timeout=120)
    assert ended.returncode == -signal.SIGKILL
    broken = nd.dissect.open_record(folder)
    before = broken.recorded
    assert not broken.complete and 8 <= before < 23
    with pytest.raises(ValueError, match=f"has {before} of 23 clips: call record"):
        broken.activations("conv")
    marks = {path: path.stat().st_mtime_ns for path in (folder / "done").iterdir()}
    told = []
    again = recorded(folder, progress=lambda done, total: told.append((done, total)))
    assert told[0] == (before, 23) and told[-1] == (23, 23)
    assert all(path.stat().st_mtime_ns == when for path, when in marks.items())
    chex.assert_trees_all_equal(everything(again), everything(whole))


def test_parts_in_one_folder_and_in_several(tmp_path, whole):
    one = tmp_path / "one"
    assert not recorded(one, part=(1, 2)).complete
    with pytest.raises(ValueError, match="has 11 of 23 clips"):
        nd.dissect.open_record(one).top("conv")
    chex.assert_trees_all_equal(everything(recorded(one, part=(0, 2))), everything(whole))
    folders = [tmp_path / f"part {number}" for number in range(2)]
    for number, folder in enumerate(folders):
        recorded(folder, part=(number, 2))
    merged = nd.dissect.merge_records(folders, tmp_path / "merged")
    chex.assert_trees_all_equal(everything(merged), everything(whole))
    # What the first of three processes left is done by one: its extremes are those of all clips.
    recorded(tmp_path / "third", part=(2, 3))
    chex.assert_trees_all_equal(everything(recorded(tmp_path / "third")), everything(whole))


def test_a_folder_of_files(tmp_path, whole):
    folder = tmp_path / "sounds"
    (folder / "inner").mkdir(parents=True)
    waves = sounds()[:6]
    for index, wave in enumerate(waves[:5]):
        nd.audio.write(folder / f"{index}.wav", wave, 8000, bits=32)
    nd.audio.write(folder / "inner" / "5.wav", waves[5], 8000, bits=32)
    (folder / "broken.wav").write_bytes(b"RIFF no sound")
    (folder / "notes.txt").write_text("not a sound")
    found = recorded(tmp_path / "record", sounds=folder)
    assert found.clips == ("0.wav", "1.wav", "2.wav", "3.wav", "4.wav", "inner/5.wav")
    assert list(found.skipped) == ["broken.wav"]
    chex.assert_trees_all_close(found.activations("conv"), whole.activations("conv")[:6], atol=1e-6)
    listed = recorded(tmp_path / "listed", sounds=[folder / f"{index}.wav" for index in range(4)])
    chex.assert_trees_all_close(listed.activations("conv"), whole.activations("conv")[:4], atol=1e-6)
    with pytest.raises(ValueError, match=r"none of 1 sound files can be read; the first: .*broken\.wav"):
        recorded(tmp_path / "none", sounds=[folder / "broken.wav"])


def test_what_lies_in_the_folder_is_looked_at(whole, tmp_path):
    with pytest.raises(ValueError, match="record of another network"):
        recorded(whole.folder, network=made(seed=3))
    with pytest.raises(ValueError, match="record of other sounds"):
        recorded(whole.folder, sounds=0.9 * sounds())
    with pytest.raises(ValueError, match="record of other layers"):
        recorded(whole.folder, layers=["conv"])
    with pytest.raises(ValueError, match="another network|of digest"):
        nd.dissect.open_record(whole.folder, network=made(seed=3))
    assert nd.dissect.open_record(whole.folder, network=made()).complete
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="not the folder of a record"):
        recorded(tmp_path / "other")
    replaced = recorded(tmp_path / "record", sounds=sounds(6))
    assert len(recorded(replaced.folder, sounds=sounds(5), resume=False).clips) == 5
    with pytest.raises(ValueError, match=r"has no record\.json"):
        nd.dissect.open_record(tmp_path / "other")
    with pytest.raises(ValueError, match="other sounds than"):
        nd.dissect.merge_records([replaced.folder, whole.folder], tmp_path / "merged")
    (tmp_path / "record" / "record.json").write_text("{}")
    with pytest.raises(ValueError, match="does not describe a record"):
        nd.dissect.open_record(tmp_path / "record")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": ["cnv"]}, "no layer 'cnv' in this network; did you mean 'conv'"),
        ({"layers": "conv"}, "must be a list of layer names"),
        ({"layers": ["conv", "conv"]}, "named once each"),
        ({"network": made(Empty), "layers": ["none"]}, r"'none' has no units: .* \(16, 12, 0\)"),
        ({"pool": "median"}, "no pool 'median'"),
        ({"pool": "first"}, "layer 'conv' has shape"),
        ({"pool": "time"}, r"layer 'tokens' of shape \(48, 6\) has no axis of time"),
        ({"sounds": sounds(3)}, "has 3 clips, fewer than the 4 top ones"),
        ({"sounds": sounds(0)}, "probing set is empty"),
        ({"sounds": sounds()[:, 1:]}, "nd_jax.audio.fit"),
        ({"sounds": np.where(np.arange(23)[:, None] == 2, np.nan, sounds())}, "must be finite: clip 2 has"),
        ({"sounds": "nowhere"}, "not a folder of sounds"),
        ({"sounds": None}, "one of the two"),
        ({"sample_rate": 16000}, "but the network takes 8000 Hz"),
        ({"names": ["one"]}, "1 names for 23 clips"),
        ({"batch_size": 0}, "batch_size must be 1 or more"),
        ({"part": (2, 2)}, "part must be"),
        ({"devices": []}, "empty list"),
    ],
)
def test_one_sentence(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        recorded(tmp_path / "record", **change)
    assert not list((tmp_path / "record").glob("done/*"))


def test_a_record_says_what_it_has(whole):
    with pytest.raises(nd.taps.LayerError, match="no layer 'heads' in this record; did you mean 'head'"):
        whole.top("heads")
    with pytest.raises(ValueError, match="no pool 'first' in this record"):
        whole.activations("head", "first")


@pytest.mark.parametrize("lowest", [False, True])
def test_the_ends_do_not_depend_on_order(lowest):
    generator = np.random.default_rng(1)
    values = np.round(generator.normal(size=(50, 30)), 1).astype(np.float32)
    values[3, 4] = np.nan
    signed = np.where(np.isnan(values), np.inf, values if lowest else -values)
    expected = np.argsort(signed, axis=0, kind="stable")[:5].T.astype(np.int32)
    blocks = np.array_split(np.arange(50), 13)
    for order in (range(13), generator.permutation(13)):
        running = record_extremes.Running(5, lowest=lowest)
        for place in order:
            running.add(blocks[place], values[blocks[place]])
        chex.assert_trees_all_equal(running.result().clips, expected)
        chex.assert_trees_all_equal(running.result().values, np.take_along_axis(values.T, expected, axis=1))
