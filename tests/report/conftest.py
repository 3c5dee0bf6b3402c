"""A small network with hostile names, its visualization and its exemplars, made once for the tests of this folder."""

from __future__ import annotations

import flax.linen as nn
import jax
import numpy as np
import pytest

import nd_jax as nd
from nd_jax.audio import LogMel as Transform
from nd_jax.domain import LogMel

HOSTILE = "<img src=x onerror=\"document.title='pwned'\">"
CLOSING = "</script><script>document.title='pwned'</script>"


class Small(nn.Module):
    """Two convolutions and a head."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.Conv(12, (3, 3), strides=(2, 2), name="one")(x))
        x = nn.relu(nn.Conv(4, (3, 3), strides=(2, 2), name="two")(x))
        return nn.Dense(3, name="head")(x.mean((1, 2)))


@pytest.fixture(scope="session")
def domain():
    return LogMel(Transform(sample_rate=8000, n_fft=256, hop_length=128, n_mels=24, f_min=60.0), frames=32)


@pytest.fixture(scope="session")
def network(domain):
    module = Small()
    variables = module.init(jax.random.key(3), np.zeros((1, *domain.shape), np.float32))
    return nd.Network(
        module,
        variables,
        input=domain,
        labels=["bell", HOSTILE, CLOSING],
        card={
            "name": f"small {HOSTILE}",
            "task": "telling bells from noise",
            "data": CLOSING,
            "accuracy": {"top": 0.5},
        },
    )


@pytest.fixture(scope="session")
def waves(domain):
    """Twelve sounds: tones, noise, and silence at the end."""
    random = np.random.default_rng(1)
    time = np.arange(domain.samples) / domain.sample_rate
    tones = [0.3 * np.sin(2 * np.pi * pitch * time) for pitch in (150, 300, 440, 600, 900, 1200, 1800, 2400)]
    noises = [scale * random.normal(size=domain.samples) for scale in (0.05, 0.1, 0.2)]
    return np.stack([*tones, *noises, np.zeros(domain.samples)]).astype(np.float32)


@pytest.fixture(scope="session")
def result(network):
    """Twelve units of one layer, and three outputs."""
    made = [
        nd.visualize_batch(network, objective, key=jax.random.key(5), steps=6, snapshots=3, progress=False)
        for objective in (nd.objectives.channel("one"), nd.objectives.logit())
    ]
    return nd.visualize.concatenate(made)


@pytest.fixture(scope="session")
def exemplars(network, waves):
    names = [HOSTILE, CLOSING, *(f"sound {index}" for index in range(2, len(waves)))]
    return nd.dissect.exemplars(
        network, waves, layers=["one", "output"], names=names, sample_rate=8000, batch_size=5, progress=False
    )
