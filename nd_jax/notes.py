"""A generator of single notes plays a piece: a MIDI file, a path through the latents, one sound mixed of all notes.

Every note has a latent of its own: instruments are drawn at even distances in time, and a note lies between its two
neighbours, on the sphere. Source: the MIDI notebook of GANSynth (Engel et al. 2019).
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from nd_jax import generators
from nd_jax.domain import Sound
from nd_jax.domain.playing import sounds
from nd_jax.network import Network
from nd_jax.runtime import progress_bar, require

ATTACK_SECONDS = 0.010
RELEASE_SECONDS = 0.3
LONGEST_SECONDS = 3.0

_AT_ONCE = 16
_DRUMS = 9
_LONGEST_PIECE = 2 * 3600.0
_SHORTEST_PATH = 0.01  # seconds between instruments: every one is a latent in memory


@dataclasses.dataclass(frozen=True, eq=False)
class Notes:
    """The notes of a piece, in the order in which they begin.

    Attributes:
      pitches: (n,) MIDI numbers; 60 is C4.
      starts: (n,) in seconds.
      ends: (n,) in seconds.
      velocities: (n,) how hard each is struck, 1 ... 127.
    """

    pitches: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    velocities: np.ndarray

    def __len__(self) -> int:
        return len(self.pitches)

    @property
    def seconds(self) -> float:
        """When the last note ends."""
        return float(np.max(self.ends, initial=0.0))

    def select(self, which: np.ndarray) -> Notes:
        """The notes of a boolean mask (n,)."""
        return Notes(*(getattr(self, field.name)[which] for field in dataclasses.fields(self)))


def read_midi(path: str | os.PathLike[str], *, lowest: int = 36, highest: int = 84) -> Notes:
    """The notes of all tracks of a MIDI file, without drums (channel 10).

    A note that is never let go lasts to the end of the file, and 3 s if it begins there.

    Args:
      path: the file.
      lowest: the lowest pitch that is kept, a MIDI number.
      highest: the highest.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: no MIDI file, or one without notes of these pitches, in one sentence.
      MissingExtraError: mido is missing.
    """
    mido = require("mido", "midi")
    place = pathlib.Path(path).expanduser()
    if not place.is_file():
        raise FileNotFoundError(f"there is no MIDI file {place}")
    try:
        file = mido.MidiFile(place)
        if file.ticks_per_beat < 1:
            raise ValueError(f"its time is not in ticks a beat (division {file.ticks_per_beat})")
        messages = [(message.time, message) for message in file]
    except (OSError, EOFError, ValueError, KeyError, IndexError, TypeError) as error:
        said = str(error) or type(error).__name__
        raise ValueError(f"{place} is not a MIDI file that can be read: {said}") from None
    rows = _rows(messages)
    if not rows:
        raise ValueError(f"{place} is a MIDI file with no notes (drums, channel 10, are none)")
    found = np.asarray(sorted(rows))
    notes = Notes(found[:, 1].astype(int), found[:, 0], found[:, 2], found[:, 3].astype(int))
    kept = notes.select((notes.pitches >= lowest) & (notes.pitches <= highest))
    if not len(kept):
        raise ValueError(
            f"{place} has no notes from {lowest} to {highest}: its {len(notes)} notes have the MIDI numbers "
            f"{notes.pitches.min()} to {notes.pitches.max()}"
        )
    if kept.seconds > _LONGEST_PIECE:
        raise ValueError(f"{place} lasts {kept.seconds / 3600:.1f} hours; two are as much as is played")
    return kept


def _rows(messages: Sequence[tuple[float, Any]]) -> list[tuple[float, int, float, int]]:
    """(start, pitch, end, velocity) of every note that takes time.

    A note that is never let go lasts to the end of the file; if that is where it begins, as long as any note sounds.
    """
    now, rows = 0.0, []
    held: dict[tuple[int, int], list[tuple[float, int]]] = {}
    for passed, message in messages:
        now += passed
        if message.type not in ("note_on", "note_off") or message.channel == _DRUMS:
            continue
        key = message.channel, message.note
        if message.type == "note_on" and message.velocity:
            held.setdefault(key, []).append((now, message.velocity))
        elif held.get(key):
            start, velocity = held[key].pop(0)
            rows.append((start, message.note, now, velocity))
    for (_, note), never_let_go in held.items():
        for start, velocity in never_let_go:
            rows.append((start, note, now if now > start else start + LONGEST_SECONDS, velocity))
    return [row for row in rows if row[2] > row[0]]


def pitch_classes(network: Network) -> dict[int, int]:
    """{MIDI number: class} of a generator whose classes are pitches: "C4", "F#3", "Bb2", or MIDI numbers.

    Raises:
      ValueError: the network is no generator, or its classes are no pitches.
    """
    found = {}
    for place, name in enumerate(generators.classes_of(network)):
        number = generators.pitch_of(name)
        if number is None:
            raise ValueError(f"the generator's class {name!r} is no pitch such as 'C4' or '60', so it plays no notes")
        found[number] = place
    if not found:
        raise ValueError("the generator has no classes, so that it cannot be asked for a pitch")
    return found


def playable(notes: Notes, network: Network) -> Notes:
    """The notes whose pitch a generator has.

    Raises:
      ValueError: none of them, in one sentence.
    """
    known = pitch_classes(network)
    kept = notes.select(np.isin(notes.pitches, list(known)))
    if not len(kept):
        raise ValueError(
            f"the generator plays the MIDI numbers {min(known)} to {max(known)}, and the notes have "
            f"{notes.pitches.min()} to {notes.pitches.max()}; none is left"
        )
    return kept


def latent_path(
    network: Network, starts: np.ndarray, seconds: float, *, seed: int = 0, seconds_per_instrument: float = 6.0
) -> np.ndarray:
    """One latent a note: instruments at even distances in time, and every note between its two neighbours.

    Args:
      network: a generator.
      starts: (n,) when the notes begin, in seconds, from 0 to `seconds`.
      seconds: how long the piece is.
      seed: of the instruments; as `nd_jax.generators.inputs`.
      seconds_per_instrument: from one to the next. There are always two or more.

    Returns:
      (n, latent) float32, by `nd_jax.generators.slerp` with the instruments as they are.

    Raises:
      ValueError: the network is no generator, or no time between instruments.
    """
    if not seconds_per_instrument >= _SHORTEST_PATH:
        raise ValueError(f"seconds_per_instrument must be {_SHORTEST_PATH} or more, got {seconds_per_instrument}")
    count = max(int(seconds / seconds_per_instrument), 2)
    given = generators.inputs(network, seed, count)
    instruments = given["z"] if isinstance(given, dict) else given
    times = np.linspace(-0.0001, max(seconds, 1e-3), count)
    starts = np.clip(np.asarray(starts, np.float64), 0.0, times[-1])
    left = np.clip(np.searchsorted(times, starts, side="left") - 1, 0, count - 2)
    share = (starts - times[left]) / (times[left + 1] - times[left])
    latents = np.zeros((len(starts), instruments.shape[1]), np.float32)
    for place in np.unique(left):
        chosen = left == place
        latents[chosen] = generators.slerp(
            instruments[place], instruments[place + 1], share[chosen], proportional=False
        )
    return latents


def envelope(seconds: float, sample_rate: int) -> np.ndarray:
    """How loud a note is: up in 10 ms, held for `seconds` in all, then down to 0 in 0.3 s: (samples,) float64."""
    held, falls = int(sample_rate * seconds), int(sample_rate * RELEASE_SECONDS)
    shape = np.ones(held + falls)
    rises = min(int(sample_rate * ATTACK_SECONDS), len(shape))
    shape[:rises] = np.linspace(0.0, 1.0, rises)
    shape[held:] = np.minimum(shape[held:], np.linspace(1.0, 0.0, falls))
    return shape


def mix(waves: Iterable[np.ndarray], notes: Notes, sample_rate: int) -> np.ndarray:
    """All notes of a piece in one sound: each through its envelope, as loud as it is struck.

    A note lasts 3 s at most, or as long as its wave is, less the release. It is divided by its highest sample and
    multiplied by velocity / 127; the whole is divided by twice its highest sample. Waves are taken one by one and not
    kept: memory is that of the whole and of one note.

    Args:
      waves: one (samples,) a note, full scale 1; a list, or a generator that makes them on the way.
      notes: as many.
      sample_rate: of the waves, in Hz.

    Returns:
      (samples,) float32, as long as the piece and up to 3 s more.

    Raises:
      ValueError: more or fewer waves than notes.
    """
    whole = np.zeros(int(notes.seconds + LONGEST_SECONDS) * sample_rate, np.float32)
    count = 0
    for count, wave in enumerate(waves, start=1):
        if count > len(notes):
            break
        start, end, velocity = (each[count - 1] for each in (notes.starts, notes.ends, notes.velocities))
        room = max(len(wave) / sample_rate - RELEASE_SECONDS, 0.0)
        shape = envelope(min(end - start, LONGEST_SECONDS, room), sample_rate)[: len(wave)]
        shaped = np.nan_to_num(np.asarray(wave, np.float64)[: len(shape)]) * shape
        first = int(start * sample_rate)
        place = whole[first : first + len(shaped)]
        place += (shaped / max(shaped.max(initial=0.0), 1e-9) * (velocity / 127.0))[: len(place)]
    if count != len(notes):
        raise ValueError(f"{'more' if count > len(notes) else count} sounds for {len(notes)} notes")
    whole /= 2.0 * max(float(whole.max(initial=0.0)), 1e-9)
    return whole


def play(
    network: Network,
    notes: Notes,
    *,
    seed: int = 0,
    seconds_per_instrument: float = 6.0,
    progress: bool | Callable[[int, int], None] = True,
) -> Sound:
    """Plays notes with a generator of notes: batches of 16 through compiled programs, mixed as they come.

    Args:
      network: a generator of sound whose classes are pitches.
      notes: what to play; all of them must be `playable`.
      seed: of the instruments.
      seconds_per_instrument: as `latent_path`.
      progress: a bar on standard error, or a function of (done, total).

    Returns:
      The sound; its peak is half of full scale.

    Raises:
      ValueError: no notes, a pitch that the generator has not, or one that makes no sound.
    """
    known = pitch_classes(network)
    missing = sorted(set(notes.pitches.tolist()) - set(known))
    if missing or not len(notes):
        raise ValueError(
            f"the generator has no pitch {missing[0]}; it has the MIDI numbers {min(known)} to {max(known)}"
            if missing
            else "there are no notes to play"
        )
    if not network.output.is_sound:
        raise ValueError(f"the generator makes a {network.output.kind!r}, which is no sound")
    z = latent_path(network, notes.starts, notes.seconds, seed=seed, seconds_per_instrument=seconds_per_instrument)
    label = np.asarray([known[pitch] for pitch in notes.pitches.tolist()], np.int32)

    def waves(tick: Callable[[int], Any]) -> Iterator[np.ndarray]:
        for at in range(0, len(notes), _AT_ONCE):
            made = generators.make(network, {"z": z[at : at + _AT_ONCE], "label": label[at : at + _AT_ONCE]})
            yield from (sound.wave for sound in sounds(network.output, made) or ())
            tick(len(label[at : at + _AT_ONCE]))

    rate = int(network.output.sample_rate)  # type: ignore[attr-defined]
    with progress_bar(len(notes), "note", progress) as tick:
        return Sound(mix(waves(tick), notes, rate), rate)
