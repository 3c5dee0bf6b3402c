"""The benchmark of training at tiny sizes: all parts run, both sides train the same networks, tables are written."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import chex
import flax.linen as nn
import jax
import pytest

from nd_jax.domain import Image
from nd_jax.experiments import benchmark_train
from nd_jax.experiments.benchmarks import gan_cases, tables
from nd_jax.training import gan


@pytest.mark.parametrize("tiny", [True, False])
@pytest.mark.parametrize("name", ["dcgan", "wgan", "wavegan", "mel"])
def test_both_sides_have_the_same_networks(name, tiny):
    torch = pytest.importorskip("torch")
    from nd_jax.experiments.benchmarks import torch_gans

    case = gan_cases.gan_cases(tiny)[name]
    theirs = torch_gans.networks(case)
    ours = [gan_cases.parameters(module, case) for module in (case.generator, case.discriminator)]
    assert ours == torch_gans.parameters(theirs)
    if tiny:
        made = theirs[0](torch.zeros(2, case.generator.latent))
        assert made.numel() == 2 * int(torch.tensor(case.domain.shape).prod())
        assert theirs[1](made).shape == (2, 1)
        torch_gans.step_of(case)()


def test_full_sizes_are_those_of_the_sources():
    cases = gan_cases.gan_cases(tiny=False)
    found = {
        name: tuple(
            gan_cases.parameters(module, cases[name]) for module in (cases[name].generator, cases[name].discriminator)
        )
        for name in ("dcgan", "wgan", "mel")
    }
    assert found == {
        "dcgan": (2_305_472, 208_832),
        "wgan": (2_305_472, 208_832),
        "mel": (15_863_619, 2_756_929),
    }


class Dots(nn.Module):
    """A latent to four dots."""

    latent: int = 3

    @nn.compact
    def __call__(self, z, train=False):
        return nn.tanh(nn.Dense(4)(z)).reshape(-1, 2, 2, 1)


class Dense(nn.Module):
    """Dots to a score."""

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(1)(x.reshape(x.shape[0], -1))


def test_parts_print_tables_and_fill_documents(tmp_path: pathlib.Path, capsys, monkeypatch):
    monkeypatch.setattr(tables, "limit_threads", lambda threads: None)
    monkeypatch.setattr(benchmark_train, "torch_side", lambda say=True: None)
    names = ("dcgan", "machine", "accelerator")
    (tmp_path / "training_speed.md").write_text("".join(f"<!-- {name} -->\nold\n<!-- /{name} -->\n" for name in names))
    settings = gan.Settings(batch_size=4, ema=0.0)
    case = gan_cases.GanCase("dots", Dots(), Dense(), Image((2, 2, 1), -1.0, 1.0), settings)
    monkeypatch.setattr(benchmark_train, "gan_cases", lambda tiny: {"dcgan": case})
    out = tmp_path / "deep" / "figures.json"
    arguments = ["--tiny", "--repeats", "1", "--only", "dcgan", "accelerator", "--out", str(out)]
    arguments += ["--write", str(tmp_path), "--trace", str(tmp_path / "trace")]
    assert benchmark_train.main(arguments) == 0
    text = (tmp_path / "training_speed.md").read_text()
    assert "old" not in text and "% of the peak" in text
    assert "compiled in" in capsys.readouterr().out
    figures = json.loads(out.read_text())
    assert figures["dcgan"]["seconds"]["nd_jax"] > 0
    assert list((tmp_path / "trace" / "dcgan").rglob("*.xplane.pb"))


def test_measures_of_one_device_and_two():
    case = gan_cases.gan_cases(True)["dcgan"]
    small = dataclasses.replace(case, settings=dataclasses.replace(case.settings, batch_size=8))
    one, two = gan_cases.Ours(small), gan_cases.Ours(small, devices=2)
    for ours in (one, two):
        ours.step()
        assert ours.memory > 0 and ours.operations > 0
    chex.assert_trees_all_close(jax.device_get(one.metrics), jax.device_get(two.metrics), rtol=1e-3, atol=1e-4)


def test_operations_are_those_of_every_update_of_the_discriminator():
    case = gan_cases.gan_cases(True)["dcgan"]
    settings = dataclasses.replace(case.settings, batch_size=8, reuse_fakes=False, same_batch=True)
    several = dataclasses.replace(settings, critic_steps=3)
    one, three = (gan_cases.Ours(dataclasses.replace(case, settings=each)) for each in (settings, several))
    assert 1.5 * one.operations < three.operations < 3 * one.operations


def test_the_page_has_a_place_for_every_part(repository: pathlib.Path):
    text = (repository / "docs" / "training_speed.md").read_text(encoding="utf-8")
    for part in ("machine", *benchmark_train.PARTS):
        assert f"<!-- {part} -->" in text and f"<!-- /{part} -->" in text, part
