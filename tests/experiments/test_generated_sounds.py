"""An atlas without recordings shows samples of a generator that makes what the network takes."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import nd_jax as nd
from nd_jax.experiments import visualize
from nd_jax.experiments.configs.mel_gans import MelGan
from nd_jax.networks.dcgan import Generator as Digits
from nd_jax.networks.mel_dcgan import Generator


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    """A small generator of what the spoken-digit network takes, with two classes."""
    module = Generator(latent=3, start=(16, 16), widths=(2, 2), classes=2)
    domain = nd.domain.Parts({"z": nd.domain.Latent(3), "label": nd.domain.Label(("no", "yes"))})
    given = {"z": np.zeros((2, 3), np.float32), "label": np.zeros(2, np.int32)}
    variables = module.init(jax.random.key(0), given)
    made = nd.Network(
        module, variables, domain, MelGan("nowhere").domain, apply_kwargs={"train": False}, card={"name": "talker"}
    )
    return str(made.save(tmp_path_factory.mktemp("generator") / "talker"))


def test_samples_take_the_place_of_recordings(generator, capsys):
    network = nd.load("checkpoints/spoken_digits")
    natural, names = visualize._natural(network, visualize.Settings(generator=generator, clips=5, seed=2))
    assert natural["inputs"].shape == (5, 64, 64, 1)
    assert np.std(natural["inputs"], axis=0).max() > 0
    assert names[:2] == ["talker no (made, seed 2, 0)", "talker yes (made, seed 2, 1)"]
    assert "5 samples of the generator talker" in capsys.readouterr().out


def test_a_generator_of_something_else_is_refused(tmp_path):
    module = Digits(latent=3, hidden=1)
    variables = module.init(jax.random.key(0), np.zeros((2, 3), np.float32))
    image = nd.domain.Image((28, 28, 1), -1.0, 1.0)
    nd.Network(module, variables, nd.domain.Latent(3), image, apply_kwargs={"train": False}).save(tmp_path / "digits")
    settings = visualize.Settings(generator=str(tmp_path / "digits"))
    with pytest.raises(ValueError, match="makes image examples of shape .28, 28, 1., and the network takes log_mel"):
        visualize._natural(nd.load("checkpoints/spoken_digits"), settings)


def test_none_is_asked_for_with_an_empty_name():
    network = nd.load("checkpoints/spoken_digits")
    natural, _ = visualize._natural(network, visualize.Settings(generator="", clips=3))
    assert "waves" in natural
