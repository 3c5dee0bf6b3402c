"""A generator of notes plays a MIDI file: the instrument changes slowly on the way, along a path of latents.

    python experiments/play_midi.py --midi SONG.mid --network checkpoints/NAME --out out/song.wav
    python experiments/play_midi.py --network checkpoints/NAME             # a scale up and down, no file needed

The WAV is mono, 32-bit float, at the generator's rate, with its peak at half of full scale. Drums and
notes beyond --lowest and --highest are left out; those that the generator has no pitch for too, and counted. Reading
MIDI files takes mido: pip install 'nd_jax[midi]'.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
import time
from collections.abc import Sequence

import numpy as np

import nd_jax as nd
from nd_jax import audio, notes
from nd_jax.runtime import script

_SCALE = (0, 2, 4, 5, 7, 9, 11, 12)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is played, by what, and where the sound goes."""

    network: str
    """A generator of notes: a folder that Network.save wrote, or the name of a shipped network."""
    midi: pathlib.Path | None = None
    """The piece; by default a scale."""
    out: pathlib.Path = pathlib.Path("out/midi.wav")
    """The WAV file to write."""
    seed: int = 0
    """Of the instruments."""
    seconds_per_instrument: float = 6.0
    """From one random instrument to the next; between them notes lie on the sphere."""
    lowest: int = 36
    """The lowest pitch of the piece that is played, a MIDI number."""
    highest: int = 84
    """The highest."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return script(Settings, run, arguments, __doc__)


def run(settings: Settings) -> pathlib.Path:
    """Does what the settings say; returns the path of the WAV file."""
    network = nd.load(settings.network)
    try:
        known = sorted(notes.pitch_classes(network))
        if settings.midi is None:
            piece = _scale(known)
        else:
            piece = notes.read_midi(settings.midi, lowest=settings.lowest, highest=settings.highest)
        kept = notes.playable(piece, network)
        begun = time.perf_counter()
        sound = notes.play(network, kept, seed=settings.seed, seconds_per_instrument=settings.seconds_per_instrument)
    except ValueError as error:
        raise ValueError(f"{settings.network}: {error}" if settings.midi is None else str(error)) from None
    passed = time.perf_counter() - begun
    made = len(kept) * network.output.samples / sound.sample_rate  # type: ignore[attr-defined]
    if len(kept) < len(piece):
        print(f"{len(piece) - len(kept)} of {len(piece)} notes left out: the generator has no such pitch")
    print(
        f"{len(kept)} notes of {made:.0f} s in all made in {passed:.1f} s, with compilation: "
        f"{len(kept) / passed:.1f} notes a second, {made / passed:.1f} times real time"
    )
    out = settings.out.expanduser()
    out.parent.mkdir(parents=True, exist_ok=True)
    return audio.write(out, sound.wave, sound.sample_rate, bits=32, peak="scale")


def _scale(known: Sequence[int]) -> notes.Notes:
    """A major scale up and down from the lowest C of the generator, or from its lowest pitch; half a second a note."""
    first = next((pitch for pitch in known if pitch % 12 == 0), known[0])
    pitches = [first + step for step in (*_SCALE, *_SCALE[-2::-1])]
    starts = 0.5 * np.arange(len(pitches))
    return notes.Notes(np.asarray(pitches), starts, starts + 0.45, np.full(len(pitches), 100))


if __name__ == "__main__":
    sys.exit(main())
