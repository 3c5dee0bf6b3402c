"""A classification problem of a second, which third of nine numbers is largest; run as a program it can be killed."""

from __future__ import annotations

import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.training import classifier


class Tiny(nn.Module):
    """One hidden layer with batch statistics and dropout."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(16, use_bias=False, name="hidden")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x))
        x = nn.Dropout(0.1, deterministic=not train, name="dropout")(x)
        return nn.Dense(3, name="third")(x)


def _examples(seed: int, count: int) -> dict[str, np.ndarray]:
    x = np.random.default_rng(seed).normal(size=(count, 9)).astype(np.float32)
    return {"x": x, "third": x.reshape(count, 3, 3).sum(axis=-1).argmax(axis=-1).astype(np.int32)}


def _prepare(key, example):
    noise = 0.05 * jax.random.normal(key, example["x"].shape)
    return example["x"] + noise, {"third": example["third"]}, {}


TASK = classifier.Task(
    train=_examples(0, 96),
    validation=_examples(1, 60),
    prepare=_prepare,
    present=lambda example: jnp.asarray(example["x"]),
    heads={"third": 3},
    head_weights={"third": 1.0},
)
SETTINGS = classifier.Settings(steps=60, batch_size=16, learning_rate=3e-2, eval_every=6, fetch_every=3)

if __name__ == "__main__":
    classifier.train(Tiny(), TASK, SETTINGS, folder=sys.argv[1], progress=False)
