"""The benchmark of GANSynth at tiny sizes: both sides are the same networks, tables reach the document."""

from __future__ import annotations

import importlib.util
import json
import pathlib

import numpy as np
import pytest

from nd_jax.experiments import benchmark_gansynth
from nd_jax.experiments.benchmarks import tables
from nd_jax.experiments.benchmarks.gansynth_cases import gansynth_cases


@pytest.fixture(scope="module")
def case():
    return gansynth_cases(tiny=True)["small"]


def test_another_network_is_noticed():
    ours = {"kernel": np.array([2.0, -4.0]), "unused": np.zeros(2)}
    assert benchmark_gansynth._apart(ours, {"kernel": np.array([2.0, -3.99])}) == {
        "kernel": pytest.approx(0.0025),
        "unused": 0.0,
    }
    with pytest.raises(ValueError, match="not the same network: kernel is 1.0e\\+00 apart"):
        benchmark_gansynth._apart(ours, {})


def test_parts_print_tables_and_fill_the_document(tmp_path, capsys, monkeypatch, case):
    monkeypatch.setattr(tables, "limit_threads", lambda threads: None)
    monkeypatch.setattr(benchmark_gansynth, "gansynth_cases", lambda tiny: {"small": case})
    names = ("machine", "small", "small_step")
    (tmp_path / "gansynth.md").write_text("".join(f"<!-- {name} -->\nold\n<!-- /{name} -->\n" for name in names))
    out = tmp_path / "figures.json"
    arguments = ["--tiny", "--repeats", "1", "--only", *names[1:], "--out", str(out), "--write", str(tmp_path)]
    assert benchmark_gansynth.main(arguments) == 0
    text = (tmp_path / "gansynth.md").read_text()
    assert "old" not in text and "| nd_jax, from latents to sound |" in text
    assert "x real time" in capsys.readouterr().out
    figures = json.loads(out.read_text())
    sounding = case.transform.samples / case.transform.sample_rate
    sampled = figures["small"]["sound"]
    assert sampled["real_time"] == pytest.approx(sampled["notes_per_second"] * sounding)
    assert figures["small_step"]["seconds"]["nd_jax"] > 0
    if importlib.util.find_spec("torch"):
        assert len(figures["small_step"]["apart"]) == 2 and max(figures["small_step"]["apart"]) < 1e-3
        assert figures["small_step"]["seconds"]["PyTorch"] > 0 and figures["small"]["torch sound"]["real_time"] > 0


def test_the_full_sizes_are_those_of_the_recipes_and_the_page_has_their_places(repository: pathlib.Path):
    cases = gansynth_cases(tiny=False)
    assert cases["official"].transform.shape == (128, 1024, 2) and cases["official"].generator.fmap_max == 256
    assert cases["small"].transform.shape == (64, 512, 2) and cases["small"].generator.classes == 37
    text = (repository / "docs" / "gansynth.md").read_text(encoding="utf-8")
    for part in ("machine", *cases, *(f"{name}_step" for name in cases)):
        assert f"<!-- {part} -->" in text and f"<!-- /{part} -->" in text, part
