"""Clips with one event each whose place is known: a band of noise in a steady background, from the sound bank.

The box of an event is what `Events` of the bank says of it, laid over the cells of a log-mel spectrogram: the frames
whose middle lies between onset and offset, the bands whose peak lies between its lowest and its highest frequency.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from nd_jax.audio.mel import LogMel as LogMelTransform
from nd_jax.data.synthetic import CLASSES, Events, SoundClass
from nd_jax.domain import LogMel

_EVENT, _BACKGROUND = CLASSES["noise_middle"], CLASSES["noise_pink"]


@dataclasses.dataclass(frozen=True)
class Size:
    """How large clips and events are.

    Attributes:
      bands, frames: of a clip; a frame every 10 ms.
      classes: kinds of events; each has a band and a length of its own.
      event_bands, event_frames: the least and the most that an event covers.
      above_db: how far the mean level of an event's cells lies above that of the background in the same cells.
      clips: for each seed.
    """

    bands: int = 32
    frames: int = 96
    classes: int = 3
    event_bands: tuple[int, int] = (8, 10)
    event_frames: tuple[int, int] = (24, 36)
    above_db: float = 25.0
    clips: int = 8

    def domain(self, frames: int | None = None) -> LogMel:
        """The inputs: 16 kHz, a frame of 32 ms every 10 ms, bands from 150 Hz to 7.6 kHz."""
        transform = LogMelTransform(
            sample_rate=16000, n_fft=512, hop_length=160, n_mels=self.bands, f_min=150.0, f_max=7600.0
        )
        return LogMel(transform=transform, frames=self.frames if frames is None else frames)

    @property
    def window(self) -> tuple[int, int]:
        """Bands and frames of a window of a quarter of the smallest event."""
        return self.event_bands[0] // 4, self.event_frames[0] // 4


QUICK = Size(bands=20, frames=48, classes=2, event_bands=(8, 9), event_frames=(12, 16), clips=4)
"""Small enough for tests."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of event: noise in a band.

    Attributes:
      low, high: the band, in Hz.
      frames: its length, in frames.
    """

    low: float
    high: float
    frames: int


@dataclasses.dataclass(frozen=True, eq=False)
class Clips:
    """Clips and where their events are.

    Attributes:
      inputs: (n, bands, frames, 1).
      kinds: (n, events) which kind each event is.
      spans: (n, events, 2) onset and offset, in seconds.
      boxes: (n, events, bands, frames) bool, the cells of each event.
    """

    inputs: np.ndarray
    kinds: np.ndarray
    spans: np.ndarray
    boxes: np.ndarray


def kinds(rng: np.random.Generator, size: Size) -> tuple[Kind, ...]:
    """Draws kinds of events whose bands do not meet, the lowest first."""
    centres = size.domain().transform.centre_frequencies
    slot = size.bands // size.classes
    found = []
    for place in range(size.classes):
        wide = int(rng.integers(size.event_bands[0], size.event_bands[1] + 1))
        # The bank's noise ends a little below the highest band.
        first = place * slot + int(rng.integers(0, max(slot - wide, 0) + 1))
        first = min(first, size.bands - wide - 1)
        frames = int(rng.integers(size.event_frames[0], size.event_frames[1] + 1))
        found.append(Kind(float(centres[first]), float(centres[first + wide - 1]), frames))
    return tuple(found)


def clips(
    rng: np.random.Generator,
    size: Size,
    given: Sequence[Kind],
    events: np.ndarray,
    onsets: np.ndarray,
    frames: int | None = None,
) -> Clips:
    """Makes clips.

    Args:
      rng: of levels and noises.
      size: of the clips.
      given: kinds of events.
      events: (n, events) numbers of kinds.
      onsets: (n, events) in frames, fractions allowed.
      frames: of a clip, by default those of `size`.
    """
    domain = size.domain(frames)
    hop = domain.seconds_per_frame
    count = events.shape[1]
    sounds: list[np.ndarray] = []
    spans = np.zeros((*events.shape, 2))
    boxes = np.zeros((*events.shape, *domain.shape[:2]), bool)
    for clip, row in enumerate(events):
        for place, number in enumerate(row):
            kind = given[number]
            parameters = {
                "centre": np.float32(np.sqrt(kind.low * kind.high)),
                "octaves": np.float32(np.log2(kind.high / kind.low)),
                "onset": np.float32(onsets[clip, place] * hop),
                "duration": np.float32(kind.frames * hop),
                "level_db": np.float32(rng.uniform(-10.0, -6.0)),
                "seed": np.uint32(rng.integers(2**32)),
            }
            sounds.append(_sound(_EVENT, parameters, domain))
            truth = _EVENT.events(parameters, domain.sample_rate)
            spans[clip, place] = float(truth.onset[0]), float(truth.offset[0])
            boxes[clip, place] = _box(domain, truth)
        sounds.append(_sound(_BACKGROUND, _steady(rng, domain), domain))
    waves = np.stack(sounds).reshape(len(events), count + 1, -1)
    levels = _levels(domain, waves)
    alone, behind = levels[:, :count], levels[:, count:]
    # The background is brought to its distance from the quietest of a clip's events.
    inside = [np.where(boxes, each, 0).sum((2, 3)) / boxes.sum((2, 3)) for each in (alone, np.repeat(behind, count, 1))]
    gain = np.min(inside[0] - inside[1], axis=1) - size.above_db
    mixed = waves[:, :count].sum(axis=1) + waves[:, count] * 10.0 ** (gain[:, None] / 20)
    return Clips(np.asarray(domain.from_wave(mixed)), events, spans, boxes)


def one_event(rng: np.random.Generator, size: Size, given: Sequence[Kind]) -> Clips:
    """`size.clips` clips with one event each, kinds in turn, at random times."""
    events = (np.arange(size.clips) % len(given))[:, None]
    longest = np.asarray([given[number].frames for number in events[:, 0]])
    onsets = rng.uniform(2.0, size.frames - longest - 2.0)[:, None]
    return clips(rng, size, given, events, onsets)


def two_events(rng: np.random.Generator, size: Size, given: Sequence[Kind]) -> Clips:
    """`size.clips` clips with one event of the first kind and one of the last, one after the other in either order."""
    pair = np.asarray([0, len(given) - 1])
    events = np.tile(pair, (size.clips, 1))
    lengths = np.asarray([given[number].frames for number in pair])
    spare = size.frames - lengths.sum() - 6
    onsets = np.zeros(events.shape)
    for clip in range(size.clips):
        first, second = (0, 1) if clip % 2 else (1, 0)
        gaps = np.sort(rng.uniform(0.0, spare, 2))
        onsets[clip, first] = 2.0 + gaps[0]
        onsets[clip, second] = 4.0 + gaps[1] + lengths[first]
    return clips(rng, size, given, events, onsets)


def patterns(rng: np.random.Generator, size: Size, given: Sequence[Kind], takes: int = 6) -> tuple[np.ndarray, ...]:
    """How each kind looks on average in its background: event from frame 2 on.

    Returns:
      (kinds, bands, frames) mean levels as values of the domain, and (kinds, bands, frames) bool, the cells of the
      event; as many frames as the longest kind and 4 more.
    """
    frames = max(kind.frames for kind in given) + 4
    events = np.repeat(np.arange(len(given)), takes)[:, None]
    made = clips(rng, size, given, events, np.full(events.shape, 2.0), frames)
    shape = (len(given), takes, size.bands, frames)
    return made.inputs[..., 0].reshape(shape).mean(axis=1), made.boxes[:, 0].reshape(shape)[:, 0]


def _steady(rng: np.random.Generator, domain: LogMel) -> dict[str, Any]:
    """Noise that has begun before the clip and ends after it."""
    seconds = domain.samples / domain.sample_rate
    return {
        "onset": np.float32(-1.0),
        "duration": np.float32(seconds + 2.0),
        "level_db": np.float32(-6.0),
        "seed": np.uint32(rng.integers(2**32)),
    }


def _sound(made: SoundClass, parameters: Mapping[str, Any], domain: LogMel) -> np.ndarray:
    return np.asarray(made.synthesize(parameters, domain.sample_rate, domain.samples / domain.sample_rate))


def _levels(domain: LogMel, waves: np.ndarray) -> np.ndarray:
    """(n, sounds, samples) -> (n, sounds, bands, frames) in dBFS."""
    return np.asarray(jax.jit(domain.transform.forward)(waves))


def _box(domain: LogMel, truth: Events) -> np.ndarray:
    frequency, time = (axis.values for axis in domain.axes[:2])
    onset, offset, low, high = (float(getattr(truth, name)[0]) for name in ("onset", "offset", "low", "high"))
    bands = (frequency >= low) & (frequency <= high)
    frames = (time >= onset) & (time <= offset)
    return bands[:, None] & frames[None]
