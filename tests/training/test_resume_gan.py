"""A GAN's training that is killed, stopped or moved to other devices goes on as if nothing had happened."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import chex
import gan_problem
import jax
import numpy as np
import pytest

from nd_jax.training import gan, hosts
from nd_jax.training.checkpoints import CheckpointError, Checkpoints
from nd_jax.training.gan import record
from nd_jax.training.gan.state import initial_state

_PROGRAM = pathlib.Path(gan_problem.__file__)


def _train(folder, settings=gan_problem.SETTINGS, **options):
    return gan.train(
        gan_problem.Maker(),
        gan_problem.Judge(),
        gan_problem.make_task(),
        settings,
        folder=folder,
        progress=False,
        **options,
    )


def _state(folder, settings=gan_problem.SETTINGS):
    like = initial_state(gan_problem.Maker(), gan_problem.Judge(), gan_problem.make_task(), settings)
    with Checkpoints(folder / "checkpoints") as checkpoints:
        found = checkpoints.restore(like)
    assert found is not None
    return found.step, found.arrays


def _untimed(lines):
    return [{name: line[name] for name in line if name not in ("seconds", "examples_per_second")} for line in lines]


def _written(folder):
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The run that nothing interrupts: its folder and its log."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, _untimed(_train(folder).log)


def _ends_like(folder, undisturbed):
    calm, log = undisturbed
    ended = _train(folder)
    chex.assert_trees_all_equal(_state(folder), _state(calm))
    assert _untimed(ended.log) == log == _untimed(_written(folder))
    history = [sorted(str(path.relative_to(of)) for path in of.glob("history/*/*")) for of in (folder, calm)]
    assert history[0] == history[1] and len(history[0]) == 8


def test_two_kills_and_it_ends_bit_identical(tmp_path, undisturbed):
    folder = tmp_path / "run"
    rng = random.Random(os.urandom(8))
    for _ in range(2):
        before = len(_written(folder))
        with subprocess.Popen([sys.executable, str(_PROGRAM), str(folder)]) as running:
            limit = time.monotonic() + 120
            while len(_written(folder)) == before and running.poll() is None and time.monotonic() < limit:
                time.sleep(0.002)
            time.sleep(rng.uniform(0.0, 0.15))
            running.kill()
        assert len(_written(folder)) > before, "killed before it had done anything"
    _ends_like(folder, undisturbed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_after_the_step_and_nothing_is_lost(number, tmp_path, undisturbed, monkeypatch):
    given = []
    add = record.Window.add

    def add_and_signal(window, metrics):
        add(window, metrics)
        given.append(number)
        if len(given) == 8:  # in the middle of a line of the log and far from a checkpoint
            signal.raise_signal(number)

    handlers = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    monkeypatch.setattr(record.Window, "add", add_and_signal)
    with pytest.raises(hosts.Stopped, match=rf"after step 8, saved in {tmp_path}: the same command goes on"):
        _train(tmp_path)
    assert len(given) == 8 and [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert _state(tmp_path)[0] == 8 and [line["step"] for line in _written(tmp_path)] == [3, 6]
    _ends_like(tmp_path, undisturbed)


@pytest.mark.usefixtures("interrupts")
def test_without_a_folder_signals_mean_what_they_always_do():
    with hosts.stop_on_signals(active=False) as stopping:
        assert not stopping()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), hosts.stop_on_signals() as stopping:
        signal.raise_signal(signal.SIGINT)
        assert stopping()
        signal.raise_signal(signal.SIGINT)  # whoever asks twice does not want to wait


def test_it_goes_on_on_another_number_of_devices(tmp_path):
    first, all_devices = jax.local_devices()[:1], jax.local_devices()[:2]
    if len(all_devices) < 2:
        pytest.skip("needs two devices")
    steps = [dataclasses.replace(gan_problem.SETTINGS, steps=count, schedule="constant") for count in (6, 12, 18)]
    whole = _train(None, steps[2], devices=first)
    for settings, devices in zip(steps, (all_devices, first, all_devices), strict=True):
        moved = _train(tmp_path, settings, devices=devices)
    assert moved.step == 18 and [line["step"] for line in moved.log] == [3, 6, 9, 12, 15, 18]
    chex.assert_trees_all_close(moved.generator.variables, whole.generator.variables, rtol=1e-3, atol=1e-4)
    chex.assert_trees_all_close(moved.discriminator.variables, whole.discriminator.variables, rtol=1e-3, atol=1e-4)
    losses = [[line["discriminator_loss"] for line in run.log] for run in (moved, whole)]
    assert np.allclose(*losses, rtol=1e-3)


def test_a_damaged_last_checkpoint_costs_only_its_own_steps(tmp_path, undisturbed):
    shutil.copytree(undisturbed[0], tmp_path, dirs_exist_ok=True)
    arrays = tmp_path / "checkpoints" / "60" / "arrays"
    for path in [path for path in arrays.rglob("*") if path.is_file()]:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(
        UserWarning, match=r"step 60 .* damaged.*it is now damaged-60, .* from the checkpoint of step 54"
    ):
        ended = _train(tmp_path)
    assert _untimed(ended.log) == undisturbed[1]
    chex.assert_trees_all_equal(_state(tmp_path), _state(undisturbed[0]))
    assert (tmp_path / "checkpoints" / "damaged-60").is_dir()


def test_a_full_disk_ends_the_run_in_one_sentence_and_it_goes_on_when_there_is_room(tmp_path, undisturbed):
    save, saved = Checkpoints._write, []

    class Full:
        def __getattr__(self, name):
            raise OSError(28, "No space left on device")

    def full(self, step, arrays, notes):
        saved.append(step)
        if len(saved) == 4:
            manager, self._manager = self._manager, Full()
            try:
                return save(self, step, arrays, notes)
            finally:
                self._manager = manager
        return save(self, step, arrays, notes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "_write", full)
        with pytest.raises(
            CheckpointError, match=r"step 24 cannot be written .*: no space left on device; .* step 18 is"
        ):
            _train(tmp_path)
    assert _state(tmp_path)[0] == 18
    _ends_like(tmp_path, undisturbed)
