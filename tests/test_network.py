"""Networks as values, and the two doors to disk: round trips, hostile folders, errors in one sentence."""

import json
import os
import shutil

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax.audio import LogMel
from nd_jax.network import digest
from nd_jax.storage import NetworkFileError


class Own(nn.Module):
    width: int = 3

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.width, name="head")(x.mean(axis=(1, 2)))


FRONT_END = {
    "kind": "log_mel",
    "transform": {"sample_rate": 8000, "n_fft": 256, "hop_length": 128, "n_mels": 16},
    "frames": 8,
}


def build(**settings):
    domain = nd.domain.LogMel(
        LogMel(sample_rate=8000, n_fft=256, hop_length=128, n_mels=16), frames=8, band_mean=jnp.linspace(0, 1, 16)
    )
    module = nd.networks.build("audio_cnn", {"heads": [["digit", 4]], "features": [4, 6], "kernels": [[3, 3]] * 2,
                                             "strides": [[2, 2]] * 2})  # fmt: skip
    variables = module.init(jax.random.key(0), jnp.zeros((1, *domain.shape)))
    given = {"labels": ["a", "b", "c", "d"], "apply_kwargs": {"train": False}, "card": {"name": "tiny"}} | settings
    return nd.Network(module, variables, input=domain, **given)


@pytest.fixture(scope="module")
def network():
    return build()


def test_call_and_output_domain(network):
    chex.assert_shape(network(jnp.zeros((3, 16, 8, 1))), (3, 4))
    assert network.output == nd.domain.Units(4)
    with pytest.raises(ValueError, match=r"input has shape \(16, 8, 1\), but this network takes \(batch, 16, 8, 1\)"):
        network(jnp.zeros((16, 8, 1)))


def test_is_a_pytree_and_traces_once(network):
    traces = []

    @jax.jit
    def run(net, x):
        traces.append(1)
        return net(x)

    x = jnp.ones((1, 16, 8, 1))
    doubled = jax.tree.map(lambda leaf: leaf * 2, network)
    assert doubled.card["name"] == "tiny"
    assert doubled.labels == network.labels
    chex.assert_trees_all_close(run(network, x), network(x), atol=1e-6)
    run(doubled, x)
    run(build(card={"name": "another"}), x)
    assert len(traces) == 1
    chex.assert_trees_all_close(doubled.input.band_mean, 2 * network.input.band_mean)


def test_wrong_labels_are_refused():
    with pytest.raises(ValueError, match="3 labels for the output, which has 4 units"):
        build(labels=["a", "b", "c"])
    with pytest.raises(ValueError, match="labels are given per part"):
        build(labels={"x": ["a"]})


def test_labels_need_a_vector():
    class TwoAxes(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3)(x)

    variables = TwoAxes().init(jax.random.key(0), jnp.zeros((1, 8, 1)))
    with pytest.raises(ValueError, match=r"labels name the units of a vector, but the network's 'output' has shape"):
        nd.Network(TwoAxes(), variables, input=nd.domain.Waveform(8, 8000), labels=list("abcdefghijklmnopqrstuvwx"))


def test_round_trip(network, tmp_path):
    folder = network.save(tmp_path / "net")
    again = nd.load(folder)
    x = jax.random.uniform(jax.random.key(1), (2, 16, 8, 1))
    chex.assert_trees_all_equal(again.variables, network.variables)
    chex.assert_trees_all_equal(again(x), network(x))
    chex.assert_trees_all_close(again.input.band_mean, network.input.band_mean)
    assert again.input == network.input
    assert again.labels == network.labels
    assert again.card["name"] == "tiny"
    assert dict(again.apply_kwargs) == {"train": False}
    assert not [name for name in os.listdir(tmp_path) if name != "net"]


def test_edits_are_saved_and_functions_refuse(network, tmp_path):
    edited = nd.taps.edited(
        network, [nd.taps.Ablate("block1/conv", [1]), nd.taps.Scale("block2/conv", [0, 2], [2.0, 3.0])]
    )
    again = nd.load(edited.save(tmp_path / "edited"))
    x = jax.random.uniform(jax.random.key(1), (2, 16, 8, 1))
    chex.assert_trees_all_close(again(x), edited(x), atol=1e-6)
    with pytest.raises(NetworkFileError, match="'block1/conv' is edited by a plain function, which cannot be saved"):
        nd.taps.edited(network, [("block1/conv", jnp.abs)]).save(tmp_path / "function")
    assert not (tmp_path / "function").exists()


def test_weights_come_back_as_they_were_saved(tmp_path):
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), build())
    again = nd.load(half.save(tmp_path / "half"))
    assert {leaf.dtype for leaf in jax.tree.leaves(again.variables)} == {jnp.dtype(jnp.bfloat16)}
    chex.assert_trees_all_equal(again.variables, half.variables)
    assert digest(again) == digest(half)


def test_a_network_without_weights_is_saved(tmp_path):
    class Mean(nn.Module):
        @nn.compact
        def __call__(self, x):
            return x.mean(axis=(1, 2))

    net = nd.Network(Mean(), {}, input=nd.domain.Image(shape=(4, 4, 2)))
    again = nd.load(net.save(tmp_path / "mean"), module=Mean())
    x = jnp.arange(32.0).reshape(1, 4, 4, 2)
    chex.assert_trees_all_equal(again(x), net(x))


def test_damaged_weights_are_noticed(network, tmp_path):
    folder = network.save(tmp_path / "net")
    other = jax.tree.map(lambda leaf: leaf + 1e-3, network).save(tmp_path / "other")
    shutil.rmtree(folder / "arrays")
    shutil.copytree(other / "arrays", folder / "arrays")
    with pytest.raises(NetworkFileError, match="are damaged"):
        nd.load(folder)


def test_collections_that_a_module_makes_anew_are_not_needed(tmp_path):
    class Sows(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Dense(3)(x)
            self.sow("losses", "l2", jnp.sum(x**2))
            return x

    variables = {"params": Sows().init(jax.random.key(0), jnp.zeros((1, 4)))["params"]}
    saved = nd.Network(Sows(), variables, input=nd.domain.Latent(4)).save(tmp_path / "sows")
    chex.assert_trees_all_equal(nd.load(saved, module=Sows()).variables, variables)


def test_own_modules_need_the_module_or_a_name(tmp_path):
    domain = nd.domain.Image((4, 4, 1))
    own = nd.Network(Own(), Own().init(jax.random.key(0), jnp.zeros((1, 4, 4, 1))), input=domain)
    own.save(tmp_path / "own")
    with pytest.raises(NetworkFileError, match=r"no family of nd_jax: pass load\(path, module=\.\.\.\)"):
        nd.load(tmp_path / "own")
    chex.assert_trees_all_equal(nd.load(tmp_path / "own", module=Own()).variables, own.variables)
    with pytest.raises(NetworkFileError, match=r"has shape \(3,\); its module expects \(5,\)"):
        nd.load(tmp_path / "own", module=Own(width=5))
    nd.networks.register("test_network_own", Own)
    own.save(tmp_path / "named")
    chex.assert_trees_all_equal(nd.load(tmp_path / "named").variables, own.variables)


def test_nothing_is_overwritten_unasked(network, tmp_path):
    network.save(tmp_path / "net")
    with pytest.raises(NetworkFileError, match="exists already; pass overwrite=True"):
        network.save(tmp_path / "net")
    network.save(tmp_path / "net", overwrite=True)
    (tmp_path / "other").mkdir()
    with pytest.raises(NetworkFileError, match="is not a network's folder, so it is not replaced"):
        network.save(tmp_path / "other", overwrite=True)


def test_names_of_shipped_networks(tmp_path):
    with pytest.raises(NetworkFileError, match="no network at .*nothing_here"):
        nd.load("checkpoints/nothing_here")
    with pytest.raises(NetworkFileError, match=r"is a folder without network\.json"):
        nd.load(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(NetworkFileError, match="is a file; a network is a folder"):
        nd.load(tmp_path / "file")


def change(folder, **values):
    path = folder / "network.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": 99}, "has format 99"),
        ({"family": "os.system"}, "unknown network family 'os.system'"),
        ({"config": {"heads": [["digit", 4]], "widths": [1]}}, "no field 'widths'"),
        ({"config": {"heads": [["digit", 2**40]]}}, "expects"),
        ({"input": {"kind": "log_mel"}}, "needs a 'transform'"),
        ({"input": {"kind": "pickle"}}, "unknown domain kind 'pickle'"),
        ({"domain_arrays": {"input": {"band_mean": [2**40]}}}, "too large for a domain"),
        ({"domain_arrays": {"input": {"band_mean": [7]}}}, "its module expects"),
        ({"labels": 5}, "labels"),
        ({"edits": [{"edit": "Exec", "layer": "x"}]}, "unknown edit 'Exec'"),
        ({"input": FRONT_END | {"frames": -3}}, "frames of a domain 'log_mel' must be a whole number"),
        ({"input": FRONT_END | {"transform": {"n_fft": 2**33}}}, "needs a 'transform'"),
        (
            {"input": FRONT_END | {"transform": FRONT_END["transform"] | {"n_fft": 2**33}}},
            "larger than any sound needs",
        ),
        (
            {"input": FRONT_END | {"transform": FRONT_END["transform"] | {"n_mels": 2**33}}},
            "larger than any sound needs",
        ),
        ({"collections": ["params", "secrets"]}, "lists the collections"),
    ],
)
def test_hostile_descriptions_give_one_sentence(network, tmp_path, values, message):
    folder = network.save(tmp_path / "net")
    change(folder, **values)
    with pytest.raises(ValueError, match=message) as raised:
        nd.load(folder)
    assert "\n" not in str(raised.value)


def test_symbolic_links_are_refused(network, tmp_path):
    folder = network.save(tmp_path / "net")
    secret = tmp_path / "secret"
    secret.write_text("host file")
    (folder / "arrays" / "extra").symlink_to(secret)
    with pytest.raises(NetworkFileError, match="is a symbolic link"):
        nd.load(folder)


def test_damaged_folders_give_one_sentence(network, tmp_path):
    folder = network.save(tmp_path / "net")
    data = [path for path in (folder / "arrays").rglob("*") if path.is_file() and path.parent.name == "d"]
    for path in data:
        path.write_bytes(b"")
    with pytest.raises(NetworkFileError, match="are damaged"):
        nd.load(folder)
    shutil.rmtree(folder / "arrays")
    with pytest.raises(NetworkFileError, match="has no folder 'arrays'"):
        nd.load(folder)
    (folder / "network.json").write_text("[" * 100_000)
    with pytest.raises(NetworkFileError, match="cannot be read"):
        nd.load(folder)
    (folder / "network.json").write_text("{")
    with pytest.raises(NetworkFileError, match="cannot be read"):
        nd.load(folder)


def test_unwritable_places_give_one_sentence(network, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(NetworkFileError, match="cannot write a network"):
        network.save(tmp_path / "file" / "net")
    assert (tmp_path / "file").read_text() == "x"


def test_numpy_variables_work(network):
    as_numpy = jax.tree.map(np.asarray, network)
    chex.assert_shape(as_numpy(np.zeros((1, 16, 8, 1), np.float32)), (1, 4))


def test_shipped_networks_keep_their_fingerprints():
    """A domain's new fields are no numbers of a network that has none: its results and manifests stay its own."""
    for name, expected in {"instrument_notes": "22eb1cd0445d7ac4", "spoken_digits": "b41809497361d0f2"}.items():
        network = nd.load(name)
        assert network.input.band_root is None
        assert digest(network) == expected
