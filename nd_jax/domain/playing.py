"""Many examples of a domain made into sound: in batches, on all cores, one ahead of who listens."""

from __future__ import annotations

import collections
import concurrent.futures
import functools
import os
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.domain.core import Domain, Sound
from nd_jax.domain.mel_if import MelIF
from nd_jax.domain.plain import Parts
from nd_jax.domain.sound import LogMel, Waveform

# Sounds in one compiled program. A spectrum of a few sounds stays in a core's cache, where XLA's loop runs on one core;
# an accelerator wants many.
_CHUNK = {"cpu": 4, "accelerator": 64}


def sounds(domain: Domain, inputs: Any, *, chunk_size: int | None = None) -> Iterator[Sound] | None:
    """Plays many examples of a domain, one after the other, while the next are made in the background.

    Spectrograms are inverted `chunk_size` at a time in one compiled program, on a CPU on all cores at once.

    Args:
      domain: what the examples are.
      inputs: (n, *domain.shape), or a dict of them for a domain of parts.
      chunk_size: examples per call; None picks for the device. The last chunk is filled up with silence.

    Returns:
      n sounds, or None for a domain that is not sound.
    """
    if isinstance(domain, Parts):
        drawn = (sounds(part, inputs[name], chunk_size=chunk_size) for name, part in domain.parts.items())
        return next((found for found in drawn if found is not None), None)
    if isinstance(domain, (LogMel, MelIF)):
        size = chunk_size or _CHUNK["cpu" if jax.default_backend() == "cpu" else "accelerator"]
        return _inverted(domain, np.asarray(inputs), size)
    if isinstance(domain, Waveform):
        waves = np.nan_to_num(np.asarray(inputs, np.float32)).reshape(len(inputs), domain.samples)
        return (Sound(wave, domain.sample_rate) for wave in waves)
    return None


def _inverted(domain: LogMel | MelIF, inputs: np.ndarray, chunk_size: int) -> Iterator[Sound]:
    invert = _inverse(domain.transform)
    size = min(chunk_size, max(len(inputs), 1))
    silence = np.asarray(domain.silence())

    def made(start: int) -> list[Sound]:
        part = np.asarray(inputs[start : start + size], np.float32)
        padded = np.concatenate([part, np.broadcast_to(silence, (size - len(part), *silence.shape))])
        waves = np.asarray(invert(_pictures(domain, padded)), np.float32)
        return [Sound(wave, domain.sample_rate) for wave in waves[: len(part)]]

    workers = _cores() if jax.default_backend() == "cpu" else 1
    waiting: collections.deque[concurrent.futures.Future[list[Sound]]] = collections.deque()
    pool = concurrent.futures.ThreadPoolExecutor(workers, thread_name_prefix="sounds")
    try:
        # The first call compiles; two threads would both do it.
        if len(inputs):
            yield from made(0)
        for start in range(size, len(inputs), size):
            waiting.append(pool.submit(made, start))
            # So many are made ahead that no core waits, and no more, so that memory does not grow with the atlas.
            if len(waiting) > 2 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _pictures(domain: LogMel | MelIF, values: np.ndarray) -> jax.Array:
    """What the front end inverts, for values that may be anything."""
    if isinstance(domain, MelIF):
        return jnp.asarray(np.nan_to_num(values, posinf=domain.high, neginf=domain.low))
    return domain.levels(jnp.asarray(np.clip(np.nan_to_num(values), domain.low, domain.high)))


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.lru_cache(maxsize=16)
def _inverse(transform: Any) -> Any:
    # vmap: every sound starts from the phases it would have alone, so it does not depend on its neighbours.
    return jax.jit(jax.vmap(transform.inverse))
