"""Foreign .pt files: tensors come out, nothing is run, and each damaged or hostile file gives one clear sentence."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest

from nd_jax.networks.importers import torch_zip


class Named:
    """Pickles as a reference to a global of any name."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Call:
    """Pickles as a call of a global, then (optionally) BUILD with a state."""

    def __init__(self, module, name, *arguments, state=None):
        self.named, self.arguments, self.state = Named(module, name), arguments, state


class Storage:
    def __init__(self, key, kind, count):
        self.identity = ("storage", Named("torch", kind), key, "cpu", count)


class Writer(pickle._Pickler):
    """Writes the opcodes that torch.save writes, without PyTorch."""

    def save(self, value, save_persistent_id=True):
        if isinstance(value, Named):
            self.write(b"c" + value.module.encode() + b"\n" + value.name.encode() + b"\n")
        elif isinstance(value, Storage):
            super().save(value.identity)
            self.write(b"Q")
        elif isinstance(value, Call):
            self.save(value.named)
            super().save(value.arguments)
            self.write(b"R")
            if value.state is not None:
                self.save(value.state)
                self.write(b"b")
        else:
            super().save(value)


def dumps(value):
    buffer = io.BytesIO()
    Writer(buffer, 2).dump(value)
    return buffer.getvalue()


def tensor(key, kind, count, size, strides, offset=0):
    hooks = Call("collections", "OrderedDict")
    return Call("torch._utils", "_rebuild_tensor_v2", Storage(key, kind, count), offset, size, strides, False, hooks)


def archive(path, value, storages, *, compression=zipfile.ZIP_STORED, extra=()):
    payload = value if isinstance(value, bytes) else dumps(value)
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("net/data.pkl", payload)
        file.writestr("net/byteorder", "little")
        for key, data in storages.items():
            file.writestr(f"net/data/{key}", np.asarray(data).tobytes())
        for name in extra:
            file.writestr(name, b"\0" * 16)
    return path


def module(parameters=(), buffers=(), modules=()):
    state = {"_parameters": dict(parameters), "_buffers": dict(buffers), "_modules": dict(modules), "training": True}
    return Call("somewhere.unknown", "Net", state=state)


NUMBERS = np.arange(6, dtype=np.float32)


def test_a_state_dict(tmp_path):
    value = {
        "a": tensor("0", "FloatStorage", 6, (2, 3), (3, 1)),
        "a_transposed": tensor("0", "FloatStorage", 6, (3, 2), (1, 3)),
        "a_end": tensor("0", "FloatStorage", 6, (2,), (1,), 4),
        "long": tensor("1", "LongStorage", 1, (), ()),
        "half": tensor("2", "HalfStorage", 2, (2,), (1,)),
        "brain": tensor("3", "BFloat16Storage", 2, (2,), (1,)),
        "none": tensor("4", "DoubleStorage", 0, (0, 3), (3, 1)),
        "step": 7,
        "parameter": Call("torch._utils", "_rebuild_parameter", tensor("1", "LongStorage", 1, (1,), (1,)), True, {}),
    }
    storages = {
        "0": NUMBERS,
        "1": np.int64(-3),
        "2": np.float16([0.5, 2]),
        "3": np.asarray([1.5, -4], ml_dtypes.bfloat16),
        "4": np.zeros(0),
    }
    state = torch_zip.read(archive(tmp_path / "a.pt", value, storages))
    np.testing.assert_array_equal(state["a"], NUMBERS.reshape(2, 3))
    np.testing.assert_array_equal(state["a_transposed"], NUMBERS.reshape(2, 3).T)
    np.testing.assert_array_equal(state["a_end"], [4, 5])
    np.testing.assert_array_equal(state["parameter"], [-3])
    np.testing.assert_array_equal(state["brain"].astype(np.float32), [1.5, -4])
    assert state["long"].dtype == np.int64 and state["half"].dtype == np.float16
    assert state["none"].shape == (0, 3)
    assert "step" not in state
    assert not state["a"].flags.writeable


def test_a_whole_module(tmp_path):
    inner = module({"weight": tensor("0", "FloatStorage", 6, (6,), (1,)), "bias": None})
    outer = module({}, {"count": tensor("1", "LongStorage", 1, (), ())}, {"main": module(modules={"0": inner})})
    state = torch_zip.read(archive(tmp_path / "a.pt", outer, {"0": NUMBERS, "1": np.int64(2)}))
    assert list(state) == ["count", "main.0.weight"]


def test_nothing_is_run(tmp_path, monkeypatch):
    """The names a hostile pickle calls stay names."""
    ran = []
    monkeypatch.setattr(os, "system", lambda *_: ran.append("system"))
    marker = tmp_path / "marker"
    hostile = {
        "w": tensor("0", "FloatStorage", 6, (6,), (1,)),
        "a": Call("os", "system", f"touch {marker}"),
        "b": Call("posix", "system", f"touch {marker}"),
        "c": Call("builtins", "eval", f"open({str(marker)!r}, 'w')"),
        "d": Call("builtins", "getattr", Named("builtins", "__import__"), "__call__"),
        "e": Call("builtins", "exec", f"open({str(marker)!r}, 'w')", state={"__class__": Named("os", "system")}),
        "f": Call("torch.nn", "Module", state={"__setstate__": Named("os", "system"), "__dict__": {"x": 1}}),
        "g": Call("numpy", "load", str(marker)),
        "h": module({"evil": Call("subprocess", "Popen", ("touch", str(marker)))}),
    }
    state = torch_zip.read(archive(tmp_path / "a.pt", hostile, {"0": NUMBERS}))
    assert list(state) == ["w"]
    assert not ran and not marker.exists()


PICKLES = {
    "calls the result of a call": b"\x80\x02cbuiltins\ngetattr\n)R)R.",
    "calls a tensor": dumps([1])[:-1] + b")R.",
    "instance of a class": b"\x80\x02(S'touch x'\nios\nsystem\n.",
    "old object instruction": b"\x80\x02(cos\nsystem\nS'x'\no.",
    "extension code": b"\x80\x02\x82\x01.",
    "persistent id in text": b"\x80\x02Pname\n.",
    "state of a list": b"\x80\x02]}b.",
    "state of a class": b"\x80\x02cos\nsystem\n}b.",
    "item of a stub": b"\x80\x02cos\nsystem\n)RK\x01K\x02s.",
    "append to a stub": b"\x80\x02cos\nsystem\n)RK\x01a.",
    "unhashable key": b"\x80\x02}]K\x01s.",
    "memo that was never set": b"\x80\x02h\x05.",
    "empty stack": b"\x80\x02.",
    "no mark": b"\x80\x02t.",
    "cut off": dumps({"a": tensor("0", "FloatStorage", 6, (6,), (1,))})[:-40],
    "announces 4 GB": b"\x80\x02B\xff\xff\xff\xff.",
    "no pickle": b"hello world",
    "nothing": b"",
    "protocol 9": b"\x80\x09N.",
    "no tensors": dumps({"a": 1}),
    "a dict in itself": b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.",
}


@pytest.mark.parametrize("payload", PICKLES.values(), ids=PICKLES.keys())
def test_a_bad_pickle_is_one_sentence(tmp_path, payload):
    path = archive(tmp_path / "a.pt", payload, {"0": NUMBERS})
    with pytest.raises(torch_zip.WeightsFileError, match=r"a\.pt") as error:
        torch_zip.read(path)
    assert "\n" not in str(error.value)


TENSORS = {
    "beyond the storage": (tensor("0", "FloatStorage", 6, (7,), (1,)), "reaches beyond its storage"),
    "offset beyond the storage": (tensor("0", "FloatStorage", 6, (2,), (1,), 5), "reaches beyond its storage"),
    "strides beyond the storage": (tensor("0", "FloatStorage", 6, (2, 2), (5, 1)), "reaches beyond its storage"),
    "repeats one number": (tensor("0", "FloatStorage", 6, (10**9,), (0,)), "reaches beyond its storage"),
    "negative stride": (tensor("0", "FloatStorage", 6, (2,), (-1,)), "something else than a storage"),
    "negative size": (tensor("0", "FloatStorage", 6, (-2,), (1,)), "something else than a storage"),
    "negative offset": (tensor("0", "FloatStorage", 6, (2,), (1,), -1), "something else than a storage"),
    "one stride too few": (tensor("0", "FloatStorage", 6, (2, 2), (1,)), "2 sizes and 1 strides"),
    "storage of another length": (tensor("0", "FloatStorage", 10**12, (2,), (1,)), "1000000000000 were announced"),
    "storage of another type": (tensor("0", "DoubleStorage", 6, (2,), (1,)), "6 were announced"),
    "no such storage": (tensor("5", "FloatStorage", 6, (2,), (1,)), "storage '5' is missing"),
    "path as a key": (tensor("../../etc/passwd", "FloatStorage", 6, (2,), (1,)), "is missing"),
    "quantised": (tensor("0", "QInt8Storage", 6, (2,), (1,)), "'QInt8Storage' is not supported"),
    "no storage": (Call("torch._utils", "_rebuild_tensor_v2", 5, 0, (2,), (1,)), "something else than a storage"),
    "no arguments": (Call("torch._utils", "_rebuild_tensor_v2"), "damaged"),
}


@pytest.mark.parametrize(("value", "message"), TENSORS.values(), ids=TENSORS.keys())
def test_a_bad_tensor_is_one_sentence(tmp_path, value, message):
    with pytest.raises(torch_zip.WeightsFileError, match=message):
        torch_zip.read(archive(tmp_path / "a.pt", {"a": value}, {"0": NUMBERS}))


def test_billions_of_shared_modules_are_refused(tmp_path):
    """Fifty modules, each twice in the next: 2^50 paths."""
    layer = {"w": tensor("0", "FloatStorage", 6, (6,), (1,))}
    for _ in range(50):
        layer = {"a": layer, "b": layer}
    with pytest.raises(torch_zip.WeightsFileError, match="more than 1000000 values"):
        torch_zip.read(archive(tmp_path / "a.pt", layer, {"0": NUMBERS}))


class Part(Storage):
    """A storage as the older format describes it, with a sixth number for a part of a larger one."""

    def __init__(self, key, kind, count, part=None):
        super().__init__(key, kind, count)
        self.identity = (*self.identity, part)


class Class(Storage):
    """A module's class as the older format describes it."""

    def __init__(self, module, name):
        self.identity = ("module", Named(module, name), "/home/somebody/net.py", "class Net: ...")


def legacy(path, value, storages, *, keys=None, version=1001, little=True, counts=None):
    """A file of the format before PyTorch 1.6."""
    facts = {"protocol_version": version, "little_endian": little, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = [dumps(part) for part in (0x1950A86A20F9469CFC6C, version, facts, value, list(keys or storages))]
    for key, data in storages.items():
        data = np.asarray(data)
        parts += [struct.pack("<q", (counts or {}).get(key, data.size)), data.tobytes()]
    path.write_bytes(b"".join(parts))
    return path


def old_tensor(key, kind, count, size, strides, part=None):
    hooks = Call("collections", "OrderedDict")
    storage = Part(key, kind, count, part)
    return Call("torch._utils", "_rebuild_tensor_v2", storage, 0, size, strides, False, hooks)


HALVES = np.arange(3, dtype=np.float16)
OLD = {
    "a": old_tensor("94", "FloatStorage", 6, (2, 3), (3, 1)),
    "turned": old_tensor("94", "FloatStorage", 6, (3, 2), (1, 3)),
    "half": old_tensor("7", "HalfStorage", 3, (3,), (1,)),
}


def test_the_format_before_zip(tmp_path):
    path = legacy(tmp_path / "old.pth", {"net": OLD, "epoch": 3}, {"7": HALVES, "94": NUMBERS})
    state = torch_zip.read(path)
    assert list(state) == ["net.a", "net.turned", "net.half"]
    np.testing.assert_array_equal(state["net.a"], NUMBERS.reshape(2, 3))
    np.testing.assert_array_equal(state["net.turned"], NUMBERS.reshape(2, 3).T)
    np.testing.assert_array_equal(state["net.half"], HALVES)
    assert not state["net.a"].flags.writeable
    inner = Call("torch", "Net", state={"_parameters": {"w": OLD["half"]}, "_buffers": {}, "_modules": {}})
    inner.named = Class("__main__", "Net")
    whole = torch_zip.read(legacy(tmp_path / "module.pth", inner, {"7": HALVES}))
    np.testing.assert_array_equal(whole["w"], HALVES)


@pytest.mark.parametrize(
    ("value", "changes", "message"),
    [
        (OLD, {"version": 1000}, "version 1000"),
        (OLD, {"little": False}, "not little-endian"),
        (OLD, {"keys": ["94", "8"]}, "are not those that it holds"),
        (OLD, {"keys": ["94"]}, "are not those that it holds"),
        (OLD, {"counts": {"94": 5}}, "'94' has 5 numbers or fewer, but 6 were announced"),
        (OLD, {"counts": {"94": -1}}, "but 6 were announced"),
        ({"a": old_tensor("94", "FloatStorage", 10**12, (2,), (1,)), "b": OLD["half"]}, {}, "10{12} were announced"),
        ({"a": old_tensor("94", "FloatStorage", -6, (2,), (1,)), "b": OLD["half"]}, {}, "described in two ways"),
        ({**OLD, "b": old_tensor("94", "DoubleStorage", 3, (2,), (1,))}, {}, "described in two ways"),
        ({**OLD, "a": old_tensor("94", "FloatStorage", 6, (2, 4), (3, 1))}, {}, "reaches beyond its storage"),
        ({**OLD, "a": old_tensor("94", "FloatStorage", 6, (2,), (1,), ("5", 0, 2))}, {}, "no storage"),
        ({**OLD, "a": old_tensor("94", "QInt8Storage", 6, (2,), (1,))}, {}, "not supported"),
    ],
)
def test_a_bad_file_of_the_older_format_is_one_sentence(tmp_path, value, changes, message):
    path = legacy(tmp_path / "old.pth", value, {"7": HALVES, "94": NUMBERS}, **changes)
    with pytest.raises(torch_zip.WeightsFileError, match=message.replace("{12}", "0" * 11)) as error:
        torch_zip.read(path)
    assert "\n" not in str(error.value)


def test_a_cut_file_of_the_older_format(tmp_path):
    path = legacy(tmp_path / "old.pth", OLD, {"7": HALVES, "94": NUMBERS})
    whole = path.read_bytes()
    for cut in (1, 30, len(whole) // 3, len(whole) // 2, len(whole) - 40, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(torch_zip.WeightsFileError, match="old.pth"):
            torch_zip.read(path)


def test_the_older_format_as_pytorch_writes_it(tmp_path):
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    for name, value in (("state", net.state_dict()), ("module", net)):
        path = tmp_path / f"{name}.pth"
        torch.save(value, path, _use_new_zipfile_serialization=False)
        state = torch_zip.read(path)
        assert set(state) == set(net.state_dict())
        for key, tensor_ in net.state_dict().items():
            np.testing.assert_array_equal(state[key], tensor_.numpy())


def test_bad_archives(tmp_path):
    good = {"a": tensor("0", "FloatStorage", 6, (6,), (1,))}
    bomb = archive(tmp_path / "bomb.pt", good, {"0": np.zeros(10**6)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(torch_zip.WeightsFileError, match="compressed"):
        torch_zip.read(bomb)
    two = archive(tmp_path / "two.pt", good, {"0": NUMBERS}, extra=["other/data.pkl"])
    with pytest.raises(torch_zip.WeightsFileError, match="2 entries data.pkl"):
        torch_zip.read(two)
    paths = archive(tmp_path / "paths.pt", good, {"0": NUMBERS}, extra=["../../../tmp/outside", "/etc/outside"])
    assert list(torch_zip.read(paths)) == ["a"]

    whole = archive(tmp_path / "whole.pt", good, {"0": NUMBERS}).read_bytes()
    for name, data in {
        "half.pt": whole[: len(whole) // 2],
        "text.pt": b"these are no weights",
        "empty.pt": b"",
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(torch_zip.WeightsFileError, match=f"{name}: it is not a PyTorch file, or only a part"):
            torch_zip.read(tmp_path / name)
    flipped = bytearray(whole)
    flipped[whole.index(struct.pack("<f", 5.0))] ^= 1
    (tmp_path / "flipped.pt").write_bytes(flipped)
    with pytest.raises(torch_zip.WeightsFileError, match="damaged"):
        torch_zip.read(tmp_path / "flipped.pt")
    with pytest.raises(torch_zip.WeightsFileError, match="is not a file"):
        torch_zip.read(tmp_path)
    with pytest.raises(FileNotFoundError, match="no weights file"):
        torch_zip.read(tmp_path / "none.pt")
