"""A watcher of training: its files are those of the steps, whatever was killed in between."""

from __future__ import annotations

import dataclasses
import os

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as Pillow

import nd_jax as nd
from nd_jax import generators
from nd_jax.domain import Image, Label, Latent, Parts
from nd_jax.report import SampleWatcher
from nd_jax.training.checkpoints import CheckpointError

WORDS = ("zero", "one", "two")


class Maker(nn.Module):
    """Whatever shape from a latent, and a class when there is one."""

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self, given, train=False):
        if isinstance(given, dict):
            given = jnp.concatenate([given["z"], jax.nn.one_hot(given["label"], len(WORDS))], axis=-1)
        made = nn.Dense(int(np.prod(self.shape)))(given)
        return nn.sigmoid(3 * made).reshape(-1, *self.shape)


def generator(output, takes=None):
    takes = Latent(4) if takes is None else takes
    module = Maker(output.shape)
    variables = module.init(jax.random.key(0), jax.tree.map(lambda leaf: leaf[None], takes.silence()))
    return nd.Network(module, variables, input=takes, output=output)


def at(network, step):
    """The generator as it is after some steps."""
    return dataclasses.replace(network, variables=jax.tree.map(lambda leaf: leaf * step / 3, network.variables))


@pytest.fixture(scope="module")
def images():
    return generator(Image((6, 6, 1)))


@pytest.fixture(scope="module")
def spoken(domain):
    return generator(domain, Parts({"z": Latent(4), "label": Label(WORDS)}))


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_every_look_leaves_a_sheet_a_page_and_a_frame(spoken, tmp_path):
    watch = SampleWatcher(tmp_path, count=7, listed=4, animated=5)
    for step in (500, 1000):
        figures = watch(step, at(spoken, step / 500))
        assert set(figures) == {"sample_spread"} and 0 < figures["sample_spread"] < 1
    place = tmp_path / "samples"
    names = files(place)
    for name in ("index.html", "samples.json", "training.gif", "sheets/00000500.png", "sheets/00001000.png"):
        assert name in names
    assert sum(name.endswith(".wav") for name in names) == 8
    with Pillow.open(place / "training.gif") as gif:
        assert gif.n_frames == 2
    # Seven samples of three classes: two full rows of one column each.
    with Pillow.open(place / "sheets" / "00000500.png") as sheet, Pillow.open(place / "frames" / "00000500.png") as one:
        assert sheet.size[0] > sheet.size[1]
        assert one.size[1] < sheet.size[1]


def test_a_killed_training_that_goes_on_leaves_the_same_files(images, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for step in (1, 2, 3, 4):
        SampleWatcher(whole, count=5, listed=3)(step, at(images, step))
    first = SampleWatcher(killed, count=5, listed=3)
    for step in (1, 2, 3):
        first(step, at(images, step))
    # Killed while it wrote step 4, after a checkpoint of step 1; what is half-written stands beside its place.
    samples = killed / "samples"
    (samples / "steps" / ".00000004.draft").mkdir()
    (samples / "steps" / ".00000004.draft" / "000.png").write_bytes(b"half")
    again = SampleWatcher(killed, count=5, listed=3)
    again(2, at(images, 2))
    assert "steps/00000003/made.json" not in files(samples)
    again(3, at(images, 3))
    again(4, at(images, 4))
    assert files(killed) == files(whole)


def test_other_latents_start_anew(images, tmp_path):
    SampleWatcher(tmp_path, count=5)(1, images)
    SampleWatcher(tmp_path, count=5)(2, images)
    before = files(tmp_path)["samples/frames/00000002.png"]
    SampleWatcher(tmp_path, count=5, seed=1)(3, images)
    left = files(tmp_path / "samples")
    assert sorted(name for name in left if name.startswith("frames/")) == ["frames/00000003.png", "frames/of.json"]
    assert not any("00000001" in name or "00000002" in name for name in left)
    assert left["frames/00000003.png"] != before


def test_the_spread_says_whether_the_latent_matters(images, spoken, tmp_path):
    silent = dataclasses.replace(images, variables=jax.tree.map(jnp.zeros_like, images.variables))
    assert SampleWatcher(tmp_path / "a", count=6)(1, silent)["sample_spread"] == 0
    outputs = np.asarray(images(generators.inputs(images, 0, 6)))
    found = SampleWatcher(tmp_path / "b", count=6)(1, images)["sample_spread"]
    assert found == pytest.approx(outputs.std(axis=0).mean(), rel=1e-5)
    # Classes that differ are not variety: here the class decides everything.
    kernel = spoken.variables["params"]["Dense_0"]["kernel"]
    deaf = {"params": {"Dense_0": {**spoken.variables["params"]["Dense_0"], "kernel": kernel.at[:4].set(0)}}}
    given = dataclasses.replace(spoken, variables=deaf)
    assert SampleWatcher(tmp_path / "c", count=6)(1, given)["sample_spread"] == pytest.approx(0, abs=1e-7)


def test_what_the_disk_refuses_is_one_sentence(images, tmp_path, monkeypatch):
    watch = SampleWatcher(tmp_path, count=3)
    watch(1, images)
    before = files(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(CheckpointError, match="samples of step 2 cannot be written to .*: No space left on device"):
            watch(2, images)
    assert files(tmp_path) == before


def test_senseless_settings_and_networks_are_one_sentence(images, tmp_path):
    with pytest.raises(ValueError, match="count must be 1 or more, got 0"):
        SampleWatcher(tmp_path, count=0)
    judge = dataclasses.replace(images, input=nd.domain.Units(4))
    with pytest.raises(ValueError, match="not a generator"):
        SampleWatcher(tmp_path)(1, judge)


class Judge(nn.Module):
    """One score an example."""

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(1)(x.reshape(len(x), -1))


def test_with_the_training_loop_a_kill_changes_no_file(tmp_path):
    from nd_jax.training import gan

    examples = np.random.default_rng(0).uniform(size=(8, 6, 6, 1)).astype(np.float32)
    task = gan.GanTask({"x": examples}, lambda key, example: example["x"], Image((6, 6, 1)), latent=4)
    settings = gan.Settings(steps=6, batch_size=4, log_every=1, save_every=2, watch_every=1, ema=0.5)

    def killed(step, generator, discriminator):
        if step == 5:
            raise KeyboardInterrupt

    def train(folder, *more):
        watchers = [SampleWatcher(folder, count=5, listed=2), *more]
        return gan.train(Maker((6, 6, 1)), Judge(), task, settings, folder=folder, progress=False, watchers=watchers)

    whole = train(tmp_path / "whole")
    assert [line["step"] for line in whole.log if "sample_spread" in line] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "again", killed)
    assert "sheets/00000005.png" in files(tmp_path / "again" / "samples")
    train(tmp_path / "again")
    assert files(tmp_path / "again" / "samples") == files(tmp_path / "whole" / "samples")
    with Pillow.open(tmp_path / "again" / "samples" / "training.gif") as gif:
        assert gif.n_frames == 6
