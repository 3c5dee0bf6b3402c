"""Batches for training: shuffled anew each epoch, cut for processes and devices, resumable, prefetched.

    stream = batches({"x": x, "label": y}, batch_size=64, seed=0, device_count=jax.local_device_count())
    with prefetch(stream) as ready:
        for batch in ready:            # {"x": (devices, 64 / devices, ...), "label": ..., "index": ...}
            ...
            position = ready.position.to_dict()        # JSON; batches(..., position=position) goes on exactly here

Which example comes when depends on the seed alone, not on the number of processes and devices.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from nd_jax.runtime import nearest

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Position:
    """Where a stream of batches is: the next batch begins with example `offset` of the shuffled epoch `epoch`.

    Attributes:
      epoch, offset: counted from 0.
      seed, examples: those of the stream; a position is refused by a stream of another order.
    """

    epoch: int
    offset: int
    seed: int
    examples: int

    def to_dict(self) -> dict[str, int]:
        """As a JSON-ready dict; `batches(position=...)` takes it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Position:
        """Reverses `to_dict`.

        Raises:
          ValueError: a field is missing, unknown or not a whole number of 0 or more.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        for name in fields:
            if name not in names:
                raise ValueError(f"a position has no field {name!r}; {nearest(name, names)}")
        for name in names:
            if not isinstance(fields.get(name), int) or (fields[name] < 0 and name != "seed"):
                raise ValueError(f"the field {name!r} of a position must be a whole number, not {fields.get(name)!r}")
        return cls(**fields)


class Batches(Iterator[Batch]):
    """The iterator that `batches` returns; `position` is where its next batch begins."""

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray],
        cut: _Cut,
        position: Position,
        epochs: int | None,
        shuffle: bool,
        drop_remainder: bool,
    ):
        self.position = position
        self._arrays = arrays
        self._cut = cut
        self._epochs = epochs
        self._shuffle = shuffle
        self._drop_remainder = drop_remainder
        self._order: tuple[int, np.ndarray] | None = None

    def __next__(self) -> Batch:
        size, examples = self._cut.batch_size, self.position.examples
        left = examples - self.position.offset
        if left < (size if self._drop_remainder else 1):
            self.position = dataclasses.replace(self.position, epoch=self.position.epoch + 1, offset=0)
        if self._epochs is not None and self.position.epoch >= self._epochs:
            raise StopIteration
        first = self.position.offset
        rows = self._permutation()[first : first + size]
        self.position = dataclasses.replace(self.position, offset=first + len(rows))
        return self._cut.take(self._arrays, rows)

    def _permutation(self) -> np.ndarray:
        epoch = self.position.epoch
        if self._order is None or self._order[0] != epoch:
            order = np.arange(self.position.examples)
            if self._shuffle:
                # A seed of two numbers; SeedSequence takes only those of 0 or more.
                order = np.random.default_rng((self.position.seed % 2**64, epoch)).permutation(order)
            self._order = epoch, order
        return self._order[1]


@dataclasses.dataclass(frozen=True)
class _Cut:
    """How one global batch is divided; `device_count` None means no device axis."""

    batch_size: int
    process_index: int
    process_count: int
    device_count: int | None

    def take(self, arrays: Mapping[str, np.ndarray], rows: np.ndarray) -> Batch:
        shared = self.process_count * (self.device_count or 1) > 1
        missing = self.batch_size - len(rows) if shared else 0
        index = np.concatenate([rows, np.full(missing, -1, rows.dtype)])
        part = len(index) // self.process_count
        index = index[self.process_index * part : (self.process_index + 1) * part]
        if self.device_count is not None:
            index = index.reshape(self.device_count, -1)
        return {name: values[np.maximum(index, 0)] for name, values in arrays.items()} | {"index": index}


def batches(
    arrays: Mapping[str, Any],
    *,
    batch_size: int,
    seed: int,
    position: Position | Mapping[str, Any] | int = 0,
    process_index: int = 0,
    process_count: int = 1,
    device_count: int | None = None,
    drop_remainder: bool = True,
    epochs: int | None = None,
    shuffle: bool = True,
) -> Batches:
    """Iterates over `arrays` in batches.

    Args:
      arrays: by name, all with the same first axis (examples), the same on every process.
      batch_size: examples in one step over all processes and devices together.
      seed: of the order; epoch e is a permutation made from (seed, e).
      position: where to begin: a `Position`, its dict, or a number of batches already taken.
      process_index: which of ...
      process_count: ... so many equal parts of every batch is this process's.
      device_count: local devices; gives the arrays a leading device axis, as `jax.pmap` wants. None for no such axis.
      drop_remainder: whether the last, incomplete batch of an epoch is left out. Otherwise it is shorter; on several
        processes or devices it is filled up instead, and the fillers have the index -1.
      epochs: stop after so many; default never.
      shuffle: False goes through the examples in order.

    Returns:
      An iterator of dicts with the arrays and "index", the number of each example in `arrays`. Shapes are
      (batch_size / process_count, ...) or (device_count, batch_size / process_count / device_count, ...).

    Raises:
      ValueError: arrays of different lengths, a batch that cannot be divided, a position of another stream.
    """
    values = {name: np.asarray(array) for name, array in arrays.items()}
    examples = _length(values)
    _check_cut(batch_size, process_index, process_count, device_count)
    if drop_remainder and batch_size > examples:
        raise ValueError(
            f"batch_size {batch_size} is more than the {examples} examples; take at most {examples}, "
            "or drop_remainder=False"
        )
    if epochs is not None and epochs < 1:
        raise ValueError(f"epochs must be 1 or more, or None, not {epochs}")
    start = _position(position, batch_size, seed, examples, drop_remainder)
    cut = _Cut(batch_size, process_index, process_count, device_count)
    return Batches(values, cut, start, epochs, shuffle, drop_remainder)


def _length(arrays: Mapping[str, np.ndarray]) -> int:
    if "index" in arrays:
        raise ValueError("no array may be named 'index': every batch has one of its own")
    lengths = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"the arrays need one common number of examples, but have {lengths or 'no members'}")
    length = next(iter(lengths.values()))
    if not length:
        raise ValueError("the arrays hold no examples")
    return length


def _check_cut(batch_size: int, process_index: int, process_count: int, device_count: int | None) -> None:
    if process_count < 1 or not 0 <= process_index < process_count:
        raise ValueError(f"process_index must be 0 ... {process_count - 1} of {process_count}, not {process_index}")
    if device_count is not None and device_count < 1:
        raise ValueError(f"device_count must be 1 or more, or None, not {device_count}")
    parts = process_count * (device_count or 1)
    if batch_size < 1 or batch_size % parts:
        below = batch_size // parts * parts
        near = f"{below} or {below + parts}" if below > 0 else f"{parts}"
        raise ValueError(
            f"batch_size {batch_size} cannot be divided evenly over {process_count} process(es) with "
            f"{device_count or 1} device(s) each; take a multiple of {parts}, such as {near}"
        )


def _position(position: Any, batch_size: int, seed: int, examples: int, drop_remainder: bool) -> Position:
    if isinstance(position, (int, np.integer)):
        per_epoch = examples // batch_size if drop_remainder else -(-examples // batch_size)
        epoch, batch = divmod(int(position), per_epoch)
        if position < 0:
            raise ValueError(f"position must be 0 or more batches, not {position}")
        return Position(epoch, batch * batch_size, seed, examples)
    if isinstance(position, Mapping):
        position = Position.from_dict(position)
    if (position.seed, position.examples) != (seed, examples):
        raise ValueError(
            f"the position is of a stream with seed {position.seed} over {position.examples} examples, "
            f"but this one has seed {seed} and {examples} examples"
        )
    return position


_END = object()


class Prefetch(Iterator[Any]):
    """The iterator that `prefetch` returns; use it in a `with` block, or `close` it.

    Attributes:
      position: where the next batch begins that this iterator will give (not where the thread has got to).
    """

    def __init__(self, iterator: Iterator[Any], depth: int):
        self.position = getattr(iterator, "position", None)
        self._ready: queue.Queue[Any] = queue.Queue(depth)
        self._stop = threading.Event()
        arguments = (iterator, self._ready, self._stop)
        # The thread holds no reference to this object: when nobody holds it any more, the thread ends.
        self._thread = threading.Thread(target=_fill, args=arguments, name="nd_jax prefetch", daemon=True)
        weakref.finalize(self, self._stop.set)
        self._thread.start()

    def __next__(self) -> Any:
        if self._stop.is_set():
            raise StopIteration
        item, self.position, error = self._ready.get()
        if error is not None:
            self.close()
            raise error
        if item is _END:
            self.close()
            raise StopIteration
        return item

    def close(self) -> None:
        """Ends the thread; what it had prepared is dropped. May be called again."""
        self._stop.set()
        self._thread.join()

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def prefetch(iterator: Iterator[Any], depth: int = 2) -> Prefetch:
    """Prepares the next `depth` items of an iterator in a thread.

    An exception in the iterator is raised where its item would have come, after all items before it.

    Raises:
      ValueError: depth below 1.
    """
    if depth < 1:
        raise ValueError(f"depth must be 1 or more, not {depth}")
    return Prefetch(iter(iterator), depth)


def _fill(iterator: Iterator[Any], ready: queue.Queue[Any], stop: threading.Event) -> None:
    while not stop.is_set():
        error: BaseException | None = None
        try:
            item = next(iterator, _END)
        except BaseException as raised:  # the consumer raises it
            item, error = _END, raised
        entry = (item, getattr(iterator, "position", None), error)
        while not stop.is_set():
            try:
                ready.put(entry, timeout=0.1)
                break
            except queue.Full:
                continue
        if item is _END:
            return
