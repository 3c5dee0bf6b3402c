"""What a classifier needs of a sound: masks on a classifier whose need is known, and a page from one command."""

from __future__ import annotations

import json

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from generator_networks import MEL, classifier, generator

import nd_jax as nd
from nd_jax.experiments import mask_class


class Places(nn.Module):
    """Class 0 is energy in frames 3 to 5, class 1 in frames 8 to 10."""

    @nn.compact
    def __call__(self, x):
        frames = x.mean(axis=(1, 3))
        return 60.0 * jnp.stack([frames[:, 3:6].mean(axis=1), frames[:, 8:11].mean(axis=1)], axis=1)


def test_the_mask_finds_the_frames_that_matter():
    network = nd.Network(Places(), {}, input=MEL)
    x = np.full(MEL.shape, 0.5, np.float32)
    x[:, 8:11] = 0.2
    settings = mask_class.Settings(width=1, steps=150)
    found = mask_class.masked(network, x, 0, settings)
    assert found.mask[3:6].min() > 0.5 and found.mask[[0, 1, 7, 8, 9, 10, 11]].max() < 0.3
    assert 0.15 < found.area < 0.5
    assert found.kept_chances[0] > 0.9 > 0.6 > found.removed_chances[0]
    assert np.mean(found.moved_chances[:, 0]) < found.kept_chances[0]
    np.testing.assert_allclose(found.kept + found.removed, x, atol=1e-5)


def test_a_page_from_generated_sounds(tmp_path, capsys, monkeypatch):
    arguments = ["--network", classifier(tmp_path), "--generator", generator(tmp_path), "--out", str(tmp_path / "page")]
    assert mask_class.main([*arguments, "--steps", "3", "--width", "3", "--sounds", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("open ")
    told = json.loads((tmp_path / "page/figures.json").read_text())
    assert told["sounds"] == len(told["rows"]) > 0
    assert all(0 < row["kept"] <= 1 for row in told["rows"])
    page = (tmp_path / "page/index.html").read_text()
    assert "removed" in page and "<audio" in page
    for name in [part.split('"')[0] for part in page.split('src="')[1:]]:
        assert (tmp_path / "page" / name).is_file(), name
    monkeypatch.setattr(mask_class, "masked", None)
    assert mask_class.main([*arguments, "--steps", "3", "--width", "3", "--sounds", "1"]) == 0, "all is kept"
    assert json.loads((tmp_path / "page/figures.json").read_text())["rows"] == told["rows"]
    monkeypatch.undo()
    assert mask_class.main([*arguments, "--width", "99"]) == 1
    assert "width must be at most 12" in capsys.readouterr().err
