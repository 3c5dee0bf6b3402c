"""The families: shapes, parameter counts, names of layers, and building from plain values."""

from __future__ import annotations

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nd_jax import networks
from nd_jax.networks.audio_cnn import AudioCNN


def _init(module, shape):
    return jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros((2, *shape))))


def _layers(module, shape):
    """{layer: output shape of one example}."""

    def run():
        x = jnp.zeros((2, *shape))
        return module.init_with_output(jax.random.key(0), x, capture_intermediates=True, mutable=True)[1][
            "intermediates"
        ]

    flat = jax.tree_util.tree_flatten_with_path(jax.eval_shape(run))[0]
    return {"/".join(part.key for part in path[:-2]): leaf.shape[1:] for path, leaf in flat}


@pytest.mark.parametrize(
    ("name", "config", "shape", "output", "parameters"),
    [
        ("cnn_mel", {}, (80, 160, 1), (4,), 1_560_964),
        ("dcgan_discriminator", {}, (28, 28, 1), (1,), 208_832),
        ("dcgan_discriminator", {"sigmoid": False, "batch_norm": False}, (28, 28, 1), (1,), 208_640),
        ("dcgan_generator", {}, (100,), (28, 28, 1), 2_305_472),
        ("lenet", {}, (28, 28, 1), (10,), 44_426),
        ("lenet", {}, (32, 32, 3), (10,), 62_006),
        ("audio_cnn", {"heads": [["digit", 10]]}, (128, 64, 1), (10,), 173_490),
    ],
)
def test_parameters_and_shapes(name, config, shape, output, parameters):
    module = networks.build(name, config)
    variables = _init(module, shape)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == parameters
    result = jax.eval_shape(module.apply, variables, jnp.zeros((3, *shape)))
    assert result.shape == (3, *output)
    assert networks.build(networks.family_of(module), networks.config_of(module)) == module


def test_layers_of_cnn_mel():
    layers = _layers(networks.build("cnn_mel", {}), (80, 160, 1))
    assert layers["stem/conv"] == (80, 160, 64)
    assert layers["block1/conv"] == (80, 160, 128)
    assert layers["block1/pool"] == layers["block1/norm"] == layers["block1/relu"] == (40, 80, 128)
    assert layers["block2/conv"] == (40, 80, 256)
    assert layers["block3/relu"] == (10, 20, 512)
    assert layers["pool"] == (512,)
    assert layers["head"] == (4,)


def test_layers_of_the_gan():
    layers = _layers(networks.build("dcgan_discriminator", {}), (28, 28, 1))
    assert layers["conv1"] == layers["norm1"] == layers["relu1"] == (12, 12, 64)
    assert layers["conv2"] == layers["norm2"] == layers["relu2"] == (4, 4, 128)
    assert layers["dense"] == layers["sigmoid"] == (1,)
    layers = _layers(networks.build("dcgan_generator", {}), (100,))
    assert (layers["conv1"], layers["conv2"], layers["conv3"]) == ((7, 7, 128), (14, 14, 64), (28, 28, 1))
    critic = _layers(networks.build("dcgan_discriminator", {"sigmoid": False, "batch_norm": False}), (28, 28, 1))
    assert not {"sigmoid", "norm1", "norm2"} & set(critic)


@pytest.mark.parametrize("whole", [False, True])
def test_a_discriminator_looks_at_the_last_three_rows_and_columns_when_it_is_asked_to(getkey, whole):
    module = networks.build("dcgan_discriminator", {"hidden": 2, "sigmoid": False, "dropout": 0.0, "whole": whole})
    x = jax.random.normal(getkey(), (1, 28, 28, 1))
    variables = module.init(getkey(), x)
    slope = np.asarray(jax.grad(lambda x: module.apply(variables, x).sum())(x))[0, :, :, 0]
    seen = 28 if whole else 25
    assert slope[:seen, :seen].all()
    assert not slope[seen:].any() and not slope[:, seen:].any()


def test_audio_cnn_heads_and_pooling(getkey):
    module = AudioCNN(
        heads=(("pitch", 5), ("family", 3)), features=(4, 6), kernels=((3, 3),) * 2, strides=((2, 2),) * 2
    )
    layers = _layers(module, (16, 8, 1))
    assert layers["block1/conv"] == layers["block1/norm"] == layers["block1/relu"] == (8, 4, 4)
    assert layers["pool"] == (4 * 6,)
    assert layers["pitch"] == (5,)
    assert _layers(module.clone(pooling="global"), (16, 8, 1))["pool"] == (6,)
    events = _layers(module.clone(pooling="events"), (16, 8, 1))
    assert events["pool"] == events["peak"] == (4 * 6,)

    module = module.clone(dropout=0.5)
    x = jax.random.uniform(getkey(), (3, 16, 8, 1))
    variables = module.init(getkey(), x)
    quiet = jax.jit(module.apply)(variables, x)
    assert {name: logits.shape for name, logits in quiet.items()} == {"pitch": (3, 5), "family": (3, 3)}
    train = jax.jit(lambda key: module.apply(variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": key}))
    noisy, updated = train(getkey())
    assert not jnp.array_equal(noisy["pitch"], quiet["pitch"])
    mean = updated["batch_stats"]["block1"]["norm"]["mean"]
    assert float(jnp.abs(mean).max()) > 0.0
    chex.assert_tree_all_finite((quiet, noisy))


def test_audio_cnn_hears_a_short_event_in_a_long_silence(getkey):
    module = AudioCNN(
        heads=(("a", 2),), features=(4,), kernels=((3, 3),), strides=((2, 2),), pooling="events", dropout=0.0
    )
    event = jax.random.uniform(getkey(), (1, 8, 6, 1))
    short, long = (jnp.pad(event, ((0, 0), (0, 0), (6, after), (0, 0))) for after in (6, 60))
    variables = module.init(getkey(), short)

    def layers(x):
        found = module.apply(variables, x, capture_intermediates=True)[1]["intermediates"]
        return {name: found[name]["__call__"][0] for name in ("pool", "peak")}

    before, after = jax.jit(layers)(short), jax.jit(layers)(long)
    chex.assert_trees_all_close(after["peak"], before["peak"], rtol=1e-5)
    chex.assert_trees_all_close(after["pool"], before["pool"] * 18 / 72, rtol=1e-4, atol=1e-6)
    assert float(before["peak"].max()) > 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": [4, 4, 4]}, "as many kernels and strides as features"),
        ({"pooling": "maximum"}, "must be 'frequency', 'global' or 'events', not 'maximum'"),
        ({"heads": []}, "at least one head"),
    ],
)
def test_audio_cnn_says_what_is_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        _init(networks.build("audio_cnn", {"heads": [["a", 2]], **change}), (16, 8, 1))


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("audio_cn", {}, "unknown network family 'audio_cn'; did you mean 'audio_cnn'"),
        ("os.system", {}, "unknown network family 'os.system'"),
        ("nd_jax.networks.dcgan.Generator", {}, "unknown network family"),
        ("audio_cnn", {}, "needs a value for its field 'heads'"),
        ("audio_cnn", {"heads": [["a", 2]], "feature": [4]}, "no field 'feature'; did you mean 'features'"),
        ("audio_cnn", {"heads": [["a", True]]}, "field 'heads' of network family 'audio_cnn' must be"),
        ("audio_cnn", {"heads": [["a", 2, 3]]}, "field 'heads' of network family 'audio_cnn' must be"),
        ("cnn_mel", {"classes": "4"}, "field 'classes' of network family 'cnn_mel' must be int, got '4'"),
        ("cnn_mel", {"name": "x"}, "no field 'name'"),
        ("cnn_mel", {"parent": None}, "no field 'parent'"),
        ("cnn_mel", [4], "is a dict, not list"),
    ],
)
def test_only_known_families_and_fields_are_built(name, config, message):
    with pytest.raises(ValueError, match=message):
        networks.build(name, config)


class Mine(nn.Module):
    units: int
    scale: float | None = None
    init: object = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(self.units)(x)


def test_a_family_of_your_own(monkeypatch):
    monkeypatch.setattr(networks, "_REGISTERED", {})
    with pytest.raises(ValueError, match="is not a registered network family"):
        networks.family_of(Mine(3))
    networks.register("mine", Mine)
    assert networks.family("mine") is Mine
    assert networks.family_of(Mine(3)) == "mine"
    assert "mine" in networks.families()
    module = Mine(3, scale=2.0)
    assert networks.config_of(module)["units"] == 3
    assert networks.build("mine", {"units": 3, "scale": 2}).scale == 2
    with pytest.raises(ValueError, match="field 'scale' of network family 'mine' must be"):
        networks.build("mine", {"units": 3, "scale": "loud"})
    with pytest.raises(ValueError, match="field 'init' of Mine is"):
        networks.config_of(Mine(3, init=lambda *_: 0))
    with pytest.raises(ValueError, match="built-in family"):
        networks.register("cnn_mel", Mine)
    with pytest.raises(ValueError, match="subclass of flax.linen.Module"):
        networks.register("other", dict)
