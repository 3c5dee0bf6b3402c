"""The dense layer that both DCGAN families may have after the latent and before the score."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nd_jax import networks

GENERATORS = {
    "dcgan_generator": {"latent": 5, "hidden": 2},
    "mel_dcgan_generator": {"latent": 5, "start": [2, 3], "widths": [6, 4]},
}
DISCRIMINATORS = {
    "dcgan_discriminator": ({"hidden": 2, "sigmoid": False, "batch_norm": False}, (28, 28, 1)),
    "mel_dcgan_discriminator": ({"widths": [4, 6], "batch_norm": False}, (16, 24, 1)),
}


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("classes", [0, 3])
def test_the_generators_first_layer_reads_the_dense_layer(name, classes, getkey, invented):
    options = GENERATORS[name] | {"features": 7, "classes": classes, "conditioning": "batch_norm"}
    z = jax.random.normal(getkey(), (2, 5))
    given = {"z": z, "label": jnp.asarray([0, 2])} if classes else z
    variables = invented(networks.build(name, options), given)
    plain = invented(networks.build(name, options | {"features": 0}), given)
    first = "dense" if name == "dcgan_generator" else "conv1"
    assert variables["params"]["features"]["kernel"].shape == (5, 7)
    assert variables["params"][first]["kernel"].shape[-2] == 7 and plain["params"][first]["kernel"].shape[-2] == 5
    assert set(variables["params"]) == set(plain["params"]) | {"features", "norm_features"}


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_the_score_is_linear_in_the_dense_layer_and_a_class_is_projected_on_it(name, getkey, invented):
    options, shape = DISCRIMINATORS[name]
    module = networks.build(name, options | {"features": 7, "classes": 3})
    x = jax.random.normal(getkey(), (2, *shape))
    given = {"x": x, "label": jnp.asarray([1, 2])}
    variables = invented(module, given)
    found, state = module.apply(variables, given, capture_intermediates=True, mutable="intermediates")
    features = state["intermediates"]["relu_features"]["__call__"][0]
    chex.assert_shape(features, (2, 7))
    params = variables["params"]
    score = next(params[layer] for layer in ("dense", "score") if layer in params)
    plain = features @ score["kernel"] + (score["bias"][None] if "bias" in score else 0.0)
    embedding = next(part["embedding"] for part in params.values() if "embedding" in part)
    expected = plain + jnp.sum(embedding[given["label"]] * features, axis=-1, keepdims=True)
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("features", [0, 7])
def test_with_it_the_mel_discriminator_hears_the_order_of_things(features, getkey, invented):
    """The mean over places of the source does not: two halves of a sound may change places."""
    module = networks.build("mel_dcgan_discriminator", {"widths": [4], "batch_norm": False, "features": features})
    x = jnp.zeros((1, 8, 32, 1)).at[:, :, 2:14].set(jax.random.normal(getkey(), (1, 8, 12, 1)))
    x = x.at[:, :, 18:30].set(jax.random.normal(getkey(), (1, 8, 12, 1)))
    variables = invented(module, x)
    swapped = jnp.concatenate([x[:, :, 16:], x[:, :, :16]], axis=2)
    one, other = (np.asarray(module.apply(variables, given)) for given in (x, swapped))
    assert (abs(one - other) > 1e-4).all() == bool(features)
