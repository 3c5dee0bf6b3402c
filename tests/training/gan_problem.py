"""A GAN of a second: points on a ring, with everything that tempts devices, processes and restarts to differ.

Run as a program it trains in the folder it is given, so that it can be killed.
"""

from __future__ import annotations

import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.domain import Units
from nd_jax.training import gan
from nd_jax.training.gan import GanTask, Settings


class Maker(nn.Module):
    """A latent to a point, through batch statistics."""

    @nn.compact
    def __call__(self, z, train=False):
        if isinstance(z, dict):
            z = jnp.concatenate([z["z"], jax.nn.one_hot(z["label"], 3)], axis=-1)
        x = nn.Dense(16, use_bias=False, name="hidden")(z)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x))
        return nn.Dense(2, name="point")(x)


class Judge(nn.Module):
    """A point to a score, through dropout; with `classes` it names the class, or sees it."""

    classes: int = 0
    dropout: float = 0.2

    @nn.compact
    def __call__(self, x, train=False):
        label = None
        if isinstance(x, dict):
            x, label = x["x"], x["label"]
        x = nn.leaky_relu(nn.Dense(16, name="hidden")(x), 0.2)
        x = nn.Dropout(self.dropout, deterministic=not train, name="dropout")(x)
        score = nn.Dense(1, name="score")(x)
        if label is not None:
            return score + jnp.sum(x * nn.Embed(3, 16, name="embed")(label), axis=-1, keepdims=True)
        return {"score": score, "label": nn.Dense(self.classes, name="class")(x)} if self.classes else score


def points(count: int = 96) -> dict[str, np.ndarray]:
    """Points of three arcs of the unit circle."""
    rng = np.random.default_rng(5)
    label = np.arange(count) % 3
    angle = 2 * np.pi * (label + 0.3 * rng.uniform(size=count)) / 3
    return {
        "point": np.stack([np.cos(angle), np.sin(angle)], axis=-1).astype(np.float32),
        "label": label.astype(np.int32),
    }


def jitter(key, x):
    """A point a little elsewhere."""
    return x + 0.02 * jax.random.normal(key, x.shape)


def make_task(labels: tuple[str, ...] = (), pairs: bool = True) -> GanTask:
    """Points, with or without their arc."""

    def prepare(key, example):
        x = jitter(key, example["point"])
        return {"x": x, "label": example["label"]} if labels else x

    return GanTask(points(), prepare, Units(2), 4, labels=labels, pairs=pairs, augment=jitter)


SETTINGS = Settings(
    steps=60,
    batch_size=16,
    loss="wasserstein",
    penalty="gradient_penalty",
    penalty_weight=1.0,
    critic_steps=2,
    consistency=0.1,
    drift=1e-3,
    schedule="cosine",
    ema=0.9,
    generator_lr=2e-3,
    discriminator_lr=2e-3,
    log_every=3,
    save_every=6,
    history=4,
)

if __name__ == "__main__":
    gan.train(Maker(), Judge(), make_task(), SETTINGS, folder=sys.argv[1], progress=False)
