"""The host loop: learns, stops early, names the step of a NaN, and goes on bit-identically after a kill."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import pathlib
import subprocess
import sys
import time

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nd_jax.training import TrainingError, classifier
from nd_jax.training.checkpoints import Checkpoints

_PROGRAM = pathlib.Path(__file__).with_name("problem.py")
_spec = importlib.util.spec_from_file_location("tiny_problem", _PROGRAM)
assert _spec is not None and _spec.loader is not None
problem = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(problem)


def _train(folder=None, *, task=problem.TASK, devices=None, **changes):
    settings = dataclasses.replace(problem.SETTINGS, **changes)
    return classifier.train(problem.Tiny(), task, settings, folder=folder, devices=devices, progress=False)


@pytest.fixture(scope="module")
def undisturbed():
    """The run that nothing interrupts."""
    return _train()


def test_it_learns_and_predicts(undisturbed):
    assert undisturbed.score > 0.7 and undisturbed.steps_done == 60
    predict = classifier.predictor(problem.Tiny(), problem.TASK.present, batch_size=32)
    logits = predict(undisturbed.variables, problem.TASK.validation)
    chex.assert_shape(logits, (60, 3))
    right = np.mean(np.argmax(logits, axis=-1) == problem.TASK.validation["third"])
    assert np.isclose(right, undisturbed.score)


def test_one_device_two_devices_and_several_steps_a_call_train_alike():
    short = {"steps": 12, "eval_every": 12, "check_replicas": True}
    one = _train(devices=jax.local_devices()[:1], **short)
    two = _train(devices=jax.local_devices()[:2], **short)
    chunked = _train(devices=jax.local_devices()[:2], steps_per_call=4, **short)
    chex.assert_trees_all_close(one.variables, two.variables, rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(one.variables, chunked.variables, rtol=1e-4, atol=1e-5)
    assert np.isclose(one.log[0]["loss"], two.log[0]["loss"], rtol=1e-5)


def test_early_stopping_keeps_the_best():
    stopped = _train(learning_rate=1e-9, patience=2)
    assert stopped.steps_done == 18 and stopped.step <= 18
    assert [line["step"] for line in stopped.log] == [6, 12, 18]


def test_without_a_validation_part_the_last_step_is_kept(tmp_path):
    task = dataclasses.replace(problem.TASK, validation=None)
    whole = _train(task=task, steps=12)
    assert whole.score is None and whole.step == whole.steps_done == 12
    # Evaluating changes nothing in what is learned, and the last of two runs' steps is the same.
    with_evaluation = _train(tmp_path / "evaluated", steps=12)
    last = Checkpoints(tmp_path / "evaluated" / "checkpoints")
    state = classifier.initial_state(
        problem.Tiny(),
        task,
        classifier.make_optimizer(dataclasses.replace(problem.SETTINGS, steps=12)),
        problem.SETTINGS,
    )
    found = last.restore({"state": state, "best": with_evaluation.variables})
    last.close()
    chex.assert_trees_all_equal(found.arrays["state"]["params"], whole.variables["params"])
    assert json.loads(json.dumps(whole.log))[-1]["validation"] is None


def test_nan_stops_and_names_the_step():
    def prepare(key, example):
        x, labels, weights = problem.TASK.prepare(key, example)
        return jnp.where(example["bad"], jnp.nan, x), labels, weights

    bad = np.zeros(96, bool)
    bad[17] = True
    task = dataclasses.replace(problem.TASK, train={**problem.TASK.train, "bad": bad}, prepare=prepare)
    task = dataclasses.replace(task, validation={**task.validation, "bad": np.zeros(60, bool)})
    with pytest.raises(TrainingError, match="loss is nan at step [1-6];"):
        _train(task=task)


def test_goes_on_where_it_was_and_ends_bit_identical(tmp_path, undisturbed, monkeypatch):
    save, saved = Checkpoints.save, []

    def dies_after_two(self, step, arrays, notes):
        save(self, step, arrays, notes)
        saved.append(step)
        if len(saved) in (2, 5):
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", dies_after_two)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            _train(tmp_path)
    ended = _train(tmp_path)
    assert saved == [6 * count for count in range(1, 11)]
    chex.assert_trees_all_equal(ended.variables, undisturbed.variables)
    assert ended.log == undisturbed.log
    written = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert written == undisturbed.log
    again = _train(tmp_path)
    chex.assert_trees_all_equal(again.variables, ended.variables)
    with pytest.raises(ValueError, match=r"holds a run with learning_rate = 0.03, and learning_rate is 0.1 now"):
        _train(tmp_path, learning_rate=0.1)


def test_sigkill_and_resume_ends_bit_identical(tmp_path, undisturbed):
    folder = tmp_path / "run"

    def steps() -> int:
        log = folder / "metrics.jsonl"
        return len(log.read_text().splitlines()) if log.exists() else 0

    for wanted in (2, 5):
        with subprocess.Popen([sys.executable, str(_PROGRAM), str(folder)]) as running:
            limit = time.monotonic() + 120
            while steps() < wanted and running.poll() is None and time.monotonic() < limit:
                time.sleep(0.002)
            running.kill()
        assert steps() >= wanted
    ended = _train(folder)
    chex.assert_trees_all_equal(ended.variables, undisturbed.variables)
    assert ended.log == undisturbed.log


def test_patience_needs_a_validation_part():
    with pytest.raises(ValueError, match="patience 2 needs a validation part to wait for, and this task has none"):
        _train(task=dataclasses.replace(problem.TASK, validation=None), patience=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 98}, "batch_size 98 is more than the 96 examples"),
        ({"batch_size": 15}, "batch_size 15 cannot be divided evenly"),
        ({"steps": 0}, "steps must be positive, not 0"),
        ({"patience": -1}, "patience must not be negative, and is -1"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        _train(**changes)
