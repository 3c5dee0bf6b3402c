"""The reference variables of GANSynth in Flax's names, for tests."""

from __future__ import annotations

import re

import numpy as np

_BLOCK = re.compile(r"progressive_gan_block_(\d+)/(\w+)/(?:conv2d/|dense/)?(kernel|bias)$")
TINY = {"blocks": 4, "fmap_base": 64, "fmap_max": 24, "classes": 5}
EMA = "/ExponentialMovingAverage"


def path(name):
    """("block2", "conv0", "kernel") for a TensorFlow name."""
    if name.startswith("Discriminator/discriminator_cond/"):
        return ("pitch", name.rsplit("/", 1)[1])
    number, layer, part = _BLOCK.search(name).groups()
    if layer == "logits":
        return ("logits", part)
    return (f"{layer}{number}", "conv", part) if layer.endswith("rgb") else (f"block{number}", layer, part)


def params(file, player, suffix="", blocks=99):
    """The parameters of one player, "Generator" or "Discriminator", of its first blocks."""
    tree = {}
    for name in file.files:
        if not name.startswith(f"{player}/") or name.endswith(EMA) != bool(suffix):
            continue
        plain = name.removesuffix(EMA)
        number = re.search(r"block_(\d+)/", plain)
        if number and int(number[1]) > blocks:
            continue
        *parents, leaf = path(plain)
        node = tree
        for key in parents:
            node = node.setdefault(key, {})
        node[leaf] = file[name]
    return {"params": tree}


def load(shared, which="tiny"):
    """(variables, inputs and outputs) of a reference set."""
    folder = shared / "reference" / "gansynth"
    return np.load(folder / f"{which}_vars.npz"), np.load(folder / f"{which}_io.npz")
