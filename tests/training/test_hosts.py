"""Several processes on one machine: the same training as one; one writes; signals and failures end all of them."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import chex
import hosts_problem
import jax
import numpy as np
import pytest

from nd_jax.training import hosts

_PROGRAM = pathlib.Path(hosts_problem.__file__)
_LIMIT = 150.0


def _address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


class Processes:
    """Two processes with one device each, killed at the latest after a time limit (SIGTERM would not end them)."""

    def __init__(self, folders, *options):
        address = _address()
        environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1"}
        self.running = [
            subprocess.Popen(
                [sys.executable, str(_PROGRAM), address, "2", str(index), *map(str, folders), *options],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for index in range(2)
        ]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for one in self.running:
            one.kill()
            one.communicate()

    def ended(self):
        """(status, stdout, stderr) of each."""
        limit = time.monotonic() + _LIMIT
        said = []
        for one in self.running:
            try:
                output, errors = one.communicate(timeout=max(0.1, limit - time.monotonic()))
            except subprocess.TimeoutExpired:
                pytest.fail(f"a process had not ended after {_LIMIT:.0f} s")
            said.append((one.returncode, output, errors))
        return said


def _result(said):
    status, output, errors = said
    assert status == 0, errors
    found = json.loads(output.strip().splitlines()[-1])
    return {name: np.asarray(leaf, np.float32) for name, leaf in found["arrays"].items()}, found["log"]


def _close(one, other):
    arrays, log = one
    chex.assert_trees_all_equal_structs(arrays, other[0])
    for name, leaf in arrays.items():
        error = np.linalg.norm(leaf - other[0][name]) / max(float(np.linalg.norm(leaf)), 1e-3)
        assert error < 1e-4, (name, error)
    for line, also in zip(log, other[1], strict=True):
        assert line["step"] == also["step"] and line.keys() == also.keys()
        for name, value in line.items():
            assert np.isclose(value, also[name], rtol=1e-4, atol=1e-5), (line["step"], name)


def test_two_processes_train_like_one_with_two_devices_and_like_one_with_one(tmp_path):
    with Processes([tmp_path / "first", tmp_path / "second"]) as processes:
        two = hosts_problem.train(devices=jax.local_devices()[:2])
        one = hosts_problem.train(devices=jax.local_devices()[:1])
        first, second = (_result(said) for said in processes.ended())
    chex.assert_trees_all_equal(first, second)  # also the figure of the watcher, which only the first asked
    _close(first, two)
    _close(first, one)
    assert [line["step"] for line in first[1]] == [5, 10, 15, 20] and "figure" in first[1][-1]
    # Only the first process wrote.
    assert not (tmp_path / "second").exists()
    assert {path.name for path in (tmp_path / "first").iterdir()} >= {"checkpoints", "history", "metrics.jsonl"}


def test_a_signal_to_one_process_stops_both_after_the_same_step(tmp_path):
    with Processes([tmp_path / "first", tmp_path / "second"], "--long") as processes:
        limit = time.monotonic() + _LIMIT
        while not (tmp_path / "first" / "metrics.jsonl").exists() and time.monotonic() < limit:
            time.sleep(0.05)
        processes.running[1].send_signal(signal.SIGTERM)
        said = processes.ended()
    assert [status for status, _, _ in said] == [hosts.STOPPED_STATUS] * 2, said
    steps = [re.search(r"stopped by a signal after step (\d+), saved in", errors)[1] for _, _, errors in said]
    assert steps[0] == steps[1] and (tmp_path / "first" / "checkpoints" / steps[0]).is_dir()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere", 2, 0), "the coordinator is HOST:PORT, such as .*, not 'nowhere'"),
        (("here:70000", 2, 0), "the coordinator is HOST:PORT"),
        (("here:8476", 0, 0), "the number of processes must be 1 or more, not 0"),
        (("here:8476", 2, 2), r"the number of this process must be 0 \.\.\. 1 of 2, not 2"),
        ((None, 2, 0), "belong together: give all of them"),
        (("here:8476", 2, None), "belong together: give all of them"),
        (("here:8476", 2, 0), "hosts.start has to come before anything else of jax"),
    ],
)
def test_numbers_that_do_not_fit_are_refused_in_one_sentence(arguments, message, monkeypatch):
    monkeypatch.delenv("JAX_COORDINATOR_ADDRESS", raising=False)
    jax.devices()
    with pytest.raises(hosts.HostsError, match=message) as caught:
        hosts.start(*arguments)
    assert "\n" not in str(caught.value)


def test_nothing_happens_where_there_is_one_process(monkeypatch):
    for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "TPU_WORKER_HOSTNAMES", "JAX_COORDINATOR_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    jax.devices()
    hosts.start()
    assert jax.process_count() == 1 and hosts.leads()
    assert hosts.led(lambda: {"a": 1}) == {"a": 1}
    with hosts.leader_first(), hosts.end_together():
        chex.assert_trees_all_equal(hosts.same_everywhere({"x": np.arange(3)}), {"x": np.arange(3)})
    monkeypatch.setenv("SLURM_NTASKS", "4")
    with pytest.raises(hosts.HostsError, match="before anything else of jax"):
        hosts.start()


def test_a_coordinator_that_nobody_reaches_is_one_sentence():
    program = f"from nd_jax.training import hosts; hosts.start({_address()!r}, 2, 1, limit=2)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"error: not all of the 2 processes reached 127.0.0.1:\d+ within 2 s .*\n", done.stderr)
