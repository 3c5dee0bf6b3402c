"""`bank`: many sounds of many classes at once, in a few compiled programs."""

from __future__ import annotations

import dataclasses
import functools
import zlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from nd_jax.data.arrays import Clips
from nd_jax.data.synthetic.noises import NOISES
from nd_jax.data.synthetic.sounds import MAX_PARAMETERS, MIN_SAMPLE_RATE, MIN_SECONDS, SoundClass, random_bits
from nd_jax.data.synthetic.tones import TONES
from nd_jax.data.synthetic.voice import Events, Voice, events, render
from nd_jax.runtime import nearest

CLASSES: dict[str, SoundClass] = {sound.name: sound for sound in (*TONES, *NOISES)}

_CHUNK = 16


@dataclasses.dataclass(frozen=True)
class Bank:
    """Made sounds and the truth about them; sounds of one class stand together.

    Attributes:
      waves: (n, samples) float32, peak at most 1.
      sample_rate: in Hz.
      class_index: (n,) int32 into `class_names`.
      class_names: the names of the classes in this bank.
      events: time span, band and pitch of every event, fields (n, MAX_EVENTS).
      parameters: what each sound was made from: class name -> parameter -> (per_class,).
    """

    waves: np.ndarray
    sample_rate: int
    class_index: np.ndarray
    class_names: tuple[str, ...]
    events: Events
    parameters: dict[str, dict[str, np.ndarray]]

    def __len__(self) -> int:
        return len(self.waves)

    @property
    def descriptions(self) -> tuple[str, ...]:
        """What each class is, in plain words."""
        return tuple(CLASSES[name].description for name in self.class_names)

    def clips(self) -> Clips:
        """As `Clips`; features are the class and the MIDI pitch of the first event (NaN where there is none)."""
        count = np.zeros(len(self.class_names), int)
        files = []
        for index in self.class_index:
            files.append(f"{self.class_names[index]}/{count[index]:04d}")
            count[index] += 1
        features = {"class": self.class_index.astype(np.int64), "pitch": self.events.midi[:, 0]}
        return Clips(list(self.waves), self.sample_rate, features, {"class": self.class_names}, tuple(files))


def bank(
    key: jax.Array,
    *,
    per_class: int,
    sample_rate: int = 16000,
    seconds: float = 2.0,
    classes: Sequence[str] | None = None,
) -> Bank:
    """Makes `per_class` sounds of every class.

    Sound i of a class depends on the key, the name of the class and i alone: the same in a bank of one class or of all,
    in a small bank or a large one.

    Args:
      key: a typed key, `jax.random.key(seed)`.
      per_class: sounds per class.
      sample_rate: in Hz, 8000 or more.
      seconds: length of every sound, 0.5 or more.
      classes: names of `CLASSES`; default all.

    Raises:
      ValueError: unknown class name, or a number out of range.
    """
    names = tuple(CLASSES) if classes is None else tuple(classes)
    _check(names, per_class, sample_rate, seconds)
    bits = _bits(key, names, per_class)
    drawn: dict[str, dict[str, np.ndarray]] = {}
    labels: list[Events] = []
    programs: dict[int, list[tuple[int, Voice]]] = {}
    for name, lanes in zip(names, bits, strict=True):
        sound = CLASSES[name]
        parameters = [sound.place(lane, sample_rate, seconds) for lane in lanes]
        for each in parameters:
            voices = sound.voices(each, sample_rate)
            for voice in voices:
                programs.setdefault(voice.amplitude.shape[0], []).append((len(labels), voice))
            labels.append(events(voices))
        drawn[name] = _stack(parameters)
    waves = np.zeros((len(labels), round(seconds * sample_rate)), np.float32)
    for members in programs.values():
        _render_into(waves, members, sample_rate)
    return Bank(
        waves=waves,
        sample_rate=sample_rate,
        class_index=np.repeat(np.arange(len(names), dtype=np.int32), per_class),
        class_names=names,
        events=_stack(labels),
        parameters=drawn,
    )


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def _check(names: Sequence[str], per_class: int, sample_rate: int, seconds: float) -> None:
    for name in names:
        if name not in CLASSES:
            raise ValueError(f"unknown sound class {name!r}; {nearest(name, CLASSES)}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"classes must be one or more different names, not {list(names)}")
    if per_class < 1:
        raise ValueError(f"per_class must be 1 or more, not {per_class}")
    if sample_rate < MIN_SAMPLE_RATE:
        raise ValueError(f"sample_rate must be {MIN_SAMPLE_RATE} Hz or more, not {sample_rate}")
    if seconds < MIN_SECONDS:
        raise ValueError(f"seconds must be {MIN_SECONDS} or more, not {seconds}")


def _bits(key: jax.Array, names: Sequence[str], count: int) -> np.ndarray:
    """(classes, count, MAX_PARAMETERS) uint32: the randomness of every sound."""
    lanes = len(names) * count
    filled = -(-lanes // _CHUNK) * _CHUNK
    codes = np.resize(np.repeat([CLASSES[name].codes for name in names], count, axis=0), (filled, MAX_PARAMETERS))
    numbers = np.resize(np.repeat([np.uint32(zlib.crc32(name.encode())) for name in names], count), filled)
    index = np.resize(np.arange(count, dtype=np.uint32), filled)
    parts = [slice(first, first + _CHUNK) for first in range(0, filled, _CHUNK)]
    bits = np.concatenate([np.asarray(_bits_chunk(key, numbers[part], index[part], codes[part])) for part in parts])
    return bits[:lanes].reshape(len(names), count, MAX_PARAMETERS)


@jax.jit
def _bits_chunk(key: jax.Array, numbers: jax.Array, index: jax.Array, codes: jax.Array) -> jax.Array:
    def of_lane(number: jax.Array, index: jax.Array, code: jax.Array) -> jax.Array:
        return random_bits(jax.random.fold_in(jax.random.fold_in(key, number), index), code)

    return jax.vmap(of_lane)(numbers, index, codes)


def _render_into(waves: np.ndarray, members: Sequence[tuple[int, Voice]], sample_rate: int) -> None:
    """Adds voices with one number of partials to the rows of `waves` that they belong to."""
    # Chunks of one fixed size: one program whatever the size of the bank, and the same bits in any company.
    for first in range(0, len(members), _CHUNK):
        chunk = members[first : first + _CHUNK]
        filled = [*chunk, *[chunk[0]] * (_CHUNK - len(chunk))]
        made = np.asarray(_render(_stack([voice for _, voice in filled]), waves.shape[1], sample_rate))
        for (row, _), wave in zip(chunk, made, strict=False):
            waves[row] += wave


@functools.partial(jax.jit, static_argnums=(1, 2))
def _render(voices: Voice, samples: int, sample_rate: int) -> jax.Array:
    return jax.vmap(lambda voice: render(voice, samples, sample_rate))(voices)
