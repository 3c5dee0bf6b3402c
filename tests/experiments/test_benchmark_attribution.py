"""The benchmark of occlusion at tiny sizes: both sides find the same maps, tables reach the document."""

from __future__ import annotations

import io
import json

import chex
import numpy as np
import pytest

from nd_jax.experiments import benchmark_attribution
from nd_jax.experiments.benchmarks import attribution_cases, tables


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setattr(tables, "limit_threads", lambda threads: None)
    monkeypatch.setattr(attribution_cases, "BATCHES", (8,))


def test_captum_finds_the_same():
    torch = pytest.importorskip("torch")
    pytest.importorskip("captum")
    from nd_jax.experiments.benchmarks.torch_attribution import captum

    torch.set_num_threads(1)
    case = attribution_cases.cases(tiny=True)["many"]
    assert case.operations < 100e6
    found = captum(case)["captum"]()
    assert found.shape == case.x.shape
    ours = attribution_cases.ours(case)
    chex.assert_trees_all_close(ours["plain"](), found, atol=1e-4)
    assert np.abs(found).max() > 0.01, "nothing was taken away: the comparison says nothing"


def test_tables_reach_the_document(tmp_path, capsys, monkeypatch):
    # Captum's turns are measured above; here is what stands without it.
    monkeypatch.setattr(benchmark_attribution, "has_captum", lambda: False)
    (tmp_path / "attribution.md").write_text("".join(f"<!-- {n} -->\nold\n<!-- /{n} -->\n" for n in ("machine", "one")))
    out = tmp_path / "figures.json"
    arguments = ["--tiny", "--repeats", "1", "--only", "one", "--out", str(out), "--write", str(tmp_path)]
    assert benchmark_attribution.main(arguments) == 0
    told = json.loads(out.read_text())["one"]
    assert told["windows"] == 16 and told["apart"]["recomputed"] < 1e-5
    text = (tmp_path / "attribution.md").read_text()
    assert "old" not in text and "| nd_jax, whole passes |" in text
    assert "| largest difference of the maps, whole passes and what a window reaches |" in capsys.readouterr().out


def test_a_side_answers_until_there_are_no_more_requests(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO('{}\n{"peak": true}\n'))
    benchmark_attribution.serve("ours", "one", True, 1)
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["runs"] == ["forward 8", "plain", "recomputed"]
    assert second["peak"] > 1 << 20
