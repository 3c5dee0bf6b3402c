"""The benchmark of dissection at tiny sizes: all sides find the same, tables reach the document."""

from __future__ import annotations

import json

import chex
import numpy as np
import pytest

import nd_jax as nd
from nd_jax.experiments import benchmark_dissect
from nd_jax.experiments.benchmarks import tables


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setattr(tables, "limit_threads", lambda threads: None)
    monkeypatch.setattr(benchmark_dissect, "limit_threads", lambda threads: None)


@pytest.mark.parametrize("name", list(nd.dissect.FUNCTIONS))
def test_all_ways_find_the_same(name):
    torch = pytest.importorskip("torch")
    from nd_jax.experiments.benchmarks import torch_similarity

    torch.set_num_threads(1)
    generator = np.random.default_rng(3)
    activations, scores = generator.normal(size=(200, 6)), generator.dirichlet(np.ones(4), 200)
    activations, scores = activations.astype(np.float32), scores.astype(np.float32)
    both = torch.from_numpy(activations), torch.from_numpy(scores)
    own, fast = (way(name)(*both).numpy() for way in (torch_similarity.own_way, torch_similarity.vectorised))
    ours = nd.dissect.similarity(activations, scores, name)
    if name == "rank_reorder":
        # Five random orders each: the units' factors differ, what concepts are to each other does not.
        ours, own, fast = (each / each[:, :1] for each in (ours, own, fast))
    chex.assert_trees_all_close(own, ours, rtol=2e-4, atol=2e-4)
    chex.assert_trees_all_close(fast, ours, rtol=2e-4, atol=2e-4)


def test_tables_reach_the_document(tmp_path, capsys, monkeypatch):
    # What PyTorch's turns find is above; here is what stands without it.
    monkeypatch.setattr(benchmark_dissect, "torch_side", lambda: None)
    parts = ("machine", "similarity", "recording")
    (tmp_path / "dissection.md").write_text("".join(f"<!-- {part} -->\nold\n<!-- /{part} -->\n" for part in parts))
    out = tmp_path / "figures.json"
    arguments = ["--tiny", "--repeats", "1", "--only", *parts[1:], "--out", str(out), "--write", str(tmp_path)]
    assert benchmark_dissect.main(arguments) == 0
    told = json.loads(out.read_text())
    assert set(told["similarity"]) == {*nd.dissect.FUNCTIONS, "together"}
    recorded = told["recording"]["AST of the published size, random weights"]
    # A block of 16, 32 and 16 units, and five classes, on 16 clips of four bytes; Zarr adds its descriptions.
    assert recorded["units"] == 69 and 69 * 16 * 4 < recorded["bytes"] < 69 * 16 * 4 + 10_000
    text = (tmp_path / "dissection.md").read_text()
    assert "old" not in text and "| rank_reorder, 40 units |" in text and "at least 80 %" in text


def test_the_peak_of_a_process_is_told(capsys):
    benchmark_dissect.peak(40, True, 0)
    told = json.loads(capsys.readouterr().out)
    assert told["activations"] == 40 * 200 * 4 and told["peak"] > 1 << 20
