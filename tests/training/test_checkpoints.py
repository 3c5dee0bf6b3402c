"""Checkpoints: exact, on another number of devices too; half-written ones ignored; a full disk gives one sentence."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nd_jax.training import parallel
from nd_jax.training.checkpoints import CheckpointError, Checkpoints


def _state(value: float):
    params = {"kernel": jnp.full((3, 2), value), "half": jnp.full((2,), value, jnp.bfloat16)}
    return {"params": params, "optimizer": optax.adam(1e-3).init(params), "step": jnp.int32(7)}


def test_what_comes_back_is_what_went_in(tmp_path):
    state, notes = _state(1.5), {"position": [2, 5], "best": 0.1 + 0.2}
    with Checkpoints(tmp_path / "run") as checkpoints:
        assert checkpoints.latest is None and checkpoints.restore(state) is None
        checkpoints.save(7, parallel.replicate(state, jax.local_devices()), notes)
    with Checkpoints(tmp_path / "run") as checkpoints:
        found = checkpoints.restore(_state(0.0))
    assert found is not None and found.step == 7 and found.notes == notes
    chex.assert_trees_all_equal(found.arrays, state)
    chex.assert_trees_all_equal_structs(found.arrays, state)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(found.arrays))


def test_only_the_latest_are_kept_and_half_written_ones_are_ignored(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, _state(step), {})
    half = tmp_path / "4.orbax-checkpoint-tmp"
    (half / "arrays").mkdir(parents=True)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest == 3
        found = checkpoints.restore(_state(0.0))
        assert found is not None and float(found.arrays["params"]["kernel"][0, 0]) == 3.0
    assert not (tmp_path / "1").exists() and (tmp_path / "2").exists()


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, _state(1.0), {})
        other = _state(1.0)
        other["params"]["kernel"] = jnp.zeros((4, 2))
        with pytest.raises(CheckpointError, match="step 1 .* does not fit this run"):
            checkpoints.restore(other)


def _flip(path):
    """Changes one byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", ["notes cut", "arrays cut", "arrays gone", "one byte"])
def test_a_damaged_checkpoint_is_put_aside_for_the_one_before(damage, tmp_path):
    state = {"x": jnp.asarray(np.random.default_rng(0).normal(size=5000), jnp.float32)}
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, jax.tree.map(lambda leaf, step=step: leaf + step, state), {"at": step})
    largest = max((tmp_path / "2" / "arrays").rglob("*"), key=lambda path: path.stat().st_size * path.is_file())
    if damage == "notes cut":
        (tmp_path / "2" / "notes" / "metadata").write_text('{"at"')
    elif damage == "arrays cut":
        largest.write_bytes(largest.read_bytes()[:100])
    elif damage == "arrays gone":
        shutil.rmtree(tmp_path / "2" / "arrays")
    else:
        _flip(largest)
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.warns(UserWarning, match=r"of step 2 .* it is now damaged-2, .* from the checkpoint of step 1"):
            found = checkpoints.restore(state)
        assert found.step == checkpoints.latest == 1 and found.notes == {"at": 1}
        chex.assert_trees_all_equal(found.arrays, jax.tree.map(lambda leaf: np.asarray(leaf + 1), state))
        checkpoints.save(2, state, {"at": 2})
        assert checkpoints.restore(state).step == 2
    # With nothing before it there is an error and everything stays where it is.
    for path in (path for path in (tmp_path / "1").rglob("*") if path.is_file()):
        path.write_bytes(b"")
    shutil.rmtree(tmp_path / "2")
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError, match="step 1 in .* damaged"):
        checkpoints.restore(state)
    assert (tmp_path / "1").is_dir()


def test_without_room_nothing_is_written(tmp_path, monkeypatch):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, _state(1.0), {})
        room = shutil.disk_usage(tmp_path)._replace(free=50)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: room)
        message = r"no space left on device \(92 bytes needed, 50 free\); the checkpoint of step 1 is kept$"
        with pytest.raises(CheckpointError, match=message):
            checkpoints.save(2, _state(2.0), {})
        assert checkpoints.latest == 1 and checkpoints.restore(_state(0.0)).step == 1
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["1"]


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="cannot be kept in .*file/run: not a directory"):
        Checkpoints(tmp_path / "file" / "run")


def test_a_full_disk_is_one_sentence_and_keeps_the_last_checkpoint(tmp_path):
    program = textwrap.dedent("""
        import json, resource, sys
        import numpy as np
        from nd_jax.training.checkpoints import CheckpointError, Checkpoints

        like = {"x": np.zeros(200_000)}
        with Checkpoints(sys.argv[1]) as checkpoints:
            checkpoints.save(1, {"x": np.arange(200_000.0)}, {"at": 1})
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, -1))
            try:
                checkpoints.save(2, {"x": np.random.default_rng(0).normal(size=200_000)}, {"at": 2})
                message = ""
            except CheckpointError as error:
                message = str(error)
            resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
            kept = checkpoints.restore(like)
        print(json.dumps({"message": message, "step": kept.step, "sum": float(kept.arrays["x"].sum())}))
    """)
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert "step 2 cannot be written" in told["message"] and "step 1 is kept" in told["message"]
    assert "file too large" in told["message"] and "\n" not in told["message"]
    assert told["step"] == 1 and told["sum"] == 199_999 * 100_000
