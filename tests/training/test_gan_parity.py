"""One training step of each MNIST GAN equals the source's own: losses, gradients, updated weights and statistics."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nd_jax.domain import Image
from nd_jax.networks.dcgan import Discriminator, Generator
from nd_jax.networks.importers import neural_dissection
from nd_jax.training import parallel
from nd_jax.training.gan import Gan, GanTask, Settings, make_step
from nd_jax.training.gan.state import initial_state, make_optimizer

DISCRIMINATOR = {"main.0": "conv1", "main.1": "norm1", "main.4": "conv2", "main.5": "norm2", "main.9": "dense"}
GENERATOR = {
    "lin_seq.0": "dense",
    "lin_seq.1": "norm0",
    "conv_seq.0": "conv1",
    "conv_seq.1": "norm1",
    "conv_seq.3": "conv2",
    "conv_seq.4": "norm2",
    "conv_seq.6": "conv3",
}


class Given(Gan):
    """Takes latents and mixtures from arrays instead of drawing them."""

    def __init__(self, *args, noise, shares, **kwargs):
        super().__init__(*args, **kwargs)
        self.noise, self.mixtures = jnp.asarray(noise), jnp.asarray(shares)

    def latents(self, keys, number):
        return self.noise[number]

    def shares(self, keys, number):
        return self.mixtures[number].reshape(-1)


def remembering(optimizer):
    """Keeps the gradients of the last update in the optimizer's state."""

    def update(gradients, state, params=None):
        moves, inner = optimizer.update(gradients, state["inner"], params)
        return moves, {"inner": inner, "gradients": gradients}

    def init(params):
        return {"inner": optimizer.init(params), "gradients": jax.tree.map(jnp.zeros_like, params)}

    return optax.GradientTransformation(init, update)


def one_step(shared, which, mode, settings):
    folder = shared / "reference" / "neural_dissection_gan"
    reference = dict(np.load(folder / f"train_{which}_{mode}.npz"))
    judge, judge_variables = neural_dissection.discriminator(folder / f"{which}_discriminator.npz")
    maker, maker_variables = neural_dissection.generator(folder / "generator_small_weights.npz")
    judge = Discriminator(hidden=judge.hidden, sigmoid=which == "wgan", dropout=0.0)
    maker = Generator(latent=maker.latent, hidden=maker.hidden)
    task = GanTask(
        {"image": reference["real"].transpose(0, 2, 3, 1)},
        lambda key, example: example["image"],
        Image((28, 28, 1), -1.0, 1.0),
        100,
    )
    settings = Settings(batch_size=8, generator_lr=1e-4, discriminator_lr=1e-4, beta1=0.9, ema=0.0, **settings)
    optimizers = (remembering(make_optimizer(settings)),) * 2
    gan = Given(
        maker,
        judge,
        task,
        settings,
        optimizers,
        noise=reference["noise"] if which == "wgan" else reference["noise"][None],
        shares=reference["eps"] if which == "wgan" else np.ones((1, 8)),
    )
    state = initial_state(maker, judge, task, settings, optimizers)
    for name, variables in (("generator", maker_variables), ("discriminator", judge_variables)):
        state[name]["params"] = jax.tree.map(jnp.asarray, variables["params"])
        state[name]["collections"] = {"batch_stats": jax.tree.map(jnp.asarray, variables["batch_stats"])}
    before = jax.device_get(state)
    run = parallel.data_parallel(make_step(gan), jax.local_devices()[:1])
    index = np.arange(8)
    batch = {"image": task.arrays["image"][index][None, None], "index": index[None, None]}
    after, metrics = run(parallel.replicate(state, jax.local_devices()[:1]), batch)
    return reference, before, jax.device_get(after), jax.device_get(metrics)


def leaf(player, table, name, kind="params"):
    """The array that the source calls `name`, in its order of sums (norms and sums do not care for axes)."""
    layer, _, part = name.rpartition(".")
    if part.startswith("running"):
        return player["collections"]["batch_stats"][table[layer]][part.removeprefix("running_")]
    tree = player[kind] if kind == "params" else player["optimizer"]["gradients"]
    group = tree[table[layer]]
    return group["bias" if part == "bias" else "scale" if "scale" in group else "kernel"]


def to_source(array, name, transposed):
    """Conv kernels as the source stores them: (out, in, h, w), or (in, out, h, w) of transposed ones."""
    if array.ndim != 4:
        return array
    return array.transpose(2, 3, 0, 1) if transposed else array.transpose(3, 2, 0, 1)


def compare_weights(reference, stem, before, after, table):
    """Norms of all weights and statistics, and how far they moved; Adam's first steps are about the learning rate."""
    names = [key.removeprefix(f"{stem}norm/") for key in reference if key.startswith(f"{stem}norm/")]
    assert len(names) == (11 if table is DISCRIMINATOR else 16)
    for name in names:
        new, old = leaf(after, table, name), leaf(before, table, name)
        chex.assert_trees_all_close(np.linalg.norm(new), reference[f"{stem}norm/{name}"], rtol=1e-5)
        moved = reference[f"{stem}delta_norm/{name}"]
        chex.assert_trees_all_close(np.linalg.norm(new - old), moved, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("mode", ["eval", "train_nodrop"])
def test_dcgan_step(shared, mode):
    settings = {"loss": "non_saturating", "reuse_fakes": True, "train_mode": mode != "eval"}
    reference, before, after, metrics = one_step(shared, "dcgan", mode, settings)
    wanted = reference["loss_disc_real"] + reference["loss_disc_fake"]
    chex.assert_trees_all_close(metrics["discriminator_loss"], wanted, rtol=1e-4)
    chex.assert_trees_all_close(metrics["generator_loss"], reference["loss_gen"], rtol=1e-4)
    chex.assert_trees_all_close(metrics["real_score"], reference["disc_out_real"].mean(), rtol=1e-4)
    chex.assert_trees_all_close(metrics["fake_score"], reference["disc_out_fake"].mean(), rtol=1e-4)
    later = reference["disc_out_fake_after_disc_step"].mean()
    chex.assert_trees_all_close(metrics["fake_score_after"], later, rtol=1e-4)
    for short, player, table in (("disc", "discriminator", DISCRIMINATOR), ("gen", "generator", GENERATOR)):
        for key in reference:
            if key.startswith(f"grad_norm/{short}/"):
                found = np.linalg.norm(leaf(after[player], table, key.split("/")[2], "gradients"))
                chex.assert_trees_all_close(found, reference[key], rtol=1e-3)
        compare_weights(reference, f"after/{short}/", before[player], after[player], table)
    _gradient(reference["grad/disc/main.0.weight"], after["discriminator"], DISCRIMINATOR, "main.0.weight")
    _gradient(reference["grad/disc/main.1.weight"], after["discriminator"], DISCRIMINATOR, "main.1.weight")
    _gradient(reference["grad/gen/conv_seq.6.weight"], after["generator"], GENERATOR, "conv_seq.6.weight", True)
    for name in ("main.1.running_mean", "main.1.running_var", "main.5.running_mean", "main.5.running_var"):
        found = leaf(after["discriminator"], DISCRIMINATOR, name)
        chex.assert_trees_all_close(found, reference[f"after/full/disc/{name}"], rtol=1e-4, atol=1e-6)


def _gradient(wanted, player, table, name, transposed=False):
    found = to_source(leaf(player, table, name, "gradients"), name, transposed)
    chex.assert_trees_all_close(found, wanted, rtol=1e-3, atol=1e-5 * float(np.abs(wanted).max()))


@pytest.mark.parametrize("mode", ["eval", "train_nodrop"])
def test_wgan_iteration(shared, mode):
    settings = {
        "loss": "wasserstein",
        "penalty": "gradient_penalty",
        "critic_steps": 5,
        "same_batch": True,
        "train_mode": mode != "eval",
    }
    reference, before, after, metrics = one_step(shared, "wgan", mode, settings)
    chex.assert_trees_all_close(metrics["discriminator_loss"], reference["disc_loss"][4], rtol=1e-4)
    chex.assert_trees_all_close(metrics["penalty"], reference["penalty"][4], rtol=1e-4)
    chex.assert_trees_all_close(metrics["generator_loss"], reference["gen_loss"], rtol=1e-4)
    for key in reference:
        if key.startswith("gen_step/grad_norm/"):
            found = np.linalg.norm(leaf(after["generator"], GENERATOR, key.split("/")[2], "gradients"))
            chex.assert_trees_all_close(found, reference[key], rtol=1e-3)
    compare_weights(reference, "gen_step/after_", before["generator"], after["generator"], GENERATOR)


@pytest.mark.parametrize("mode", ["eval", "train_nodrop"])
def test_first_critic_step(shared, mode):
    settings = {"loss": "wasserstein", "penalty": "gradient_penalty", "train_mode": mode != "eval"}
    reference, _, after, metrics = one_step(shared, "wgan", mode, settings)
    chex.assert_trees_all_close(metrics["discriminator_loss"], reference["disc_loss"][0], rtol=1e-4)
    chex.assert_trees_all_close(metrics["penalty"], reference["penalty"][0], rtol=1e-4)
    critic = after["discriminator"]
    for name in ("main.0.weight", "main.1.weight", "main.9.weight"):
        wanted = reference[f"critic_step1/grad/{name}"]
        if name == "main.9.weight":  # flattened channel-first in the source
            wanted = wanted.reshape(128, 4, 4).transpose(1, 2, 0).reshape(-1, 1)
        _gradient(wanted, critic, DISCRIMINATOR, name)
    for key in reference:
        if key.startswith("critic_step1/grad_norm/"):
            found = np.linalg.norm(leaf(critic, DISCRIMINATOR, key.split("/")[2], "gradients"))
            chex.assert_trees_all_close(found, reference[key], rtol=1e-3)
    full = to_source(leaf(critic, DISCRIMINATOR, "main.0.weight"), "", False)
    chex.assert_trees_all_close(full, reference["critic_step1/after_full/main.0.weight"], atol=2e-4)
