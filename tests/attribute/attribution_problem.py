"""The small network of the reference vectors, and domains for it."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import nd_jax as nd
from nd_jax.domain import Image
from nd_jax.networks.conv import Conv


class Small(nn.Module):
    """conv 3 x 3, ReLU, average pool 2 x 2, conv 3 x 3, ReLU, mean over places, dense."""

    first: int
    second: int
    classes: int

    @nn.compact
    def __call__(self, x):
        x = nn.relu(Conv(self.first, (3, 3), padding=((1, 1), (1, 1)), name="conv1")(x))
        x = nn.avg_pool(x, (2, 2), (2, 2))
        x = nn.relu(Conv(self.second, (3, 3), padding=((0, 0), (0, 0)), name="conv2")(x))
        return nn.Dense(self.classes, name="fc")(jnp.mean(x, axis=(1, 2)))


def reference(shared, name):
    """The network and the arrays of one reference case, {"x": NHWC, ...}; all maps NHWC too."""
    folder = shared / "reference" / "occlusion"
    weights = np.load(folder / f"{name}_weights.npz")
    arrays = dict(np.load(folder / f"{name}.npz"))
    for key, value in arrays.items():
        if value.ndim == 4 and not key.endswith("NHWC"):
            arrays[key] = np.moveaxis(value, 1, -1)
    params = {
        layer: {"kernel": weights[f"{layer}.weight_HWIO"], "bias": weights[f"{layer}.bias"]}
        for layer in ("conv1", "conv2")
    }
    params["fc"] = {"kernel": weights["fc.weight"].T, "bias": weights["fc.bias"]}
    module = Small(len(weights["conv1.bias"]), len(weights["conv2.bias"]), len(weights["fc.bias"]))
    domain = Image(arrays["x"].shape[1:], -10.0, 10.0)
    return nd.Network(module, {"params": params}, domain), arrays


def tiny(shape=(12, 10, 1), classes=3, seed=0):
    """A network of random weights."""
    module = Small(4, 5, classes)
    variables = module.init(jax.random.key(seed), jnp.zeros((1, *shape)))
    return nd.Network(module, variables, Image(shape, -1.0, 1.0))
