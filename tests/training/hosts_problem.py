"""One of several processes that train the GAN of gan_problem.py together; the last words are this process's results."""

from __future__ import annotations

import dataclasses
import json
import sys

from nd_jax.training import hosts

if __name__ == "__main__":
    coordinator, processes, process = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    hosts.start(coordinator, processes, process, limit=100)

import flax.linen as nn
import gan_problem
import jax
import numpy as np

from nd_jax.networks.layers import MinibatchDeviation
from nd_jax.training import gan

SETTINGS = dataclasses.replace(
    gan_problem.SETTINGS, steps=20, log_every=5, save_every=10, history=2, check_replicas=True, watch_every=20
)


class Judge(nn.Module):
    """The score knows also how much the examples of the whole batch differ."""

    @nn.compact
    def __call__(self, x, train=False):
        return gan_problem.Judge(name="judge")(MinibatchDeviation(name="deviation")(x), train=train)


def watcher(step, generator, discriminator):
    assert hosts.leads()
    return {"figure": float(np.abs(generator(np.zeros((1, 4), np.float32))).sum())}


def train(folder=None, devices=None, **changes):
    """Numbers of the trained networks, by name, and the log without its times."""
    trained = gan.train(
        gan_problem.Maker(),
        Judge(),
        gan_problem.make_task(),
        dataclasses.replace(SETTINGS, **changes),
        folder=folder,
        devices=devices,
        progress=False,
        watchers=[watcher],
    )
    leaves = jax.tree_util.tree_leaves_with_path((trained.generator.variables, trained.discriminator.variables))
    arrays = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
    log = [{k: v for k, v in line.items() if k not in ("seconds", "examples_per_second")} for line in trained.log]
    return arrays, log


if __name__ == "__main__":
    assert jax.process_count() == processes and jax.process_index() == process
    # Every process has a folder of its own, and only that of the first is used.
    folders = sys.argv[4:]
    with hosts.end_together():
        try:
            arrays, log = train(folders[process], **({"steps": 20_000} if "--long" in folders else {}))
        except hosts.Stopped as stopped:
            print(stopped, file=sys.stderr)
            sys.exit(hosts.STOPPED_STATUS)
        print(json.dumps({"arrays": {name: leaf.tolist() for name, leaf in arrays.items()}, "log": log}))
