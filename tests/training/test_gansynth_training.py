"""GANSynth's training: the official losses and gradients, the stages, and going on across the end of one."""

from __future__ import annotations

import dataclasses
import pathlib
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nd_jax.domain import Image
from nd_jax.networks import gansynth as networks
from nd_jax.training import gan, gansynth
from nd_jax.training.checkpoints import Checkpoints
from nd_jax.training.gan import record
from nd_jax.training.gan.state import initial_state

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "networks"))
import gansynth_reference as reference

NAMES = ("C4", "D4", "E4")
SIZES = {"blocks": 2, "start": (2, 4), "fmap_base": 16.0, "fmap_max": 4, "classes": 3}
SETTINGS = dataclasses.replace(gansynth.SETTINGS, generator_lr=2e-3, ema=0.9, log_every=2, save_every=2)
STAGES = gansynth.Stages(stable=8, fade=10, total=40, batch_sizes=(4, 2))


def _problem(seed=0):
    rng = np.random.default_rng(seed)
    arrays = {
        "x": rng.normal(size=(12, 4, 8, 2)).astype(np.float32) * np.float32([4.0, 0.5]) - np.float32([6.0, 0.0]),
        "label": (np.arange(12) % 2).astype(np.int32),
    }

    def prepare(key, example):
        return {"x": example["x"] + 0.1 * jax.random.normal(key, (4, 8, 2)), "label": example["label"]}

    task = gan.GanTask(arrays, prepare, Image((4, 8, 2), -20.0, 20.0), 5, labels=NAMES, pairs=False)
    return networks.Generator(latent=5, **SIZES), networks.Discriminator(**SIZES), task


def _train(folder, stages=STAGES, **options):
    first = jax.local_devices()[:1]
    return gansynth.train(*_problem(), SETTINGS, stages, folder=folder, devices=first, progress=False, **options)


def _untimed(lines):
    return [{name: line[name] for name in line if name not in ("seconds", "examples_per_second")} for line in lines]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("undisturbed")
    seen = []
    trained = _train(folder, watchers=[lambda step, *both: seen.append((step, both[1].module))])
    return folder, trained, seen


# --- the official numbers ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def official(shared):
    """A `Gan` with the reference's networks and draws, and the reference."""
    variables, io = reference.load(shared)
    maker, judge = networks.Generator(latent=16, **reference.TINY), networks.Discriminator(**reference.TINY)
    task = gan.GanTask(
        {"x": io["real"], "label": io["label_index"]},
        lambda key, example: {"x": example["x"], "label": example["label"]},
        Image(io["real"].shape[1:], -20.0, 20.0),
        16,
        labels=tuple("abcde"),
        pairs=False,
    )
    return gan.Gan(maker, judge, task, gansynth.SETTINGS), variables, io


def _gradients(tree, io, stem):
    names = [name for name in io.files if name.startswith(f"{stem}/")]
    for name in names:
        leaf = tree
        for key in reference.path(name.removeprefix(f"{stem}/")):
            leaf = leaf[key]
        chex.assert_trees_all_close(leaf, io[name], rtol=1e-4, atol=1e-5 * float(np.abs(io[name]).max() + 1e-2))
    return names


def test_the_discriminators_loss_penalty_and_gradients_are_the_official_ones(official):
    rules, variables, io = official
    label = jnp.asarray(io["label_index"])
    # There x_hat = real + alpha (fake - real), so alpha is the share of the generated one.
    draws = {"keys": jax.random.split(jax.random.key(0), 4), "share": 1.0 - io["gp_alpha"].reshape(-1), "label": label}
    params = reference.params(variables, "Discriminator")["params"]
    fakes = jnp.asarray(io["gen_ema_data"])

    def loss(params):
        return jax.value_and_grad(rules.criticise, has_aux=True)(params, {}, io["real"], fakes, label, draws)

    (total, (_, metrics)), slopes = _on_one_device(loss, params)
    assert float(total) == pytest.approx(float(io["d_loss_total"]), rel=2e-5)
    assert float(metrics["penalty"]) == pytest.approx(float(io["gradient_penalty"]), rel=2e-5)
    assert float(metrics["real_score"]) == pytest.approx(float(io["D_real_logits"].mean()), abs=1e-5)
    assert len(_gradients(slopes, io, "dgrad")) == len(jax.tree.leaves(slopes))


def test_the_generators_loss_and_gradients_are_the_official_ones(official):
    rules, variables, io = official
    label = jnp.asarray(io["label_index"])
    keys = jax.random.split(jax.random.key(0), 4)
    plain = optax.identity()
    params = {name: reference.params(variables, name)["params"] for name in ("Generator", "Discriminator")}
    players = {
        name: {"params": tree, "collections": {}, "optimizer": plain.init(tree)} for name, tree in params.items()
    }
    rules = gan.Gan(rules.generator, rules.discriminator, rules.task, rules.settings, (plain, plain))

    def step(players):
        fakes, pull, after = rules.generate(players["Generator"], jnp.asarray(io["z"]), label, keys)
        return rules.update_generator(
            players["Generator"], players["Discriminator"], fakes, pull, after, label, keys, 1.0
        )

    player, _, metrics = _on_one_device(step, players)
    assert float(metrics["generator_loss"]) == pytest.approx(float(io["g_loss_e2e_raw"]), rel=2e-5)
    slopes = jax.tree.map(lambda old, new: old - new, params["Generator"], player["params"])
    # What was taken off the weights is their gradient, to the rounding of the difference.
    for name in [name for name in io.files if name.startswith("ggradnorm/")]:
        leaf = slopes
        for key in reference.path(name.removeprefix("ggradnorm/")):
            leaf = leaf[key]
        assert np.linalg.norm(leaf) == pytest.approx(float(io[name]), rel=1e-3, abs=1e-5)


def _on_one_device(step, tree):
    """What a step gives, inside the axis over which it averages."""
    run = jax.pmap(lambda _, tree: step(tree), "devices", in_axes=(0, None), devices=jax.local_devices()[:1])
    return jax.tree.map(lambda leaf: leaf[0], run(jnp.zeros(1), tree))


def test_adam_is_tensorflows():
    rng = np.random.default_rng(1)
    value = {"a": jnp.asarray(rng.normal(size=3), jnp.float32)}
    ours = gansynth.tensorflow_adam(0.5, 0.99, 1e-2)
    state = ours.init(value)
    first, second = np.zeros(3), np.zeros(3)
    for step in range(1, 5):
        slope = rng.normal(size=3)
        moves, state = ours.update({"a": jnp.asarray(slope, jnp.float32)}, state)
        first, second = 0.5 * first + 0.5 * slope, 0.99 * second + 0.01 * slope**2
        rate = np.sqrt(1 - 0.99**step) / (1 - 0.5**step)
        chex.assert_trees_all_close(moves["a"], np.float32(rate * first / (np.sqrt(second) + 1e-2)), rtol=1e-5)


# --- stages -----------------------------------------------------------------------------------------------------------


def test_the_official_plan_and_progress():
    stages = gansynth.Stages()
    plan = stages.plan(7)
    assert [stage.blocks for stage in plan] == [1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]
    assert [stage.begun for stage in plan] == [800_000 * number for number in range(13)]
    assert plan[-1].begun + plan[-1].steps * 8 == 11_000_000 and plan[-1].name == "stage_00012"
    expected = {0: 0, 800_000: 0, 1_200_000: 0.5, 1_600_000: 1, 2_400_000: 1, 3_200_000: 2, 9_600_000: 6, 11_000_000: 6}
    for seen, progress in expected.items():
        assert float(stages.progress(seen, 7)) == pytest.approx(progress, abs=2e-6), seen
    assert [stage.steps * stage.batch_size for stage in STAGES.plan(2)] == [8, 10, 22]
    sizes = gansynth.Stages(100, 100, 2000, batch_sizes=(16, 8)).plan(3)
    assert [stage.batch_size for stage in sizes] == [16, 8, 8, 8, 8]
    assert [stage.steps for stage in sizes][:2] == [7, 11] and sizes[1].begun == 112
    with pytest.raises(ValueError, match="is there after 400 examples, and total is 300"):
        gansynth.Stages(100, 100, 300).plan(3)
    with pytest.raises(ValueError, match="stages have 1 example or more"):
        gansynth.Stages(stable=0)
    with pytest.raises(ValueError, match=r"in whole numbers, not stable 800000, fade 1\.5"):
        gansynth.Stages(fade=1.5)
    maker, judge, task = _problem()
    for counts in ([1.0], [0.0] * maker.classes, [-1.0] * maker.classes, [float("nan")] * maker.classes):
        with pytest.raises(ValueError, match=f"counts are {maker.classes} numbers of 0 or more"):
            gansynth.train(maker, judge, task, SETTINGS, STAGES, counts=counts, progress=False)


def test_a_new_stage_keeps_what_was_learned_and_nothing_of_the_optimizers(undisturbed):
    folder, trained, _ = undisturbed
    maker, judge, task = _problem()

    def like(blocks):
        players = maker.clone(grown=blocks), judge.clone(grown=blocks)
        adam = gansynth.tensorflow_adam(0.0, 0.99)
        return initial_state(*players, task, dataclasses.replace(SETTINGS, seed=blocks - 1), (adam, adam))

    with Checkpoints(folder / "stage_00000" / "checkpoints") as checkpoints:
        before = checkpoints.restore(like(1)).arrays
    fresh = like(2)
    begun = gansynth.carried(fresh, before)
    for player in ("generator", "discriminator"):
        old, new = before[player]["params"], begun[player]["params"]
        chex.assert_trees_all_equal({name: new[name] for name in old}, old)
        added = set(new) - set(old)
        assert {"block2"} < added
        chex.assert_trees_all_equal({name: new[name] for name in added}, {n: fresh[player]["params"][n] for n in added})
        assert int(begun[player]["optimizer"].count) == 0 and int(before[player]["optimizer"].count) == 2
    chex.assert_trees_all_equal(begun["average"]["params"]["block1"], before["average"]["params"]["block1"])
    assert trained.step == 18 and trained.generator.module.progress == 1.0


def test_the_log_is_one_and_watchers_see_networks_of_their_stage(undisturbed):
    folder, trained, seen = undisturbed
    assert [(line["step"], line["stage"], line["images"]) for line in trained.log][:4] == [
        (2, 0, 8),
        (4, 1, 12),
        (6, 1, 16),
        (7, 1, 18),
    ]
    assert [line["progress"] for line in trained.log][:4] == pytest.approx([0, 0.4, 0.8, 1.0])
    assert [step for step, _ in seen] == [2, 7, 18]
    assert [module.grown for _, module in seen] == [1, 2, 2] and all(module.deviation > 0 for _, module in seen)
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == len(trained.log)
    assert [module.progress for _, module in seen] == [0.0, 1.0, 1.0]
    assert trained.discriminator.module.deviation == seen[-1][1].deviation


def test_a_run_that_is_killed_in_a_later_stage_ends_like_one_that_is_not(tmp_path, undisturbed, monkeypatch):
    saves = []
    save = record.Record.save

    def save_and_die(self, step, state):
        save(self, step, state)
        saves.append(step)
        if len(saves) == 3:  # in the middle of stage 1
            raise KeyboardInterrupt

    monkeypatch.setattr(record.Record, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path)
    monkeypatch.undo()
    again = _train(tmp_path)
    calm = undisturbed[1]
    chex.assert_trees_all_equal(again.state, calm.state)
    assert again.generator.module == calm.generator.module and again.discriminator.module == calm.discriminator.module
    assert _untimed(again.log) == _untimed(calm.log) and again.step == calm.step


def test_it_goes_on_from_the_very_end_of_a_stage_and_can_be_made_longer(tmp_path, undisturbed, monkeypatch):
    begun = []
    train = gan.train

    def train_twice(*arguments, **options):
        begun.append(options["folder"].name)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return train(*arguments, **options)

    monkeypatch.setattr(gan, "train", train_twice)
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path)
    longer = _train(tmp_path, dataclasses.replace(STAGES, total=44))
    assert begun == ["stage_00000", "stage_00001", "stage_00000", "stage_00001", "stage_00002"]
    assert _untimed(longer.log)[: len(undisturbed[1].log) - 1] == _untimed(undisturbed[1].log)[:-1]
    assert longer.step == 20
    with pytest.raises(ValueError, match="holds a run with fade = 10, and fade is 12 now"):
        _train(tmp_path, dataclasses.replace(STAGES, fade=12))


def test_pitches_are_asked_for_as_often_as_in_the_data():
    maker, judge, task = _problem()
    stage = STAGES.plan(2)[1]
    rules = gansynth.Growing(maker, judge, task, SETTINGS, stages=STAGES, stage=stage, counts=np.array([3, 0, 1]))
    keys = jax.random.split(jax.random.key(3), 2000)
    asked = np.bincount(rules.asked(keys, jnp.zeros(2000, jnp.int32)), minlength=3)
    assert asked[1] == 0 and asked[0] == pytest.approx(1500, abs=60)
    assert rules.asked(keys, None) is None
    real = jnp.asarray(task.arrays["x"])
    middle = rules.at(jnp.asarray(2))
    share = float(middle.given["progress"])
    assert share == pytest.approx(0.4)
    coarse = networks.enlarge(networks.shrink(real, 2), 2)
    chex.assert_trees_all_close(middle.real(real), share * real + (1 - share) * coarse, atol=1e-5)


def test_the_progress_of_a_stage_without_a_fade_is_known_and_right():
    maker, judge, task = _problem()
    # Batches that divide no stage, and one that is longer than a stage.
    for stages in (
        gansynth.Stages(8, 10, 80, (4, 2)),
        gansynth.Stages(stable=7, fade=11, total=100, batch_sizes=(4, 5, 3, 30)),
    ):
        for stage in stages.plan(4):
            players = maker.clone(blocks=4), judge.clone(blocks=4), task, SETTINGS
            rules = gansynth.Growing(*players, stages=stages, stage=stage, counts=np.ones(3))
            for step in (0, stage.steps - 1):
                given = rules.at(jnp.asarray(step)).given["progress"]
                grown = stages.progress(stage.begun + step * stage.batch_size, 4)
                assert float(given) == pytest.approx(min(float(grown), stage.blocks - 1.0))
                assert isinstance(given, float) == (stage.number % 2 == 0)


def test_what_cannot_grow_together_is_refused():
    maker, judge, task = _problem()
    with pytest.raises(ValueError, match=r"the generator has blocks 3 and the discriminator 2"):
        gansynth.train(maker.clone(blocks=3), judge, task, SETTINGS, STAGES, progress=False)
    with pytest.raises(ValueError, match="stages are for a gansynth_generator and a gansynth_discriminator"):
        gansynth.train(judge, judge, task, SETTINGS, STAGES, progress=False)
    with pytest.raises(ValueError, match="constant in all stages, not 'cosine'"):
        gansynth.train(maker, judge, task, dataclasses.replace(SETTINGS, schedule="cosine"), STAGES, progress=False)
