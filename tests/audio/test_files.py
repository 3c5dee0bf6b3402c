"""Sound files: round trips, lengths and rates, and one clear sentence for every kind of bad file."""

import logging
import os
import re
import struct

import chex
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from nd_jax import audio

RATE = 8000


@pytest.fixture
def wave():
    time = np.arange(4000) / RATE
    return (0.4 * np.sin(2 * np.pi * 440 * time) + 0.1 * np.sin(2 * np.pi * 1234 * time)).astype(np.float32)


@pytest.fixture
def files(tmp_path, wave):
    return {suffix: audio.write(tmp_path / f"good.{suffix}", wave, RATE) for suffix in ("wav", "flac", "ogg")}


def refused(path, words, call=audio.read):
    with pytest.raises(audio.AudioFileError) as caught:
        call(path)
    message = str(caught.value)
    assert str(path) in message and re.search(words, message), message
    assert "\n" not in message and isinstance(caught.value, ValueError)
    # Nothing of the library's own error is shown below it.
    assert caught.value.__cause__ is None and (caught.value.__suppress_context__ or caught.value.__context__ is None)


@pytest.mark.parametrize(
    ("suffix", "bits", "step"), [("wav", 16, 2**-16), ("flac", 16, 2**-16), ("wav", 24, 2**-24), ("flac", 24, 2**-24)]
)
def test_round_trip(tmp_path, wave, suffix, bits, step):
    path = audio.write(tmp_path / f"x.{suffix}", wave, RATE, bits=bits)
    found = audio.read(path)
    assert found.dtype == np.float32
    chex.assert_trees_all_close(found, wave, atol=1.01 * step + 1e-8, rtol=0)
    again = audio.write(tmp_path / f"y.{suffix}", found, RATE, bits=bits)
    chex.assert_trees_all_equal(audio.read(again), found)


def test_round_trip_of_float_and_vorbis_and_whole_numbers(tmp_path, wave):
    chex.assert_trees_all_equal(audio.read(audio.write(tmp_path / "x.wav", wave, RATE, bits=32)), wave)
    found = audio.read(audio.write(tmp_path / "x.OGG", wave, RATE))
    assert len(found) == len(wave) and np.corrcoef(found, wave)[0, 1] > 0.99
    whole = np.array([0, 1, -1, 32767, -32768], np.int16)
    chex.assert_trees_all_equal(
        audio.read(audio.write(tmp_path / "i.wav", whole, RATE)) * 2**15, whole.astype(np.float32)
    )
    assert audio.info(tmp_path / "i.wav") == (RATE, 5, 1)
    found = audio.read(audio.write(tmp_path / "j.wav", jnp.asarray(wave), RATE))
    chex.assert_shape(found, wave.shape)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
def test_reads_wav_of_any_kind_as_mono(tmp_path, wave, subtype):
    soundfile.write(tmp_path / "x.wav", np.stack([wave, -0.5 * wave], axis=1), RATE, subtype=subtype)
    found, rate = audio.read_native(tmp_path / "x.wav")
    assert rate == RATE
    chex.assert_trees_all_close(found, 0.25 * wave, atol=0.02, rtol=0)


@pytest.mark.parametrize(("container", "endian"), [("WAVEX", "FILE"), ("RF64", "FILE"), ("WAV", "BIG")])
def test_reads_relatives_of_wav(tmp_path, wave, container, endian):
    soundfile.write(tmp_path / "x.wav", wave, RATE, format=container, endian=endian, subtype="PCM_16")
    chex.assert_trees_all_close(audio.read(tmp_path / "x.wav"), wave, atol=1e-4, rtol=0)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
def test_resampling_keeps_the_sound(tmp_path, rate):
    time = np.arange(rate) / rate
    path = audio.write(tmp_path / "x.wav", 0.5 * np.sin(2 * np.pi * 500 * time), rate)
    found = audio.read(path, 16000)
    chex.assert_shape(found, (16000,))
    wanted = 0.5 * np.sin(2 * np.pi * 500 * np.arange(16000) / 16000)
    chex.assert_trees_all_close(found[500:-500], wanted[500:-500].astype(np.float32), atol=2e-3, rtol=0)


def test_lengths(files, wave):
    chex.assert_trees_all_equal(audio.read(files["wav"], length=100), audio.read(files["wav"])[:100])
    chex.assert_shape(audio.read(files["wav"], 16000, seconds=0.25), (4000,))
    padded = audio.read(files["wav"], length=5000)
    chex.assert_shape(padded, (5000,))
    assert not padded[4000:].any()
    chex.assert_trees_all_equal(audio.read(files["flac"], seconds=1.0, policy="tile")[4000:], audio.read(files["flac"]))
    refused(files["wav"], "cannot be cropped to 5000", lambda path: audio.read(path, length=5000, policy="crop"))
    refused(files["wav"], "cannot resample", lambda path: audio.read(path, 1))
    with pytest.raises(ValueError, match="not both"):
        audio.read(files["wav"], length=5, seconds=1)


def test_fit():
    wave = np.arange(1.0, 4.0, dtype=np.float32)
    chex.assert_trees_all_equal(audio.fit(wave, 2), wave[:2])
    chex.assert_trees_all_equal(audio.fit(wave, 5), np.array([1, 2, 3, 0, 0], np.float32))
    chex.assert_trees_all_equal(audio.fit(wave, 7, "tile"), np.array([1, 2, 3, 1, 2, 3, 1], np.float32))
    chex.assert_trees_all_equal(audio.fit(wave, 3, "crop"), wave)
    assert isinstance(audio.fit(jnp.asarray(wave), 5), jnp.ndarray) and isinstance(audio.fit(wave, 5), np.ndarray)
    chex.assert_shape(audio.fit(np.zeros((2, 3, 4)), 9, "tile"), (2, 3, 9))
    for arguments, words in [
        ((wave, 5, "crop"), "cannot be cropped"),
        ((wave, 5, "padd"), "did you mean 'pad'"),
        ((wave, 0), "at least 1"),
        ((wave[:0], 5), "at least 1 sample"),
    ]:
        with pytest.raises(ValueError, match=words):
            audio.fit(*arguments)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_a_file_cut_anywhere_is_refused(tmp_path, files, suffix):
    whole = files[suffix].read_bytes()
    for size in (
        1,
        3,
        4,
        8,
        11,
        12,
        20,
        30,
        41,
        43,
        44,
        46,
        58,
        100,
        len(whole) // 2,
        len(whole) - 200,
        len(whole) - 1,
    ):
        cut = tmp_path / f"cut{size}.{suffix}"
        cut.write_bytes(whole[:size])
        refused(cut, "truncated|damaged|not a WAV|no samples")


@pytest.mark.parametrize("suffix", ["flac", "ogg"])
def test_a_damaged_compressed_file_is_refused(tmp_path, files, suffix):
    data = bytearray(files[suffix].read_bytes())
    middle = len(data) // 2
    data[middle : middle + 100] = bytes(100)
    (tmp_path / f"bad.{suffix}").write_bytes(data)
    refused(tmp_path / f"bad.{suffix}", "damaged")


def changed(path, offset, data, target):
    content = bytearray(path.read_bytes())
    content[offset : offset + len(data)] = data
    target.write_bytes(content)
    return target


def test_bad_files(tmp_path, files, wave):
    (tmp_path / "empty.wav").write_bytes(b"")
    refused(tmp_path / "empty.wav", "is empty")
    (tmp_path / "text.wav").write_text("These are words, not samples.")
    refused(tmp_path / "text.wav", "not a WAV, FLAC or OGG")
    refused(tmp_path, "is a directory")
    refused(tmp_path / "none.wav", "does not exist")
    for suffix in ("wav", "ogg"):
        soundfile.write(tmp_path / f"zero.{suffix}", np.zeros(0, np.float32), RATE)
        refused(tmp_path / f"zero.{suffix}", "no samples")
    for bad in (np.nan, np.inf):
        soundfile.write(tmp_path / "nan.wav", np.array([0, bad, 0.5], np.float32), RATE, subtype="FLOAT")
        refused(tmp_path / "nan.wav", "has 1 samples that are NaN or infinite")
    refused(changed(files["wav"], 24, struct.pack("<I", 0), tmp_path / "0hz.wav"), "sample rate of 0 Hz")
    refused(changed(files["flac"], 18, b"\0\0\0", tmp_path / "0hz.flac"), "sample rate of 0 Hz")
    refused(changed(files["wav"], 22, struct.pack("<H", 0), tmp_path / "0ch.wav"), "0 channels")
    refused(changed(files["wav"], 20, struct.pack("<H", 0x7777), tmp_path / "codec.wav"), "cannot be decoded")
    refused(changed(files["wav"], 36, b"DATA", tmp_path / "nodata.wav"), "ends before its samples")
    refused(changed(files["wav"], 40, struct.pack("<I", 9000), tmp_path / "long.wav"), "promises 9000 bytes")
    refused(changed(files["wav"], 12, b"junk", tmp_path / "nofmt.wav"), "before their format")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.wav")
        refused(tmp_path / "pipe.wav", "not a regular file")
    refused(tmp_path / "empty.wav", "is empty", audio.info)


def test_a_folder_lists_what_it_skips(tmp_path, files, wave, caplog):
    (tmp_path / "labels.csv").write_text("file\n")
    (tmp_path / "sub").mkdir()
    audio.write(tmp_path / "sub" / "b.wav", wave, 2 * RATE)
    (tmp_path / "sub" / "broken.WAV").write_bytes(files["wav"].read_bytes()[:500])
    (tmp_path / "song.mp3").write_bytes(b"ID3")
    with caplog.at_level(logging.WARNING, "nd_jax.audio"):
        sounds = audio.read_folder(tmp_path)
    assert [path.name for path in sounds.paths] == ["good.flac", "good.ogg", "good.wav", "b.wav"]
    assert sounds.sample_rates == [RATE, RATE, RATE, 2 * RATE] and len(sounds) == 4
    assert [path.name for path, _ in sounds.skipped] == ["song.mp3", "broken.WAV"]
    assert "broken.WAV" in caplog.text and "skipped 2 of 6" in caplog.text
    flat = audio.read_folder(tmp_path, RATE, length=300, recursive=False)
    assert {len(sound) for sound in flat.waves} == {300} and len(flat) == 3
    chosen = audio.read_folder(tmp_path, paths=["sub/b.wav", "missing.wav"], seconds=0.1)
    assert chosen.sample_rates == [2 * RATE] and "does not exist" in chosen.skipped[0][1]
    refused(tmp_path / "sub" / "none", "is not a folder", audio.read_folder)
    (tmp_path / "bare").mkdir()
    refused(tmp_path / "bare", "has no sound files", audio.read_folder)
    (tmp_path / "bare" / "x.wav").write_text("no")
    refused(tmp_path / "bare", "none of the 1 sound files", audio.read_folder)


def test_write_refuses(tmp_path, wave):
    good = audio.write(tmp_path / "x.wav", wave, RATE)
    before = good.read_bytes()
    broken = wave.copy()
    broken[7] = np.nan
    for arguments, words in [
        ((tmp_path / "x.mp3", wave, RATE), "suffix '.mp3'"),
        ((tmp_path / "x", wave, RATE), "suffix ''"),
        ((good, broken, RATE), "1 samples are NaN"),
        ((good, wave[:0], RATE), "no samples"),
        ((good, wave[None], RATE), r"\(1, 4000\)"),
        ((good, wave.astype(np.int64), RATE), "int64"),
        ((good, 4 * wave, RATE), "peaks at"),
        ((good, wave, 0), "sample rate of 0 Hz"),
        ((good, wave, 8000.5), "8000.5 Hz"),
        ((tmp_path / "no" / "x.wav", wave, RATE), "does not exist"),
    ]:
        with pytest.raises(audio.AudioFileError, match=words) as caught:
            audio.write(*arguments)
        assert str(arguments[0]) in str(caught.value)
    with pytest.raises(audio.AudioFileError, match="20 bits"):
        audio.write(good, wave, RATE, bits=20)
    with pytest.raises(audio.AudioFileError, match="32 bits"):
        audio.write(tmp_path / "x.flac", wave, RATE, bits=32)
    with pytest.raises(ValueError, match="did you mean 'scale'"):
        audio.write(good, wave, RATE, peak="scaled")
    # FLAC holds no such rate: libsndfile refuses, and neither a half-written nor a temporary file stays behind.
    with pytest.raises(audio.AudioFileError, match="cannot be written"):
        audio.write(tmp_path / "x.flac", wave, 2**31 - 1)
    assert good.read_bytes() == before and os.listdir(tmp_path) == ["x.wav"]


def test_peak_policies(tmp_path, wave):
    loud = 4 * wave
    scaled = audio.read(audio.write(tmp_path / "s.wav", loud, RATE, peak="scale", bits=32))
    chex.assert_trees_all_close(scaled, loud / np.abs(loud).max(), atol=1e-6)
    clipped = audio.read(audio.write(tmp_path / "c.wav", loud, RATE, peak="clip", bits=32))
    chex.assert_trees_all_equal(clipped, np.clip(loud, -1, 1))
    full = audio.read(audio.write(tmp_path / "f.wav", np.array([1.0, -1.0, 1.00001]), RATE))
    chex.assert_trees_all_close(full, np.array([1, -1, 1], np.float32), atol=1e-4)
