"""The log of a training as files: read back, rewritten, gone on with, refused by the disk."""

from __future__ import annotations

import csv
import json
import struct
import subprocess
import sys

import numpy as np
import pytest

from nd_jax.runtime import MissingExtraError
from nd_jax.training import metrics_files
from nd_jax.training.checkpoints import CheckpointError


def log(*steps):
    return [{"step": step, "loss": step / 8, "scores": {"real": 0.5, "fake": -step}} for step in steps]


def scalars(folder):
    """Every event of every file in order, read with a parser of its own: (tag, step, value)."""
    pytest.importorskip("tensorboardX")
    from tensorboardX.crc32c import crc32c
    from tensorboardX.proto.event_pb2 import Event

    def masked(data):
        found = crc32c(data)
        return (((found >> 15) | (found << 17)) + 0xA282EAD8) & 0xFFFFFFFF

    found = []
    for path in sorted((folder / "tensorboard").iterdir()):
        content = path.read_bytes()
        while content:
            head, (check,) = content[:8], struct.unpack("<I", content[8:12])
            assert masked(head) == check
            (length,) = struct.unpack("<Q", head)
            if len(content) < length + 16:
                break
            body, (check,) = content[12 : 12 + length], struct.unpack("<I", content[12 + length : 16 + length])
            assert masked(body) == check
            event = Event.FromString(body)
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            content = content[16 + length :]
    return found


@pytest.fixture
def board(tmp_path):
    pytest.importorskip("tensorboardX")
    yield tmp_path
    metrics_files.close(tmp_path)


def test_both_files_hold_every_line(tmp_path):
    lines = [
        {"step": 1, "loss": 0.5, "scores": {"real": np.float32(0.25)}},
        {"step": np.int64(2), "loss": float("nan"), "judge": [1, 2], "word": 'a "b", c'},
    ]
    metrics_files.write(tmp_path, lines)
    read = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert read == [
        {"step": 1, "loss": 0.5, "scores": {"real": 0.25}},
        {"step": 2, "loss": None, "judge": [1, 2], "word": 'a "b", c'},
    ]
    with open(tmp_path / "metrics.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    assert list(rows[0]) == ["step", "loss", "scores/real", "judge", "word"]
    assert rows[0] == {"step": "1", "loss": "0.5", "scores/real": "0.25", "judge": "", "word": ""}
    assert rows[1] == {"step": "2", "loss": "", "scores/real": "", "judge": "[1, 2]", "word": 'a "b", c'}


def test_each_call_rewrites_the_whole_and_leaves_no_draft(tmp_path):
    metrics_files.write(tmp_path, log(1, 2, 3))
    metrics_files.write(tmp_path, log(1, 2))
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.csv", "metrics.jsonl"]
    metrics_files.write(tmp_path, [])
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_tensorboard_gets_each_step_once(board):
    metrics_files.write(board, log(10), tensorboard=True)
    metrics_files.write(board, log(10, 20), tensorboard=True)
    metrics_files.write(board, log(10, 20), tensorboard=True)
    expected = [
        ("loss", 10, 1.25),
        ("scores/real", 10, 0.5),
        ("scores/fake", 10, -10.0),
        ("loss", 20, 2.5),
        ("scores/real", 20, 0.5),
        ("scores/fake", 20, -20.0),
    ]
    assert scalars(board) == expected
    assert len(list((board / "tensorboard").iterdir())) == 1


def test_a_killed_run_that_goes_on_writes_no_step_twice(board):
    """Its last record is cut in the middle, and it went past the checkpoint that the next process starts from."""
    metrics_files.write(board, log(10, 20, 30, 40), tensorboard=True)
    metrics_files.close(board)
    (file,) = (board / "tensorboard").iterdir()
    file.write_bytes(file.read_bytes()[:-9])
    metrics_files.write(board, log(10, 20, 30), tensorboard=True)
    assert len(list((board / "tensorboard").iterdir())) == 1, "no file without a new step"
    for last in (40, 50):
        metrics_files.write(board, log(*range(10, last + 1, 10)), tensorboard=True)
    steps = [step for tag, step, _ in scalars(board) if tag == "loss"]
    assert steps == [10, 20, 30, 40, 50]
    assert len(list((board / "tensorboard").iterdir())) == 2


def test_tensorboards_own_reader_agrees(board):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    metrics_files.write(board, log(10, 20), tensorboard=True)
    found = reader.EventAccumulator(str(board / "tensorboard"))
    found.Reload()
    assert sorted(found.Tags()["scalars"]) == ["loss", "scores/fake", "scores/real"]
    assert [(event.step, event.value) for event in found.Scalars("scores/fake")] == [(10, -10.0), (20, -20.0)]


def test_what_the_disk_refuses_is_one_sentence_and_keeps_the_log(tmp_path, monkeypatch):
    metrics_files.write(tmp_path, log(1))
    before = (tmp_path / "metrics.jsonl").read_text()

    def full(self, text, **_):
        with open(self, "w") as file:
            file.write(text[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(CheckpointError) as caught:
        metrics_files.write(tmp_path, log(1, 2))
    assert str(caught.value) == f"the log of step 2 cannot be written to {tmp_path}: No space left on device"
    assert (tmp_path / "metrics.jsonl").read_text() == before
    assert not list(tmp_path.glob("*.draft"))
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="No such file or directory"):
        metrics_files.write(tmp_path / "gone", log(1))


def test_tensorboard_is_imported_where_it_is_used(tmp_path, monkeypatch):
    code = "import sys, nd_jax.training.metrics_files; print([name for name in sys.modules if 'tensorboard' in name])"
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
    monkeypatch.setitem(sys.modules, "tensorboardX.proto.event_pb2", None)
    with pytest.raises(MissingExtraError, match=r"nd_jax\[tensorboard\]"):
        metrics_files.write(tmp_path, log(1), tensorboard=True)
