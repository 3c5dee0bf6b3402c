"""A tiny classifier is trained, its moments are kept, and the atlas moves a unit through them."""

from __future__ import annotations

import json

import flax.linen as nn
import jax
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import report, training
from nd_jax.domain import LogMel
from nd_jax.networks.conv import Conv


class Tiny(nn.Module):
    """One convolution and a head."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(Conv(4, (3, 3), strides=(2, 2), name="one")(x))
        return nn.Dense(2, name="head")(x.reshape(len(x), -1))


@pytest.fixture(scope="module")
def moments(domain, waves):
    """Four moments of telling tones from noises."""
    pictures = np.asarray(domain.from_wave(waves[:11]))
    module, kept = Tiny(), {}
    task = training.Task(
        train={"picture": np.tile(pictures, (4, 1, 1, 1)), "kind": np.tile(np.arange(11) > 7, 4).astype(np.int32)},
        validation=None,
        prepare=lambda key, clip: (clip["picture"], {"kind": clip["kind"]}, {}),
        present=lambda clip: clip["picture"],
        heads={"kind": 2},
        head_weights={"kind": 1.0},
    )
    settings = training.Settings(steps=24, batch_size=4, eval_every=2, learning_rate=0.01, history=4)
    training.train(module, task, settings, progress=False, keep=lambda step, found: kept.update({step: found}))
    found = []
    for step, variables in kept.items():
        network = nd.Network(module, variables, input=domain, apply_kwargs={"train": False})
        made = nd.visualize_batch(
            network,
            nd.objectives.channel("one"),
            key=jax.random.key(0),
            steps=6,
            snapshots=0,
            restarts=0,
            progress=False,
        )
        found.append(report.Moment(step, network, [made], nd.dissect.tuning(network, ["one"], tones=12)))
    return found


@pytest.fixture(scope="module")
def page_of_training(moments, tmp_path_factory):
    last = moments[-1].results[0]
    return report.atlas(last, tmp_path_factory.mktemp("training"), training=moments, title="Tiny", progress=False)


def details(index):
    data = next(index.parent.glob("atlas-*/00-one.js")).read_text()
    return json.loads(data[data.index(",") + 1 : -3])


def test_moments_are_kept_from_the_start_to_the_end(moments):
    steps = [moment.step for moment in moments]
    assert steps[0] == 0 and steps[-1] == 24 and len(steps) == 4
    kernels = [moment.network.variables["params"]["head"]["kernel"] for moment in moments]
    assert not np.allclose(kernels[0], kernels[-1])


def test_every_unit_has_pictures_tuning_and_weights_at_each(page_of_training, moments):
    data = details(page_of_training)
    assert data["training"]["steps"] == [moment.step for moment in moments]
    assert len(data["training"]["tones"]) == 12 and len(data["training"]["weights"]) == 4
    unit = data["units"]["1"]["training"]
    assert np.shape(unit["tuning"]) == (4, 12) and unit["scores"][-1] == pytest.approx(
        float(moments[-1].results[0].scores[1]), rel=1e-3
    )
    expected = moments[2].tuning.responses["one"][1]
    assert unit["tuning"][2] == pytest.approx(expected.tolist(), rel=1e-3)
    folder = next(page_of_training.parent.glob("atlas-*")) / "00-one"
    assert (folder / "1.training.png").is_file() and (folder / "training.3.png").is_file()


def test_networks_of_other_inputs_are_refused(moments, domain, tmp_path):
    other = LogMel(domain.transform, frames=domain.frames + 1)
    network = nd.Network(Tiny(), moments[0].network.variables, input=domain, apply_kwargs={"train": False})
    wrong = report.Moment(0, nd.Network.__new__(nd.Network), [])
    object.__setattr__(wrong.network, "input", other)
    with pytest.raises(ValueError, match="step 0 takes other inputs"):
        report.atlas(moments[-1].results[0], tmp_path, training=[wrong], progress=False)
    assert network.input == domain


@pytest.mark.browser
def test_the_slider_moves_picture_tuning_and_weights(driver, page_of_training, opened):
    with opened(driver, page_of_training) as page:
        page.open("#/one/1")
        page.until("document.querySelector('.course input')")
        state = """return [document.querySelector('.course [role=status]').textContent,
            document.querySelector('.course .frame').style.backgroundPosition,
            document.querySelector('.course .line path:not(.end)').getAttribute('d'),
            document.querySelector('.course .wtile').style.backgroundImage]"""
        last = page.run(state)
        assert last[0].startswith("Step 24, score")
        from selenium.webdriver.common.keys import Keys

        page.run("document.querySelector('.course input').focus()")
        page.key(Keys.HOME)
        first = page.run(state)
        assert first[0].startswith("Step 0, score")
        assert page.run("return location.hash") == "#/one/1", "the arrow keys belong to the slider"
        assert all(one != other for one, other in zip(first, last, strict=True))
        assert page.run("return document.querySelector('.course input').getAttribute('aria-valuetext')") == "step 0"
        for theme in ("dark", "light"):
            page.prefer(theme)
            page.size(390, 800)
            assert page.run("return document.documentElement.scrollWidth") <= 390
