"""The stress script's comparison sees what differs; the kills themselves are tested in tests/training."""

from __future__ import annotations

import json
import shutil

from nd_jax.experiments import stress_resume


def test_the_comparison_sees_a_log_a_state_and_a_snapshot_that_differ(tmp_path):
    stress = stress_resume.Stress(steps=20)
    calm, other = tmp_path / "calm", tmp_path / "other"
    stress_resume.train(stress, calm)
    shutil.copytree(calm, other)
    assert stress_resume.differences(stress, calm, other) == []
    lines = [json.loads(line) for line in (other / "metrics.jsonl").read_text().splitlines()]
    lines[1]["penalty"] += 1e-12
    lines[2]["seconds"] += 5.0
    (other / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines[:-1]))
    shutil.rmtree(other / "history" / "00000010")
    shutil.copytree(other / "history" / "00000015", other / "history" / "00000010")
    wrong = stress_resume.differences(stress, calm, other)
    assert "differs: the log at line 1" in wrong and "differs: the log has 4 and 3 lines" in wrong
    assert sorted(line for line in wrong if "history" in line) == [
        "differs: history/00000010/discriminator",
        "differs: history/00000010/generator",
    ]
    (other / "checkpoints" / "20").rename(other / "20")
    shutil.copytree(other / "checkpoints" / "10", other / "checkpoints" / "20")
    assert any(line.startswith("differs: state") for line in stress_resume.differences(stress, calm, other))
