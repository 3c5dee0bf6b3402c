"""Tiny networks on disk for the experiments about generators."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import nd_jax as nd
from nd_jax import audio, domain

MEL = domain.LogMel(audio.LogMel(sample_rate=8000, n_fft=128, hop_length=64, n_mels=8), frames=12)
NAMES = ("low", "mid", "high")


def invented(module, given, seed):
    """Variables with random weights, so that units differ."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), given)
    draw = np.random.default_rng(seed)

    def one(path, leaf):
        if path[0].key == "batch_stats":
            return np.full(leaf.shape, float(path[-1].key == "var"), np.float32)
        return (0.4 * draw.standard_normal(leaf.shape) + float(path[-1].key == "scale")).astype(np.float32)

    return jax.tree_util.tree_map_with_path(one, dict(shapes))


def classifier(folder):
    """A log-mel classifier of three classes; returns its folder as text."""
    config = {"heads": [["word", 3]], "features": [4], "kernels": [[3, 3]], "strides": [[2, 2]]}
    module = nd.networks.build("audio_cnn", config)
    variables = invented(module, jnp.zeros((1, *MEL.shape)), 1)
    network = nd.Network(module, variables, input=MEL, labels=NAMES, apply_kwargs={"train": False})
    return str(network.save(folder / "classifier"))


def generator(folder, classes=NAMES):
    """A generator of its inputs, with or without classes; returns its folder as text."""
    config = {"latent": 5, "start": [2, 3], "widths": [6, 4], "features": 7, "classes": len(classes)}
    module = nd.networks.build("mel_dcgan_generator", config)
    given = {"z": jnp.zeros((1, 5)), "label": jnp.zeros(1, int)} if classes else jnp.zeros((1, 5))
    z = domain.Latent(5)
    taken = domain.Parts({"z": z, "label": domain.Label(classes)}) if classes else z
    network = nd.Network(module, invented(module, given, 0), input=taken, output=MEL, apply_kwargs={"train": False})
    return str(network.save(folder / f"generator{len(classes)}"))
