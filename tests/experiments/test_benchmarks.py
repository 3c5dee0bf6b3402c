"""The benchmark of visualize_batch at tiny sizes: all parts run, both sides find the same, tables reach documents."""

from __future__ import annotations

import json
import math
import pathlib

import chex
import jax
import numpy as np
import pytest

from nd_jax import runtime
from nd_jax.experiments import benchmark_visualize
from nd_jax.experiments.benchmarks import accelerator, cases, scale, tables, whole

CASES = {
    "discriminator": cases.discriminator_case(tiny=True),
    "mel": cases.mel_case(tiny=True),
    "googlenet": cases.googlenet_case(tiny=True),
    "digits, first": whole.whole_cases(tiny=True)[0],
    "digits, last": whole.whole_cases(tiny=True)[1],
    "transformer": accelerator.accelerator_cases(tiny=True)["AST block2/mlp/hidden"],
}


@pytest.mark.parametrize("name", CASES)
def test_every_contender_finds_the_same(name):
    torch = pytest.importorskip("torch")
    from nd_jax.experiments.benchmarks import torch_peers

    torch.set_num_threads(1)
    case = CASES[name]
    ours = case.run().scores
    recipe, starts = torch_peers.Recipe(**case.recipe), case.starts()
    ways = {
        "discriminator": ["source_loop", "usual_loop", "batched"],
        "mel": ["usual_loop", "batched"],
        "transformer": ["batched"],
        "googlenet": ["batched"],
        "digits, first": ["usual_loop", "batched"],
        "digits, last": ["usual_loop", "batched"],
    }[name]
    if case.recipe["sums"]:
        # That loop clears the gradient; only the source's own and the batch add them up.
        ways.remove("usual_loop")
    for way in ways:
        twin = torch_peers.network(case.network.module, case.network.variables)
        theirs = getattr(torch_peers, way)(twin, case.layer, case.units, starts, case.steps, recipe)
        chex.assert_trees_all_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(np.abs(ours).max()))
    begin = case.run(steps=0).scores
    moved = np.abs(ours - begin) > 1e-3 * np.abs(begin)
    # Behind a ReLU some units of a random network are silent.
    assert moved.mean() > 0.7 if name == "googlenet" else moved.all(), "nothing moved: the comparison says nothing"


def test_parts_print_tables_and_fill_documents(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tables, "limit_threads", lambda threads: None)
    names = ("import", "machine", "discriminator")
    document = "".join(f"<!-- {name} -->\nold\n<!-- /{name} -->\n" for name in names)
    (tmp_path / "speed.md").write_text(document)
    out = tmp_path / "deep" / "figures.json"
    arguments = ["--tiny", "--repeats", "1", "--only", "import", "discriminator", "--out", str(out)]
    assert benchmark_visualize.main([*arguments, "--write", str(tmp_path)]) == 0
    text = (tmp_path / "speed.md").read_text()
    assert "old" not in text
    printed = capsys.readouterr().out
    for line in text.splitlines():
        assert line.startswith("<!--") or line in printed
    figures = json.loads(out.read_text())
    assert figures["discriminator"]["seconds"]["nd_jax"] > 0 and figures["machine"]["jax"] == jax.__version__
    assert 0 < figures["import"]["seconds"] < 60


def test_without_torch_only_its_rows_are_missing(monkeypatch, capsys):
    def refuse(module, extra):
        raise runtime.MissingExtraError(f"{module} is needed here and is not installed: pip install 'nd_jax[{extra}]'")

    monkeypatch.setattr(runtime, "require", refuse)
    section = benchmark_visualize.discriminator(benchmark_visualize.Config(tiny=True, repeats=1))
    assert [row.what for row in section.rows] == ["nd_jax"]
    assert "PyTorch rows left out: torch is needed here" in capsys.readouterr().out


@pytest.mark.slow
def test_scale_in_processes_of_their_own(tmp_path):
    figures = scale.sweep(tiny=True).figures
    assert [item["layer"] for item in figures["layers"]] == ["pitch", "family"]
    assert figures["peak"] >= figures["idle"] > 0
    assert all(item["memory_bytes"] > 0 and item["seconds"] > 0 for item in figures["layers"])
    curves = scale.growth(tiny=True).figures["curves"]
    assert set(curves) == {1, 2} and curves[2]["devices"] == 2
    assert all(rate > 0 for curve in curves.values() for rate in curve["units_per_second"])
    scale.plot_growth({"curves": curves}, tmp_path / "images" / "plot.png")
    assert (tmp_path / "images" / "plot.png").stat().st_size > 1000
    rows = scale.chunks(tiny=True).figures["sizes"]
    assert [row["wish"] for row in rows] == [8, 16, None]
    assert rows[0]["memory_bytes"] < rows[1]["memory_bytes"]


def test_accelerator_part_runs_without_one():
    section = accelerator.accelerator(tiny=True, repeats=1)
    assert {"DCGAN discriminator conv2", "CNN-mel block2/conv", "AST block2/mlp/hidden"} < set(section.figures)
    assert section.figures["peak"] > 0
    section = accelerator.accelerator(tiny=False, repeats=1)
    assert section.rows[0].what == "not measured"


def test_operations_of_the_published_transformer():
    """Counted by hand for the patches, the first block, and the second as far as its hidden layer."""
    network = cases.random_network("ast", (128, 1024, 1), 0.0, {"blocks": 2})
    tokens, width, hidden = 1214, 768, 3072
    patches = 2 * 256 * width * 12 * 101
    attention = 2 * tokens * 4 * width * width + 2 * 2 * tokens * tokens * width
    mlp = 2 * 2 * tokens * width * hidden
    wanted = 2 * (patches + 2 * attention + mlp + mlp // 2)
    assert accelerator.operations(network, "block2/mlp/hidden") == wanted


def test_tables_say_whether_goals_are_met(tmp_path):
    rows = (tables.Row("a", "1 s", "under 2 s", True), tables.Row("b", "3 s", "under 2 s", False), tables.Row("c", "4"))
    text = tables.Section("Title", rows, {}, "Note.").markdown()
    assert text.splitlines()[4:7] == [
        "| a | 1 s | under 2 s | yes |",
        "| b | 3 s | under 2 s | **no** |",
        "| c | 4 |  |  |",
    ]
    assert text.endswith("\n\nNote.")
    document = tmp_path / "page.md"
    document.write_text("<!-- x -->\n<!-- /x -->\n")
    tables.write_blocks(document, {"x": r"back\slash"})
    assert document.read_text() == "<!-- x -->\nback\\slash\n<!-- /x -->\n"
    with pytest.raises(ValueError, match="has no <!-- y -->"):
        tables.write_blocks(document, {"y": "text"})


def test_medians_of_turns(monkeypatch):
    clock = iter([0.0, 1.0, 1.0, 11.0, 11.0, 16.0, 16.0, 18.0, 18.0, 20.0, 20.0, 23.0])
    monkeypatch.setattr(tables.time, "perf_counter", lambda: next(clock))
    order = []
    found = tables.race({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert order == ["a", "b"] * 3
    assert math.isclose(found["a"], 2.0) and math.isclose(found["b"], 3.0)


def test_the_page_has_a_place_for_every_part(repository: pathlib.Path):
    text = (repository / "docs" / "speed.md").read_text(encoding="utf-8")
    for part in ("machine", *benchmark_visualize.PARTS):
        assert f"<!-- {part} -->" in text and f"<!-- /{part} -->" in text, part


def test_whole_network_with_and_without_the_active_set():
    section = whole.digits(tiny=True, repeats=1)
    told = [row.what for row in section.rows]
    assert told[0].startswith("nd_jax") and any("active set" in what for what in told)
    assert section.figures["units"] == 4
    assert section.figures["steps_done"]["off"] == 16 >= section.figures["steps_done"]["on"] > 0
