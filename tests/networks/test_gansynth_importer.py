"""The importer of official GANSynth checkpoints, and the reader of TensorFlow's bundles under it."""

from __future__ import annotations

import json
import shutil
import struct

import chex
import gansynth_reference as reference
import numpy as np
import pytest

import nd_jax as nd
from nd_jax.networks.importers import gansynth, tensor_bundle
from nd_jax.networks.importers.tensor_bundle import Bundle, crc32c, masked
from nd_jax.networks.importers.torch_zip import WeightsFileError

NAME = "model.ckpt-11000000"


@pytest.fixture
def archive(shared, tmp_path):
    """A copy of the tiny checkpoint that may be damaged."""
    folder = tmp_path / "archive"
    shutil.copytree(shared / "reference" / "gansynth" / "tiny_ckpt", folder)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


# --- bundles ----------------------------------------------------------------------------------------------------------


def test_checksums_are_castagnolis():
    assert crc32c(b"123456789") == 0xE3069283 and crc32c(b"a") == 0xC1D04330 and crc32c(b"") == 0
    assert crc32c(bytes(32)) == 0x8A9136AA and crc32c(b"\xff" * 32) == 0x62A8AB43
    content = np.random.default_rng(0).bytes(30_001)
    for length in (3, 4, 5, 1000, 4097, 30_001):
        state = 0xFFFFFFFF
        for byte in content[:length]:
            state ^= byte
            for _ in range(8):
                state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
        assert crc32c(content[:length]) == state ^ 0xFFFFFFFF, length


def test_every_variable_is_read(shared):
    variables, _ = reference.load(shared)
    bundle = Bundle(tensor_bundle.latest(shared / "reference" / "gansynth" / "tiny_ckpt" / "stage_00006"))
    assert set(bundle.entries) == set(variables.files)
    for name in variables.files:
        found = bundle.read(name)
        assert found.dtype == variables[name].dtype
        chex.assert_trees_all_equal(found, variables[name])
    with pytest.raises(WeightsFileError, match="has no variable nothing"):
        bundle.read("nothing")


def _varint(number):
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    return bytes([*made, number])


def _table(entries, compress=None):
    """A table of one block, written as LevelDB does, its keys prefixed."""

    def block(pairs):
        body, before = b"", b""
        for key, value in pairs:
            shared = next(
                (n for n, (a, b) in enumerate(zip(key, before, strict=False)) if a != b), min(map(len, (key, before)))
            )
            body += _varint(shared) + _varint(len(key) - shared) + _varint(len(value)) + key[shared:] + value
            before = key
        return body + struct.pack("<II", 0, 1)

    def stored(body, kind):
        return body + bytes([kind]) + struct.pack("<I", masked(crc32c(body + bytes([kind]))))

    data = block(entries)
    data = stored(compress(data), 1) if compress else stored(data, 0)
    index = stored(block([(entries[-1][0], _varint(0) + _varint(len(data) - 5))]), 0)
    footer = _varint(0) * 2 + _varint(len(data)) + _varint(len(index) - 5)
    return data + index + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def _entry(kind, shape, offset, content):
    sizes = b"".join(b"\x12" + bytes([len(size)]) + size for size in (b"\x08" + _varint(n) for n in shape))
    return (
        b"\x08" + _varint(kind) + b"\x12" + bytes([len(sizes)]) + sizes
        + b"\x20" + _varint(offset) + b"\x28" + _varint(len(content))
        + b"\x35" + struct.pack("<I", masked(crc32c(content)))
    )  # fmt: skip


def _literals_and_copies(content):
    """Snappy: the first 70 bytes as they are, then one copy where a byte repeats the last one, else literals."""
    made, at = _varint(len(content)), 0
    while at < len(content):
        run = 0
        while at and run < 4 and content[at + run : at + run + 1] == content[at - 1 : at]:
            run += 1
        if run == 4:
            made, at = made + b"\x01\x01", at + 4  # four bytes from one back
            continue
        length = 70 if at == 0 else 1
        part = content[at : at + length]
        made += (bytes([60 << 2, len(part) - 1]) if len(part) > 60 else bytes([(len(part) - 1) << 2])) + part
        at += len(part)
    return made


@pytest.mark.parametrize("compress", [None, _literals_and_copies])
def test_other_types_and_compressed_blocks_are_read(tmp_path, compress):
    arrays = {"a/half": np.float16([[1, -2, 0.5]]), "a/hole": np.zeros((0, 3), np.int32), "b" * 40: np.array(True)}
    entries, data = [(b"", b"\x08\x01")], b""
    for name, array in arrays.items():
        kind = {"float16": 19, "int32": 3, "bool": 10}[array.dtype.name]
        entries.append((name.encode(), _entry(kind, array.shape, len(data), array.tobytes())))
        data += array.tobytes()
    (tmp_path / "x.index").write_bytes(_table(entries, compress))
    (tmp_path / "x.data-00000-of-00001").write_bytes(data)
    bundle = Bundle(tmp_path / "x")
    for name, array in arrays.items():
        chex.assert_trees_all_equal(bundle.read(name), array)
    entries[1] = (b"a/half", _entry(7, (3,), 0, data[:6]))  # a string
    (tmp_path / "x.index").write_bytes(_table(entries))
    with pytest.raises(WeightsFileError, match="a/half of .* is no plain array of numbers"):
        Bundle(tmp_path / "x").read("a/half")


def test_damaged_and_incomplete_bundles_are_refused_in_one_sentence(archive):
    stage = archive / "stage_00006"
    index, data = stage / f"{NAME}.index", stage / f"{NAME}.data-00000-of-00001"
    name = "Discriminator/discriminator_cond/classification_logits/bias"
    content, numbers = index.read_bytes(), data.read_bytes()
    offset = Bundle(stage / NAME).entries[name].offset
    data.write_bytes(numbers[:offset] + bytes([numbers[offset] ^ 1]) + numbers[offset + 1 :])
    with pytest.raises(WeightsFileError, match=f"variable {name} of .* is damaged: its checksum does not fit"):
        gansynth.read(archive)
    data.write_bytes(numbers[: len(numbers) // 2])
    with pytest.raises(WeightsFileError, match="is incomplete: .*data-00000-of-00001 ends before the last byte of"):
        gansynth.read(archive)
    data.unlink()
    with pytest.raises(FileNotFoundError, match="is incomplete: .*data-00000-of-00001 is missing"):
        gansynth.read(archive)
    for damaged, words in (
        (content[:40], "it is too short"),
        (content[:-1] + b"\0", "its last bytes are not those of a table"),
        (content[:99] + bytes([content[99] ^ 4]) + content[100:], "the checksum of a block does not fit"),
        (content[1000:], "of a TensorFlow checkpoint, or damaged"),
    ):
        index.write_bytes(damaged)
        with pytest.raises(WeightsFileError, match=words):
            Bundle(stage / NAME)


# --- GANSynth ---------------------------------------------------------------------------------------------------------


def test_the_tiny_checkpoint_becomes_two_networks(shared, tmp_path, capsys):
    folder = shared / "reference" / "gansynth"
    variables, io = reference.load(shared)
    gansynth.main([str(folder / "tiny_ckpt"), str(tmp_path / "out")])
    said = capsys.readouterr().out
    for words in (
        "stage 6, 4 of 4 blocks, 11,000,000 images seen",
        "pictures of 16 x 128 x 2, latent 16, 5 pitches from MIDI 24",
        "generator: 24 variables, averaged (ExponentialMovingAverage), 29,448 numbers",
        "discriminator: 28 variables, 32,182 numbers",
        "not taken: 24 raw variables of the generator, 0 of Adam, 2 others (of 78 in all)",
        "minibatch deviation frozen at",
    ):
        assert words in said, said
    maker, judge = nd.load(tmp_path / "out" / "generator"), nd.load(tmp_path / "out" / "discriminator")
    chex.assert_trees_all_equal(dict(maker.variables), reference.params(variables, "Generator", reference.EMA))
    made = maker({"z": io["z"], "label": io["label_index"]})
    chex.assert_trees_all_close(made, io["gen_ema_data"], atol=5e-4)
    live = nd.Network(judge.module.clone(deviation=None), judge.variables, judge.input)
    chex.assert_trees_all_close(live(io["real"])["label"], io["D_real_pitch_logits"], atol=1e-5)
    assert maker.input["label"].names == ("C1", "C#1", "D1", "D#1", "E1")
    assert judge.module.deviation > 0 and judge.labels["label"][0] == "C1"
    assert maker.output.shape == (16, 128, 2) and maker.output.sample_rate == 16000
    assert maker.output.sound(made[0]).wave.shape == (1024,)


def test_a_stage_or_a_prefix_can_be_given_and_flags_are_heard(archive):
    whole = gansynth.read(archive)
    (archive / "stage_00004").mkdir()
    for place in (archive, archive / "stage_00006", archive / "stage_00006" / NAME):
        found = gansynth.read(place)
        assert found.generator == whole.generator and found.images == 11_000_000
    assert whole.generator.fmap_max == 24 and whole.generator.progress is None and whole.generator.grown == 0
    flags = {"num_resolutions": 5, "stable_stage_num_images": 2_000_000, "transition_stage_num_images": 2_000_000}
    (archive / "experiment.json").write_text(json.dumps(flags | {"fmap_base": 64, "fmap_max": 24}))
    growing = gansynth.read(archive)
    assert (growing.generator.blocks, growing.generator.grown) == (5, 4) and growing.generator.progress == 2.5
    judge = gansynth.networks(archive, 0.25)[1]
    assert judge.module.deviation == 0.25 and judge.input.shape == (32, 256, 2)
    (archive / "stage_00006" / "checkpoint").unlink()
    assert gansynth.read(archive).generator == growing.generator
    (archive / "experiment.json").write_text(json.dumps(flags | {"fmap_max": 24, "train_progressive": False}))
    assert gansynth.read(archive).generator.progress is None


def test_what_is_no_such_checkpoint_is_refused_in_one_sentence(archive, tmp_path):
    with pytest.raises(
        FileNotFoundError, match="no checkpoint at .*nowhere: neither a folder nor a file nowhere.index"
    ):
        gansynth.read(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no checkpoint in .*empty: there is no file named \*.index"):
        gansynth.read(tmp_path / "empty")
    (archive / "experiment.json").write_text('{"fmap_base": 512, "fmap_max": 24}')
    with pytest.raises(
        WeightsFileError, match=r"its blocks have \[24, 24, 16, 8, 4\] channels, and with fmap_base 512"
    ):
        gansynth.read(archive)
    (archive / "experiment.json").write_text('{"data_normalizer": "specgrams_freqz_normalizer"}')
    with pytest.raises(WeightsFileError, match="normalised by 'specgrams_freqz_normalizer', and only the fixed one"):
        gansynth.read(archive)
    (archive / "experiment.json").write_text('{"data_type": "wave"}')
    with pytest.raises(WeightsFileError, match=r"\('wave'\) cannot be made into sound"):
        gansynth.networks(archive, 0.25)
    (archive / "experiment.json").write_text('{"to_rgb_activation": "linear"}')
    with pytest.raises(WeightsFileError, match="to_rgb_activation is 'linear', and only 'tanh' is known"):
        gansynth.read(archive)
    (archive / "experiment.json").write_text('{"mag_normalizer_a": 0.05}')
    with pytest.raises(WeightsFileError, match="mag_normalizer_a is 0.05, and only 0.0661371661726 is known"):
        gansynth.read(archive)
    for value in ("null", '"x"', "0", "true", "NaN"):
        (archive / "experiment.json").write_text(f'{{"fmap_base": {value}}}')
        with pytest.raises(WeightsFileError, match="experiment.json: fmap_base must be a number above 0, not "):
            gansynth.read(archive)
    for many in (7, 60):
        (archive / "experiment.json").write_text(f'{{"num_resolutions": {many}}}')
        with pytest.raises(WeightsFileError, match=f"experiment.json says: fmap_base 64 leaves block {many} of "):
            gansynth.read(archive)
    (archive / "experiment.json").write_text("{")
    with pytest.raises(WeightsFileError, match="is not readable JSON"):
        gansynth.read(archive)
    (archive / "experiment.json").unlink()
    (archive / "stage_00006").rename(archive / "stage_00004")
    with pytest.raises(WeightsFileError, match="another stage: stage_00004 has 3 blocks, and this checkpoint 4"):
        gansynth.read(archive)
    entries = [(b"", b"\x08\x01"), (b"weights", _entry(1, (1,), 0, bytes(4)))]
    (tmp_path / "x.index").write_bytes(_table(entries))
    (tmp_path / "x.data-00000-of-00001").write_bytes(bytes(4))
    with pytest.raises(WeightsFileError, match="is no GANSynth: none of its 1 variables is of a block"):
        gansynth.read(tmp_path / "x")
    name = b"Generator/progressive_gan_generator/progressive_gan_block_1/conv0/bias"
    (tmp_path / "x.index").write_bytes(_table([entries[0], (name, entries[1][1])]))
    with pytest.raises(WeightsFileError, match="no complete GANSynth: the variable .* is missing and 15 more"):
        gansynth.read(tmp_path / "x")
