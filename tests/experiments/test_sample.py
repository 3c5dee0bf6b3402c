"""Samples of saved generators through the command line: files, what they hold, that only the seed decides."""

from __future__ import annotations

import json
import re
import wave

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as Pillow

import nd_jax as nd
from nd_jax import networks
from nd_jax.audio import LogMel as Transform
from nd_jax.domain import Image, Label, Latent, LogMel, Parts
from nd_jax.experiments import sample
from nd_jax.networks import dcgan

WORDS = ("zero", "one", "seven")


class TinySpeaker(nn.Module):
    """Log-mels of a class."""

    @nn.compact
    def __call__(self, given, train=False):
        mixed = jnp.concatenate([given["z"], jax.nn.one_hot(given["label"], len(WORDS))], axis=-1)
        return nn.sigmoid(nn.Dense(16 * 16)(mixed)).reshape(-1, 16, 16, 1)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """An untrained MNIST generator."""
    module = dcgan.Generator(latent=6, hidden=2)
    variables = module.init(jax.random.key(0), jnp.zeros((1, 6)))
    network = nd.Network(module, variables, input=Latent(6), output=Image((28, 28, 1), -1.0, 1.0))
    return network.save(tmp_path_factory.mktemp("networks") / "digits")


@pytest.fixture(scope="module")
def speaker(tmp_path_factory):
    """An untrained generator of sounds with three classes."""
    networks.register("tiny_speaker", TinySpeaker)
    domain = LogMel(Transform(sample_rate=4000, n_fft=128, hop_length=64, n_mels=16, f_min=60.0), frames=16)
    empty = {"z": jnp.zeros((1, 4)), "label": jnp.zeros(1, jnp.int32)}
    variables = TinySpeaker().init(jax.random.key(1), empty)
    takes = Parts({"z": Latent(4), "label": Label(WORDS)})
    network = nd.Network(TinySpeaker(), variables, input=takes, output=domain, card={"name": "Tiny speaker"})
    return network.save(tmp_path_factory.mktemp("networks") / "speaker")


def run(network, out, *more):
    return sample.main(["--network", str(network), "--out", str(out), *more])


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_sheet_of_images(digits, tmp_path, capsys):
    assert run(digits, tmp_path / "a", "--count", "5") == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "a" / "samples.png")]
    assert run(digits, tmp_path / "b", "--count", "9") == 0
    few, many = (np.load(tmp_path / place / "samples.npz") for place in "ab")
    chex.assert_shape(few["output"], (5, 28, 28, 1))
    chex.assert_trees_all_equal(few["output"], many["output"][:5])
    chex.assert_trees_all_equal(few["input"], many["input"][:5])
    network = nd.load(digits)
    chex.assert_trees_all_close(few["output"], np.asarray(network(few["input"])), atol=1e-6)
    with Pillow.open(tmp_path / "a" / "samples.png") as image:
        assert image.size[0] >= 3 * 56
    assert run(digits, tmp_path / "c", "--count", "5", "--seed", "1") == 0
    assert np.abs(np.load(tmp_path / "c" / "samples.npz")["output"] - few["output"]).max() > 0
    assert run(digits, tmp_path / "a2", "--count", "5") == 0
    assert files(tmp_path / "a") == files(tmp_path / "a2")


def test_truncation_moves_latents_to_the_middle(digits, tmp_path):
    for place, truncation in (("whole", "1.0"), ("half", "0.5")):
        assert run(digits, tmp_path / place, "--count", "2", "--truncation", truncation) == 0
    half, whole = (np.load(tmp_path / place / "samples.npz")["input"] for place in ("half", "whole"))
    chex.assert_trees_all_close(half, whole / 2)


def test_sounds_of_classes(speaker, tmp_path, capsys):
    assert run(speaker, tmp_path, "--count", "5") == 0
    assert run(speaker, tmp_path, "--count", "3", "--labels", "seven", "0") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == str(tmp_path / "index.html")
    assert re.fullmatch(
        r"3 sounds of 1 s in all made in [\d.]+ s, with compilation: [\d.]+ sounds a second, [\d.]+ times real time",
        said[-3],
    )
    assert np.load(tmp_path / "samples.npz")["input/label"].tolist() == [2, 0, 2]
    wavs = sorted(path.name for path in (tmp_path / "wav").iterdir())
    assert wavs == ["000-seven.wav", "001-zero.wav", "002-seven.wav"], "those of the first call are gone"
    domain = nd.load(speaker).output
    with wave.open(str(tmp_path / "wav" / wavs[0])) as file:
        assert (file.getframerate(), file.getnframes()) == (4000, domain.samples)
        heard = np.frombuffer(file.readframes(domain.samples), "<i2") / 32767
    made = np.asarray(domain.sound(np.load(tmp_path / "samples.npz")["output"][0]).wave)
    chex.assert_trees_all_close(heard, np.clip(made, -1, 1), atol=2e-3)
    listed = json.loads((tmp_path / "samples.json").read_text())
    assert [(one["number"], one["group"]) for one in listed["samples"]] == [(0, "seven"), (1, "zero"), (2, "seven")]
    assert listed["title"] == "Tiny speaker, seed 0"


def test_interpolation_goes_from_latent_to_latent(digits, speaker, tmp_path):
    assert run(digits, tmp_path / "way", "--interpolate", "--count", "3", "--between", "4") == 0
    assert run(digits, tmp_path / "ends", "--count", "3") == 0
    way, ends = (np.load(tmp_path / place / "samples.npz") for place in ("way", "ends"))
    chex.assert_shape(way["output"], (12, 28, 28, 1))
    chex.assert_trees_all_close(way["input"][::4], ends["input"], atol=1e-6)
    with Pillow.open(tmp_path / "way" / "interpolation.gif") as gif:
        assert gif.n_frames == 12
    assert run(speaker, tmp_path / "said", "--interpolate", "--count", "2", "--between", "2") == 0
    assert np.load(tmp_path / "said" / "samples.npz")["input/label"].tolist() == [0, 0, 1, 1]
    assert len(list((tmp_path / "said" / "wav").iterdir())) == 4


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--labels", "sevn"], "no class 'sevn'; did you mean 'seven'?"),
        (["--labels", "3"], "no class '3'; there are 'zero', 'one', 'seven' (or a number from 0 to 2"),
        (["--count", "0"], "count must be 1 or more, got 0"),
        (["--truncation", "-1"], "truncation must be 0 or more"),
        (["--interpolate", "--count", "1"], "a count of 2 or more, got 1"),
        (["--interpolate", "--between", "0"], "between must be 1 or more"),
    ],
)
def test_what_cannot_work_is_one_line(speaker, tmp_path, capsys, more, words):
    assert run(speaker, tmp_path, *more) == 1
    said = capsys.readouterr().err
    assert words in said
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_network_that_is_no_generator(digits, tmp_path, capsys):
    assert run("spoken_digits", tmp_path) == 1
    assert "spoken_digits: the network is not a generator: it takes log-mel inputs" in capsys.readouterr().err
    assert run(digits, tmp_path, "--labels", "3") == 1
    assert "this generator has no classes" in capsys.readouterr().err


def test_help_names_every_setting(capsys):
    with pytest.raises(SystemExit):
        sample.main(["--help"])
    said = capsys.readouterr().out
    for name in ("network", "count", "seed", "out", "labels", "truncation", "interpolate", "between", "columns"):
        assert f"--{name}" in said
