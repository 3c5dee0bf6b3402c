"""The loop: what it learns, logs, keeps and refuses."""

from __future__ import annotations

import dataclasses
import json
import sys

import chex
import flax.linen as nn
import gan_problem
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax.domain import Image, Units
from nd_jax.networks import mel_dcgan
from nd_jax.runtime import MissingExtraError
from nd_jax.training import TrainingError, gan, parallel
from nd_jax.training.gan import Gan, GanTask, Settings, make_step
from nd_jax.training.gan.state import initial_state
from nd_jax.training.moments import snapshot_steps

SHORT = dataclasses.replace(gan_problem.SETTINGS, steps=6, history=0)


def train(settings=SHORT, task=None, judge=None, **options):
    options = {"progress": False} | options
    return gan.train(
        options.pop("maker", gan_problem.Maker()),
        judge or gan_problem.Judge(),
        task or gan_problem.make_task(),
        settings,
        **options,
    )


def steps(settings, task, judge, count=1, devices=1, several=False, maker=None):
    """State and metrics after a few steps, with the batch spread over so many devices."""
    devices = jax.local_devices()[:devices]
    maker = maker or gan_problem.Maker()
    subject = Gan(maker, judge, task, settings)
    step = make_step(subject)
    run = parallel.data_parallel(parallel.several(step) if several else step, devices)
    state = parallel.replicate(initial_state(maker, judge, task, settings), devices)
    updates = 1 if settings.same_batch else settings.critic_steps
    rows = np.arange(updates * settings.batch_size).reshape(updates, len(devices), -1).swapaxes(0, 1)
    batch = {name: values[rows] for name, values in task.arrays.items()} | {"index": rows}
    if several:
        stacked = jax.tree.map(lambda leaf: np.stack([leaf] * count, axis=1), batch)
        return jax.device_get(run(state, stacked))
    for _ in range(count):
        state, metrics = run(state, batch)
    return jax.device_get((state, metrics))


def test_learns_the_ring():
    settings = Settings(
        steps=1000, batch_size=48, loss="non_saturating", generator_lr=4e-3, discriminator_lr=4e-3, penalty="r1",
        penalty_weight=0.1, ema=0.98, log_every=100, save_every=1000,
    )  # fmt: skip
    trained = train(settings, judge=gan_problem.Judge(dropout=0.0), devices=jax.local_devices()[:1])
    z = jax.random.normal(jax.random.key(0), (300, 4))
    made = np.asarray(trained.generator(z))
    near = np.abs(np.linalg.norm(made, axis=1) - 1.0)
    assert np.median(near) < 0.3 and made.std(axis=0).min() > 0.5
    untrained = np.asarray(train(dataclasses.replace(settings, steps=1, save_every=100)).generator(z))
    assert np.median(np.abs(np.linalg.norm(untrained, axis=1) - 1.0)) > 0.4


@pytest.mark.parametrize("loss", sorted(gan.LOSSES))
def test_every_loss_and_penalty_runs_and_moves_both_players(loss):
    task, judge = gan_problem.make_task(), gan_problem.Judge()
    for penalty in ("none", "r1") if loss == "hinge" else ("none",):
        settings = dataclasses.replace(SHORT, loss=loss, penalty=penalty, critic_steps=1, consistency=0.0)
        before = jax.device_get(initial_state(gan_problem.Maker(), judge, task, settings))
        state, metrics = steps(settings, task, judge)
        chex.assert_tree_all_finite(metrics)
        for player in ("generator", "discriminator"):
            for old, new in zip(
                jax.tree.leaves(before[player]["params"]), jax.tree.leaves(state[player]["params"]), strict=True
            ):
                assert np.abs(old - new).max() > 0


@pytest.mark.parametrize("conditional", ["", "pairs", "names"])
def test_two_devices_step_like_one(conditional):
    labels = ("a", "b", "c") if conditional else ()
    task = gan_problem.make_task(labels, pairs=conditional != "names")
    judge = gan_problem.Judge(classes=3 if conditional == "names" else 0)
    settings = dataclasses.replace(SHORT, check_replicas=True)
    if conditional:
        settings = dataclasses.replace(settings, loss="hinge", penalty="none", critic_steps=1, consistency=0.0)
    one, metrics = steps(settings, task, judge, count=3)
    two, also = steps(settings, task, judge, count=3, devices=2)
    assert int(metrics["spread"]) == int(also["spread"]) == 0
    chex.assert_trees_all_close(metrics, also, rtol=1e-4, atol=1e-6)
    chex.assert_trees_all_close(one["generator"]["params"], two["generator"]["params"], rtol=1e-4, atol=2e-5)
    chex.assert_trees_all_close(one["discriminator"]["params"], two["discriminator"]["params"], rtol=1e-4, atol=2e-5)
    chex.assert_trees_all_close(one["average"], two["average"], rtol=1e-4, atol=2e-5)


def test_several_steps_of_one_call_are_the_same_steps():
    task, judge = gan_problem.make_task(), gan_problem.Judge()
    settings = dataclasses.replace(SHORT, loss="hinge", penalty="none", consistency=0.0)
    one, _ = steps(settings, task, judge, count=3)
    many, metrics = steps(settings, task, judge, count=3, several=True)
    chex.assert_trees_all_close(one, many, rtol=1e-4, atol=1e-5)
    chex.assert_shape(metrics["generator_loss"], (3,))


def test_unrolled_discriminator_is_restored():
    """After a step with look-ahead the discriminator is where one ordinary update takes it, with all its memory."""
    task, judge = gan_problem.make_task(), gan_problem.Judge()
    plain = dataclasses.replace(SHORT, loss="sigmoid_least_squares", penalty="none", critic_steps=1, consistency=0.1)
    ahead = dataclasses.replace(plain, unroll=5)
    one, _ = steps(plain, task, judge)
    looked, metrics = steps(ahead, task, judge)
    chex.assert_trees_all_equal(one["discriminator"], looked["discriminator"])
    moved = jax.tree.map(
        lambda a, b: np.abs(a - b).max(), one["generator"]["optimizer"], looked["generator"]["optimizer"]
    )
    assert max(jax.tree.leaves(moved)) > 1e-6  # the generator did learn against the one that is ahead
    again, _ = steps(ahead, task, judge, count=2)
    assert int(again["discriminator"]["optimizer"].count) == 2


class Pixels(nn.Module):
    """A latent to an image of four pixels."""

    @nn.compact
    def __call__(self, z, train=False):
        return nn.tanh(nn.Dense(4, name="pixels")(z)).reshape(-1, 2, 2, 1)


class Look(nn.Module):
    """An image to a score; `scale` and `shift` are what a domain of another range does to it."""

    scale: float = 1.0
    shift: float = 0.0

    @nn.compact
    def __call__(self, x, train=False):
        x = (self.scale * x + self.shift).reshape(x.shape[0], -1)
        return nn.Dense(1, name="score")(nn.tanh(nn.Dense(8, name="hidden")(x)))


def test_the_discriminator_may_see_another_domain():
    images = np.random.default_rng(0).uniform(-1, 1, (16, 2, 2, 1)).astype(np.float32)
    own = GanTask({"image": images}, lambda key, example: example["image"], Image((2, 2, 1), -1.0, 1.0), 3)
    other = dataclasses.replace(own, seen=Image((2, 2, 1), 0.0, 4.0))  # 2 x + 2
    settings = Settings(steps=2, batch_size=16, loss="hinge", penalty="r1", penalty_weight=0.0)
    expected, of_own = steps(settings, own, Look(2.0, 2.0), 2, maker=Pixels())
    state, of_other = steps(settings, other, Look(), 2, maker=Pixels())
    chex.assert_trees_all_close(state, expected, rtol=1e-5, atol=1e-6)
    # The penalty is that of the slope in what is seen: half of the slope in what is made.
    np.testing.assert_allclose(4.0 * of_other["penalty"], of_own["penalty"], rtol=1e-5)
    trained = train(settings, other, Look(), maker=Pixels())
    assert trained.discriminator.input == other.seen
    assert trained.generator.output == own.domain


def test_moving_average_follows_its_formula():
    task, judge = gan_problem.make_task(), gan_problem.Judge()
    settings = dataclasses.replace(SHORT, ema=0.5)
    states = [jax.device_get(initial_state(gan_problem.Maker(), judge, task, settings))]
    states += [steps(settings, task, judge, count=count)[0] for count in (1, 2, 3)]
    average = states[0]["generator"]["params"]
    for count, state in enumerate(states[1:]):
        past = min(0.5, (1 + count) / (10 + count))
        average = jax.tree.map(
            lambda old, new, past=past: past * old + (1 - past) * new, average, state["generator"]["params"]
        )
        chex.assert_trees_all_close(state["average"]["params"], average, rtol=1e-5, atol=1e-7)


def test_half_precision_computes_in_it_and_keeps_full_weights():
    task, judge = gan_problem.make_task(), gan_problem.Judge()
    full, _ = steps(SHORT, task, judge)
    half, metrics = steps(dataclasses.replace(SHORT, precision="bfloat16"), task, judge)
    chex.assert_tree_all_finite(metrics)
    chex.assert_trees_all_equal_dtypes(full, half)
    gradients = [state["generator"]["optimizer"].mu["hidden"]["kernel"] for state in (full, half)]
    error = np.linalg.norm(gradients[0] - gradients[1]) / np.linalg.norm(gradients[0])
    assert 1e-4 < error < 0.2


def test_log_snapshots_and_watchers(tmp_path):
    seen = []

    def watcher(step, generator, discriminator):
        seen.append(step)
        x = generator(jnp.zeros((1, 4)))
        chex.assert_shape(discriminator(x), (1, 1))
        return {"figure": float(step)}

    settings = dataclasses.replace(gan_problem.SETTINGS, steps=20, watch_every=9, history=4)
    trained = train(settings, folder=tmp_path, watchers=[watcher])
    assert seen == [9, 18, 20]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 6, 9, 12, 15, 18, 20]
    assert lines == trained.log
    assert lines[2]["figure"] == 9.0 and "figure" not in lines[0]
    for name in (
        "discriminator_loss", "generator_loss", "real_score", "fake_score", "penalty", "consistency",
        "discriminator_gradient", "generator_gradient", "generator_lr", "examples_per_second", "seconds",
    ):  # fmt: skip
        assert np.isfinite(lines[-1][name])
    kept = sorted(path.name for path in (tmp_path / "history").iterdir())
    assert kept == [f"{step:08d}" for step in snapshot_steps(20, 4, 3)]
    last = nd.load(tmp_path / "history" / kept[-1] / "generator", module=gan_problem.Maker())
    z = jax.random.normal(jax.random.key(1), (2, 4))
    chex.assert_trees_all_equal(last(z), trained.generator(z))


def test_a_finished_run_is_only_read(tmp_path):
    first = train(folder=tmp_path)
    again = train(folder=tmp_path)
    chex.assert_trees_all_equal(first.generator.variables, again.generator.variables)
    assert first.log == again.log
    longer = dataclasses.replace(SHORT, steps=9)
    with pytest.raises(ValueError, match="holds a run with steps = 6, and steps is 9 now"):
        train(longer, folder=tmp_path)  # its cosine depends on the number of steps
    with pytest.raises(ValueError, match="holds a run with seed = 0"):
        train(dataclasses.replace(SHORT, seed=1), folder=tmp_path)


def test_fewer_steps_than_were_done_are_refused(tmp_path):
    constant = dataclasses.replace(SHORT, schedule="constant")
    train(constant, folder=tmp_path)
    with pytest.raises(ValueError, match="has done 6 steps, more than the 3 that are asked for"):
        train(dataclasses.replace(constant, steps=3), folder=tmp_path)


@pytest.mark.parametrize(("steps_", "count", "every"), [(1000, 12, 10), (20, 4, 3), (100_000, 12, 50), (5, 12, 5)])
def test_snapshots_are_log_spaced(steps_, count, every):
    found = snapshot_steps(steps_, count, every)
    assert found[0] == 0 and found[-1] == steps_
    assert len(found) <= count and list(found) == sorted(set(found))
    assert all(step % every == 0 for step in found[:-1])
    if steps_ // every >= 100:
        assert len(found) >= count - 2
        gaps = np.diff(found)
        assert np.all(gaps[1:] >= gaps[:-1] - every)


def test_nan_stops_with_the_step_and_keeps_the_checkpoint(tmp_path):
    task = gan_problem.make_task()
    train(dataclasses.replace(SHORT, schedule="constant"), folder=tmp_path)
    point = task.arrays["point"].copy()
    point[:] = np.nan
    broken = dataclasses.replace(task, arrays=dict(task.arrays) | {"point": point})
    with pytest.raises(TrainingError, match=r"at step 7; the checkpoint of step 6 is kept"):
        train(dataclasses.replace(SHORT, schedule="constant", steps=12), task=broken, folder=tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit()) == ["6"]


class Noisy(nn.Module):
    """Draws from a key that nobody gives it."""

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(1)(x + jax.random.normal(self.make_rng("noise"), x.shape) if train else x)


class Several(nn.Module):
    """Gives a dict, with so many logits."""

    classes: int = 2

    @nn.compact
    def __call__(self, x, train=False):
        return {"score": nn.Dense(1)(x), "label": nn.Dense(self.classes)(x)}


class Wrong(nn.Module):
    """Gives three numbers whatever it is asked."""

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(3)(x)


def _task(**changes):
    return dataclasses.replace(gan_problem.make_task(), **changes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": _task(arrays={"point": np.zeros((0, 2))})}, "no examples"),
        ({"task": _task(domain=Units(3))}, r"examples have the shape \(2,\) and the domain \(3,\)"),
        ({"task": _task(latent=0)}, "size of a domain 'latent'"),
        ({"task": _task(law="cauchy")}, "law of a latent"),
        ({"task": _task(seen=Image((1, 2, 1)))}, "cannot become a 'image'"),
        ({"maker": Wrong()}, r"Wrong\) makes examples of shape \(3,\), and those of the data have \(2,\)"),
        ({"judge": Wrong()}, r"Wrong\) has to give one score"),
        ({"judge": gan_problem.Judge(classes=3)}, "has to give one score"),
        ({"maker": Several()}, r"Several\) makes a dict with the keys \['label', 'score'\]"),
        ({"judge": Noisy()}, "Noisy draws numbers of its own in training.*noise"),
        ({"task": _task(labels=("a", "b", "c"))}, "prepare gives"),
        ({"task": _task(prepare=lambda key, example: {"x": example["point"]})}, "prepare gives a dict"),
        ({"task": gan_problem.make_task(("a", "b"))}, r"label 2 is out of range.*0 \.\.\. 1"),
        ({"task": gan_problem.make_task(("a", "b", "c"), pairs=False)}, "names the class itself"),
        (
            {"task": gan_problem.make_task(("a", "b", "c"), pairs=False), "judge": Several(2)},
            r"one logit for each of the 3 classes, and gives \(2,\)",
        ),
        ({"settings": dataclasses.replace(SHORT, batch_size=15)}, "batch_size 15 cannot be divided.*14 or 16"),
        ({"settings": dataclasses.replace(SHORT, batch_size=98)}, "batch_size 98 is more than the 96 examples"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_anything_compiles(options, message, monkeypatch):
    def compiled(*_, **__):
        raise AssertionError("it went on to compile")

    monkeypatch.setattr(parallel, "data_parallel", compiled)
    with pytest.raises(ValueError, match=message) as caught:
        train(**options)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "hing"}, "no adversarial loss 'hing'"),
        ({"penalty": "gp"}, "no penalty 'gp'"),
        ({"schedule": "cosin"}, "no schedule 'cosin'.*cosine"),
        ({"precision": "float16"}, "no precision"),
        ({"steps": 0}, "steps must be 1 or more"),
        ({"ema": 1.0}, "ema must be at least 0 and below 1"),
        ({"generator_lr": 0.0}, "generator_lr must be positive"),
        ({"drift": -1.0}, "drift must not be negative"),
        ({"save_every": 7}, "save_every 7 is not a multiple of log_every 3"),
        ({"reuse_fakes": True}, "reuse_fakes needs one update"),
        ({"unroll": 3}, "unroll 3 looks ahead"),
    ],
)
def test_settings_are_refused_in_one_sentence(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(gan_problem.SETTINGS, **changes)


def test_tensorboard_that_is_not_installed_is_missed_at_the_start(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(MissingExtraError, match="tensorboardX"):
        train(folder=tmp_path, tensorboard=True)
    assert not (tmp_path / "checkpoints").exists()


def test_checkpoint_of_another_architecture_is_refused_before_anything_compiles(tmp_path, monkeypatch):
    class Wider(gan_problem.Maker):
        @nn.compact
        def __call__(self, z, train=False):
            return nn.Dense(2)(nn.relu(nn.Dense(20)(z)))

    def compiled(*_, **__):
        raise AssertionError("it went on to compile")

    train(folder=tmp_path)
    monkeypatch.setattr(parallel, "replicate", compiled)  # what comes first on a device
    with pytest.raises(OSError, match="does not fit this run"):
        train(folder=tmp_path, maker=Wider())


def test_uniform_latents_and_keys():
    task = GanTask({"point": np.zeros((4, 2), np.float32)}, lambda key, e: e["point"], Units(2), 500, law="uniform")
    keys = parallel.example_keys(0, jnp.int32(3), jnp.arange(4))
    z = task.z.draw(keys)
    assert float(jnp.abs(z).max()) <= 1 and abs(float(jnp.std(z)) - 3**-0.5) < 0.02
    chex.assert_trees_all_equal(task.z.draw(keys[::-1]), z[::-1])


@pytest.mark.parametrize(("labels", "batch_size"), [((), 16), (("a", "b", "c"), 16), ((), 1)])
def test_the_discriminator_that_is_kept_has_its_deviation_frozen_over_real_batches(labels, batch_size):
    def prepare(key, example):
        x = jnp.outer(*[jnp.pad(example["point"], (0, 6))] * 2)[..., None]
        return {"x": x, "label": example["label"]} if labels else x

    task = GanTask(gan_problem.points(), prepare, Image((8, 8, 1)), 4, labels=labels)
    maker = mel_dcgan.Generator(4, (4, 4), (2,), classes=len(labels))
    judge = mel_dcgan.Discriminator((2, 3), batch_norm=False, deviation=True, classes=len(labels))
    settings = dataclasses.replace(SHORT, steps=1, batch_size=batch_size)
    found = train(settings, task, judge, maker=maker, devices=jax.local_devices()[:1]).discriminator
    if batch_size == 1:
        assert found.module == judge
        return
    given = jax.vmap(prepare, (None, 0))(jax.random.key(0), task.arrays)
    seen = float(nd.taps.read(found, given, "relu2")["relu2"].std(axis=0).mean())
    assert found.module.frozen_deviation == pytest.approx(seen, rel=0.2) and seen > 0.01
    assert found.module.clone(frozen_deviation=None) == judge
