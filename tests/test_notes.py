"""Notes from MIDI files, the path of latents, envelopes, the mix, and a generator that plays them."""

import weakref

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import audio, generators, notes
from nd_jax.domain import Label, Latent, MelIF, Parts, Units, Waveform
from nd_jax.experiments import play_midi
from nd_jax.network import Network

RATE = 4000
PITCHES = ("C4", "C#4", "D4", "D#4", "E4")


class Singer(nn.Module):
    """A sine of the pitch that is asked for, two samples early in some latents."""

    classes: int = len(PITCHES)

    @nn.compact
    def __call__(self, given):
        hertz = 440.0 * 2.0 ** ((given["label"] + 60 - 69) / 12)
        time = jnp.arange(2 * RATE)[None] / RATE
        colour = nn.Dense(1, name="colour")(given["z"])
        return (0.2 * jnp.sin(2 * jnp.pi * hertz[:, None] * time) + 0.0 * colour)[..., None]


@pytest.fixture(scope="module")
def singer():
    module = Singer()
    given = {"z": jnp.zeros((1, 3)), "label": jnp.zeros(1, int)}
    return Network(
        module,
        module.init(jax.random.key(0), given),
        input=Parts({"z": Latent(3), "label": Label(PITCHES)}),
        output=Waveform(2 * RATE, RATE),
    )


def midi(folder, tracks, name="piece.mid"):
    """A file with one list of (type, note, velocity, channel, ticks since the last) a track; 480 ticks are 0.5 s."""
    mido = pytest.importorskip("mido")
    file = mido.MidiFile(ticks_per_beat=480)
    for rows in tracks:
        track = mido.MidiTrack()
        for kind, note, velocity, channel, ticks in rows:
            track.append(mido.Message(kind, note=note, velocity=velocity, channel=channel, time=ticks))
        file.tracks.append(track)
    file.save(folder / name)
    return folder / name


def test_notes_of_all_tracks_in_order(tmp_path):
    first = [("note_on", 60, 100, 0, 480), ("note_on", 64, 50, 0, 0), ("note_on", 60, 0, 0, 480)]
    drums = [("note_on", 40, 90, 9, 0), ("note_off", 40, 0, 9, 480)]
    second = [("note_on", 62, 127, 1, 240), ("note_off", 62, 0, 1, 480), ("note_on", 30, 9, 1, 0)]
    found = notes.read_midi(midi(tmp_path, [first, drums, second]))
    assert found.pitches.tolist() == [62, 60, 64]
    chex.assert_trees_all_close(found.starts, np.asarray([0.25, 0.5, 0.5]), atol=1e-6)
    # The last one is never let go.
    chex.assert_trees_all_close(found.ends, np.asarray([0.75, 1.0, 1.0]), atol=1e-6)
    assert found.velocities.tolist() == [127, 100, 50]
    assert found.seconds == pytest.approx(1.0)


def test_files_that_cannot_be_played_are_one_sentence(tmp_path):
    low = midi(tmp_path, [[("note_on", 20, 100, 0, 0), ("note_off", 20, 0, 0, 480)]])
    with pytest.raises(ValueError, match="no notes from 36 to 84: its 1 notes have the MIDI numbers 20 to 20"):
        notes.read_midi(low)
    with pytest.raises(ValueError, match="empty.mid is a MIDI file with no notes"):
        notes.read_midi(midi(tmp_path, [[("note_off", 60, 0, 0, 480)]], "empty.mid"))
    with pytest.raises(ValueError, match=r"no notes \(drums, channel 10, are none\)"):
        notes.read_midi(midi(tmp_path, [[("note_on", 40, 90, 9, 0), ("note_off", 40, 0, 9, 480)]], "drums.mid"))
    (tmp_path / "text.mid").write_text("this is no MIDI file")
    with pytest.raises(ValueError, match=r"text\.mid is not a MIDI file that can be read"):
        notes.read_midi(tmp_path / "text.mid")
    (tmp_path / "cut.mid").write_bytes(low.read_bytes()[:-6])
    with pytest.raises(ValueError, match=r"cut\.mid is not a MIDI file that can be read: \w+"):
        notes.read_midi(tmp_path / "cut.mid")
    for division in (b"\x00\x00", b"\xe7\x28"):
        (tmp_path / "frames.mid").write_bytes(low.read_bytes()[:12] + division + low.read_bytes()[14:])
        with pytest.raises(ValueError, match="can be read: its time is not in ticks a beat"):
            notes.read_midi(tmp_path / "frames.mid")
    with pytest.raises(FileNotFoundError, match="there is no MIDI file"):
        notes.read_midi(tmp_path / "nothing.mid")


def test_the_path_goes_from_instrument_to_instrument(singer):
    starts = np.asarray([0.0, 1.0, 4.0, 8.0])
    found = notes.latent_path(singer, starts, 8.0, seed=3, seconds_per_instrument=2.0)
    instruments = generators.inputs(singer, 3, 4)["z"]
    times = np.linspace(-0.0001, 8.0, 4)
    share = (1.0 - times[0]) / (times[1] - times[0])
    wanted = generators.slerp(instruments[0], instruments[1], [share], proportional=False)[0]
    chex.assert_trees_all_close(found[1], wanted, atol=1e-6)
    chex.assert_trees_all_close(found[0], instruments[0], atol=1e-3)
    chex.assert_trees_all_close(found[3], instruments[3], atol=1e-5)
    # A piece shorter than one instrument still has two.
    short = notes.latent_path(singer, starts[:1], 0.5, seed=3)
    chex.assert_trees_all_close(short[0], instruments[0], atol=2e-3)
    with pytest.raises(ValueError, match="seconds_per_instrument must be 0.01 or more"):
        notes.latent_path(singer, starts, 8.0, seconds_per_instrument=0.0)


def test_a_note_that_begins_with_the_last_event_is_heard(tmp_path):
    held = midi(tmp_path, [[("note_on", 62, 90, 0, 480), ("note_off", 62, 0, 0, 480), ("note_on", 64, 80, 0, 0)]])
    found = notes.read_midi(held)
    assert found.pitches.tolist() == [62, 64]
    chex.assert_trees_all_close(found.ends, np.asarray([1.0, 4.0]), atol=1e-6)
    alone = notes.read_midi(midi(tmp_path, [[("note_on", 60, 90, 0, 0)]], "alone.mid"))
    assert (len(alone), alone.seconds) == (1, notes.LONGEST_SECONDS)


def test_envelope():
    shape = notes.envelope(1.0, 16000)
    assert shape.shape == (16000 + 4800,)
    chex.assert_trees_all_close(shape[[0, 159, 160, 15999, 16000, -1]], np.asarray([0.0, 1, 1, 1, 1, 0]), atol=1e-9)
    assert 0 < shape[80] < 1 and 0 < shape[-2400] < 1
    assert np.isfinite(notes.envelope(0.0, 16000)).all()


def test_mix_is_as_specified():
    wave = np.sin(np.arange(4 * RATE) * 0.3).astype(np.float32)
    piece = notes.Notes(*map(np.asarray, ([60, 64], [0.0, 1.5], [1.0, 9.0], [127, 63])))
    found = notes.mix([0.3 * wave, -0.7 * wave], piece, RATE)
    assert found.shape == (12 * RATE,) and found.dtype == np.float32
    assert found.max() == pytest.approx(0.5)
    first = wave[: int(1.3 * RATE)] * notes.envelope(1.0, RATE)
    chex.assert_trees_all_close(found[: len(first)], (first / first.max() / 2).astype(np.float32), atol=1e-6)
    # Capped at 3 s and its release; struck half as hard.
    assert not found[int(4.85 * RATE) :].any()
    assert found[2 * RATE : 3 * RATE].max() == pytest.approx(0.5 * 63 / 127, abs=1e-3)
    silent = notes.mix([np.zeros(100), np.full(100, np.nan)], piece, RATE)
    assert not silent.any()


def test_waves_may_be_made_on_the_way():
    piece = notes.Notes(*map(np.asarray, ([60] * 5, np.arange(5) / 4, np.arange(5) / 4 + 0.2, [100] * 5)))
    plain = [np.sin(np.arange(RATE // 2) * (0.1 + 0.01 * number)) for number in range(6)]
    chex.assert_trees_all_equal(notes.mix(plain[:5], piece, RATE), notes.mix(iter(plain[:5]), piece, RATE))
    for many, words in ((4, "4 sounds for 5 notes"), (6, "more sounds for 5 notes")):
        with pytest.raises(ValueError, match=words):
            notes.mix(iter(plain[:many]), piece, RATE)


def test_a_long_piece_keeps_no_waves(singer, monkeypatch):
    made, most, real = [], [], notes.sounds

    def counted(domain, outputs):
        for sound in real(domain, outputs):
            made.append(weakref.ref(sound.wave))
            most.append(sum(each() is not None for each in made))
            yield sound

    monkeypatch.setattr(notes, "sounds", counted)
    starts = np.arange(64) / 8
    notes.play(singer, notes.Notes(np.full(64, 60), starts, starts + 0.1, np.full(64, 100)), progress=False)
    assert len(most) == 64 and max(most) <= 32, "no more than two batches of 16 are there at a time"


def test_a_generator_plays(singer):
    piece = notes.Notes(*map(np.asarray, ([60, 64], [0.0, 1.0], [0.9, 1.9], [100, 100])))
    told = []
    sound = notes.play(singer, piece, progress=lambda *done: told.append(done))
    assert told == [(2, 2)]
    for start, pitch in ((0.2, 60), (1.3, 64)):
        part = sound.wave[int(start * RATE) :][: RATE // 2]
        spectrum = np.abs(np.fft.rfft(part, 8 * RATE))
        assert np.argmax(spectrum) / 8 == pytest.approx(440 * 2 ** ((pitch - 69) / 12), rel=0.005)
    with pytest.raises(ValueError, match="the generator has no pitch 70; it has the MIDI numbers 60 to 64"):
        notes.play(singer, notes.Notes(*map(np.asarray, ([70], [0.0], [1.0], [9]))), progress=False)
    kept = notes.playable(notes.Notes(*map(np.asarray, ([70, 61], [0.0, 0.0], [1.0, 1.0], [9, 9]))), singer)
    assert kept.pitches.tolist() == [61]
    with pytest.raises(ValueError, match="plays the MIDI numbers 60 to 64, and the notes have 70 to 70; none is left"):
        notes.playable(notes.Notes(*map(np.asarray, ([70], [0.0], [1.0], [9]))), singer)
    with pytest.raises(ValueError, match="there are no notes to play"):
        notes.play(singer, piece.select(np.zeros(2, bool)))


def named(*names, output=None):
    module = Singer(len(names))
    given = {"z": jnp.zeros((1, 3)), "label": jnp.zeros(1, int)}
    taken = Parts({"z": Latent(3), "label": Label(names)})
    return Network(
        module, module.init(jax.random.key(0), given), input=taken, output=output or Waveform(2 * RATE, RATE)
    )


def test_names_of_pitches():
    assert notes.pitch_classes(named("C-1", "Bb2", "F#3", "108")) == {0: 0, 46: 1, 54: 2, 108: 3}
    with pytest.raises(ValueError, match="class 'flute' is no pitch such as 'C4' or '60'"):
        notes.pitch_classes(named("C4", "flute"))
    with pytest.raises(ValueError, match="has no classes, so that it cannot be asked for a pitch"):
        plain = nn.Dense(4)
        notes.pitch_classes(Network(plain, plain.init(jax.random.key(0), jnp.zeros((1, 3))), input=Latent(3)))
    piece = notes.Notes(*map(np.asarray, ([60], [0.0], [1.0], [9])))
    with pytest.raises(ValueError, match="makes a 'units', which is no sound"):
        notes.play(named("C4", output=Units(8)), piece)


class Painter(nn.Module):
    """A mel-IF of nothing but a steady level."""

    @nn.compact
    def __call__(self, given):
        level = nn.Dense(1, name="level")(given["z"])[:, None, None] + 0.0 * given["label"][:, None, None, None]
        return jnp.broadcast_to(jnp.concatenate([level, level], axis=-1), (len(level), 16, 64, 2))


def test_the_command_writes_a_wav(tmp_path, capsys):
    nd.networks.register("painter", Painter)
    module = Painter()
    given = {"z": jnp.zeros((1, 3)), "label": jnp.zeros(1, int)}
    network = Network(
        module,
        module.init(jax.random.key(0), given),
        input=Parts({"z": Latent(3), "label": Label(PITCHES)}),
        output=MelIF(audio.MelIF(RATE, 600, 128, frames=16)),
    )
    folder = network.save(tmp_path / "painter")
    assert play_midi.main(["--network", str(folder), "--out", str(tmp_path / "a" / "scale.wav")]) == 0
    said = capsys.readouterr().out
    assert "9 of 15 notes left out" in said and "times real time" in said
    wave, rate = audio.read_native(tmp_path / "a" / "scale.wav")
    assert rate == RATE and np.abs(wave).max() <= 1.0 and wave.any()
    assert play_midi.main(["--network", str(folder), "--midi", str(tmp_path / "no.mid")]) == 1
    assert "there is no MIDI file" in capsys.readouterr().err
