"""Several hosts: the same script is started on each of them, and this is all it needs to know of the others.

`start` joins the processes (jax.distributed), before anything else. From then on every process trains on its own
devices (`parallel`), process 0 leads: it alone reads and writes the run's folder, prints and looks at samples, and what
it finds reaches the others through `led` and `same_everywhere`. `stop_on_signals` ends a run in order when a machine is
taken away. With one process all of it does nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

Tree = Any
Answer = TypeVar("Answer")

# What sysexits.h calls a temporary failure: try again later.
STOPPED_STATUS = 75


class HostsError(RuntimeError):
    """The processes cannot be joined, or the leading one failed; one sentence."""


class Stopped(Exception):
    """A signal ended the training in order, and everything is saved; scripts leave with `STOPPED_STATUS`."""


def start(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None, *, limit: int = 300
) -> None:
    """Joins the processes of a run; the same call in each of them, before anything else of jax.

    What is not given is found by JAX: in `JAX_COORDINATOR_ADDRESS`, and on SLURM, Open MPI, Kubernetes and TPU pods in
    what their launchers tell. Where nothing is given and nothing is found there is one process, and nothing happens. A
    second call does nothing.

    Args:
      coordinator: HOST:PORT of process 0, as the others reach it.
      processes: how many there are.
      process: which of them this is, from 0.
      limit: seconds within which all have to arrive; then this process ends with one sentence and status 1, since
        the wait of JAX cannot be interrupted by an exception.

    Raises:
      HostsError: the numbers do not fit together, the port is taken, or jax was used before.
    """
    _check(coordinator, processes, process)
    if jax.distributed.is_initialized():
        return
    asked = coordinator is not None or "JAX_COORDINATOR_ADDRESS" in os.environ
    where = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS") or "the coordinator that the launcher names"
    watch = threading.Timer(limit, _give_up, (where, processes, process, limit))
    watch.daemon = True
    watch.start()
    try:
        # JAX's own limit ends the process with a page of C++ frames, so it comes later than ours. A process that fails
        # alone waits at its end for the others, who wait for it: not for long.
        jax.distributed.initialize(
            coordinator, processes, process, initialization_timeout=limit + 60, shutdown_timeout_seconds=30
        )
    except ValueError as error:
        if asked or "defined" not in str(error):
            raise HostsError(
                f"the processes at {where} cannot be joined: {_line(error)}; give --coordinator, --processes and "
                "--process together"
            ) from error
        return
    except RuntimeError as error:
        if "before any JAX calls" in str(error):
            if not asked and not _launched():
                return
            raise HostsError("hosts.start has to come before anything else of jax, and jax was used already") from error
        raise HostsError(f"process {process} cannot start at {where}: {_line(error)}; is its port taken?") from error
    finally:
        watch.cancel()
    # A CPU's collectives give up when devices that meet for the first time do so half a minute apart, which compiling
    # and reading data easily takes: they meet now, all of them and those of one rank.
    same_everywhere(np.zeros(1, np.float32))
    every = NamedSharding(Mesh(np.asarray(jax.devices()), ("all",)), PartitionSpec("all"))
    ones = jax.make_array_from_process_local_data(every, np.ones(jax.local_device_count(), np.float32))
    jax.block_until_ready(jax.jit(jnp.sum)(ones))


def leads() -> bool:
    """Whether this is process 0, the one that prints and writes."""
    return jax.process_index() == 0


def bar(total: int, done: int, show: bool) -> Any:
    """A progress bar of steps with the time that remains, on standard error; a context."""
    import tqdm

    return tqdm.tqdm(total=total, initial=done, disable=not show, unit="step", dynamic_ncols=True)


def same_everywhere(tree: Tree) -> Tree:
    """Process 0's arrays, on every process, as numpy; all pass trees of the same structure, shapes and types."""
    if jax.process_count() == 1:
        return tree
    from jax.experimental import multihost_utils

    return multihost_utils.broadcast_one_to_all(jax.tree.map(np.asarray, jax.device_get(tree)))


def led(call: Callable[[], Answer], failure: type[Exception] = HostsError) -> Answer:
    """Process 0 calls, and every process gets its answer (JSON-ready) or fails with it; all wait for that.

    Raises:
      Exception: on process 0 what `call` raised, on the others `failure` with the same message.
    """
    if jax.process_count() == 1:
        return call()
    told: dict[str, Any] = {}
    error: Exception | None = None
    if leads():
        try:
            told = {"answer": call()}
        except Exception as raised:
            error, told = raised, {"failure": str(raised)}
    told = _text_everywhere(told)
    if error is not None:
        raise error
    if "failure" in told:
        raise failure(told["failure"])
    return told["answer"]


@contextlib.contextmanager
def end_together() -> Iterator[None]:
    """All processes wait for each other at the end of the block; around a whole run, so that none leaves early.

    JAX ends the run of all when one process is gone for half a minute, and the leader has more to do: it measures and
    writes. After an error nobody waits.
    """
    yield
    same_everywhere(np.zeros(1, np.float32))


@contextlib.contextmanager
def leader_first() -> Iterator[None]:
    """Process 0 runs the block before the others do: what it prepares on a shared disk is there for them."""
    if not leads():
        same_everywhere(np.zeros(1, np.float32))
    yield
    if leads():
        same_everywhere(np.zeros(1, np.float32))


@contextlib.contextmanager
def stop_on_signals(active: bool = True) -> Iterator[Callable[[], bool]]:
    """While it is open, SIGTERM and SIGINT (Ctrl-C) no longer end the process: they ask it to stop.

    SIGTERM is what SLURM and preempted cloud machines send. One signal to one process is enough for all of them. A
    second Ctrl-C interrupts at once.

    Args:
      active: False changes nothing: for runs that have nowhere to save. Outside the main thread nothing changes either.

    Yields:
      A function to be called by every process after every call of the step: whether to save and stop now. All
      processes get the same answer after the same number of calls.
    """
    if not active or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    several = jax.process_count() > 1
    noticed = False
    calls = 0

    def notice(number: int, frame: FrameType | None) -> None:
        nonlocal noticed
        noticed = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.write(2, b"\nstopping after this step to save; Ctrl-C interrupts at once\n")
        if several:
            os.kill(os.getpid(), signal.SIGTERM)

    def stopping() -> bool:
        nonlocal calls
        calls += 1
        if not several:
            return noticed
        from jax.experimental import multihost_utils

        # It counts calls, not steps: all stop at the call after the last one that any process has begun.
        return multihost_utils.reached_preemption_sync_point(calls)

    # With several processes SIGTERM belongs to JAX, which tells the others.
    caught = [signal.SIGINT] if several else [signal.SIGINT, signal.SIGTERM]
    before = {number: signal.signal(number, notice) for number in caught}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check(coordinator: str | None, processes: int | None, process: int | None) -> None:
    if coordinator is not None:
        name, _, port = coordinator.rpartition(":")
        if not name or not port.isdigit() or not 0 < int(port) < 65536:
            raise HostsError(f"the coordinator is HOST:PORT, such as 10.0.0.1:8476, not {coordinator!r}")
    if processes is not None and processes < 1:
        raise HostsError(f"the number of processes must be 1 or more, not {processes}")
    if process is not None and (process < 0 or (processes is not None and process >= processes)):
        upper = "..." if processes is None else f"... {processes - 1} of {processes}"
        raise HostsError(f"the number of this process must be 0 {upper}, not {process}")
    if (processes is None) != (process is None) or (
        processes is not None and coordinator is None and "JAX_COORDINATOR_ADDRESS" not in os.environ
    ):
        raise HostsError(
            f"coordinator {coordinator}, processes {processes} and process {process} belong together: give all of "
            "them, or none where SLURM, Open MPI or a TPU pod tells them"
        )


def _launched() -> bool:
    """Whether a launcher says that there are other processes."""
    counts = (os.environ.get(name, "1") for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE"))
    hosts = os.environ.get("TPU_WORKER_HOSTNAMES", "")
    return any(count.isdigit() and int(count) > 1 for count in counts) or "," in hosts


def _give_up(where: str, processes: int | None, process: int | None, limit: int) -> None:
    who = "not all processes" if processes is None else f"not all of the {processes} processes"
    me = "" if process is None else f" (this is process {process})"
    sys.stderr.write(
        f"error: {who} reached {where} within {limit} s{me}: start the same command on every host, and see that they "
        "can reach that address\n"
    )
    sys.stderr.flush()
    os._exit(1)


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(". ")


def _text_everywhere(told: dict[str, Any]) -> dict[str, Any]:
    """Process 0's JSON on every process."""
    text = json.dumps(told).encode() if leads() else b""
    size = int(same_everywhere(np.asarray([len(text)], np.int32))[0])
    room = max(256, 1 << (size - 1).bit_length())  # few different sizes, so few compilations
    padded = np.frombuffer(text.ljust(room, b" "), np.uint8)
    return json.loads(same_everywhere(padded).tobytes())
