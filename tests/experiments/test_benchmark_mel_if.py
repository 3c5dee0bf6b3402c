"""What mel-IF pictures lose: the table and the page, and that the figures know better from worse."""

import numpy as np
import pytest

from nd_jax.experiments import benchmark_mel_if as script


def test_the_table_and_the_page(tmp_path, capsys, monkeypatch):
    every = script.transforms
    kept = ("mel-IF", "linear IF")
    monkeypatch.setattr(script, "transforms", lambda settings: {name: every(settings)[name] for name in kept})
    short = ["--samples", "7000", "--n-fft", "256", "--count", "2", "--shown", "1"]
    assert script.main([*short, "--out", str(tmp_path)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    rows = {cells[0]: cells for cells in ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)}
    assert rows["mel-IF"][1] == "128 x 128 x 2" and len(rows) == 3
    loss = {name: float(cells[2].split()[0]) for name, cells in rows.items() if name != "picture"}
    assert loss["linear IF"] < 0.2 < loss["mel-IF"]
    page = (tmp_path / "index.html").read_text()
    assert "made, MIDI 28" in page and page.count("<audio") == 3


def test_distances_of_known_changes():
    noise = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    chosen = script._distances(noise, noise), script._distances(noise, 2 * noise)
    assert chosen[0] == pytest.approx((0.0, 0.0), abs=1e-5)
    # A factor of 2 is 6.02 dB in every cell, and all cells of noise but very few are heard.
    assert chosen[1] == pytest.approx((6.02, 6.02), abs=0.02)
    assert np.isnan(script._distances(0 * noise, noise)).all()


def test_a_split_without_sounds_is_one_sentence(tmp_path, capsys):
    assert script.main(["--count", "-1", "--out", str(tmp_path)]) == 1
    assert "count and shown must not be negative, got -1" in capsys.readouterr().err
