"""Batches: order, division over processes and devices, resuming, prefetching."""

from __future__ import annotations

import gc
import json
import threading
import time

import chex
import numpy as np
import pytest

from nd_jax import data


def arrays(count: int = 20) -> dict[str, np.ndarray]:
    return {"x": np.arange(count * 3, dtype=np.float32).reshape(count, 3), "label": np.arange(count) % 4}


def indices(stream, count: int) -> list[list[int]]:
    return [next(stream)["index"].reshape(-1).tolist() for _ in range(count)]


def test_an_epoch_holds_every_example_once_and_the_next_is_another_order():
    stream = data.batches(arrays(), batch_size=5, seed=3)
    first, second = (np.concatenate(indices(stream, 4)) for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(20))
    assert not np.array_equal(first, second)
    again = data.batches(arrays(), batch_size=5, seed=3)
    assert np.array_equal(np.concatenate(indices(again, 4)), first)
    other = data.batches(arrays(), batch_size=5, seed=4)
    assert not np.array_equal(np.concatenate(indices(other, 4)), first)


def test_rows_belong_to_their_index():
    values = arrays()
    for batch in data.batches(values, batch_size=8, seed=0, epochs=2):
        chex.assert_shape(batch["x"], (8, 3))
        chex.assert_trees_all_equal(batch["x"], values["x"][batch["index"]])
        chex.assert_trees_all_equal(batch["label"], values["label"][batch["index"]])


def test_the_last_batch_is_dropped_or_short():
    def count(**options):
        return [len(batch["index"]) for batch in data.batches(arrays(), batch_size=8, seed=0, epochs=1, **options)]

    assert count() == [8, 8]
    assert count(drop_remainder=False) == [8, 8, 4]
    in_order = data.batches(arrays(), batch_size=8, seed=0, epochs=1, shuffle=False, drop_remainder=False)
    assert np.concatenate([batch["index"] for batch in in_order]).tolist() == list(range(20))


def test_devices_get_a_leading_axis_and_fillers_are_marked():
    whole = list(data.batches(arrays(), batch_size=8, seed=1, epochs=1, drop_remainder=False))
    cut = list(data.batches(arrays(), batch_size=8, seed=1, epochs=1, drop_remainder=False, device_count=2))
    for one, two in zip(whole, cut, strict=True):
        chex.assert_shape(two["x"], (2, 4, 3))
        flat = two["index"].reshape(-1)
        assert flat[flat >= 0].tolist() == one["index"].tolist()
    assert (cut[-1]["index"] < 0).sum() == 4
    chex.assert_shape(next(data.batches(arrays(), batch_size=8, seed=1, device_count=1))["x"], (1, 8, 3))


@pytest.mark.parametrize("drop_remainder", [True, False])
def test_processes_divide_every_batch_between_them(drop_remainder):
    options = {"batch_size": 8, "seed": 1, "epochs": 2, "drop_remainder": drop_remainder}
    whole = [batch["index"].tolist() for batch in data.batches(arrays(), **options)]
    parts = [
        list(data.batches(arrays(), **options, process_index=index, process_count=2, device_count=2))
        for index in range(2)
    ]
    for expected, one, two in zip(whole, *parts, strict=True):
        chex.assert_shape([one["x"], two["x"]], (2, 2, 3))
        joined = np.concatenate([one["index"].reshape(-1), two["index"].reshape(-1)])
        assert joined[joined >= 0].tolist() == expected


@pytest.mark.parametrize("taken", [0, 1, 3, 4, 7])
@pytest.mark.parametrize("drop_remainder", [True, False])
def test_a_position_gives_exactly_the_next_batch(taken, drop_remainder):
    options = {"batch_size": 6, "seed": 5, "drop_remainder": drop_remainder}
    stream = data.batches(arrays(), **options)
    indices(stream, taken)
    stored = json.loads(json.dumps(stream.position.to_dict()))
    expected = indices(stream, 5)
    assert indices(data.batches(arrays(), position=stored, **options), 5) == expected
    assert indices(data.batches(arrays(), position=data.Position.from_dict(stored), **options), 5) == expected
    assert indices(data.batches(arrays(), position=taken, **options), 5) == expected


def test_a_position_may_be_resumed_with_another_batch_size():
    stream = data.batches(arrays(), batch_size=4, seed=5)
    seen = np.concatenate(indices(stream, 2))
    rest = data.batches(arrays(), batch_size=6, seed=5, position=stream.position)
    assert sorted([*seen, *np.concatenate(indices(rest, 2))]) == list(range(20))


def test_prefetch_gives_the_same_and_its_position_is_that_of_the_consumer():
    plain = data.batches(arrays(), batch_size=4, seed=2)
    with data.prefetch(data.batches(arrays(), batch_size=4, seed=2)) as ready:
        assert ready.position == plain.position
        for _ in range(7):
            chex.assert_trees_all_equal(next(ready), next(plain))
            assert ready.position == plain.position
            time.sleep(0.01)


def test_prefetch_ends_with_the_iterator_and_keeps_its_depth():
    pulled = []

    def numbers():
        for number in range(10):
            pulled.append(number)
            yield number

    ready = data.prefetch(numbers(), depth=2)
    deadline = time.monotonic() + 5
    while len(pulled) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert pulled == [0, 1, 2]  # two wait, one is in the thread's hand
    assert list(ready) == list(range(10))
    with pytest.raises(StopIteration):
        next(ready)


def test_an_exception_reaches_the_consumer_after_what_came_before():
    def failing():
        yield 1
        raise OSError("the disk is gone")

    ready = data.prefetch(failing())
    assert next(ready) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(ready)
    with pytest.raises(StopIteration):
        next(ready)


def threads() -> int:
    return sum(thread.name == "nd_jax prefetch" for thread in threading.enumerate())


def test_the_thread_ends_when_closed_or_forgotten():
    before = threads()
    ready = data.prefetch(data.batches(arrays(), batch_size=4, seed=2))
    next(ready)
    ready.close()
    ready.close()
    assert threads() == before
    forgotten = data.prefetch(data.batches(arrays(), batch_size=4, seed=2))
    next(forgotten)
    del forgotten
    gc.collect()
    deadline = time.monotonic() + 5
    while threads() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threads() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 10, "device_count": 4}, r"batch_size 10 cannot be divided .* multiple of 4, such as 8 or 12"),
        ({"batch_size": 6, "process_count": 4}, r"batch_size 6 cannot .* multiple of 4, such as 4 or 8"),
        ({"batch_size": 1, "device_count": 2}, r"such as 2"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"batch_size": 21}, "batch_size 21 is more than the 20 examples"),
        ({"batch_size": 4, "process_index": 2, "process_count": 2}, "process_index must be 0 ... 1 of 2, not 2"),
        ({"batch_size": 4, "device_count": 0}, "device_count must be 1 or more"),
        ({"batch_size": 4, "epochs": 0}, "epochs must be 1 or more"),
        ({"batch_size": 4, "position": -1}, "position must be 0 or more"),
        ({"batch_size": 4, "position": {"epoch": 0, "offset": 0, "seed": 0, "exmples": 20}}, "did you mean 'examples'"),
        ({"batch_size": 4, "position": {"epoch": 0, "offset": "4", "seed": 0, "examples": 20}}, "'offset' .* not '4'"),
        ({"batch_size": 4, "position": data.Position(0, 0, 1, 20)}, "seed 1 over 20 examples, but this one has seed 0"),
        ({"batch_size": 4, "position": data.Position(0, 0, 0, 21)}, "over 21 examples"),
    ],
)
def test_wrong_settings_say_what_would_be_right(options, message):
    with pytest.raises(ValueError, match=message):
        data.batches(arrays(), seed=0, **options)


def test_wrong_arrays_are_refused():
    with pytest.raises(ValueError, match="'x': 3, 'y': 2"):
        data.batches({"x": np.zeros(3), "y": np.zeros(2)}, batch_size=1, seed=0)
    with pytest.raises(ValueError, match="hold no examples"):
        data.batches({"x": np.zeros((0, 2))}, batch_size=1, seed=0)
    with pytest.raises(ValueError, match="no members"):
        data.batches({}, batch_size=1, seed=0)
    with pytest.raises(ValueError, match="'index'"):
        data.batches({"index": np.zeros(2)}, batch_size=1, seed=0)
    with pytest.raises(ValueError, match="depth"):
        data.prefetch(iter([1]), depth=0)
