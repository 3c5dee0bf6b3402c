"""The benchmark of generator priors at tiny sizes: both sides climb the same function, tables reach documents."""

from __future__ import annotations

import json

import chex
import numpy as np
import pytest

from nd_jax.experiments import benchmark_priors
from nd_jax.experiments.benchmarks import tables
from nd_jax.experiments.benchmarks.prior_cases import prior_cases


@pytest.mark.parametrize("name", ["mnist", "digits"])
def test_every_contender_finds_the_same(name):
    torch = pytest.importorskip("torch")
    from nd_jax.experiments.benchmarks import torch_priors

    torch.set_num_threads(1)
    case = prior_cases(tiny=True)[name]
    ours = case.run().scores
    pair = torch_priors.Pair(case.generator, case.network)
    given = case.starts()
    chex.assert_trees_all_close(torch_priors.batched(pair, *given, steps=case.steps), ours, rtol=2e-4, atol=2e-3)
    few = tuple(each[:2] for each in given)
    chex.assert_trees_all_close(
        torch_priors.one_at_a_time(pair, *few, steps=case.steps), ours[:2], rtol=2e-4, atol=2e-3
    )
    chex.assert_trees_all_close(torch_priors.source_loop(pair, *few, steps=case.steps), ours[:2], rtol=2e-4, atol=2e-3)
    begin = torch_priors.batched(pair, *given, steps=0)
    assert np.abs(ours - begin).max() > 0.05, "nothing moved: the comparison says nothing"


def test_tables_reach_the_document(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tables, "limit_threads", lambda threads: None)
    (tmp_path / "generator_priors.md").write_text(
        "".join(f"<!-- {n} -->\nold\n<!-- /{n} -->\n" for n in ("machine", "mnist"))
    )
    out = tmp_path / "figures.json"
    arguments = ["--tiny", "--repeats", "1", "--only", "mnist", "--out", str(out), "--write", str(tmp_path)]
    assert benchmark_priors.main(arguments) == 0
    told = json.loads(out.read_text())["mnist"]
    assert told["lanes"] == 10 and told["operations"] > 1e6
    text = (tmp_path / "generator_priors.md").read_text()
    assert "old" not in text and "| nd_jax |" in text and text.splitlines()[-2] in capsys.readouterr().out
